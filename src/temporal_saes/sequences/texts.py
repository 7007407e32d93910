"""The joined texts: documents to draw passages from, or given passages, cut to the length asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dictionary_learning.errors import UserError
from temporal_saes.experiment.texts import joined_texts, labelled_texts
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.passages import MIN_TOKENS, Joined, Passage, join, passage_tokens
from temporal_saes.sequences.options import SequenceOptions

if TYPE_CHECKING:
    from dictionary_learning.language_model import LanguageModel


def read_documents(options: SequenceOptions, context_length: int) -> list[LabelledText]:
    """The documents to draw passages from, once it is known that the passages fit the context.

    Raises:
        UserError: they do not, or as `labelled_texts`.
    """
    longest, _ = passage_tokens(context_length, options.n_passages)
    if options.passage_tokens is not None and options.passage_tokens > longest:
        raise UserError(
            f"{options.n_passages} passages of --passage_tokens {options.passage_tokens} do not fit into "
            f"{context_length} tokens: give at most {longest}, or fewer --n_passages."
        )
    if options.passage_tokens is not None:
        passage_tokens(options.room(context_length), options.n_passages)
    return labelled_texts(options, options.max_texts)


def open_texts(
    options: SequenceOptions,
    given: Joined | None,
    documents: Sequence[LabelledText],
    lm: "LanguageModel",
    context_length: int,
) -> list[Joined]:
    """The joined texts: the given one, or so many that are drawn.

    Raises:
        UserError: a given passage is shorter than asked, or as `joined_texts`.
    """
    if given is not None:
        given = join([_cut(passage, lm, options, context_length) for passage in given.passages])
    return joined_texts(options, given, documents, lm, context_length, room=options.room(context_length))


def _cut(passage: Passage, lm: "LanguageModel", options: SequenceOptions, context_length: int) -> Passage:
    """A given passage, cut after the tokens asked for.

    Raises:
        UserError: it has fewer.
    """
    offsets = lm.tokenize([passage.text], context_length, offsets=True).offsets
    assert offsets is not None
    ends = [end for start, end in offsets[0] if end > start]  # without the BOS
    asked = options.passage_tokens
    if len(ends) < (asked or MIN_TOKENS):
        remedy = f"a smaller --passage_tokens, {MIN_TOKENS} at least" if asked else "more of it"
        raise UserError(
            f"{passage.source} has {len(ends)} tokens, and {asked or MIN_TOKENS} are asked for: give a "
            f"longer text or {remedy}."
        )
    return passage if asked is None else passage._replace(text=passage.text[: ends[asked - 1]])
