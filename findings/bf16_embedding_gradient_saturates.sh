#!/usr/bin/env bash
# torch 2.13.0 on CPU: a row of a bfloat16 table is looked up 4,096 times, each time with a gradient of 1. What is
# the gradient of the row?
#
# Expected: 4,096, which bfloat16 holds exactly, from every way to look a row up, as all of them are one sum.
# Seen (2026-11-28): embedding_bag, embedding and indexing give 256, where adding 1 to a bfloat16 no longer changes
# it; index_select gives 4,096. In float32 all give 4,096. Nothing warns.
# What follows: a latent that fires on many tokens of a batch would get a gradient that is far too small; keep the
# tables whose rows are gathered in float32.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.3.5
cat >"$folder/gradient.py" <<'PYTHON'
import sys

import torch
import torch.nn.functional as F

TIMES = 4096
rows, starts = torch.zeros(TIMES, dtype=torch.long), torch.arange(TIMES)
LOOK_UPS = {
    "embedding_bag": lambda table: F.embedding_bag(rows, table, starts, mode="sum"),
    "embedding": lambda table: F.embedding(rows, table),
    "indexing": lambda table: table[rows],
    "index_select": lambda table: table.index_select(0, rows),
}
seen = {}
for dtype in (torch.float32, torch.bfloat16):
    for name, look_up in LOOK_UPS.items():
        table = torch.zeros(1, 8, dtype=dtype, requires_grad=True)
        look_up(table).sum().backward()
        seen[dtype, name] = table.grad[0, 0].item()
        print(f"{str(dtype):15} {name:14} {seen[dtype, name]:g}")
expected = {key: 4096.0 for key in seen}
expected |= {(torch.bfloat16, name): 256.0 for name in ("embedding_bag", "embedding", "indexing")}
sys.exit(0 if seen == expected else "this is not what was seen before")
PYTHON
"$folder/venv/bin/python" "$folder/gradient.py"
