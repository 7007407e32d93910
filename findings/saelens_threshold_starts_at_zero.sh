#!/usr/bin/env bash
# sae-lens 6.54.12: a BatchTopK SAE trains with the k largest latents a token on average, and is saved as a JumpReLU SAE
# with one threshold. How many latents has the saved one after a short training?
#
# Expected: about k, as in training; the threshold is said to be a moving average of the smallest kept activation.
# Seen (2026-11-28): the average starts at zero, with a rate of .01 and without the usual correction, so after 100 steps
# it stands at about two thirds of what it averages: with k = 8 the saved SAE has 35 latents a token on the data it was
# trained on. After 400 and 2,000 steps it has 7 and 8.
# What follows: read L0 of a saved SAE on data of your own before its codes are used; give a short run a higher
# topk_threshold_lr.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import tempfile

import torch
from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer

torch.set_num_threads(1)
torch.manual_seed(0)
width, latents, k, batch_size = 32, 256, 8, 512
directions = torch.randn(64, width) / width**0.5


def batch():
    """Sums of a few of 64 directions."""
    return ((torch.rand(batch_size, 64) < 0.06) * torch.rand(batch_size, 64)) @ directions


for steps in (100, 400, 2000):
    torch.manual_seed(0)
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=width, d_sae=latents, k=k, device="cpu", dtype="float32"))
    config = SAETrainerConfig(
        total_training_samples=steps * batch_size,
        train_batch_size_samples=batch_size,
        lr=3e-3,
        lr_end=3e-4,
        lr_warm_up_steps=10,
    )
    trainer = SAETrainer(config, sae, iter([]))
    for _ in range(steps):
        trainer.step(batch())
        trainer.n_training_steps += 1
    with tempfile.TemporaryDirectory() as saved, torch.no_grad():
        sae.save_inference_model(saved)
        codes = SAE.load_from_disk(saved).encode(batch())
    l0 = float((codes > 0).sum(1).float().mean())
    print(f"{steps} steps, k {k}: the saved SAE has L0 {l0:.0f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "the saved SAE")
echo "$said"
[ "$said" = "100 steps, k 8: the saved SAE has L0 35
400 steps, k 8: the saved SAE has L0 7
2000 steps, k 8: the saved SAE has L0 8" ] || {
  echo "this is not what was seen before"
  exit 1
}
