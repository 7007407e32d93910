"""Similarity kernels: does a code see the events of a text?

    python src/experiments/similarity.py --run_name demo --chunk 0
    python src/experiments/similarity.py --compare demo:0 demo:1 baseline_model
    python src/experiments/similarity.py --compare demo:0 baseline_model --passages one.txt two.txt three.txt

The kernel of a text is the cosine between the codes of its positions, after their mean over the text is
taken away; special tokens and norm outliers are left out (Temporal Feature Analysis, arXiv 2511.01836).
A code that stands for what a text is about has a block for every event. Chunk 0 is the high-level split
or the predicted codes, chunk 1 the rest or the novel codes, baseline_model the activations themselves.

So that the blocks need not be judged by eye, passages of documents of different classes are joined into
one text, and their boundaries looked for in the kernel, in two ways:

novelty   peaks along the diagonal of how much more alike the positions before are to each other, and those
          behind to each other, than these to those (Foote's checkerboard); above the text's mean by
          --peak_height standard deviations
segments  the dendrogram that joins neighbouring segments by their mean cosine, cut at --cut

Both are also told the number of boundaries, so that no threshold matters. A boundary counts as found
within --tolerance tokens. Chance is the F1 of as many boundaries at random positions; passages are whole
sentences, so a second chance level has them at random sentence starts. With --word_order shuffled the words
of each passage stand in a random order: boundaries that are found as well there are found by words alone.

Writes <run>/similarity/<dataset>_chunk<c>.json with all options and the figure beside it (PNG and PDF);
--compare puts several runs in one figure and tells how much each differs from the first, text by text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError
from temporal_saes.experiment.command import (
    case_of,
    check_places,
    command_line,
    print_files,
    read_options,
    save_answer,
    shared_path,
)
from temporal_saes.experiment.over_seeds import over_seeds
from temporal_saes.experiment.results import differences, named_for, save_json
from temporal_saes.experiment.subjects import LanguageModels, check_one_model, subjects_of
from temporal_saes.experiment.texts import given_passages, joined_identities, joined_texts, labelled_texts
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.passages import passage_tokens, shuffled
from temporal_saes.similarity.options import SimilarityOptions
from temporal_saes.similarity.result import difference_table, f1_minus_first, table
from temporal_saes.sparsity import reading_l0

EXPERIMENT = "similarity"


def parser() -> Parser:
    """The command line."""
    return command_line(__doc__, SimilarityOptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Kernels and boundaries of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    over_seeds(EXPERIMENT, read_options(SimilarityOptions, parser(), argv), run)


def run(options: SimilarityOptions) -> list[dict[str, Any]]:
    """One trainer of each run; its results."""
    subjects = subjects_of(options)
    check_one_model(subjects)
    given = given_passages(options)
    if given is not None:
        options = named_for(given, options)
    check_places(subjects, options, EXPERIMENT)
    context_length = min(subject.context_length for subject in subjects)
    documents = [] if given else _read_documents(options, context_length)

    from temporal_saes.similarity.figure import draw
    from temporal_saes.similarity.study import read_texts, study

    models = LanguageModels.of(options)
    joined = joined_texts(options, given, documents, models.get(subjects[0]), context_length)
    if options.word_order == "shuffled":
        joined = [shuffled(one, [options.seed, i]) for i, one in enumerate(joined)]
    read = joined_identities(joined, given)
    cases = [case_of(EXPERIMENT, subject, options, read, _rename) for subject in subjects]
    results, shown = [], []
    for case in cases:
        # the figure needs the kernel, which is too large to be kept with the result
        lm = models.get(case.subject)
        with reading_l0() as l0:
            texts = read_texts(case.subject, options, joined, lm)
        found = {**l0.told(case.subject.name), **study(options, joined, texts)}
        results.append(save_answer(case, found, indent=2))
        shown.append(texts[options.show])
        print(table(results[-1]))
    path = shared_path(cases, options, _rename)
    if options.compare:
        differ = differences(results, "f1_minus_first", f1_minus_first)
        save_json(path, differ, indent=2)
        if results[0]["detectors"]:
            print(difference_table(differ))
    print_files(draw(results, shown, joined[options.show], options, path))
    return results


def _rename(path: Path, question: Mapping[str, Any]) -> Path:
    """With the order of the words, where it is not the texts' own."""
    order = question["options"]["word_order"]
    return path if order == "kept" else path.with_name(f"{path.name}_{order}")


def _read_documents(options: SimilarityOptions, context_length: int) -> list[LabelledText]:
    """The documents to draw passages from, once it is known that the windows fit into these."""
    _, shortest = passage_tokens(context_length, options.n_passages)
    if options.half_width > shortest:
        raise UserError(
            f"--half_width {options.half_width} reaches beyond the shortest passage, {shortest} tokens: give "
            f"at most {shortest}, or fewer --n_passages."
        )
    return labelled_texts(options, options.max_texts)
