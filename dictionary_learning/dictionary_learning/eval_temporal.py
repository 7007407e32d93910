"""Evaluate a trained dictionary of any kind on documents that its training did not see.

    python dictionary_learning/dictionary_learning/eval_temporal.py --run_name demo

Reconstruction, sparsity, smoothness over time, and the language model's loss, per split of the
latents; written to the run's `trainer_0/eval_results.json` and `eval.png`. Model, layer, texts and
tokenisation are the run's own unless a flag says otherwise, which is then in the names of the files. Several
runs, side by side:

    python dictionary_learning/dictionary_learning/eval_temporal.py --compare demo demo-matryoshka

Under torchrun the processes share the texts, for the same results:

    torchrun --nproc_per_node 8 dictionary_learning/dictionary_learning/eval_temporal.py --run_name demo
"""

import dataclasses
from pathlib import Path
from typing import Any

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.processes import add_timeout, check_alike, is_first, together
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.options import EvalOptions
from dictionary_learning.evaluation.setting import resolve
from dictionary_learning.remote.file_system import told
from dictionary_learning.runs.provenance import versions


def parser() -> Parser:
    made = Parser(description=__doc__)
    add_timeout(made)
    add_options(made, EvalOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    typed = vars(parser().parse_args(argv))
    with together(typed.pop("timeout")):
        check_alike({"flags": scrub_values(typed), "versions": versions()})
        evaluate_runs(build(EvalOptions, typed))


def evaluate_runs(options: EvalOptions) -> dict[str, dict[str, Any]]:
    """Evaluate every run, write its results, print the table; the results by run.

    Runs that were trained in the same setting are evaluated together: their activations are made once, and
    the language model's own loss is measured once. Several processes measure together, and the first writes.

    Raises:
        UserError: a run, a checkpoint, a model, a layer or documents that are not there or do not fit.
    """
    from dictionary_learning.evaluation import report, results
    from dictionary_learning.evaluation.study import Study
    from dictionary_learning.exchange import thresholds
    from dictionary_learning.exchange.loading import find_run, load_dictionary, weights_path, weights_sha256
    from dictionary_learning.runs.provenance import provenance

    runs = {told(name): find_run(name, options.checkpoints_path, options.trainer) for name in options.runs}
    # beside the weights; a folder of the hub's cache is not ours to write to
    targets = {
        name: run.dictionary if run.dictionary.is_relative_to(run.results) else run.results
        for name, run in runs.items()
    }
    study = Study(options)
    subjects, buffers = {}, {}
    for name, run in runs.items():
        dictionary, config = load_dictionary(
            run.dictionary, options.device, options.checkpoint, threshold=options.threshold
        )
        subjects[name] = dictionary, resolve(options, config, run.dictionary)
        buffers[name] = config.get("buffer") or {}
        study.check(*subjects[name], buffers[name])
        if dictionary.reads_sequences and subjects[name][1].pool != "token":
            raise UserError(
                f"--pool {subjects[name][1].pool} averages tokens, and {name} reads them one behind another: "
                "leave it out."
            )
        if is_first():
            check_writable(Path(options.output_dir or targets[name]), "--output_dir")
    weights = {name: weights_sha256(run.dictionary, options.checkpoint) for name, run in runs.items()}
    check_alike({f"weights of {name}": sha256[:12] for name, sha256 in weights.items()})

    measured: dict[str, dict[str, Any]] = {}
    for setting in dict.fromkeys(setting for _, setting in subjects.values()):
        alike = {name: dictionary for name, (dictionary, own) in subjects.items() if own == setting}
        measured |= study.evaluate(alike, setting)

    found: dict[str, dict[str, Any]] = {}
    made_by = provenance()
    for name, (dictionary, setting) in subjects.items():
        folder = runs[name].dictionary
        trained_on = buffers[name].get("pool", "token")
        say(f"{name}: {thresholds.beside_k(dictionary, measured[name]['l0'])}")
        if (trained_on, setting.pool) != ("token", "token"):
            counted = "" if setting.pool == "token" else f"; what is counted as tokens are {setting.pool}s"
            say(
                f"{name}: trained on {_called(trained_on)}, and measured on {_called(setting.pool)}{counted}."
            )
        found[name] = measured[name] | {
            "run": name,
            "k": thresholds.k_of(dictionary),
            "trained_on": trained_on,
            "threshold": thresholds.facts(dictionary, options.threshold),
            "dict_class": type(dictionary).__name__,
            "checkpoint": options.checkpoint or weights_path(folder).name,
            "weights_sha256": weights[name],
            "setting": scrub_values(dataclasses.asdict(setting)),
            "options": scrub_values(dataclasses.asdict(options)),
            "provenance": made_by,
        }
        if is_first():
            results.write(name, found[name], targets[name], options)
    print(report.table(found))
    if options.compare is not None and is_first():
        results.write_comparison(found, options)
    return found


def _called(pool: str) -> str:
    return "single tokens" if pool == "token" else f"means over {pool}s"


if __name__ == "__main__":
    cli.run(main)
