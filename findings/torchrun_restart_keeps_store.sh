#!/usr/bin/env bash
# torch 2.13.0: torchrun starts the processes of a job again after one failed (--max_restarts). Is the store, by
# which they find each other, a new one?
#
# Expected: yes; torch/distributed/rendezvous.py says "We create a new TCPStore for every retry so no need to add
# prefix for each attempt".
# Seen (2026-11-28): with --standalone the second attempt has the same port and finds what the first one left in
# the store, the network addresses of dead processes among it. gloo may then connect to those: in our runs two of
# three restarts ended with "connectFullMesh failed ... Connection refused" (not shown here: it is a race).
# What follows: give every attempt a prefix of its own, dist.PrefixStore(name, store), under a name that the
# processes agree on; TORCHELASTIC_RESTART_COUNT is counted by each machine for itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.3.5
cat >"$folder/attempts.py" <<'PYTHON'
import os
import sys
from datetime import timedelta

import torch.distributed as dist

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(seconds=60)))
if attempt == "0":
    store.set("left by the first attempt", os.environ["MASTER_PORT"])
    sys.exit(1)  # an ordinary failure
same_port = store.check(["left by the first attempt"]) and (
    store.get("left by the first attempt").decode() == os.environ["MASTER_PORT"]
)
print(f"attempt {attempt} of {size} process: finds what the first one left, at the same port: {bool(same_port)}")
PYTHON
said=$("$folder/venv/bin/python" -m torch.distributed.run --standalone --nproc_per_node 1 --max_restarts 1 \
  "$folder/attempts.py" 2>"$folder/errors" || cat "$folder/errors")
echo "$said"
[ "$said" = "attempt 1 of 1 process: finds what the first one left, at the same port: True" ] || {
  echo "this is not what was seen before"
  exit 1
}
