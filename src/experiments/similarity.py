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
          --threshold standard deviations
segments  the dendrogram that joins neighbouring segments by their mean cosine, cut at --cut

Both are also told the number of boundaries, so that no threshold matters. A boundary counts as found
within --tolerance tokens. Chance is the F1 of as many boundaries at random positions; passages are whole
sentences, so a second chance level has them at random sentence starts.

Writes <run>/similarity/<dataset>_chunk<c>.json with all options and the figure beside it (PNG and PDF);
--compare puts several runs in one figure and tells how much each differs from the first, text by text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.errors import UserError
from dictionary_learning.runs.provenance import provenance
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.options import (
    ExperimentOptions,
    LanguageModels,
    Subject,
    check_one_model,
    labelled_texts,
    resolve,
    resolve_several,
)
from temporal_saes.experiment.results import asked, colours, comparison_path, label, named_for
from temporal_saes.features import Tokens
from temporal_saes.geometry.parts import text_codes
from temporal_saes.geometry.similarity import (
    Merge,
    Score,
    chance_f1,
    cut,
    novelty,
    peaks,
    score,
    segment_tree,
    similarity_kernel,
)
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.passages import Joined, draw_joined, fits, join, passage_tokens, passages_of_files

DETECTORS = ("novelty", "segments")


@dataclass(frozen=True)
class SimilarityOptions(ExperimentOptions):
    """What the similarity of positions can be asked."""

    passages: tuple[str, ...] | None = option(
        None, "text files that are joined in this order, instead of passages of the data set", group="texts"
    )
    n_texts: int = option(100, "joined texts that are drawn", group="texts")
    n_passages: int = option(3, "passages of a joined text, each of another class", group="texts")
    show: int = option(0, "which text the figure shows, counted from 0", group="texts")
    half_width: int = option(12, "novelty: tokens on either side that are compared", group="boundaries")
    threshold: float = option(
        1.0,
        "novelty: standard deviations above the mean of its text that make a boundary",
        group="boundaries",
    )
    cut: float = option(0.2, "segments: mean cosine below which neighbours stay apart", group="boundaries")
    tolerance: int = option(3, "tokens by which a boundary may be missed", group="boundaries")
    detector: str = option("novelty", "whose boundaries the figure shows", group="result", choices=DETECTORS)
    compare: tuple[str, ...] | None = option(
        None, "several runs in one figure: run, run:chunk or baseline_model", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("n_texts", 1), ("half_width", 2), ("tolerance", 0), ("show", 0)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"--{name} {value} is too small: give at least {least}.")
        if not -1 <= self.cut <= 1:
            raise UserError(f"--cut {self.cut} is no cosine: give a number from -1 to 1.")
        n_texts = 1 if self.passages else self.n_texts
        if self.show >= n_texts:
            raise UserError(f"--show {self.show} does not exist: there are the texts 0 to {n_texts - 1}.")


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, SimilarityOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Kernels and boundaries of one run, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    options = build(SimilarityOptions, vars(parser().parse_args(argv)))
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    check_one_model(subjects)
    given = join(passages_of_files(options.passages)) if options.passages else None
    if given is not None:
        options = named_for(given, options)
    paths = [subject.result_path(options, "similarity") for subject in subjects]
    for path in paths:
        check_writable(path.parent)
    context_length = min(subject.context_length for subject in subjects)
    documents = [] if given else _read_documents(options, context_length)
    models = LanguageModels(options.device)
    joined = _joined(given, documents, options, models.get(subjects[0]), context_length)
    results, shown = [], []
    for subject, path in zip(subjects, paths, strict=True):
        texts = _read_texts(joined, models.get(subject), subject, options)
        results.append(_result(subject, options, joined, texts))
        shown.append(texts[options.show])
        save_text(path.with_name(path.name + ".json"), json.dumps(results[-1], indent=2) + "\n")
        print(_table(results[-1]))
    path = paths[0]
    if options.compare:
        path = comparison_path(subjects, options, "similarity")
        differences = _differences(results)
        save_text(path.with_name(path.name + ".json"), json.dumps(differences, indent=2) + "\n")
        if results[0]["detectors"]:
            print(_difference_table(differences))
    _draw(results, shown, joined[options.show], options, path)


# --- the texts ---


def _read_documents(options: SimilarityOptions, context_length: int) -> list[LabelledText]:
    """The documents to draw passages from, once it is known that the windows fit into these."""
    _, shortest = passage_tokens(context_length, options.n_passages)
    if options.half_width > shortest:
        raise UserError(
            f"--half_width {options.half_width} reaches beyond the shortest passage, {shortest} tokens: give "
            f"at most {shortest}, or fewer --n_passages."
        )
    return labelled_texts(options, options.max_texts)


def _joined(
    given: Joined | None,
    documents: Sequence[LabelledText],
    options: SimilarityOptions,
    lm: Any,
    context_length: int,
) -> list[Joined]:
    if given is None:
        return draw_joined(
            documents,
            lm,
            options.n_texts,
            n_passages=options.n_passages,
            context_length=context_length,
            seed=options.seed,
        )
    if not fits(given, lm, context_length):
        raise UserError(
            f"the {len(given.passages)} files of --passages have more than {context_length} tokens "
            f"together: shorten them or give a longer --context_length."
        )
    return [given]


class Text(NamedTuple):
    """One joined text through one subject's eyes; boundaries are positions among all its tokens."""

    tokens: Tokens
    positions_u: np.ndarray  # of the usable tokens, which the kernel is of
    kernel_uu: np.ndarray
    curve_u: np.ndarray  # novelty
    merges: list[Merge]
    found: dict[str, list[int]]  # by detector
    found_n: dict[str, list[int]]  # by detector, when it is told how many there are
    true: list[int]
    sentence_starts: list[int]


def _read_texts(
    joined: Sequence[Joined], lm: Any, subject: Subject, options: SimilarityOptions
) -> list[Text]:
    dictionary = subject.load_dictionary(lm.device)
    codes = text_codes([one.text for one in joined], lm, subject, dictionary, options)
    texts = []
    for one, (tokens, f_uF, _) in zip(joined, codes, strict=True):
        if len(f_uF) < 2 * options.half_width:
            raise UserError(
                f"a text has {len(f_uF)} usable tokens, and --half_width {options.half_width} needs "
                f"{2 * options.half_width}: give longer passages or a smaller --half_width."
            )
        kernel_uu = similarity_kernel(sparse.csr_array(f_uF.cpu().numpy()))
        texts.append(_find(one, tokens, kernel_uu, options))
    return texts


def _find(joined: Joined, tokens: Tokens, kernel_uu: np.ndarray, options: SimilarityOptions) -> Text:
    positions_u = np.flatnonzero(tokens.usable_L)
    curve_u = novelty(kernel_uu, options.half_width)
    merges = segment_tree(kernel_uu)
    true = joined.boundaries(tokens.offsets)
    found = {
        "novelty": peaks(curve_u, options.half_width, threshold=options.threshold),
        "segments": cut(merges, height=1 - options.cut),
    }
    found_n = {
        "novelty": peaks(curve_u, options.half_width, n=len(true)),
        "segments": cut(merges, n=len(true)),
    }
    return Text(
        tokens=tokens,
        positions_u=positions_u,
        kernel_uu=kernel_uu,
        curve_u=curve_u,
        merges=merges,
        found={name: positions_u[some].tolist() for name, some in found.items()},
        found_n={name: positions_u[some].tolist() for name, some in found_n.items()},
        true=true,
        sentence_starts=joined.sentence_starts(tokens.offsets),
    )


# --- results ---


def _result(
    subject: Subject, options: SimilarityOptions, joined: Sequence[Joined], texts: Sequence[Text]
) -> dict[str, Any]:
    shown, passages = texts[options.show], joined[options.show].passages
    return {
        "experiment": "similarity",
        **asked(subject, options, [one.text for one in joined]),
        "name": subject.name,
        "n_texts": len(texts),
        "n_tokens": sum(len(text.positions_u) for text in texts),
        "detectors": {name: _detector_scores(name, texts, options) for name in DETECTORS if texts[0].true},
        "interval": INTERVAL,
        "shown": {
            "text": joined[options.show].text,
            "passages": [passage.title for passage in passages],
            "true": shown.true,
            "found": shown.found,
            "words_at_found": {
                name: [
                    _words(joined[options.show].text[shown.tokens.offsets[place][0] :]) for place in places
                ]
                for name, places in shown.found.items()
            },
        },
        "provenance": provenance(),
    }


def _detector_scores(name: str, texts: Sequence[Text], options: SimilarityOptions) -> dict[str, Any]:
    return {
        "own_number": _scores([text.found[name] for text in texts], texts, options),
        "given_number": _scores([text.found_n[name] for text in texts], texts, options),
    }


def _scores(found: Sequence[list[int]], texts: Sequence[Text], options: SimilarityOptions) -> dict[str, Any]:
    """Means over texts; precision over those in which a boundary was found."""
    scores: list[Score] = []
    anywhere, sentence = [], []
    for i, (some, text) in enumerate(zip(found, texts, strict=True)):
        scores.append(score(some, text.true, options.tolerance))
        seed = [options.seed, i]
        places = text.positions_u[1:].tolist()
        anywhere.append(chance_f1(len(some), places, text.true, options.tolerance, seed=seed))
        sentence.append(chance_f1(len(some), text.sentence_starts, text.true, options.tolerance, seed=seed))
    precisions = [one.precision for one in scores if one.precision is not None]
    return {
        "f1": as_json(mean_interval([one.f1 for one in scores])),
        "precision": as_json(mean_interval(precisions)),
        "recall": as_json(mean_interval([one.recall for one in scores])),
        "chance_f1": float(np.mean(anywhere)),
        "chance_f1_sentence_starts": float(np.mean(sentence)),
        "found_a_text": float(np.mean([len(some) for some in found])),
        "true_a_text": float(np.mean([len(text.true) for text in texts])),
        "texts_without_found": len(scores) - len(precisions),
        "f1_of_texts": [one.f1 for one in scores],
    }


def _table(result: dict[str, Any]) -> str:
    """Scores as text, a row a detector."""
    title = f"{result['name']}: boundaries in {result['n_texts']} texts"
    if not result["detectors"]:
        name = result["options"]["detector"]
        places = zip(result["shown"]["found"][name], result["shown"]["words_at_found"][name], strict=True)
        lines = [f"  token {place}: {words}" for place, words in places]
        return "\n".join([f"{result['name']}: boundaries found ({name})", *lines])
    head = f"{'':22}{'F1':>14}{'precision':>12}{'recall':>9}{'found':>7}{'chance':>8}{'sentences':>11}"
    lines = [title, head]
    for detector, scores in result["detectors"].items():
        for number, one in scores.items():
            precision = "-" if one["precision"] is None else f"{one['precision']['mean']:.3f}"
            lines.append(
                f"{detector + ', ' + number.replace('_', ' '):22}{_number(one['f1']):>14}{precision:>12}"
                f"{one['recall']['mean']:>9.3f}{one['found_a_text']:>7.1f}{one['chance_f1']:>8.3f}"
                f"{one['chance_f1_sentence_starts']:>11.3f}"
            )
    return "\n".join(lines)


def _number(interval: dict[str, float]) -> str:
    half = "" if interval["high"] is None else f" ± {interval['high'] - interval['mean']:.3f}"
    return f"{interval['mean']:.3f}{half}"


def _differences(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How much the F1 of every later subject differs from that of the first, over pairs of one text."""
    first = results[0]
    return {
        "experiment": "similarity",
        "first": first["name"],
        "subjects": [result["name"] for result in results],
        "n_texts": first["n_texts"],
        "options": first["options"],
        "f1_minus_first": {
            result["name"]: {
                detector: {number: _paired(result, first, detector, number) for number in scores}
                for detector, scores in result["detectors"].items()
            }
            for result in results[1:]
        },
        "interval": INTERVAL,
        "provenance": first["provenance"],
    }


def _paired(result: dict[str, Any], first: dict[str, Any], detector: str, number: str) -> Any:
    own, other = (one["detectors"][detector][number]["f1_of_texts"] for one in (result, first))
    return as_json(mean_interval([a - b for a, b in zip(own, other, strict=True)]))


def _difference_table(differences: dict[str, Any]) -> str:
    lines = [f"F1 minus that of {differences['first']}, over pairs of one text"]
    for name, detectors in differences["f1_minus_first"].items():
        for detector, numbers in detectors.items():
            cells = ", ".join(
                f"{number.replace('_', ' ')} {_number(interval)}" for number, interval in numbers.items()
            )
            lines.append(f"  {name}, {detector}: {cells}")
    return "\n".join(lines)


# --- the figure ---

_TRUE = "#000000"
_TRIANGLE: Any = {"marker": "^", "markersize": 7, "color": "#D55E00", "linestyle": "none"}
_RANGE = 0.7  # of the colours: few cosines are beyond it


def _draw(
    results: Sequence[dict[str, Any]],
    shown: Sequence[Text],
    joined: Joined,
    options: SimilarityOptions,
    path: Path,
) -> None:
    """A column a subject (dendrogram, kernel, novelty) of the shown text; below, the scores of all texts."""
    from dictionary_learning.command import figures

    n = len(results)
    scored = bool(results[0]["detectors"])
    heights = [0.9, 3.2, 1.0] + ([2.0] if scored else [])
    with figures.style():
        fig, axes = figures.subplots(
            len(heights),
            n,
            figsize=(max(3.4 * n + 1.4, 6.0), sum(heights) * 1.12 + 0.6),
            squeeze=False,
            gridspec_kw={"height_ratios": heights},
        )
        for column, (result, text) in enumerate(zip(results, shown, strict=True)):
            top, middle, below = axes[:3, column]
            _draw_tree(top, text, options)
            top.set_title(label(result), fontsize=10)
            image = _draw_kernel(middle, text, joined, options, words=column == 0)
            _draw_novelty(below, text, joined, options)
        axes[0, 0].set_ylabel("1 - cosine")
        axes[2, 0].set_ylabel("novelty")
        handles = _mark_handles(options, has_boundaries=scored)
        fig.colorbar(image, ax=axes[1, :].tolist(), label="cosine of centred codes", shrink=0.8, pad=0.01)
        if scored:
            grid = axes[3, 0].get_gridspec()
            for axis in axes[3]:
                axis.remove()
            bottom = fig.add_subplot(grid[3, :])
            _draw_scores(bottom, results, options)
            handles += bottom.get_legend_handles_labels()[0]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(2 * n, 4))
        for file in figures.save(fig, path, pdf=True):
            print(file)


def _mark_handles(options: SimilarityOptions, *, has_boundaries: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    passage = Line2D([], [], color=_TRUE, linewidth=1, label="passage boundary")
    found = Line2D([], [], **_TRIANGLE, label=f"boundary found ({options.detector})")
    limit = Line2D([], [], color="#888888", linewidth=0.8, linestyle="--", label="cut, threshold")
    return [passage, found, limit] if has_boundaries else [found, limit]


def _mark(axis: Any, text: Text, options: SimilarityOptions) -> None:
    """Passage boundaries as lines; those that were found as triangles on the lower edge."""
    for boundary in _places(text, text.true):
        axis.axvline(boundary - 0.5, color=_TRUE, linewidth=1)
    found = _places(text, text.found[options.detector])
    axis.plot(
        np.array(found) - 0.5,
        np.zeros(len(found)),
        **_TRIANGLE,
        clip_on=False,
        zorder=5,
        transform=axis.get_xaxis_transform(),
    )
    axis.set_xlim(-0.5, len(text.positions_u) - 0.5)
    axis.grid(False)


def _places(text: Text, boundaries: Sequence[int]) -> list[int]:
    """Rows of the kernel at which boundaries among all tokens are."""
    return np.searchsorted(text.positions_u, boundaries).tolist()


def _draw_tree(axis: Any, text: Text, options: SimilarityOptions) -> None:
    from matplotlib.collections import LineCollection

    n = len(text.positions_u)
    # of the segment that begins or ends at a boundary: its middle, height, and other end
    begins = {i: (float(i), 0.0, i + 1) for i in range(n)}
    ends = {i + 1: i for i in range(n)}
    lines = []
    for boundary, height in text.merges:
        first = ends[boundary]
        left, right = begins[first], begins[boundary]
        lines.append([(left[0], left[1]), (left[0], height), (right[0], height), (right[0], right[1])])
        begins[first] = ((left[0] + right[0]) / 2, height, right[2])
        ends[right[2]] = first
    axis.add_collection(LineCollection(lines, colors="#555555", linewidths=0.6))
    axis.axhline(1 - options.cut, color="#888888", linewidth=0.8, linestyle="--")
    axis.set_ylim(0, max(1.05, text.merges[-1].height * 1.05))
    _mark(axis, text, options)
    axis.set_xticks([])


def _draw_kernel(axis: Any, text: Text, joined: Joined, options: SimilarityOptions, *, words: bool) -> Any:
    image = axis.imshow(
        text.kernel_uu, cmap="RdBu_r", vmin=-_RANGE, vmax=_RANGE, aspect="auto", interpolation="nearest"
    )
    for boundary in _places(text, text.true):
        axis.axhline(boundary - 0.5, color=_TRUE, linewidth=1)
    _mark(axis, text, options)
    axis.set_xticks([])
    places, labels = _word_ticks(text, joined)
    axis.set_yticks(places, labels if words else [""] * len(places), fontsize=8)
    return image


def _draw_novelty(axis: Any, text: Text, joined: Joined, options: SimilarityOptions) -> None:
    curve_u = text.curve_u
    axis.plot(np.arange(len(curve_u)) - 0.5, curve_u, color="#555555", linewidth=1.4)
    defined = curve_u[np.isfinite(curve_u)]
    limit = defined.mean() + options.threshold * defined.std()
    axis.axhline(limit, color="#888888", linewidth=0.8, linestyle="--")
    _mark(axis, text, options)
    places, labels = _word_ticks(text, joined)
    axis.set_xticks(places, labels, fontsize=8, rotation=20, ha="right", rotation_mode="anchor")


def _word_ticks(text: Text, joined: Joined) -> tuple[list[int], list[str]]:
    """Where to write a few words: at the start of every passage, or at even distances in a single one."""
    n = len(text.positions_u)
    places = [0, *_places(text, text.true)] if text.true else np.linspace(0, n - 8, 6).astype(int).tolist()
    offsets = text.tokens.offsets
    return places, [_words(joined.text[offsets[text.positions_u[i]][0] :]) for i in places]


def _words(text: str, length: int = 18) -> str:
    """The first words of a text, cut at a word's end."""
    line = " ".join(text[: 2 * length].split())
    return line if len(line) <= length else line[:length].rsplit(" ", 1)[0] + " …"


def _draw_scores(axis: Any, results: Sequence[dict[str, Any]], options: SimilarityOptions) -> None:
    """F1 of both detectors, with the number of boundaries unknown and known; chance at every bar."""
    groups = [(detector, number) for detector in DETECTORS for number in ("own_number", "given_number")]
    width = 0.8 / len(results)
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        scores = [result["detectors"][detector][number] for detector, number in groups]
        at = np.arange(len(groups)) + (i - (len(results) - 1) / 2) * width
        mean = np.array([one["f1"]["mean"] for one in scores])
        high = [one["f1"]["high"] for one in scores]
        error = None if None in high else np.array(high) - mean
        axis.bar(at, mean, 0.92 * width, yerr=error, color=colour, label=label(result), ecolor="#333333")
        for key, style in (("chance_f1", ":"), ("chance_f1_sentence_starts", "--")):
            chance = [one[key] for one in scores]
            name = "chance" if key == "chance_f1" else "chance among sentence starts"
            axis.hlines(
                chance,
                at - 0.46 * width,
                at + 0.46 * width,
                colors="black",
                linestyles=style,
                label="" if i else name,
            )
    names = {"own_number": "number\nunknown", "given_number": "number\ngiven"}
    axis.set_xticks(range(len(groups)), [f"{detector},\n{names[number]}" for detector, number in groups])
    axis.set_ylim(0, 1)
    axis.set_ylabel("F1 of boundaries")
    first = results[0]
    axis.set_title(
        f"{first['n_texts']} joined texts, boundaries within {options.tolerance} tokens", fontsize=10
    )


if __name__ == "__main__":
    cli.run(main)
