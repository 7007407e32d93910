#!/usr/bin/env bash
# Run the fast tests with the oldest torch that pyproject.toml admits, and with the newest packages of all kinds.
#
#   bash scripts/test_versions.sh           # both; makes .venv-floor and .venv-newest (5 to 8 GB each) when not there
#   bash scripts/test_versions.sh floor     # one of them
#   bash scripts/test_versions.sh newest -k sparse   # arguments behind it go to pytest
#
# .venv, with the versions of poetry.lock, is not touched. PIP_FIND_LINKS, PIP_INDEX_URL and the like are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environments.sh

floor=$(sed -n 's/^ *"torch>=\([0-9.]*\),.*/\1/p' pyproject.toml)
tests=(tests/command tests/dictionaries tests/trainers tests/activations tests/language_model tests/runs)
which=both
case ${1:-} in floor | newest) which=$1 && shift ;; esac

run() {
  local folder=$1
  shift
  "$folder/bin/python" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
  OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive "$folder/bin/python" -m pytest -n auto --dist worksteal \
    -m "not exchange" "${tests[@]}" "$@"
}

if [ "$which" != newest ]; then
  make_environment .venv-floor scripts/test_versions.sh "torch==$floor.*" "$(pwd)[demo,syntax,wandb,dev]"
  environment_is_ready .venv-floor
  run .venv-floor "$@"
fi
if [ "$which" != floor ]; then
  # on a day when something new is out, remove .venv-newest first
  make_environment .venv-newest scripts/test_versions.sh --upgrade "$(pwd)[demo,syntax,wandb,dev]"
  environment_is_ready .venv-newest
  run .venv-newest "$@"
fi
