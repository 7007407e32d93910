"""ActivationBuffer: the interface of the dictionary_learning library, over the activation store.

buffer = ActivationBuffer(texts, model, model.model.layers[15], n_ctxs=1000, ctx_len=128)
for x_BD in buffer: ...
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dictionary_learning.activations.batches import Batches
from dictionary_learning.activations.live_store import ActivationStore, bytes_per_token
from dictionary_learning.command.devices import find_device
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.trainers.trainer import whole_number


class ActivationBuffer:
    """Batches [out_batch_size, D] of activations of the texts that an iterator gives.

    It ends when the texts end, and says how many tokens it gave; at most a batch is left over at the end of
    each filling. To read texts in several epochs, to resume, or to save memory with short texts, use the
    `ActivationStore` itself.

    Attributes:
        config: upstream's options by their names, and ours.
    """

    def __init__(
        self,
        data: Iterator[str],
        model: Any,
        submodule: Any,
        d_submodule: int | None = None,
        io: str = "out",
        n_ctxs: int | float = 3e4,
        ctx_len: int = 128,
        refresh_batch_size: int = 512,
        out_batch_size: int = 8192,
        device: str | torch.device = "cpu",
        remove_bos: bool = False,
        add_special_tokens: bool = True,
        *,
        temporal: bool = False,
        mode: str = "previous",
        max_offset: int | None = None,
        max_norm_ratio: float | None = 10.0,
        seed: int = 0,
        log: Callable[[str], None] = print,
    ) -> None:
        """The first twelve arguments are upstream's.

        Args:
            data: gives texts; each is a document.
            model: an nnsight model, a transformers model, or a `LanguageModel`.
            submodule: a decoder layer of it, as a module, as nnsight shows it, or by its number; or
                the module in one whose output it adds to the residual stream, such as its MLP.
            d_submodule: width of the activations; checked if given.
            io: "out" for what the layer returns, "in" for what it is given (the layer before returns that).
            n_ctxs: contexts that are in memory together.
            ctx_len: tokens of a context at most; a longer text gives several contexts.
            refresh_batch_size: contexts in a batch of the language model.
            out_batch_size: tokens (or pairs) in a batch.
            device: where the batches are.
            remove_bos: leave out all special tokens, by their ids; otherwise only padding is left out.
            add_special_tokens: put the BOS in front of every context if the tokenizer has one for it.
            temporal: give pairs [out_batch_size, 2, D] of (token, earlier token of the same context).
            mode, max_offset: of the pairs, see `ActivationStore.pairs`.
            max_norm_ratio: leave out tokens with a norm above this multiple of the median, which most often
                drops a BOS that `remove_bos` keeps; None keeps all.
            seed: of the order.

        Raises:
            UserError: an option is out of range, `data` is one text, or `submodule` is neither a decoder
                layer of `model` nor what one adds to the residual stream.
        """
        if isinstance(data, str | bytes):
            raise UserError(f"one text is given where several are wanted: put {data[:40]!r} into a list.")
        ctx_len, out_batch_size = (
            whole_number("ctx_len", ctx_len),
            whole_number("out_batch_size", out_batch_size),
        )
        refresh_batch_size = whole_number("refresh_batch_size", refresh_batch_size)
        device = find_device(device)
        lm = model if isinstance(model, LanguageModel) else LanguageModel.wrap(model)
        given = lm.check_place(submodule) if isinstance(submodule, int) else lm.place_of(submodule)
        place = replace(given, io=io)
        if place.output is None:
            raise UserError(
                f"io {io!r} of {given} cannot be recorded: use 'out', or 'in' of a decoder layer from 1 on."
            )
        if d_submodule not in (None, lm.d_model):
            raise UserError(
                f"d_submodule is {d_submodule}, but {lm.name} has width {lm.d_model}: leave it out."
            )
        self._texts = iter(data)
        self._log = log
        self._n_given = 0
        self._ended = False
        self._store = ActivationStore(
            lm,
            place.output,
            self._open_stream,
            context_length=ctx_len,
            lm_batch_size=refresh_batch_size,
            memory_bytes=int(n_ctxs) * ctx_len * bytes_per_token(lm.d_model),
            max_norm_ratio=max_norm_ratio,
            device=device,
            drop_special=remove_bos,
            add_bos=add_special_tokens,
            log=log,
        )
        self._batches: Batches[Tensor]
        if temporal:
            self._batches = self._store.pairs(
                out_batch_size,
                mode=mode,
                max_offset=max_offset,
                tokenizer=lm.tokenizer,
                seed=seed,
                epochs=1,
            )
        else:
            self._batches = self._store.tokens(out_batch_size, seed=seed, epochs=1)
        self.config: dict[str, Any] = {
            **self._batches.config,
            "layer": place.layer,
            "io": io,
            "n_ctxs": int(n_ctxs),
        }

    def __iter__(self) -> "ActivationBuffer":
        return self

    def __next__(self) -> Tensor:
        try:
            x = next(self._batches)
        except StopIteration:
            if not self._ended:
                self._log(f"the texts have ended: the buffer gave {self._n_given:,} tokens.")
                self._ended = True
            raise
        self._n_given += len(x)
        return x

    def text_batch(self, batch_size: int | None = None) -> list[str]:
        """The next texts (`refresh_batch_size` of them), which then give no activations.

        Raises:
            StopIteration: the texts have ended before.
        """
        size = self.config["refresh_batch_size"] if batch_size is None else batch_size
        texts = list(islice(self._texts, size))
        if not texts and size:
            raise StopIteration("the texts have ended")
        return texts

    def _open_stream(self, start: int) -> DocumentStream:
        assert start == 0, "an iterator of texts cannot be read a second time"
        return DocumentStream(({"text": _checked(text)} for text in self._texts), name="data")


def _checked(text: Any) -> Any:
    """A text, or None where there is none.

    Raises:
        UserError: it is something else, such as a record of a data set.
    """
    if text is None or isinstance(text, str):
        return text
    raise UserError(
        f"data gave something of type {type(text).__name__}, and texts are strings: of records give "
        '(record["text"] for record in data).'
    )
