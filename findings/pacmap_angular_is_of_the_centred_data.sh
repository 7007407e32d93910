#!/usr/bin/env bash
# pacmap 0.9.1: PaCMAP(distance="angular") takes for neighbours, which it then draws close, the points at the smallest angles. Angles
# do not depend on how long the vectors are. Do the neighbours?
#
# Expected: the neighbours are those of the cosine, and stay when each vector is multiplied by a positive number of its own.
# Seen (2026-11-29): before it measures angles it shifts the data to the mean of all points, so that the angles are seen from
# there. Where the vectors have a mean in common, as activations and embeddings of language models do (here three times their
# spread), a third of the neighbours stay when lengths change, and three in five are neighbours by cosine; without a common mean
# nine in ten are. Fitting unit vectors does not help. Nothing warns, and apply_pca=False shifts as well.
# What follows: a map by cosine is to be made from neighbours of one's own, passed as pair_neighbors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pacmap==0.9.1 numpy==2.4.6 scikit-learn==1.9.1 numba==0.68.1 faiss-cpu==1.15.1
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
from pacmap import PaCMAP
from sklearn.neighbors import NearestNeighbors

N_NEIGHBORS = 10


def of_pacmap(x):
    pacmap = PaCMAP(n_neighbors=N_NEIGHBORS, distance="angular", apply_pca=False, random_state=0, num_iters=1)
    pairs = pacmap.fit(x.copy()).pair_neighbors
    return [set(pairs[pairs[:, 0] == i, 1].tolist()) for i in range(len(x))]


def by_cosine(x):
    found = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1, metric="cosine").fit(x).kneighbors(x, return_distance=False)
    return [set(row[1:].tolist()) for row in found]


def shared(first, second):
    return np.mean([len(a & b) / N_NEIGHBORS for a, b in zip(first, second, strict=True)])


generator = np.random.default_rng(0)
spread = generator.normal(size=(400, 16))
lengths = generator.uniform(0.5, 2, size=(400, 1))
for mean in (0, 3):
    x = (spread + mean).astype(np.float32)
    neighbours = of_pacmap(x)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    told = {
        "stay with other lengths": shared(neighbours, of_pacmap((x * lengths).astype(np.float32))),
        "are neighbours by cosine": shared(neighbours, by_cosine(x)),
        "are so, of unit vectors": shared(of_pacmap(unit), by_cosine(x)),
        "are neighbours by cosine from the mean": shared(neighbours, by_cosine(x - x.mean(0))),
    }
    words = {name: "most" if share > 0.8 else "two thirds or fewer" if share < 0.67 else "many" for name, share in told.items()}
    print(f"common mean {mean}: " + ", ".join(f"{word} {name}" for name, word in words.items()))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^common mean")
echo "$said"
[ "$said" = "common mean 0: most stay with other lengths, most are neighbours by cosine, most are so, of unit vectors, \
most are neighbours by cosine from the mean
common mean 3: two thirds or fewer stay with other lengths, two thirds or fewer are neighbours by cosine, \
two thirds or fewer are so, of unit vectors, most are neighbours by cosine from the mean" ] || {
  echo "this is not what was seen before"
  exit 1
}
