"""TF32 as a card rounds, on a CPU: what is selected with it, and how far its error is from changing that.

A card multiplies float32 numbers with 10 instead of 23 bits behind the point, and sums in float32. Whether it
rounds to the nearest or drops the bits is up to the library, so both are tried.
"""

import math

import pytest
import torch
from torch import Tensor

from dictionary_learning.selection import encoder, fixed
from dictionary_learning.selection.encoder import Encoder, TokenTopKEncoder
from dictionary_learning.selection.fixed import FixedSelection, allow_tf32

B, D, N_LATENTS, K = 256, 256, 2048, 20
FAMILIES = ("random", "features", "norms apart", "ties")


def rounded(x: Tensor, how: str) -> Tensor:
    bits = x.contiguous().view(torch.int32)
    if how == "to the nearest":
        bits = bits + 0xFFF + ((bits >> 13) & 1)
    return (bits & ~0x1FFF).view(torch.float32)


def data(family: str) -> tuple[Tensor, Tensor, Tensor]:
    """Activations [B, D], encoder weights [F, D] and biases [F]."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    W_FD = torch.nn.functional.normalize(normal(N_LATENTS, D), dim=1)
    if family == "random":
        return normal(B, D), W_FD, 0.1 * normal(N_LATENTS)
    # as a trained dictionary sees them: sums of its own directions around a mean
    x_BD = torch.relu(normal(B, N_LATENTS) - 2.2) @ W_FD + 0.05 * normal(B, D) + normal(D)
    if family == "norms apart":  # and some thirty times as long as others
        x_BD *= torch.exp(0.7 * normal(B, 1))
        x_BD[::37] *= 30
    if family == "ties":  # each latent and each row many times
        return x_BD[:8].repeat(B // 8, 1), W_FD[:64].repeat(N_LATENTS // 64, 1), torch.zeros(N_LATENTS)
    return x_BD, W_FD, -0.05 * torch.rand(N_LATENTS, generator=generator)


def on_a_card(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Take a card's path on a CPU, with products that round as a card's where they may."""

    def multiply(self: FixedSelection, x_TD: Tensor) -> Tensor:
        if self.tf32:
            return torch.addmm(self._bias_F, rounded(x_TD, how), rounded(self._W_FD, how).T)
        return torch.addmm(self._bias_F, x_TD, self._W_DF)

    monkeypatch.setattr(encoder, "on_cpu", lambda x: False)
    monkeypatch.setattr(FixedSelection, "_multiply", multiply)


@pytest.mark.parametrize("how", ["to the nearest", "down"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [Encoder, TokenTopKEncoder])
def test_what_is_selected_is_what_float32_selects(kind, family, how, monkeypatch):
    x_BD, W_FD, b_F = data(family)
    arguments = (x_BD, W_FD.T, b_F, torch.zeros(D), K)
    (by_search,) = kind()(*arguments)
    on_a_card(monkeypatch, how)
    (found,) = kind(tf32=True)(*arguments)
    (exact,) = kind(tf32=False)(*arguments)
    if family == "ties":  # which of equal ones is open, and what they are is not
        for code in (exact, by_search):
            values_N = found.values_N[found.values_N > 0].sort().values
            torch.testing.assert_close(values_N, code.values_N[code.values_N > 0].sort().values)
        return
    assert torch.equal(found.row_N, exact.row_N)
    assert torch.equal(found.col_N, exact.col_N)
    assert torch.equal(found.values_N, exact.values_N)  # float32's, to the last bit
    assert torch.equal(found.dense(), by_search.dense())


@pytest.mark.parametrize("how", ["to the nearest", "down"])
@pytest.mark.parametrize("family", FAMILIES[:3])
def test_its_error_is_too_small_to_lose_an_entry(family, how):
    # An entry that is to be kept is lost only where as many others as there are candidates are rounded above
    # it: where twice the largest error spans the values from the last kept to the first that is no candidate.
    x_BD, W_FD, b_F = data(family)
    exact_BF = x_BD.double() @ W_FD.double().T + b_F
    error_BF = ((rounded(x_BD, how) @ rounded(W_FD, how).T + b_F) - exact_BF).abs()
    largest_BF = x_BD.norm(dim=1)[:, None] * W_FD.norm(dim=1)
    ulp = 2.0**-11 if how == "to the nearest" else 2.0**-10
    assert (error_BF <= (2 * ulp + D * 2.0**-23) * largest_BF).all()

    in_order_N = exact_BF.flatten().sort(descending=True).values
    n_keep = K * B
    room = in_order_N[n_keep - 1] - in_order_N[math.ceil(n_keep * fixed.MARGIN)]
    assert 2 * error_BF.max() < room
    in_order_BF = exact_BF.sort(dim=1, descending=True).values
    room_B = in_order_BF[:, K - 1] - in_order_BF[:, math.ceil(K * fixed.TOKEN_MARGIN)]
    assert (2 * error_BF.amax(1) < room_B).all()


def test_an_error_as_large_as_the_room_would_be_seen(monkeypatch):
    x_BD, W_FD, b_F = data("random")
    arguments = (x_BD, W_FD.T, b_F, torch.zeros(D), K)
    monkeypatch.setattr(encoder, "on_cpu", lambda x: False)
    (exact,) = Encoder(tf32=False)(*arguments)
    noise_BF = 0.5 * torch.randn(B, N_LATENTS, generator=torch.Generator().manual_seed(1))
    product = lambda self, x_TD: torch.addmm(b_F, x_TD, W_FD.T) + noise_BF  # noqa: E731
    monkeypatch.setattr(FixedSelection, "_multiply", product)
    (found,) = Encoder(tf32=True)(*arguments)
    assert not torch.equal(found.dense(), exact.dense())


def test_only_the_product_that_finds_candidates_may_round(monkeypatch):
    seen = []
    addmm = torch.addmm
    monkeypatch.setattr(
        torch, "addmm", lambda *of: (seen.append(torch.get_float32_matmul_precision()), addmm(*of))[1]
    )
    for tf32 in (True, False):
        selection = FixedSelection(torch.float32, tf32)
        selection.set_weights(torch.eye(8), torch.zeros(8))
        selection.largest(torch.randn(4, 8), [range(4)], 2, 8)
        assert selection.product == ("tf32" if tf32 else "float32")
    assert seen == ["high", "highest"]
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(ZeroDivisionError), allow_tf32():
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == "highest"
    assert FixedSelection(torch.bfloat16, tf32=True).product == "bfloat16"
