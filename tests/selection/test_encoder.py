"""The encoder's selection and gradients against dense ones; its screens against exact values."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dictionary_learning.dictionaries.products import onednn_linear
from dictionary_learning.selection import encoder, fixed, search
from dictionary_learning.selection.encoder import Encoder, TokenTopKEncoder
from dictionary_learning.selection.int8 import FORMATS, Int8Screen, whole_numbers
from dictionary_learning.selection.screens import BFloat16Screen, Float32Screen, Screen
from dictionary_learning.selection.search import Search

SCREENS = ["bfloat16", "float32"] + (["oneDNN"] if torch.backends.mkldnn.is_available() else [])
if whole_numbers():
    SCREENS += ["int8", "int8 alone", "int8 in seven bits", "int8 estimate"]


def search_with(name: str) -> Search:
    """A search whose rows that cannot be told are looked at by the screens that a command would take."""
    chains: dict[str, list[Screen]] = {
        "bfloat16": [BFloat16Screen(), Float32Screen()],
        "int8": [Int8Screen(), BFloat16Screen(), Float32Screen()],
        "int8 alone": [Int8Screen(), Float32Screen()],
        "int8 in seven bits": [Int8Screen(FORMATS[-1]), Float32Screen()],
        "int8 estimate": [Int8Screen(is_certain=False), Float32Screen()],
    }
    return Search(screens=chains.get(name, [Float32Screen(by_onednn=name == "oneDNN")]))


def weights(n_latents: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_latents, width, generator=generator), torch.randn(n_latents, generator=generator)


def dense_batch_topk(pre_BF: Tensor, n_keep: int) -> Tensor:
    top = pre_BF.relu().flatten().topk(n_keep)
    return torch.zeros(pre_BF.numel()).scatter(0, top.indices, top.values).view_as(pre_BF)


def test_encoder_gives_the_codes_and_gradients_of_dense_batch_topk():
    torch.manual_seed(0)
    B, D, n_latents, k = 24, 8, 40, 3
    x = torch.randn(2 * B, D)
    W_enc, b_enc, b_dec = torch.randn(D, n_latents), torch.randn(n_latents) * 0.1, torch.randn(D) * 0.1
    weight = torch.randn(2 * B, n_latents)
    gradients = []
    for dense in (True, False):
        parameters = [p.clone().requires_grad_() for p in (x, W_enc, b_enc, b_dec)]
        if dense:
            post = torch.relu((parameters[0] - parameters[3]) @ parameters[1] + parameters[2])
            halves = []
            for half in post.chunk(2):
                top = half.flatten().topk(k * B)
                halves.append(torch.zeros(half.numel()).scatter(0, top.indices, top.values).view_as(half))
            f = torch.cat(halves)
            f = f * torch.cat([torch.ones(B, n_latents), (torch.arange(n_latents) < 15).expand(B, -1)])
        else:
            code, of_first = Encoder()(*parameters, k, stops=(None, 15))
            f = torch.cat([code.dense(), torch.nn.functional.pad(of_first.dense(), (0, n_latents - 15))])
        (f * weight).sum().backward()
        gradients.append([f.detach(), *(p.grad for p in parameters)])
    for slow, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.parametrize("heavy_rows", [0, 3])
def test_what_is_found_does_not_depend_on_the_screen(name, heavy_rows, monkeypatch):
    monkeypatch.setattr(search, "ENTRIES", 2**16)  # several tiles
    B, D, n_latents, k = 1100, 48, 640, 8
    W_FD, b_F = weights(n_latents, D)
    W_FD[:40] *= 3  # norms differ
    x_BD = torch.randn(B, D, generator=torch.Generator().manual_seed(1))
    x_BD[:heavy_rows] *= 200  # as attention sinks are
    found = search_with(name)
    found.set_weights(W_FD, b_F)
    entries = found.largest(x_BD, [range(B)], k, k * B)[0]
    expected = dense_batch_topk(x_BD @ W_FD.T + b_F, k * B)
    kept = entries.pre_N.topk(k * B).indices.sort().values
    places = entries.row_N[kept] * n_latents + entries.col_N[kept]
    assert torch.equal(places, expected.flatten().nonzero().squeeze(1))
    torch.testing.assert_close(entries.pre_N[kept], expected.flatten()[places], rtol=1e-4, atol=1e-3)
    if not heavy_rows:
        assert len(entries.pre_N) < 1.3 * k * B, "few others are looked at"


@pytest.mark.parametrize("name", [name for name in SCREENS if name == "bfloat16" or "int8" in name])
@settings(max_examples=40, deadline=None)
@example(seed=227, k=4, scale=1e-6, bias=-30.0, spread=4.0, tiles=False)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    bias=st.sampled_from([-30.0, -1.0, 0.0, 5.0]),
    spread=st.sampled_from([0.0, 1.0, 4.0]),
    tiles=st.booleans(),
)
def test_nothing_that_is_large_is_excluded_whatever_the_norms_and_biases(
    name, seed, k, scale, bias, spread, tiles
):
    generator = torch.Generator().manual_seed(seed)
    W_FD = torch.randn(64, 7, generator=generator) * (spread * torch.randn(64, 1, generator=generator)).exp()
    x_BD = (
        torch.randn(530, 7, generator=generator) * (spread * torch.randn(530, 1, generator=generator)).exp()
    )
    W_FD, b_F = W_FD * scale, torch.randn(64, generator=generator) * scale + bias * scale
    x_BD[5] = 0
    rows, search.ENTRIES = search.ENTRIES, 0 if tiles else search.ENTRIES
    try:
        found = search_with(name)
        found.set_weights(W_FD, b_F)
        entries = found.largest(x_BD, [range(len(x_BD))], k, k * len(x_BD))[0]
        of_rows = found.largest_of_rows(x_BD, k)
        floor = float(x_BD.norm(dim=1).median() * W_FD.norm(dim=1).median()) / 2
        above = found.above(x_BD, floor)
    finally:
        search.ENTRIES = rows
    pre_BF = x_BD.double() @ W_FD.double().T + b_F.double()
    # of a sum of eight products in float32: terms may cancel, so it is no share of the sum
    error_BF = 8 * torch.finfo(torch.float32).eps * (x_BD.double().abs() @ W_FD.double().abs().T + b_F.abs())

    def check(some, floor):
        """What is there has its value, and what is left out is not above the floor."""
        here = (some.row_N, some.col_N)
        assert ((some.pre_N - pre_BF[here]).abs() <= error_BF[here]).all()
        left_out_BF = torch.ones_like(pre_BF, dtype=torch.bool)
        left_out_BF[here] = False
        assert (pre_BF - error_BF <= floor)[left_out_BF].all()

    kept_N = entries.pre_N.sort(descending=True).values[: k * len(x_BD)]
    check(entries, max(float(kept_N[-1]), 0.0) if len(kept_N) == k * len(x_BD) else 0.0)
    check(of_rows, of_rows.pre_N.view(-1, k).min(1, keepdim=True).values)
    assert torch.equal(of_rows.row_N, torch.arange(len(x_BD)).repeat_interleave(k))
    check(above, floor)
    assert (above.pre_N > floor).all()
    assert ((above.row_N * 64 + above.col_N).diff() > 0).all(), "in order, none twice"


@pytest.mark.parametrize("kind", ["batch", "rows", "floor"])
def test_rows_that_a_screen_cannot_tell_are_left_to_one_product_for_all_tiles(kind, monkeypatch):
    monkeypatch.setattr(search, "ENTRIES", 0)  # five tiles
    looked_at, multiply = [], Float32Screen.multiply

    def counted(screen, x_TD):
        looked_at.append(len(x_TD))
        multiply(screen, x_TD)

    monkeypatch.setattr(Float32Screen, "multiply", counted)
    W_FD, b_F = weights(640, 48)
    x_BD = torch.randn(1280, 48, generator=torch.Generator().manual_seed(1))
    heavy = torch.tensor([1, 2, 3, 4, 6, 7, 8])  # of every tile but the first
    x_BD[heavy, 0] = 1e4
    W_FD[:, 0] *= 1e-3  # much of their norm, and little of their pre-activations
    found = search_with("bfloat16")
    found.set_weights(W_FD, b_F)
    if kind == "batch":
        entries = found.largest(x_BD, [range(len(x_BD))], 8, 8 * len(x_BD))[0]
    elif kind == "rows":
        entries = found.largest_of_rows(x_BD, 8)
    else:
        entries = found.above(x_BD, 10.0)
    assert looked_at == [len(heavy)]
    assert set(heavy.tolist()) <= set(entries.row_N.tolist())


def test_a_row_that_is_not_finite_has_no_finite_codes_and_leaves_those_of_others_as_they_are():
    x_BD, weights = torch.randn(6, 8), (torch.randn(8, 32), torch.zeros(32), torch.zeros(8))
    (usual,) = TokenTopKEncoder()(x_BD, *weights, k=3)
    x_BD[2, 5] = torch.nan
    (code,) = TokenTopKEncoder()(x_BD, *weights, k=3)
    assert code.row_N.tolist() == usual.row_N.tolist()
    is_other_N = code.row_N != 2
    assert code.values_N[~is_other_N].isnan().all()
    torch.testing.assert_close(code.values_N[is_other_N], usual.values_N[is_other_N])
    torch.testing.assert_close(code.col_N[is_other_N], usual.col_N[is_other_N])


def test_a_first_tile_of_small_rows_leads_to_a_lower_floor(monkeypatch):
    # the first tile is every second row: the floor that it suggests lets nothing of the others through
    monkeypatch.setattr(search, "ENTRIES", 0)
    W_FD, b_F = weights(64, 16)
    x_BD = torch.randn(512, 16, generator=torch.Generator().manual_seed(2))
    x_BD[1::2] *= 1e-3
    found = search_with("bfloat16")
    found.set_weights(W_FD, b_F * 0)
    entries = found.largest(x_BD, [range(512)], 10, 10 * 512)[0]
    expected = dense_batch_topk(x_BD @ W_FD.T, 10 * 512)
    assert float(entries.pre_N.topk(10 * 512).values.min()) == pytest.approx(
        float(expected[expected > 0].min())
    )


def test_a_batch_with_fewer_positive_entries_than_are_kept_gives_all_of_them():
    W_FD, _ = weights(64, 16)
    x_BD = torch.randn(300, 16, generator=torch.Generator().manual_seed(2))
    b_F = torch.full((64,), -12.0)
    (code,) = Encoder()(x_BD, W_FD.T, b_F, torch.zeros(16), 8)
    assert torch.equal(code.dense() > 0, x_BD @ W_FD.T + b_F > 0)
    assert 0 < len(code.values_N) < 8 * 300


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_batch_of_zeros_or_of_nan_has_no_entries_and_no_error(name, value, monkeypatch):
    monkeypatch.setattr(search, "ENTRIES", 0)
    found = search_with(name)
    W_FD, _ = weights(640, 16)
    found.set_weights(W_FD, torch.zeros(640))
    for n in (200, 600):  # rows of a tile, and of several
        assert found.largest(torch.full((n, 16), value), [range(n)], 3, 3 * n)[1] == [0]


def test_equal_entries_at_the_edge_are_kept_in_order():
    x_BD, W_DF = torch.ones(3, 1), torch.tensor([[2.0, 1.0, 1.0, 1.0]])
    (code,) = Encoder()(x_BD, W_DF, torch.zeros(4), torch.zeros(1), 2)
    assert code.dense().tolist() == [[2, 1, 1, 1], [2, 0, 0, 0], [2, 0, 0, 0]]


def test_a_batch_without_rows_has_codes_without_entries():
    W_FD, b_F = weights(64, 16)
    for encode in (Encoder(), TokenTopKEncoder()):
        codes = encode(torch.empty(0, 16), W_FD.T, b_F, torch.zeros(16), 8, (None, 10))
        assert [len(code.values_N) for code in codes] == [0, 0]


@pytest.mark.parametrize("name", SCREENS)
def test_every_step_looks_with_its_own_weights(name):
    found = search_with(name)
    x_BD = torch.randn(300, 16, generator=torch.Generator().manual_seed(2))
    for seed in range(3):
        W_FD, b_F = weights(64, 16, seed)
        found.set_weights(W_FD, b_F)
        expected = dense_batch_topk(x_BD @ W_FD.T + b_F, 900)
        assert float(found.largest(x_BD, [range(300)], 3, 900)[0].pre_N.max()) == pytest.approx(
            float(expected.max()), rel=1e-5
        )


def test_a_bfloat16_product_selects_by_float32_values():
    torch.manual_seed(1)
    B, D, n_latents, k = 512, 64, 1024, 8
    x, W, b = torch.randn(B, D), torch.randn(D, n_latents), torch.zeros(n_latents)
    (exact,) = Encoder(torch.float32)(x, W, b, torch.zeros(D), k)
    (rounded,) = Encoder(torch.bfloat16)(x, W, b, torch.zeros(D), k)
    assert torch.equal(rounded.row_N, exact.row_N)
    assert torch.equal(rounded.col_N, exact.col_N)
    assert torch.equal(rounded.values_N, exact.values_N)


@pytest.mark.skipif("oneDNN" not in SCREENS, reason="this build of PyTorch has no oneDNN")
def test_the_onednn_product_is_the_product():
    W_FD, b_F = weights(64, 16)
    x_BD = torch.randn(30, 16)
    torch.testing.assert_close(onednn_linear(x_BD, W_FD, b_F), x_BD @ W_FD.T + b_F, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [Encoder, TokenTopKEncoder])
@pytest.mark.parametrize("tiles", [1, 3])
@pytest.mark.parametrize("tf32", [False, True])
def test_a_fixed_number_of_entries_is_what_the_search_finds(dtype, kind, tiles, tf32, monkeypatch):
    B, D, n_latents, k = 96, 16, 160, 6
    monkeypatch.setattr(fixed, "ENTRIES", B * n_latents // tiles)
    x_BD = torch.randn(2 * B, D, generator=torch.Generator().manual_seed(3))
    W_FD, b_F = weights(n_latents, D)
    found = kind(dtype)(x_BD, W_FD.T, b_F, torch.zeros(D), k, (None, 40))
    monkeypatch.setattr(encoder, "on_cpu", lambda x: False)  # the path of a device, on a CPU
    of_device = kind(dtype, tf32=tf32)(x_BD, W_FD.T, b_F, torch.zeros(D), k, (None, 40))
    assert [len(code.values_N) for code in of_device] == [k * B] * 2
    for fixed_code, code in zip(of_device, found, strict=True):
        assert fixed_code.n_cols == n_latents  # what is not wanted of a part is given, not counted
        assert torch.equal(fixed_code.columns(code.n_cols).dense(), code.dense())
        assert (fixed_code.row_N.diff() >= 0).all()


@pytest.mark.parametrize("kind", ["a search", "fixed shapes"])
@pytest.mark.parametrize("tiles", [False, True])
def test_rows_of_two_parts_are_selected_in_each(kind, tiles, monkeypatch):
    monkeypatch.setattr(search, "ENTRIES", 0 if tiles else search.ENTRIES)
    monkeypatch.setattr(fixed, "ENTRIES", 64 * 100 if tiles else fixed.ENTRIES)
    W_FD, b_F = weights(64, 16)
    x_BD = torch.randn(1000, 16, generator=torch.Generator().manual_seed(2))
    x_BD[:200] *= 5  # so the floors of the two parts differ
    encode = Encoder()
    if kind == "fixed shapes":
        monkeypatch.setattr(encoder, "on_cpu", lambda x: False)
    codes = encode(x_BD, W_FD.T, b_F, torch.zeros(16), 4, (None, None), (0, 200))
    for code, part in zip(codes, (slice(0, 800), slice(200, 1000)), strict=True):
        expected = dense_batch_topk(x_BD[part] @ W_FD.T + b_F, 4 * 800)
        assert code.n_rows == 800
        torch.testing.assert_close(code.dense(), expected, rtol=1e-4, atol=1e-5)
