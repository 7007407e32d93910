#!/usr/bin/env bash
# neuronpedia 1.2.1 (the client): its description says to set NEURONPEDIA_API_KEY "through a .env file". Which one?
#
# Expected: the one in the folder where the program is started.
# Seen (2026-11-28): the nearest one above the folder in which the package is installed. With a virtual environment
# inside the project that is the project's; with one elsewhere (conda, pipx, a shared one) the project's .env is never
# read, and the client says that no key was given.
# What follows: load .env yourself before importing it, or set the variable.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/project"
cd "$folder/project"
echo "NEURONPEDIA_API_KEY=from the file" >.env
cat >use.py <<'PYTHON'
import os
import sys
from pathlib import Path

import neuronpedia.requests.base_request

inside = Path(sys.prefix).is_relative_to(Path.cwd())
where = "inside the project" if inside else "elsewhere"
print(f"environment {where}: the key is {os.environ.get('NEURONPEDIA_API_KEY')}")
PYTHON
for environment in "$folder/elsewhere" "$folder/project/.venv"; do
  "${PYTHON:-python3.11}" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet neuronpedia==1.2.1 python-dotenv==1.2.2
done
unset NEURONPEDIA_API_KEY
said=$(for environment in "$folder/elsewhere" "$folder/project/.venv"; do "$environment/bin/python" use.py; done)
echo "$said"
[ "$said" = "environment elsewhere: the key is None
environment inside the project: the key is from the file" ] || {
  echo "this is not what was seen before"
  exit 1
}
