"""A TemporalSAE over many or long texts: in batches that fit, and only what is asked for.

    found = analyse(sae, x_BPD, ("novel_codes", "x_hat"), sparse=True)
    found.novel_codes.values_N    # with row_N = text * P + position, and col_N = atom

Shapes: B texts, P positions, D model width, W atoms, N entries of a sparse code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries.attention import QUERY_BLOCK
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError


class Analysis(NamedTuple):
    """What was asked for, on the CPU; the rest is None. Codes are sparse where that was asked for, too."""

    predicted_codes: Tensor | SparseCode | None  # [B, P, W]; sparse over the rows B * P
    novel_codes: Tensor | SparseCode | None
    predicted_recons: Tensor | None  # [B, P, D], in the units of the activations, without b
    novel_recons: Tensor | None
    x_hat: Tensor | None


@torch.no_grad()
def analyse(
    sae: TemporalSAE,
    x_BPD: Tensor,
    want: Sequence[str],
    *,
    mask_BP: Tensor | None = None,
    sparse: bool = False,
    memory_bytes: int = 2**28,
    progress: bool = True,
) -> Analysis:
    """Predicted and novel parts of texts.

    Args:
        x_BPD: on any device and in any dtype; batches of it go to the dictionary's.
        want: names of the fields of `Analysis`; nothing else is computed.
        mask_BP: usable positions (bool). The others are no context for those behind them, as in training,
            and all that is found at them is zero. None: all are usable.
        sparse: codes as `SparseCode` over B * P rows instead of dense tensors.
        memory_bytes: for what is at work at a time, beside the input and the result; one text at least.
        progress: show a bar.

    Raises:
        UserError: an unknown name in `want`, activations of another shape than [B, P, D], or no usable token.
    """
    from tqdm import tqdm

    if not want or set(want) - set(Analysis._fields):
        asked = ", ".join(want) or "nothing"
        raise UserError(f"{asked} cannot be asked for: choose among {', '.join(Analysis._fields)}.")
    if x_BPD.ndim != 3:
        raise UserError(
            f"texts are [texts, positions, {sae.activation_dim}], and these have the shape "
            f"{list(x_BPD.shape)}: give all tokens of a text together."
        )
    B, P, _ = x_BPD.shape
    results = {name: _Collected(B * P) for name in want}
    size = max(1, memory_bytes // _bytes_per_text(sae, P))
    with tqdm(total=B, unit="text", desc="TemporalSAE", disable=None if progress else True) as bar:
        for first in range(0, B, size):
            some = slice(first, first + size)
            mask = None if mask_BP is None else mask_BP[some]
            x = x_BPD[some]
            rows = _rows(mask, len(x), P) + first * P
            if len(rows):
                for name, value in _of_batch(sae, Sequences.of(x, mask), want, sparse).items():
                    results[name].add(rows, value)
            bar.update(len(x))
    if not all(found.has_rows for found in results.values()):
        raise UserError("there is no usable token in these texts: check mask_BP.")
    nothing = dict.fromkeys(Analysis._fields)
    return Analysis(**nothing | {name: found.get(B, P) for name, found in results.items()})


def _rows(mask_BP: Tensor | None, n_texts: int, length: int) -> Tensor:
    """Of each usable token, text * P + position."""
    if mask_BP is None:
        return torch.arange(n_texts * length)
    return mask_BP.cpu().flatten().nonzero().flatten()


def _of_batch(
    sae: TemporalSAE, texts: Sequences, want: Sequence[str], sparse: bool
) -> dict[str, Tensor | SparseCode]:
    """Values of the tokens of some texts, a row a token."""
    found: dict[str, Tensor | SparseCode] = {}
    centred_BLD = sae.centred(texts.to(sae.D.device, sae.D.dtype).padded())
    prediction = sae.predict(centred_BLD, codes="predicted_codes" in want)
    residual_TD = texts.tokens(prediction.residual_BLD)
    if "predicted_codes" in want:
        codes_TW = texts.tokens(prediction.codes())
        found["predicted_codes"] = SparseCode.of(codes_TW) if sparse else codes_TW
    prediction = prediction._replace(parts=[])  # the codes' memory is wanted for the novel ones
    if "predicted_recons" in want:
        found["predicted_recons"] = sae.unscaled(texts.tokens(prediction.recons_BLD))
    if {"novel_codes", "novel_recons", "x_hat"} & set(want):
        is_sparse = sparse or sae.sae_diff_type != "relu"
        code = sae.novel_entries(residual_TD) if is_sparse else sae.novel(residual_TD)
        if "novel_codes" in want:
            found["novel_codes"] = code if sparse or isinstance(code, Tensor) else code.dense()
        if {"novel_recons", "x_hat"} & set(want):
            novel_TD = code @ sae.D if isinstance(code, Tensor) else sae.decode_entries(code)
            if "novel_recons" in want:
                found["novel_recons"] = sae.unscaled(novel_TD)
            if "x_hat" in want:
                found["x_hat"] = sae.uncentred(texts.tokens(prediction.recons_BLD) + novel_TD)
    return found


def _bytes_per_text(sae: TemporalSAE, length: int) -> int:
    """About seven dense codes are alive at a time, and the attention map of a block of queries twice."""
    attention_map = sae.n_heads * length * min(length, QUERY_BLOCK)
    return (7 * length * sae.width + 2 * attention_map) * sae.D.itemsize


class _Collected:
    """One result, put together from batches of rows."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.parts: list[SparseCode] = []
        self.dense: Tensor | None = None

    def add(self, rows: Tensor, value: Tensor | SparseCode) -> None:
        """
        Args:
            rows: ascending, where the rows of `value` belong.
        """
        if isinstance(value, SparseCode):
            row_N = rows[value.row_N.cpu()]
            self.parts.append(
                SparseCode(value.values_N.cpu(), row_N, value.col_N.cpu(), self.n_rows, value.n_cols)
            )
            return
        if self.dense is None:
            if len(rows) == self.n_rows:
                self.dense = value.cpu()
                return
            self.dense = torch.zeros(self.n_rows, value.shape[1], dtype=value.dtype)
        if len(rows) == rows[-1] - rows[0] + 1:
            self.dense[rows[0] : rows[-1] + 1].copy_(value)
        else:
            self.dense[rows] = value.cpu()

    @property
    def has_rows(self) -> bool:
        return bool(self.parts) or self.dense is not None

    def get(self, n_texts: int, length: int) -> Tensor | SparseCode:
        """The whole."""
        if self.parts:
            values_N = torch.cat([part.values_N for part in self.parts])
            row_N = torch.cat([part.row_N for part in self.parts])
            col_N = torch.cat([part.col_N for part in self.parts])
            return SparseCode(values_N, row_N, col_N, self.n_rows, self.parts[0].n_cols)
        assert self.dense is not None
        return self.dense.view(n_texts, length, -1)
