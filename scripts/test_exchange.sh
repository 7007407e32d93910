#!/usr/bin/env bash
# Test what is exchanged with SAELens, SAEBench, sae-probes and the dictionary_learning library, with these packages
# themselves.
#
#   bash scripts/test_exchange.sh                    # makes the environments .venv-* when they are not there
#   WITHOUT_SAEBENCH=1 bash scripts/test_exchange.sh # SAEBench wants older packages, and so 8 GB of its own
#   bash scripts/test_exchange.sh -k gated           # arguments go to pytest
#
# .venv is not touched. PIP_FIND_LINKS, PIP_INDEX_URL and the like are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environments.sh

make_environment .venv-exchange "poetry.lock scripts/test_exchange.sh" -c "$constraints" "$(pwd)[dev,exchange]"
if [ -n "$new_environment" ]; then
  # its modules have our names, so it stands in a folder of its own
  .venv-exchange/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --target .venv-exchange/library dictionary-learning==0.1.0
fi
environment_is_ready .venv-exchange

# wants older packages than the lock
make_environment .venv-sae-probes scripts/test_exchange.sh 'sae-probes==0.4.2' 'sae-lens==6.54.12' 'torch==2.13.0'
environment_is_ready .venv-sae-probes

marked="exchange and not saebench"
if [ -z "${WITHOUT_SAEBENCH:-}" ]; then
  make_environment .venv-saebench scripts/test_exchange.sh 'sae-bench==0.6.0' 'transformers<4.57' 'torch==2.8.0'
  environment_is_ready .venv-saebench
  marked=exchange
fi

.venv-exchange/bin/python -m pytest -m "$marked" tests/exchange/test_exchange.py tests/exchange/test_run_sae_evals.py "$@"
