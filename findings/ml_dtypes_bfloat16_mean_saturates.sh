#!/usr/bin/env bash
# ml_dtypes 0.6.0 with numpy 2.4.6: activations in bfloat16 as NumPy arrays, as tensorstore and np.asarray of a JAX array give
# them. 1,000 activations of a feature, all 1: what is their sum, their mean, their variance?
#
# Expected: 1000, 1 and 0, as with float16.
# Seen (2026-11-29): 256, .2559 and .2559. The running sum is itself a bfloat16, and 256 + 1 is 256 there; along axis 0 of
# activations, where a feature's mean is taken, the same. 100,000 float16 ones have the mean 1. dot products, @ and
# np.linalg.norm are right, so that nothing else looks wrong. Nothing warns.
# What follows: x.astype(np.float32) first, or x.mean(axis=0, dtype=np.float32).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ml_dtypes==0.6.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import ml_dtypes
import numpy as np

for kind in (ml_dtypes.bfloat16, np.float16):
    x = np.ones((1000, 2), kind)
    first = x[:, 0]
    told = {
        "sum": first.sum(),
        "mean": first.mean(),
        "variance": first.var(),
        "mean of each feature": x.mean(axis=0)[1],
        "mean, dtype=float32": first.mean(dtype=np.float32),
        "first @ first": first @ first,
        "norm squared": np.linalg.norm(first) ** 2,
    }
    print(f"1,000 ones in {np.dtype(kind).name}: " + ", ".join(f"{name} {float(v):.4g}" for name, v in told.items()))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "ones in")
echo "$said"
[ "$said" = "1,000 ones in bfloat16: sum 256, mean 0.2559, variance 0.2559, mean of each feature 0.2559, mean, dtype=float32 1, \
first @ first 1000, norm squared 1000
1,000 ones in float16: sum 1000, mean 1, variance 0, mean of each feature 1, mean, dtype=float32 1, \
first @ first 1000, norm squared 1000" ] || {
  echo "this is not what was seen before"
  exit 1
}
