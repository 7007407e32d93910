"""The solvers of the probes' regression: seconds, and the penalised loss that each of them reaches.

    python benchmarks/probe_solvers.py --checkpoints_path runs/demo --compare tsae:0 tfa:0 baseline_model

The context task of probing.py (which of 160 texts a token is from), first split, k latents a class. Each
solver takes the four strengths of the penalty one after another, from where the last one ended, on one
thread. The loss is the same formula in float64 for all. Writes results/probe_solvers.json and .md.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import machine_facts
from scipy import sparse
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from dictionary_learning.command import cli
from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from temporal_saes.experiment.subjects import LanguageModels, subjects_of
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.probing import probes
from temporal_saes.probing.examples import task_examples
from temporal_saes.probing.last_read import LastRead
from temporal_saes.probing.options import ProbingOptions
from temporal_saes.probing.regression import Regression, Rows

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """Which problems are solved."""

    compare: tuple[str, ...] = option(
        ("tsae:0", "tsae:1", "tfa:0", "baseline_model"), "what is probed, as for probing.py"
    )
    checkpoints_path: str = option("runs/demo", "folder of the runs")
    k: int = option(10, "latents chosen for each class")


Weights = Iterator[np.ndarray]
"""[F + 1, C] after each of the strengths, the intercept in the last row."""


def by_scikit_learn(solver: str, dtype: type) -> Callable[[Rows, np.ndarray], Weights]:
    def solve(x: Rows, y: np.ndarray) -> Weights:
        model = LogisticRegression(solver=solver, max_iter=1000, warm_start=True)
        rows = x.astype(dtype)
        for strength in probes.STRENGTHS:
            model.set_params(C=strength).fit(rows, y)
            yield np.vstack([model.coef_.T, model.intercept_]).astype(np.float64)

    return solve


def by_ours(x: Rows, y: np.ndarray, rough: bool = False) -> Weights:
    dense = sparse.issparse(x) and x.nnz > probes.DENSE * x.shape[0] * x.shape[1]
    rows = x.toarray() if dense else x
    model = Regression(x.shape[1], int(y.max()) + 1)
    for strength in probes.STRENGTHS:
        learn = probes.learn_roughly if rough else Regression.learn
        learn(model, rows, y, strength)
        yield model.w_GC.double().numpy()


SOLVERS = {
    "scikit-learn lbfgs, float64": by_scikit_learn("lbfgs", np.float64),
    "scikit-learn lbfgs, float32": by_scikit_learn("lbfgs", np.float32),
    "scikit-learn newton-cg, float64": by_scikit_learn("newton-cg", np.float64),
    "scikit-learn newton-cg, float32": by_scikit_learn("newton-cg", np.float32),
    "ours: L-BFGS, float32": by_ours,
    "the same, as roughly as strengths are chosen": partial(by_ours, rough=True),
}


def penalised_loss(w_GC: np.ndarray, x: Rows, y: np.ndarray, strength: float) -> float:
    scores_NC = x.astype(np.float64) @ w_GC[:-1] + w_GC[-1]
    unlikely_N = logsumexp(scores_NC, axis=1) - scores_NC[np.arange(len(y)), y]
    return float(unlikely_N.mean() + (w_GC[:-1] ** 2).sum() / (2 * strength * len(y)))


def problems(options: Options) -> Iterator[tuple[str, Rows, np.ndarray]]:
    """Of each subject: its name, the scaled rows of the first split, and their classes."""
    given = ProbingOptions(
        compare=options.compare, checkpoints_path=options.checkpoints_path, tasks=("context",), max_texts=4000
    )
    texts, models = labelled_texts(given, given.n_texts), LanguageModels()
    last = LastRead(given, texts)
    for subject in subjects_of(given):
        features, positions = last.features(subject, models.get(subject))
        examples = task_examples("context", texts, features, positions)
        x, y = features.x[examples.rows], np.unique(examples.labels, return_inverse=True)[1]
        train, _ = probes.split(y, len(y) * 3 // 4, len(y) // 4, [given.seed, 0], (2, 1))
        ranked = probes.rank_features(x[train], y[train], by_magnitude=subject.is_baseline)
        x_train = x[train][:, ranked.union(options.k)]
        mean_F, std_F = probes._mean_and_std(x_train)
        varies = np.flatnonzero(std_F > 1e-6 * np.abs(mean_F))
        rows = probes._scale(x_train[:, varies], mean_F[varies], std_F[varies], dense=False)
        yield subject.name, rows, y[train]


def main(argv: list[str] | None = None) -> None:
    """Measure, print and save."""
    made = Parser(description=__doc__)
    add_options(made, Options)
    options = build(Options, vars(made.parse_args(argv)))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, dict[str, object]]] = {}
    for name, x, y in problems(options):
        for solver, solve in SOLVERS.items():
            losses, seconds, began = [], 0.0, time.process_time()
            for strength, w_GC in zip(probes.STRENGTHS, solve(x, y), strict=True):
                seconds += time.process_time() - began
                losses.append(round(penalised_loss(w_GC, x, y, strength), 6))
                began = time.process_time()
            found.setdefault(name, {})[solver] = {"seconds": round(seconds, 2), "losses": losses}
            print(f"{name}, {x.shape[1]} features, {solver}: {found[name][solver]}", flush=True)
    lines = [
        "| processor seconds (loss at C = 1) | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
    ]
    for solver in SOLVERS:
        cells = [f"{one[solver]['seconds']:.2f} ({one[solver]['losses'][-1]:.4f})" for one in found.values()]  # type: ignore[index]
        lines.append(f"| {solver} | " + " | ".join(cells) + " |")
    result = {
        "measured": "processor seconds of the four strengths, and the penalised loss after each",
        "strengths": probes.STRENGTHS,
        "solvers": found,
        "options": asdict(options),
        "machine": machine_facts() | {"threads": 1},
    }
    text = "\n".join(lines) + "\n"
    print(text)
    save_text(RESULTS / "probe_solvers.json", json.dumps(result, indent=1) + "\n")
    save_text(RESULTS / "probe_solvers.md", text)


if __name__ == "__main__":
    cli.run(main)
