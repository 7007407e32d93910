#!/usr/bin/env bash
# Damage files, kill commands and type wrong lines by the thousand; the test command runs a minute's share of it.
#
#   bash scripts/torture.sh            # about an hour on two cores
#   TORTURE=200 KILLS=30 bash scripts/torture.sh -k kills
#
# TORTURE is how many mutants of each file are read, KILLS at how many file operations each command is killed.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/bootstrap.sh
export TORTURE=${TORTURE:-1000} KILLS=${KILLS:-100000}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
.venv/bin/python -m pytest -n auto --dist worksteal tests/torture "$@"
# all tests once more, whose commands start from interpreters of their own (see tests/warm.py)
[ $# -gt 0 ] || env -u TORTURE -u KILLS COLD=1 .venv/bin/python -m pytest -n auto --dist worksteal
