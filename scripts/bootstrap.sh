#!/usr/bin/env bash
# Make .venv, with every version that poetry.lock pins, the development tools, and this project editable.
#
#   scripts/bootstrap.sh            # takes the CPU build of torch where no NVIDIA GPU is found
#   PYTHON=/path/to/python3.12 scripts/bootstrap.sh
#
# Safe to run at any time: it returns at once when nothing changed since the last time, and repairs a .venv that
# an interruption left half-made or that was moved here from another place. PIP_FIND_LINKS, PIP_INDEX_URL and
# the like are honoured. On a machine with a GPU, `poetry install --extras "demo syntax wandb dev"` makes the same environment.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(pwd -P)
python=.venv/bin/python
unfinished=.venv/.unfinished # there while the environment is being made

source scripts/python.sh

say() { echo "set-up: $*"; }

# What .venv depends on: versions, options of the installation, and where it stands.
stamp() { "$python" -c '
import hashlib, pathlib, sys
files = [pathlib.Path(name).read_bytes() for name in ("poetry.lock", "pyproject.toml", "scripts/bootstrap.sh")]
print(hashlib.sha256(b"".join(files)).hexdigest(), sys.version.split()[0], sys.prefix)' 2>/dev/null; }

up_to_date() { [ -f .venv/.stamp ] && [ ! -e $unfinished ] && [ "$(stamp)" = "$(cat .venv/.stamp)" ]; }

# Two set-ups at once would install over each other. Without flock (macOS) we do without.
only_one() {
  command -v flock >/dev/null || return 0
  exec 9>>.venv.lock
  flock --nonblock 9 || {
    say "another set-up is at work; waiting for it"
    flock 9
  }
}

# A .venv is used again unless it is half-made, broken, or its scripts point to another place.
usable() {
  [ ! -e $unfinished ] && "$python" -m pip --version >/dev/null 2>&1 || return 1
  local home
  home=$(sed -n '1s|^#!\(.*\)/python[0-9.]*$|\1|p' .venv/bin/pip)
  [ -z "$home" ] || [ "$home" -ef .venv/bin ]
}

make_venv() {
  find_python
  [ ! -e .venv ] || say "the old .venv is half-made, broken or from another place; making a new one"
  rm -rf .venv
  mkdir .venv
  touch $unfinished
  say "making .venv with $("$base" --version)"
  "$base" -m venv .venv
}

# A setting of pip, from the environment or its configuration files; several values are separated by spaces.
pip_setting() {
  echo "$pip_settings" | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1 | sed 's/\\n/ /g'
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

install_with_uv() {
  local options=() link links index
  links=$(pip_setting find-links)
  index=$(pip_setting index-url)
  for link in $links; do options+=(--find-links "$link"); done
  [ -z "$index" ] || options+=(--default-index "$index")
  # pip compiles what it installs, uv does not: each start would compile torch and transformers anew, 20 s of work
  # where Python may not write beside them (PYTHONDONTWRITEBYTECODE, which many containers set)
  options+=(--compile-bytecode --python "$python" -c .venv/constraints.txt -e '.[demo,syntax,wandb,dev]')
  SSL_CERT_FILE=${SSL_CERT_FILE:-$(pip_setting cert)}
  [ -z "$SSL_CERT_FILE" ] && unset SSL_CERT_FILE || export SSL_CERT_FILE
  # uv knows PyTorch's own index, which has CPU builds; wheels that pip is told to take come first
  if [ "$(uname -s)" = Linux ] && [ -z "$links$index" ] && ! has_gpu; then
    say "no GPU: taking the CPU build of torch from PyTorch's index (200 MB instead of 3.7 GB)"
    UV_HTTP_TIMEOUT=20 UV_HTTP_RETRIES=0 .venv/bin/uv pip install --torch-backend cpu "${options[@]}" && return
    say "that did not work; taking the build with CUDA"
  fi
  .venv/bin/uv pip install "${options[@]}"
}

up_to_date && exit 0
only_one
up_to_date && exit 0 # the other set-up made it

usable || make_venv
touch $unfinished
rm -f .venv/.stamp
"$python" scripts/lock_to_constraints.py poetry.lock >.venv/constraints.txt
pip_settings=$("$python" -m pip config list)
say "installing the packages that poetry.lock pins (half a minute to some minutes, about 2 GB)"
"$python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1' || say "uv cannot be had"
if ! { [ -x .venv/bin/uv ] && install_with_uv; }; then
  say "installing with pip, which takes longer"
  "$python" -m pip install --disable-pip-version-check -c .venv/constraints.txt -e '.[demo,syntax,wandb,dev]' ||
    fail "the packages could not be installed: see what pip says above; set PIP_INDEX_URL or PIP_FIND_LINKS to" \
      "a place that has them, or check the connection, and run again."
fi
"$python" - <<'EOF' || fail "torch was installed but cannot be imported; see above."
import torch

gpu = "GPU" if torch.cuda.is_available() else "no GPU"
build = "the build with CUDA, though no GPU was found" if torch.version.cuda and gpu == "no GPU" else gpu
print(f"set-up: ready, torch {torch.__version__}, {build}")
EOF
stamp >.venv/.stamp
rm $unfinished
