"""The claims: what a paper says, which two numbers tell, and what would change the answer.

T-SAE: arXiv 2511.05541. TFA (Temporal Feature Analysis): arXiv 2511.01836. A row that neither paper has says
so.
"""

from typing import Literal, NamedTuple

from temporal_saes.claims.methods import BASELINE

Better = Literal["higher", "lower"]


class Reading(NamedTuple):
    """One number of one method."""

    method: str
    chunk: int
    measure: str  # as `numbers` names it


class Row(NamedTuple):
    """A claim: `ours` is better than `theirs`, or worse by less than `margin`."""

    name: str
    says: str
    ours: Reading
    theirs: Reading
    better: Better
    margin: float
    changes: str  # what could change the verdict
    group: str = ""  # rows with the same one stand together


ALL, HIGH, LOW = 2, 0, 1
PREDICTED, NOVEL = 0, 1
PROBE_KS = (1, 5, 20)
_MORE_PAIRS = "more pairs: the paper's runs have a thousand times as many"
_TEXTS = "other texts and classes; more labelled texts"
_STARTS = "another start of the bias or the weights; more tokens"
OTHERS = (("matryoshka", "Matryoshka"), ("tsae_strength_0", "strength 0"))


def _against(
    name: str,
    says: str,
    measure: str,
    better: Better,
    margin: float = 0.0,
    chunk: int = HIGH,
    changes: str = _MORE_PAIRS,
) -> list[Row]:
    """The T-SAE against the Matryoshka SAE, and against itself without the temporal term."""
    ours = Reading("tsae", chunk, measure)
    return [
        Row(f"{name}, against {words}", says, ours, Reading(other, chunk, measure), better, margin, changes)
        for other, words in OTHERS
    ]


def _steadiness() -> list[Row]:
    rows = _against(
        "smoothness of high-level latents",
        "they change less from token to token (T-SAE)",
        "smoothness",
        "lower",
    )
    longer = "latents that are on stay on, as the contrast wants (in no paper)"
    rows += _against(
        "persistence at 1 token, above any order", longer, "persistence at 1, above any order", "higher"
    )
    rows += _against(
        "persistence at 16 tokens, above any order", longer, "persistence at 16, above any order", "higher"
    )
    stable = "high-level latents come back when the training is repeated (in no paper)"
    return [
        *rows,
        Row(
            "stability over seeds, high against low",
            stable,
            Reading("tsae", HIGH, "stability over seeds"),
            Reading("tsae", LOW, "stability over seeds"),
            "higher",
            0.0,
            "counting rare latents, too; more seeds; more pairs",
        ),
        *_against("stability over seeds, high", stable, "stability over seeds", "higher"),
    ]


def _reconstruction() -> list[Row]:
    rows: list[Row] = []
    for measure, margin in (("FVE", 0.02), ("cosine", 0.02)):
        says = f"{measure} within {margin} of the baselines' (T-SAE)"
        rows += _against(measure, says, measure, "higher", margin, ALL)
    return rows + _against("alive latents", "as many as the baselines (T-SAE)", "alive", "higher", 0.0, ALL)


def _probes() -> list[Row]:
    rows: list[Row] = []
    for k in PROBE_KS:
        for task in ("semantics", "context"):
            says = f"high-level latents know the {'domain' if task == 'semantics' else 'text'} better (T-SAE)"
            rows += _against(f"{task}, {k} latents", says, f"{task}, k = {k}", "higher", changes=_TEXTS)
        measure = f"syntax, k = {k}"
        says = "syntax is the low-level latents' part (T-SAE)"
        low, high = Reading("tsae", LOW, measure), Reading("tsae", HIGH, measure)
        rows.append(Row(f"syntax, {k} latents, low against high", says, low, high, "higher", 0.0, _TEXTS))
    return rows


def _events() -> list[Row]:
    """What codes see of where a text changes its subject."""
    f1, in_any_order = "boundaries, F1", "boundaries, F1, words shuffled"
    says = "the predicted codes see events (TFA)"
    predicted = Reading("tfa", PREDICTED, f1)
    others = (
        (Reading(BASELINE, ALL, f1), "raw activations"),
        (Reading("tfa", NOVEL, f1), "novel"),
        (Reading("batch_top_k", ALL, f1), "BatchTopK"),
        (Reading("running_mean", PREDICTED, f1), "the running mean"),
        (Reading("recall", PREDICTED, f1), "untrained recall"),
    )
    rows = [
        Row(f"boundaries (F1), predicted against {words}", says, predicted, other, "higher", 0.0, _TEXTS)
        for other, words in others
    ]
    order = "it takes sentences and not their words alone (in no paper)"
    for method, chunk, words in (("tfa", PREDICTED, "predicted"), ("tsae", HIGH, "T-SAE, high")):
        own, bag = Reading(method, chunk, f1), Reading(method, chunk, in_any_order)
        rows.append(
            Row(f"boundaries (F1), {words}, against shuffled words", order, own, bag, "higher", 0.0, _TEXTS)
        )
    passage = "high-level latents hold through a passage and switch at its end (T-SAE)"
    rows += _against("boundaries (F1), high", passage, f1, "higher", changes=_TEXTS)
    rows += _against("bits about the passage, high", passage, "passage, bits", "higher", changes=_TEXTS)
    rows += _against("flicker inside passages, high", passage, "flicker", "lower", changes=_TEXTS)
    own, novel = (Reading("tfa", chunk, "passage, bits") for chunk in (PREDICTED, NOVEL))
    rows.append(
        Row("bits about the passage, predicted against novel", says, own, novel, "higher", 0.0, _TEXTS)
    )
    return rows


def _garden_paths() -> list[Row]:
    says = "behind a garden path, predicted codes group by the right reading (TFA)"
    changes = "other sentences; a model that reads them better; a surface that is matched to the word"
    rows = []
    # how far, which depends on how far apart codes are at all, and how often, which does not
    for measure, name in (("garden paths, lean", "lean"), ("garden paths, share right", "share right")):
        ours = Reading("tfa", PREDICTED, measure)
        for theirs, words in (
            (Reading("tfa", NOVEL, measure), "novel"),
            (Reading(BASELINE, ALL, measure), "raw activations"),
            (Reading("running_mean", PREDICTED, measure), "the running mean"),
            (Reading("recall", PREDICTED, measure), "untrained recall"),
        ):
            row = f"garden paths, {name}, predicted against {words}"
            rows.append(Row(row, says, ours, theirs, "higher", 0.0, changes))
        says_high = "high-level latents do, too (in no paper)"
        rows += _against(f"garden paths, {name}, high", says_high, measure, "higher", changes=changes)
    return rows


def _preferences() -> list[Row]:
    changes = "more pairs of answers: the demo has 100, the paper 1,000"
    rows = [
        Row(
            "latents that differ between answers, raw against equal length",
            "length is a spurious feature of preference pairs (T-SAE)",
            Reading("tsae", HIGH, "preferences, share that differs, raw"),
            Reading("tsae", HIGH, "preferences, share that differs, equal_length"),
            "higher",
            0.0,
            changes,
        )
    ]
    says = "high-level latents show what answers are about, and not their length (T-SAE)"
    name = "share of latents that follow length"
    return rows + _against(name, says, "preferences, share that follows length", "lower", changes=changes)


def _steering() -> list[Row]:
    rows: list[Row] = []
    changes = "more latents and texts; a judge; strengths chosen on other texts"
    for mode in ("add", "clamp"):
        measure = f"steering, {mode}"
        ours = Reading("tsae", HIGH, measure)
        says = "high-level latents steer further while texts stay coherent (T-SAE)"
        rows += _against(f"{measure}: domain gained while coherent", says, measure, "higher", changes=changes)
        for other, words in (
            ("random directions", "random directions"),
            ("strength 0", "strength 0 (resampling)"),
        ):
            theirs = Reading("tsae", HIGH, f"{measure}, {other}")
            rows.append(
                Row(f"{measure}: the same, against {words}", says, ours, theirs, "higher", 0.0, changes)
            )
    return rows


def _predicted_and_novel(method: str, start: str) -> list[Row]:
    """TFA's parts against each other, and against means that nobody trained."""
    rows = []
    for name, says, measure, better in (
        ("effective rank", "the predicted part has few dimensions (TFA)", "effective rank", "lower"),
        ("tortuosity", "the predicted part's path is straighter (TFA)", "tortuosity", "lower"),
        ("slow share", "the predicted part is slow (TFA)", "slow share", "higher"),
    ):
        for theirs, words in (
            (Reading(method, NOVEL, measure), "novel"),
            (Reading("running_mean", PREDICTED, measure), "the running mean"),
        ):
            ours = Reading(method, PREDICTED, measure)
            row = f"{name}{start}, predicted against {words}"
            rows.append(Row(row, says, ours, theirs, better, 0.0, _STARTS))  # type: ignore[arg-type]
    measure = "share of both norms, mean subtracted"
    says = "most of the norm is predicted (TFA: 74 to 81 %)"
    own, novel = (Reading(method, chunk, measure) for chunk in (PREDICTED, NOVEL))
    rows.append(
        Row(
            f"share of both norms{start}, less the mean, predicted against novel",
            says,
            own,
            novel,
            "higher",
            0.0,
            _STARTS,
        )
    )
    for control, words in (("running_mean", "the running mean"), ("recall", "untrained recall")):
        for measure, better, name in (
            ("share of both norms, mean subtracted", "higher", "share of both norms"),
            ("NMSE alone, mean subtracted", "lower", "NMSE alone"),
        ):
            ours, theirs = (Reading(one, PREDICTED, measure) for one in (method, control))
            row = f"{name}{start}, less the mean, predicted against {words}"
            says = "learning predicts more than a mean of earlier tokens does (what the paper's claim asks)"
            rows.append(Row(row, says, ours, theirs, better, 0.0, _STARTS))  # type: ignore[arg-type]
    return rows


def _temporal_feature_analysis() -> list[Row]:
    rows = [
        Row(
            f"NMSE, against {words} of the same number of latents",
            "reconstructs as well as SAEs of that L0 (TFA)",
            Reading("tfa", ALL, "NMSE"),
            Reading(other, ALL, "NMSE"),
            "lower",
            0.0,
            "more tokens; wider dictionaries",
        )
        for other, words in (("batch_top_k_narrow", "BatchTopK"), ("top_k_narrow", "TopK"))
    ]
    return (
        rows + _predicted_and_novel("tfa", "") + _predicted_and_novel("tfa_paper_start", " (paper's start)")
    )


GROUPS = {
    "T-SAE: steady high-level latents": _steadiness,
    "T-SAE: the price": _reconstruction,
    "T-SAE: what latents know": _probes,
    "Passages and events": _events,
    "Garden paths": _garden_paths,
    "Preference pairs": _preferences,
    "Steering": _steering,
    "TFA: predicted and novel": _temporal_feature_analysis,
}
ROWS: tuple[Row, ...] = tuple(row._replace(group=group) for group, rows in GROUPS.items() for row in rows())
