#!/usr/bin/env bash
# Test what is exchanged with SAELens, SAEBench and the dictionary_learning library, with these packages themselves.
#
#   bash scripts/test_exchange.sh                    # makes .venv-exchange and .venv-saebench when they are not there
#   WITHOUT_SAEBENCH=1 bash scripts/test_exchange.sh # SAEBench wants older packages, and so 8 GB of its own
#   bash scripts/test_exchange.sh -k gated           # arguments go to pytest
#
# .venv is not touched. PIP_FIND_LINKS, PIP_INDEX_URL and the like are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}

say() { echo "set-up: $*"; }

# make_environment FOLDER PACKAGES...: with its packages, and this project, at the time of the last change of versions
make_environment() {
  local folder=$1
  shift
  local stamp
  stamp="${*//$constraints/} $(cat pyproject.toml poetry.lock scripts/test_exchange.sh | sha256sum)"
  if [ -f "$folder/.stamp" ] && [ "$stamp" = "$(cat "$folder/.stamp")" ]; then return; fi
  say "making $folder (some minutes)"
  rm -rf "$folder"
  "$python" -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
  if [ "$folder" = .venv-exchange ]; then
    # its modules have our names, so it stands in a folder of its own
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
      --target "$folder/library" dictionary-learning==0.1.0
  fi
  echo "$stamp" >"$folder/.stamp"
}

constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
"$python" scripts/lock_to_constraints.py poetry.lock >"$constraints"
make_environment .venv-exchange -c "$constraints" "$(pwd)[dev,exchange]"
[ -n "${WITHOUT_SAEBENCH:-}" ] || make_environment .venv-saebench 'sae-bench==0.6.0' 'transformers<4.57' 'torch==2.8.0'

marked=exchange
[ -z "${WITHOUT_SAEBENCH:-}" ] || marked="exchange and not saebench"
.venv-exchange/bin/python -m pytest -m "$marked" tests/exchange/test_exchange.py "$@"
