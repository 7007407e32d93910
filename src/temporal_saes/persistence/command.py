"""Persistence: how long latents stay on, and which of them come back when a dictionary is trained again.

    python src/experiments/persistence.py --compare tsae:0 tsae:1 matryoshka:0 matryoshka:1
    python src/experiments/persistence.py --run_name tsae --chunk 0 --lags 1 4 16

Persistence of a latent at a distance d is P(on at t + d | on at t) - P(on at t + d | off at t), over the
positions of one text: 1 for a latent that holds through its texts, 0 for one that is on and off without
memory, whatever its frequency. Beside it stands the same with the tokens of each text in random order: that
is what the tokens of a text have in common however far apart, and only what lies above it has to do with
their order. Latents that are on at fewer than --min_on tokens are left out.

Stability is the decoder cosine of a latent with its partner in another seed, all of the chunk matched one to
one (Hungarian matching), beside that of random directions. A run's seeds are its trainers (--seeds of the
training), and all of them are read; intervals are over seeds, and with one seed there is no stability.

Writes <run>/persistence/<dataset>_chunk<c>.json with all options and the figure beside it (PNG and PDF);
--compare puts several runs in one figure and tells how much each differs from the first, seed by seed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError
from temporal_saes.experiment.command import (
    Case,
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    results_of,
    shared_path,
)
from temporal_saes.experiment.results import differences, save_json
from temporal_saes.experiment.subjects import (
    LanguageModels,
    Subject,
    check_one_model,
    cut_alike,
    resolve,
    subjects_of,
)
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.persistence.options import PersistenceOptions
from temporal_saes.persistence.result import minus_first, table

EXPERIMENT = "persistence"
UNUSED = ("max_texts",)  # each of --n_texts is read


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, PersistenceOptions, UNUSED)


def main(argv: Sequence[str] | None = None) -> None:
    """Persistence and stability of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    options = read_options(PersistenceOptions, parser(), argv)
    subjects = cut_alike(subjects_of(options))
    check_one_model(subjects)
    _check(subjects, options)
    check_places(subjects, options, EXPERIMENT)
    seeds = {subject: seeds_of(subject, options) for subject in subjects}

    from temporal_saes.persistence.figure import draw
    from temporal_saes.persistence.study import study

    texts = [text.text for text in labelled_texts(options, options.n_texts, needs_label=False)]
    models = LanguageModels.of(options)
    cases = [_case(subject, options, texts, seeds[subject]) for subject in subjects]

    def measure(subject: Subject) -> Mapping[str, Any]:
        return study(seeds[subject], options, texts, models.get(subject))

    results = results_of(cases, options, measure, table, indent=2)
    path = shared_path(cases, options)
    if options.compare:
        save_json(path, differences(results, "minus_first", minus_first), indent=2)
    print_files(draw(results, path))


def _check(subjects: Sequence[Subject], options: PersistenceOptions) -> None:
    for subject in subjects:
        if subject.is_baseline:
            raise UserError("dense activations are never off, so that nothing can persist: name runs only.")
    longest, length = max(options.lags), subjects[0].context_length
    if longest > length - 2:
        raise UserError(
            f"--lags {longest} does not fit into texts of {length} tokens: give at most {length - 2}, or a "
            "longer --context_length."
        )


def seeds_of(subject: Subject, options: PersistenceOptions) -> list[Subject]:
    """The same chunk of all dictionaries of the subject's run, in the order of their trainers."""
    assert subject.trainer_folder is not None
    folders = subject.trainer_folder.parent.glob("trainer_*")
    numbers = sorted(
        int(name) for folder in folders if (name := folder.name.removeprefix("trainer_")).isdigit()
    )
    found = []
    for number in numbers or [options.trainer]:
        asked = dataclasses.replace(options, run_name=subject.run_name, chunk=subject.chunk, trainer=number)
        found.append(dataclasses.replace(resolve(asked), context_length=subject.context_length))
    return found


def _case(
    subject: Subject, options: PersistenceOptions, texts: Sequence[str], seeds: Sequence[Subject]
) -> Case:
    """The case, which the weights of all seeds decide."""
    case = case_of(EXPERIMENT, subject, options, texts)
    weights = [seed.weights_hash() for seed in seeds]
    return case._replace(question={**case.question, "weights_of_seeds": weights})
