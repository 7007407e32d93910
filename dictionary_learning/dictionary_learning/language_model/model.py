"""Language models: load one, find its decoder layers, record a layer, intervene on it, generate.

"Layer L" is the residual stream AFTER decoder layer L, counted from 0: what `layers[L]` returns,
before any final norm. `Place(L, site="attn")` and `Place(L, site="mlp")` are what the attention and the MLP
of the layer add to that stream.

Plain hooks do the work. nnsight gives the same numbers bit for bit and costs a little more a call
(`benchmarks/nnsight_cost.py`); `LanguageModel.nnsight` puts it on the same weights for
interventions of one's own.

    lm = LanguageModel.load("demo")
    tokens_BL, mask_BL, _ = lm.tokenize(["The capital of France is"], max_length=128)
    x_BLD = lm.record(tokens_BL, mask_BL, layer=15)
    x_BLD, mlp_BLD = lm.record_several(tokens_BL, mask_BL, [15, Place(15, site="mlp")])
    lm.encode(["The capital of France is"], dictionary, layer=15).codes_BLF
    lm.generate(["The capital of France is"], 15, add(direction_D, 8.0), max_new_tokens=20)
    with lm.steered(dictionary, {5: 30.0}, layer=15):
        lm.generate(["The capital of France is"], max_new_tokens=20)

Shapes: B texts, L positions, D model width, V vocabulary.
"""

import copy
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor, nn

from dictionary_learning.command.devices import (
    QUICKEST,
    SPREAD,
    dtype_for,
    find_device,
    tell_if_slow,
    with_own_defaults,
)
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import hooks
from dictionary_learning.language_model.attach.methods import Attaching
from dictionary_learning.language_model.attach.passes import editing
from dictionary_learning.language_model.decoder_layers import (
    find_added,
    find_decoder_layers,
    is_of_nnsight,
    unwrapped,
)
from dictionary_learning.language_model.generation import Continuation, Watch, continue_prompts
from dictionary_learning.language_model.hooks import Edit
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.source import (
    check_layer,
    given_or_read,
    hub_revision,
    read_model,
)
from dictionary_learning.language_model.text_codes import Encoder, TextCodes, encode_texts
from dictionary_learning.language_model.tokens import Encoding, bos_id, encode, pad, special_ids

Where = int | Place | nn.Module
"""A decoder layer by its number, a place in one, or any module."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LanguageModel(Attaching):
    """A causal language model with its tokenizer.

    Attributes:
        name: what it was asked for by: hub id, folder, or "demo".
        model: the transformers model, in evaluation mode.
        tokenizer: its tokenizer, which truncates on the right.
        layers: the decoder layers; `layers_path` is their name inside `model`.
        d_model: width of the residual stream.
        n_layers: number of decoder layers of the whole model.
        vocab_size: number of logits.
        max_positions: the longest input the model was built for; None if there is no such length.
        special_ids: tokens that are never text: BOS, EOS, padding, unknown, marks of a chat.
        bos_id: the token that the tokenizer puts before every text; None if it puts none.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.name = name
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.tokenizer.truncation_side = "right"
        self.layers_path, self.layers = find_decoder_layers(model)
        config = model.config.get_text_config(decoder=True)
        self.d_model: int = config.hidden_size
        self.n_layers: int = len(self.layers)
        self.vocab_size: int = config.vocab_size
        self.max_positions: int | None = getattr(config, "max_position_embeddings", None)
        self.special_ids: frozenset[int] = special_ids(tokenizer)
        self.bos_id: int | None = bos_id(tokenizer)
        self._nnsight: Any = None
        self._added: dict[int, dict[str, nn.Module]] = {}  # modules by layer and site
        self._usual_norms: dict[Place, float] = {}

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        layer: int | None = None,
    ) -> Self:
        """Load a model by hub id, local folder, or "demo" (fetched when missing).

        Args:
            device: the best there is when left out; "auto" spreads the layers over all devices.
            dtype: of weights and activations: float32, bfloat16 or float16; "auto" is bfloat16 where the
                device multiplies it quicker than float32.
            layer: checked against the config, before the weights are read.

        Raises:
            UserError: unknown model, device, dtype or layer; weights or tokenizer that cannot be read.
        """
        if dtype not in (QUICKEST, *DTYPES):
            raise UserError(f"dtype {dtype!r} is not known: choose one of {', '.join((QUICKEST, *DTYPES))}.")
        found = None if device == SPREAD else find_device(device)
        dtype = dtype_for(dtype, found)
        if found is not None:
            tell_if_slow(dtype, found, "--lm_dtype")
        return cls(*read_model(name, found, DTYPES[dtype], layer), name)

    @classmethod
    def wrap(cls, model: Any, tokenizer: Any = None, name: str | None = None) -> Self:
        """Use a model that is loaded already, a transformers or an nnsight one, without a second copy.

        Raises:
            UserError: there is no tokenizer to be had for it.
        """
        if is_of_nnsight(model):
            if getattr(model, "dispatched", True) is False:
                model.dispatch()  # nnsight reads the weights no sooner than they are used
            tokenizer = tokenizer or getattr(model, "tokenizer", None)
        module = unwrapped(model)
        name = name or getattr(module.config, "_name_or_path", "") or type(module).__name__
        lm = cls(module, copy.deepcopy(given_or_read(tokenizer, name)), name)
        lm._nnsight = model if is_of_nnsight(model) else None
        return lm

    @property
    def device(self) -> torch.device:
        """Where the tokens go; of a model on several devices the one of the embeddings."""
        return self.model.get_input_embeddings().weight.device

    @property
    def devices(self) -> set[torch.device]:
        """Where its weights are."""
        return {weight.device for weight in self.model.parameters()}

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def revision(self) -> str | None:
        """The hub's commit of the weights; None for a local folder."""
        return hub_revision(self.name)

    @property
    def nnsight(self) -> Any:
        """The same weights as an nnsight `TransformersModel`, for `with lm.nnsight.trace(...)`.

        nnsight pads texts on the left by itself: where its numbers are to meet ours, give it the
        tokens and the mask of an `Encoding`.
        """
        if self._nnsight is None:
            from nnsight import TransformersModel

            # a copy, because nnsight changes the tokenizer it is given
            tokenizer = copy.deepcopy(self.tokenizer)
            self._nnsight = TransformersModel(self.model, task="text-generation", tokenizer=tokenizer)
        return self._nnsight

    def check_layer(self, layer: int) -> int:
        """`layer` itself.

        Raises:
            UserError: the model has no such layer.
        """
        return check_layer(self.name, layer, self.n_layers)

    def check_place(self, place: int | Place) -> Place:
        """The place itself, a number standing for the residual stream after the layer.

        Raises:
            UserError: the model has no such layer, or what is added to the stream in it cannot be read.
        """
        if isinstance(place, int | Integral):
            place = Place(int(place))
        self._module(place)
        return place

    def place_of(self, submodule: Any) -> Place:
        """The place of a module, or of nnsight's view of one: a decoder layer, or what it adds to the stream.

        Raises:
            UserError: it is neither in this model.
        """
        module = unwrapped(submodule)
        for number, layer in enumerate(self.layers):
            if layer is module:
                return Place(number)
            if any(part is module for part in layer.modules()):
                added = self._added_by(number)
                for site, part in added.items():
                    if part is module:
                        return Place(number, site=site)
                names = {part: name for name, part in layer.named_modules()}
                raise UserError(
                    f"{type(module).__name__} is not what layer {number} of {self.name} adds to the residual "
                    f"stream: give {self.layers_path}[{number}] or its "
                    f"{' or its '.join(names[part] for part in added.values())}."
                )
        raise UserError(
            f"{type(module).__name__} is no decoder layer of {self.name}: give {self.layers_path}[layer]."
        )

    def tokenize(self, texts: list[str], max_length: int, offsets: bool = False) -> Encoding:
        """Texts to tokens: cut to `max_length`, padded on the right, with the one BOS of `tokens.encode`.

        Args:
            max_length: tokens a text, special ones included.
            offsets: give the characters of each token, too.

        Raises:
            UserError: the model cannot read that many tokens; offsets of a tokenizer that has none.
        """
        if not 1 <= max_length <= (self.max_positions or sys.maxsize):
            raise UserError(
                f"{self.name} cannot read contexts of {max_length} tokens: choose 1 to {self.max_positions}."
            )
        if offsets and not self.tokenizer.is_fast:
            raise UserError(
                f"the tokenizer of {self.name} does not tell which characters a token stands for: "
                "choose a model with a tokenizer.json."
            )
        if not texts:
            return Encoding(*pad([], side="right"), [] if offsets else None)
        rows, spans = encode(self.tokenizer, list(texts), max_length, offsets)
        return Encoding(*pad(rows, side="right"), spans)

    def text_mask(self, tokens_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """True [B, L] where a token is text: neither padding nor special."""
        special = torch.tensor(sorted(self.special_ids), dtype=tokens_BL.dtype, device=tokens_BL.device)
        return mask_BL & ~torch.isin(tokens_BL, special)

    @torch.no_grad()
    def record(self, tokens_BL: Tensor, mask_BL: Tensor, layer: Where) -> Tensor:
        """Output [B, L, D] of a decoder layer, at a place in one, or of another module, in the model's dtype.

        The forward pass ends there: no later layer, no final norm, no LM head runs. Padded positions
        hold numbers without meaning.

        Raises:
            UserError: the model has no such layer or place.
        """
        return self.record_several(tokens_BL, mask_BL, [layer])[0]

    @torch.no_grad()
    def record_several(self, tokens_BL: Tensor, mask_BL: Tensor, layers: Sequence[Where]) -> list[Tensor]:
        """What `record` gives of each of several different places, from one pass up to the last."""
        modules = [self._module(layer) for layer in layers]
        return hooks.record(self.model, self._inputs(tokens_BL, mask_BL), modules)

    def encode(
        self,
        texts: Sequence[str],
        dictionary: Encoder,
        layer: int | Place,
        *,
        context_length: int = 128,
        max_norm_ratio: float | None = 10.0,
        add_bos: bool = True,
        batch_size: int = 16,
    ) -> TextCodes:
        """Codes of texts: tokenise, record, leave out what training leaves out, encode.

        Args:
            dictionary: a `Dictionary` that takes raw activations, as loaded.
            layer: a decoder layer, or a place in one.
            context_length: tokens of a text that are read, special ones included.
            max_norm_ratio: tokens with a norm above this multiple of the median of all text tokens (of the
                first 128 texts) are not usable; None keeps all.
            add_bos: read the BOS that the tokenizer puts in front of a text.
            batch_size: texts that the model reads at a time.

        Raises:
            UserError: the layer or the dictionary does not fit, the tokenizer tells no characters, or an
                activation is not finite.
        """
        return encode_texts(
            self,
            texts,
            dictionary,
            layer,
            context_length=context_length,
            max_norm_ratio=max_norm_ratio,
            add_bos=add_bos,
            batch_size=batch_size,
        )

    def intervene(self, layer: Where, edit: Edit) -> AbstractContextManager[None]:
        """Inside the block every forward pass has `edit(x_BLD)` in place of what `record` gives, x_BLD.

        Raises:
            UserError: the model has no such layer or place.
        """
        return editing(self.model, self._module(layer), edit)

    @torch.no_grad()
    def logits(
        self,
        tokens_BL: Tensor,
        mask_BL: Tensor,
        layer: Where | None = None,
        edit: Edit | None = None,
    ) -> Tensor:
        """Next-token logits [B, L, V], with `edit` applied to the layer's output when given.

        Raises:
            UserError: the model has no such layer.
        """
        with self._intervention(layer, edit):
            return self.model(**self._inputs(tokens_BL, mask_BL), use_cache=False).logits

    def generate(
        self,
        prompts: list[str],
        layer: Where | None = None,
        edit: Edit | None = None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        generated_only: bool = False,
    ) -> list[str]:
        """The texts of `continuations`, whose arguments it takes."""
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}
        settings |= {"seed": seed, "generated_only": generated_only}
        return [one.text for one in self.continuations(prompts, layer, edit, **settings)]

    @torch.no_grad()
    def continuations(
        self,
        prompts: list[str],
        layer: Where | None = None,
        edit: Edit | None = None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        generated_only: bool = False,
        alike: bool = False,
        watch: Watch | None = None,
    ) -> list[Continuation]:
        """What the model writes behind the prompts, up to EOS or `max_new_tokens`: ids and text.

        An EOS that the tokenizer puts behind a text is left out of the prompts.

        The edit sees the prompts first, [B, L, D] padded on the left, then one new position a call,
        [B, 1, D]; padded positions have no influence. Sampling settings that come with a model
        (top-k, repetition penalty, ...) are not used.

        Args:
            temperature: 0 takes the likeliest token; above 0 samples, repeatably by `seed`.
            generated_only: leave the prompt's positions as they are.
            alike: draw the same random numbers for all prompts, so that texts differ by what else differs.
            watch: gets what is written so far after every token; what it raises ends the writing.

        Raises:
            UserError: no such layer, a prompt without a token, or one too long for the model.
        """
        if edit is not None and generated_only:
            edit = _after_first_call(edit)
        with self._intervention(layer, edit):
            return continue_prompts(
                self.model,
                self.tokenizer,
                prompts,
                max_new_tokens=max_new_tokens,
                max_positions=self.max_positions,
                temperature=temperature,
                seed=seed,
                alike=alike,
                watch=watch,
            )

    def truncate(self, layer: int) -> None:
        """Free the weights of all layers after `layer` and of the LM head: only `record` works from then on.

        Raises:
            UserError: the model has no such layer.
        """
        del self.layers[self.check_layer(layer) + 1 :]
        self.model.set_output_embeddings(nn.Identity())

    def _module(self, layer: Where) -> nn.Module:
        if isinstance(layer, int | Integral):  # NumPy's numbers, too
            layer = Place(int(layer))
        if not isinstance(layer, Place):
            module = unwrapped(layer)
            if not isinstance(module, nn.Module):
                raise UserError(
                    f"{layer!r} is no layer of {self.name}: give the number of one, 0 to "
                    f"{self.n_layers - 1}, a Place or a module."
                )
            return module
        assert layer == layer.output, f"{layer} is no output of a decoder layer"
        assert layer.layer is not None
        assert self.check_layer(layer.layer) < len(self.layers), f"{layer} was truncated away"
        return self._added_by(layer.layer)[layer.site] if layer.is_added else self.layers[layer.layer]

    def _added_by(self, layer: int) -> dict[str, nn.Module]:
        """The modules whose outputs a decoder layer adds to the residual stream, by site."""
        if layer not in self._added:
            self._added[layer] = find_added(self.model, self.layers[layer])
        return self._added[layer]

    def _inputs(self, tokens_BL: Tensor, mask_BL: Tensor) -> dict[str, Tensor]:
        assert not (mask_BL[:, 1:] & ~mask_BL[:, :-1]).any(), "pad on the right, as `tokenize` does"
        return {
            "input_ids": tokens_BL.to(self.device, torch.long),
            "attention_mask": mask_BL.to(self.device, torch.long),
        }

    def _intervention(self, layer: Where | None, edit: Edit | None) -> AbstractContextManager[None]:
        assert len(self.layers) == self.n_layers, "a truncated model has no logits"
        assert (layer is None) == (edit is None), "an intervention is a layer and an edit"
        return nullcontext() if layer is None or edit is None else self.intervene(layer, edit)


with_own_defaults(LanguageModel, "tokenize", "record_several", "encode", "logits", "continuations")


def _after_first_call(edit: Edit) -> Edit:
    """The edit without its first call, which is the one over the prompts."""
    prompts = iter([True])
    return lambda x_BLD: x_BLD if next(prompts, False) else edit(x_BLD)
