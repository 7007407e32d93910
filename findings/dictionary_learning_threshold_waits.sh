#!/usr/bin/env bash
# dictionary_learning 0.1.0: BatchTopKSAE.encode selects by the threshold that training has learnt (use_threshold is True
# by default). What does it do after a training shorter than threshold_start_step, 1,000 steps by default?
#
# Expected: k latents a token on average, or an error: there is no threshold yet.
# Seen (2026-11-28): the threshold is -1 until the first step behind that one, and everything positive is above it: with
# k = 8 there are 30 latents a token after 500 steps and 22 after 1,001; with use_threshold=False there are 8.
# What follows: set threshold_start_step within the run; whoever reads such a file should look for a negative threshold.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet dictionary_learning==0.1.0 torch==2.13.0 transformers==5.23.0 \
  numpy==2.4.6
# not needed, and of no use where torch is of another build than PyPI's
"$folder/venv/bin/python" -m pip uninstall --quiet --yes torchvision
cat >"$folder/look.py" <<'PYTHON'
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

torch.set_num_threads(1)
torch.manual_seed(0)
width, latents, k, batch_size = 32, 256, 8, 512
directions = torch.randn(64, width) / width**0.5


def batch():
    """Sums of a few of 64 directions."""
    return ((torch.rand(batch_size, 64) < 0.06) * torch.rand(batch_size, 64)) @ directions


for steps in (500, 1001, 2000):
    torch.manual_seed(0)
    sizes = {"steps": steps, "activation_dim": width, "dict_size": latents, "k": k}
    trainer = BatchTopKTrainer(**sizes, layer=0, lm_name="none", device="cpu", lr=3e-3, warmup_steps=10)
    for step in range(steps):
        trainer.update(step, batch())
    with torch.no_grad():
        x = batch()
        l0 = [float((trainer.ae.encode(x, use_threshold=use) > 0).sum(1).float().mean()) for use in (True, False)]
    threshold = float(trainer.ae.threshold)
    told = "-1" if threshold == -1 else "positive" if threshold > 0 else "zero"
    print(f"{steps} steps, k {k}: threshold {told}, L0 {l0[0]:.0f}, without the threshold {l0[1]:.0f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "without the threshold")
echo "$said"
[ "$said" = "500 steps, k 8: threshold -1, L0 30, without the threshold 8
1001 steps, k 8: threshold -1, L0 22, without the threshold 8
2000 steps, k 8: threshold positive, L0 8, without the threshold 8" ] || {
  echo "this is not what was seen before"
  exit 1
}
