"""One T-SAE training step: ours against a plain dense implementation, in one run.

    python benchmarks/training_step.py

Both start from the same weights and see the same batches, alternating step by step; the losses are
compared as they go. Writes benchmarks/results/training_step.json.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from machine import machine_facts
from reference_tsae import DenseStep, DenseTSAE

from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKTrainer

D, B, K = 576, 2048, 20
LR, WARMUP, TEMP_ALPHA = 3e-4, 100, 0.1
FRACTIONS = [0.2, 0.8]


def toy_pairs(n_batches: int, seed: int = 0) -> torch.Tensor:
    """Pairs [n, B, 2, D] that share slow directions and differ in fast ones, with noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(2048, D, generator=generator) / D**0.5
    codes = torch.relu(torch.randn(n_batches, B, 3, 2048, generator=generator) - 2.5)
    shared, fast = codes[:, :, :1], codes[:, :, 1:]
    noise = 0.05 * torch.randn(n_batches, B, 2, D, generator=generator)
    return 10 * ((shared + fast) @ directions + noise)


def trainer(dict_size: int, encoder_dtype: str, steps: int) -> TemporalMatryoshkaBatchTopKTrainer:
    return TemporalMatryoshkaBatchTopKTrainer(
        steps=steps,
        activation_dim=D,
        dict_size=dict_size,
        k=K,
        lr=LR,
        warmup_steps=WARMUP,
        group_fractions=FRACTIONS,
        group_weights=FRACTIONS,
        temp_alpha=TEMP_ALPHA,
        encoder_dtype=encoder_dtype,
        seed=0,
        device="cpu",
    )


def compare(dict_size: int, encoder_dtype: str, n_steps: int, batches: torch.Tensor) -> dict:
    ours = trainer(dict_size, encoder_dtype, n_steps)
    plain_ae = DenseTSAE(ours.ae.W_dec.detach(), ours.group_sizes, K)
    plain = DenseStep(plain_ae, lr=LR, group_weights=FRACTIONS, temp_alpha=TEMP_ALPHA, warmup_steps=WARMUP)
    # Step 0 sets b_dec to the geometric median and moves no weight (learning rate 0).
    ours.update(0, batches[0])
    plain_ae.b_dec.data.copy_(ours.ae.b_dec.data)
    plain.update(0, batches[0])

    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    worst = 0.0
    for step in range(1, n_steps):
        losses = []
        for name, side in (("ours", ours), ("plain", plain)):
            start = time.perf_counter()
            losses.append(side.update(step, batches[step % len(batches)]))
            seconds[name].append(time.perf_counter() - start)
        worst = max(worst, abs(losses[0] / losses[1] - 1))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "dict_size": dict_size,
        "encoder_dtype": encoder_dtype,
        "steps": n_steps,
        "seconds_ours": medians["ours"],
        "seconds_plain": medians["plain"],
        "ratio": medians["plain"] / medians["ours"],
        "largest_relative_difference_of_losses": worst,
        "final_losses": {"ours": losses[0], "plain": losses[1]},
    }


def long_run(dict_size: int, n_steps: int, batches: torch.Tensor) -> dict:
    """Loss with the bf16 product after many steps against the float32 product's."""
    sides = [trainer(dict_size, dtype, n_steps) for dtype in ("float32", "bfloat16")]
    for step in range(n_steps):
        losses = [side.update(step, batches[step % len(batches)]) for side in sides]
    return {
        "dict_size": dict_size,
        "steps": n_steps,
        "loss_float32": losses[0],
        "loss_bfloat16": losses[1],
        "relative_difference": losses[1] / losses[0] - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="steps a comparison (default: 12)")
    parser.add_argument("--long_steps", type=int, default=200, help="steps of the bf16 check (default: 200)")
    args = parser.parse_args()
    batches = toy_pairs(8)
    result: dict = {"machine": machine_facts(), "D": D, "B": B, "k": K, "comparisons": []}
    print("  F       encoder    ours s   plain s   ratio   largest loss difference")
    for dict_size in (4608, 16384):
        for dtype in ("float32", "bfloat16"):
            row = compare(dict_size, dtype, args.steps, batches)
            result["comparisons"].append(row)
            print(
                f"{dict_size:6d}  {dtype:9s}  {row['seconds_ours']:7.3f}  {row['seconds_plain']:8.3f}"
                f"  {row['ratio']:5.1f}x   {row['largest_relative_difference_of_losses']:.1e}",
                flush=True,
            )
    if args.long_steps:
        result["after_long_run"] = long_run(4608, args.long_steps, batches)
        print(json.dumps(result["after_long_run"]))
    target = Path(__file__).parent / "results" / "training_step.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {target}")


if __name__ == "__main__":
    main()
