#!/usr/bin/env bash
# overcomplete 0.3.0: TopKSAE and BatchTopKSAE of the same sizes, both with top_k=8, encode batches of 64 and of 1,024 activations.
# How many latents has each of them an activation?
#
# Expected: 8, in BatchTopKSAE on average, as in the paper that its docstring names (Bussmann et al., 2412.06410: the largest
# batch size times k entries of the batch).
# Seen (2026-11-29): BatchTopKSAE keeps 8 entries of the whole batch: .125 and .008 latents an activation. The docstring can be
# read so; the default, a tenth of the latents, is that of TopKSAE. Training goes on, and nearly all codes are zero.
# What follows: top_k=k * batch_size, with batches of one size (the last of an epoch, too: drop_last=True).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet overcomplete==0.3.0 torch==2.14.1 torchvision==0.29.1 matplotlib==3.8.4 numpy==1.26.4
cat >"$folder/look.py" <<'PYTHON'
import torch
from overcomplete.sae import BatchTopKSAE, TopKSAE

for kind in (TopKSAE, BatchTopKSAE):
    for batch_size in (64, 1024):
        torch.manual_seed(0)
        sae = kind(16, 128, top_k=8)
        _, codes = sae.encode(torch.randn(batch_size, 16))
        n_active = float((codes > 0).sum()) / batch_size
        print(f"latents of {kind.__name__} with top_k 8, {batch_size} activations: {n_active:.3f} each")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^latents")
echo "$said"
[ "$said" = "latents of TopKSAE with top_k 8, 64 activations: 8.000 each
latents of TopKSAE with top_k 8, 1024 activations: 8.000 each
latents of BatchTopKSAE with top_k 8, 64 activations: 0.125 each
latents of BatchTopKSAE with top_k 8, 1024 activations: 0.008 each" ] || {
  echo "this is not what was seen before"
  exit 1
}
