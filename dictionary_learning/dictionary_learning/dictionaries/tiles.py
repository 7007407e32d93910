"""Codes as entries, found tile by tile: the pre-activations of a batch are never all in memory.

In evaluation a code has some 20 entries of thousands of latents. A dense code costs six passes over all of
them (bias, relu, comparison, product, search, and its decoding), which together take longer than the
encoder's product; here there is one, over a tile that is still in the processor's cache.

Shapes: B tokens, D model width, F latents, N entries; T and A, tokens and latents of a tile.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.dictionaries.sparse import SparseCode

ROWS = 512  # enough for the product to run at full speed
ENTRIES = 2**21  # pre-activations of a tile on a CPU
ENTRIES_OF_A_CARD = 2**27


def entries_of(encode: Callable[[Tensor], Tensor], x_BD: Tensor, n_latents: int) -> SparseCode:
    """The entries of the codes that `encode` gives of each token alone, some tokens at a time."""
    rows = max(ROWS // 4, _tile(x_BD) // n_latents)
    return SparseCode.stacked([SparseCode.of(encode(x_TD)) for x_TD in x_BD.split(rows)])


@torch.no_grad()
def entries_above(x_BD: Tensor, W_enc_DF: Tensor, b_enc_F: Tensor, floor: Tensor) -> SparseCode:
    """The entries of x W_enc + b_enc that exceed the floor, without gradient.

    Args:
        floor: one for all latents, or one a latent [F]; at least 0.
    """
    rows = ROWS if x_BD.device.type == "cpu" else max(1, len(x_BD))
    floor_F = floor.expand(len(b_enc_F))
    return SparseCode.stacked(
        [_entries_of_rows(x_TD, W_enc_DF, b_enc_F, floor_F) for x_TD in x_BD.split(rows)]
    )


def _entries_of_rows(x_TD: Tensor, W_enc_DF: Tensor, b_enc_F: Tensor, floor_F: Tensor) -> SparseCode:
    n_rows, n_latents = len(x_TD), len(b_enc_F)
    columns = min(n_latents, max(1, _tile(x_TD) // max(1, n_rows)))
    pre_TA = x_TD.new_empty(n_rows, columns)
    found: list[tuple[Tensor, Tensor]] = []
    for start in range(0, n_latents, columns):
        part = slice(start, min(start + columns, n_latents))
        tile_TA = pre_TA if part.stop - start == columns else x_TD.new_empty(n_rows, part.stop - start)
        torch.addmm(b_enc_F[part], x_TD, W_enc_DF[:, part], out=tile_TA)
        index_N = _above(tile_TA, floor_F[part])
        row_N = index_N // tile_TA.shape[1]
        place_N = row_N * n_latents + (index_N - row_N * tile_TA.shape[1] + start)
        found.append((place_N, tile_TA.view(-1)[index_N]))
    place_N, values_N = (torch.cat(parts) for parts in zip(*found, strict=True))
    if len(found) > 1:
        place_N, order_N = place_N.sort()
        values_N = values_N[order_N]
    return SparseCode(values_N, place_N // n_latents, place_N % n_latents, n_rows, n_latents)


def _above(pre_TA: Tensor, floor_A: Tensor) -> Tensor:
    """Flat indices, ascending, of what exceeds the floor of its column."""
    if pre_TA.device.type == "cpu" and pre_TA.dtype == floor_A.dtype and pre_TA.dtype != torch.bfloat16:
        # a fifth of the time of torch's own search
        return torch.from_numpy(np.flatnonzero(pre_TA.numpy() > floor_A.numpy()))
    return (pre_TA > floor_A).view(-1).nonzero().squeeze(1)


def _tile(x: Tensor) -> int:
    return ENTRIES if x.device.type == "cpu" else ENTRIES_OF_A_CARD
