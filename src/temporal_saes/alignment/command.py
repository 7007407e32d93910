"""Alignment study: which latents tell preferred answers from rejected ones, and which only their length?

    python src/experiments/alignment_study.py --run_name demo --chunk 2
    python src/experiments/alignment_study.py --run_name gemma --dataset hh-rlhf --explanation_path gemma.json
    python src/experiments/alignment_study.py --compare demo:0 demo:1 baseline_model --dataset pairs.jsonl

A latent's value for an answer is its mean over the tokens of the answer (--pool says what else it can be);
the prompt, which both answers share, is read and not counted. Chosen minus rejected gives a paired
difference, tested over the pairs (T-SAE, arXiv 2511.05541, alignment study; there the first 1,000 pairs of
HH-RLHF harmless-base).

test       the paired t test, because it is about the mean difference, which is what is reported, and because
           its intercept form controls for confounds; Cohen's d_z is the effect size; Benjamini and Hochberg's
           q holds the false discovery rate over all tested latents. Flipping the signs of whole pairs gives a
           second p, which needs no distribution and is corrected for all latents.
length     is tested like a latent. Every latent is tested again at equal length (intercept of a regression on
           the difference in tokens), at equal surface (the same on length and sentences, questions, lines,
           word length, digits, punctuation and capitals at once), and in pairs of about equal length alone.
           Latents whose difference goes with the difference in length are flagged.

Writes <run>/alignment_study/<dataset>_chunk<c>.json with all options and every tested latent, the figure
(PNG and PDF), and one page (HTML) with the latents that differ most either way, on examples. --compare puts
several runs in one figure and page; results that were computed with the same options are taken from there.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser
from dictionary_learning.command.progress import n_of, say
from dictionary_learning.errors import UserError
from temporal_saes.alignment.names import named
from temporal_saes.alignment.options import UNUSED, AlignmentOptions
from temporal_saes.alignment.pairs import PreferenceData, load_pairs
from temporal_saes.experiment.command import (
    Case,
    check_places,
    command_line,
    print_files,
    read_options,
    save_answer,
    shared_path,
)
from temporal_saes.experiment.names import beside
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.results import asked, finished
from temporal_saes.experiment.subjects import LanguageModels, Subject, subjects_of
from temporal_saes.experiment.texts import chat_template
from temporal_saes.latents.explanations import find_explanations

if TYPE_CHECKING:
    from temporal_saes.alignment.study import Found

EXPERIMENT = "alignment_study"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, AlignmentOptions, UNUSED)


def main(argv: Sequence[str] | None = None) -> None:
    """Study one run, or compare several.

    Raises:
        UserError: a mistake in the options, the run, the explanations or the pairs, before the language
            model is loaded wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(AlignmentOptions, parser(), argv), run)


def run(options: AlignmentOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    subjects = subjects_of(options)
    explanations = [_explanations(subject, options) for subject in subjects]
    check_places(subjects, options, EXPERIMENT)
    data = _pairs(options, subjects)

    from temporal_saes.alignment.figure import draw_comparison
    from temporal_saes.alignment.page import comparison_page
    from temporal_saes.alignment.result import summary
    from temporal_saes.alignment.study import study

    def rename(path: Path, question: Mapping[str, Any]) -> Path:
        return named(path, options)

    models = LanguageModels.of(options)
    cases, results = [], []
    for subject, known in zip(subjects, explanations, strict=True):
        path = named(subject.result_path(options, EXPERIMENT), options)
        case = Case(EXPERIMENT, subject, _question(subject, options, data), path)
        # without explanations of its own a comparison takes a result that was given some
        explained = {"explanations_sha256": _digest(known)} if known else {}
        result = finished(path, case.question | explained) if options.compare else None
        if result is None:
            found = study(subject, options, data, models.get(subject), known)
            result = _save(case, found, known, options)
        else:
            say(f"{subject.name}: taken from {path}.json")
        cases.append(case)
        results.append(result)
        print(summary(result))
    if options.compare:
        path = shared_path(cases, options, rename)
        files = draw_comparison(results, path)
        page = beside(path, ".html")
        save_text(page, comparison_page(results, files[0].read_bytes()))
        print_files([page, *files])
    return results


def _pairs(options: AlignmentOptions, subjects: Sequence[Subject]) -> PreferenceData:
    """The preference pairs that the flags name.

    Raises:
        UserError: as `load_pairs` and `chat_template`.
    """
    data = load_pairs(
        options.dataset,
        data_path=options.data_path,
        subset=options.subset,
        split=options.split,
        chosen_field=options.chosen_field,
        rejected_field=options.rejected_field,
        prompt_field=options.prompt_field,
        max_pairs=options.max_pairs,
        max_records=options.max_records,
        chat=chat_template(options, subjects),
    )
    if data.skipped:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in data.skipped.items())
        found = f"{n_of(len(data.pairs), 'pair')} of {n_of(data.n_read, 'record')}"
        say(f"{options.dataset}: {found}; skipped {reasons}.")
    return data


def _question(subject: Subject, options: AlignmentOptions, data: PreferenceData) -> dict[str, Any]:
    """All that decides the numbers."""
    question = asked(subject, options, [f"{pair.id:016x}" for pair in data.pairs])
    for name in (*UNUSED, "explanation_path"):
        del question["options"][name]
    return question


def _digest(explanations: Mapping[int, str]) -> str:
    return hashlib.sha256(json.dumps(explanations).encode()).hexdigest()


def _explanations(subject: Subject, options: AlignmentOptions) -> dict[int, str]:
    """What the subject's latents are said to mean; checked against the size of the dictionary."""
    path = options.explanation_path
    if path is not None and options.compare:
        raise UserError(
            "--explanation_path is for one dictionary, and --compare has several: put an explanations.json "
            "beside the weights of each, and leave the flag out."
        )
    if subject.is_baseline:
        if path is not None:
            raise UserError(
                "--explanation_path explains latents, and dense activations have none: leave it out."
            )
        return {}
    dictionary = subject.load_dictionary("cpu")
    assert dictionary is not None
    return find_explanations(path, subject.trainer_folder, dictionary.dict_size)


def _save(
    case: Case, found: "Found", explanations: Mapping[int, str], options: AlignmentOptions
) -> dict[str, Any]:
    """Write everything about one subject; returns what its JSON holds."""
    from temporal_saes.alignment.figure import draw_study
    from temporal_saes.alignment.page import study_page

    about = {
        "explanation_path": options.explanation_path,
        "explanations_sha256": _digest(explanations),
    }
    result = save_answer(case, about | found.told, indent=1)
    figures = draw_study(found.differences, result, case.path)
    page = beside(case.path, ".html")
    save_text(page, study_page(result, found.shown, figures[0].read_bytes()))
    print_files([beside(case.path, ".json"), page, *figures])
    return result
