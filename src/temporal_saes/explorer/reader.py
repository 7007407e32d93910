"""A text to the codes of its tokens, a few contexts at a time, as they are made.

    for event in reader.read("The Senate met in the morning."):
        ...

A text is cut into contexts as in training, and each is read by itself. Events are what goes to the page:

    {"text": ...}     how many tokens there are
    {"context": ...}  the tokens of one context, with the strongest latents of each
    {"whole": ...}    when all is read: means, how alike the tokens are, what is known of the latents

Shapes: B contexts read at a time, L positions of one, u usable positions of one, D model width, F latents,
N rows of the picture of similarity.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.attach.passes import unwatched
from dictionary_learning.language_model.token_text import stretches
from dictionary_learning.language_model.tokens import pad, prompt_ids
from temporal_saes.experiment.subjects import Subject
from temporal_saes.explorer.about import Latents
from temporal_saes.explorer.turns import Turns
from temporal_saes.features import encode_text
from temporal_saes.similarity.kernel import similarity_kernel
from temporal_saes.similarity.sentences import strongest_latents

MOST_TOKENS = 20_000  # of a text: what a page can show
AT_A_TIME = 4  # contexts in a step, but one in the first, so that something is seen soon
MOST_ROWS = 160  # of the picture of similarity; in a longer text a row is several tokens
N_MEANS = 60  # latents of each split whose means over the text are told
Event = dict[str, Any]


class Reader:
    """Reads texts through a dictionary."""

    def __init__(
        self, lm: LanguageModel, dictionary: Dictionary, subject: Subject, latents: Latents, turns: Turns
    ) -> None:
        self.lm, self.dictionary, self.subject = lm, dictionary, subject
        self.latents, self.turns = latents, turns
        self.norm_limit = lm.sink_norm(subject.place, subject.max_norm_ratio)
        self.splits = dictionary.splits() or {"all": slice(0, dictionary.dict_size)}

    def read(self, text: str) -> Iterator[Event]:
        """Events of a text.

        Raises:
            UserError: there is no token in it, there are too many, or the codes are not finite.
        """
        (ids,) = prompt_ids(self.lm.tokenizer, [text]) if text else [[]]
        ids = ids[int(ids[:1] == [self.lm.bos_id]) :]
        if not ids:
            raise UserError("there is nothing to read: type a text.")
        if len(ids) > MOST_TOKENS:
            raise UserError(
                f"this text has {len(ids):,} tokens, and the page takes {MOST_TOKENS:,}: leave some out."
            )
        bos = [self.lm.bos_id] if self.subject.add_bos and self.lm.bos_id is not None else []
        room = max(1, self.subject.context_length - len(bos))
        contexts = [ids[start : start + room] for start in range(0, len(ids), room)]
        summary = _Summary(len(ids), self.dictionary.dict_size, self.splits)
        yield {"text": {"tokens": len(ids), "contexts": len(contexts), "per_row": summary.per_row}}
        done = 0
        while done < len(contexts):
            some = contexts[done : done + (AT_A_TIME if done else 1)]
            for row, (usable_L, f_uF) in zip(some, self._codes(some, bos), strict=True):
                start = room * done
                summary.add(start, usable_L, f_uF)
                units = self._units(row, usable_L, f_uF)
                summary.seen.update(latent for *_, pairs in units for latent, _ in pairs)
                yield {"context": {"start": start, "units": units}}
                done += 1
        yield {"whole": summary.told() | {"about": self.latents.tell(sorted(summary.seen))}}

    def _codes(self, contexts: list[list[int]], bos: list[int]) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Of each context which tokens are usable [L], and the codes [u, F] of those."""
        tokens_BL, mask_BL = pad([bos + row for row in contexts], side="right")
        with self.turns.step(), unwatched(), torch.no_grad():
            x_BLD = self.lm.record(tokens_BL, mask_BL, self.subject.place).cpu()
            norm_BL = x_BLD.float().norm(dim=-1)
            usable_BL = self.lm.text_mask(tokens_BL, mask_BL) & (norm_BL <= self.norm_limit)
            usable_BL[:, : len(bos)] = False
            codes = [
                encode_text(self.dictionary, x_LD, usable_L.numpy()).float().cpu()
                if usable_L.any()
                else torch.zeros(0, self.dictionary.dict_size)
                for x_LD, usable_L in zip(x_BLD, usable_BL, strict=True)
            ]
        for row, usable_L, f_uF in zip(contexts, usable_BL.numpy(), codes, strict=True):
            if not bool(torch.isfinite(f_uF).all()):
                raise UserError("the dictionary gives latents that are not finite: its weights are damaged.")
            yield usable_L[len(bos) : len(bos) + len(row)], f_uF

    def _units(self, ids: list[int], usable_L: np.ndarray, f_uF: Tensor) -> list[list[Any]]:
        """What is shown as one piece: text, its tokens, whether they are read, and their strongest latents.

        Tokens that share a character are one piece, with the stronger activation of each latent.
        """
        codes = strongest_latents(f_uF, usable_L, self.splits)
        digits = _digits(float(f_uF.max()) if f_uF.numel() else 0.0)
        units = []
        for start, stop, text in stretches(self.lm.tokenizer, ids):
            found = codes[start]
            if stop > start + 1:
                largest: dict[int, float] = {}
                for latent, value in (pair for one in codes[start:stop] for pair in one):
                    largest[latent] = max(value, largest.get(latent, 0.0))
                found = sorted(largest.items(), key=lambda pair: -pair[1])
            pairs = [(latent, round(value, digits)) for latent, value in found]
            units.append([text, stop - start, int(usable_L[start:stop].any()), pairs])
        return units


def _digits(largest: float) -> int:
    """Behind the point, so that values up to the largest have five digits or less: more is not shown."""
    return max(0, 4 - math.floor(math.log10(largest))) if largest > 0 else 0


class _Summary:
    """What is told of a text as a whole, gathered context by context."""

    def __init__(self, n_tokens: int, n_latents: int, splits: dict[str, slice]) -> None:
        self.splits = splits
        self.compared, self._part = next(iter(splits.items()))
        self.per_row = math.ceil(n_tokens / MOST_ROWS)
        self.seen: set[int] = set()
        self._n = 0
        self._sum_F = torch.zeros(n_latents, dtype=torch.float64)
        n_rows = math.ceil(n_tokens / self.per_row)
        self._rows_NF = torch.zeros(n_rows, self._part.stop - self._part.start)
        self._count_N = torch.zeros(n_rows)

    def add(self, start: int, usable_L: np.ndarray, f_uF: Tensor) -> None:
        self._n += len(f_uF)
        self._sum_F += f_uF.double().sum(0)
        row_u = torch.from_numpy((start + np.flatnonzero(usable_L)) // self.per_row)
        self._rows_NF.index_add_(0, row_u, f_uF[:, self._part])
        self._count_N.index_add_(0, row_u, torch.ones(len(row_u)))

    def told(self) -> dict[str, Any]:
        """Means of the largest latents of each split, and the similarity of the rows in hundredths."""
        mean_F = self._sum_F / max(1, self._n)
        means: dict[str, list[list[float]]] = {}
        for name, split in self.splits.items():
            best = mean_F[split].topk(min(N_MEANS, split.stop - split.start))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            digits = _digits(float(best.values[0]))
            means[name] = [
                [split.start + latent, round(value, digits)] for latent, value in pairs if value > 0
            ]
        self.seen |= {int(latent) for pairs in means.values() for latent, _ in pairs}
        rows_n = self._count_N.nonzero()[:, 0]
        kernel: list[list[int]] = []
        if len(rows_n):
            x_NF = (self._rows_NF[rows_n] / self._count_N[rows_n, None]).numpy()
            kernel = np.rint(100 * similarity_kernel(x_NF)).astype(int).tolist()
        return {
            "means": means,
            "usable": self._n,
            "kernel": kernel,
            "rows": rows_n.tolist(),
            "compared": self.compared,
        }
