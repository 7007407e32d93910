"""Naming: the words, titles and classes that latents are held over, and how well the words find passages.

    python src/experiments/naming.py --run_name demo
    python src/experiments/naming.py --compare tsae:2 matryoshka:2 tfa:2 --dataset demo

A latent that follows a passage fires at words that say nothing of it ("in", "be"), so the tokens where it is
strongest do not describe it: its passages do. For every latent the stretches of tokens over which it stays on
are found, and

words        which they hold more than the rest of the corpus: log odds with an informative Dirichlet prior
             (Monroe et al. 2008); no language model is asked
titles       of the documents, and classes, that it prefers in the same sense, with their lift
stretch      the median length of the stretch that one of its tokens is in
information  bits that the latent, on or off at a token, tells about the document of the token
telling      stretch times information: what a browser of latents is ordered by

Score: from half of the texts a list of words and one of the tokens where the latent is strongest, both of
--list_length entries; over the other half, how often a window of 32 tokens over which the latent is held
(--held of its tokens, or one) has more entries of the list in it than another window (area under the curve,
chance .5).

Writes <run>/naming/<dataset>_chunk<c>.json with the name of every latent that is active, and the figure
beside it; the report and the page of sequences show the names from there. --compare puts several runs in one
figure; results that were computed with the same options are taken from there.
"""

from collections.abc import Sequence
from typing import Any

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
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.subjects import LanguageModels, Subject, subjects_of
from temporal_saes.experiment.texts import identities, labelled_texts
from temporal_saes.naming.options import EXPERIMENT, NamingOptions
from temporal_saes.naming.result import table

MAX_TEXTS = 1100  # of the data set, where no --max_texts says: a hundred for each of the demo's classes


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, NamingOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Name the latents of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(NamingOptions, parser(), argv), run)


def run(options: NamingOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    subjects = subjects_of(options)
    for subject in subjects:
        if subject.is_baseline:
            raise UserError(f"{subject.name} has no latents to name: give the run of a dictionary.")
    check_places(subjects, options, EXPERIMENT)

    from temporal_saes.naming.figure import draw
    from temporal_saes.naming.study import study

    texts = labelled_texts(options, options.max_texts or MAX_TEXTS, needs_label=False)
    models = LanguageModels.of(options)
    # titles are part of what comes out
    read = [*identities(texts), *(text.title for text in texts)]
    cases = [case_of(EXPERIMENT, subject, options, read) for subject in subjects]

    def name(subject: Subject) -> dict[str, Any]:
        return study(subject, options, texts, models.get(subject))

    results = results_of(cases, options, name, table, ensure_ascii=False)
    print_files(draw(results, shared_path(cases, options)))
    return results
