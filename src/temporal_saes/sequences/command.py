"""Latents along joined passages: do they switch where the subject does, and stay in between?

    python src/experiments/sequence_interpretability.py --run_name demo --chunk 0
    python src/experiments/sequence_interpretability.py --compare tsae:0 tsae:1 matryoshka:0 tfa:0 tfa:1
    python src/experiments/sequence_interpretability.py --run_name demo --passages one.txt two.txt three.txt

Passages of documents of different classes are joined into one text, or files of your own (T-SAE, arXiv
2511.05541, Figures 1 and 4). The figure shows the values of a few latents of each dictionary over
the tokens of one such text. They are chosen by a rule, the same for all (--select):

contrast  for one passage after another, the latent whose mean over it exceeds that over the rest most
mean      the highest means over the text; the rule knows nothing of the passages

So that nothing has to be judged by eye, all --n_texts texts are scored, for the chosen latents and for all
that are on somewhere:

information  bits that a latent, on or off, tells about the passage of a token; beside it what it would tell
             if the tokens stood in any order, and if the boundaries were elsewhere in the text (latents are
             then chosen anew)
delay        tokens from a boundary to the place where a latent that is mostly on in one of the two passages
             and mostly off in the other changes
flicker      changes between on and off for each token inside a passage; and as a share of those in any
             order of the passage's tokens

Explanations of latents (--explanation_path, or explanations.json beside the weights) are their labels, or the
words they are held over, where experiments/naming.py has found them.

Writes <run>/sequence_interpretability/<data set>_chunk<c>_<select>-<hash of the options>.json with every
number and all options, a page on which each token can be read (.html), and the figure (.png, .pdf).
--compare puts several runs on one page; results that were computed with the same options are taken from
there.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError
from temporal_saes.experiment.command import (
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    results_of,
    shared_path,
)
from temporal_saes.experiment.names import beside
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.results import differences, named_for, save_json, told_apart
from temporal_saes.experiment.subjects import (
    LanguageModels,
    Subject,
    check_latents,
    check_one_model,
    subjects_of,
)
from temporal_saes.experiment.texts import given_passages, joined_identities
from temporal_saes.latents.explanations import find_explanations
from temporal_saes.sequences.options import SequenceOptions
from temporal_saes.sequences.result import difference_table, minus_first, table

EXPERIMENT = "sequence_interpretability"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, SequenceOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Latents along joined passages of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(SequenceOptions, parser(), argv), run)


def run(options: SequenceOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    subjects = subjects_of(options)
    check_one_model(subjects)
    explanations = {subject: _explanations(subject, options) for subject in subjects}
    given = given_passages(options)
    if given is not None:
        options = named_for(given, options)
    check_places(subjects, options, EXPERIMENT)

    from temporal_saes.naming.found import names_of, naming_result
    from temporal_saes.sequences.figure import draw
    from temporal_saes.sequences.page import sequence_page
    from temporal_saes.sequences.study import study
    from temporal_saes.sequences.texts import open_texts, read_documents

    context_length = min(subject.context_length for subject in subjects)
    held_over = {
        subject: {
            latent: name.held_over
            for latent, name in names_of(naming_result(subject.folder, subject.weights_hash())).items()
        }
        for subject in subjects
    }
    documents = [] if given else read_documents(options, context_length)
    models = LanguageModels.of(options)
    texts = open_texts(options, given, documents, models.get(subjects[0]), context_length)
    read = joined_identities(texts, given)
    cases = [
        case_of(EXPERIMENT, subject, options, [*read, json.dumps(said), *_told(held_over[subject])], _rename)
        for subject, said in explanations.items()
    ]

    def score(subject: Subject) -> dict[str, Any]:
        return study(subject, options, texts, explanations[subject], held_over[subject], models.get(subject))

    results = results_of(cases, options, score, table, ensure_ascii=False)
    path = shared_path(cases, options, _rename)
    if options.compare:
        differ = differences(results, "minus_first", minus_first)
        save_json(path, differ, ensure_ascii=False)
        print(difference_table(differ))
    drawn, page = draw(results, path), beside(path, ".html")
    save_text(page, sequence_page(results, drawn[0].read_bytes()))
    print_files([*drawn, page])
    return results


def _rename(path: Path, question: Mapping[str, Any]) -> Path:
    """With the rule and all other options, so that results do not overwrite each other."""
    return told_apart(path, question["options"]["select"], question)


def _told(held_over: Mapping[int, Sequence[str]]) -> list[str]:
    """What stands for the words; nothing for none, so that earlier results still count."""
    return [json.dumps(held_over)] if held_over else []


def _explanations(subject: Subject, options: SequenceOptions) -> dict[int, str]:
    """The explanations of the subject's latents, once those asked for are known to exist.

    Raises:
        UserError: a latent is out of range or not in the chunk, or the explanations are of another
            dictionary.
    """
    dictionary = subject.load_dictionary("cpu")
    if dictionary is None:
        if options.latents or options.explanation_path:
            raise UserError(
                f"{subject.name} has no latents: leave --latents and --explanation_path out, or give a run."
            )
        return {}
    check_latents(options.latents or (), subject, dictionary)
    return find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)
