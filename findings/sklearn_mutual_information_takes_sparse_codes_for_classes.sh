#!/usr/bin/env bash
# scikit-learn 1.9.1: mutual_info_classif ranks three latents by what they tell of a label: one that is active for a third of one
# class, one active for 60 % of all texts, and one for 5 %, the last two at random. The codes are given as an array and as CSR.
#
# Expected: the same order; SelectKBest then takes the first latent.
# Seen (2026-11-29): as CSR every value becomes a class of its own (discrete_features="auto" is True for sparse matrices, says the
# documentation), and a class of one text tells that text's label: the latent that is active most often has .42 nats where an
# array gives 0, and SelectKBest takes it. A UserWarning speaks of clustering metrics; discrete_features=False is refused.
# What follows: codes.toarray(), a block of latents at a time, or (codes > 0) with discrete_features=True.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_selection import SelectKBest, mutual_info_classif

generator = np.random.default_rng(0)
texts = 2000
label = generator.integers(0, 2, texts)
codes = generator.random((texts, 3))
codes[:, 0] *= (label == 1) & (generator.random(texts) < 0.3)
codes[:, 1] *= generator.random(texts) < 0.6
codes[:, 2] *= generator.random(texts) < 0.05


def score(x, y):
    return mutual_info_classif(x, y, random_state=0)


for name, given in {"an array": codes, "CSR": csr_matrix(codes)}.items():
    told = " ".join(f"{nats:.1f}" for nats in score(given, label))
    chosen = SelectKBest(score, k=1).fit(given, label).get_support(indices=True)
    print(f"nats of three latents as {name}: {told}; chosen is latent {chosen[0]}")
try:
    mutual_info_classif(csr_matrix(codes), label, discrete_features=False)
except ValueError as error:
    print("nats as CSR with discrete_features=False:", error)
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^nats")
echo "$said"
[ "$said" = "nats of three latents as an array: 0.1 0.0 0.0; chosen is latent 0
nats of three latents as CSR: 0.1 0.4 0.0; chosen is latent 1
nats as CSR with discrete_features=False: Sparse matrix \`X\` can't have continuous features." ] || {
  echo "this is not what was seen before"
  exit 1
}
