"""Causal attention over the codes of earlier tokens, of which a TemporalSAE's predictions are made.

Shapes: B texts, L positions, W atoms, V width of the values (W, or the `value_rank`), H attention heads.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dictionary_learning.dictionaries.products import linear

QUERY_BLOCK = 256  # positions that attend together, where no gradient is wanted


class Memory(NamedTuple):
    """What positions that follow need of those before them."""

    keys: Tensor  # [B, H, T, ...], of the codes shifted right by one
    values: Tensor
    last_key_B1: Tensor  # of the last code, to which no position has attended yet
    last_value_B1: Tensor


class Linear(nn.Linear):
    """torch's linear map, whose products are made by the quicker library."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class ContextAttention(nn.Module):
    """Causal attention from each position's code to the codes of the earlier positions.

    Position t attends to positions 0 to t of the codes shifted right by one, which begin with zeros.

    Args:
        value_rank: dimensions of all heads' values together, each head having the same share; `width`, as in
            the paper, where None. All that attention can say of a position then lies in so many dimensions.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        bottleneck_factor: int,
        generator: torch.Generator,
        value_rank: int | None = None,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        narrow, values = width // bottleneck_factor, value_rank or width
        self.k_ctx = _linear(width, narrow, (narrow // n_heads) ** -0.5, generator)
        self.q_target = _linear(width, narrow, (narrow // n_heads) ** -0.5, generator)
        self.v_ctx = _linear(width, values, (values // n_heads) ** -0.5, generator)
        self.c_proj = _linear(values, width, values**-0.5, generator)

    def forward(self, z_BLW: Tensor) -> Tensor:
        """What the earlier positions say, [B, L, W]."""
        q = self._heads(self.q_target(z_BLW))
        k = self._heads(_after_zeros(self.k_ctx, z_BLW))
        v = self._heads(_after_zeros(self.v_ctx, z_BLW))
        if torch.is_grad_enabled() or q.shape[2] <= QUERY_BLOCK:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = _attend_in_blocks(q, k, v)
        return self.c_proj(out.transpose(1, 2).flatten(2))

    @torch.no_grad()
    def go_on(self, z_BLW: Tensor, before: Memory | None) -> tuple[Tensor, Memory]:
        """What `forward` gives of positions that follow those of `before` (none: they are the first)."""
        key_BLW, value_BLW = self.k_ctx(z_BLW), self.v_ctx(z_BLW)
        k, v = self._shifted(self.k_ctx, key_BLW, before), self._shifted(self.v_ctx, value_BLW, before)
        if before is not None:
            k, v = torch.cat([before.keys, k], 2), torch.cat([before.values, v], 2)
        out = _attend_in_blocks(self._heads(self.q_target(z_BLW)), k, v)
        return self.c_proj(out.transpose(1, 2).flatten(2)), Memory(k, v, key_BLW[:, -1:], value_BLW[:, -1:])

    def _shifted(self, of_codes: nn.Linear, out_BLW: Tensor, before: Memory | None) -> Tensor:
        if before is None:
            first_B1W = of_codes.bias.to(out_BLW.dtype).expand(len(out_BLW), 1, -1)
        else:
            first_B1W = before.last_key_B1 if of_codes is self.k_ctx else before.last_value_B1
        return self._heads(torch.cat([first_B1W, out_BLW[:, :-1]], dim=1))

    def graph(self, z_BLW: Tensor) -> Tensor:
        """The attention map [B, H, L, L]: row t says how position t weighs the shifted positions."""
        q, k = self._heads(self.q_target(z_BLW)), self._heads(_after_zeros(self.k_ctx, z_BLW))
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        future_LL = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        return scores.masked_fill(future_LL, -math.inf).softmax(-1)

    def _heads(self, x_BLW: Tensor) -> Tensor:
        return x_BLW.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


def _attend_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, some queries at a time.

    Keys and values differ in width here, for which not every device has a kernel that never holds the
    whole map: a text of 16,000 tokens would take 4 GB for it. Where there are more keys than queries, the
    first ones are earlier than all of these.
    """
    length, earlier = q.shape[2], k.shape[2] - q.shape[2]
    out = torch.empty(*q.shape[:3], v.shape[3], dtype=v.dtype, device=v.device)
    for start in range(0, length, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, length)
        position = torch.arange(earlier + stop, device=q.device)
        mask = position <= position[earlier + start :, None]
        k_seen, v_seen = k[:, :, : earlier + stop], v[:, :, : earlier + stop]
        block = F.scaled_dot_product_attention(q[:, :, start:stop], k_seen, v_seen, mask)
        out[:, :, start:stop] = block
    return out


def _after_zeros(of_codes: nn.Linear, z_BLW: Tensor) -> Tensor:
    """A linear map of the codes shifted right by one position: of zeros it is the bias."""
    out = of_codes(z_BLW)
    first = of_codes.bias.to(out.dtype).expand(len(out), 1, -1)
    return torch.cat([first, out[:, :-1]], dim=1)


def _linear(n_in: int, n_out: int, norm: float, generator: torch.Generator) -> nn.Linear:
    """A linear map whose rows have random directions and the same norm, without a bias at first."""
    made = nn.utils.skip_init(Linear, n_in, n_out)
    with torch.no_grad():
        rows = torch.randn(n_out, n_in, generator=generator)
        made.weight.copy_(F.normalize(rows, dim=1) * norm)
        made.bias.zero_()
    return made
