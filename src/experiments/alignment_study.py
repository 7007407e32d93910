"""Alignment study: which latents tell preferred answers from rejected ones, and which only tell their length?

    python src/experiments/alignment_study.py --run_name demo --chunk 2
    python src/experiments/alignment_study.py --run_name gemma --dataset hh-rlhf --explanation_path gemma.json
    python src/experiments/alignment_study.py --compare demo:0 demo:1 baseline_model --dataset pairs.jsonl

A latent's value for an answer is its mean over the tokens of the answer; the prompt, which both answers
share, is read and not counted. Chosen minus rejected gives a paired difference, tested over the pairs (T-SAE,
arXiv 2511.05541, alignment study; there the first 1,000 pairs of HH-RLHF harmless-base).

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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.runs.provenance import provenance
from temporal_saes.alignment.examples import Shown, examples_of
from temporal_saes.alignment.figures import draw_comparison, draw_study
from temporal_saes.alignment.page import comparison_page, study_page
from temporal_saes.alignment.pairs import PreferenceData, load_pairs
from temporal_saes.alignment.responses import ChooseResponses, fit, response_means
from temporal_saes.alignment.result import RANKINGS, result_of, summary, top_latents
from temporal_saes.alignment.study import Settings, study
from temporal_saes.experiment.names import slug
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.results import asked, comparison_path, finished
from temporal_saes.experiment.subjects import LanguageModels, Subject, resolve, resolve_several
from temporal_saes.features import extract_features
from temporal_saes.latents.explanations import find_explanations
from temporal_saes.sparsity import reading_l0

EXPERIMENT = "alignment_study"
PAPER_PAIRS = 1000
# options of other experiments, which preference pairs have no use for
UNUSED = ("text_field", "label_field", "categories", "max_texts")
# what makes other pairs of a data set; they stand in the names of files
NAMED = ("subset", "split", "max_pairs", "max_records")


@dataclass(frozen=True)
class AlignmentOptions(ExperimentOptions):
    """What the alignment study can be asked."""

    dataset: str = option(
        "demo", "demo, hh-rlhf, a local file, or any preference pairs on the hub", group="data"
    )
    subset: str | None = option(
        None, "folder of hh-rlhf instead of harmless-base, or configuration of other hub data", group="data"
    )
    chosen_field: str = option("chosen", "field of a record with the preferred answer", group="data")
    rejected_field: str = option("rejected", "field of a record with the other answer", group="data")
    prompt_field: str = option(
        "prompt", "field with what both answer; where it is missing, what they share", group="data"
    )
    max_pairs: int = option(PAPER_PAIRS, "pairs: the first of the data set that can be used", group="data")
    fdr: float = option(0.05, "false discovery rate below which a latent counts as different", group="tests")
    min_active: int = option(
        10, "pairs in which a latent has to differ at all in order to be tested", group="tests"
    )
    length_correlation: float = option(
        0.3, "|r| with the difference in length from which a latent is a length latent", group="tests"
    )
    length_tolerance: float = option(
        0.1, "matched pairs: largest difference in length, as a share of the longer answer", group="tests"
    )
    n_flips: int = option(
        1000, "random sign flips for the p that is corrected for all latents", group="tests"
    )
    explanation_path: str | None = option(
        None, "explanations.json of the dictionary; the one beside its weights if not given", group="result"
    )
    rank_by: str = option(
        "effect",
        "what makes a top latent: raw d_z, raw mean difference, or d_z at equal length",
        group="result",
        choices=RANKINGS,
    )
    n_latents: int = option(10, "top latents shown each way", group="result")
    n_examples: int = option(3, "example pairs shown for each top latent", group="result")
    compare: tuple[str, ...] | None = option(
        None, "several runs in one figure: run, run:chunk or baseline_model", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("max_pairs", 10), ("min_active", 2), ("n_flips", 1), ("n_latents", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)} is too small: give at least {least}.")
        if self.n_examples < 0:
            raise UserError(f"--n_examples {self.n_examples} cannot be negative.")
        for name in ("fdr", "length_correlation", "length_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)} must lie between 0 and 1.")


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, AlignmentOptions, skip=UNUSED)
    return made


def main(argv: list[str] | None = None) -> None:
    """Study one run, or compare several.

    Raises:
        UserError: a mistake in the options, the run, the explanations or the pairs, before the language
            model is loaded wherever it can be seen then.
    """
    options = build(AlignmentOptions, vars(parser().parse_args(argv)))
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    explanations = [_explanations(subject, options) for subject in subjects]
    paths = [_path(subject.result_path(options, EXPERIMENT), options) for subject in subjects]
    for path in paths:
        check_writable(path.parent)
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
    )
    if data.skipped:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in data.skipped.items())
        say(f"{options.dataset}: {len(data.pairs):,} pairs of {data.n_read:,} records; skipped {reasons}.")
    models = LanguageModels(options.device)
    results = []
    for subject, path, known in zip(subjects, paths, explanations, strict=True):
        question = _question(subject, options, data)
        # without explanations of its own a comparison takes a result that was given some
        explained = {"explanations_sha256": _digest(known)} if known else {}
        result = finished(path, question | explained) if options.compare else None
        if result is None:
            result = _study(subject, options, data, models, known, question, path)
        else:
            say(f"{subject.name}: taken from {path}.json")
        results.append(result)
        print(summary(result))
    if options.compare:
        path = _path(comparison_path(subjects, options, EXPERIMENT), options)
        files = draw_comparison(results, path)
        _save(path, ".html", comparison_page(results, files[0].read_bytes()))
        for file in files:
            print(file)


def _question(subject: Subject, options: AlignmentOptions, data: PreferenceData) -> dict[str, Any]:
    """All that decides the numbers."""
    question = asked(subject, options, [f"{pair.id:016x}" for pair in data.pairs])
    for name in (*UNUSED, "explanation_path"):
        del question["options"][name]
    return question


def _digest(explanations: dict[int, str]) -> str:
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


def _path(path: Path, options: AlignmentOptions) -> Path:
    """The path with all that makes another result of the same run and data set."""
    parts = [slug(options.subset)] if options.subset is not None else []
    parts += [f"split-{slug(options.split)}"] if options.split is not None else []
    parts += [f"{options.max_pairs}pairs"] if options.max_pairs != PAPER_PAIRS else []
    parts += [f"{options.max_records}records"] if options.max_records is not None else []
    shared = {field.name for field in fields(ExperimentOptions)}
    others = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name not in {*shared, *NAMED, "explanation_path", "compare"}
        and getattr(options, field.name) != field.default
    }
    if others:
        parts.append(hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:6])
    return path.with_name("_".join([path.name, *parts]))


def _study(
    subject: Subject,
    options: AlignmentOptions,
    data: PreferenceData,
    models: LanguageModels,
    explanations: dict[int, str],
    question: dict[str, Any],
    path: Path,
) -> dict[str, Any]:
    """Read the answers, test, and write everything about one subject."""
    lm = models.get(subject)
    dictionary = subject.load_dictionary(lm.device)
    reading = subject.reading(options)
    texts = fit(data.pairs, lm, reading)
    with reading_l0() as l0:
        features = extract_features(
            [text.text for text in texts],
            lm,
            subject.layer,
            reading,
            dictionary,
            subject.chunk,
            choose=ChooseResponses(texts),
        )
    means = response_means(texts, features)
    n_tokens_P2 = np.array([text.n_tokens for text in texts]).reshape(-1, 2)[means.pair_P]
    first = chunk_slice(dictionary, subject.chunk).start if dictionary is not None else 0
    settings = Settings(
        fdr=options.fdr,
        min_active=options.min_active,
        length_correlation=options.length_correlation,
        length_tolerance=options.length_tolerance,
        n_flips=options.n_flips,
        seed=options.seed,
    )
    found = study([data.pairs[p] for p in means.pair_P], n_tokens_P2, means, first, settings)
    top = top_latents(found, options.rank_by, options.n_latents)
    shown: dict[int, Shown] = {}
    if dictionary is not None:
        for latents, sign in zip(top, (1, -1), strict=True):
            for f in latents:
                latent = int(found.latent_F[f])
                shown[latent] = examples_of(
                    latent - first, sign, data.pairs, texts, features, means, options.n_examples
                )
    result = {
        "experiment": EXPERIMENT,
        **question,
        "name": subject.name,
        **l0.told(subject.name),
        "explanation_path": options.explanation_path,
        "explanations_sha256": _digest(explanations),
        **result_of(found, top, means, data, options.fdr, explanations, shown),
        "outlier_share": features.outlier_share,
        "provenance": provenance(),
    }
    _save(path, ".json", json.dumps(result, indent=1) + "\n")
    figures = draw_study(found, result, path)
    _save(path, ".html", study_page(result, shown, figures[0].read_bytes()))
    for file in figures:
        print(file)
    return result


def _save(path: Path, suffix: str, text: str) -> None:
    target = path.with_name(path.name + suffix)
    save_text(target, text)
    print(target)


if __name__ == "__main__":
    cli.run(main)
