"""The codes of dictionaries with a threshold, as entries."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.selection.search import Search
from dictionary_learning.trainers import threshold
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE

D, F, N, K = 256, 4096, 300, 8


def trained() -> tuple[MatryoshkaBatchTopKSAE, torch.Tensor]:
    """A dictionary, and texts none of whose pre-activations is near the threshold."""
    generator = torch.Generator().manual_seed(0)
    sae = MatryoshkaBatchTopKSAE(D, F, K, [F // 4, F - F // 4])
    x_BD = 3 * torch.randn(N, D, generator=generator)
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(D, F, generator=generator))
        sae.b_enc.copy_(torch.randn(F, generator=generator))
        sae.b_dec.copy_(torch.randn(D, generator=generator))
        pre_BF = (x_BD.double() - sae.b_dec) @ sae.W_enc.double() + sae.b_enc
        top_N = pre_BF.flatten().topk(2 * K * N).values
        below = K * N + int((top_N[K * N : -1] - top_N[K * N + 1 :]).argmax())
        sae.threshold.fill_(top_N[below : below + 2].mean())
    return sae, x_BD


def test_what_is_searched_for_is_what_a_whole_product_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x_BD = trained()
    expected = SparseCode.of(sae.encode(x_BD).detach())
    monkeypatch.setattr(threshold, "entries_above", None)  # the whole product
    found = sae.encode_entries(x_BD)
    assert not found.values_N.requires_grad
    assert torch.equal(found.row_N, expected.row_N)
    assert torch.equal(found.col_N, expected.col_N)
    assert (found.n_rows, found.n_cols) == (N, F)
    torch.testing.assert_close(found.values_N, expected.values_N, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("why", ["few tokens", "many latents", "no threshold", "half precision"])
def test_a_whole_product_is_made_where_a_search_would_take_longer(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, x_BD = trained()
    if why == "few tokens":
        x_BD = x_BD[:20]
    elif why == "many latents":
        sae.k.fill_(F // 4)
    elif why == "no threshold":
        sae.threshold.fill_(threshold.UNSET_THRESHOLD)
    else:
        sae, x_BD = sae.bfloat16(), x_BD.bfloat16()
    monkeypatch.setattr(threshold, "Search", None)
    found = sae.encode_entries(x_BD)
    assert found.n_rows == len(x_BD)
    assert len(found.values_N) > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["W_enc", "b_enc"])
def test_a_weight_that_is_not_finite_leaves_the_codes_of_other_latents_as_they_are(
    name: str, value: float
) -> None:
    sae, x_BD = trained()
    with torch.no_grad():
        getattr(sae, name)[..., 3] = value
    found, expected = sae.encode_entries(x_BD).dense(), sae.encode(x_BD).detach()
    others = [latent for latent in range(F) if latent != 3]
    assert expected[:, others].count_nonzero() > 0
    torch.testing.assert_close(found[:, others], expected[:, others], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("how", ["in place", "through .data", "made for inference"])
def test_weights_that_have_changed_are_searched_as_they_are_now(how: str) -> None:
    sae, x_BD = trained()
    if how == "made for inference":
        with torch.inference_mode():
            sae, x_BD = trained()
    sae.encode_entries(x_BD)
    with torch.inference_mode(how == "made for inference"), torch.no_grad():
        for weight in (sae.W_enc, sae.b_enc):
            (weight.data if how == "through .data" else weight).mul_(0.75)
    found, expected = sae.encode_entries(x_BD).dense(), sae.encode(x_BD).detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_weights_are_prepared_for_a_search_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x_BD = trained()
    made = []
    monkeypatch.setattr(threshold, "Search", lambda: made.append(1) or Search())
    for _ in range(3):
        sae.encode_entries(x_BD)
    assert len(made) == 1
    with torch.no_grad():
        sae.b_enc[0] += 1
    sae.encode_entries(x_BD)
    assert len(made) == 2


def test_threads_that_encode_at_once_do_not_disturb_each_other() -> None:
    sae, x_BD = trained()
    batches = [x_BD * (0.5 + i / 8) for i in range(8)]
    expected = [sae.encode(batch).detach() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(sae.encode_entries, batches))
            for code, of_batch in zip(found, expected, strict=True):
                near = (of_batch - sae.threshold).abs() < 1e-3
                assert not ((code.dense() - of_batch).abs() > 1e-3)[~near].any()


def test_the_largest_values_are_those_of_a_whole_product(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x_BD = trained()
    expected = sae.before_selection(x_BD).detach().flatten().topk(N * K).values
    with monkeypatch.context() as patch:
        patch.setattr(sae, "before_selection", None)
        found = sae.largest(x_BD, K)
    assert N * K <= len(found) < 2 * N * K
    torch.testing.assert_close(found.sort(descending=True).values[: N * K], expected, rtol=1e-5, atol=1e-4)
    few = sae.largest(x_BD[:20], K)  # by the product
    assert len(few) == 20 * K
