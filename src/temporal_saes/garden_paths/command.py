"""Garden paths: once its end has told how a sentence is to be read, do codes show it?

    python src/experiments/garden_paths.py --run_name tfa --chunk 0
    python src/experiments/garden_paths.py --compare tfa:0 tfa:1 baseline_model

`While the man hunted the deer ran into the woods.` is first read as if the deer were hunted. Two other
sentences end with the same words: one whose comma says the right reading from the start, and one in which the
first reading stays right (`..., it ran into the woods.`). Temporal Feature Analysis (arXiv 2511.01836) finds
the predicted codes of such sentences grouped by the right reading. Here the lean of a code is a number: over
the words that all three end with, its cosine with the right reading's code less that with the wrong one's,
codes taken around their mean over all tokens. Above 0 it leans to the right reading.

A lean has to be held against one that knows no grammar. The right reading also has the garden path's words
side by side (`deer ran`), so every code that looks at neighbours leans to it: compare with the activations,
and with means of earlier tokens (`temporal-saes controls`).

Thirty triples are built in, ten of each kind of ambiguity (an object, a clause, a participle), in English;
--triples reads others. Writes <run>/garden_paths/<triples>_chunk<c>.json with all options and the figure
beside it (PNG and PDF); --compare puts several runs in one figure and tells how much each differs from the
first, triple by triple.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.options import Parser
from temporal_saes.experiment.command import (
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    results_of,
    shared_path,
)
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.results import differences, save_json
from temporal_saes.experiment.subjects import (
    LanguageModels,
    Subject,
    check_one_model,
    subjects_of,
)
from temporal_saes.garden_paths.options import GardenPathOptions
from temporal_saes.garden_paths.result import minus_first, table

EXPERIMENT = "garden_paths"
# the texts are the triples
UNUSED = (
    "dataset",
    "data_path",
    "text_field",
    "label_field",
    "categories",
    "split",
    "max_texts",
    "max_records",
)


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, GardenPathOptions, UNUSED)


def main(argv: Sequence[str] | None = None) -> None:
    """The leans of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the triples, before the language model is loaded
            wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(GardenPathOptions, parser(), argv), run)


def run(options: GardenPathOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    options = dataclasses.replace(options, dataset=options.triples or "built-in")
    subjects = subjects_of(options)
    check_one_model(subjects)
    check_places(subjects, options, EXPERIMENT)

    from temporal_saes.garden_paths.figure import draw
    from temporal_saes.garden_paths.study import study
    from temporal_saes.garden_paths.triples import read_triples

    triples = read_triples(options.triples)
    models = LanguageModels.of(options)
    texts = [text for triple in triples for text in triple]
    cases = [case_of(EXPERIMENT, subject, options, texts) for subject in subjects]

    def measure(subject: Subject) -> Mapping[str, Any]:
        return study(subject, options, triples, models.get(subject))

    results = results_of(cases, options, measure, table, indent=2)
    path = shared_path(cases, options)
    if options.compare:
        save_json(path, differences(results, "minus_first", minus_first), indent=2)
    print_files(draw(results, path))
    return results
