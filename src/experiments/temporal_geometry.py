"""Temporal geometry: how many dimensions a part of the activations has, how it bends, and how slow it is.

    python src/experiments/temporal_geometry.py --run_name demo --chunk 0
    python src/experiments/temporal_geometry.py --compare demo:0 demo:1 baseline_model

What a chunk's latents add to the reconstruction is a path through the space of activations, a vector a
token. Temporal Feature Analysis (arXiv 2511.01836) finds the predicted part (chunk 0) in few dimensions,
straight and slow, and the novel part (chunk 1) in many, winding and fast. Here the same numbers are taken
of any dictionary's chunks and of the activations (baseline_model), over texts of the same length:

effective rank      exp of the entropy of the singular values over their sum (Roy and Vetterli 2007), of the
                    positions of one text; and the participation ratio, (sum of variances)² / sum of squares.
                    Both are of the centred path, and at most the number of positions less one
tortuosity          length of the path over the distance of its ends, over pieces of --steps steps;
                    1 is straight, independent positions have about --steps
slow share          of the variance over positions, at frequencies of at most --slow times Nyquist's; and the
                    cosine of the part with the slow and with the fast motion of the activations
autocorrelation     over lags, around the mean over all texts
dimension           over texts at one position of them: participation ratio, without the bias of few texts

Special tokens and norm outliers are left out; the positions behind them move up. Writes
<run>/temporal_geometry/<dataset>_chunk<c>.json with all options and the figure beside it (PNG and PDF);
--compare puts several runs in one figure.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.tokens import token_ids
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
from temporal_saes.experiment.results import asked, colours, comparison_path, label
from temporal_saes.geometry import measures
from temporal_saes.geometry.parts import contribution, text_codes
from temporal_saes.labelled.data import LabelledText

CUTS = np.linspace(0.02, 1, 50)  # shares of Nyquist at which the figure has the power up to there


@dataclass(frozen=True)
class GeometryOptions(ExperimentOptions):
    """What the temporal geometry can be asked."""

    n_texts: int = option(200, "texts, of each the first --context_length tokens", group="geometry")
    slow: float = option(0.1, "the highest slow frequency, as a share of Nyquist's", group="geometry")
    steps: int = option(32, "steps of a piece of a path, for its tortuosity", group="geometry")
    max_lag: int = option(32, "tokens up to which the autocorrelation goes", group="geometry")
    compare: tuple[str, ...] | None = option(
        None, "several runs in one figure: run, run:chunk or baseline_model", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("n_texts", measures.MIN_VECTORS), ("steps", 2), ("max_lag", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"--{name} {value} is too small: give at least {least}.")
        if not 0 < self.slow < 1:
            raise UserError(f"--slow {self.slow} is no share of Nyquist's frequency: give 0 < slow < 1.")


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, GeometryOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """The geometry of one run's part, or of several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the texts, before the language model is loaded
            wherever it can be seen then.
    """
    options = build(GeometryOptions, vars(parser().parse_args(argv)))
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    check_one_model(subjects)
    context_length = min(subject.context_length for subject in subjects)
    subjects = [dataclasses.replace(subject, context_length=context_length) for subject in subjects]
    _check_context(context_length, options)
    paths = [subject.result_path(options, "temporal_geometry") for subject in subjects]
    for path in paths:
        check_writable(path.parent)
    candidates = labelled_texts(options, options.max_texts)
    models = LanguageModels(options.device)
    texts = _long_texts(candidates, models.get(subjects[0]), context_length, options.n_texts)
    results = []
    for subject, path in zip(subjects, paths, strict=True):
        trajectories = _read_trajectories(texts, models.get(subject), subject, options)
        results.append(_result(subject, options, texts, trajectories))
        save_text(path.with_name(path.name + ".json"), json.dumps(results[-1], indent=2) + "\n")
    print(_table(results))
    _draw(results, comparison_path(subjects, options, "temporal_geometry") if options.compare else paths[0])


def _check_context(context_length: int, options: GeometryOptions) -> None:
    longest = max(options.steps, options.max_lag)
    if longest > context_length - 2:
        raise UserError(
            f"--steps {options.steps} and --max_lag {options.max_lag} do not fit into texts of "
            f"{context_length} tokens: give at most {context_length - 2}, or a longer --context_length."
        )


def _long_texts(candidates: Sequence[LabelledText], lm: Any, context_length: int, n: int) -> list[str]:
    """The first n texts that have so many tokens, special ones included."""
    found: list[str] = []
    for first in range(0, len(candidates), 256):
        some = [text.text for text in candidates[first : first + 256]]
        lengths = [len(ids) for ids in token_ids(lm.tokenizer, some)]
        found += [text for text, length in zip(some, lengths, strict=True) if length >= context_length]
        if len(found) >= n:
            return found[:n]
    raise UserError(
        f"{len(found)} of the {len(candidates):,} texts have {context_length} tokens, and {n} were asked "
        f"for: give a smaller --n_texts or --context_length, or other data."
    )


class Trajectory(NamedTuple):
    """One text's way through the space of activations."""

    positions_u: np.ndarray  # of the usable tokens, in the text
    v_uD: np.ndarray  # float32
    cosine_with_slow: float | None
    cosine_with_fast: float | None


def _read_trajectories(
    texts: Sequence[str], lm: Any, subject: Subject, options: GeometryOptions
) -> list[Trajectory]:
    dictionary = subject.load_dictionary(lm.device)
    read = []
    for tokens, f_uF, x_uD in text_codes(texts, lm, subject, dictionary, options):
        v_uD = contribution(dictionary, subject.chunk, f_uF).numpy()
        if len(v_uD) <= max(options.steps, options.max_lag):
            raise UserError(
                f"a text has {len(v_uD)} usable tokens, too few for --steps {options.steps} and --max_lag "
                f"{options.max_lag}: give smaller ones or a longer --context_length."
            )
        slow, fast = measures.bands(x_uD.numpy(), options.slow)
        positions_u = np.flatnonzero(tokens.usable_L)
        read.append(Trajectory(positions_u, v_uD, measures.cosine(v_uD, slow), measures.cosine(v_uD, fast)))
    return read


# --- results ---


def _result(
    subject: Subject, options: GeometryOptions, texts: Sequence[str], trajectories: Sequence[Trajectory]
) -> dict[str, Any]:
    vectors = [one.v_uD for one in trajectories]
    spectra = [measures.spectrum(v_uD) for v_uD in vectors]
    of_all = measures.spectrum_of_all(vectors)
    n_positions = round(float(np.mean([len(v_uD) for v_uD in vectors])))
    return {
        "experiment": "temporal_geometry",
        **asked(subject, options, texts),
        "name": subject.name,
        "n_texts": len(texts),
        "n_tokens": sum(map(len, vectors)),
        "n_positions": n_positions,
        "measures": {
            "effective_rank": _mean(_of(measures.effective_rank, spectra)),
            "participation_ratio": _mean(_of(measures.participation_ratio, spectra)),
            "tortuosity": _mean([measures.tortuosity(v_uD, options.steps) for v_uD in vectors]),
            "slow_share": _mean([measures.slow_share(v_uD, options.slow) for v_uD in vectors]),
            "cosine_with_slow": _mean([one.cosine_with_slow for one in trajectories]),
            "cosine_with_fast": _mean([one.cosine_with_fast for one in trajectories]),
        },
        "all_texts": {
            "effective_rank": _of(measures.effective_rank, [of_all])[0],
            "participation_ratio": _of(measures.participation_ratio, [of_all])[0],
        },
        "independent_positions": {
            "largest_rank": n_positions - 1,
            "tortuosity": options.steps,
            "slow_share": measures.slow_share_of_noise(n_positions, options.slow),
        },
        "power_up_to": _power(vectors),
        "autocorrelation": _autocorrelation(vectors, options.max_lag),
        "dimension_at_position": _dimensions(trajectories),
        "interval": INTERVAL,
        "provenance": provenance(),
    }


def _of(measure: Callable[[np.ndarray], float], spectra: Sequence[np.ndarray | None]) -> list[float | None]:
    return [None if spectrum is None else measure(spectrum) for spectrum in spectra]


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and interval over the texts that have a value, and how many have none."""
    known = [value for value in values if value is not None]
    interval = as_json(mean_interval(known)) or {"mean": None, "low": None, "high": None}
    return {**interval, "texts_without": len(values) - len(known)}


def _means(rows: Sequence[np.ndarray | None]) -> dict[str, Any]:
    """As `_mean`, number by number; rows are texts."""
    known = [row for row in rows if row is not None]
    columns = [_mean(column) for column in zip(*known, strict=True)]
    ends = {key: [column[key] for column in columns] for key in ("mean", "low", "high")}
    return {**ends, "texts_without": len(rows) - len(known)}


def _power(vectors: Sequence[np.ndarray]) -> dict[str, Any]:
    """Share of the variance at frequencies up to each of `CUTS`, interpolated between frequencies."""
    rows: list[np.ndarray | None] = []
    for v_uD in vectors:
        shares_K = measures.power_shares(v_uD)
        if shares_K is None:
            rows.append(None)
            continue
        at = np.concatenate([[0], measures.frequencies(len(v_uD))])
        rows.append(np.interp(CUTS, at, np.concatenate([[0], np.cumsum(shares_K)])))
    return {"share_of_nyquist": CUTS.tolist(), **_means(rows)}


def _autocorrelation(vectors: Sequence[np.ndarray], max_lag: int) -> dict[str, Any]:
    mean_D = np.concatenate(vectors).mean(axis=0, dtype=np.float64)
    rows = [measures.autocorrelation(v_uD, mean_D, max_lag) for v_uD in vectors]
    return {"lag": list(range(max_lag + 1)), **_means(rows)}


def _dimensions(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Dimension over texts at the positions 1, 2, 4, ... and the last, counted from 0."""
    last = max(int(one.positions_u[-1]) for one in trajectories)
    positions = [2**i for i in range(20) if 2**i < last]
    found = []
    for position in [*positions, last]:
        there = [one.v_uD[one.positions_u == position] for one in trajectories]
        v_ND = np.concatenate(there)
        if len(v_ND) >= measures.MIN_VECTORS:
            interval = as_json(measures.dimension(v_ND)) or {"mean": None, "low": None, "high": None}
            found.append({"position": position, "n_texts": len(v_ND), **interval})
    return found


_COLUMNS = (
    ("effective_rank", "eff. rank", 1),
    ("participation_ratio", "particip.", 1),
    ("tortuosity", "tortuosity", 1),
    ("slow_share", "slow share", 3),
    ("cosine_with_slow", "cos slow", 3),
    ("cosine_with_fast", "cos fast", 3),
)


def _table(results: Sequence[dict[str, Any]]) -> str:
    """The measures as text, a row a subject."""
    width = max(24, *(len(label(result)) for result in results))
    first = results[0]
    lines = [
        f"{first['n_texts']} texts of {first['n_positions']} usable tokens; mean ± half of the 95 % interval"
    ]
    lines.append(" " * width + "".join(f"{name:>17}" for _, name, _ in _COLUMNS))
    for result in results:
        cells = [_cell(result["measures"][key], digits) for key, _, digits in _COLUMNS]
        lines.append(f"{label(result):{width}}" + "".join(f"{cell:>17}" for cell in cells))
    noise = first["independent_positions"]
    cells = [f"<= {noise['largest_rank']}"] * 2 + [str(noise["tortuosity"]), f"{noise['slow_share']:.3f}"]
    lines.append(f"{'independent positions':{width}}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def _cell(measure: dict[str, Any], digits: int) -> str:
    if measure["mean"] is None:
        return "-"
    half = "" if measure["high"] is None else f" ± {measure['high'] - measure['mean']:.{digits}f}"
    return f"{measure['mean']:.{digits}f}{half}"


# --- the figure ---


def _draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Six panels: rank, tortuosity, power by frequency, slow and fast, autocorrelation, dimension."""
    from dictionary_learning.command import figures

    first = results[0]
    options, noise = first["options"], first["independent_positions"]
    with figures.style():
        fig, axes = figures.subplots(2, 3, figsize=(13, 7.2))
        ranks = [("effective_rank", "effective\nrank"), ("participation_ratio", "participation\nratio")]
        _bars(axes[0, 0], results, ranks)
        axes[0, 0].axhline(noise["largest_rank"], **_REFERENCE)
        axes[0, 0].set_title(f"Dimensions of {first['n_positions']} positions of a text")
        axes[0, 0].set_ylabel("dimensions (dotted: the most)")
        _bars(axes[0, 1], results, [("tortuosity", f"pieces of {options['steps']} steps")])
        axes[0, 1].axhline(noise["tortuosity"], **_REFERENCE)
        axes[0, 1].set_title("Tortuosity")
        axes[0, 1].set_ylabel("path / distance (dotted: independent)")
        _bars(
            axes[0, 2],
            results,
            [("cosine_with_slow", "with the slow\nmotion"), ("cosine_with_fast", "with the fast\nmotion")],
        )
        axes[0, 2].set_title("Cosine with the activations' motion")
        _draw_power(axes[1, 0], results, options["slow"])
        _draw_autocorrelation(axes[1, 1], results)
        _draw_dimensions(axes[1, 2], results)
        handles, labels = axes[1, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        for file in figures.save(fig, path, pdf=True):
            print(file)


_REFERENCE: Any = {"color": "#444444", "linewidth": 1, "linestyle": ":"}


def _bars(axis: Any, results: Sequence[dict[str, Any]], groups: Sequence[tuple[str, str]]) -> None:
    width = 0.8 / len(results)
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        for at, (key, _) in enumerate(groups):
            measure = result["measures"][key]
            if measure["mean"] is None:
                continue
            error = None if measure["high"] is None else measure["high"] - measure["mean"]
            x = at + (i - (len(results) - 1) / 2) * width
            bar = axis.bar(x, measure["mean"], 0.92 * width, yerr=error, color=colour, ecolor="#333333")
            axis.bar_label(bar, fmt="%.3g", fontsize=8, padding=2)
    axis.set_xticks(range(len(groups)), [name for _, name in groups])
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.margins(y=0.12)


def _curve(
    axis: Any, result: dict[str, Any], colour: str, at: Sequence[float], curve: Any, **style: Any
) -> None:
    if any(value is not None for value in curve["mean"]):
        mean, low, high = (np.array(curve[key], float) for key in ("mean", "low", "high"))
        axis.plot(at, mean, color=colour, label=label(result), **style)
        axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)


def _draw_power(axis: Any, results: Sequence[dict[str, Any]], slow: float) -> None:
    for result, colour in zip(results, colours(results), strict=True):
        curve = result["power_up_to"]
        _curve(axis, result, colour, curve["share_of_nyquist"], curve)
    axis.plot([0, 1], [0, 1], **_REFERENCE, label="independent positions")
    axis.axvline(slow, color="#444444", linewidth=1, linestyle="--", label=f"slow: up to {slow:g} of Nyquist")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_title("Power up to a frequency")
    axis.set_xlabel("frequency, as a share of Nyquist's (a change every token)")
    axis.set_ylabel("share of the variance in a text")


def _draw_autocorrelation(axis: Any, results: Sequence[dict[str, Any]]) -> None:
    for result, colour in zip(results, colours(results), strict=True):
        curve = result["autocorrelation"]
        _curve(axis, result, colour, curve["lag"], curve)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_title("Autocorrelation")
    axis.set_xlabel("distance in tokens")
    axis.set_ylabel("around the mean of all texts")


def _draw_dimensions(axis: Any, results: Sequence[dict[str, Any]]) -> None:
    from matplotlib.ticker import LogLocator

    for result, colour in zip(results, colours(results), strict=True):
        known = [one for one in result["dimension_at_position"] if one["mean"] is not None]
        curve = {key: [one[key] for one in known] for key in ("mean", "low", "high")}
        _curve(axis, result, colour, [one["position"] for one in known], curve, marker="o", markersize=4)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.set_title("Dimension over texts")
    axis.set_xlabel("position in the text")
    axis.set_ylabel("participation ratio over texts")


if __name__ == "__main__":
    cli.run(main)
