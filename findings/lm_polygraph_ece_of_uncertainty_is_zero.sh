#!/usr/bin/env bash
# lm-polygraph 0.7.0: the metric ECE, as it is by default, of 100 answers that are all wrong, to which a model gave .6 to .99. It takes
# uncertainties ("higher values indicate more uncertainty"), so 1 - p, and whether each answer was right.
#
# Expected: the expected calibration error, .795, the mean of p.
# Seen (2026-11-29): 0.0, perfect calibration. Confidence is taken as minus the uncertainty, here -.4 to -.01, and only those in
# [0, 1] are put in a bin; all others are left out without a word. Of any uncertainty that is above 0, entropies and negative
# log-probabilities too, it is 0. Given -p it is right; with normalize=True, which stretches confidences to [0, 1], it is near .5.
# What follows: give ECE -p, and distrust an error of exactly 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
"$folder/venv/bin/python" -m pip install --quiet --no-deps lm-polygraph==0.7.0
cat >"$folder/look.py" <<'PYTHON'
import importlib.util
import sys
import types

import numpy as np

# the metric alone: the packages around it load all models
place = importlib.util.find_spec("lm_polygraph").submodule_search_locations[0]
for name, path in (("lm_polygraph", place), ("lm_polygraph.ue_metrics", f"{place}/ue_metrics")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from lm_polygraph.ue_metrics.ece import ECE  # noqa: E402

p = np.linspace(0.6, 0.99, 100)
wrong = np.zeros(100)
print(f"error by hand {abs(p.mean() - wrong.mean()):.3f}")
for name, uncertainty in (("1 - p", 1 - p), ("-log p", -np.log(p)), ("-p", -p)):
    told = f"{ECE()(uncertainty, wrong):.3f}, with normalize=True {ECE(normalize=True)(uncertainty, wrong):.3f}"
    print(f"error of uncertainty {name}: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^error")
echo "$said"
[ "$said" = "error by hand 0.795
error of uncertainty 1 - p: 0.000, with normalize=True 0.500
error of uncertainty -log p: 0.000, with normalize=True 0.541
error of uncertainty -p: 0.795, with normalize=True 0.500" ] || {
  echo "this is not what was seen before"
  exit 1
}
