"""What the `main` of every experiment is made of, in the order in which it is used.

    options = read_options(MapOptions, parser(), argv)
    subjects = subjects_of(options)
    check_places(subjects, options, EXPERIMENT)                 # all that can be seen before anything is slow
    texts, models = labelled_texts(options), LanguageModels.of(options)
    cases = [case_of(EXPERIMENT, subject, options, identities(texts)) for subject in subjects]
    results = results_of(cases, options, lambda subject: study(subject, texts, models.get(subject)), table)
    print_files(draw(results, shared_path(cases, options)))

One with numbers that seeds spread calls `over_seeds`, which calls all but the first line for each seed.
docs/adding-an-experiment.md goes through an example.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dictionary_learning.command.files import check_writable
from dictionary_learning.command.lock import in_turn
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.processes import n_processes
from dictionary_learning.command.progress import say
from temporal_saes.experiment.options import ComparedOptions, ExperimentOptions
from temporal_saes.experiment.results import asked, comparison_path, finished, save_json
from temporal_saes.experiment.subjects import Subject
from temporal_saes.sparsity import reading_l0

Options = TypeVar("Options", bound=ExperimentOptions)
Rename = Callable[[Path, Mapping[str, Any]], Path]
"""From a path and what is asked to another, where more than subject, data and seed tell results apart."""


def command_line(description: str | None, cls: type[ExperimentOptions], skip: Sequence[str] = ()) -> Parser:
    """The parser of an experiment: its description, and a flag for each of its options."""
    made = Parser(description=description)
    add_options(made, cls, skip)
    return made


def read_options(cls: type[Options], parser: Parser, argv: Sequence[str] | None) -> Options:
    """The options that a command line gives; None is that of the process.

    Raises:
        UserError: a value that the options refuse.
    """
    return build(cls, vars(parser.parse_args(argv)))


def check_places(subjects: Iterable[Subject], options: ExperimentOptions, experiment: str) -> None:
    """Raise a UserError unless the results of all subjects can be written."""
    for subject in subjects:
        check_writable(subject.result_path(options, experiment).parent, "--output_dir")


class Case(NamedTuple):
    """One subject, what is asked of it, and where the answer goes."""

    experiment: str
    subject: Subject
    question: dict[str, Any]
    path: Path
    """Without a suffix."""


def as_it_is(path: Path, question: Mapping[str, Any]) -> Path:
    """For results that subject, data and seed tell apart."""
    return path


def case_of(
    experiment: str,
    subject: Subject,
    options: ExperimentOptions,
    texts: Iterable[str],
    rename: Rename = as_it_is,
) -> Case:
    """The case of a subject.

    Args:
        texts: what is read, or what stands for it, as for `asked`.
    """
    question = asked(subject, options, texts)
    return Case(experiment, subject, question, rename(subject.result_path(options, experiment), question))


def answered(
    case: Case, options: ComparedOptions, table: Callable[[Mapping[str, Any]], str] | None = None
) -> dict[str, Any] | None:
    """For `--compare`: the result that is there already and answers the same question; None without one.

    Args:
        table: what is printed of a result; one that lacks what this needs is of another version.
    """
    result = finished(case.path, case.question) if options.compare else None
    if result is None:
        return None
    try:
        if table is not None:
            table(result)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        say(f"{case.path}.json is no result of this version ({reason}), so it is made again.")
        return None
    say(f"{case.subject.name}: taken from {case.path}.json")
    return result


def save_answer(case: Case, found: Mapping[str, Any], **style: Any) -> dict[str, Any]:
    """Write what was found, with all that it depends on, to `<path>.json`; returns the whole.

    Args:
        style: as `json.dumps` takes it.
    """
    from dictionary_learning.runs.provenance import provenance

    result = {
        "experiment": case.experiment,
        **case.question,
        "name": case.subject.name,
        **found,
        "provenance": provenance(),
    }
    save_json(case.path, result, **style)
    return result


def results_of(
    cases: Iterable[Case],
    options: ComparedOptions,
    study: Callable[[Subject], Mapping[str, Any]],
    table: Callable[[Mapping[str, Any]], str],
    **style: Any,
) -> list[dict[str, Any]]:
    """The result of each case, as it comes: `answered` already, or what `study` finds, written down.

    Of several processes that are asked for the same with `--compare` one finds it, and the others wait.

    Args:
        table: what is printed of a result.
        style: as `json.dumps` takes it.
    """
    results = []
    for case in cases:
        # those that belong together have to be at work together
        is_shared = bool(options.compare) and n_processes() == 1
        with in_turn(case.path) if is_shared else nullcontext():
            result = answered(case, options, table)
            if result is None:
                with reading_l0() as l0:
                    found = study(case.subject)
                result = save_answer(case, {**l0.told(case.subject.name), **found}, **style)
        results.append(result)
        print(table(result))
    return results


def shared_path(cases: Sequence[Case], options: ComparedOptions, rename: Rename = as_it_is) -> Path:
    """Where the figure and the page go, without a suffix: beside the one result, or to the comparisons."""
    first = cases[0]
    if not options.compare:
        return first.path
    subjects = [case.subject for case in cases]
    return rename(comparison_path(subjects, options, first.experiment), first.question)


def print_files(files: Iterable[Path]) -> None:
    """Say which files were written, one a line."""
    for file in files:
        print(file)
