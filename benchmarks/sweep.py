"""Six dictionaries as a sweep, against six runs, and against the language model once and the six trainings.

    OMP_NUM_THREADS=1 python benchmarks/sweep.py

The runs read the activations straight from the language model, one run after the other, so the model is
loaded and runs six times; the sweep records them once. What a run takes for the language model (reading its
weights and recording) is told apart from the rest, its training and saving. Wall time and, for a machine with
other work, CPU time; one thread.
"""

import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from machine import Others, machine_facts

from dictionary_learning import train_temporal
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.jobs import data

RESULTS = Path(__file__).parent / "results" / "sweep.json"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
Seconds = dict[str, float]


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--layer", type=int, default=10, help="layer of the demo's model")
    flags.add_argument("--k", type=int, nargs="+", default=[10, 20, 40], help="latents a token")
    flags.add_argument("--dict_sizes", type=int, nargs="+", default=[1152, 2304], help="latents")
    flags.add_argument("--tokens", type=int, default=20_000, help="text tokens")
    flags.add_argument("--steps", type=int, default=40, help="steps of each dictionary")
    flags.add_argument("--batch_size", type=int, default=1024, help="pairs a step")
    flags.add_argument("--out", type=Path, default=RESULTS)
    return flags


@contextmanager
def timed() -> Iterator[Seconds]:
    """The seconds of what is done inside."""
    found: Seconds = {}
    began = {name: clock() for name, clock in CLOCKS.items()}
    yield found
    found.update({name: clock() - began[name] for name, clock in CLOCKS.items()})


@contextmanager
def language_model_timed() -> Iterator[list[Seconds]]:
    """What the language model takes meanwhile: its weights read, and every block recorded."""
    found: list[Seconds] = []
    places: list[tuple[Any, str]] = [(data, "load_language_model"), (ActivationStore, "_read")]
    functions = [getattr(owner, name) for owner, name in places]
    for (owner, name), function in zip(places, functions, strict=True):
        setattr(owner, name, _timing(function, found))
    try:
        yield found
    finally:
        for (owner, name), function in zip(places, functions, strict=True):
            setattr(owner, name, function)


def _timing(function: Callable[..., Any], found: list[Seconds]) -> Callable[..., Any]:
    def timing(*arguments: Any) -> Any:
        with timed() as seconds:
            result = function(*arguments)
        found.append(seconds)
        return result

    return timing


def total(parts: list[Seconds]) -> Seconds:
    return {name: sum(part[name] for part in parts) for name in CLOCKS}


def words(flags: Namespace, folder: str, name: str) -> list[str]:
    shared = f"--config demo --device cpu --layer {flags.layer} --max_tokens {flags.tokens} --no_overlap"
    steps = f"--steps {flags.steps} --batch_size {flags.batch_size} --warmup_steps 5"
    schedule = f"--decay_start {flags.steps * 4 // 5} --checkpoints_path {folder} --run_name {name}"
    return f"{shared} {steps} {schedule} --calibration_tokens 8192".split()


def single_runs(flags: Namespace, folder: str) -> dict[str, list[Seconds]]:
    """Each member as a run of its own."""
    found: dict[str, list[Seconds]] = {"run": [], "language model": []}
    for k in flags.k:
        for size in flags.dict_sizes:
            own = ["--k", str(k), "--dict_size", str(size)]
            with language_model_timed() as parts, timed() as seconds:
                train_temporal.main([*words(flags, folder, f"single-k{k}-d{size}"), *own])
            found["run"].append(seconds)
            found["language model"].append(total(parts))
    return found


def sweep(flags: Namespace, folder: str) -> Seconds:
    path = Path(folder) / "sweep.yaml"
    path.write_text(json.dumps({"k": flags.k, "dict_size": flags.dict_sizes}), encoding="utf-8")
    with timed() as seconds:
        train_temporal.main([*words(flags, folder, "sweep"), "--sweep", str(path)])
    return seconds


def check_same(flags: Namespace, folder: str) -> None:
    for k in flags.k:
        for size in flags.dict_sizes:
            one, other = (
                load_weights(Path(folder) / f"{name}-k{k}-d{size}/trainer_0/ae.pt")
                for name in ("single", "sweep")
            )
            assert all(torch.equal(one[name], other[name]) for name in one), (k, size)


def main(argv: list[str] | None = None) -> None:
    flags = parser().parse_args(argv)
    torch.set_num_threads(1)
    others = Others()
    with tempfile.TemporaryDirectory() as folder:
        train_temporal.main([*words(flags, folder, "warm"), "--k", "10", "--dict_size", "576"])
        singles = single_runs(flags, folder)
        of_sweep = sweep(flags, folder)
        check_same(flags, folder)
    n = len(singles["run"])
    runs, lm = total(singles["run"]), total(singles["language model"])
    results: dict[str, Any] = {}
    for clock in CLOCKS:
        once, trainings = lm[clock] / n, runs[clock] - lm[clock]
        results[clock] = {
            "six_runs": round(runs[clock], 2),
            "language_model_once": round(once, 2),
            "six_trainings": round(trainings, 2),
            "sweep": round(of_sweep[clock], 2),
            "sweep_over_language_model_and_trainings": round(of_sweep[clock] / (once + trainings), 3),
            "sweep_over_six_runs": round(of_sweep[clock] / runs[clock], 3),
        }
    settings = {name: value for name, value in vars(flags).items() if name != "out"}
    record = {"settings": settings, "members": n, "machine": machine_facts(), "seconds": results}
    record |= {"cores_that_others_kept_busy": others.cores(), "same_weights": True}
    flags.out.parent.mkdir(exist_ok=True)
    flags.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    lines = ["| seconds | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for name in next(iter(results.values())):
        cells = [f"{of_clock[name]:.2f}" for of_clock in results.values()]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
