#!/usr/bin/env bash
# Which Python makes the environments: $PYTHON, or the first one here that pyproject.toml admits. Sourced by
# bootstrap.sh and environments.sh.

fail() {
  echo "error: $*" >&2
  exit 2
}

does_fit() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

# find_python: sets base.
find_python() {
  for base in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
    if does_fit "$base"; then return; fi
    [ "$base" != "${PYTHON:-}" ] || fail "PYTHON is $PYTHON, which is no Python 3.11, 3.12 or 3.13 with its venv" \
      "module: set it to one, or to nothing."
  done
  fail "no Python 3.11, 3.12 or 3.13 with its venv module was found: install python3.11 and python3.11-venv, or" \
    "set PYTHON to one."
}
