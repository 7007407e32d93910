"""What is shown of one dictionary: facts from one pass over the contexts, and given sentences."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from dictionary_learning.command import figures
from dictionary_learning.command.progress import n_of
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.exchange.names import public_name
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.runs.provenance import provenance
from temporal_saes.browser.delphi import DelphiCache
from temporal_saes.browser.options import BrowserOptions
from temporal_saes.browser.page import Browser
from temporal_saes.browser.source import Source
from temporal_saes.experiment.subjects import Subject
from temporal_saes.features import read_activations
from temporal_saes.latents.facts import LatentFacts, gather_facts
from temporal_saes.latents.smoothness import LatentSmoothness
from temporal_saes.naming.names import NameCollector
from temporal_saes.similarity.sentences import Sentence, encode_sentence
from temporal_saes.sparsity import reading_l0


def study(
    subject: Subject,
    options: BrowserOptions,
    source: Source,
    dictionary: Dictionary,
    lm: LanguageModel,
    *,
    explanations: Mapping[int, str],
    scores: Mapping[int, float],
    sentences: Sequence[str],
) -> Browser:
    """Go over the contexts once, and gather all that the pages show.

    Args:
        explanations, scores: by the dictionary's number of a latent.
        sentences: are shown with their latents.

    Raises:
        UserError: the dictionary is of another width than the language model.
    """
    columns = _columns(subject, dictionary, lm)
    latents = range(columns.start, columns.stop) if options.latents is None else set(options.latents)
    smoothness = LatentSmoothness(columns.stop - columns.start)
    names = NameCollector(columns.stop - columns.start, lm.tokenizer)
    delphi = DelphiCache(columns.start, columns.stop - columns.start) if options.delphi else None
    with reading_l0() as l0:
        chunks = names.watching(source.codes(lm, dictionary, columns, smoothness))
        facts = gather_facts(
            chunks if delphi is None else delphi.watching(chunks),
            smoothness,
            dictionary,
            columns,
            lm,
            n_top=options.n_top,
            per_quantile=options.per_quantile,
            context_length=source.context_length,
            seed=options.seed,
        )
    return Browser(
        name=_name(subject),
        about=_about(subject, facts, source),
        facts=facts,
        names=names.result(source.labels),
        shown=sorted(latent - columns.start for latent in latents),
        explanations=explanations,
        scores=scores,
        sentences=_encode(sentences, subject, options, lm, dictionary, columns),
        delphi=delphi,
        made={
            "options": scrub_values(dataclasses.asdict(options)),
            "provenance": provenance(),
            **l0.told(subject.name),
        },
    )


def lend_a_hand(subject: Subject, source: Source, dictionary: Dictionary, lm: LanguageModel) -> None:
    """What a process does for the first one's `study`: it reads and encodes some of the contexts.

    Raises:
        UserError: as `study`.
    """
    columns = _columns(subject, dictionary, lm)
    for _ in source.codes(lm, dictionary, columns, LatentSmoothness(columns.stop - columns.start)):
        pass


def _columns(subject: Subject, dictionary: Dictionary, lm: LanguageModel) -> slice:
    check_width(dictionary, lm)
    return chunk_slice(dictionary, subject.chunk)


def _encode(
    texts: Sequence[str],
    subject: Subject,
    options: BrowserOptions,
    lm: LanguageModel,
    dictionary: Dictionary,
    columns: slice,
) -> list[Sentence]:
    if not texts:
        return []
    reading = dataclasses.replace(subject.reading(options), cache=False)
    activations = read_activations(texts, lm, subject.place, reading)
    pairs = zip(texts, activations, strict=True)
    return [encode_sentence(text, x, dictionary, columns) for text, x in pairs]


def _name(subject: Subject) -> str:
    """The run, and the split if not all latents are shown."""
    run = Path(subject.run_name).name
    return run if subject.split == "all" else f"{run}, {subject.split}"


def _about(subject: Subject, facts: LatentFacts, source: Source) -> dict[str, str]:
    """The facts at the head of the index."""
    return {
        "dictionary": f"{figures.method_of(subject.dict_class)}, {facts.n_latents:,} latents",
        "language model": f"{public_name(subject.model)}, {subject.place}",
        "texts": source.name,
        "read": f"{n_of(facts.examples.n_tokens, 'token')} in {n_of(facts.examples.n_contexts, 'context')}",
    }
