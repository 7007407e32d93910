#!/usr/bin/env bash
# tuned-lens 0.2.0: PredictionTrajectory.js_divergence and total_variation of two trajectories, whose predictions are a pair of
# distributions over 4 tokens: nearly disjoint ones, and ones that differ a little in every token.
#
# Expected: the Jensen-Shannon divergence, never above ln 2 = .693, as tuned_lens.stats.js_divergence gives it; and the total
# variation distance, half the sum of |p - q|.
# Seen (2026-11-29): js_divergence is the mean of both Kullback-Leibler divergences, which has no bound (17.7 for .69).
# total_variation is the largest difference of a single token (.5 for 1, .1 for .2), which many small ones do not raise.
# What follows: these curves are not to be compared with numbers of papers; js_divergence of tuned_lens.stats is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
# without what only its training of lenses uses
"$folder/venv/bin/python" -m pip install --quiet --no-deps tuned-lens==0.2.0
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 \
  plotly==6.5.0 flatten-dict==0.4.2 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
import torch
from tuned_lens import stats
from tuned_lens.plotting import PredictionTrajectory


def trajectory(probabilities):  # one layer and the output, one token
    log_probs = np.log(np.array([[probabilities], [probabilities]], np.float32))
    return PredictionTrajectory(log_probs=log_probs, input_ids=np.array([0]))


e = 1e-8
pairs = {
    "nearly disjoint": ([0.5 - e, 0.5 - e, e, e], [e, e, 0.5 - e, 0.5 - e]),
    "a little in every token": ([0.3, 0.3, 0.2, 0.2], [0.2, 0.2, 0.3, 0.3]),
}
for name, (p, q) in pairs.items():
    one, other = trajectory(p), trajectory(q)
    js, tv = (float(getattr(one, kind)(other).stats[0, 0]) for kind in ("js_divergence", "total_variation"))
    of_stats = float(stats.js_divergence(*(torch.tensor(values).log() for values in (p, q))))
    half = 0.5 * np.abs(np.subtract(p, q)).sum()
    print(f"predictions that differ {name}: js_divergence {js:.3f}, of tuned_lens.stats {of_stats:.3f}")
    print(f"predictions that differ {name}: total_variation {tv:.2f}, half the sum {half:.2f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^predictions")
echo "$said"
[ "$said" = "predictions that differ nearly disjoint: js_divergence 17.728, of tuned_lens.stats 0.693
predictions that differ nearly disjoint: total_variation 0.50, half the sum 1.00
predictions that differ a little in every token: js_divergence 0.081, of tuned_lens.stats 0.020
predictions that differ a little in every token: total_variation 0.10, half the sum 0.20" ] || {
  echo "this is not what was seen before"
  exit 1
}
