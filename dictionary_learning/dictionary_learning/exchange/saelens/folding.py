"""What SAELens does beside the weights, folded into them: the same function, equal up to rounding.

Shapes: D model width, F latents.
"""

from collections.abc import Mapping

from torch import Tensor

from dictionary_learning.errors import UserError
from dictionary_learning.exchange.fidelity import Fidelity

SCALINGS = ("finetuning_scaling_factor", "scaling_factor")  # of the latents before they are decoded
FOLDED_BIAS = (
    "there the decoder's bias is not subtracted from the input, here it is: what that takes away was added "
    "to the encoder's bias, so that codes are equal up to rounding"
)


def shift(state: Mapping[str, Tensor]) -> Tensor:
    """What subtracting b_dec from the input takes from the pre-activations, [F] in float64."""
    _check_shapes(state)
    return state["b_dec"].double() @ state["W_enc"].double()


def fold_bias(state: dict[str, Tensor], fidelity: Fidelity) -> None:
    state["b_enc"] = (state["b_enc"] + shift(state)).float()
    fidelity.remark(FOLDED_BIAS)


def fold_scaling(state: dict[str, Tensor], fidelity: Fidelity) -> None:
    """Let decoder rows be as long as what finetuning multiplies their latents by."""
    for name in SCALINGS:
        if name in state:
            scale_F = state.pop(name)
            if scale_F.shape != state["W_dec"].shape[:1]:
                raise UserError(f"{name} is {list(scale_F.shape)}, and must have a number for each latent.")
            state["W_dec"] = state["W_dec"] * scale_F.unsqueeze(1)
            fidelity.remark(
                f"there latents are multiplied by {name} before they are decoded: it was folded into the "
                "decoder, so that reconstructions are equal up to rounding"
            )


def fold_decoder_norms(state: dict[str, Tensor], fidelity: Fidelity) -> None:
    """Let codes be in units of the decoder's norms, as `rescale_acts_by_decoder_norm` has them.

    In float32, as SAELens folds when it saves a training checkpoint for inference, so that the weights are
    the same to the last bit: other rounding takes latents at their very threshold to the other side.
    """
    _check_shapes(state)
    norm_F = state["W_dec"].norm(dim=1).clamp_min(1e-8)
    if bool((norm_F == 1).all()):
        return
    state["W_enc"] = state["W_enc"] * norm_F
    state["b_enc"] = state["b_enc"] * norm_F
    state["W_dec"] = state["W_dec"] / norm_F.unsqueeze(1)
    fidelity.remark(
        "there codes are multiplied by the decoder's norms: these were folded into the encoder, so that "
        "codes are equal up to rounding"
    )


def _check_shapes(state: Mapping[str, Tensor]) -> None:
    W_enc, W_dec = state["W_enc"], state["W_dec"]
    if W_enc.ndim != 2 or W_dec.shape != W_enc.T.shape or state["b_dec"].shape != W_enc.shape[:1]:
        raise UserError(
            f"W_enc {list(W_enc.shape)}, W_dec {list(W_dec.shape)} and b_dec {list(state['b_dec'].shape)} do "
            "not go together."
        )
