#!/usr/bin/env bash
# overcomplete 0.3.0: r2_score of activations and a reconstruction that knows nothing of its input: the mean of each dimension. One
# of 64 dimensions has a mean, as the massive ones of language models have.
#
# Expected: 0: "a score of 0 indicates that the reconstruction is as good as the mean".
# Seen (2026-11-29): .9747 with a mean of 50 in that dimension, .9997 with 500: deviations are from a single mean of all numbers, so
# that the means of dimensions count as explained. A reconstruction with half of each deviation has .9937 and .9999, where it
# explains .75. Without a mean in any dimension the score is as expected.
# What follows: take the dimensions' means off both before r2_score, or SAEs of such activations all look alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet overcomplete==0.3.0 torch==2.14.1 torchvision==0.29.1 matplotlib==3.8.4 numpy==1.26.4
cat >"$folder/look.py" <<'PYTHON'
import torch
from overcomplete.metrics import r2_score

torch.manual_seed(0)
for mean in (0, 5, 50, 500):
    x = torch.randn(4096, 64)
    x[:, 0] += mean
    mean_D = x.mean(0)
    total = (x - mean_D).square().sum()
    for told, kept in (("their mean", 0.0), ("half of what deviates from it", 0.5)):
        x_hat = mean_D + kept * (x - mean_D)
        by_hand = 1 - (x - x_hat).square().sum() / total
        print(f"activations with a mean of {mean}, {told}: r2_score {float(r2_score(x, x_hat)):.4f}, by hand {float(by_hand):.4f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^activations")
echo "$said"
[ "$said" = "activations with a mean of 0, their mean: r2_score 0.0002, by hand 0.0000
activations with a mean of 0, half of what deviates from it: r2_score 0.7500, by hand 0.7500
activations with a mean of 5, their mean: r2_score 0.2794, by hand 0.0000
activations with a mean of 5, half of what deviates from it: r2_score 0.8198, by hand 0.7500
activations with a mean of 50, their mean: r2_score 0.9747, by hand 0.0000
activations with a mean of 50, half of what deviates from it: r2_score 0.9937, by hand 0.7500
activations with a mean of 500, their mean: r2_score 0.9997, by hand 0.0000
activations with a mean of 500, half of what deviates from it: r2_score 0.9999, by hand 0.7500" ] || {
  echo "this is not what was seen before"
  exit 1
}
