"""What automatic interpretation found, in sums, and in a table for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictionary_learning.command.progress import n_of
from temporal_saes.autointerp.interpreter import KINDS, templates_hash
from temporal_saes.autointerp.options import LIMITS, AutointerpOptions
from temporal_saes.autointerp.sample import Sample
from temporal_saes.autointerp.scores import CHANCE, MEASURES
from temporal_saes.autointerp.study import Interpretation
from temporal_saes.experiment.intervals import NONE_OF_EQUAL, as_json, mean_interval

INTERVAL = f"t-interval, 95 %, over latents; {NONE_OF_EQUAL}"
SHORT = {
    "detection": "detection",
    "fuzzing": "fuzzing",
    "token_share": "token share",
    "token_auc": "token AUC",
    "window_auc": "window AUC",
}

Record = Mapping[str, Any]


def result_of(
    sample: Sample,
    records: Sequence[Record],
    n_texts: int,
    interpretation: Interpretation | None,
    options: AutointerpOptions,
) -> dict[str, Any]:
    """Everything that was found, ready for JSON.

    Args:
        interpretation: who was asked; None for nobody.
    """
    return {
        "dict_size": sample.dict_size,
        "n_texts": n_texts,
        "n_tokens": int(sample.codes.usable_T.sum()),
        "n_alive": sample.n_alive,
        "explainer": None if interpretation is None else _about(interpretation, options),
        "summary": summarise(records),
        "latents": records,
    }


def _about(interpretation: Interpretation, options: AutointerpOptions) -> dict[str, Any]:
    """Who was asked, what it cost, and what failed."""
    budget = interpretation.chat.budget
    return {
        "model": interpretation.chat.name,
        "limits": {name: getattr(options, name) for name in LIMITS},
        "asked": interpretation.asked,
        "failures": {what: dict(sorted(kinds.items())) for what, kinds in interpretation.failures.items()},
        "stopped": interpretation.stopped,
        "complete": sum(interpretation.is_complete(record) for record in interpretation.records),
        "tokens": {
            "prompt": budget.prompt,
            "answer": budget.answer,
            "calls_estimated": budget.estimated_calls,
        },
        "templates_sha256": templates_hash(),
    }


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Mean, 95 % interval over latents, median and number of every score, split by split."""
    splits = dict.fromkeys(record["split"] for record in records)
    return {
        "interval": INTERVAL,
        "splits": {
            split: _of_split([record for record in records if record["split"] == split]) for split in splits
        },
    }


def _of_split(records: Sequence[Record]) -> dict[str, Any]:
    found: dict[str, Any] = {"n_latents": len(records)}
    for kind in KINDS:
        scores = [record[kind]["score"] for record in records if record[kind] is not None]
        found[kind] = _spread(scores, 0.5)
    for measure in MEASURES:
        found[measure] = _spread([record["offline"][measure] for record in records], CHANCE[measure])
        shuffled = [record["offline"]["shuffled"][measure] for record in records]
        found[measure]["shuffled"] = _spread(shuffled, CHANCE[measure])["mean"]
    return found


def _spread(scores: Sequence[float | None], chance: float) -> dict[str, Any]:
    known = [score for score in scores if score is not None]
    return {
        "mean": as_json(mean_interval(known)),
        "median": float(np.median(known)) if known else None,
        "n": len(known),
        "chance": chance,
    }


def table(result: Mapping[str, Any]) -> str:
    """Medians of every split, as text."""
    splits = result["summary"]["splits"]
    asked = result["explainer"] is not None
    measures = [name for name in SHORT if asked or name not in KINDS]
    lines = [
        f"{result['name']}: median over latents (in brackets the mean after dealing out anew); chance .5, of "
        f"the token share 0"
    ]
    lines.append(f"{'split':>10}{'latents':>9}" + "".join(f"{SHORT[name]:>19}" for name in measures))
    for split, found in splits.items():
        cells = []
        for name in measures:
            median, shuffled = found[name]["median"], found[name].get("shuffled")
            cell = "–" if median is None else f"{median:.3f}"
            cells.append(cell if shuffled is None else f"{cell} ({shuffled['mean']:.3f})")
        lines.append(f"{split:>10}{found['n_latents']:>9}" + "".join(f"{cell:>19}" for cell in cells))
    if asked:
        about = result["explainer"]
        failed = {what: kinds for what, kinds in about["failures"].items() if kinds}
        tokens = about["tokens"]
        lines.append(
            f"{about['model']}: {n_of(about['complete'], 'latent')}, "
            f"{n_of(sum(about['asked'].values()), 'question')}, failed: {failed or 'none'}; "
            f"{tokens['prompt'] + tokens['answer']:,} tokens"
            + (f" ({tokens['calls_estimated']:,} calls estimated)" if tokens["calls_estimated"] else "")
        )
    return "\n".join(lines)
