"""Selection and sparse products against their dense meaning."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dictionary_learning.dictionaries import sparse
from dictionary_learning.dictionaries.sparse import (
    Encoder,
    SparseCode,
    batch_topk,
    decode_groups,
    dot_products,
)


def random_code(n_rows: int, n_cols: int, density: float, seed: int) -> SparseCode:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n_rows, n_cols, generator=generator) < density
    row_N, col_N = mask.nonzero(as_tuple=True)
    values_N = torch.rand(len(row_N), generator=generator, dtype=torch.float64) + 0.1
    return SparseCode(values_N.requires_grad_(), row_N, col_N, n_rows, n_cols)


def test_batch_topk_keeps_the_largest_entries_of_the_whole_batch():
    # Six entries, three to keep: 9, 7 and 5, wherever they stand.
    pre_BF = torch.tensor([[9.0, 7.0, 1.0], [-1.0, 5.0, 2.0]])
    assert batch_topk(pre_BF, 3).tolist() == [0, 1, 4]


def test_batch_topk_never_keeps_what_is_not_positive():
    pre_BF = torch.tensor([[0.0, -2.0], [3.0, 0.0]])
    assert batch_topk(pre_BF, 3).tolist() == [2]


def test_of_equal_entries_at_the_edge_the_first_stay():
    pre_BF = torch.tensor([[2.0, 1.0, 1.0, 1.0]])
    assert batch_topk(pre_BF, 3).tolist() == [0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 40),
    heavy=st.booleans(),
    ties=st.booleans(),
    sampled=st.booleans(),
)
def test_selection_by_estimated_threshold_is_the_selection_by_sorting(seed, k, heavy, ties, sampled):
    generator = torch.Generator().manual_seed(seed)
    pre_BF = torch.randn(64, 300, generator=generator)
    if heavy:  # a few rows hold nearly all large entries
        pre_BF[:3] *= 100
    if ties:
        pre_BF = (pre_BF * 4).round() / 4
    floor = sparse.SAMPLE_FROM
    sparse.SAMPLE_FROM = 0 if sampled else floor
    try:
        kept = batch_topk(pre_BF, 64 * k)
    finally:
        sparse.SAMPLE_FROM = floor
    positive = pre_BF.flatten().relu()
    expected = positive.topk(64 * k).values
    values = positive[kept].sort(descending=True).values
    assert torch.equal(values, expected[: len(values)])
    assert (expected[len(values) :] == 0).all()
    assert torch.equal(kept, kept.unique())


def test_encoder_gives_the_codes_and_gradients_of_dense_batch_topk():
    torch.manual_seed(0)
    B, D, n_latents, k = 24, 8, 40, 3
    x = torch.randn(2 * B, D)
    W_enc, b_enc, b_dec = torch.randn(D, n_latents), torch.randn(n_latents) * 0.1, torch.randn(D) * 0.1
    weight = torch.randn(2 * B, n_latents)
    gradients = []
    for dense in (True, False):
        parameters = [p.clone().requires_grad_() for p in (W_enc, b_enc, b_dec)]
        if dense:
            post = torch.relu((x - parameters[2]) @ parameters[0] + parameters[1])
            halves = []
            for half in post.chunk(2):
                top = half.flatten().topk(k * B)
                halves.append(torch.zeros(half.numel()).scatter(0, top.indices, top.values).view_as(half))
            f = torch.cat(halves)
        else:
            f = Encoder()(x, *parameters, k, parts=2).dense()
        (f * weight).sum().backward()
        gradients.append([f.detach(), *(p.grad for p in parameters)])
    for slow, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


def test_a_bfloat16_product_selects_by_float32_values():
    torch.manual_seed(1)
    B, D, n_latents, k = 512, 64, 1024, 8
    x, W, b = torch.randn(B, D), torch.randn(D, n_latents), torch.zeros(n_latents)
    exact = Encoder(torch.float32)(x, W, b, torch.zeros(D), k)
    rounded = Encoder(torch.bfloat16)(x, W, b, torch.zeros(D), k)
    assert torch.equal(rounded.row_N, exact.row_N)
    assert torch.equal(rounded.col_N, exact.col_N)
    assert torch.equal(rounded.values_N, exact.values_N)


def test_groups_decode_to_the_sum_of_their_own_latents_with_exact_gradients():
    code = random_code(6, 10, 0.4, seed=2)
    W = torch.randn(10, 5, dtype=torch.float64, requires_grad=True)

    def decode(values, W):
        return decode_groups(SparseCode(values, code.row_N, code.col_N, 6, 10), W, [3, 4, 10])

    dense = code.dense()
    expected = torch.stack([dense[:, a:b] @ W[a:b] for a, b in ((0, 3), (3, 4), (4, 10))], dim=1)
    torch.testing.assert_close(decode(code.values_N, W), expected)
    assert torch.autograd.gradcheck(decode, (code.values_N, W))


def test_dot_products_of_codes_are_dense_products_with_exact_gradients():
    z, other = random_code(5, 9, 0.5, seed=3), random_code(7, 9, 0.5, seed=4)
    torch.testing.assert_close(dot_products(z, other), z.dense() @ other.dense().T)

    def products(a, b):
        return dot_products(
            SparseCode(a, z.row_N, z.col_N, 5, 9), SparseCode(b, other.row_N, other.col_N, 7, 9)
        )

    assert torch.autograd.gradcheck(products, (z.values_N, other.values_N))


def test_rows_and_columns_of_a_code_are_those_of_the_dense_one():
    code = random_code(8, 12, 0.3, seed=5)
    assert torch.equal(code.rows(2, 5).dense(), code.dense()[2:5])
    assert torch.equal(code.columns(4).dense(), code.dense()[:, :4])


@pytest.mark.parametrize("shape", [(4, 6), (1, 1)])
def test_a_code_without_entries_decodes_to_zeros(shape):
    B, n_latents = shape
    empty = SparseCode(torch.empty(0), torch.empty(0).long(), torch.empty(0).long(), B, n_latents)
    W = torch.randn(n_latents, 3, requires_grad=True)
    out = decode_groups(empty, W, [n_latents])
    assert torch.equal(out, torch.zeros(B, 1, 3))
    out.sum().backward()
    assert torch.equal(W.grad, torch.zeros_like(W))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_candidates_hold_the_largest_entries_and_few_others(dtype):
    flat = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    index_N, value_N, _ = sparse._candidates([flat], 20_000)
    largest = flat.topk(20_000).values.min()
    assert (flat > largest).sum() == (value_N > largest).sum()
    assert 20_000 <= len(index_N) < 30_000


def test_a_sample_that_misses_leads_to_a_lower_threshold_not_to_all_entries():
    # an eighth of what the strided sample looks at is large, so its first threshold is far too high
    flat = torch.rand(1 << 20, generator=torch.Generator().manual_seed(0))
    flat[:: 8 * sparse.SAMPLE_STRIDE] += 10
    index_N, *_ = sparse._candidates([flat], 20_000)
    assert 20_000 <= len(index_N) < len(flat) // 2
