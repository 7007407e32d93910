#!/usr/bin/env bash
# scikit-learn 1.9.1: f_classif ranks dimensions of activations, float32 as models give them, by how well they tell two classes.
# None of 200 has anything to do with the classes; 200,000 tokens, standard deviation 1, means of 0 to 300.
#
# Expected: F of about 1, and p below .001 in 0.2 dimensions of 200, as with the same numbers in float64.
# Seen (2026-11-29): with a mean of 30 a quarter of the dimensions has p below .001, with 300 a half; of the others most have an F
# below 0, and a p of NaN: sums of squares are made, and subtracted, in float32. Nothing warns, and SelectKBest takes what rounding
# was kind to. Without a mean, as sparse codes nearly are, both agree.
# What follows: convert to float64, or subtract means, before f_classif; the mean of a dimension is beside the point for it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
import sklearn
from sklearn.feature_selection import f_classif

print("scikit-learn", sklearn.__version__)
rng = np.random.default_rng(0)
n_tokens, n_dimensions = 200_000, 200
classes = rng.integers(0, 2, n_tokens)
noise = rng.standard_normal((n_tokens, n_dimensions))


def told(x):
    f, p = f_classif(x, classes)
    few = "none" if not (p < 0.001).any() else "a tenth or more" if (p < 0.001).mean() >= 0.1 else "a few"
    negative = "none" if (f < -1e-3).sum() == 0 else "a quarter or more" if (f < 0).mean() >= 0.25 else "a few"
    return f"p < .001 in {few}, F < 0 in {negative}"


for mean in (0, 30, 300):
    x = (noise + mean).astype(np.float32)
    print(f"mean {mean}, float32: {told(x)}")
    print(f"mean {mean}, the same as float64: {told(x.astype(np.float64))}")
    print(f"mean {mean}, float32 without its mean: {told(x - x.mean(0))}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings")
echo "$said"
[ "$said" = "scikit-learn 1.9.1
mean 0, float32: p < .001 in none, F < 0 in none
mean 0, the same as float64: p < .001 in none, F < 0 in none
mean 0, float32 without its mean: p < .001 in none, F < 0 in none
mean 30, float32: p < .001 in a tenth or more, F < 0 in a quarter or more
mean 30, the same as float64: p < .001 in none, F < 0 in none
mean 30, float32 without its mean: p < .001 in none, F < 0 in none
mean 300, float32: p < .001 in a tenth or more, F < 0 in a quarter or more
mean 300, the same as float64: p < .001 in none, F < 0 in none
mean 300, float32 without its mean: p < .001 in none, F < 0 in none" ] || {
  echo "this is not what was seen before"
  exit 1
}
