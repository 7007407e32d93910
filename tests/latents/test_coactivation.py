"""Which latents fire together: counted against all pairs."""

import numpy as np
from scipy import sparse

import temporal_saes.latents.coactivation as module
from temporal_saes.latents.coactivation import Coactivation


def codes(n_tokens: int, n_latents: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    share_F = generator.uniform(0.02, 0.5, n_latents)
    return (generator.random((n_tokens, n_latents)) < share_F) * generator.exponential(
        1, (n_tokens, n_latents)
    )


def shares(codes_TF: np.ndarray) -> np.ndarray:
    """Jaccard [F, F] of all pairs; 0 on the diagonal."""
    on_TF = (codes_TF > 0).astype(int)
    both = on_TF.T @ on_TF
    count = on_TF.sum(0)
    return np.where(np.eye(len(both)) > 0, 0, both / (count[:, None] + count[None, :] - both))


def test_the_nearest_are_those_with_the_largest_shares() -> None:
    # 1 fires at both tokens of 0 and at one more: 2 of 3; 2 never with them
    codes_TF = np.array([[1, 2, 0], [3, 1, 0], [0, 4, 0], [0, 0, 5]], dtype=np.float32)
    together = Coactivation(3)
    together.add(sparse.csr_array(codes_TF))
    indices_FK, share_FK = together.nearest(2)
    assert indices_FK.tolist() == [[1, -1], [0, -1], [-1, -1]]
    np.testing.assert_allclose(share_FK, [[2 / 3, 0], [2 / 3, 0], [0, 0]])


def test_chunks_add_up_to_the_counts_of_all_tokens() -> None:
    codes_TF = codes(400, 30)
    together = Coactivation(30)
    for first in range(0, 400, 37):
        together.add(sparse.csr_array(codes_TF[first : first + 37]))
    indices_FK, share_FK = together.nearest(5)
    expected = shares(codes_TF)
    np.testing.assert_allclose(share_FK, -np.sort(-expected, axis=1)[:, :5])
    np.testing.assert_allclose(np.take_along_axis(expected, indices_FK, 1), share_FK)


def test_what_is_dropped_between_chunks_makes_shares_smaller_only(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "_PRUNE_AT", 100)
    codes_TF = codes(400, 30, seed=1)
    # latents 2i + 1 fire where 2i does, but for a tenth of the tokens
    codes_TF[:, 1::2] = codes_TF[:, ::2] * (np.random.default_rng(2).random((400, 15)) < 0.9)
    together = Coactivation(30, n_kept=8)
    for first in range(0, 400, 50):
        together.add(sparse.csr_array(codes_TF[first : first + 50]))
    indices_FK, share_FK = together.nearest(3)
    expected = shares(codes_TF)
    known = indices_FK >= 0
    assert (share_FK <= np.take_along_axis(expected, np.maximum(indices_FK, 0), 1) + 1e-12)[known].all()
    # the partner is there in spite of it, with its whole count
    assert indices_FK[:, 0].tolist() == [latent ^ 1 for latent in range(30)]
    np.testing.assert_allclose(share_FK[:, 0], expected.max(1))


def test_dense_codes_are_counted_at_evenly_spaced_tokens(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "MAX_PAIRS", 25)
    together = Coactivation(5)
    together.add(sparse.csr_array(np.ones((10, 5))))  # 10 tokens of 25 pairs: every tenth
    assert together.count_F.tolist() == [1] * 5
    np.testing.assert_array_equal(together.nearest(4)[1], 1)
