"""Numbers to a table: a column is a run's chunk, a row a number of an experiment."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean, stdev

from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import BASELINE
from temporal_saes.method_table.results import EXPERIMENTS, Number, Result

_ORDER = ["evaluation", *EXPERIMENTS]


def table(results: Sequence[Result], compare: Sequence[str] | None = None) -> str:
    """The table in markdown, and below it what was left out.

    Args:
        compare: the columns in their order; all when None, the dense activations last.

    Raises:
        UserError: a column that is asked for has no result.
    """
    titles = {result.column: result.title for result in results}
    columns = sorted(titles, key=lambda column: (column.startswith(BASELINE), column))
    if compare is not None:
        columns = [column for asked in compare for column in _of_name(asked, columns)]
    results, older = _of_newest_weights([result for result in results if result.column in columns])
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
        *(f"Left out, as newer results are of other weights: {r.path.name} of {r.column}." for r in older),
        *(f"Left out, as another setting has more columns or is newer: {r.path.name}." for r in left_out),
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(f"- {note}" for note in dict.fromkeys(notes)) + "\n"


def _of_name(asked: str, columns: Sequence[str]) -> list[str]:
    """The column of that name, or all that have its name and a place behind it.

    Raises:
        UserError: there is none.
    """
    found = [column for column in columns if column == asked or column.startswith(f"{asked}, ")]
    if not found:
        raise UserError(f"no result is of {asked!r}: choose from {'; '.join(columns)}.")
    return found


def _of_newest_weights(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Those of the weights of which a trainer's newest result is, and the others: it was trained again."""
    newest: dict[tuple[str, str], str] = {}
    for result in sorted(results, key=lambda result: result.started):
        if result.weights is not None:
            newest[_trainer(result)] = result.weights
    kept: list[Result] = []
    older: list[Result] = []
    for result in results:
        is_older = result.weights is not None and result.weights != newest[_trainer(result)]
        (older if is_older else kept).append(result)
    return kept, older


def _trainer(result: Result) -> tuple[str, str]:
    """What has weights: all chunks of a trainer are of the same."""
    return re.sub(r":\d+", "", result.column, count=1), result.trainer


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
