"""T-SAE steps on runs of adjacent tokens (`--run_length`) against steps on single pairs, in one process.

    OMP_NUM_THREADS=1 python benchmarks/run_length.py

Every length has a trainer, which sees B pairs a step, the same ones as runs or one by one; steps alternate.
What counts is the processor time of this thread, of which each has its least: other work on the machine
changes it little. Writes benchmarks/results/run_length.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from machine import Others, machine_facts

from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKTrainer

D, B, K = 576, 2048, 20
LENGTHS = (1, 2, 4, 8)


def toy_runs(run_length: int) -> torch.Tensor:
    """Runs [B / r, r + 1, D] of mean square norm 1, whose tokens share slow directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2048, D, generator=generator) / D**0.5
    codes = torch.relu(torch.randn(B // run_length, run_length + 2, 2048, generator=generator) - 2.5)
    x = (codes[:, :1] + codes[:, 1:]) @ directions
    x += 0.005 * torch.randn(x.shape, generator=generator)
    return x / x.square().sum(-1).mean().sqrt()


def as_pairs(runs: torch.Tensor) -> torch.Tensor:
    """The pairs [B, 2, D] of runs, one by one."""
    return torch.stack([runs[:, :-1], runs[:, 1:]], dim=2).flatten(0, 1)


def compare(dict_size: int, steps: int) -> dict[str, Any]:
    options = {"steps": steps, "activation_dim": D, "dict_size": dict_size, "k": K, "lr": 2e-4, "seed": 0}
    options |= {"warmup_steps": 1, "temp_alpha": 1.0, "form": "paper", "temperature": 0.1, "device": "cpu"}
    data = {r: toy_runs(r) for r in LENGTHS}
    data[1] = as_pairs(data[max(LENGTHS)])
    trainers = {r: TemporalMatryoshkaBatchTopKTrainer(**options, run_length=r) for r in LENGTHS}
    seconds: dict[int, list[float]] = {r: [] for r in LENGTHS}
    others = Others()
    for step in range(steps):
        for r, trainer in trainers.items():
            began = time.thread_time()
            trainer.update(step, data[r])
            seconds[r].append(time.thread_time() - began)
    least = {r: min(took[1:]) for r, took in seconds.items()}
    return {
        "dict_size": dict_size,
        "steps": steps,
        "product": trainers[1].facts["encoder_product"],
        "seconds": least,
        "ratio": {r: least[1] / took for r, took in least.items()},
        "cores_busy_with_others": others.cores(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="steps of each length (default: 6)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine_facts(), "D": D, "B": B, "k": K, "sizes": []}
    for dict_size in (4608, 16384):
        row = compare(dict_size, args.steps)
        result["sizes"].append(row)
        for r, took in row["seconds"].items():
            print(f"{dict_size:6d} latents, runs of {r}: {took:.3f} s, {row['ratio'][r]:.2f}x", flush=True)
    target = Path(__file__).parent / "results" / "run_length.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {target}")


if __name__ == "__main__":
    main()
