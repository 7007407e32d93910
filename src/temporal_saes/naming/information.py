"""How much a latent, on or off at a token, tells about the document that the token is of.

    bits_F = document_information(on_GF, size_G)

Mutual information in bits a token, by counts, less what luck would give. Counts alone overstate it: where a
document has few tokens, any latent seems to know it. If the tokens at which a latent is on were thrown into
the documents at random, their number in one would be about Poisson, and n log n of a Poisson number exceeds
that of its mean by a known amount (`excess`), which is taken off document by document.

Shapes: G documents, F latents, N their pairs with a token at which the latent is on.
"""

from functools import cache

import numpy as np
from scipy import sparse, special

_BLOCK = 2**22  # numbers at a time


def document_information(on_GF: sparse.csr_array, size_G: np.ndarray) -> np.ndarray:
    """Bits [F]; 0 for a latent that is never on, and none below 0.

    Args:
        on_GF: tokens of each document at which each latent is on.
        size_G: all its tokens.
    """
    n_tokens, n_latents = float(size_G.sum()), on_GF.shape[1]
    pairs = on_GF.tocoo()
    (document_N, latent_N), on_N = pairs.coords, pairs.data.astype(np.float64)
    size_N = size_G[document_N].astype(np.float64)
    on_F = np.bincount(latent_N, on_N, n_latents)
    # documents without the latent have no term of it being on, and none beyond the logarithms of sizes
    inside_F = np.bincount(latent_N, special.xlogy(on_N, on_N / size_N), n_latents)
    off_N = size_N - on_N
    outside_F = np.bincount(latent_N, special.xlogy(off_N, off_N / size_N), n_latents)
    share_F = on_F / max(n_tokens, 1)
    off_F = n_tokens - on_F
    nats_F = inside_F - special.xlogy(on_F, share_F) + outside_F - special.xlogy(off_F, 1 - share_F)
    return np.maximum(0, nats_F - _luck(share_F, size_G)) / max(n_tokens, 1) / np.log(2)


def _luck(share_F: np.ndarray, size_G: np.ndarray) -> np.ndarray:
    """Nats [F] over all tokens where documents have nothing to do with the latent."""
    sizes, count = np.unique(size_G, return_counts=True)
    luck_F = np.zeros(len(share_F))
    for first in range(0, len(sizes), max(1, _BLOCK // max(1, len(share_F)))):
        some = slice(first, first + max(1, _BLOCK // max(1, len(share_F))))
        mean_SF = sizes[some, None] * share_F
        luck_SF = (1 - share_F) * excess(mean_SF) + share_F * excess(sizes[some, None] - mean_SF)
        luck_F += count[some] @ luck_SF
    return luck_F


def excess(mean: np.ndarray) -> np.ndarray:
    """The mean of n log(n / m) over a Poisson number n with the mean m: 0 at 0, and ½ for large ones."""
    grid, value = _table()
    return np.interp(np.log(np.maximum(mean, np.exp(grid[0]))), grid, value) * np.minimum(
        1, mean / np.exp(grid[0])
    )


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of means, and the excess at each."""
    grid = np.linspace(np.log(1e-4), np.log(200), 400)
    mean = np.exp(grid)[:, None]
    n = np.arange(400)
    weight = np.exp(special.xlogy(n, mean) - mean - special.gammaln(n + 1))
    return grid, (weight * special.xlogy(n, n / mean)).sum(1)
