#!/usr/bin/env bash
# scikit-learn 1.9.1: PCA() of 5,000 activations of 64 dimensions in float32. All vary by .1 to .2; eight of them lie around 1,000
# or -1,000, as the massive activations of language models do. PCA takes means off. Does it find what it finds without them?
#
# Expected: yes, to about three digits: at 1,000 float32 still tells apart steps of .00006.
# Seen (2026-11-29): svd_solver="auto" takes "covariance_eigh" for so many rows, which takes the product of the means off X^T X
# in float32 after it was added up. The first component is said to explain more than a hundred times the variance that any
# direction has, and is at a right angle to the true one; several variances are 0, and whiten=True gives values in the millions.
# "full" is right to four digits, and so is "auto" for float64. Nothing warns.
# What follows: PCA(svd_solver="full"), or x.astype("float64"), or x - x.mean(0) first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
from sklearn.decomposition import PCA

generator = np.random.default_rng(0)
centred = generator.normal(size=(5000, 64)) * np.linspace(0.2, 0.1, 64)
x = centred.copy()
x[:, -8:] += 1000 * generator.choice([-1, 1], 8)
x = x.astype(np.float32)
true = PCA(svd_solver="full").fit(centred)

cases = {
    "auto": (PCA(), x),
    "full": (PCA(svd_solver="full"), x),
    "auto, float64": (PCA(), x.astype(np.float64)),
    "auto, means taken off first": (PCA(), x - x.mean(0)),
}
for name, (pca, given) in cases.items():
    whitened = PCA(svd_solver=pca.svd_solver, whiten=True).fit_transform(given)
    pca.fit(given)
    ratio = pca.explained_variance_[0] / true.explained_variance_[0]
    turned = abs(pca.components_[0] @ true.components_[0])
    largest = abs(whitened).max()
    told = [
        "variance " + ("right" if abs(ratio - 1) < 1e-3 else "tenfold and more" if ratio > 10 else "other"),
        "direction " + ("right" if turned > 0.99 else "at a right angle" if turned < 0.1 else "other"),
        "largest whitened value " + ("below 10" if largest < 10 else "over 100,000" if largest > 1e5 else "other"),
    ]
    print(f"first component, {name}: {', '.join(told)}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^first component")
echo "$said"
[ "$said" = "first component, auto: variance tenfold and more, direction at a right angle, largest whitened value over 100,000
first component, full: variance right, direction right, largest whitened value below 10
first component, auto, float64: variance right, direction right, largest whitened value below 10
first component, auto, means taken off first: variance right, direction right, largest whitened value below 10" ] || {
  echo "this is not what was seen before"
  exit 1
}
