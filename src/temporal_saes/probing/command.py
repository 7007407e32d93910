"""Probing: what a few latents tell about domain, part of speech, and which text a token is from.

    python src/experiments/probing.py --run_name demo --chunk 0
    python src/experiments/probing.py --compare demo:0 demo:1 baseline_model --dataset demo

Three tasks (T-SAE, arXiv 2511.05541), each a logistic regression on the k latents a class whose class
mean exceeds the rest most:

semantics  one token of a text -> the text's class (domain, topic, subject)
syntax     the same token -> its part of speech, tagged in the whole text
context    25 tokens of each of 160 texts -> which text; tokens of one text are in both parts

The paper takes the last token of a truncated text. A text's own last token is mostly a full stop, so
each text is cut after a random token of its second half: what a causal model and a dictionary make of
that token depends on nothing behind it, so the language model runs over the uncut text, once.
Semantics and syntax keep texts apart: none gives a token to the training and to the test part.

How latents are chosen decides much for the model's own activations, of which a few are larger than all others
together: --direction and --scale_choice choose otherwise.

--pool says what stands for a text in semantics: one token, or the mean of its codes over the usable ones of
several tokens in front of it, of its sentence, of its turn of a chat, or of the whole text as far as the
context reaches. A dictionary that was trained on means over spans encodes the mean activation.

Writes <run>/probing/<dataset>_chunk<c>.json with all options, and the figure beside it. --compare puts
several runs in one figure; results that were computed with the same options are taken from there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
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
from temporal_saes.experiment.subjects import LanguageModels, Subject, subjects_of
from temporal_saes.experiment.texts import chat_template, identities, labelled_texts
from temporal_saes.labelled.parts_of_speech import check_tagger
from temporal_saes.probing.options import ProbingOptions
from temporal_saes.probing.result import table

EXPERIMENT = "probing"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, ProbingOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Probe one run, or compare several.

    Raises:
        UserError: a mistake in the options, the run or the data, before the language model is loaded
            wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(ProbingOptions, parser(), argv), run)


def run(options: ProbingOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    subjects = subjects_of(options)
    check_places(subjects, options, EXPERIMENT)
    if "syntax" in options.tasks:
        check_tagger()

    from temporal_saes.probing.figure import draw
    from temporal_saes.probing.last_read import LastRead
    from temporal_saes.probing.study import study

    texts = labelled_texts(options, options.n_texts, chat=chat_template(options, subjects))
    models = LanguageModels.of(options)
    cases = [case_of(EXPERIMENT, subject, options, identities(texts), _rename) for subject in subjects]
    last = LastRead(options, texts)

    def probe(subject: Subject) -> dict[str, Any]:
        which = subjects.index(subject) + 1, len(subjects)
        return study(subject, options, texts, models.get(subject), last, which)

    results = results_of(cases, options, probe, table, indent=2)
    print_files(draw(results, shared_path(cases, options, _rename)))
    return results


def _rename(path: Path, question: Mapping[str, Any]) -> Path:
    """With how latents are chosen and tokens pooled, where that is not as usual."""
    asked = question["options"]
    pool = asked.get("pool", "token")
    words = [asked["direction"]] if asked["direction"] != "auto" else []
    words += ["scaled"] if asked["scale_choice"] else []
    words += [f"pool{pool}"] if pool != "token" else []
    return path.with_name("_".join([path.name, *words]))
