#!/usr/bin/env bash
# Set up, then check format, lint, types and tests; every check runs, and the last lines say which failed.
#
#   bash scripts/test.sh                      # all
#   bash scripts/test.sh tests/test_sparse.py # arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/bootstrap.sh

failed=()
check() {
  echo
  echo "== $*"
  ".venv/bin/$1" "${@:2}" || failed+=("$*")
}

# the tests that need a real language model take the demo's; seconds when it is there
check python -m dictionary_learning.demo_assets
check ruff format --check .
check ruff check .
check mypy --pretty
check pytest "$@"

echo
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: $(printf '%s; ' "${failed[@]}")"
  exit 1
fi
echo "all checks passed"
