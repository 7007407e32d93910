"""The methods that are compared, the lengths of their training, and where their runs lie."""

from pathlib import Path
from typing import NamedTuple

BUDGETS = (300_000, 1_000_000, 3_000_000, 10_000_000)
"""Pairs of tokens that a T-SAE is trained on; tokens, for the others."""
BASELINE = "baseline_model"
CONTROLS = ("running_mean", "recall")
"""Predicted parts that nobody trained, as `temporal-saes controls` writes them."""
UNTRAINED = (BASELINE, *CONTROLS)


class Method(NamedTuple):
    """One way to train a dictionary."""

    title: str
    script: str  # train, train-baseline or train-attention
    flags: tuple[str, ...]
    chunks: tuple[int, ...]  # that experiments look at: 0 high or predicted, 1 low or novel, 2 all
    has_threshold: bool  # whether inference needs one, which is set to the same L0 for all


METHODS = {
    "tsae": Method("T-SAE", "train", (), (0, 1), True),
    # the same trainer, pairs and groups: what is left is what the temporal term does
    "tsae_strength_0": Method("T-SAE, strength 0", "train", ("--temp_alpha", "0"), (0, 1), True),
    "matryoshka": Method("Matryoshka", "train-baseline", ("--arch", "matryoshka"), (0, 1), True),
    "batch_top_k": Method("BatchTopK", "train-baseline", ("--arch", "batch_top_k"), (2,), True),
    "top_k": Method("TopK", "train-baseline", ("--arch", "top_k"), (2,), False),
    "tfa": Method("TemporalSAE", "train-attention", (), (0, 1), False),
    # from random weights and a bias of zero, with the paper's rates
    "tfa_paper_start": Method(
        "TemporalSAE, the paper's start",
        "train-attention",
        (
            *("--start", "random", "--bias_start", "zero", "--lr", "0.001", "--atom_lr", "0.001"),
            *("--lr_floor", "0.9", "--weight_decay", "0.0001"),
        ),
        (0, 1),
        False,
    ),
    # as many latents as the TemporalSAE, whose step grows with the square of their number
    "batch_top_k_narrow": Method(
        "BatchTopK, narrow", "train-baseline", ("--arch", "batch_top_k"), (2,), True
    ),
    "top_k_narrow": Method("TopK, narrow", "train-baseline", ("--arch", "top_k"), (2,), False),
}
NARROW = ("batch_top_k_narrow", "top_k_narrow")


def run_name(method: str, budget: int) -> str:
    """Such as `tsae-300000`."""
    return f"{method}-{budget}"


def method_and_budget(run: str) -> tuple[str, int] | None:
    """What `run_name` was made of; None for another name."""
    method, _, budget = run.rpartition("-")
    return (method, int(budget)) if method in METHODS and budget.isdigit() else None


def trained(runs: Path, method: str, budget: int, seeds: int) -> bool:
    """Whether every seed of a run is there to its end."""
    folder = runs / run_name(method, budget)
    return all((folder / f"trainer_{seed}" / "ae.pt").is_file() for seed in range(seeds))
