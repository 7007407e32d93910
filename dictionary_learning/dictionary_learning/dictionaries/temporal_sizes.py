"""Which sizes and kinds of a TemporalSAE go together, and which controls it has; known without torch."""

from dictionary_learning.errors import UserError

NOVEL_KINDS = ("topk", "batchtopk", "relu", "nullify")
CONTROLS = ("corpus_mean", "running_mean", "recall")  # see context_mean.py


def check_sizes(
    width: int,
    n_heads: int,
    bottleneck_factor: int,
    n_attn_layers: int,
    sae_diff_type: str,
    kval_topk: int | None,
    value_rank: int | None = None,
) -> None:
    """Refuse sizes that do not go together.

    Raises:
        UserError: names the value and what would do.
    """
    for name, value in (
        ("n_heads", n_heads),
        ("bottleneck_factor", bottleneck_factor),
        ("n_attn_layers", n_attn_layers),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}, and must be at least 1.")
    if width % n_heads:
        raise UserError(
            f"{n_heads} attention heads do not divide the {width} atoms: choose n_heads among the divisors "
            f"of {width}."
        )
    narrow = width // bottleneck_factor
    if width % bottleneck_factor or narrow % n_heads:
        raise UserError(
            f"{n_heads} attention heads do not divide keys of width {width} / {bottleneck_factor} "
            "(width / bottleneck_factor): choose another n_heads or bottleneck_factor."
        )
    _check_value_rank(value_rank, width, n_heads)
    if sae_diff_type not in NOVEL_KINDS:
        raise UserError(f"sae_diff_type is {sae_diff_type!r}: choose one of {', '.join(NOVEL_KINDS)}.")
    if sae_diff_type in ("topk", "batchtopk") and not 0 < (kval_topk or 0) <= width:
        raise UserError(
            f"kval_topk is {kval_topk}, and must be between 1 and the {width} atoms where sae_diff_type is "
            f"{sae_diff_type}."
        )


def _check_value_rank(value_rank: int | None, width: int, n_heads: int) -> None:
    if value_rank is None:
        return
    if not 0 < value_rank <= width:
        raise UserError(
            f"value_rank is {value_rank}, and must be between 1 and the {width} atoms: choose one there, or "
            "leave it out for values as wide as the atoms."
        )
    if value_rank % n_heads:
        raise UserError(
            f"{n_heads} attention heads do not divide value_rank {value_rank}: choose a multiple of "
            f"{n_heads}."
        )
