#!/usr/bin/env bash
# Set up, then check format, lint, types and tests; every check runs, and the last lines say which failed.
#
#   bash scripts/test.sh                      # all, with a process more than there are cores
#   bash scripts/test.sh tests/dictionaries/test_sparse.py # arguments go to pytest
#   bash scripts/test.sh -n 0 -x --pdb        # in one process, to look into a failure
#
# The pages of the feature browser are tested in a real Chromium; without one those tests are skipped and say
# so. To have it: `apt install chromium` (or Chrome), or CHROMIUM=/path/to/chrome.
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
check python -m dictionary_learning.texts.demo_assets
check ruff format --check .
check ruff check .
# types beside the tests: before them, mypy would take one core while the others stand still
types=$(mktemp)
.venv/bin/mypy --pretty >"$types" 2>&1 &
mypy=$!
trap 'kill $mypy 2>/dev/null || true; rm -f "$types"' EXIT
# what needs SAELens is run by scripts/test_exchange.sh, which CI runs, too; elsewhere those tests say so
[ -z "${CI:-}" ] || set -- -m "not exchange" "$@"
# one thread for each process; a process that has nothing left takes tests from another
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
# containers often forbid it: every process would compile the tests and the project anew, 4 s each
unset PYTHONDONTWRITEBYTECODE
check pytest -n auto --dist worksteal "$@"

echo
echo "== mypy --pretty"
wait $mypy || failed+=("mypy --pretty")
cat "$types"

echo
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: $(printf '%s; ' "${failed[@]}")"
  exit 1
fi
echo "all checks passed"
