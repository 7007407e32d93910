#!/usr/bin/env bash
# torch 2.13.0, gloo on CPU, two processes: does a MAX all-reduce tell every rank of a NaN that one rank has?
#
# Expected: NaN everywhere, whichever rank has it, as torch.maximum and torch.max give (and as SUM does).
# Seen (2026-11-28): a NaN of rank 0 reaches both ranks; one of rank 1 is dropped, for MAX and for MIN. Both ranks
# agree on 0.0, so a check "is the largest value finite?" passes everywhere while a rank holds NaN. SUM keeps it.
# What follows: sum a flag that says whether a rank is finite, instead of reducing the values by MAX.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.3.5
cat >"$folder/reduce.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def reduce(rank: int, nan_rank: int, store: str, results) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{store}")
    for name in ("MAX", "MIN", "SUM"):
        x = torch.tensor([float("nan") if rank == nan_rank else float(rank)])
        dist.all_reduce(x, op=getattr(dist.ReduceOp, name))
        results.put((nan_rank, name, rank, str(x.item())))
    dist.destroy_process_group()


if __name__ == "__main__":
    seen = {}
    for nan_rank in (0, 1):
        results = mp.get_context("spawn").SimpleQueue()
        mp.spawn(reduce, args=(nan_rank, f"{sys.argv[1]}/store{nan_rank}", results), nprocs=2)
        for _ in range(6):
            nan, name, rank, value = results.get()
            seen[nan, name, rank] = value
    for (nan_rank, name, rank), value in sorted(seen.items()):
        print(f"NaN on rank {nan_rank}: {name} gives rank {rank} {value}")
    expected = {key: "nan" for key in seen} | {(1, name, rank): "0.0" for name in ("MAX", "MIN") for rank in (0, 1)}
    assert torch.maximum(torch.tensor(float("nan")), torch.tensor(0.0)).isnan()
    sys.exit(0 if seen == expected else "this is not what was seen before")
PYTHON
"$folder/venv/bin/python" "$folder/reduce.py" "$folder"
