"""The five smoothness measures of one text against plain loops over its steps.

    python benchmarks/smoothness.py

Both compute the same values for the whole dictionary and its two splits from the same dense f [T, F]:
once as sparse as a T-SAE's code of a real text, once with every latent active. The loops are
`tests/reference_smoothness.py`. Rounds of the two alternate; the medians are compared.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.smoothness import smoothness

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import reference_smoothness  # noqa: E402


def text(tokens: int, latents: int, k: int, active: int, generator: torch.Generator) -> Tensor:
    """k latents of `active` a token; a few are common and stay on for a while, most are rare."""
    columns = torch.randperm(latents, generator=generator)[:active]
    weight = 1 / torch.arange(1, active + 1, dtype=torch.float32) ** 0.5
    f_TF = torch.zeros(tokens, latents)
    for t in range(tokens):
        chosen = columns[torch.multinomial(weight, k, generator=generator)]
        f_TF[t, chosen] = torch.rand(k, generator=generator) + 0.1
        if t:
            kept = (f_TF[t - 1] > 0) & (torch.rand(latents, generator=generator) < 0.3)
            f_TF[t, kept] = f_TF[t - 1, kept]
    return f_TF


class Seconds(NamedTuple):
    wall: float
    processor: float  # of all threads: hardly moved by other work on the machine


def seconds(run: Callable[[], object], repeats: int) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        run()
    return Seconds((time.perf_counter() - wall) / repeats, (time.process_time() - processor) / repeats)


def compare(f_TF: Tensor, x_TD: Tensor, splits: dict[str, slice], rounds: int) -> dict[str, float | int]:
    loops, ours = reference_smoothness.smoothness(f_TF, x_TD, splits), smoothness(f_TF, x_TD, splits)
    apart = 0.0
    for split, values in loops.items():
        for metric, value in values.items():
            mine = ours[split][metric]
            assert mine is not None
            apart = max(apart, abs(mine / value - 1))
    assert apart < 1e-5, f"the values differ by {apart}"

    of_loops, of_ours = [], []
    for _ in range(rounds):
        of_loops.append(seconds(lambda: reference_smoothness.smoothness(f_TF, x_TD, splits), 1))
        of_ours.append(seconds(lambda: smoothness(f_TF, x_TD, splits), 10))
    slow, fast = (Seconds(*map(statistics.median, zip(*times, strict=True))) for times in (of_loops, of_ours))
    return {
        "active_latents": int((f_TF.sum(0) != 0).sum()),
        "active_a_token": round((f_TF != 0).sum(1).float().mean().item(), 1),
        "loops_ms": round(1e3 * slow.wall, 1),
        "ours_ms": round(1e3 * fast.wall, 2),
        "speedup": round(slow.wall / fast.wall, 1),
        "loops_processor_ms": round(1e3 * slow.processor, 1),
        "ours_processor_ms": round(1e3 * fast.processor, 2),
        "speedup_in_processor_time": round(slow.processor / fast.processor, 1),
        "largest_relative_difference": apart,
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def parser() -> Parser:
    parser = Parser(prog="smoothness.py", description=__doc__)
    parser.add_argument("--tokens", type=int, default=128, help="T (default: 128)")
    parser.add_argument("--latents", type=int, default=16_384, help="F (default: 16384)")
    parser.add_argument("--width", type=int, default=576, help="D (default: 576)")
    parser.add_argument("--k", type=int, default=15, help="new latents a token; 30 %% stay on (default: 15)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each kind (default: 15)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "smoothness.json")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = parser().parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    x_TD = torch.randn(options.tokens, options.width, generator=generator)
    high = options.latents // 5
    splits = {"high": slice(0, high), "low": slice(high, options.latents)}
    result: dict[str, object] = {
        "measured": "one text, all five measures, the whole dictionary and two splits; medians of rounds",
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "tokens": options.tokens,
        "latents": options.latents,
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }
    cases = {
        f"{active}_active": text(options.tokens, options.latents, options.k, active, generator)
        for active in (400, 1_000, 1_500)
    }
    cases["all_active"] = torch.rand(options.tokens, options.latents, generator=generator)
    for name, f_TF in cases.items():
        rounds = options.rounds if name != "all_active" else max(1, options.rounds // 3)
        row = compare(f_TF, x_TD, splits, rounds)
        result[name] = row
        print(
            f"{row['active_latents']:>6} active latents, {row['active_a_token']:>7} a token: loops "
            f"{row['loops_ms']:>6} ms, ours {row['ours_ms']:>6} ms, {row['speedup']}x "
            f"({row['speedup_in_processor_time']}x in processor time)"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.output}")


if __name__ == "__main__":
    cli.run(main)
