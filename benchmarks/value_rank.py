"""What values of a lower rank change in a TemporalSAE: the error on held-out tokens, and a step's time.

    temporal-saes cache --config demo --activations runs/demo/activations
    OMP_NUM_THREADS=1 python benchmarks/value_rank.py --activations runs/demo/activations

Errors: runs of the demo preset of `train_attention.py` that differ in `--value_rank` alone, evaluated on the
cache's held-out tokens; what is trained is not trained again. Times: steps of a wider TemporalSAE at each
rank, and of the released code's form (`reference_tfa.py` in the tests), in turn, in one process; processor
seconds, the least. Writes benchmarks/results/value_rank.json, value_rank.md and value_rank_step.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import Others, machine_facts
from trained_runs import RESULTS, markdown
from two_builds import TEXTS, TEXTS_SHAPE, TRAINERS, D, K, toy_texts

from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.command import cli
from dictionary_learning.evaluation.measures import evaluate
from dictionary_learning.jobs.data import open_activations
from dictionary_learning.jobs.request import new_options
from dictionary_learning.jobs.train_command import train_on
from dictionary_learning.trainers import TemporalAttentionTrainer
from dictionary_learning.utils import load_dictionary

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference_tfa import WholeBatches, WholeBatchStep

FULL, RELEASED = "full", "released form"
DTYPES = ("float32", "bfloat16")
LR, WARMUP = 2e-4, 20


def name_of(rank: int | None) -> str:
    return FULL if rank is None else f"rank {rank}"


# --- the error ---


def train(args: argparse.Namespace, rank: int | None, seed: int) -> Path:
    """The folder of a dictionary, trained if it is missing."""
    run = f"{args.width}_{'full' if rank is None else rank}_seed{seed}"
    folder = args.runs / run / "trainer_0"
    if not (folder / "ae.pt").exists():
        flags = {
            "activations": str(args.activations),
            "steps": args.steps,
            "dict_size": args.width,
            "value_rank": rank,
            "seeds": (seed,),
        }
        options, preset = new_options(
            flags | {"run_name": run, "checkpoints_path": str(args.runs)}, "demo", ["attention"]
        )
        train_on(open_activations(options), options, preset)
    return folder


def errors(path: Path, args: argparse.Namespace) -> dict[str, float]:
    dictionary, _ = load_dictionary(path)
    store = ActivationCache.open(args.activations).store("eval", max_tokens=args.eval_tokens)
    measures = evaluate(dictionary, store.contexts(8))["measures"]
    found = {"NMSE": measures["all"]["nmse"]["value"]}
    for part in ("predicted", "novel"):
        found[f"NMSE, {part} alone"] = measures[part]["nmse"]["value"]
    return found | {
        "variance explained": measures["all"]["fve_global"]["value"],
        "predicted share of the norm": measures["predicted"]["norm_share"]["value"],
        "L0, predicted": measures["predicted"]["l0"]["value"],
        "million parameters": sum(p.numel() for p in dictionary.parameters()) / 1e6,
    }


# --- the time ---


def step_times(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of a step, {rank, or the released form: {dtype of the products: seconds}}."""
    x = toy_texts(min(args.timed_steps, 8))
    sizes = {"activation_dim": D, "width": args.timed_width, "k": K, "steps": args.timed_steps}
    heads = TRAINERS[TEXTS][1]
    sizes |= heads | {"lr": LR, "warmup_steps": WARMUP, "seed": 0, "device": "cpu"}
    updates: dict[tuple[str, str], Callable[[int, torch.Tensor], float]] = {}
    for rank in (None, *args.timed_ranks):
        for dtype in DTYPES:
            trainer = TemporalAttentionTrainer(**sizes, value_rank=rank, encoder_dtype=dtype)
            updates[name_of(rank), dtype] = trainer.update
            if rank is None:
                state = trainer.ae.state_dict()
    plain = WholeBatches(state, heads["n_heads"], K)
    released = WholeBatchStep(plain, lr=LR, steps=args.timed_steps, warmup_steps=WARMUP)
    updates[RELEASED, DTYPES[0]] = released.update
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in updates}
    for step in range(args.timed_steps):
        for key, update in updates.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=key[1] == "bfloat16"):
                began = time.thread_time()
                update(step, x[step % len(x)])
                seconds[key].append(time.thread_time() - began)
    found: dict[str, dict[str, float]] = {}
    for (name, dtype), took in seconds.items():
        found.setdefault(name, {})[dtype] = min(took[1:])
    return found


def multiply_adds(args: argparse.Namespace, rank: int | None) -> float:
    """Billions of a step, but for the attention's own: see docs/temporal-feature-analysis.md."""
    T, W = TEXTS_SHAPE[0] * TEXTS_SHAPE[1], args.timed_width
    narrow = W // TRAINERS[TEXTS][1]["bottleneck_factor"]
    return (6 * T * W * ((rank or W) + narrow) + 5 * T * W * D) / 1e9


def step_table(args: argparse.Namespace, times: dict[str, dict[str, float]]) -> str:
    """A row a rank; the ratios are of the full rank in the same products, and of the released form."""
    head = " | ".join(f"{dtype} | full / this | released / this" for dtype in DTYPES)
    lines = [f"| values | 10⁹ multiply-adds | {head} |", "|---" * (2 + 3 * len(DTYPES)) + "|"]
    theirs = times[RELEASED][DTYPES[0]]
    for rank in (None, *args.timed_ranks):
        of = times[name_of(rank)]
        cells = [
            f"{of[dtype]:.3f} | {times[FULL][dtype] / of[dtype]:.2f}x | {theirs / of[dtype]:.2f}x"
            for dtype in DTYPES
        ]
        lines.append(f"| {name_of(rank)} | {multiply_adds(args, rank):.1f} | {' | '.join(cells)} |")
    lines.append(f"| {RELEASED} | | {theirs:.3f} | | | | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activations", type=Path, required=True, help="cache with a part 'eval'")
    parser.add_argument("--runs", type=Path, default=Path("runs/value_rank"), help="where the runs are")
    parser.add_argument("--width", type=int, default=1152, help="atoms of the runs")
    parser.add_argument("--ranks", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--eval_tokens", type=int, default=20_000)
    parser.add_argument("--timed_width", type=int, default=2304)
    parser.add_argument("--timed_ranks", type=int, nargs="*", default=[64, 128, 256, 576])
    parser.add_argument("--timed_steps", type=int, default=4)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    others = Others()
    times = step_times(args)
    print(step_table(args, times), flush=True)
    busy = others.cores()
    table: dict[str, dict[str, list[float]]] = {name_of(rank): {} for rank in (None, *args.ranks)}
    for seed in args.seeds:
        for rank in (None, *args.ranks):
            for measure, value in errors(train(args, rank, seed), args).items():
                table[name_of(rank)].setdefault(measure, []).append(value)
        print(markdown(table, 4), flush=True)
    settings = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    facts: dict[str, Any] = {"machine": machine_facts(), "settings": settings, "table": table}
    facts |= {"seconds_of_a_step": times, "cores_busy_with_others": busy}
    (args.output / "value_rank.json").write_text(json.dumps(facts, indent=2) + "\n")
    (args.output / "value_rank.md").write_text(markdown(table, 4))
    (args.output / "value_rank_step.md").write_text(step_table(args, times))


if __name__ == "__main__":
    cli.run(main)
