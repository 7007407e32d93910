"""Selection and sparse products against their dense meaning."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dictionary_learning.dictionaries import sparse
from dictionary_learning.dictionaries.sparse import SparseCode, batch_topk, sampled, sparse_matmul


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


def test_a_sparse_product_is_the_dense_one_with_exact_gradients():
    code = random_code(6, 10, 0.4, seed=2)
    W = torch.randn(10, 5, dtype=torch.float64, requires_grad=True)

    def decode(values, W):
        return sparse_matmul(values, W, code.row_N, code.col_N, 6)

    torch.testing.assert_close(decode(code.values_N, W), code.dense() @ W)
    assert torch.autograd.gradcheck(decode, (code.values_N, W))


@pytest.mark.parametrize("device", ["cpu", "elsewhere"])
def test_sampled_entries_are_those_of_the_dense_product(device, monkeypatch):
    code = random_code(6, 10, 0.4, seed=2)
    A, M = (torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (6, 10))
    if device != "cpu":  # the path of a device that is no CPU, on a CPU
        monkeypatch.setattr(sparse, "on_cpu", lambda x: False)
    expected = (A @ M.T)[code.row_N, code.col_N]
    torch.testing.assert_close(sampled(A, M, code.row_N, code.col_N), expected)


def test_rows_and_columns_of_a_code_are_those_of_the_dense_one():
    code = random_code(8, 12, 0.3, seed=5)
    assert torch.equal(code.rows(2, 5).dense(), code.dense()[2:5])
    assert torch.equal(code.columns(4).dense(), code.dense()[:, :4])


@pytest.mark.parametrize("shape", [(4, 6), (1, 1)])
def test_a_code_without_entries_decodes_to_zeros(shape):
    B, n_latents = shape
    W = torch.randn(n_latents, 3, requires_grad=True)
    none = torch.empty(0).long()
    out = sparse_matmul(torch.empty(0), W, none, none, B)
    assert torch.equal(out, torch.zeros(B, 3))
    out.sum().backward()
    assert torch.equal(W.grad, torch.zeros_like(W))


def test_a_sample_that_misses_leads_to_a_lower_threshold():
    # an eighth of what the strided sample looks at is large, so its first threshold is far too high
    flat = torch.rand(1 << 20, generator=torch.Generator().manual_seed(0))
    flat[:: 8 * sparse.SAMPLE_STRIDE] += 10
    assert torch.equal(batch_topk(flat, 20_000), flat.topk(20_000).indices.sort().values)
