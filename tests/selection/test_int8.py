"""Products of whole numbers: what they exclude, and when they are taken."""

import pytest
import torch

from dictionary_learning.selection import int8, quickest
from dictionary_learning.selection.int8 import FORMATS, Int8Screen, whole_numbers
from dictionary_learning.selection.screens import BFloat16Screen, Float32Screen
from dictionary_learning.selection.search import Search

here = pytest.mark.skipif(not whole_numbers(), reason="this processor has no quick int8 product")
formats = pytest.mark.parametrize("format", [whole_numbers() or FORMATS[0], FORMATS[-1]])


def tensors(n_rows: int, width: int, n_latents: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator) for n in (n_rows, n_latents)]


def room_over(x_TD: torch.Tensor, W_FD: torch.Tensor, screen: Int8Screen) -> torch.Tensor:
    """By how much a screen's bounds are above the values; less than 0 where one is wrong."""
    screen.set_weights(W_FD, torch.zeros(len(W_FD)))
    screen.multiply(x_TD)
    bound_FT = screen._tile_FT.double() * screen._scale_F[:, None]
    room_FT = bound_FT - W_FD.double() @ x_TD.double().T
    assert (room_FT >= -(2.0**-8) * bound_FT.abs()).all()
    return room_FT


@here
@formats
@pytest.mark.parametrize(("is_certain", "narrower"), [(True, 1.0), (False, 0.45)])
@pytest.mark.parametrize("heavy", [1.0, 300.0])
def test_the_tile_is_an_upper_bound_that_lies_near(heavy, is_certain, narrower, format):
    x_TD, W_FD = tensors(90, 500, 128)
    x_TD[:, :2] *= heavy  # two columns with most of the norm, as residual streams have
    room_FT = room_over(x_TD, W_FD, Int8Screen(format, is_certain))
    # without the powers of two that even columns out, the heavy ones would leave the others without bits
    typical_T = x_TD.norm(dim=1) * W_FD.norm(dim=1).mean()
    assert (room_FT / typical_T).mean() < 0.02 * (1 + 127 / format.largest) / 2 * narrower


@here
@formats
@pytest.mark.parametrize("of_rows", [True, False])
def test_an_estimate_is_certain_where_most_numbers_are_rounded_to_nothing(of_rows, format):
    """What a heavy number leaves of the others is no matter of chance: a latent may look for just that."""
    x_TD, W_FD = tensors(64, 500, 128)
    some, others = (x_TD, W_FD) if of_rows else (W_FD, x_TD)
    some[3] = others[5]
    some[3, 7], others[5, 7] = 2e4, 0.0
    room_FT = room_over(x_TD, W_FD, Int8Screen(format, is_certain=False))
    assert (room_FT[5, 3] if of_rows else room_FT[3, 5]) >= 0


@here
@formats
@pytest.mark.parametrize("width", [1, 8, 79, 80, 160, 161, 900, int8.WIDEST])
def test_the_largest_norms_have_room(width, format):
    """Rows of equal entries have the largest norms, and rows just between two whole numbers lose most."""
    x_TD, W_FD = torch.ones(3, width), torch.ones(2, width)
    most = format.largest
    x_TD[1], W_FD[1] = -1, (most - 0.51) / most
    x_TD[2] = 100.49 / 127
    W_FD[1, 0] = x_TD[2, 0] = 1
    screen = Int8Screen(format)
    screen.set_weights(W_FD, torch.zeros(2))
    screen._even_D, screen._n_weights = torch.ones(width), 3
    screen._shifted_FW = torch.empty(2, int8._further_columns(width, format)[1].stop, dtype=torch.uint8)
    screen.multiply(x_TD)
    whole_TD = (x_TD * 127).round()
    lost_T = (x_TD * 127 - whole_TD).norm(dim=1)
    whole_FD = (W_FD * most).round()
    lost_F, norm_F = (W_FD * most - whole_FD).norm(dim=1), W_FD.norm(dim=1) * most
    room_FT = screen._tile_FT.double() * 127 - whole_FD.double() @ whole_TD.double().T
    needed_FT = norm_F[:, None] * lost_T + lost_F[:, None] * whole_TD.norm(dim=1)
    slack_FT = 2.0**-8 * (127 * most * width + needed_FT)
    assert (room_FT >= needed_FT - slack_FT).all()
    assert (room_FT <= needed_FT + slack_FT + 0.02 * 127**2 * width**0.5 + 127 * 127).all()


def test_columns_are_evened_out_by_powers_of_two_so_that_nothing_is_rounded():
    x_TD, W_FD = tensors(50, 8, 600)
    x_TD *= torch.tensor([1e-3, 1, 1, 1, 7, 100, 1e4, 0])
    even_D = int8._powers_that_even_out(x_TD, W_FD)
    assert torch.equal(even_D, torch.exp2(even_D.log2().round()))
    assert torch.equal(x_TD / even_D * even_D, x_TD)
    assert even_D[6] > even_D[5] > even_D[4] >= even_D[3] > even_D[0]


@here
@pytest.mark.parametrize("how", ["of the batch", "of each row", "above a floor"])
def test_data_for_which_it_tells_little_are_searched_without_it(how):
    x_BD, W_FD = tensors(600, 32, 256)
    x_BD[:, :2], W_FD[:, 1] = 1000, -W_FD[:, 0]  # two columns that cancel out, whatever they are divided by
    pre_BF = x_BD @ W_FD.T
    by_row_Bk = pre_BF.topk(4).values
    searches = {
        "of the batch": (
            lambda s: s.largest(x_BD, [range(600)], 4, 2400)[0],
            pre_BF.flatten().topk(2400).values,
        ),
        "of each row": (
            lambda s: s.largest_of_rows(x_BD, 4),
            by_row_Bk.flatten().sort(descending=True).values,
        ),
        "above a floor": (lambda s: s.above(x_BD, 12.0), pre_BF[pre_BF > 12].sort(descending=True).values),
    }
    find, expected_N = searches[how]
    search = Search(screens=[Int8Screen(), BFloat16Screen(), Float32Screen()])
    for product in ("bfloat16", "float32", "float32"):
        search.set_weights(W_FD, torch.zeros(256))
        found_N = find(search).pre_N.sort(descending=True).values[: len(expected_N)]
        torch.testing.assert_close(found_N, expected_N, rtol=1e-3, atol=1e-3)
        assert search.product == product


@here
def test_a_batch_without_an_entry_over_the_floor_says_nothing_against_it():
    x_BD, W_FD = tensors(600, 32, 256)
    search = Search(screens=[Int8Screen(), BFloat16Screen(), Float32Screen()])
    search.set_weights(W_FD, torch.zeros(256))
    highest = float((x_BD @ W_FD.T).max())
    assert len(search.above(x_BD, highest * 0.999).pre_N) >= 1
    assert len(search.above(x_BD, highest * 1.001).pre_N) == 0
    assert search.product == "int8"


@here
def test_one_odd_batch_among_others_does_not_cost_a_run_its_quickest_product():
    x_BD, W_FD = tensors(600, 32, 256)
    odd_BD = x_BD.clone()
    odd_BD[:, :2], W_FD[:, 1] = 130.0, -W_FD[:, 0]  # too many candidates
    coarse_BD = odd_BD * torch.tensor([1.5] * 2 + [1.0] * 30)  # and too large errors
    search = Search(screens=[Int8Screen(), BFloat16Screen(), Float32Screen()])
    products = []
    for batch_BD in (x_BD, x_BD, odd_BD, x_BD, coarse_BD, odd_BD, coarse_BD):
        search.set_weights(W_FD, torch.zeros(256))
        search.above(batch_BD, 25.0)
        products.append(search.product)
    assert products == ["int8"] * 6 + ["bfloat16"], "until most of them are odd"


def test_a_processor_whose_sums_are_too_short_is_given_seven_bits(monkeypatch):
    exact = int8._product

    def short(shifted_FD, whole_TD, scale_T, add_T, format):
        """As if sums of two products had sixteen bits."""
        pairs = (shifted_FD.float()[:, None] * whole_TD).unflatten(2, (-1, 2)).sum(3)
        shift_T = format.zero * whole_TD.sum(1)
        return (pairs.clamp(-(2**15), 2**15 - 1).sum(2) - shift_T) * scale_T + add_T

    small = ([[255, 255]], [[127, -127]])  # neither of these sums is too long
    bytes_FD, whole_TD = torch.tensor(small[0], dtype=torch.uint8), torch.tensor(small[1]).float()
    assert short(bytes_FD, whole_TD, torch.ones(1), torch.zeros(1), FORMATS[0]) == 0
    monkeypatch.setattr(int8, "_product", short)
    monkeypatch.setattr(int8, "SMALL_TAKES", 10.0)
    assert whole_numbers.__wrapped__() == FORMATS[-1]

    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("no oneDNN")

    monkeypatch.setattr(int8, "_product", missing)
    assert whole_numbers.__wrapped__() is None
    assert exact is not short


@pytest.mark.parametrize(
    ("int8_takes", "dtype", "chain"),
    [
        (1.0, torch.float32, ["int8", "bfloat16", "float32"]),
        (1.0, torch.bfloat16, ["int8", "bfloat16", "float32"]),
        (1.8, torch.float32, ["bfloat16", "float32"]),  # not quick enough for more candidates
        (1.8, torch.bfloat16, ["bfloat16", "float32"]),
        (None, torch.float32, ["bfloat16", "float32"]),
    ],
)
def test_the_quickest_product_comes_first_and_an_exact_one_last(int8_takes, dtype, chain, monkeypatch):
    seconds = {"bfloat16": 2.0, "float32": 5.0, "oneDNN": 4.0}
    if int8_takes is not None:
        seconds["int8"] = int8_takes
    monkeypatch.setattr(quickest, "seconds_of", lambda candidates: dict(seconds))
    monkeypatch.setattr(quickest, "multiplies", lambda dtype: True)
    quickest._quickest.cache_clear()
    screens = quickest.screens_for(torch.empty(2048, 512), torch.empty(2048), dtype)
    quickest._quickest.cache_clear()
    assert [screen.name for screen in screens] == chain
    # whole numbers and numbers of sixteen bits; float32 knows its error
    assert {getattr(s, "is_certain", None) for s in screens[:-1]} == {dtype == torch.float32}
    few = quickest.screens_for(torch.empty(64, 8), torch.empty(64), torch.float32)
    assert [screen.name for screen in few] == ["float32"]


def test_bfloat16_is_not_tried_where_the_processor_has_no_instructions_for_it(monkeypatch):
    tried = []

    def seconds_of(candidates):
        tried.extend(candidates)
        return {"float32": 2.0, "oneDNN": 3.0, "int8": 1.0}

    monkeypatch.setattr(quickest, "seconds_of", seconds_of)
    monkeypatch.setattr(quickest, "multiplies", lambda dtype: False)
    quickest._quickest.cache_clear()
    for dtype in (torch.float32, torch.bfloat16):
        screens = quickest.screens_for(torch.empty(2048, 512), torch.empty(2048), dtype)
        assert [screen.name for screen in screens] == ["int8", "float32"]
        few = quickest.screens_for(torch.empty(64, 8), torch.empty(64), dtype)
        assert [screen.name for screen in few] == ["float32"]
    quickest._quickest.cache_clear()
    assert "bfloat16" not in tried
