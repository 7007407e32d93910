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

Explanations of latents (--explanation_path, or explanations.json beside the weights) are their labels.

Writes <run>/sequence_interpretability/<data set>_chunk<c>_<select>-<hash of the options>.json with every
number and all options, a page on which each token can be read (.html), and the figure (.png, .pdf).
--compare puts several runs on one page; results that were computed with the same options are taken from
there.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build
from dictionary_learning.command.progress import say
from dictionary_learning.runs.provenance import provenance
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.options import (
    LanguageModels,
    Subject,
    check_one_model,
    resolve,
    resolve_several,
)
from temporal_saes.experiment.results import asked, comparison_path, finished, named_for, told_apart
from temporal_saes.sequences.figure import draw
from temporal_saes.sequences.page import sequence_page
from temporal_saes.sequences.study import (
    SETS,
    SequenceOptions,
    check_subject,
    given_passages,
    open_texts,
    read_documents,
    study,
)

EXPERIMENT = "sequence_interpretability"


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, SequenceOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Latents along joined passages of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    options = build(SequenceOptions, vars(parser().parse_args(argv)))
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    check_one_model(subjects)
    explanations = [check_subject(subject, options) for subject in subjects]
    given = given_passages(options)
    if given is not None:
        options = named_for(given, options)
    for subject in subjects:
        check_writable(subject.result_path(options, EXPERIMENT).parent)
    context_length = min(subject.context_length for subject in subjects)
    documents = [] if given else read_documents(options, context_length)
    models = LanguageModels(options.device)
    texts = open_texts(options, given, documents, models.get(subjects[0]), context_length)
    read = [text.text for text in texts]
    results = []
    for subject, said in zip(subjects, explanations, strict=True):
        question = asked(subject, options, [*read, json.dumps(said)])
        path = _path(subject, options, question)
        result = finished(path, question) if options.compare else None
        if result is None:
            found = study(subject, options, texts, said, models.get(subject))
            result = {
                "experiment": EXPERIMENT,
                **question,
                "name": subject.name,
                **found,
                "provenance": provenance(),
            }
            _save(path, result)
        else:
            say(f"{subject.name}: taken from {path}.json")
        results.append(result)
        print(_table(result))
    if options.compare:
        path = told_apart(comparison_path(subjects, options, EXPERIMENT), options.select, results[0])
        differences = _differences(results)
        _save(path, differences)
        print(_difference_table(differences))
    _show(results, path)


def _path(subject: Subject, options: SequenceOptions, question: Mapping[str, Any]) -> Path:
    return told_apart(subject.result_path(options, EXPERIMENT), options.select, question)


def _save(path: Path, content: Mapping[str, Any]) -> None:
    save_text(path.with_name(path.name + ".json"), json.dumps(content, ensure_ascii=False) + "\n")


def _show(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the figure and the page."""
    drawn = draw(results, path)
    page = path.with_name(path.name + ".html")
    save_text(page, sequence_page(results, drawn[0].read_bytes()))
    for file in (*drawn, page):
        print(file)


# --- what a person reads in the terminal ---

COLUMNS = {
    "information": "bits",
    "shuffled": "any order",
    "shifted": "shifted",
    "switches": "switches",
    "delay": "delay",
    "distance": "distance",
    "flicker": "flicker",
    "relative_flicker": "of luck",
    "on_share": "on",
}


def _table(result: Mapping[str, Any]) -> str:
    """Means over texts as text, a row a set of latents."""
    lines = [f"{result['name']}: {result['n_texts']} texts, {result['n_tokens']:,} tokens"]
    lines.append(f"{'latents':16}" + "".join(f"{name:>10}" for name in COLUMNS.values()))
    for which in SETS:
        scores = result["scores"][which]
        cells = (scores[name] for name in COLUMNS)
        row = "".join(f"{'–' if cell is None else format(cell['mean'], '.3f'):>10}" for cell in cells)
        lines.append(f"{which:7}{scores['n_latents']['mean']:>9,.0f}{row}")
    return "\n".join(lines)


def _differences(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much each later subject differs from the first, over the texts in which both have the score."""
    first = results[0]
    return {
        "experiment": EXPERIMENT,
        "first": first["name"],
        "subjects": [result["name"] for result in results],
        "n_texts": first["n_texts"],
        "options": first["options"],
        "minus_first": {
            result["name"]: {
                which: {name: _paired(result, first, which, name) for name in COLUMNS} for which in SETS
            }
            for result in results[1:]
        },
        "interval": INTERVAL,
        "provenance": provenance(),
    }


def _paired(result: Mapping[str, Any], first: Mapping[str, Any], which: str, name: str) -> Any:
    pairs = zip(result["scores_of_texts"][which], first["scores_of_texts"][which], strict=True)
    values = [
        own[name] - other[name] for own, other in pairs if own[name] is not None and other[name] is not None
    ]
    return as_json(mean_interval(values))


def _difference_table(differences: Mapping[str, Any]) -> str:
    lines = [f"chosen latents, minus those of {differences['first']}, over pairs of one text"]
    for name, sets in differences["minus_first"].items():
        cells = [
            f"{COLUMNS[measure]} {_number(sets['chosen'][measure])}"
            for measure in ("information", "distance", "flicker", "relative_flicker")
        ]
        lines.append(f"  {name}: {', '.join(cells)}")
    return "\n".join(lines)


def _number(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "–"
    half = "" if interval["high"] is None else f" ± {interval['high'] - interval['mean']:.3f}"
    return f"{interval['mean']:+.3f}{half}"


if __name__ == "__main__":
    cli.run(main)
