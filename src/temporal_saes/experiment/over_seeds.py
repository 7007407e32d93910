"""An experiment on several seeds of each run: every one as always, then means and spread of its numbers."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
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
from temporal_saes.experiment.results import (
    MODEL,
    colours,
    comparison_path,
    figure_label,
    save_json,
    told_apart,
)
from temporal_saes.experiment.subjects import Subject, subjects_of

Options = TypeVar("Options", bound=SeedOptions)
Result = Mapping[str, Any]
_COLUMNS = 3  # of the figure
_OF_DATA = ("dataset", "data_path", "text_field", "label_field", "categories")  # which an experiment may set


def over_seeds(experiment: str, options: Options, run: Callable[[Options], Sequence[Result]]) -> None:
    """Run an experiment, for each of `--trainers` where they are given, and show the spread of its numbers.

    Writes `<runs>/comparisons/<experiment>/<...>_seeds-<hash of the options>.json` with the figure beside it.

    Args:
        run: the experiment on one trainer of each run; the results of its subjects, in their order.

    A run with a single trainer, such as a control, and a dictionary that is of no run have one value and no
    spread.

    Raises:
        UserError: as `run`; or a run has not got one of the trainers, which is seen before the first begins.
    """
    from dictionary_learning.runs.provenance import provenance

    if options.trainers is None:
        run(options)
        return
    first, *others = (dataclasses.replace(options, trainer=i, trainers=None) for i in options.trainers)
    subjects = subjects_of(first)
    alone = {subject.name for subject in subjects if _is_alone(subject)}
    if all(subject.is_baseline or subject.name in alone for subject in subjects):
        raise UserError(f"{subjects[0].name} was not trained several times: leave --trainers out.")
    _check_lengths(subjects, alone)
    if options.compare and alone:
        kept = [name for name, one in zip(options.compare, subjects, strict=True) if one.name not in alone]
        others = [dataclasses.replace(one, compare=tuple(kept)) for one in others]
    for one in others:
        subjects_of(one)
    results = []
    for number, one in enumerate((first, *others), start=1):
        say(f"trainer_{one.trainer}, {number} of {1 + len(others)}")
        results.append(list(run(one)))
    found = spread(options.trainers, results)
    question = {"options": {**results[0][0]["options"], "trainers": list(options.trainers)}}
    of_data = {name: value for name, value in question["options"].items() if name in _OF_DATA}
    as_read = dataclasses.replace(first, **of_data)
    place = [[one.model, one.lm_dtype, one.layer, one.site, one.context_length] for one in subjects]
    asked = {"options": question["options"] | {"place": place}}
    path = told_apart(comparison_path(subjects, as_read, experiment), "seeds", asked)
    told = {"of": _weights(options.trainers, results), "provenance": provenance()}
    save_json(path, {"experiment": experiment, **question, **found, **told}, indent=1)
    print(table(found))
    print_files([beside(path, ".json"), *draw(found, results[0], path)])


def _weights(trainers: Sequence[int], results: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """What the numbers of each subject are of: its language model and place, and the weights of each seed."""
    found: dict[str, Any] = {}
    for trainer, some in zip(trainers, results, strict=True):
        for result in some:
            subject = {name: value for name, value in result["subject"].items() if name != "trainer_folder"}
            first = {"subject": subject, MODEL: result.get(MODEL), "weights_sha256": {}}
            own = found.setdefault(str(result["name"]), first)
            own["weights_sha256"][str(trainer)] = result.get("weights_sha256")
    return found


def _is_alone(subject: Subject) -> bool:
    """Whether its run has no other trainer, or it is of no run: a folder, a file or a name on the hub."""
    return not subject.is_baseline and len(list(subject.folder.glob("trainer_*/config.json"))) <= 1


def _check_lengths(subjects: Sequence[Subject], alone: Collection[str]) -> None:
    """Refuse a run with one trainer that would cut the texts of the first seeds alone."""
    of_others = min(subject.context_length for subject in subjects if subject.name not in alone)
    for subject in subjects:
        if subject.name in alone and subject.context_length < of_others:
            raise UserError(
                f"{subject.name} has one trainer and reads {subject.context_length} tokens where the others "
                f"read {of_others}: give --context_length {subject.context_length}."
            )


def spread(trainers: Sequence[int], results: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """Every number of every subject over its seeds, and its difference to the first subject's, seed by seed.

    Args:
        results: of each trainer the results of the subjects; what has one trainer is in the first alone.

    Returns:
        a dict with "measures": {measure: {subject: {"by_trainer", "mean", "minus_first"}}}. Intervals are
        t-intervals over the seeds; of what was not trained there is one value.
    """
    names = [str(result["name"]) for result in results[0]]
    values: dict[str, dict[str, dict[int, float]]] = {}
    for trainer, some in zip(trainers, results, strict=True):
        for result in some:
            for number in OF_EXPERIMENT[result["experiment"]](result):
                own = values.setdefault(number.measure, {}).setdefault(str(result["name"]), {})
                own[trainer] = number.value
    in_all = set(names).intersection(*({str(one["name"]) for one in some} for some in results))
    untrained = {str(one["name"]) for one in results[0] if one["subject"]["trainer_folder"] is None}
    fixed = untrained | (set(names) - in_all)  # have one value, which stands against each seed
    measures: dict[str, dict[str, Any]] = {}
    for measure, of_subjects in values.items():
        measures[measure] = {}
        for name in (name for name in names if name in of_subjects):
            of_seeds = list(of_subjects[name].values())[: 1 if name in fixed else None]
            minus = None if name == names[0] else _differences(of_subjects, name, names[0], fixed, trainers)
            measures[measure][name] = {
                "by_trainer": {str(trainer): value for trainer, value in of_subjects[name].items()},
                "mean": as_json(mean_interval(of_seeds)),
                "minus_first": None if minus is None else as_json(mean_interval(minus)),
            }
    return {
        "first": names[0],
        "subjects": names,
        "measures": measures,
        "interval": "t-interval, 95 %, over seeds",
    }


def _differences(
    of_subjects: Mapping[str, Mapping[int, float]],
    name: str,
    first: str,
    fixed: Collection[str],
    trainers: Sequence[int],
) -> list[float]:
    """One subject's values less those of the first one, seed by seed."""
    of_both = []
    for one in (name, first):
        known = of_subjects.get(one, {})
        of_both.append(
            dict.fromkeys(trainers, next(iter(known.values()))) if known and one in fixed else known
        )
    ours, theirs = of_both
    differences = [ours[i] - theirs[i] for i in trainers if i in ours and i in theirs]
    return differences[:1] if name in fixed and first in fixed else differences


def table(found: Mapping[str, Any]) -> str:
    """A line for each subject of each measure: mean, and difference to the first, each ± half an interval.

    It says where a number is of fewer seeds than others of its subject.
    """
    wide = max(map(len, [*found["measures"], "measure"]), default=7) + 2
    names = max(map(len, found["subjects"])) + 2
    lines = [f"{'measure':<{wide}}{'':<{names}}{'mean over seeds':>18}{'minus ' + found['first']:>24}"]
    of_all = found["measures"].values()
    n_seeds = {
        name: max((len(some[name]["by_trainer"]) for some in of_all if name in some), default=0)
        for name in found["subjects"]
    }
    for measure, of_subjects in found["measures"].items():
        told = measure
        for name, one in of_subjects.items():
            minus = in_words(one["minus_first"], sign="+") if one["minus_first"] else ""
            n = len(one["by_trainer"])
            fewer = f"  of {n} of {n_seeds[name]} seeds" if n < n_seeds[name] else ""
            lines.append(f"{told:<{wide}}{name:<{names}}{in_words(one['mean']):>18}{minus:>24}{fewer}")
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
            fig.axes[0].scatter([], [], color=colour, label=figure_label(result))
        figures.legend_below(fig, most=columns)
        return figures.save(fig, path, pdf=True)
