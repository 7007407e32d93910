#!/usr/bin/env bash
# interpreto 0.5.2: what Lime makes of 2,000 perturbations of a text of six words. Its first word adds 3 to the output as long as no
# more than one of the others is taken away; its second word adds 3 only where nearly all the others are gone.
#
# Expected: with weights that fall with the distance from the text, the first word comes first.
# Seen (2026-11-29): with the cosine distance, which is Lime's default, the second one does, with the default width as with LIME's .25:
# the mask of what was taken away is compared with ones, so that the empty text has distance 0 and the untouched one 1, and
# the regression is one around the empty text. With the distance of what was kept, and with "hamming", the first word comes first.
# What follows: importances by default are of words by themselves, not in their text; choose HAMMING or EUCLIDEAN.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 nnsight==0.7.0 numpy==2.4.6 scipy==1.17.1 \
  scikit-learn==1.9.1 matplotlib==3.11.2 jaxtyping==0.2.36 beartype==0.23.1 nltk==3.10.4 bitsandbytes==0.50.2 einops==0.8.2
# without the libraries of CUDA 11
"$folder/venv/bin/python" -m pip install --quiet --no-deps interpreto==0.5.2
cat >"$folder/look.py" <<'PYTHON'
import inspect

import torch
from interpreto import Lime
from interpreto.attributions.aggregations.linear_regression_aggregation import LinearRegressionAggregator

distances = Lime.distance_functions
default = inspect.signature(Lime).parameters["distance_function"].default
print(f"words: cosine is the default: {default is distances.COSINE}")
untouched, empty = distances.COSINE(torch.stack([torch.zeros(6), torch.ones(6)])).tolist()
print(f"words: the untouched text has the distance {untouched:.2f}, the empty one {empty:.2f}")


def cosine_of_kept(mask):
    return distances.COSINE(1 - mask)


torch.manual_seed(0)
taken = (torch.rand(2000, 6) < 0.5).float()
kept = 1 - taken
near = kept[:, 0] * (kept[:, 1:].sum(1) >= 4)
far = kept[:, 1] * (kept[:, 2:].sum(1) <= 1)
outputs = (3 * near + 3 * far)[:, None]
for name, distance, width in (
    ("cosine", distances.COSINE, None),
    ("cosine", distances.COSINE, 0.25),
    ("cosine of what was kept", cosine_of_kept, 0.25),
    ("hamming", distances.HAMMING, None),
):
    aggregator = LinearRegressionAggregator(distance_function=distance, kernel_width=width)
    importance = aggregator.aggregate(outputs, taken)[0]
    first = "first" if importance.argmax() == 0 else "second" if importance.argmax() == 1 else "other"
    print(f"words by {name}, width {width}: the {first} word comes first, {importance[0]:.1f} and {importance[1]:.1f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^words")
echo "$said"
[ "$said" = "words: cosine is the default: True
words: the untouched text has the distance 1.00, the empty one 0.00
words by cosine, width None: the second word comes first, 0.5 and 1.3
words by cosine, width 0.25: the second word comes first, -0.0 and 2.0
words by cosine of what was kept, width 0.25: the first word comes first, 1.6 and 1.1
words by hamming, width None: the first word comes first, 2.2 and 1.2" ] || {
  echo "this is not what was seen before"
  exit 1
}
