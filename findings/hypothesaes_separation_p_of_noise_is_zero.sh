#!/usr/bin/env bash
# hypothesaes 2.0.1: score_hypotheses of annotations of pairs, 1 and -1 where the concept is in the first or the second text alone, 0
# otherwise, against which text was preferred. Twenty of them are drawn by chance, and so are preferences; twenty have no -1.
#
# Expected: separation_score near 0, and a separation_pval below .001 in none of twenty.
# Seen (2026-11-29): with -1 the score is near 0, and the p-value below 1e-15 in all twenty: the score turns preferences of
# pairs with -1 round (1 - y), the test takes -y, which no longer is 0 or 1 and has another mean whatever the concept. Without
# -1, and for regression_pval, p is as it should be.
# What follows: for pairs separation_pval says nothing; test 1 - y by hand, or use regression_pval.
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
from hypothesaes.evaluation import score_hypotheses

rng = np.random.default_rng(0)
preferred = rng.integers(0, 2, 1000)
for lowest in (0, -1):
    annotations = {f"hypothesis {i}": rng.integers(lowest, 2, 1000) for i in range(20)}
    _, table = score_hypotheses(annotations, preferred, classification=True)
    score = float(table.separation_score.abs().max())
    counts = [
        f"{column} < {limit:g} in {int((table[column] < limit).sum())}"
        for column, limit in (("separation_pval", 1e-3), ("separation_pval", 1e-15), ("regression_pval", 1e-3))
    ]
    print(f"annotations {lowest} to 1: separation_score below {0.2 if score < 0.2 else score}, {', '.join(counts)} of 20")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^annotations")
echo "$said"
[ "$said" = "annotations 0 to 1: separation_score below 0.2, separation_pval < 0.001 in 0, separation_pval < 1e-15 in 0, regression_pval < 0.001 in 0 of 20
annotations -1 to 1: separation_score below 0.2, separation_pval < 0.001 in 20, separation_pval < 1e-15 in 20, regression_pval < 0.001 in 0 of 20" ] || {
  echo "this is not what was seen before"
  exit 1
}
