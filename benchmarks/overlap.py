"""The language model and the training of a T-SAE at the same time, against one after the other.

    OMP_NUM_THREADS=1 python benchmarks/overlap.py

Both runs see the same batches and end with the same weights, which is checked; they take turns, and the
medians are compared. Each has one thread for the language model and one for the training, so two cores are
needed, with nothing else to do. The sizes are chosen so that both weigh about the same: one pass over the
texts in `blocks` blocks, a step a batch of new pairs.
"""

import json
import statistics
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from machine import Others, machine_facts

from dictionary_learning.activations.block import bytes_per_token
from dictionary_learning.activations.store import Store
from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.jobs.data import load_language_model, open_store
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.jobs.request import new_options
from dictionary_learning.jobs.train_command import train_on
from dictionary_learning.language_model import LanguageModel

RESULTS = Path(__file__).parent / "results" / "overlap.json"


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--layer", type=int, default=5, help="layer of the demo's model")
    flags.add_argument("--dict_size", type=int, default=4608, help="latents")
    flags.add_argument("--batch_size", type=int, default=512, help="pairs a step")
    flags.add_argument("--blocks", type=int, default=8, help="blocks of activations")
    flags.add_argument("--block_tokens", type=int, default=5_000, help="tokens a block")
    flags.add_argument("--rounds", type=int, default=3, help="runs of each of the two")
    flags.add_argument("--out", type=Path, default=RESULTS)
    return flags


def options_of(flags: Namespace, folder: str, overlap: bool) -> TrainOptions:
    asked: dict[str, Any] = {
        "checkpoints_path": folder,
        "run_name": "ahead" if overlap else "alone",
        "overlap": overlap,
        "device": "cpu",
        "layer": flags.layer,
        "dict_size": flags.dict_size,
        "batch_size": flags.batch_size,
        "memory": str(flags.block_tokens * bytes_per_token(576)),
        "max_tokens": flags.blocks * flags.block_tokens,
        # one pass: the pairs left over at the end of a block are fewer than a batch
        "steps": flags.blocks * (int(flags.block_tokens * 0.97) // flags.batch_size),
        "warmup_steps": 5,
        "decay_start": None,
        "calibration_tokens": 0,
        "save_fractions": (),
        "resume_every": 10**6,
        "encoder_dtype": "float32",
    }
    return new_options(asked, "demo", ["temporal"])[0]


def timed(store: Store) -> list[float]:
    """The seconds of each block that the store reads from now on."""
    seconds: list[float] = []
    read = store._read

    def reading(start: Any) -> Any:
        began = time.perf_counter()
        block = read(start)
        seconds.append(time.perf_counter() - began)
        return block

    store._read = reading  # type: ignore[method-assign]
    return seconds


def run(lm: LanguageModel, flags: Namespace, overlap: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """One run: its seconds, in all and in the language model, and its weights."""
    with tempfile.TemporaryDirectory() as folder:
        options = options_of(flags, folder, overlap)
        store = open_store(lm, options)
        harvest = timed(store)
        others, began = Others(), time.perf_counter()
        train_on(store, options, None)
        wall = time.perf_counter() - began
        weights = load_weights(Path(folder) / str(options.run_name) / "trainer_0/ae.pt")
    return {"wall": wall, "harvest": sum(harvest), "others_cores": others.cores()}, weights


def main(argv: list[str] | None = None) -> None:
    flags = parser().parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        options = options_of(flags, folder, False)
    lm = load_language_model(options, options.layer)
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(flags.rounds):
        weights = {}
        for overlap in found:
            seconds, weights[overlap] = run(lm, flags, overlap)
            found[overlap].append(seconds)
            print(overlap, seconds, flush=True)
        assert all(torch.equal(weights[False][name], weights[True][name]) for name in weights[False])
    alone, ahead = (statistics.median(one["wall"] for one in found[overlap]) for overlap in found)
    harvest = statistics.median(one["harvest"] for one in found[False])
    settings = {name: value for name, value in vars(flags).items() if name != "out"}
    results = {
        "harvest_seconds": round(harvest, 2),
        "training_seconds": round(alone - harvest, 2),
        "one_after_the_other_seconds": round(alone, 2),
        "overlap_seconds": round(ahead, 2),
        "ratio": round(ahead / alone, 3),
        "same_weights": True,
        "cores_that_others_kept_busy": max(one["others_cores"] for runs in found.values() for one in runs),
    }
    record = {"settings": settings, "steps": options.steps, "machine": machine_facts(), "results": results}
    flags.out.parent.mkdir(exist_ok=True)
    flags.out.write_text(json.dumps({**record, "rounds": list(found.values())}, indent=1) + "\n")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    names = {
        "harvest_seconds": "language model",
        "training_seconds": "training",
        "one_after_the_other_seconds": "one after the other",
        "overlap_seconds": "at the same time",
    }
    lines = ["| | seconds |", "|---|---|"]
    lines += [f"| {words} | {results[name]:.1f} |" for name, words in names.items()]
    return "\n".join([*lines, f"| ratio | {results['ratio']:.2f} |"])


if __name__ == "__main__":
    cli.run(main)
