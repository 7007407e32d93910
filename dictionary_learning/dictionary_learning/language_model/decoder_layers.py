"""Finding a transformer's decoder layers by structure, and what each of them adds to the residual stream.

    x before a layer + attention + MLP = x after it

is what makes a module's output the one that TransformerLens calls `hook_attn_out` or `hook_mlp_out`. Which
module that is differs: Gemma 2 has a norm between the attention and the sum, the attention of Bloom returns
the sum itself, Granite multiplies what it adds. So names give candidates, and a short pass through the layer
tells which of them add up; where none do, as with Granite, there is no such module.

Shapes: B texts, L positions, D model width.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.hooks import hidden_states, record, unflattened

_MODULES = {
    "attn": ("self_attn", "self_attention", "attention", "attn", "linear_attn"),
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "fc2"),
}
# Behind attention and MLP; under the name of the second Llama has the norm in front of its MLP.
_NORMS = {
    "attn": ("post_self_attn_layernorm", "post_attention_layernorm"),
    "mlp": ("post_mlp_layernorm", "post_feedforward_layernorm"),
}
# Adapters of PEFT that put vectors of their own in front of a text's: positions are no longer its tokens'.
_WITH_VIRTUAL_TOKENS = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "CPT"}
_PROBE_TOKENS = 8
_TOLERANCE = 1e-3  # of the lengths of what is added, beside the rounding of the sums


def is_of_nnsight(model: Any) -> bool:
    """Whether it is nnsight's view of a module."""
    nnsight = sys.modules.get("nnsight")  # whoever holds one of its objects has imported it
    return nnsight is not None and isinstance(model, nnsight.Envoy)


def unwrapped(model: Any) -> Any:
    """The torch module behind nnsight's view of one, or behind data parallelism; others as they are."""
    if isinstance(model, DataParallel | DistributedDataParallel):
        return unwrapped(model.module)
    return model._module if is_of_nnsight(model) else model


def find_decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Path inside a transformers model, and list, of its decoder layers.

    They are the outermost list of modules that has as many members as the config has hidden layers,
    the largest one if there are several.

    Raises:
        UserError: the model has no such list, or an adapter with virtual tokens.
    """
    adapter = getattr(getattr(model, "active_peft_config", None), "peft_type", None)
    if adapter in _WITH_VIRTUAL_TOKENS:
        raise UserError(
            f"the adapter of {type(model).__name__} ({adapter.lower()}) puts virtual tokens in front of each "
            "text, so that its activations are not those of the text's tokens: take the model without it "
            "(model.get_base_model()), or an adapter that has none, such as LoRA or prefix tuning."
        )
    n_layers = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    other_towers = ("vision", "visual", "audio", "encoder.")
    found = [
        (path.count("."), -sum(weight.numel() for weight in module.parameters()), path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == n_layers
        and not any(tower in path for tower in other_towers)
    ]
    if not found:
        raise UserError(f"{type(model).__name__} has no list of decoder layers: choose a decoder-only model.")
    *_, path, layers = min(found)
    return path, layers


@torch.no_grad()
def find_added(model: Any, layer: nn.Module) -> dict[str, nn.Module]:
    """The modules of a decoder layer whose outputs it adds to the residual stream, by site: attn and mlp.

    Raises:
        UserError: none add up to what the layer makes of the stream.
    """
    candidates = {site: dict(_candidates(layer, site)) for site in _MODULES}
    kind = type(layer).__name__
    for site, found in candidates.items():
        if not found:
            there = ", ".join(name for name, _ in layer.named_children())
            raise UserError(
                f"{kind} has no module named {', '.join(_MODULES[site])} (it has {there}), so that what its "
                "attention and its MLP add to the residual stream cannot be read: choose --site resid."
            )
    seen = _probe(model, layer, {name: one for found in candidates.values() for name, one in found.items()})
    misfit = {
        pair: _misfit(seen["before"], seen["after"], seen[pair[0]] + seen[pair[1]])
        for pair in product(candidates["attn"], candidates["mlp"])
        if {"before", *pair} <= seen.keys()
    }
    attn, mlp = min(misfit, key=lambda pair: misfit[pair], default=("", ""))
    if not misfit or misfit[attn, mlp] > _rounding(seen):
        names = ", ".join({**candidates["attn"], **candidates["mlp"]})
        raise UserError(
            f"what {kind} adds to the residual stream is not the sum of what its modules {names} return, so "
            "that the share of its attention and its MLP cannot be read: choose --site resid."
        )
    return {"attn": candidates["attn"][attn], "mlp": candidates["mlp"][mlp]}


def _candidates(layer: nn.Module, site: str) -> Iterator[tuple[str, nn.Module]]:
    """By name: the module itself, the norm behind it, and its last linear map, for a module that sums."""
    children = dict(layer.named_children())
    own = next((name for name in _MODULES[site] if name in children), None)
    if own is None:
        return
    yield own, children[own]
    yield from ((name, children[name]) for name in _NORMS[site] if name in children)
    maps = [(name, part) for name, part in children[own].named_modules() if isinstance(part, nn.Linear)]
    yield from ((f"{own}.{name}", part) for name, part in maps[-1:] if name)


def _probe(model: Any, layer: nn.Module, candidates: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The residual stream `before` and `after` a layer, and what candidates return, [L, D] over a few tokens.

    What is of another shape than the stream is left out.
    """
    embedding = model.get_input_embeddings().weight
    step = max(1, len(embedding) // (_PROBE_TOKENS + 1))
    tokens_BL = step * torch.arange(1, _PROBE_TOKENS + 1, device=embedding.device)[None] % len(embedding)
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> None:
        x = hidden_states(output)
        if torch.is_tensor(x):
            seen[name] = unflattened(x, tokens_BL.shape).clone()

    with ExitStack() as hooks:
        handle = layer.register_forward_pre_hook(
            lambda module, args, inputs: keep("before", (*args, *inputs.values())), with_kwargs=True
        )
        hooks.callback(handle.remove)
        for name, module in candidates.items():
            handle = module.register_forward_hook(lambda module, args, output, name=name: keep(name, output))
            hooks.callback(handle.remove)
        inputs = {"input_ids": tokens_BL, "attention_mask": torch.ones_like(tokens_BL)}
        (seen["after"],) = record(model, inputs, [layer])
    after = seen["after"]
    return {name: x[0].to(after.device) for name, x in seen.items() if x.shape == after.shape}


def _misfit(before_LD: Tensor, after_LD: Tensor, added_LD: Tensor) -> float:
    """How far the sum is from the stream after the layer, as a share of what the layer adds.

    The median of the positions: a first one may be so long that all that is added to it is rounded off.
    """
    change_LD = after_LD.double() - before_LD.double()
    error_L = (change_LD - added_LD.double()).norm(dim=1) / change_LD.norm(dim=1)
    return float(error_L.nan_to_num(torch.inf).median())


def _rounding(seen: Mapping[str, Tensor]) -> float:
    """What the misfit of the right modules may be: sums are rounded to the model's own numbers."""
    before_LD, after_LD = seen["before"].double(), seen["after"].double()
    length_L = (before_LD.norm(dim=1) + after_LD.norm(dim=1)) / 2
    share_L = (length_L / (after_LD - before_LD).norm(dim=1)).nan_to_num()
    return _TOLERANCE + torch.finfo(seen["after"].dtype).eps * float(share_L.median())
