"""The section of a text coloured by latents: one that is given, or two held-out documents."""

from collections.abc import Sequence
from itertools import zip_longest

from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.subjects import resolve
from temporal_saes.features import extract_features
from temporal_saes.naming.found import names_of
from temporal_saes.pages.page import Html, element, missing
from temporal_saes.pages.text_latents import Part, Shown, join_parts, look, opening, two_documents
from temporal_saes.pages.token_colours import legend, panel, whole_text_steadiness
from temporal_saes.report.held_out import held_out_records, some_paragraphs
from temporal_saes.report.options import ReportOptions
from temporal_saes.report.run_files import RunFiles


def tokens_section(run: RunFiles, options: ReportOptions, text: str | None) -> list[Html | None]:
    """The same text several times, coloured by high-level and by low-level latents side by side."""
    title = element("h2", "Latents on a text")
    try:
        shown = latents_on_text(run, options, text)
    except UserError as error:
        say(f"warning: the coloured text is left out: {error}")
        return [title, missing(f"The coloured text is left out: {error}")]
    names = names_of(run.naming)
    by_split: dict[str, list[Html]] = {}
    for latent in shown.latents:
        name = names.get(latent.number)
        words = name.held_over if name is not None else []
        by_split.setdefault(latent.split, []).append(panel(shown, latent, words))
    side_by_side = [one for row in zip_longest(*by_split.values()) for one in row if one is not None]
    return [
        title,
        element("p", _rule(shown)),
        element("p", whole_text_steadiness(shown)),
        _not_read(shown),
        element("div", *side_by_side, class_="panels"),
        legend(),
        *_origins(shown.parts),
    ]


def latents_on_text(run: RunFiles, options: ReportOptions, text: str | None) -> Shown:
    """Choose the latents of the run to show on `text`, or on two of its held-out documents.

    Raises:
        UserError: the weights, the language model or (without `text`) the documents cannot be had.
    """
    asked = ExperimentOptions(
        run_name=run.name,
        checkpoints_path=options.checkpoints_path,
        trainer=options.trainer,
        chunk=2,
        lm_batch_size=options.lm_batch_size,
        cache=False,
    )
    subject = resolve(asked)
    field = run.buffer.get("text_field") or "text"
    try:
        records = held_out_records(run.buffer, field)
    except UserError:
        if text is None:
            raise
        records = []
    chosen = two_documents(records) if text is None else []
    lm = LanguageModel.load(subject.model, device=options.device, dtype=subject.lm_dtype, layer=subject.layer)
    lm.truncate(subject.layer)
    parts = [opening(lm, document, field, subject.context_length) for document in chosen]
    if text is not None:
        parts = [Part(text, "the given text", None, None)]
    others = [record for record in records if all(record is not one for one in chosen)]
    texts = [join_parts(parts)[0], *some_paragraphs(others, field, options.held_out_texts)]
    dictionary = subject.load_dictionary(lm.device)
    assert dictionary is not None
    features = extract_features(
        texts,
        lm,
        subject.place,
        subject.reading(asked),
        dictionary,
    )
    return look(parts, features, texts, dictionary.splits() or {"latents": slice(0, dictionary.dict_size)})


def _rule(shown: Shown) -> str:
    groups = " and of the ".join(
        {"high": "high-level", "low": "low-level"}.get(s, s) for s in shown.steadiness
    )
    groups = "latents" if groups == "latents" else f"{groups} latents"
    if len(shown.parts) > 1:
        rule = (
            f"Two held-out documents of different domains, joined. Of the {groups}, the one is shown for "
            "each document whose mean activation there exceeds that on the other document most."
        )
    else:
        rule = (
            f"Of the {groups}, the two are shown whose mean activation on the text exceeds that on held-out "
            f"texts ({shown.n_held_out:,} tokens) most."
        )
    return (
        f"{rule} The rule does not look at the order of tokens, so steady and flickering latents are "
        "equally likely to be shown."
    )


def _not_read(shown: Shown) -> Html | None:
    end = max((stop for _, stop in shown.tokens.offsets), default=0)
    if end >= len(shown.text.rstrip()):
        return None
    return element(
        "p", f"Read are its first {len(shown.tokens.offsets):,} tokens, as many as a context holds."
    )


def _origins(parts: Sequence[Part]) -> list[Html]:
    """Where the texts are from, as the licence of Wikipedia asks for."""
    linked = [part for part in parts if part.source and part.source.startswith(("http://", "https://"))]
    if not linked:
        return []
    children: list[object] = ["The texts are the beginnings of "]
    for i, part in enumerate(linked):
        children += [" and " if i else None, element("a", part.title, href=part.source)]
    return [element("p", *children, ".", class_="quiet")]
