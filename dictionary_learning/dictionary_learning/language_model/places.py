"""The place in a language model that a dictionary reads, under all the names that it has.

Only the residual stream after a decoder layer can be read here. What a layer is given is what the layer
before it returns, so `in` of layer 8 is read as the output of layer 7. A dictionary of another place keeps
its name when it is converted, and is refused where activations are to be read.

    Place.of_hook("blocks.8.hook_resid_pre")        of TransformerLens, which SAELens names
    Place.of_hook("model.layers.7")                 of transformers, which SAELens names, too
    Place.of_submodule("mlp_out_layer_2")           of the dictionary_learning library
    Place.of_run(config)                            of a run, by all that its config.json says
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dictionary_learning.errors import UserError

RESIDUAL = "resid"
# What the words of a hook's name say; the first that is found counts.
_SITES = {
    "z": "the heads of an attention layer",
    "head": "a head of an attention layer",
    "mid": "the residual stream between attention and MLP",
    "mlp": "an MLP",
    "ffn": "an MLP",
    "transcoder": "an MLP",
    "attn": "an attention layer",
    "attention": "an attention layer",
    "ln1": "a normalised residual stream",
    "ln2": "a normalised residual stream",
    "normalized": "a normalised residual stream",
    "embed": "the embeddings",
    "embeddings": "the embeddings",
}
_PARTS = ("mlp", "ffn", "transcoder", "attn", "attention")
_HOOKS = {
    "mlp": "hook_mlp_out",
    "attn": "hook_attn_out",
    "attention": "hook_attn_out",
    "mid": "hook_resid_mid",
}
_RESIDUAL_HOOK = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
_MODULE = re.compile(r"(?:[a-z_]+\.)*(?:layers|layer|h|blocks|block)\.(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"(?:layer_?|layers\.|blocks?\.|\bh\.)(\d+)", re.IGNORECASE)
_RESIDUAL_IN = re.compile(r"resid(?:ual)?_(?:pre|in)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where activations are read."""

    layer: int | None
    """Decoder layer, from 0; None where the name has none."""
    io: str = "out"
    """`out`: what the layer, or the part of it, returns; `in`: what it is given."""
    site: str = RESIDUAL
    """`resid`, or the word that says which part of the layer it is; empty where the name says nothing."""
    name: str = ""
    """The name it came under."""

    @property
    def output_layer(self) -> int | None:
        """The decoder layer whose output this is; None where it is something else."""
        if self.site != RESIDUAL or self.layer is None or self.io not in ("in", "out"):
            return None
        layer = self.layer - (self.io == "in")
        return layer if layer >= 0 else None

    @property
    def hook_name(self) -> str | None:
        """Its name in TransformerLens; None where that is not known."""
        if self.site == RESIDUAL and self.layer is not None:
            return f"blocks.{self.layer}.hook_resid_{'pre' if self.io == 'in' else 'post'}"
        if "hook_" in self.name:
            return self.name
        hook = _HOOKS.get(self.site)
        if hook is None or self.layer is None or self.io != "out" or "." in self.name:
            return None
        return f"blocks.{self.layer}.{hook}"

    @property
    def description(self) -> str:
        """What it is, in words."""
        if self.site == RESIDUAL:
            where = "before" if self.io == "in" else "after"
            is_embedding = self.layer == 0 and self.io == "in"
            return "the embeddings" if is_embedding else f"the residual stream {where} layer {self.layer}"
        return _SITES.get(self.site, "a place that is not known here")

    @classmethod
    def of_hook(cls, name: str) -> "Place":
        """The place that TransformerLens, or transformers, calls by that name."""
        if match := _RESIDUAL_HOOK.fullmatch(name):
            return cls(int(match[1]), "in" if match[2] == "pre" else "out", name=name)
        if match := _MODULE.fullmatch(name):
            return cls(int(match[1]), name=name)
        words = _words(name)
        site = next((site for site in _SITES if site in words), "")
        return cls(_number(name), "in" if words & {"pre", "in"} else "out", site, name)

    @classmethod
    def of_submodule(cls, name: str) -> "Place":
        """The place that a run calls by that name, such as `resid_post_layer_8`.

        The name is free text: without a word that says otherwise it means the residual stream.
        """
        if "hook_" in name or _MODULE.fullmatch(name):
            return cls.of_hook(name)
        words = _words(name)
        site = next((site for site in _PARTS if site in words), RESIDUAL)
        if site == RESIDUAL and "mid" in words and words & {"resid", "residual"}:
            site = "mid"
        return cls(_number(name), "in" if _RESIDUAL_IN.search(name) else "out", site, name)

    @classmethod
    def of_run(cls, config: Mapping[str, Any]) -> "Place | None":
        """The place that the activations of a run came from; None where its config names none.

        What was recorded of the activations stands over what the trainer was told of them.

        Args:
            config: the content of a run's config.json.
        """
        trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
        if trainer.get("hook_name"):
            return cls.of_hook(str(trainer["hook_name"]))
        recorded, io = buffer.get("layer"), buffer.get("io") or "out"
        named = cls.of_submodule(str(trainer.get("submodule_name") or ""))
        told = trainer.get("layer") if trainer.get("layer") is not None else named.layer
        layer = told if recorded is None else recorded
        if recorded is None and named.io == "in" and io == "out":
            io = "in"
        if named.site == RESIDUAL and layer is None:
            return None
        return cls(layer, io, named.site, named.name)


def layer_to_read(config: Mapping[str, Any], given: int | None = None, where: Any = None) -> int | None:
    """The decoder layer whose output a dictionary is to be given; None where nothing says.

    Args:
        config: the content of the run's config.json.
        given: a layer that was asked for, which stands over the run's.
        where: the dictionary's folder, for the message.

    Raises:
        UserError: the dictionary was trained at a place that is not the output of a decoder layer, whatever
            layer was asked for.
    """
    place = Place.of_run(config)
    if place is None:
        return given
    layer = place.output_layer
    if layer is None:
        name = place.name if place.io in ("in", "out") else f"io {place.io}"
        raise UserError(
            f"the dictionary{'' if where is None else f' in {where}'} was trained on {place.description}"
            f"{f' ({name})' if name else ''}, and only the residual stream after a decoder layer is read "
            "here: choose a dictionary of that."
        )
    return layer if given is None else given


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", re.sub(r"(layer)(\d)", r"\1_\2", name.lower())))


def _number(name: str) -> int | None:
    match = _NUMBER.search(name)
    return int(match[1]) if match else None
