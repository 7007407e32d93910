"""The sizes of a TemporalSAE from its tensors, checked against what its config says, and its released form.

Axes: D model width, W atoms, N width of keys and queries, V width of values.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, state_sizes
from dictionary_learning.errors import UserError

NAME = "TemporalSAE"


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
        for name, axes in (("k_ctx", "NW"), ("q_target", "NW"), ("v_ctx", "VW"), ("c_proj", "WV")):
            shapes |= {f"attn_layers.{i}.{name}.weight": axes, f"attn_layers.{i}.{name}.bias": axes[0]}
    if config["sae_diff_type"] == "batchtopk":
        state.setdefault("expected_min_act", torch.full((1,), UNSET_THRESHOLD))
        shapes["expected_min_act"] = "1"
    else:
        state.pop("expected_min_act", None)
    sizes = state_sizes(NAME, state, shapes, {"activation_dim": config.get("activation_dim")})
    if not float(state["scaling_factor"]) > 0:
        raise UserError(
            f"scaling_factor of this TemporalSAE is {float(state['scaling_factor']):g}, and must be above 0: "
            "take another checkpoint of the run."
        )
    for key, found in (("width", sizes["W"]), ("dict_size", 2 * sizes["W"])):
        if config.get(key) not in (None, found):
            raise UserError(
                f"{key} is {config[key]} in the config of this TemporalSAE, and {found} in its weights "
                f"({sizes['W']} atoms): the two do not belong together."
            )
    bottleneck = sizes["W"] // sizes["N"]
    for key, found in (("bottleneck_factor", bottleneck), ("value_rank", sizes["V"])):
        if config.get(key) not in (None, found):
            raise UserError(
                f"{key} is {config[key]} in the config of this TemporalSAE, and {found} in its weights: "
                "the two do not belong together."
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
        "value_rank": sizes["V"],
        "context_length": config.get("context_length"),
    }
    return Rebuilt(state, arguments)


class Released(NamedTuple):
    """A TemporalSAE in the terms of the released code."""

    state: dict[str, Tensor]
    architecture: dict[str, Any]


def released_form(state: Mapping[str, Tensor], architecture: Mapping[str, Any]) -> Released:
    """The tensors and sizes with which code that knows no `value_rank` computes the same codes.

    Zeros follow each head's values, and meet zeros in `c_proj`.

    Args:
        state, architecture: of a TemporalSAE; tensors are taken over where they need not change.
    """
    kept = {name: value for name, value in architecture.items() if name != "value_rank"}
    if architecture["value_rank"] is None:
        return Released(dict(state), kept)
    width, n_heads = len(state["D"]), architecture["n_heads"]

    def widened(x: Tensor, axis: int) -> Tensor:
        parts = x.unflatten(axis, (n_heads, -1))
        wide = x.new_zeros(*parts.shape[: axis + 1], width // n_heads, *parts.shape[axis + 2 :])
        wide.narrow(axis + 1, 0, parts.shape[axis + 1]).copy_(parts)
        return wide.flatten(axis, axis + 1)

    made = dict(state)
    for name, tensor in state.items():
        if ".v_ctx." in name:
            made[name] = widened(tensor, 0)
        elif name.endswith(".c_proj.weight"):
            made[name] = widened(tensor, 1)
    return Released(made, kept)
