"""Training steps of this build against those of another revision, in one process.

    git worktree add ../before 2e8e410
    OMP_NUM_THREADS=1 python benchmarks/two_builds.py --other ../before

Both start from the same weights and see the same batches, step by step in turn: made-up ones, or pairs of a
cache that `--activations` names, such as the demo's (TemporalSAE: made-up ones either way). What counts is
the processor time of this thread, of which each side has its least; other work changes it little.
Writes benchmarks/results/two_builds.json, or what `--output` names.
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import Others, machine_facts

D, B, K = 576, 2048, 20
ROOT = Path(__file__).parents[1]
PAIRS, TEXTS = "T-SAE", "TemporalSAE"
SIZES = (4608, 16384)
TEXTS_SIZES, TEXTS_SHAPE = (1152, 2304), (8, 128)
DTYPES = ("float32", "bfloat16")
TRAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    PAIRS: ("TemporalMatryoshkaBatchTopKTrainer", {"temp_alpha": 0.1}),
    "Matryoshka": ("MatryoshkaBatchTopKTrainer", {}),
    "BatchTopK": ("BatchTopKTrainer", {}),
    "TopK": ("TopKTrainer", {}),
    TEXTS: ("TemporalAttentionTrainer", {"n_heads": 4, "bottleneck_factor": 8}),
}


def trainers_of(root: Path) -> dict[str, Any]:
    """The trainers of a checkout, whatever was imported before."""
    for name in [name for name in sys.modules if name.split(".")[0] == "dictionary_learning"]:
        del sys.modules[name]
    sys.path.insert(0, str(root / "dictionary_learning"))
    import dictionary_learning.trainers as trainers

    found = {kind: getattr(trainers, name) for kind, (name, _) in TRAINERS.items()}
    sys.path.pop(0)
    return found


def toy_pairs(n_batches: int, rows: int = B, d_model: int = D) -> torch.Tensor:
    """Pairs [n, B, 2, D] of mean square norm 1 that share slow directions and differ in fast ones."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2048, d_model, generator=generator) / d_model**0.5
    codes = torch.relu(torch.randn(n_batches, rows, 3, 2048, generator=generator) - 2.5)
    x = (codes[:, :, :1] + codes[:, :, 1:]) @ directions
    x += 0.005 * torch.randn(x.shape, generator=generator)
    return x / x.square().sum(-1).mean().sqrt()


def recorded_pairs(cache: Path, n_batches: int, rows: int = B) -> torch.Tensor:
    """Pairs [n, B, 2, D] of an activation cache, of mean square norm 1."""
    from dictionary_learning.activations.cache import ActivationCache

    x = torch.stack(list(itertools.islice(ActivationCache.open(str(cache)).store().pairs(rows), n_batches)))
    return x.float() / x.float().square().sum(-1).mean().sqrt()


def toy_texts(n_batches: int, shape: tuple[int, int] = TEXTS_SHAPE, d_model: int = D) -> torch.Tensor:
    """Texts [n, N, L, D] of mean square norm 1: half of every token is its text's."""
    generator = torch.Generator().manual_seed(0)
    of_text = torch.randn(n_batches, shape[0], 1, d_model, generator=generator)
    x = of_text + torch.randn(n_batches, *shape, d_model, generator=generator)
    return x / x.square().sum(-1).mean().sqrt()


def compare(
    sides: list[dict[str, Any]], kind: str, dict_size: int, dtype: str, steps: int, x: torch.Tensor
) -> dict:
    width = "width" if kind == TEXTS else "dict_size"
    options = {"steps": steps, "activation_dim": D, width: dict_size, "k": K, "warmup_steps": 20}
    options |= {"lr": 2e-4, "encoder_dtype": dtype, "seed": 0, "device": "cpu"} | TRAINERS[kind][1]
    trainers = [side[kind](**options) for side in sides]
    seconds: list[list[float]] = [[], []]
    worst, others = 0.0, Others()
    for step in range(steps):
        batch = x[step % len(x)]
        if kind not in (PAIRS, TEXTS):
            batch = batch[:, 0].contiguous()
        losses = []
        for i, trainer in enumerate(trainers):
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == TEXTS and dtype == "bfloat16"):
                began = time.thread_time()
                losses.append(trainer.update(step, batch))
                seconds[i].append(time.thread_time() - began)
        worst = max(worst, abs(losses[1] / losses[0] - 1))
    before, now = (min(took[1:]) for took in seconds)
    return {
        "trainer": kind,
        "dict_size": dict_size,
        "encoder_dtype": dtype,
        "products": getattr(trainers[1], "facts", {}),
        "steps": steps,
        "seconds_before": before,
        "seconds_now": now,
        "ratio": before / now,
        "largest_relative_difference_of_losses": worst,
        "cores_busy_with_others": others.cores(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, required=True, help="checkout of the revision to compare with")
    parser.add_argument("--steps", type=int, default=6, help="steps a comparison (default: 6)")
    parser.add_argument(
        "--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS), help="(default: all)"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=DTYPES,
        help="of the encoder's product; earlier builds are slow in what the processor lacks (default: both)",
    )
    parser.add_argument("--activations", type=Path, help="cache of width 576 to read pairs from")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "two_builds.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    n_batches = min(args.steps, 8)
    pairs = recorded_pairs(args.activations, n_batches) if args.activations else toy_pairs(n_batches)
    sides = [trainers_of(args.other.resolve()), trainers_of(ROOT)]
    result: dict[str, Any] = {"machine": machine_facts(), "D": D, "B": B, "k": K, "comparisons": []}
    result["activations"] = "recorded" if args.activations else "made up"
    for kind in args.trainers:
        x = toy_texts(n_batches) if kind == TEXTS else pairs
        for dict_size in TEXTS_SIZES if kind == TEXTS else SIZES:
            for dtype in args.dtypes:
                row = compare(sides, kind, dict_size, dtype, args.steps, x)
                result["comparisons"].append(row)
                times = f"{row['seconds_before']:.3f} s  {row['seconds_now']:.3f} s  {row['ratio']:.2f}x"
                worst = row["largest_relative_difference_of_losses"]
                print(
                    f"{kind:10s} {dict_size:6d} {dtype:8s} {times}  losses differ by {worst:.0e}", flush=True
                )
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {args.output}")


if __name__ == "__main__":
    main()
