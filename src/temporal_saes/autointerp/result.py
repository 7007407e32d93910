"""What automatic interpretation found, in sums, in a table for a person, and in SAEBench's form."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from temporal_saes.autointerp.interpreter import KINDS
from temporal_saes.autointerp.scores import CHANCE, MEASURES
from temporal_saes.experiment.intervals import as_json, mean_interval

INTERVAL = "t-interval, 95 %, over latents"
SHORT = {
    "detection": "detection",
    "fuzzing": "fuzzing",
    "token_share": "token share",
    "token_auc": "token AUC",
    "window_auc": "window AUC",
}

Record = Mapping[str, Any]


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
            f"{about['model']}: {about['complete']} latents, {sum(about['asked'].values()):,} questions, "
            f"failed: {failed or 'none'}; {tokens['prompt'] + tokens['answer']:,} tokens"
            + (f" ({tokens['calls_estimated']:,} calls estimated)" if tokens["calls_estimated"] else "")
        )
    return "\n".join(lines)


# --- SAEBench ---


def sae_bench_result(result: Mapping[str, Any], logs: Sequence[str]) -> dict[str, Any]:
    """The result in the form of SAEBench's autointerp evaluation (0.6).

    Its `score` of a latent is the share of windows that detection tells rightly; SAEBench asks about 14
    windows at once, here they are asked about in parts, and half contain the latent.

    Args:
        logs: what each latent was explained from.
    """
    options, records = result["options"], result["latents"]
    about = {
        record["latent"]: _sae_bench_latent(record, log) for record, log in zip(records, logs, strict=True)
    }
    scores = [one["score"] for one in about.values() if one["score"] is not None]
    started = datetime.fromisoformat(result["provenance"]["started"])
    return {
        "eval_type_id": "autointerp",
        "eval_config": {
            "model_name": result["subject"]["model"],
            "override_latents": [record["latent"] for record in records],
            "n_latents": len(records),
            "dead_latent_threshold": options["min_active"],
            "random_seed": options["seed"],
            "dataset_name": options["dataset"],
            "total_tokens": result["n_tokens"],
            "buffer": options["window"],
            "scoring": True,
            "max_tokens_in_explanation": options["max_answer_tokens"],
            "n_top_ex_for_generation": options["n_top"],
            "n_iw_sampled_ex_for_generation": options["n_weighted"],
            "n_random_ex_for_scoring": options["n_test"],
        },
        "eval_id": str(
            uuid.uuid5(uuid.NAMESPACE_OID, f"{result['weights_sha256']} {result['texts_sha256']}")
        ),
        "datetime_epoch_millis": int(started.timestamp() * 1000),
        "eval_result_metrics": {
            "autointerp": {
                "autointerp_score": float(np.mean(scores)) if scores else None,
                "autointerp_std_dev": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
            }
        },
        "eval_result_details": [],
        "sae_bench_commit_hash": "computed by temporal-saes, not by SAEBench",
        "sae_lens_id": "custom_sae",
        "sae_lens_release_id": result["subject"]["run_name"],
        "sae_lens_version": None,
        "sae_cfg_dict": {
            "model_name": result["subject"]["model"],
            "architecture": result["subject"]["dict_class"],
            "hook_layer": result["subject"]["layer"],
            "d_sae": result["dict_size"],
            "context_size": result["subject"]["context_length"],
        },
        "eval_result_unstructured": {str(latent): one for latent, one in about.items() if one["explanation"]},
    }


def _sae_bench_latent(record: Record, log: str) -> dict[str, Any]:
    trial = record["detection"] or {"truth": [], "predicted": [], "accuracy": None}
    return {
        "latent": record["latent"],
        "explanation": record["explanation"],
        "predictions": [i for i, predicted in enumerate(trial["predicted"], start=1) if predicted],
        "correct seqs": [i for i, true in enumerate(trial["truth"], start=1) if true],
        "score": trial["accuracy"],
        "logs": log,
    }
