"""The sizes of a TemporalSAE from its tensors, checked against what its config says.

Axes: D model width, W atoms, N width of keys and queries.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import state_sizes
from dictionary_learning.errors import UserError

NAME = "TemporalSAE"
UNSET_THRESHOLD = -1.0


class Rebuilt(NamedTuple):
    """What makes a TemporalSAE anew."""

    state: dict[str, Tensor]  # with the names and shapes of its own state_dict
    arguments: dict[str, Any]  # of its constructor


def rebuild(state: dict[str, Tensor], config: dict[str, Any]) -> Rebuilt:
    """What the tensors of `ae.pt` or of a released file make, together with `config`.

    Args:
        config: see `TemporalSAE.from_state_dict`.

    Raises:
        UserError: a key is missing or unexpected, or the sizes do not fit each other or `config`.
    """
    state = dict(state)
    for key in ("n_heads", "sae_diff_type"):
        if config.get(key) is None:
            raise UserError(f"the config of this TemporalSAE lacks {key}, which its weights do not tell.")
    # without any, the keys that are missing are told below
    n_layers = len({key.split(".")[1] for key in state if key.startswith("attn_layers.")}) or 1
    tied = "E" not in state
    for key, found in (("tied_weights", tied), ("n_attn_layers", n_layers)):
        if config.get(key) not in (None, found):
            raise UserError(
                f"{key} is {config[key]} in the config of this TemporalSAE, and {found} in its weights: "
                "the two do not belong together."
            )
    if "b" in state and state["b"].ndim == 1:
        state["b"] = state["b"].unsqueeze(0)
    state.setdefault("scaling_factor", torch.tensor(1.0))
    shapes = {"D": "WD", "b": "1D", "scaling_factor": ""} | ({} if tied else {"E": "DW"})
    for i in range(n_layers):
        for name, axes in (("k_ctx", "NW"), ("q_target", "NW"), ("v_ctx", "WW"), ("c_proj", "WW")):
            shapes |= {f"attn_layers.{i}.{name}.weight": axes, f"attn_layers.{i}.{name}.bias": axes[0]}
    if config["sae_diff_type"] == "batchtopk":
        state.setdefault("expected_min_act", torch.full((1,), UNSET_THRESHOLD))
        shapes["expected_min_act"] = "1"
    else:
        state.pop("expected_min_act", None)
    sizes = state_sizes(NAME, state, shapes, {"activation_dim": config.get("activation_dim")})
    for key, found in (("width", sizes["W"]), ("dict_size", 2 * sizes["W"])):
        if config.get(key) not in (None, found):
            raise UserError(
                f"{key} is {config[key]} in the config of this TemporalSAE, and {found} in its weights "
                f"({sizes['W']} atoms): the two do not belong together."
            )
    bottleneck = sizes["W"] // sizes["N"]
    if config.get("bottleneck_factor") not in (None, bottleneck):
        raise UserError(
            f"bottleneck_factor is {config['bottleneck_factor']} in the config of this TemporalSAE, and "
            f"{bottleneck} in its weights: the two do not belong together."
        )
    arguments = {
        "dimin": sizes["D"],
        "width": sizes["W"],
        "n_heads": int(config["n_heads"]),
        "sae_diff_type": config["sae_diff_type"],
        "kval_topk": config.get("kval_topk"),
        "tied_weights": tied,
        "n_attn_layers": n_layers,
        "bottleneck_factor": bottleneck,
        "context_length": config.get("context_length"),
    }
    return Rebuilt(state, arguments)
