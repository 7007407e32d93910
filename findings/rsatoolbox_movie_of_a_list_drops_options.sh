#!/usr/bin/env bash
# rsatoolbox 0.3.2: calc_rdm_movie of one TemporalDataset, and of a list of it. Four conditions do not differ at all; each of two
# runs has patterns of its own, and cross-validated distances (crossnobis) are between runs.
#
# Expected: of the list, the movie of the one.
# Seen (2026-11-29): of a list, cv_descriptor and bins are dropped (by its source unbalanced and time_descriptor, too). Folds are then
# made by the order of rows, and have trials of the same run: distances, 0 on average between runs, are all above 0. There are as
# many matrices as time points, not as bins.
# What follows: with a list of subjects or layers conditions seem to differ that do not; call it for each and concat.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet rsatoolbox==0.3.2 numpy==2.4.6 scipy==1.17.1
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
from rsatoolbox.data import TemporalDataset
from rsatoolbox.rdm import calc_rdm_movie

random = np.random.default_rng(0)
CONDITIONS, TRIALS, CHANNELS, TIMES = 4, 4, 200, 6
condition = np.repeat(np.arange(CONDITIONS), TRIALS)
run = np.tile([0, 1, 1, 0], CONDITIONS)
# a pattern of each condition in each run, which is another one in the other run
patterns = random.normal(size=(2, CONDITIONS, CHANNELS, TIMES))
measurements = patterns[run, condition] + 0.1 * random.normal(size=(len(run), CHANNELS, TIMES))
data = TemporalDataset(
    measurements,
    obs_descriptors={"condition": condition, "run": run},
    time_descriptors={"time": np.arange(TIMES)},
)
options = {"method": "crossnobis", "descriptor": "condition", "cv_descriptor": "run"}
for name, given in (("one", data), ("a list", [data])):
    distances = calc_rdm_movie(given, **options).dissimilarities
    binned = calc_rdm_movie(given, **options, bins=[np.arange(3), np.arange(3, 6)]).dissimilarities
    near = "near 0" if abs(distances.mean()) < 0.1 else f"{distances.mean():.1f}"
    print(f"movie of {name}: distances are {near} on average, {(distances > 0).mean():.2f} above 0; of two bins {len(binned)} matrices")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^movie")
echo "$said"
[ "$said" = "movie of one: distances are near 0 on average, 0.58 above 0; of two bins 2 matrices
movie of a list: distances are 0.7 on average, 1.00 above 0; of two bins 6 matrices" ] || {
  echo "this is not what was seen before"
  exit 1
}
