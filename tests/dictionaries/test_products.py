"""The dense products by either library, and which one is taken."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dictionary_learning.dictionaries import products

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_library", None)


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN for products of any size."""
    monkeypatch.setattr(products, "_library", products.ONEDNN)
    monkeypatch.setattr(products, "FROM_PRODUCTS", 0)
    monkeypatch.setattr(products, "FROM_ROWS", 1)


def operands(*shape: int, stored_by: str = "rows") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x [*shape, 7], M [7, 5] and b [5] that take gradients."""
    generator = torch.Generator().manual_seed(0)
    x, b = torch.randn(*shape, 7, generator=generator), torch.randn(5, generator=generator)
    M = torch.randn(7, 5, generator=generator)
    M = M if stored_by == "rows" else M.T.contiguous().T
    return x.requires_grad_(), M.requires_grad_(), b.requires_grad_()


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
@pytest.mark.parametrize("stored_by", ["rows", "columns"])
def test_values_and_gradients_are_those_of_pytorch(shape: tuple[int, ...], stored_by: str) -> None:
    for ours, plain in (
        (products.product, lambda x, M: x @ M),
        (lambda x, M, b: products.linear(x, M.T, b), lambda x, M, b: F.linear(x, M.T, b)),
    ):
        n = ours.__code__.co_argcount
        one, other = operands(*shape, stored_by=stored_by)[:n], operands(*shape, stored_by=stored_by)[:n]
        got, expected = ours(*one), plain(*other)
        assert "OneDNN" in type(got.grad_fn).__name__ or "OneDNN" in str(got.grad_fn.next_functions)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        weights = torch.linspace(-1, 1, got.numel()).view_as(got)
        for mine, theirs in zip(
            torch.autograd.grad((got * weights).sum(), one),
            torch.autograd.grad((expected * weights).sum(), other),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("stored_by", ["rows", "columns"])
def test_a_gradient_lies_in_memory_as_its_matrix_does(stored_by: str) -> None:
    x, M, _ = operands(6, stored_by=stored_by)
    (d_M,) = torch.autograd.grad(products.product(x, M).sum(), M)
    assert d_M.stride() == M.stride()


@pytest.mark.usefixtures("onednn")
def test_a_gradient_has_a_gradient() -> None:
    found = []
    for multiply in (products.product, torch.matmul):
        x, M, _ = operands(6)
        (d_x,) = torch.autograd.grad(multiply(x, M).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(d_x.square().sum(), (x, M)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def refuse(*_: Any) -> torch.Tensor:
    raise AttributeError("no such product")


def test_small_products_and_other_number_formats_stay_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_library", products.ONEDNN)
    monkeypatch.setattr(products, "onednn_linear", refuse)
    M = torch.ones(1024, 1024)
    few_rows = torch.ones(products.FROM_ROWS - 1, 1024)
    assert products.product(few_rows, M)[0, 0] == 1024
    assert products.linear(torch.ones(1024), M)[0] == 1024
    monkeypatch.setattr(products, "FROM_PRODUCTS", 0)
    x = torch.ones(64, 8)
    assert products.product(x.double(), torch.ones(8, 8).double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert products.product(x, torch.ones(8, 8)).dtype == torch.bfloat16
    with pytest.raises(AttributeError):  # the rest is refused, so the above says something
        products.product(x, torch.ones(8, 8))


def test_where_onednn_is_missing_pytorch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "TIMED", (8, 8, 8))
    monkeypatch.setattr(products, "onednn_linear", refuse)
    assert products.library_in_use() is None
    assert products.library() == products.DEFAULT
    assert products.library_in_use() == products.DEFAULT


@pytest.mark.parametrize(("seconds", "chosen"), [(0.5, products.ONEDNN), (0.97, products.DEFAULT)])
def test_onednn_is_taken_where_it_is_clearly_quicker(
    seconds: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {products.DEFAULT: 1.0, products.ONEDNN: seconds}
    monkeypatch.setattr(
        products, "seconds_of", lambda candidates, rounds: {name: measured[name] for name in candidates}
    )
    assert products.library() == chosen


def test_the_first_large_product_says_at_which_sizes_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []

    def seconds_of(candidates, rounds):  # type: ignore[no-untyped-def]
        forward, _, of_weights = next(iter(candidates.values()))()
        timed.append((*forward.shape, of_weights.shape[1]))
        return {products.DEFAULT: 1.0, products.ONEDNN: 2.0}

    monkeypatch.setattr(products, "seconds_of", seconds_of)
    monkeypatch.setattr(products, "FROM_PRODUCTS", 0)
    products.linear(torch.ones(2, 40, 48), torch.ones(24, 48))
    products.product(torch.ones(64, 8), torch.ones(8, 8))
    assert timed == [(80, 24, 48)]
    monkeypatch.setattr(products, "_library", None)
    monkeypatch.setattr(products, "TIMED", (64, 40, 16))
    products.product(torch.ones(80, 48), torch.ones(48, 24))
    assert timed[1:] == [(64, 16, 40)]


def test_what_a_machine_has_not_is_not_timed() -> None:
    assert list(products.seconds_of({"here": lambda: None, "elsewhere": refuse})) == ["here"]


def test_a_library_that_is_told_is_taken_without_a_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "seconds_of", refuse)
    products.use(products.ONEDNN)
    assert products.library() == products.ONEDNN
    products.use(None)  # an earlier process that had no large product
    products.use("another")
    assert products.library() == products.ONEDNN
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    products.use(products.DEFAULT)
    products.use(products.ONEDNN)
    assert products.library() == products.DEFAULT
