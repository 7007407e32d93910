"""An experiment on several seeds of each run: every one as always, then means and spread of its numbers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dictionary_learning.command import figures
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from temporal_saes.experiment.command import print_files
from temporal_saes.experiment.intervals import as_json, in_words, mean_interval
from temporal_saes.experiment.names import beside
from temporal_saes.experiment.numbers import OF_EXPERIMENT
from temporal_saes.experiment.options import SeedOptions
from temporal_saes.experiment.results import colours, comparison_path, label, save_json, told_apart
from temporal_saes.experiment.subjects import subjects_of

Options = TypeVar("Options", bound=SeedOptions)
Result = Mapping[str, Any]
_COLUMNS = 3  # of the figure


def over_seeds(experiment: str, options: Options, run: Callable[[Options], Sequence[Result]]) -> None:
    """Run an experiment, for each of `--trainers` where they are given, and show the spread of its numbers.

    Writes `<runs>/comparisons/<experiment>/<...>_seeds-<hash of the options>.json` with the figure beside it.

    Args:
        run: the experiment on one trainer of each run; the results of its subjects, in their order.

    Raises:
        UserError: as `run`; or a run has not got one of the trainers, which is seen before the first begins.
    """
    if options.trainers is None:
        run(options)
        return
    each = [dataclasses.replace(options, trainer=i, trainers=None) for i in options.trainers]
    subjects = [subjects_of(one) for one in each]
    if all(subject.is_baseline for subject in subjects[0]):
        raise UserError(f"{subjects[0][0].name} was not trained, so it has no seeds: leave --trainers out.")
    results = []
    for number, (trainer, one) in enumerate(zip(options.trainers, each, strict=True), start=1):
        say(f"trainer_{trainer}, {number} of {len(each)}")
        results.append(list(run(one)))
    found = spread(options.trainers, results)
    question = {"options": {**results[0][0]["options"], "trainers": list(options.trainers)}}
    path = told_apart(comparison_path(subjects[0], each[0], experiment), "seeds", question)
    save_json(path, {"experiment": experiment, **question, **found}, indent=1)
    print(table(found))
    print_files([beside(path, ".json"), *draw(found, results[0], path)])


def spread(trainers: Sequence[int], results: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """Every number of every subject over its seeds, and its difference to the first subject's, seed by seed.

    Args:
        results: of each trainer the results of the subjects.

    Returns:
        a dict with "measures": {measure: {subject: {"by_trainer", "mean", "minus_first"}}}. Intervals are
        t-intervals over the seeds; of what was not trained there is one value.
    """
    names = [str(result["name"]) for result in results[0]]
    values: dict[str, dict[str, dict[int, float]]] = {}
    for trainer, some in zip(trainers, results, strict=True):
        for name, result in zip(names, some, strict=True):
            for number in OF_EXPERIMENT[result["experiment"]](result):
                values.setdefault(number.measure, {}).setdefault(name, {})[trainer] = number.value
    untrained = {
        name for name, one in zip(names, results[0], strict=True) if one["subject"]["trainer_folder"] is None
    }
    measures: dict[str, dict[str, Any]] = {}
    for measure, of_subjects in values.items():
        first = of_subjects.get(names[0], {})
        measures[measure] = {
            name: {
                "by_trainer": {str(trainer): value for trainer, value in own.items()},
                "mean": as_json(mean_interval(list(own.values())[: 1 if name in untrained else None])),
                "minus_first": None
                if name == names[0]
                else as_json(mean_interval([own[i] - first[i] for i in own if i in first])),
            }
            for name, own in of_subjects.items()
        }
    return {
        "first": names[0],
        "subjects": names,
        "measures": measures,
        "interval": "t-interval, 95 %, over seeds",
    }


def table(found: Mapping[str, Any]) -> str:
    """A line for each subject of each measure: mean, and difference to the first, each ± half an interval."""
    wide = max(map(len, [*found["measures"], "measure"]), default=7) + 2
    names = max(map(len, found["subjects"])) + 2
    lines = [f"{'measure':<{wide}}{'':<{names}}{'mean over seeds':>18}{'minus ' + found['first']:>24}"]
    for measure, of_subjects in found["measures"].items():
        told = measure
        for name, one in of_subjects.items():
            minus = in_words(one["minus_first"], sign="+") if one["minus_first"] else ""
            lines.append(f"{told:<{wide}}{name:<{names}}{in_words(one['mean']):>18}{minus:>24}")
            told = ""
    return "\n".join(lines)


def draw(found: Mapping[str, Any], results: Sequence[Result], path: Path) -> list[Path]:
    """A panel a measure: a dot a seed, the mean with its interval beside them.

    Args:
        results: of one trainer, for names and colours.

    Returns:
        the files written.
    """
    measures = found["measures"]
    rows = max(1, -(-len(measures) // _COLUMNS))
    columns = min(_COLUMNS, max(1, len(measures)))
    with figures.style():
        size = (3.2 * columns + 0.6, 2.3 * rows + 0.9)
        fig, axes = figures.subplots(rows, columns, figsize=size, squeeze=False)
        for axis in list(axes.flat)[len(measures) :]:
            axis.set_axis_off()
        for axis, (measure, of_subjects) in zip(axes.flat, measures.items(), strict=False):
            for at, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
                one = of_subjects.get(result["name"])
                if one is None:
                    continue
                seeds = list(one["by_trainer"].values())
                axis.scatter([at - 0.15] * len(seeds), seeds, s=14, color=colour, alpha=0.6, linewidth=0)
                mean = one["mean"]
                error = None if mean["high"] is None else mean["high"] - mean["mean"]
                axis.errorbar(at + 0.15, mean["mean"], yerr=error, fmt="o", markersize=5, color=colour)
            axis.set_title(measure, fontsize=9)
            axis.set_xticks([])
            axis.set_xlim(-0.6, len(results) - 0.4)
        for result, colour in zip(results, colours(results), strict=True):
            fig.axes[0].scatter([], [], color=colour, label=label(result))
        fig.legend(loc="outside lower center", ncols=min(len(results), 3))
        return figures.save(fig, path, pdf=True)
