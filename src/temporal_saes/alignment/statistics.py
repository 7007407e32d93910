"""Paired differences, one column a latent: effect size, test, control for confounds, many tests at once.

Every test here is about the mean of paired differences, because that is what the study reports. It is the
intercept of a least-squares regression of the differences on the differences of the confounds: what is left
where both texts of a pair are alike in them. Without confounds that is the paired t test, to the last
digit, as its standard error is the HC2 one (MacKinnon and White, 1985), which holds when long and short
texts do not scatter alike.

The t distribution needs no normal differences when there are many pairs, and is cautious for a latent that
few pairs have. `sign_flips` assumes neither: it deals out anew which text of a pair is which.

Shapes: P pairs, F columns (latents or surface features), K confounds, S sign flips.
"""

from typing import NamedTuple

import numpy as np

_FLIPS_AT_A_TIME = 256
_RANK_TOLERANCE = 1e-6  # share of a confound's length that the others and the constant must leave


class Effects(NamedTuple):
    """What the pairs say of every column."""

    mean_F: np.ndarray
    """Mean difference, at confounds that do not differ."""
    effect_F: np.ndarray
    """Cohen's d_z: that mean by the standard deviation of the (residual) differences."""
    t_F: np.ndarray
    p_F: np.ndarray
    """Two-sided."""
    q_F: np.ndarray
    """Benjamini and Hochberg, over the columns that were tested."""
    slope_KF: np.ndarray
    """Change of the difference by one unit of each confound."""
    n_pairs: int


def paired_effects(d_PF: np.ndarray, confound_PK: np.ndarray | None = None) -> Effects:
    """Mean, effect size and t test of every column, at confounds that do not differ.

    A column that is zero everywhere has mean and effect 0 and p 1. Where all of a column's differences are
    the same number, there is no scatter to compare it with: t and d_z are infinite and p is 0.

    Args:
        confound_PK: differences of the confounds; they and the constant must be linearly independent
            (see `separable`), and there must be more pairs than K + 1.
    """
    n = len(d_PF)
    x_PC = np.ones((n, 1)) if confound_PK is None else np.column_stack([np.ones(n), confound_PK])
    scale_C = np.sqrt((x_PC**2).mean(axis=0))
    q_PC, r_CC = np.linalg.qr(x_PC / scale_C)
    assert n > x_PC.shape[1], "more coefficients than pairs"
    assert np.abs(np.diag(r_CC)).min() > _RANK_TOLERANCE, "confounds are not independent"
    beta_CF = np.linalg.solve(r_CC, q_PC.T @ d_PF) / scale_C[:, None]
    residual_PF = d_PF - x_PC @ beta_CF
    # what rounding leaves of a mean of zero, or of differences that are fitted exactly, is nothing
    rounding_F = 1e-12 * np.abs(d_PF).max(axis=0)
    residual_PF[:, np.abs(residual_PF).max(axis=0) <= rounding_F] = 0
    beta_CF[0, np.abs(beta_CF[0]) <= rounding_F] = 0
    weight_P = np.linalg.solve(r_CC, q_PC.T)[0] / scale_C[0]  # mean_F = weight_P @ d_PF
    leverage_P = (q_PC**2).sum(axis=1)
    # a pair that decides a coefficient alone leaves no residual: it adds no scatter
    share_P = np.divide(weight_P**2, 1 - leverage_P, out=np.zeros(n), where=leverage_P < 1 - 1e-9)
    error_F = np.sqrt(share_P @ residual_PF**2)
    deviation_F = np.sqrt((residual_PF**2).sum(axis=0) / (n - x_PC.shape[1]))
    mean_F = beta_CF[0]
    t_F, effect_F = _ratio(mean_F, error_F), _ratio(mean_F, deviation_F)
    p_F = _two_sided(t_F, n - x_PC.shape[1])
    return Effects(mean_F, effect_F, t_F, p_F, benjamini_hochberg(p_F), beta_CF[1:], n)


def separable(confound_PK: np.ndarray) -> list[int]:
    """The confounds that a regression can tell from the constant and from those before them.

    One that never differs between the texts of a pair, that always differs by the same, or that the ones
    before it already determine is left out.
    """
    n = len(confound_PK)
    basis = [np.full(n, 1 / np.sqrt(n))]
    kept = []
    for k, column_P in enumerate(np.asarray(confound_PK, dtype=np.float64).T):
        length = np.linalg.norm(column_P)
        rest_P = column_P
        for _ in range(2):  # twice, so that rounding leaves nothing of the basis in it
            for direction_P in basis:
                rest_P = rest_P - (direction_P @ rest_P) * direction_P
        if length > 0 and np.linalg.norm(rest_P) > _RANK_TOLERANCE * length:
            basis.append(rest_P / np.linalg.norm(rest_P))
            kept.append(k)
    return kept


class Correlations(NamedTuple):
    """Pearson's r of every column with one confound; r is 0 where either does not vary."""

    r_F: np.ndarray
    p_F: np.ndarray
    q_F: np.ndarray


def correlations(d_PF: np.ndarray, x_P: np.ndarray) -> Correlations:
    """Correlation of every column's differences with the confound's."""
    centred_PF, centred_P = d_PF - d_PF.mean(axis=0), x_P - x_P.mean()
    size_F = np.sqrt((centred_PF**2).sum(axis=0) * (centred_P**2).sum())
    # rounding leaves a little of a column that does not vary
    varies_F = size_F > 1e-12 * np.sqrt((d_PF**2).sum(axis=0) * (x_P**2).sum())
    r_F = np.divide(centred_P @ centred_PF, size_F, out=np.zeros(d_PF.shape[1]), where=varies_F)
    r_F = np.clip(r_F, -1, 1)
    t_F = _ratio(r_F * np.sqrt(len(x_P) - 2), np.sqrt(1 - r_F**2))
    p_F = _two_sided(t_F, len(x_P) - 2)
    return Correlations(r_F, p_F, benjamini_hochberg(p_F))


def benjamini_hochberg(p_F: np.ndarray) -> np.ndarray:
    """Adjusted p: calling everything at or below a level significant keeps the false discovery rate there.

    With p_(1) <= ... <= p_(m), q_(i) is the smallest m p_(j) / j over j >= i (Benjamini and Hochberg, 1995).
    """
    m = len(p_F)
    order_F = np.argsort(p_F, kind="stable")
    scaled = p_F[order_F] * m / np.arange(1, m + 1)
    q_F = np.empty(m)
    q_F[order_F] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q_F, 1)


def sign_flips(d_PF: np.ndarray, n_flips: int, seed: int) -> np.ndarray:
    """p of every column's paired t, corrected for all columns, from dealing out anew who is who in a pair.

    If nothing sets the preferred text apart, the sign of a pair's differences is a coin's. Each flip draws
    one sign a pair for all columns, so that columns which go together still do, and keeps the largest |t|.
    p is the share of flips, the real signs counted as one, whose largest |t| reaches the column's: the
    chance that any of the columns gets so far by luck (Westfall and Young, 1993).
    """
    n = len(d_PF)
    square_F = (d_PF**2).sum(axis=0)
    real_F = _size_of_t(d_PF.sum(axis=0)[None], square_F, n)[0]
    generator = np.random.default_rng(seed)
    largest_S = np.empty(n_flips)
    for first in range(0, n_flips, _FLIPS_AT_A_TIME):
        size = min(_FLIPS_AT_A_TIME, n_flips - first)
        sign_SP = 1.0 - 2.0 * generator.integers(0, 2, size=(size, n))
        largest_S[first : first + size] = _size_of_t(sign_SP @ d_PF, square_F, n).max(axis=1, initial=0)
    # equal up to rounding is equal: with few pairs many flips give the same differences
    n_reached_F = len(largest_S) - np.searchsorted(np.sort(largest_S), real_F * (1 - 1e-9))
    return (1 + n_reached_F) / (1 + n_flips)


def alike(x_P: np.ndarray, y_P: np.ndarray, tolerance: float) -> np.ndarray:
    """Which pairs of positive numbers differ by at most this share of the larger one, [P] bool."""
    return np.abs(x_P - y_P) <= tolerance * np.maximum(x_P, y_P)


def _size_of_t(sum_SF: np.ndarray, square_F: np.ndarray, n: int) -> np.ndarray:
    """|t| of differences with these sums and sums of squares (which no flip changes)."""
    scatter_SF = square_F - sum_SF**2 / n
    scatter_SF[scatter_SF <= 1e-12 * square_F] = 0
    return _ratio(np.abs(sum_SF) / n, np.sqrt(scatter_SF / (n * (n - 1))))


def _ratio(value: np.ndarray, size: np.ndarray) -> np.ndarray:
    """value / size; 0 of 0 is 0, anything else of 0 is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(value == 0, 0.0, value / size)


def _two_sided(t_F: np.ndarray, degrees: int) -> np.ndarray:
    from scipy.stats import t

    return 2 * t.sf(np.abs(t_F), degrees)
