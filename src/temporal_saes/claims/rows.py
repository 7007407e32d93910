"""The claims: what a paper says, which two numbers tell, and what would change the answer.

T-SAE: arXiv 2511.05541. TFA (Temporal Feature Analysis): arXiv 2511.01836.
"""

from typing import Literal, NamedTuple

from temporal_saes.claims.methods import BASELINE


class Reading(NamedTuple):
    """One number of one method."""

    method: str
    chunk: int
    measure: str  # as `readings` names it


class Row(NamedTuple):
    """A claim: `ours` is better than `theirs`, or worse by less than `margin`."""

    name: str
    says: str
    ours: Reading
    theirs: Reading
    better: Literal["higher", "lower"]
    margin: float
    changes: str  # what could change the verdict


ALL, HIGH, LOW = 2, 0, 1
PREDICTED, NOVEL = 0, 1
PROBE_KS = (1, 5, 20)
_MORE_PAIRS = "more pairs: the paper's runs have a hundred times as many"
_TEXTS = "other texts and classes; more labelled texts"


def _against(
    name: str,
    says: str,
    measure: str,
    better: Literal["higher", "lower"],
    margin: float = 0.0,
    chunk: int = HIGH,
    changes: str = _MORE_PAIRS,
) -> list[Row]:
    """The T-SAE against the Matryoshka SAE, and against itself without the temporal term."""
    ours = Reading("tsae", chunk, measure)
    return [
        Row(f"{name}, against {words}", says, ours, Reading(other, chunk, measure), better, margin, changes)
        for other, words in (("matryoshka", "Matryoshka"), ("tsae_strength_0", "strength 0"))
    ]


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


def _reconstruction() -> list[Row]:
    rows: list[Row] = []
    for measure, margin in (("FVE", 0.02), ("cosine", 0.02)):
        says = f"{measure} within {margin} of the baselines' (T-SAE)"
        rows += _against(measure, says, measure, "higher", margin, ALL)
    rows += _against("alive latents", "as many as the baselines (T-SAE)", "alive", "higher", 0.0, ALL)
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
    predicted = ("tfa", PREDICTED)
    for name, says, measure, better, theirs in (
        (
            "boundaries of passages (F1), predicted codes against raw activations",
            "the predicted codes see events (TFA)",
            "boundaries, F1",
            "higher",
            (BASELINE, ALL),
        ),
        (
            "boundaries of passages (F1), predicted codes against BatchTopK",
            "the predicted codes see events (TFA)",
            "boundaries, F1",
            "higher",
            ("batch_top_k", ALL),
        ),
        (
            "effective rank, predicted against novel",
            "the predicted part has few dimensions (TFA)",
            "effective rank",
            "lower",
            ("tfa", NOVEL),
        ),
        (
            "slow share, predicted against novel",
            "the predicted part is slow (TFA)",
            "slow share",
            "higher",
            ("tfa", NOVEL),
        ),
        (
            "tortuosity, predicted against novel",
            "the predicted part's path is straighter (TFA)",
            "tortuosity",
            "lower",
            ("tfa", NOVEL),
        ),
    ):
        ours, other = Reading(*predicted, measure), Reading(*theirs, measure)
        changes = "a start whose bias is zero (the paper's); more tokens" if "bound" not in name else _TEXTS
        rows.append(Row(name, says, ours, other, better, 0.0, changes))  # type: ignore[arg-type]
    return rows


ROWS: tuple[Row, ...] = (
    *_against(
        "smoothness of high-level latents",
        "they change less from token to token (T-SAE)",
        "smoothness",
        "lower",
    ),
    *_reconstruction(),
    *_probes(),
    *_temporal_feature_analysis(),
)
