"""One table of what every experiment found about several runs, from the JSON files that they wrote.

    python -m temporal_saes.method_table --checkpoints_path runs/demo --output docs/methods.md
    python -m temporal_saes.method_table --checkpoints_path runs/demo --compare tsae:0 tsae:1 matryoshka:0

Nothing is computed anew: a column is a run's chunk, a row a number of an experiment. Only results of the same
options and the same length of contexts stand in a row; of an experiment with several settings of a data set
the one that most columns have is taken, and the others are named below the table. A result of several seeds
(trainers) is their mean ± standard deviation, any other the experiment's mean ± half of its 95 % interval.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from dictionary_learning.command import cli, figures
from dictionary_learning.command.files import check_writable, read_json, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import BASELINE
from temporal_saes.experiment.results import label

COMMAND = "python -m temporal_saes.method_table"


@dataclass(frozen=True)
class MethodTableOptions:
    """Which results, and where the table goes.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    checkpoints_path: str = option("runs", "folder of the runs with their results", group="results")
    compare: tuple[str, ...] | None = option(
        None, "columns in this order: run:chunk or baseline_model; all if not given", group="results"
    )
    output: str | None = option(None, "file to write, such as docs/methods.md", group="table")

    def __post_init__(self) -> None:
        if self.compare is not None and len(set(self.compare)) < len(self.compare):
            raise UserError(f"--compare {' '.join(self.compare)} names the same thing twice: leave one out.")


class Number(NamedTuple):
    """One number of a result."""

    measure: str
    mean: float | None
    half: float | None = None  # of its interval
    chance: float | None = None


class Result(NamedTuple):
    """What one file says of one column."""

    column: str  # run:chunk, or baseline_model
    title: str  # of the column
    trainer: str
    experiment: str
    dataset: str
    context_length: int  # tokens; what is found depends on it
    setting: str  # the options, to tell settings apart
    started: str
    numbers: list[Number]
    path: Path


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__, prog=COMMAND)
    add_options(made, MethodTableOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Write the table.

    Raises:
        UserError: there are no results, or a column that is asked for has none.
    """
    options = build(MethodTableOptions, vars(parser().parse_args(argv)))
    output = Path(options.output) if options.output else None
    if output is not None:
        if output.is_dir():
            raise UserError(f"--output {output} is a folder: give the name of a file in it.")
        check_writable(output.parent, "--output")
    written = table(read_results(options.checkpoints_path), options.compare)
    if output is None:
        print(written)
    else:
        save_text(output, written)
        say(f"written: {output}")


# --- files to numbers ---


def read_results(folder: str | Path) -> list[Result]:
    """Every result of an experiment or an evaluation in a folder of runs.

    A file that is damaged, or lies where results do and is none, is left out with a line that says why.

    Raises:
        UserError: there are none.
    """
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}: check --checkpoints_path.")
    results: list[Result] = []
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            results += _read(path)
        except UserError as error:
            say(f"left out: {error}")
    if not results:
        raise UserError(f"no experiment has written a result in {folder}: run one, or check the folder.")
    return results


def _read(path: Path) -> list[Result]:
    """The results in a file: none where it is a file of another kind.

    Raises:
        UserError: it is damaged, or has the name of a result and is none.
    """
    content = read_json(path, "a result")
    is_named = path.parent.name in EXPERIMENTS or path.name == "eval_results.json"
    try:
        results = list(_results(content, path)) if isinstance(content, dict) else []
        of_several = isinstance(content, dict) and content.get("experiment") in EXPERIMENTS
        for result in results:
            _check(result)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no result of this version ({reason}): make it again.") from error
    if is_named and not results and not of_several:
        raise UserError(f"{path} holds no result, though it lies where results do: make it again.")
    return results


def _check(result: Result) -> None:
    """Raise a TypeError where the table could not hold the result."""
    kinds: list[tuple[Any, type]] = [(result.dataset, str), (result.context_length, int)]
    for number in result.numbers:
        kinds += [(value, int | float) for value in number[1:] if value is not None]  # type: ignore[misc]
    for value, kind in kinds:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{value!r} in place of {'a number' if kind is not str else 'a name'}")


def _results(content: Mapping[str, Any], path: Path) -> Iterator[Result]:
    if content.get("experiment") in EXPERIMENTS and "subject" in content:
        subject, options = content["subject"], dict(content["options"])
        baseline = subject["trainer_folder"] is None
        options.pop("explanation_path", None)  # of one dictionary each
        yield Result(
            BASELINE if baseline else f"{subject['run_name']}:{subject['chunk']}",
            label(content),
            str(subject["trainer_folder"]),
            content["experiment"],
            options["dataset"],
            subject["context_length"],
            json.dumps(options, sort_keys=True),
            str(content.get("provenance", {}).get("started", "")),
            list(EXPERIMENTS[content["experiment"]](content)),
            path,
        )
    elif "measures" in content and "dict_class" in content and "setting" in content:
        chunks = {"all": 2} | {name: i for i, name in enumerate(n for n in content["measures"] if n != "all")}
        method = figures.method_of(content["dict_class"])
        for split, chunk in chunks.items():
            yield Result(
                f"{content['run']}:{chunk}",
                f"{content['run']}:{chunk} ({method}, {split})",
                f"trainer_{content['options']['trainer']}",
                "evaluation",
                content["setting"]["dataset"],
                content["setting"]["context_length"],
                json.dumps({**content["setting"], "n": content["options"]["max_tokens"]}, sort_keys=True),
                str(content.get("provenance", {}).get("started", "")),
                list(_evaluation(content["measures"][split])),
                path,
            )


def _evaluation(measures: Mapping[str, Any]) -> Iterator[Number]:
    names = {
        "fve_context_mean": "FVE, mean over contexts",
        "cosine": "cosine",
        "l0": "L0",
        "alive": "alive latents",
        "smoothness_lipschitz": "smoothness (lower is smoother)",
        "loss_recovered": "cross-entropy recovered",
    }
    for name, written in names.items():
        if name in measures:
            yield Number(written, measures[name]["value"])


def _interval(measure: str, found: Mapping[str, Any] | None, chance: float | None = None) -> Number:
    """A number with its interval; no number where there is none."""
    if found is None:
        return Number(measure, None)
    high = found.get("high")
    return Number(measure, found["mean"], None if high is None else high - found["mean"], chance)


def _probing(content: Mapping[str, Any]) -> Iterator[Number]:
    for task, found in content["tasks"].items():
        # ten latents a class, as the T-SAE paper, or what is nearest
        one = min(
            found["accuracy"], key=lambda entry: abs(int(entry["k"]) - 10) if _is_number(entry) else 1e9
        )
        yield _interval(f"{task}, k = {one['k']}", one, found["chance"])


def _is_number(entry: Mapping[str, Any]) -> bool:
    return str(entry["k"]).isdigit()


def _map(content: Mapping[str, Any]) -> Iterator[Number]:
    among = {"pos": "other words", "domain": "other texts", "sequence": "all"}
    words = {"pos": "part of speech", "domain": "domain", "sequence": "text"}
    for score in content["scores"]:
        wanted = among.get(score["colouring"])
        if (score["space"], score["measure"], score["among"]) == ("features", "neighbours", wanted):
            yield Number(
                f"neighbours with the same {words[score['colouring']]}, among {wanted}",
                score["value"],
                None if score.get("high") is None else score["high"] - score["value"],
                score["chance"],
            )


def _sequences(content: Mapping[str, Any]) -> Iterator[Number]:
    for group, words in (("chosen", "chosen latents"), ("all", "all latents")):
        scores = content["scores"][group]
        yield _interval(
            f"bits about the passage above shifted boundaries, {words}", scores["above_shifted"], 0
        )
        yield _interval(f"tokens from a boundary to the switch, {words}", scores["distance"])
        yield _interval(f"flicker, as a share of any order's, {words}", scores["relative_flicker"], 1)


def _similarity(content: Mapping[str, Any]) -> Iterator[Number]:
    for detector, found in content["detectors"].items():
        one = found["given_number"]
        yield _interval(
            f"boundaries found (F1; chance: at sentence starts), {detector}",
            one["f1"],
            one["chance_f1_sentence_starts"],
        )


def _geometry(content: Mapping[str, Any]) -> Iterator[Number]:
    names = {"effective_rank": "effective rank", "tortuosity": "tortuosity", "slow_share": "slow share"}
    for name, written in names.items():
        yield _interval(written, content["measures"][name])


def _alignment(content: Mapping[str, Any]) -> Iterator[Number]:
    tested = content["n_tested"]
    yield Number("latents tested", tested)
    for view, found in content["views"].items():
        yield Number(f"latents that differ, {view.replace('_', ' ')}", found["significant"])
    yield Number("latents that follow length", content["n_length_latents"])


def _steering(content: Mapping[str, Any]) -> Iterator[Number]:
    found = content["summary"]["while_coherent"]
    control = found["control"]["domain_gain"]
    chance = None if control is None else control["mean"]
    yield _interval(
        "most gain of the domain while coherent (chance: random directions)",
        found["steered"]["domain_gain"],
        chance,
    )


EXPERIMENTS: dict[str, Callable[[Mapping[str, Any]], Iterator[Number]]] = {
    "probing": _probing,
    "tsne": _map,
    "sequence_interpretability": _sequences,
    "similarity": _similarity,
    "temporal_geometry": _geometry,
    "alignment_study": _alignment,
    "steering": _steering,
}
_ORDER = ["evaluation", *EXPERIMENTS]


# --- numbers to a table ---


def table(results: Sequence[Result], compare: Sequence[str] | None = None) -> str:
    """The table in markdown, and below it what was left out.

    Args:
        compare: the columns in their order; all when None, the dense activations last.

    Raises:
        UserError: a column that is asked for has no result.
    """
    titles = {result.column: result.title for result in results}
    columns = list(compare or sorted(titles, key=lambda column: (column == BASELINE, column)))
    for column in columns:
        if column not in titles:
            raise UserError(f"no result is of {column!r}: choose from {' '.join(sorted(titles))}.")
    results = [result for result in results if result.column in columns]
    lines = [
        f"| experiment | measure | chance | {' | '.join(_escaped(titles[column]) for column in columns)} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    left_out: list[Result] = []
    for experiment in _ORDER:
        places = sorted({(r.dataset, r.context_length) for r in results if r.experiment == experiment})
        for dataset, length in places:
            title = f"{experiment}, {dataset}"
            if [name for name, _ in places].count(dataset) > 1:
                title += f", contexts of {length}"
            here = (experiment, dataset, length)
            of_all = [r for r in results if (r.experiment, r.dataset, r.context_length) == here]
            taken = _one_setting(of_all)
            left_out += [result for result in of_all if result not in taken]
            lines += _rows(title, taken, columns)
    notes = [
        "± is the standard deviation over trainers (seeds) where a column has several of them, else half of "
        "the 95 % interval that the experiment gives; – is what a column has no result of.",
        *(f"Left out, as another setting has more columns or is newer: {r.path.name}." for r in left_out),
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(f"- {note}" for note in dict.fromkeys(notes)) + "\n"


def _one_setting(results: Sequence[Result]) -> list[Result]:
    """Those of the setting that most columns have (of equals the newest); a trainer's newest result."""
    by_setting: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_setting[result.setting].append(result)
    best = max(
        by_setting.values(), key=lambda some: (len({r.column for r in some}), max(r.started for r in some))
    )
    newest: dict[tuple[str, str], Result] = {}
    for result in sorted(best, key=lambda result: result.started):
        newest[result.column, result.trainer] = result
    return list(newest.values())


def _rows(title: str, results: Sequence[Result], columns: Sequence[str]) -> Iterator[str]:
    measures = dict.fromkeys(number.measure for result in results for number in result.numbers)
    for i, measure in enumerate(measures):
        cells, chances = [], []
        for column in columns:
            found = [
                number
                for result in results
                if result.column == column
                for number in result.numbers
                if number.measure == measure and number.mean is not None
            ]
            cells.append(_cell(found))
            chances += [number.chance for number in found if number.chance is not None]
        yield f"| {title if i == 0 else ''} | {measure} | {_chance(chances)} | {' | '.join(cells)} |"


def _cell(numbers: Sequence[Number]) -> str:
    """Several trainers as mean ± standard deviation, one with its own interval."""
    values = [number.mean for number in numbers if number.mean is not None]
    if not values:
        return "–"
    centre, half = (mean(values), stdev(values)) if len(values) > 1 else (values[0], numbers[0].half)
    return _digits(centre) + (f" ± {half:.{_decimals(centre)}f}" if half is not None else "")


def _chance(chances: Sequence[float]) -> str:
    """One number, or from the lowest to the highest where columns have their own."""
    ends = [min(chances), max(chances)] if chances else []
    return " to ".join(dict.fromkeys(map(_digits, ends)))


def _digits(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return 3 if abs(value) < 10 else 1


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    cli.run(main)
