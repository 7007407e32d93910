"""What a part of a corpus holds more of than the rest: log odds with a prior, in standard errors.

    z_N = log_odds(inside_N, total_N, n_inside_N, n_total)

Equations 16 to 22 of Monroe, Colaresi and Quinn, "Fightin' Words" (Political Analysis 16, 2008): the
difference of the log odds of a word inside and outside, both with a Dirichlet prior that has seen a twentieth
of the corpus in its own proportions, over its standard error. A word that is everywhere has no odds, and a
rare one has a large error, so neither needs a list of stop words or a least count. With a prior of fixed
size, the errors of rare words would grow with the corpus until none of them is listed.

Shapes: N pairs of a word (or a document) and a latent.
"""

import numpy as np

PRIOR = 0.05  # of the corpus


def log_odds(
    inside_N: np.ndarray,
    total_N: np.ndarray,
    n_inside_N: np.ndarray,
    n_total: float,
    prior: float | None = None,
) -> np.ndarray:
    """How many standard errors the log odds inside exceed those outside.

    Args:
        inside_N: how often the word stands inside; `n_inside_N` words do.
        total_N: how often it stands in the corpus; `n_total` words do.
        prior: words that the prior has seen; a twentieth of the corpus if not given.
    """
    prior = PRIOR * n_total if prior is None else prior
    seen_N = prior * total_N / n_total
    in_N, out_N = inside_N + seen_N, total_N - inside_N + seen_N
    odds_in_N = in_N / np.maximum(n_inside_N + prior - in_N, 1e-12)
    odds_out_N = out_N / np.maximum(n_total - n_inside_N + prior - out_N, 1e-12)
    return np.log(odds_in_N / odds_out_N) / np.sqrt(1 / in_N + 1 / out_N)
