"""Probing with its defaults: the build of another revision against this one, on the same texts and codes.

    python benchmarks/probing.py --checkpoints_path runs/demo --compare tsae:0 matryoshka:0 baseline_model

The other build is checked out into a folder of its own. Each runs the whole command once, in a process with
one thread, after the language model's activations were recorded. Seconds are those of the processor, which
other work on the machine lengthens less than those of the clock. What a build gave stays in --kept; a
second call measures the subjects that are not there. Writes results/probing.json and .md.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine_facts

from dictionary_learning.command import cli
from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser, add_options, build, option

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
THIS = "this build"
TASKS = ("semantics", "syntax", "context")
PLACES = ("checkpoints_path", "kept")  # options that a result does not tell: folders of one machine


@dataclass(frozen=True)
class Options:
    """What is probed, and against which build."""

    compare: tuple[str, ...] = option(
        ("tsae:0", "tsae:1", "matryoshka:0", "matryoshka:1", "tfa:0", "tfa:1", "baseline_model"),
        "what is probed, as for probing.py",
    )
    checkpoints_path: str = option("runs/demo", "folder of the runs")
    against: str = option("2e8e410", "git revision of the other build")
    flags: tuple[str, ...] = option((), "further flags of probing.py, each as name=value")
    kept: str | None = option(None, "folder for what a build gave, and from where it is taken")


def clocked(
    options: Options, folder: Path, output: Path, subjects: Sequence[str], more: Sequence[str] = ()
) -> dict[str, Any]:
    """Probing by the build in `folder`, in a process of its own: its seconds and its results.

    Subjects that `output` has already are not probed again; the seconds are those of all calls together.
    """
    paths = [str(folder / "dictionary_learning"), str(folder / "src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    flags = ["--checkpoints_path", options.checkpoints_path, "--output_dir", str(output), *more]
    for flag in options.flags:
        name, _, value = flag.partition("=")
        flags += [f"--{name}", *value.split()]
    output.mkdir(parents=True, exist_ok=True)
    calls = output / "calls.jsonl"
    there = {subject for call in read_calls(calls) for subject in call["subjects"]}
    missing = [subject for subject in subjects if subject not in there]
    if missing:
        command = [sys.executable, __file__, "--inside", str(calls), *flags, "--compare", *missing]
        subprocess.run(command, env=environment, check=True)
    seconds: Counter[str] = Counter()
    for call in read_calls(calls):
        seconds.update(call["seconds"])
    results = [json.loads(path.read_text("utf-8")) for path in output.glob("*.json")]
    return {
        "seconds": dict(seconds),
        "n_calls": len(read_calls(calls)),
        "results": {one["name"]: one for one in results},
    }


def read_calls(path: Path) -> list[dict[str, Any]]:
    """What each process of one build wrote down."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def inside(written: Path, flags: list[str]) -> None:
    """Probing of the build on the path, with a clock around its parts, whose seconds are written down."""
    import temporal_saes.probing as room
    from temporal_saes.probing import command, probes, study

    seconds: dict[str, float] = defaultdict(float)

    def clock(module: Any, name: str, part: Callable[[], str]) -> None:
        function = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part()] += time.process_time() - began

        setattr(module, name, timed)

    fitted = iter(range(sys.maxsize))
    reader = study
    if not hasattr(study, "extract_features"):
        from temporal_saes.probing import last_read as reader  # of builds that have one
    clock(reader, "extract_features", lambda: "texts and codes")
    clock(study, "task_examples", lambda: "parts of speech")
    clock(probes, "probe", lambda: f"fits: {TASKS[next(fitted) % len(TASKS)]}")
    began = time.process_time()
    command.main(flags)
    seconds["the whole command"] = time.process_time() - began
    of = {
        "subjects": flags[flags.index("--compare") + 1 :],
        "seconds": seconds,
        "build": Path(room.__file__).parents[3].name,
    }
    with open(written, "a", encoding="utf-8") as file:
        file.write(json.dumps(of) + "\n")


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each task: how many mean accuracies there are, and the largest and the mean difference of them."""
    found: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        apart = {}
        for name, result in new["results"].items():
            pairs = zip(
                result["tasks"][task]["accuracy"],
                old["results"][name]["tasks"][task]["accuracy"],
                strict=True,
            )
            for ours, theirs in pairs:
                assert ours["n_features"] == theirs["n_features"], f"{name}, {task}: other splits"
                apart[f"{name}, k {ours['k']}"] = ours["mean"] - theirs["mean"]
        largest = max(apart, key=lambda one: abs(apart[one]))
        found[task] = {
            "n": len(apart),
            "largest": apart[largest],
            "largest_of": largest,
            "mean": float(np.mean(list(apart.values()))),
            "above_005": sum(abs(one) > 0.005 for one in apart.values()),
        }
    return found


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"| processor seconds | {result['options']['against']} | {THIS} | ratio | largest difference |",
        "|---|---|---|---|---|",
    ]
    for part, row in result["parts"].items():
        apart = result["accuracy"].get(part.removeprefix("fits: "))
        said = f"{apart['largest']:+.4f} ({apart['largest_of']})" if apart else ""
        lines.append(f"| {part} | {row['old']:.0f} | {row['new']:.0f} | {row['ratio']:.1f} | {said} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and save."""
    made = Parser(description=__doc__)
    add_options(made, Options)
    options = build(Options, vars(made.parse_args(argv)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        checkout = folder / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(checkout), options.against], check=True)
        try:
            builds = {"old": checkout, "new": ROOT}
            first = ["--tasks", "semantics", "--k", "1", "--repeats", "1"]
            kept = folder if options.kept is None else Path(options.kept)
            for name, where in builds.items():  # both have the activations before the clock starts
                if not (kept / name).exists():
                    clocked(options, where, folder / f"first_{name}", options.compare[:1], first)
            found = {
                name: clocked(options, where, kept / name, options.compare) for name, where in builds.items()
            }
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)
    old, new = found["old"], found["new"]
    parts = {
        part: {
            "old": round(was, 1),
            "new": round(new["seconds"][part], 1),
            "ratio": round(was / new["seconds"][part], 2),
        }
        for part, was in old["seconds"].items()
    }
    result = {
        "measured": "processor seconds of probing.py on one thread, activations recorded before",
        "parts": parts,
        "calls": {name: one["n_calls"] for name, one in found.items()},
        "accuracy": differences(old, new),
        "accuracies": {
            name: {
                task: {str(one["k"]): round(one["mean"], 4) for one in result["tasks"][task]["accuracy"]}
                for task in TASKS
            }
            for name, result in new["results"].items()
        },
        "not_converged": {
            build: sum(
                len(one["values"]) - one["n_converged"]
                for result in of["results"].values()
                for task in result["tasks"].values()
                for one in task["accuracy"]
            )
            for build, of in found.items()
        },
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "options": {name: value for name, value in asdict(options).items() if name not in PLACES},
        "machine": machine_facts() | {"threads": 1},
    }
    print(table(result))
    save_text(RESULTS / "probing.json", json.dumps(result, indent=1) + "\n")
    save_text(RESULTS / "probing.md", table(result) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), sys.argv[3:])
    else:
        cli.run(main)
