"""Temporal geometry: how many dimensions a part of the activations has, how it bends, and how slow it is.

    python src/experiments/temporal_geometry.py --run_name demo --chunk 0
    python src/experiments/temporal_geometry.py --compare demo:0 demo:1 baseline_model

What a chunk's latents add to the reconstruction is a path through the space of activations, a vector a
token. Temporal Feature Analysis (arXiv 2511.01836) finds the predicted part (chunk 0) in few dimensions,
straight and slow, and the novel part (chunk 1) in many, winding and fast. Here the same numbers are taken
of any dictionary's chunks and of the activations (baseline_model), over texts of the same length:

effective rank      exp of the entropy of the singular values over their sum (Roy and Vetterli 2007), of the
                    positions of one text; and the participation ratio, (sum of variances)² / sum of squares.
                    Both are of the centred path, and at most the number of positions less one
tortuosity          length of the path over the distance of its ends, over pieces of --steps steps;
                    1 is straight, independent positions have about --steps
slow share          of the variance over positions, at frequencies of at most --slow times Nyquist's; and the
                    cosine of the part with the slow and with the fast motion of the activations
autocorrelation     over lags, around the mean over all texts
dimension           over texts at one position of them: participation ratio, without the bias of few texts

Special tokens and norm outliers are left out; the positions behind them move up. Writes
<run>/temporal_geometry/<dataset>_chunk<c>.json with all options and the figure beside it (PNG and PDF);
--compare puts several runs in one figure.
"""

from collections.abc import Sequence
from typing import Any

from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError
from temporal_saes.experiment.command import (
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    save_answer,
    shared_path,
)
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.subjects import LanguageModels, check_one_model, cut_alike, subjects_of
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.geometry.options import GeometryOptions
from temporal_saes.geometry.result import table
from temporal_saes.sparsity import reading_l0

EXPERIMENT = "temporal_geometry"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, GeometryOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """The geometry of one run's part, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(GeometryOptions, parser(), argv), run)


def run(options: GeometryOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    subjects = cut_alike(subjects_of(options))
    check_one_model(subjects)
    context_length = subjects[0].context_length
    _check_context(context_length, options)
    check_places(subjects, options, EXPERIMENT)

    from temporal_saes.geometry.figure import draw
    from temporal_saes.geometry.study import study
    from temporal_saes.geometry.trajectories import long_texts

    candidates = labelled_texts(options, options.max_texts)
    models = LanguageModels.of(options)
    texts = long_texts(candidates, models.get(subjects[0]), context_length, options.n_texts)
    cases = [case_of(EXPERIMENT, subject, options, texts) for subject in subjects]
    results = []
    for case in cases:
        lm = models.get(case.subject)
        with reading_l0() as l0:
            found = study(case.subject, options, texts, lm)
        results.append(save_answer(case, {**l0.told(case.subject.name), **found}, indent=2))
    print(table(results))
    print_files(draw(results, shared_path(cases, options)))
    return results


def _check_context(context_length: int, options: GeometryOptions) -> None:
    longest = max(options.steps, options.max_lag)
    if longest > context_length - 2:
        raise UserError(
            f"--steps {options.steps} and --max_lag {options.max_lag} do not fit into texts of "
            f"{context_length} tokens: give at most {context_length - 2}, or a longer --context_length."
        )
