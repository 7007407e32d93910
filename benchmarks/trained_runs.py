"""What the benchmarks that train several methods share: one recording, training, evaluation, a table."""

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from machine import machine_facts

from dictionary_learning import cache_activations
from dictionary_learning.evaluation.measures import evaluate
from dictionary_learning.jobs.data import open_activations, open_store
from dictionary_learning.jobs.request import new_options
from dictionary_learning.jobs.train_command import train_on
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.utils import load_dictionary

RESULTS = Path(__file__).parent / "results"
EVAL_DOCUMENT_TOKENS = 1024


def record(flags: dict) -> None:
    """Record the activations of the training documents, what is missing of them."""
    where = ["--activations", flags["activations"], "--memory", flags["memory"]]
    sizes = ["--max_tokens", str(flags["max_tokens"]), "--document_tokens", str(flags["document_tokens"])]
    cache_activations.main(["--config", "demo", *where, *sizes])


def folders(runs: Path, archs: Iterable[str]) -> list[Path]:
    return sorted(path for arch in archs for path in (runs / arch).glob("trainer_*"))


def untrained(runs: Path, archs: Iterable[str], n_seeds: int) -> list[str]:
    trainers = [f"trainer_{i}/ae.pt" for i in range(n_seeds)]
    return [arch for arch in archs if not all((runs / arch / name).exists() for name in trainers)]


def train_missing(runs: Path, flags_of_arch: dict[str, dict]) -> None:
    """Train the architectures that have not all their seeds yet, on activations that are recorded once."""
    flags = next(iter(flags_of_arch.values()))
    missing = untrained(runs, flags_of_arch, len(flags["seeds"]))
    if missing:
        record(flags)
    for arch in missing:
        own = flags_of_arch[arch] | {"arch": arch, "run_name": arch, "checkpoints_path": str(runs)}
        options, preset = new_options(own, "demo", [arch])
        train_on(open_activations(options), options, preset)


def evaluate_all(paths: Iterable[Path], name: str, n_tokens: int, loss_tokens: int) -> None:
    """Evaluate those without a file `name` on some contexts of many held-out documents.

    L0 and FVE differ from one document to another.
    """
    paths = [path for path in paths if not (path / name).exists()]
    if not paths:
        return
    flags = {"run_name": "evaluation", "max_tokens": n_tokens, "document_tokens": EVAL_DOCUMENT_TOKENS}
    options, _ = new_options(flags, "demo", ["temporal"])
    lm = LanguageModel.load(options.model, dtype=options.lm_dtype)
    store = open_store(lm, options, part="eval")
    for path in paths:
        dictionary, _ = load_dictionary(path)
        result = evaluate(dictionary, store.contexts(8), lm=lm, layer=options.layer, loss_tokens=loss_tokens)
        (path / name).write_text(json.dumps(result))
        print(f"evaluated {path}", flush=True)


def markdown(table: dict[str, dict[str, list[float]]], digits: int = 3) -> str:
    """A row a measure, a column a method; mean and, over several seeds, standard deviation."""
    names = list(dict.fromkeys(name for rows in table.values() for name in rows))
    lines = ["| | " + " | ".join(table) + " |", "|---" * (len(table) + 1) + "|"]
    for name in names:
        shown = 2 if name.startswith("L0") else digits
        cells = [_cell(rows.get(name), shown) for rows in table.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_results(name: str, args: argparse.Namespace, table: dict, **facts: object) -> None:
    """Write the table with the machine and the settings, as results/<name>.json and .md, and print it."""
    RESULTS.mkdir(exist_ok=True)
    settings = {key: str(value) for key, value in vars(args).items()}
    content = {"machine": machine_facts(), "settings": settings, **facts, "table": table}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown(table))
    print(markdown(table))


def _cell(values: list[float] | None, digits: int) -> str:
    if values is None:
        return ""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"
