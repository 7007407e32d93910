"""A study as a JSON result, a short text of it, and the choice of the latents that are shown.

A number that is not finite, such as the d_z of differences without any scatter, is null.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictionary_learning.command.progress import n_of
from temporal_saes.alignment.differences import LENGTH, VIEWS, Differences, smallest_effect
from temporal_saes.alignment.examples import Answer, Shown
from temporal_saes.alignment.pairs import PreferenceData
from temporal_saes.alignment.responses import ResponseMeans
from temporal_saes.alignment.statistics import Effects

N_TOKENS = 8  # of a latent's strongest tokens
VIEW_NAMES = {
    "raw": "all pairs",
    "equal_length": "at equal length",
    "equal_surface": "at equal surface",
    "matched": "matched pairs",
}
_DIGITS = 6


def top_latents(found: Differences, rank_by: str, n: int) -> tuple[list[int], list[int]]:
    """The tested latents that are higher in chosen answers, and in rejected ones, the most different first.

    Args:
        rank_by: raw d_z (`effect`), raw mean difference (`difference`), or d_z at `equal_length` (raw where
            there is no such view).
    """
    raw = found.views["raw"]
    assert raw is not None
    view = found.views["equal_length"] or raw if rank_by == "equal_length" else raw
    value_F = view.mean_F if rank_by == "difference" else view.effect_F
    order = np.argsort(-value_F, kind="stable")
    chosen = [int(f) for f in order[:n] if value_F[f] > 0]
    rejected = [int(f) for f in order[::-1][:n] if value_F[f] < 0]
    return chosen, rejected


def result_of(
    found: Differences,
    top: tuple[Sequence[int], Sequence[int]],
    means: ResponseMeans,
    data: PreferenceData,
    fdr: float,
    explanations: Mapping[int, str],
    shown: Mapping[int, Shown],
) -> dict[str, Any]:
    """Everything that was found, ready for JSON.

    Args:
        top: tested latents that are higher in chosen and in rejected answers.
    """
    raw = found.views["raw"]
    assert raw is not None
    pairs = [data.pairs[p] for p in means.pair_P]
    skipped = dict(data.skipped)
    if len(pairs) < len(data.pairs):
        skipped["without a usable token"] = len(data.pairs) - len(pairs)
    length = found.surface[0]
    assert length.name == LENGTH
    return {
        "pairs": {
            "used": len(pairs),
            "read": data.n_read,
            "skipped": skipped,
            "prompts": len({pair.prompt for pair in pairs}),
            "answers_cut": means.n_cut,
        },
        "n_latents": found.n_latents,
        "n_active": found.n_active,
        "n_tested": len(found.latent_F),
        "n_length_latents": int(found.is_length_F.sum()),
        "smallest_effect": _number(smallest_effect(len(pairs), len(found.latent_F), fdr)),
        "n_significant_by_sign_flips": int((found.p_flips_F <= fdr).sum()),
        "effect_of_length": _number(length.effect),
        "predicted_by_length": _number(_predicted_share(raw.effect_F, found.length.r_F, length.effect)),
        "surface": [
            {**row._asdict(), "difference": row.difference._asdict(), "effect": _number(row.effect)}
            for row in found.surface
        ],
        "views": {view: _view(found, view, fdr) for view in VIEWS},
        "surface_view_holds_equal": found.surface_names,
        "top": {
            side: [_latent(found, f, fdr, explanations, shown) for f in latents]
            for side, latents in zip(("chosen", "rejected"), top, strict=True)
        },
        "latents": _columns(found),
    }


def _view(found: Differences, view: str, fdr: float) -> dict[str, Any]:
    effects = found.views[view]
    if effects is None:
        return {"missing": found.missing[view]}
    significant_F = effects.q_F <= fdr
    return {
        "n_pairs": effects.n_pairs,
        "significant": int(significant_F.sum()),
        "higher_in_chosen": int((significant_F & (effects.mean_F > 0)).sum()),
        "higher_in_rejected": int((significant_F & (effects.mean_F < 0)).sum()),
        "length_latents": int((significant_F & found.is_length_F).sum()),
        "largest_effect": _number(np.abs(effects.effect_F).max()),
        "largest_difference": _number(np.abs(effects.mean_F).max()),
    }


def _latent(
    found: Differences, f: int, fdr: float, explanations: Mapping[int, str], shown: Mapping[int, Shown]
) -> dict[str, Any]:
    latent = int(found.latent_F[f])
    seen = shown.get(latent)
    return {
        "latent": latent,
        "explanation": explanations.get(latent),
        "chosen": _number(found.chosen_F[f]),
        "rejected": _number(found.rejected_F[f]),
        "active_chosen": _number(found.active_chosen_F[f]),
        "active_rejected": _number(found.active_rejected_F[f]),
        "length_r": _number(found.length.r_F[f]),
        "length_q": _number(found.length.q_F[f]),
        "is_length_latent": bool(found.is_length_F[f]),
        "p_sign_flips": _number(found.p_flips_F[f]),
        **{view: _effect(found.views[view], f, fdr) for view in VIEWS},
        "strongest": [] if seen is None else [snippet.token for snippet in seen.strongest[:N_TOKENS]],
        "examples": []
        if seen is None
        else [
            {
                "id": f"{one.pair.id:016x}",
                "chosen": _answer(one.chosen, one.pair.chosen),
                "rejected": _answer(one.rejected, one.pair.rejected),
            }
            for one in seen.examples
        ],
    }


def _effect(effects: Effects | None, f: int, fdr: float) -> dict[str, Any] | None:
    if effects is None:
        return None
    numbers = {
        "difference": effects.mean_F[f],
        "effect": effects.effect_F[f],
        "t": effects.t_F[f],
        "p": effects.p_F[f],
        "q": effects.q_F[f],
    }
    told = {name: _number(value) for name, value in numbers.items()}
    return {**told, "significant": bool(effects.q_F[f] <= fdr)}


def _answer(answer: Answer, text: str) -> dict[str, Any]:
    return {"text": text, "tokens": answer.text.n_tokens, "activation": _number(answer.mean)}


def _columns(found: Differences) -> dict[str, list]:
    """Every tested latent, a list a number."""
    columns = {
        "chosen": found.chosen_F,
        "rejected": found.rejected_F,
        "active_chosen": found.active_chosen_F,
        "active_rejected": found.active_rejected_F,
        "length_r": found.length.r_F,
        "length_q": found.length.q_F,
        "p_sign_flips": found.p_flips_F,
    }
    for view, effects in found.views.items():
        if effects is not None:
            columns |= {f"{view}_difference": effects.mean_F, f"{view}_effect": effects.effect_F}
            columns |= {f"{view}_p": effects.p_F, f"{view}_q": effects.q_F}
    return {
        "latent": found.latent_F.tolist(),
        "is_length_latent": found.is_length_F.tolist(),
        **{name: [_number(value) for value in values] for name, values in columns.items()},
    }


def _predicted_share(effect_F: np.ndarray, r_F: np.ndarray, length_effect: float) -> float:
    """Share of the squared effects of all latents that length alone predicts; below 0 it predicts wrongly.

    A latent that differs only as far as length makes it differ has d_z = r · d_z of length, because the
    mean difference is then the slope times the mean difference in length.
    """
    finite_F = np.isfinite(effect_F)
    total = float((effect_F[finite_F] ** 2).sum())
    missed = float(((effect_F - r_F * length_effect)[finite_F] ** 2).sum())
    return 1 - missed / total if total > 0 else math.nan


def _number(value: float) -> float | None:
    value = float(value)
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def units(result: Mapping[str, Any], n: int) -> str:
    """`1 latent`, `1,348 latents`; of dense activations `576 dimensions`."""
    noun = "dimension" if result["subject"]["trainer_folder"] is None else "latent"
    return n_of(n, noun)


def summary(result: Mapping[str, Any]) -> str:
    """What came out, in a few lines of text."""
    pairs, length = result["pairs"], result["surface"][0]
    lines = [
        f"{result['name']}: {pairs['used']:,} pairs, {result['n_tested']:,} of "
        f"{units(result, result['n_latents'])} tested, {result['n_length_latents']:,} of them follow length",
        f"length: {length['chosen']:.2f} tokens chosen, {length['rejected']:.2f} rejected "
        f"(paired t, p = {length['p']:.1g})",
    ]
    for view in VIEWS:
        told = result["views"][view]
        name = f"{VIEW_NAMES[view]:17}"
        if "missing" in told:
            lines.append(f"{name} not tested: {told['missing']}")
            continue
        lines.append(
            f"{name}{told['significant']:6,} significant (q <= {result['options']['fdr']:g}): "
            f"{told['higher_in_chosen']:,} higher in chosen, {told['higher_in_rejected']:,} in rejected, "
            f"{told['length_latents']:,} of these follow length; {told['n_pairs']:,} pairs"
        )
    lines.append(
        f"by sign flips    {result['n_significant_by_sign_flips']:6,} significant (p corrected for all "
        f"{units(result, result['n_tested'])} <= {result['options']['fdr']:g})"
    )
    return "\n".join(lines)
