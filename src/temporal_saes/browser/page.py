"""The folder of a feature browser: one page, and data that it loads as scripts, a part at a time.

    index.html                 the page: index, latents and sentences
    browser.json               what was shown, with options and provenance
    data/index.js              a row a latent
    data/vocabulary.js         the text of every token that occurs
    data/latents-<n>.js        all about some latents
    data/contexts-<n>.js       whole contexts, for a click on an example
    data/sentences.js          the given sentences

A page that is read from the disk may not fetch files, but it may load scripts: each file here is one call of
`receive` with a name and JSON, in ASCII, in which no text can be markup.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command.files import save_text
from dictionary_learning.command.progress import n_of, say
from dictionary_learning.language_model.token_text import token_texts
from temporal_saes.browser.delphi import DelphiCache
from temporal_saes.experiment.short_text import shortened
from temporal_saes.latents.examples import Example
from temporal_saes.latents.facts import LatentFacts, Ranked
from temporal_saes.naming.lists import strongest_tokens
from temporal_saes.naming.names import Name, Share
from temporal_saes.pages.page import Html, element, page, script_json, with_components
from temporal_saes.similarity.sentences import Sentence

STYLE, SCRIPT = (Path(__file__).with_name(f"browser.{suffix}") for suffix in ("css", "js"))
PER_FILE = {"latents": 32, "contexts": 128}
N_TOKENS = 4  # where a latent is strongest, in the index
N_AROUND = 16  # tokens of an example to each side, before a click


@dataclass(frozen=True)
class Browser:
    """What is shown."""

    name: str
    about: Mapping[str, str]
    facts: LatentFacts
    names: Sequence[Name]
    """What each latent of the chunk is held over."""
    shown: list[int]
    """The latents that have a page, counted in the chunk."""
    explanations: Mapping[int, str]
    """By the dictionary's number."""
    scores: Mapping[int, float]
    sentences: list[Sentence]
    delphi: DelphiCache | None = None
    """What is written for delphi, if that was asked for."""
    made: Mapping[str, Any] = field(default_factory=dict)


def write_browser(folder: Path, browser: Browser, tokenizer: Any) -> None:
    """Write all files into a new folder."""
    from tqdm import tqdm

    tokens = _Tokens(tokenizer)
    (folder / "data").mkdir(parents=True)
    contexts: set[int] = set()
    for number, some in enumerate(
        _groups(tqdm(browser.shown, desc="pages", unit="latent", disable=None), "latents")
    ):
        records = []
        for latent in some:
            record, used = _latent(browser, latent, tokens)
            records.append(record)
            contexts |= used
        _save(folder, f"latents-{number}", records)
    # a context keeps its place among all, so that its file follows from its number
    examples = browser.facts.examples
    for number in sorted({context // PER_FILE["contexts"] for context in contexts}):
        first = number * PER_FILE["contexts"]
        inside = range(first, min(first + PER_FILE["contexts"], examples.n_contexts))
        _save(
            folder,
            f"contexts-{number}",
            [_context(browser, c, tokens) if c in contexts else None for c in inside],
        )
    _save(folder, "sentences", [_sentence(one, tokens) for one in browser.sentences])
    _save(folder, "index", _index(browser, tokens))
    _save(folder, "vocabulary", tokens.texts())  # the last: only now all of it is known
    save_text(folder / "index.html", _html(browser))
    save_text(folder / "browser.json", json.dumps(_record(browser), indent=1, ensure_ascii=False) + "\n")
    say(f"written: {n_of(len(browser.shown), 'latent')}")


class _Tokens:
    """Tokens by the order in which they came: the pages know no others."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._place: dict[int, int] = {}
        self._text: dict[int, str] = {}

    def places(self, ids: Iterable[int]) -> list[int]:
        return [self._place.setdefault(int(i), len(self._place)) for i in ids]

    def texts(self) -> list[str]:
        return token_texts(self._tokenizer, self._place)

    def text(self, number: int) -> str:
        if number not in self._text:
            self._text[number] = token_texts(self._tokenizer, [number])[0]
        return self._text[number]


def _groups(latents: Iterable[int], kind: str) -> Iterable[list[int]]:
    group: list[int] = []
    for latent in latents:
        group.append(latent)
        if len(group) == PER_FILE[kind]:
            yield group
            group = []
    if group:
        yield group


def _save(folder: Path, name: str, data: Any) -> None:
    save_text(folder / "data" / f"{name}.js", f"receive({script_json(name)},{script_json(data)})\n")


def _short(value: float, digits: int = 3) -> float | None:
    """A number with so many digits; None where it is undefined."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


# --- a row a latent ---


def _index(browser: Browser, tokens: _Tokens) -> dict[str, Any]:
    facts, shown = browser.facts, browser.shown
    examples = facts.examples
    columns = {
        "density": examples.density_F,
        "maximum": examples.maximum_F,
        "mean": examples.mean_active_F,
        "smoothness": facts.lipschitz_F,
        "steadiness": facts.steadiness_F,
    }
    names = [browser.names[latent] for latent in shown]
    of_names = {
        what: [_short(getattr(name, what)) if name.stretch else None for name in names]
        for what in ("stretch", "information", "telling")
    }
    numbers = [facts.first + latent for latent in shown]
    return {
        "per_file": PER_FILE,
        "latents": numbers,
        "splits": list(dict.fromkeys(name for name in facts.split_F if name)),
        "split": [facts.split_F[latent] for latent in shown],
        "explanation": [browser.explanations.get(number, "") for number in numbers],
        "score": [browser.scores.get(number) for number in numbers],
        "tokens": [
            tokens.places(strongest_tokens(examples, latent, N_TOKENS, tokens.text)) for latent in shown
        ],
        "words": [[word.text for word in name.words] for name in names],
        "classes": [[_preferred(share) for share in name.classes] for name in names],
        **of_names,
        **{name: [_short(float(values[latent])) for latent in shown] for name, values in columns.items()},
        "n_sentences": len(browser.sentences),
    }


def _preferred(share: Share) -> tuple[str, float | None]:
    """A class or a title with its lift."""
    return share.text, _short(share.lift, 2)


# --- a page a latent ---


def _latent(browser: Browser, latent: int, tokens: _Tokens) -> tuple[dict[str, Any], set[int]]:
    """A latent's record, and the contexts of its examples."""
    facts, examples = browser.facts, browser.facts.examples
    top, parts = examples.top(latent, examples.strongest.k), examples.quantiles(latent)
    maximum = float(examples.maximum_F[latent])
    record = {
        "latent": facts.first + latent,
        "count": int(examples.count_F[latent]),
        "words": [(share.text, _short(share.z, 2)) for share in browser.names[latent].words],
        "titles": [_preferred(share) for share in browser.names[latent].titles],
        "histogram": _histogram(browser, latent),
        "top": [_example(example, tokens) for example in top],
        "parts": [
            {
                "range": [_short(i * maximum / len(parts)), _short((i + 1) * maximum / len(parts))],
                "examples": [_example(example, tokens) for example in part],
            }
            for i, part in enumerate(parts)
        ],
        "promoted": _logits(facts.promoted, latent, tokens),
        "suppressed": _logits(facts.suppressed, latent, tokens),
        "decoder": _neighbours(facts, facts.decoder, latent),
        "together": _neighbours(facts, facts.together, latent),
    }
    return record, {example.context for example in [*top, *(one for part in parts for one in part)]}


def _histogram(browser: Browser, latent: int) -> dict[str, Any]:
    """The bins up to the maximum."""
    examples = browser.facts.examples
    counts_B, edges_B = examples.histogram_FB[latent], examples.edges_FB[latent]
    n_bins = int(np.flatnonzero(counts_B)[-1]) + 1 if counts_B.any() else 0
    return {"counts": counts_B[:n_bins].tolist(), "width": _short(float(edges_B[1]), 6)}


def _example(example: Example, tokens: _Tokens) -> dict[str, Any]:
    """An example whose window is its context: the tokens near the peak, and where the latent is active."""
    first = max(0, example.peak - N_AROUND)
    values = np.asarray(example.activations)
    active = np.flatnonzero(values)
    return {
        "c": example.context,
        "p": example.position,
        "f": first,
        "t": tokens.places(example.tokens[first : example.peak + N_AROUND + 1]),
        "n": len(example.tokens),
        "i": active.tolist(),
        "v": [_short(float(value)) for value in values[active]],
    }


def _logits(ranked: Ranked, latent: int, tokens: _Tokens) -> list[tuple[int, float | None]]:
    places = tokens.places(ranked.indices_FK[latent])
    return list(zip(places, (_short(float(v)) for v in ranked.values_FK[latent]), strict=True))


def _neighbours(facts: LatentFacts, ranked: Ranked, latent: int) -> list[tuple[int, float | None]]:
    pairs = zip(ranked.indices_FK[latent].tolist(), ranked.values_FK[latent].tolist(), strict=True)
    return [(facts.first + other, _short(value, 2)) for other, value in pairs if other >= 0]


def _context(browser: Browser, number: int, tokens: _Tokens) -> dict[str, Any]:
    tokens_L, usable_L = browser.facts.examples.context(number)
    return {"t": tokens.places(tokens_L), "out": np.flatnonzero(~usable_L).tolist()}


# --- sentences ---


def _sentence(sentence: Sentence, tokens: _Tokens) -> dict[str, Any]:
    return {
        "name": shortened(sentence.text, 80),
        "t": tokens.places(sentence.tokens_L),
        "out": np.flatnonzero(~sentence.usable_L).tolist(),
        "codes": [[(latent, _short(value)) for latent, value in one] for one in sentence.codes],
        "kernel": np.rint(100 * sentence.kernel_uu).astype(int).tolist(),
        "compared": sentence.compared,
    }


# --- the page ---


def _html(browser: Browser) -> str:
    body: list[object] = [
        element(
            "header",
            element("nav", element("a", "Latents", href="#"), _sentences_link(browser), aria_label="Views"),
            element("h1", browser.name, id="title", tabindex="-1"),
        ),
        element("div", id="view"),
        element("noscript", element("p", "These pages are made by a script: allow it.", class_="missing")),
        element("script", script_json(dict(browser.about)), type="application/json", id="about"),
    ]
    style, script = with_components(STYLE, SCRIPT)
    return page(f"Latents of {browser.name}", body, script=script, style=style, loads_scripts=True)


def _sentences_link(browser: Browser) -> Html | None:
    return element("a", "Sentences", href="#sentence=0") if browser.sentences else None


def _record(browser: Browser) -> dict[str, Any]:
    examples = browser.facts.examples
    return {
        "name": browser.name,
        "about": dict(browser.about),
        "n_tokens": examples.n_tokens,
        "n_contexts": examples.n_contexts,
        "n_latents": examples.n_latents,
        "n_dead": int((examples.count_F == 0).sum()),
        **browser.made,
    }
