#!/usr/bin/env bash
# hypothesaes 2.0.1: select_neurons(..., method="separation_score"), the method of generate_hypotheses unless another is named,
# takes the neurons for which the target is highest or lowest in the texts of their strongest activations, against those
# without any. What is the score of a neuron that is never active?
#
# Expected: none, or 0: the target does not depend on it.
# Seen (2026-11-29): -.5, the largest there can be with two equal classes in the order of a table, and before that of a neuron
# that is active three times as often in one class. Its "strongest 100" are the first 100 rows, as all activations are the same,
# so the score is of the order of the rows. The same goes for a neuron that is active less than 100 times. In shuffled rows
# they come behind. Method "correlation" is not touched by it.
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
neurons = ["of the second class", "never active", "active 5 times"]
activations = np.zeros((n, len(neurons)))
activations[generator.choice(half, 100, replace=False), 0] = 1
activations[half + generator.choice(half, 300, replace=False), 0] = 1
activations[half - 2 : half + 3, 2] = 1

orders = {"by class": np.arange(n), "shuffled": generator.permutation(n)}
for order, rows in orders.items():
    found, scores = select_neurons(activations[rows], target[rows], n_select=3, method="separation_score")
    told = ", ".join(f"{neurons[neuron]} {score:.1f}" for neuron, score in zip(found, scores) if order == "by class")
    print(f"rows {order}: first {neurons[found[0]]}{'; ' + told if told else ''}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^rows")
echo "$said"
[ "$said" = "rows by class: first never active; never active -0.5, of the second class 0.4, active 5 times -0.3
rows shuffled: first of the second class" ] || {
  echo "this is not what was seen before"
  exit 1
}
