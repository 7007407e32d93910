"""The place in a language model that a dictionary reads, under all the names that it has.

Three outputs of a decoder layer are read here, its sites: the residual stream after the layer (`resid`), and
what its attention (`attn`) or its MLP (`mlp`) adds to that stream. What a layer is given is what the layer
before it returns, so `in` of layer 8 is read as the output of layer 7. A dictionary of another place keeps
its name when it is converted, and is refused where activations are to be read.

    Place(8, site="mlp")                            what the MLP of layer 8 adds
    Place.of_hook("blocks.8.hook_resid_pre")        of TransformerLens, which SAELens names
    Place.of_hook("model.layers.7")                 of transformers, which SAELens names, too
    Place.of_submodule("mlp_out_layer_2")           of the dictionary_learning library
    Place.of_run(config)                            of a run, by all that its config.json says
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dictionary_learning.errors import UserError

RESIDUAL = "resid"
# Each with its name in a hook of TransformerLens, which is the library's as well.
SITES = {RESIDUAL: "resid_post", "attn": "attn_out", "mlp": "mlp_out"}
_OWNERS = {"attn": "attention", "mlp": "MLP"}
# Other places, by the words of a hook's name; the first that is found counts. An attention layer or an MLP
# without more words is not its output: it can be the neurons, the queries, what goes in.
_WORDS = {
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
_ELSEWHERE = {"mlp": "ffn", "attn": "attention"}  # the words whose own name is that of an output
_PARTS = {"mlp": "mlp", "ffn": "mlp", "transcoder": "transcoder", "attn": "attn", "attention": "attn"}
_NOT_OUT = {"in", "input", "pre", "mid", "post", "act", "hidden", "neuron", "neurons", "z", "q", "k", "v"}
_HOOK = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_post|attn_out|mlp_out)")
_MODULE = re.compile(r"(?:[a-z_]+\.)*(?:layers|layer|h|blocks|block)\.(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"(?:layer_?|layers\.|blocks?\.|\bh\.)(\d+)", re.IGNORECASE)
_RESIDUAL_IN = re.compile(r"resid(?:ual)?_(?:pre|in)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """Where activations are read. In a sentence it is `layer 8`, or `the MLP of layer 8`."""

    layer: int | None
    """Decoder layer, from 0; None where the name has none."""
    io: str = "out"
    """`out`: what the layer, or the part of it, returns; `in`: what it is given."""
    site: str = RESIDUAL
    """One of `SITES`, or the word that says which other part of the layer it is; empty where the name says
    nothing."""
    name: str = field(default="", compare=False)
    """The name it came under."""

    def __str__(self) -> str:
        layer = "a layer" if self.layer is None else f"layer {self.layer}"
        return f"the {_OWNERS[self.site]} of {layer}" if self.is_added else layer

    @property
    def is_added(self) -> bool:
        """Whether it is what attention or MLP add to the residual stream, and not the stream itself."""
        return self.site in _OWNERS

    @property
    def output(self) -> "Place | None":
        """The output of a decoder layer that has these activations; None where none has."""
        if self.site not in SITES or self.layer is None or self.io not in ("in", "out"):
            return None
        if self.io == "in" and (self.is_added or self.layer == 0):
            return None
        return Place(self.layer - (self.io == "in"), site=self.site, name=self.name)

    @property
    def submodule_name(self) -> str:
        """What the dictionary_learning library calls an output, such as `resid_post_layer_8`."""
        return f"{SITES[self.site]}_layer_{self.layer}"

    @property
    def hook_name(self) -> str | None:
        """Its name in TransformerLens; None where that is not known."""
        if self.site == RESIDUAL and self.layer is not None:
            return f"blocks.{self.layer}.hook_resid_{'pre' if self.io == 'in' else 'post'}"
        if "hook_" in self.name:
            return self.name
        hook = {**SITES, "mid": "resid_mid"}.get(self.site)
        if hook is None or self.layer is None or self.io != "out" or "." in self.name:
            return None
        return f"blocks.{self.layer}.hook_{hook}"

    @property
    def description(self) -> str:
        """What it is, in words."""
        if self.site == RESIDUAL:
            where = "before" if self.io == "in" else "after"
            is_embedding = self.layer == 0 and self.io == "in"
            return "the embeddings" if is_embedding else f"the residual stream {where} layer {self.layer}"
        if self.is_added:
            verb = "is given" if self.io == "in" else "adds to the residual stream"
            return f"what {self} {verb}"
        return _WORDS.get(self.site, "a place that is not known here")

    @classmethod
    def of_hook(cls, name: str) -> "Place":
        """The place that TransformerLens, or transformers, calls by that name."""
        if match := _HOOK.fullmatch(name):
            site = match[2].partition("_")[0]
            return cls(int(match[1]), "in" if match[2] == "resid_pre" else "out", site, name)
        if match := _MODULE.fullmatch(name):
            return cls(int(match[1]), name=name)
        words = _words(name)
        site = next((site for site in _WORDS if site in words), "")
        return cls(_number(name), "in" if words & {"pre", "in"} else "out", _ELSEWHERE.get(site, site), name)

    @classmethod
    def of_submodule(cls, name: str) -> "Place":
        """The place that a run calls by that name, such as `resid_post_layer_8`.

        The name is free text: without a word that says otherwise it means the residual stream, and with one
        of an attention layer or an MLP its output.
        """
        if "hook_" in name or _MODULE.fullmatch(name):
            return cls.of_hook(name)
        words = _words(name)
        site = next((_PARTS[word] for word in _PARTS if word in words), RESIDUAL)
        if site in _ELSEWHERE and words & _NOT_OUT:
            site = _ELSEWHERE[site]
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
        site = str(buffer.get("site") or named.site)
        told = trainer.get("layer") if trainer.get("layer") is not None else named.layer
        layer = told if recorded is None else recorded
        if recorded is None and named.io == "in" and io == "out":
            io = "in"
        if site == RESIDUAL and layer is None:
            return None
        return cls(layer, io, site, named.name)


def place_to_read(
    config: Mapping[str, Any], layer: int | None = None, site: str | None = None, where: Any = None
) -> Place | None:
    """The output of a decoder layer that a dictionary is to be given; None where nothing says.

    Args:
        config: the content of the run's config.json.
        layer, site: what was asked for, which stands over the run's.
        where: the dictionary's folder, for the message.

    Raises:
        UserError: the dictionary was trained at a place that is no such output, whatever was asked for.
    """
    place = Place.of_run(config) or Place(None)
    if place.layer is None and place.site in SITES:
        if layer is None:
            return None
        place = replace(place, layer=layer)
    output = place.output
    if output is None:
        name = place.name if place.io in ("in", "out") else f"io {place.io}"
        raise UserError(
            f"the dictionary{'' if where is None else f' in {where}'} was trained on {place.description}"
            f"{f' ({name})' if name else ''}, and only the residual stream after a decoder layer and what "
            "its attention and its MLP add to it are read here: choose a dictionary of one of those."
        )
    return Place(output.layer if layer is None else layer, site=site or output.site, name=output.name)


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", re.sub(r"(layer)(\d)", r"\1_\2", name.lower())))


def _number(name: str) -> int | None:
    match = _NUMBER.search(name)
    return int(match[1]) if match else None
