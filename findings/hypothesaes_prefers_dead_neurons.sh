#!/usr/bin/env bash
# hypothesaes 2.0.1: select_neurons(..., method="separation_score"), the method of generate_hypotheses unless another is named,
# takes the neurons for which the target is highest or lowest in the texts of their strongest activations, against those
# without any. What is the score of a neuron that is never active?
#
# Expected: none, or 0: the target does not depend on it.
# Seen (2026-11-29): .5 upwards or downwards, the largest there can be with two equal classes, in a table ordered by class: it
# comes before a neuron that is active three times as often in one class (.4). All its activations are the same, so its
# "strongest 100" are rows that lie together in the table (which ones, is up to NumPy's sort on the processor at hand). In
# shuffled rows it comes behind. Nothing warns.
# What follows: shuffle texts and targets together, and leave out neurons with fewer activations than n_top_activating.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1 scipy==1.17.1 \
  statsmodels==0.15.0 transformers==5.23.0 sentence-transformers==6.2.0 openai==3.57.0 tiktoken==0.14.0 jmespath==1.1.0
# without its notebooks and tests
"$folder/venv/bin/python" -m pip install --quiet --no-deps hypothesaes==2.0.1
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
from hypothesaes.select_neurons import select_neurons

generator = np.random.default_rng(0)
n, half = 1000, 500
target = np.repeat([0.0, 1.0], half)
neurons = ["of the second class", "never active"]
activations = np.zeros((n, len(neurons)))
active = np.concatenate([generator.choice(half, 100, replace=False), half + generator.choice(half, 300, replace=False)])
activations[active, 0] = generator.uniform(0.5, 1.5, len(active))

orders = {"by class": np.arange(n), "shuffled": generator.permutation(n)}
for order, rows in orders.items():
    found, scores = select_neurons(activations[rows], target[rows], n_select=2, method="separation_score")
    told = ", ".join(f"{neurons[neuron]} {abs(score):.1f}" for neuron, score in zip(found, scores))
    print(f"rows {order}: {told if order == 'by class' else 'first ' + neurons[found[0]]}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^rows")
echo "$said"
[ "$said" = "rows by class: never active 0.5, of the second class 0.4
rows shuffled: first of the second class" ] || {
  echo "this is not what was seen before"
  exit 1
}
