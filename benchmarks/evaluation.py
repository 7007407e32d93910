"""`eval_temporal.py --compare`: this build against an earlier one, on the same cached activations and model.

    python benchmarks/evaluation.py

Each side is the whole command in a process of its own, from its start to the written results, with one
thread; rounds of the two alternate, and the fastest of each is compared, in seconds and in processor seconds.
The earlier build is a revision of this repository, checked out into a folder for as long as it is measured.
It also writes the activations and trains the dictionaries, for a few steps: their weights mean nothing, their
threshold lets k latents through. The figures of both builds are compared, too.

The sizes are those of the demo; `--tokens 2000 --loss_tokens 500 --rounds 1` is over in minutes, and
`--archs batch_top_k --latents 65536 --loss_tokens 0` looks at wide dictionaries. Writes
benchmarks/results/evaluation.json, in which every case keeps a place of its own.
"""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from machine import machine_facts

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser

ROOT = Path(__file__).parents[1]
TRAIN_TOKENS = 8192
STEPS = 10


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--revision", default="9eec46b", help="the earlier build")
    flags.add_argument("--config", default="demo", help="preset of the model, the texts and the dictionaries")
    flags.add_argument("--archs", nargs="+", default=["temporal", "matryoshka", "batch_top_k"])
    flags.add_argument("--latents", type=int, default=4608, help="of each dictionary")
    flags.add_argument("--tokens", type=int, default=20_000, help="text tokens to evaluate on")
    flags.add_argument("--loss_tokens", type=int, default=4_000, help="of them, for the cross-entropy")
    flags.add_argument("--lm_dtype", default="bfloat16", help="float32 where the processor has no bfloat16")
    flags.add_argument("--from_text", action="store_true", help="run the model over the texts: no cache")
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--rounds", type=int, default=3, help="rounds of each build")
    flags.add_argument(
        "--work", type=Path, help="folder for activations and runs that are kept; a passing one if not given"
    )
    flags.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "evaluation.json")
    return flags


class Took(NamedTuple):
    wall: float
    processor: float


class Build:
    """A checkout, and its commands."""

    def __init__(self, root: Path, threads: int) -> None:
        self.root = root
        self.threads = threads

    def run(self, *words: object) -> Took:
        """A script of the training package with its flags; what it takes."""
        package = self.root / "dictionary_learning"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(package), str(self.root / "src")]),
            "OMP_NUM_THREADS": str(self.threads),
        }
        script, *flags = map(str, words)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(package / "dictionary_learning" / script), *flags],
            env=environment,
            capture_output=True,
            text=True,
        )
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"{script} of {self.root} failed:\n{done.stderr}")
        return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """The revision in a worktree."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(folder), revision], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)


def prepare(build: Build, work: Path, flags: Namespace) -> tuple[Path, Path, list[str]]:
    """The cache and the folder of the runs, with their names; what is there stays."""
    cache, runs = work / f"activations_{flags.tokens}", work / "runs"
    preset = ["--config", flags.config]
    build.run(
        *("cache_activations.py", *preset, "--activations", cache, "--parts", "train", "eval"),
        *("--max_tokens", TRAIN_TOKENS, "--eval_tokens", flags.tokens, "--lm_dtype", flags.lm_dtype),
    )
    names = []
    for arch in flags.archs:
        name = f"{arch}_{flags.latents}"
        names.append(name)
        if (runs / name / "trainer_0" / "ae.pt").is_file():
            continue
        script = ["train_temporal.py"] if arch == "temporal" else ["train_baseline.py", "--arch", arch]
        build.run(
            *(*script, *preset, "--activations", cache, "--run_name", name, "--checkpoints_path", runs),
            *("--dict_size", flags.latents, "--steps", STEPS, "--warmup_steps", 1, "--batch_size", 256),
            *("--decay_start", STEPS - 2, "--calibration_tokens", TRAIN_TOKENS),
        )
    return cache, runs, names


def largest_difference(ours: Any, other: Any) -> tuple[float, str]:
    """Of two comparisons' figures, relative; and which one it is."""
    worst = 0.0, ""
    for run, result in other.items():
        for split, measures in result["measures"].items():
            for name, there in measures.items():
                here = ours[run]["measures"][split][name]
                assert here.keys() == there.keys()
                a, b = here["value"], there["value"]
                assert (a is None) == (b is None), name
                if b is not None:
                    apart = abs(a - b) / abs(b) if b else abs(a)
                    worst = max(worst, (apart, f"{run}, {split}, {name}"))
    return worst


def measure(flags: Namespace, work: Path, earlier: Build) -> dict[str, Any]:
    cache, runs, names = prepare(earlier, work, flags)
    builds = {"earlier": earlier, "ours": Build(ROOT, flags.threads)}
    words: list[object] = ["--compare", *names, "--checkpoints_path", runs, "--device", "cpu"]
    words += ["--max_tokens", flags.tokens, "--loss_tokens", flags.loss_tokens]
    words += [] if flags.from_text else ["--activations", cache]
    took: dict[str, list[Took]] = {name: [] for name in builds}
    figures = {}
    for number in range(flags.rounds):
        for name, build in builds.items():
            took[name].append(build.run("eval_temporal.py", *words, "--output_dir", work / name))
            found = (work / name / f"compare_{'_'.join(names)}.json").read_text(encoding="utf-8")
            figures[name] = json.loads(found)
            print(f"round {number + 1}, {name}: {took[name][-1].wall:.1f} s", flush=True)
    apart, where = largest_difference(figures["ours"], figures["earlier"])
    fastest = {
        name: Took(min(t.wall for t in times), min(t.processor for t in times))
        for name, times in took.items()
    }
    first = figures["ours"][names[0]]
    return {
        "dictionaries": names,
        "tokens": first["tokens"],
        "l0": [round(result["l0"], 2) for result in figures["ours"].values()],
        "predictions": first["measures"]["all"].get("loss_clean", {}).get("predictions", 0),
        "activations": "from text" if flags.from_text else "cached",
        "rounds": flags.rounds,
        "seconds": {name: round(t.wall, 2) for name, t in fastest.items()},
        "processor_seconds": {name: round(t.processor, 2) for name, t in fastest.items()},
        "all_rounds": {name: [tuple(round(s, 2) for s in t) for t in times] for name, times in took.items()},
        "ratio": round(fastest["earlier"].wall / fastest["ours"].wall, 2),
        "ratio_of_processor_seconds": round(fastest["earlier"].processor / fastest["ours"].processor, 2),
        "largest_relative_difference": apart,
        "largest_relative_difference_of": where,
    }


def main(argv: list[str] | None = None) -> None:
    flags = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as passing:
        work = flags.work or Path(passing) / "work"
        with checked_out(flags.revision, Path(passing) / "earlier") as folder:
            case = measure(flags, work, Build(folder, flags.threads))
    table(case, flags.revision)
    options = {name: value for name, value in vars(flags).items() if name not in ("out", "work")}
    key = f"{len(case['dictionaries'])} x {flags.latents}, {case['tokens']} tokens, "
    key += f"{case['predictions']} predictions, {case['activations']}"
    key += "" if flags.lm_dtype == "bfloat16" else f", {flags.lm_dtype}"
    written = json.loads(flags.out.read_text(encoding="utf-8")) if flags.out.is_file() else {}
    written[key] = {"options": options, "machine": machine_facts() | {"threads": flags.threads}, **case}
    flags.out.parent.mkdir(exist_ok=True)
    flags.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"written: {flags.out}")


def table(case: dict[str, Any], revision: str) -> None:
    assert math.isfinite(case["largest_relative_difference"])
    print(f"{'':24}{revision:>12}{'ours':>12}{'ratio':>8}")
    for what, ratio in (("seconds", "ratio"), ("processor_seconds", "ratio_of_processor_seconds")):
        earlier, ours = case[what]["earlier"], case[what]["ours"]
        print(f"{what.replace('_', ' '):24}{earlier:12.1f}{ours:12.1f}{case[ratio]:7.2f}x")
    print(
        f"figures differ by {case['largest_relative_difference']:.1e} at most "
        f"({case['largest_relative_difference_of']})"
    )


if __name__ == "__main__":
    cli.run(main)
