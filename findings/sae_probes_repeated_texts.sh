#!/usr/bin/env bash
# sae-probes 0.4.2: are the texts of its 113 binary sets distinct, so that a random split keeps training and test apart?
#
# Expected: yes, but for a few.
# Seen (2026-11-28): 108 of the sets repeat texts. In 131_temp_cat_Typical Time only 361 of 1,062 records are distinct,
# in 144_cancer_cat_Colon_Cancer 493 of 1,368; in half of all sets 19 % of the records or more are repeats. Some
# stand under both labels: 19 texts of 145_disease_class_digestive system diseases.
# What follows: take repeats out, or split by text, before a probe is scored on them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet zstandard==0.25.0
# the data are in the wheel; its own dependencies are not needed to read them
"$folder/venv/bin/python" -m pip install --quiet --no-deps --target "$folder/package" sae-probes==0.4.2
cat >"$folder/look.py" <<'PYTHON'
import csv
import io
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import zstandard

data = Path(sys.argv[1]) / "sae_probes" / "data"
csv.field_size_limit(10**9)


def rows(path):
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file)
        yield from csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline=""))


index = rows(data / "probing_datasets_MASTER.csv.zst")
binary = [row["Dataset save name"] for row in index if row["Data type"] == "Binary Classification"]
repeated, under_both = {}, {}
for name in binary:
    labels = defaultdict(set)
    n_rows = 0
    for row in rows(data / f"{name}.zst"):
        labels[row["prompt"]].add(row["target"])
        n_rows += 1
    short = Path(name).stem
    repeated[short] = (1 - len(labels) / n_rows, len(labels), n_rows)
    under_both[short] = sum(len(found) > 1 for found in labels.values())
print(len(binary), "sets,", sum(share > 0 for share, *_ in repeated.values()), "with repeats")
for name in ("131_temp_cat_Typical Time", "144_cancer_cat_Colon_Cancer"):
    print(f"{name}: {repeated[name][1]} distinct of {repeated[name][2]}")
print(f"share of repeats in half of the sets: {statistics.median(share for share, *_ in repeated.values()):.3f} or more")
print("under both labels:", max(under_both.values()), "texts of", max(under_both, key=under_both.get))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder/package")
echo "$said"
[ "$said" = "113 sets, 108 with repeats
131_temp_cat_Typical Time: 361 distinct of 1062
144_cancer_cat_Colon_Cancer: 493 distinct of 1368
share of repeats in half of the sets: 0.194 or more
under both labels: 19 texts of 145_disease_class_digestive system diseases" ] || {
  echo "this is not what was seen before"
  exit 1
}
