#!/usr/bin/env bash
# Environments beside .venv, each made once for its packages. Sourced by test_exchange.sh and test_versions.sh.
source scripts/python.sh
find_python

# make_environment FOLDER FILES PACKAGES...: a virtual environment with the packages, as pip takes them, and this
# project; made again when the packages or one of FILES (a list in one word) change. Sets new_environment.
make_environment() {
  local folder=$1 files=$2 stamp
  shift 2
  # shellcheck disable=SC2086 # a list of names without blanks
  stamp="${*//$constraints/} $(cat pyproject.toml $files | sha256sum)"
  new_environment=''
  if [ -f "$folder/.stamp" ] && [ "$stamp" = "$(cat "$folder/.stamp")" ]; then return; fi
  echo "set-up: making $folder (some minutes)"
  rm -rf "$folder"
  "$base" -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
  new_environment=$stamp
}

# environment_is_ready FOLDER: to be called when all that a new environment needs is in it.
environment_is_ready() { [ -z "$new_environment" ] || echo "$new_environment" >"$1/.stamp"; }

# the versions of poetry.lock, for pip's -c
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
"$base" scripts/lock_to_constraints.py poetry.lock >"$constraints"
