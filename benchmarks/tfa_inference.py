"""A TemporalSAE over long texts: peak memory and time of `inference.analyse` against a plain implementation.

    python benchmarks/tfa_inference.py

The plain one is the form of the released code (`reference_tfa.py` in the tests): the whole batch at once,
codes and reconstructions of both parts. Ours is asked for three things that people want:
both codes dense, novel codes (sparse) with the reconstruction, and the reconstruction alone. Peak memory is
the most that torch holds at a time beside weights and input; times are medians of rounds that take turns.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from machine import machine_facts
from reference_tfa import WholeBatches

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.dictionaries.inference import analyse
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE

ROOT = Path(__file__).parent.parent
MEMORY_BYTES = 2**26  # at work at a time: one of the texts
ASKED: dict[str, dict[str, Any]] = {
    "both_codes": {"want": ("predicted_codes", "novel_codes")},
    "sparse_novel_and_x_hat": {"want": ("novel_codes", "x_hat"), "sparse": True},
    "x_hat": {"want": ("x_hat",)},
}


def subject(options: argparse.Namespace) -> tuple[TemporalSAE, Tensor]:
    sae = TemporalSAE(
        options.d_model,
        options.width,
        options.heads,
        kval_topk=options.k,
        bottleneck_factor=options.bottleneck_factor,
    ).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(options.texts, options.positions, options.d_model, generator=generator)
    return sae, x / options.d_model**0.5


def plain(sae: TemporalSAE, options: argparse.Namespace) -> WholeBatches:
    return WholeBatches(sae.state_dict(), options.heads, options.k)


def runner(name: str, options: argparse.Namespace) -> Callable[[], object]:
    sae, x_BLD = subject(options)
    if name == "plain":
        model = plain(sae, options)
        return torch.no_grad()(lambda: model(x_BLD))
    return lambda: analyse(sae, x_BLD, memory_bytes=MEMORY_BYTES, progress=False, **ASKED[name])


@torch.no_grad()
def peak_bytes(run: Callable[[], object]) -> int:
    """The most that torch has allocated at a time during a run."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(n_bytes for _, n_bytes in changes))


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Peak memory of each, and median times of rounds in which all take turns."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
    found = {}
    for name, run in runs.items():
        wall, processor = map(statistics.median, zip(*seconds[name], strict=True))
        found[name] = {
            "peak_mb": round(peak_bytes(run) / 1e6, 1),
            "seconds": round(wall, 4),
            "processor_seconds": round(processor, 4),
        }
    return found


def check_same(options: argparse.Namespace) -> float:
    """The largest difference between the two, as a share of the largest value."""
    sae, x_BLD = subject(options)
    with torch.no_grad():
        x_hat, theirs = plain(sae, options)(x_BLD)
    ours = analyse(sae, x_BLD, ("predicted_codes", "novel_codes", "x_hat"), progress=False)
    pairs = (
        (ours.predicted_codes, theirs["pred_codes"]),
        (ours.novel_codes, theirs["novel_codes"]),
        (ours.x_hat, x_hat),
    )
    apart = 0.0
    for mine, plain_one in pairs:
        assert isinstance(mine, Tensor)
        apart = max(apart, float((mine - plain_one).abs().max() / plain_one.abs().max()))
    assert apart < 1e-4, f"the values differ by {apart}"
    return apart


def parser() -> Parser:
    parser = Parser(prog="tfa_inference.py", description=__doc__)
    parser.add_argument("--texts", type=int, default=4, help="B (default: 4)")
    parser.add_argument("--positions", type=int, default=512, help="P (default: 512)")
    parser.add_argument("--d_model", type=int, default=576, help="D (default: 576)")
    parser.add_argument("--width", type=int, default=2304, help="W (default: 2304)")
    parser.add_argument("--k", type=int, default=20, help="K (default: 20)")
    parser.add_argument("--heads", type=int, default=4, help="attention heads (default: 4)")
    parser.add_argument("--bottleneck_factor", type=int, default=8, help="of keys and queries (default: 8)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that are timed (default: 7)")
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="threads of torch (default: its own choice)",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "tfa_inference.json")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "measured": "peak memory beside weights and input, and median time, of one pass over the texts",
        "largest_relative_difference": check_same(options),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "options": {name: value for name, value in vars(options).items() if name != "output"},
        "machine": machine_facts(),
    }
    rows = measure({name: runner(name, options) for name in ("plain", *ASKED)}, options.rounds)
    for name, row in rows.items():
        for key, value in list(row.items()):
            if name != "plain":
                row[f"{key}_of_plain"] = round(value / rows["plain"][key], 3)
        print(f"{name:>24}: {row}")
    result |= rows
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.output}")


if __name__ == "__main__":
    cli.run(main)
