"""Results of SAEBench's autointerp evaluation (0.6): ours in that form, and what a file of that form says."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command.files import read_json
from dictionary_learning.errors import UserError
from temporal_saes.experiment.results import read_place
from temporal_saes.latents.explanations import check_latents, latent_number

KEY = "eval_result_unstructured"
SHOWN = 20


# --- our results in that form ---


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
    import numpy as np

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
            "hook_name": read_place(result["subject"]).hook_name,
            "d_sae": result["dict_size"],
            "context_size": result["subject"]["context_length"],
        },
        KEY: {str(latent): one for latent, one in about.items() if one["explanation"]},
    }


def _sae_bench_latent(record: Mapping[str, Any], log: str) -> dict[str, Any]:
    trial = record["detection"] or {"truth": [], "predicted": [], "accuracy": None}
    return {
        "latent": record["latent"],
        "explanation": record["explanation"],
        "predictions": [i for i, predicted in enumerate(trial["predicted"], start=1) if predicted],
        "correct seqs": [i for i, true in enumerate(trial["truth"], start=1) if true],
        "score": trial["accuracy"],
        "logs": log,
    }


# --- explanations in a file of that form ---


class Result(NamedTuple):
    """What one file says."""

    explanations: dict[int, str]
    unexplained: list[int]  # asked about, without an explanation
    dead: int | None  # latents that are known not to have fired enough; None where that cannot be told
    dict_size: int | None


def read_result(path: Path, dict_size: int | None = None) -> Result:
    """The explanations of one result file.

    Args:
        dict_size: latents of the dictionary, in place of what the file says.

    Raises:
        UserError: it is no result of SAEBench's autointerp, or has a latent beyond the dictionary.
    """
    content = read_json(path)
    found = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise UserError(
            f"{path} is no result of SAEBench's autointerp evaluation (it has no {KEY}): give the file that "
            f"ends in _eval_results.json."
        )
    entries = {latent_number(key, path): entry for key, entry in found.items()}
    explained = {latent: str(entry.get("explanation") or "").strip() for latent, entry in entries.items()}
    dict_size = dict_size or _size(content)
    check_latents(explained, dict_size, path)
    asked, dead = _asked(content, entries, dict_size)
    explanations = {latent: text for latent, text in explained.items() if text}
    return Result(explanations, sorted(asked - explanations.keys()), dead, dict_size)


def _size(content: Mapping[str, Any]) -> int | None:
    config = content.get("sae_cfg_dict")
    size = config.get("d_sae") if isinstance(config, dict) else None
    return size if isinstance(size, int) else None


def _asked(
    content: Mapping[str, Any], entries: Mapping[int, Any], dict_size: int | None
) -> tuple[set[int], int | None]:
    """The latents that were to be explained as far as the file tells, and how many are dead.

    SAEBench takes the latents of `override_latents`, or `n_latents` at random among those that fire more
    than `dead_latent_threshold` times. Where there are fewer than that it takes all of them, so the rest
    of the dictionary is dead; otherwise a latent that is not there may simply not have been drawn.
    """
    config = content.get("eval_config")
    config = config if isinstance(config, dict) else {}
    given, wanted = config.get("override_latents"), config.get("n_latents")
    if isinstance(given, list):
        return set(entries) | {latent for latent in given if isinstance(latent, int)}, None
    if isinstance(wanted, int) and len(entries) < wanted and dict_size is not None:
        return set(entries), dict_size - len(entries)
    return set(entries), None


def report(explanations: Mapping[int, str], results: Sequence[Result], dict_size: int | None) -> list[str]:
    """What is explained and what is not, in lines for a person."""
    of = "" if dict_size is None else f" of {dict_size:,} latents"
    lines = [f"{len(explanations):,}{of} have an explanation."]
    if dict_size is None:
        lines[0] += " How many are missing is not known: give --dict_size."
    elif missing := dict_size - len(explanations):
        dead = [result.dead for result in results if result.dead is not None]
        why = (
            f"{min(dead):,} of them fired too rarely to be explained (dead)"
            if dead
            else "SAEBench did not draw them, or they are dead: its result does not say which"
        )
        lines.append(f"{missing:,} are missing: {why}.")
    failed = sorted({latent for result in results for latent in result.unexplained} - explanations.keys())
    if failed:
        shown = ", ".join(map(str, failed[:SHOWN])) + (", ..." if len(failed) > SHOWN else "")
        lines.append(f"{len(failed):,} were asked about and got no explanation: {shown}.")
    return lines
