"""Continuing prompts of different lengths, greedily or by seeded sampling.

Shapes: B prompts, L positions.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.decoding import continuation_text
from dictionary_learning.language_model.tokens import pad, prompt_ids


class Continuation(NamedTuple):
    """What a model wrote behind a prompt."""

    prompt_ids: list[int]
    """The prompt as it was read, a BOS included."""
    ids: list[int]
    """The tokens that were generated, without the EOS. Read again, the text may have others."""
    text: str
    """What they say behind the prompt, special tokens left out; bytes of no character are U+FFFD."""


Watch = Callable[[list[Continuation]], None]
"""Gets the continuations as far as they are written."""


def continue_prompts(
    model: Any,
    tokenizer: Any,
    prompts: list[str],
    *,
    max_new_tokens: int,
    max_positions: int | None,
    temperature: float,
    seed: int,
    alike: bool = False,
    watch: Watch | None = None,
) -> list[Continuation]:
    """What the model writes after each prompt; see `LanguageModel.continuations`."""
    rows = prompt_ids(tokenizer, list(prompts))
    if not rows or not all(rows):
        raise UserError("a prompt is empty: generation needs at least one token to start from.")
    # On the left, so that every row's next token follows its last one; transformers then counts
    # positions by the mask.
    tokens_BL, mask_BL = pad(rows, side="left")
    length = tokens_BL.shape[1]
    if length + max_new_tokens > (max_positions or sys.maxsize):
        raise UserError(
            f"a prompt of {length} tokens and {max_new_tokens} new ones are more than the "
            f"{max_positions} positions of the model: shorten one of them."
        )
    eos = model.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    eos_ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    device = model.get_input_embeddings().weight.device

    def continuations(made_BL: list[list[int]]) -> list[Continuation]:
        # Rows that end early are filled up by transformers: cut them at their first EOS.
        ends = [next((i for i, token in enumerate(row) if token in eos_ids), len(row)) for row in made_BL]
        return [
            Continuation(prompt, row[:end], continuation_text(tokenizer, prompt, row[:end]))
            for prompt, row, end in zip(rows, made_BL, ends, strict=True)
        ]

    more: dict[str, Any] = {}
    if watch is not None:
        more["streamer"] = _Streamer(lambda made_BL: watch(continuations(made_BL)))
    if alike and temperature > 0:
        more["logits_processor"] = [_SharedNoise(temperature)]
        temperature = 0.0
    with (
        _own_settings(model, max_new_tokens, temperature, eos_ids),
        _seeded(seed, device),
        _contiguous_head_input(model),
    ):
        made_BL = model.generate(
            input_ids=tokens_BL.to(device), attention_mask=mask_BL.to(device, torch.long), **more
        )[:, length:].tolist()
    return continuations(made_BL)


class _SharedNoise:
    """Makes the likeliest token a sample from the softmax at a temperature, with the same noise in all rows.

    The largest of logits with Gumbel noise is distributed as the softmax (Gumbel 1954; Maddison et al. 2014,
    arXiv 1411.0030).
    """

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def __call__(self, tokens_BL: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        noise_V = -torch.empty(logits_BV.shape[-1]).exponential_().log()
        return logits_BV / self._temperature + noise_V.to(logits_BV)


class _Streamer:
    """What transformers gives its tokens to, as they come: first the prompts, then one token of each row."""

    def __init__(self, told: Callable[[list[list[int]]], None]) -> None:
        self._told = told
        self._made_BL: list[list[int]] | None = None

    def put(self, value: torch.Tensor) -> None:
        if self._made_BL is None:
            self._made_BL = [[] for _ in value]
            return
        for row, token in zip(self._made_BL, value.flatten().tolist(), strict=True):
            row.append(token)
        self._told(self._made_BL)

    def end(self) -> None:
        """Nothing is left over."""


@contextmanager
def _own_settings(model: Any, max_new_tokens: int, temperature: float, eos_ids: list[int]) -> Iterator[None]:
    """Plain greedy search or plain sampling, instead of the settings that came with the model.

    They take the model's place because transformers fills in from there whatever a call leaves open.
    """
    from transformers import GenerationConfig

    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {}
    own = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=eos_ids or None,
        pad_token_id=eos_ids[0] if eos_ids else 0,
        **sampling,
    )
    try:
        yield
    finally:
        model.generation_config = own


@contextmanager
def _contiguous_head_input(model: Any) -> Iterator[None]:
    """The LM head reads a copy of the prompts' last positions.

    They are a view with gaps, for which a product on the CPU copies the head's weights once a row: of 32
    prompts with SmolLM2 in bfloat16 that took longer than all the tokens that followed.
    """
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda module, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from `seed`; those outside the block go on as if nothing had happened."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
