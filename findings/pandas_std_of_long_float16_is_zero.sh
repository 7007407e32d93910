#!/usr/bin/env bash
# pandas 3.1.1: columns of float16 activations, of 60,000 and of 70,000 rows. What are their mean and standard deviation?
#
# Expected: those of the same numbers in float32, to three digits, whatever the number of rows.
# Seen (2026-11-29): the mean is right. From 65,520 rows on std, var and sem are 0.0, since the number of rows is turned into
# float16, where it is infinite, before the sum is divided by it; a RuntimeWarning speaks of an overflow in a cast. A column in
# a groupby is right, and so is describe()'s mean beside a std of 0.
# What follows: .astype("float32") before std, var and sem, or a selection of latents by their variance keeps none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pandas==3.1.1 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
import pandas as pd

generator = np.random.default_rng(0)
for rows in (60_000, 70_000):
    codes = ((generator.random(rows) < 0.05) * 2 * generator.random(rows)).astype(np.float16)
    column, right = pd.Series(codes), pd.Series(codes.astype(np.float32))
    grouped = pd.DataFrame({"code": codes, "group": 0}).groupby("group")["code"]
    for name in ("mean", "std", "var", "sem"):
        told = [
            "right" if np.isclose(value, getattr(right, name)(), rtol=2e-3) else f"{value:.1f}"
            for value in (float(getattr(column, name)()), float(getattr(grouped, name)().iloc[0]))
        ]
        print(f"float16 of {rows} rows, {name}: {told[0]}; in a groupby {told[1]}")
    print(f"float16 of {rows} rows, describe: std {'right' if column.describe()['std'] > 0.2 else column.describe()['std']}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^float16")
echo "$said"
[ "$said" = "float16 of 60000 rows, mean: right; in a groupby right
float16 of 60000 rows, std: right; in a groupby right
float16 of 60000 rows, var: right; in a groupby right
float16 of 60000 rows, sem: right; in a groupby right
float16 of 60000 rows, describe: std right
float16 of 70000 rows, mean: right; in a groupby right
float16 of 70000 rows, std: 0.0; in a groupby right
float16 of 70000 rows, var: 0.0; in a groupby right
float16 of 70000 rows, sem: 0.0; in a groupby right
float16 of 70000 rows, describe: std 0.0" ] || {
  echo "this is not what was seen before"
  exit 1
}
