"""The path of a text's vectors through the space of activations: its dimensions, its bends, its speed.

Numbers of Temporal Feature Analysis (arXiv 2511.01836) for the parts into which a dictionary takes
activations. Undefined values (a part that does not move) are None, never NaN.

Shapes: L positions of one text, N texts, D model width, K frequencies.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from temporal_saes.experiment.intervals import Interval, around
from temporal_saes.geometry.options import MIN_TEXTS

NO_MOTION = 1e-12  # share of the squared length that is left of a constant by rounding


def spectrum(v_LD: np.ndarray, around_D: np.ndarray | None = None) -> np.ndarray | None:
    """Variances along the principal axes over positions, the largest first, summing to 1.

    Args:
        around_D: the point that they are around; the path's own mean if not given. Around zero, a direction
            that all positions share counts as one of the dimensions, and hides the others.
    """
    c_LD = _centred(v_LD) if around_D is None else _moved(v_LD, around_D)
    if c_LD is None:
        return None
    gram = c_LD @ c_LD.T if len(c_LD) <= c_LD.shape[1] else c_LD.T @ c_LD
    variances = np.linalg.eigvalsh(gram)[::-1].clip(min=0)
    return variances / variances.sum()


def spectrum_of_all(texts: Iterable[np.ndarray]) -> np.ndarray | None:
    """As `spectrum`, over the positions [L, D] of all texts together."""
    n, total, squares = 0, np.zeros(()), np.zeros(())
    for v_LD in texts:
        v_LD = v_LD.astype(np.float64)
        n, total, squares = n + len(v_LD), total + v_LD.sum(axis=0), squares + v_LD.T @ v_LD
    covariance_DD = squares - np.outer(total, total) / max(n, 1)
    if np.trace(covariance_DD) <= NO_MOTION * np.trace(squares):
        return None
    variances = np.linalg.eigvalsh(covariance_DD)[::-1].clip(min=0)
    return variances / variances.sum()


def effective_rank(spectrum: np.ndarray) -> float:
    """exp of the entropy of the singular values over their sum (Roy and Vetterli 2007).

    Args:
        spectrum: variances along the principal axes, the squares of the singular values.
    """
    share = np.sqrt(spectrum)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def participation_ratio(spectrum: np.ndarray) -> float:
    """(sum of variances)² / sum of squared variances: d for d equal variances and no others."""
    return float(spectrum.sum() ** 2 / (spectrum**2).sum())


def tortuosity(v_LD: np.ndarray, steps: int | None = None) -> float | None:
    """Length of the path over the distance between its ends, 1 for a straight one.

    A path of independent positions has about as much as it has steps, so lengths have to be alike to be
    compared.

    Args:
        steps: cut the path into pieces of so many steps, a rest left out, and take the sum of their
            lengths over the sum of their distances; None takes the whole path.
    """
    v_LD = v_LD.astype(np.float64)
    steps = steps or len(v_LD) - 1
    n_pieces = (len(v_LD) - 1) // steps if steps else 0
    if n_pieces < 1:
        return None
    ends_PD = v_LD[: n_pieces * steps + 1 : steps]
    distance = np.linalg.norm(np.diff(ends_PD, axis=0), axis=1).sum()
    length = np.linalg.norm(np.diff(v_LD[: n_pieces * steps + 1], axis=0), axis=1).sum()
    return float(length / distance) if distance > NO_MOTION * length else None


# --- frequencies ---


def frequencies(n_positions: int) -> np.ndarray:
    """Frequencies [K] of a text as shares of Nyquist (one change of sign a token is 1), without 0."""
    return np.fft.rfftfreq(n_positions)[1:] * 2


def power_shares(v_LD: np.ndarray) -> np.ndarray | None:
    """Share of the variance over positions at each of the `frequencies`, [K], summed over dimensions."""
    c_LD = _centred(v_LD)
    if c_LD is None:
        return None
    power_K = (np.abs(np.fft.rfft(c_LD, axis=0)) ** 2).sum(axis=1)[1:]
    # every frequency but Nyquist's stands for itself and its negative
    twice_K = np.full(len(power_K), 2.0)
    if len(v_LD) % 2 == 0:
        twice_K[-1] = 1
    power_K *= twice_K
    return power_K / power_K.sum()


def slow_share(v_LD: np.ndarray, cut: float = 0.1) -> float | None:
    """Share of the variance over positions at frequencies of at most `cut` times Nyquist's.

    White noise has `slow_share_of_noise`.
    """
    shares_K = power_shares(v_LD)
    return None if shares_K is None else float(shares_K[frequencies(len(v_LD)) <= cut].sum())


def slow_share_of_noise(n_positions: int, cut: float = 0.1) -> float:
    """The expected slow share of independent positions: the share of the frequencies that are slow."""
    return 2 * int((frequencies(n_positions) <= cut).sum()) / (n_positions - 1)


class Bands(NamedTuple):
    """A path taken apart by frequency; their sum is the centred path."""

    slow_LD: np.ndarray
    fast_LD: np.ndarray


def bands(v_LD: np.ndarray, cut: float = 0.1) -> Bands:
    """The motion at frequencies of at most `cut` times Nyquist's, and the rest."""
    c_LD = v_LD.astype(np.float64) - v_LD.mean(axis=0, dtype=np.float64)
    f_KD = np.fft.rfft(c_LD, axis=0)
    f_KD[1:][frequencies(len(v_LD)) > cut] = 0
    slow_LD = np.fft.irfft(f_KD, n=len(v_LD), axis=0)
    return Bands(slow_LD, c_LD - slow_LD)


def cosine(v_LD: np.ndarray, w_LD: np.ndarray) -> float | None:
    """Cosine of two centred paths, as vectors of L x D numbers."""
    c_LD, d_LD = _centred(v_LD), _centred(w_LD)
    if c_LD is None or d_LD is None:
        return None
    return float((c_LD * d_LD).sum() / np.sqrt((c_LD**2).sum() * (d_LD**2).sum()))


# --- time ---


def autocorrelation(v_LD: np.ndarray, mean_D: np.ndarray, max_lag: int) -> np.ndarray | None:
    """How alike positions at a distance are, for the distances 0 to `max_lag`: 1 at 0.

    mean_t <v_t - m, v_t+lag - m> over mean_t ‖v_t - m‖². With a mean m over many texts, what is left at
    long lags is what the positions of one text have in common.
    """
    assert max_lag < len(v_LD)
    c_LD = v_LD.astype(np.float64) - mean_D
    power = (c_LD**2).sum() / len(c_LD)
    if power <= NO_MOTION * (v_LD.astype(np.float64) ** 2).sum():
        return None
    products = [
        (c_LD[: len(c_LD) - lag] * c_LD[lag:]).sum() / (len(c_LD) - lag) for lag in range(max_lag + 1)
    ]
    return np.array(products) / power


# --- dimension over texts ---


def dimension(v_ND: np.ndarray) -> Interval | None:
    """Participation ratio of N independent vectors' covariance C, tr(C)² / tr(C²), with its 95 % interval.

    Both traces are estimated without the bias of few samples (U-statistics over distinct texts), so that
    the number of texts does not bound the dimension; the interval is the jackknife's. None where the
    vectors are all the same, or so few that the estimate of tr(C²) is not positive.
    """
    assert len(v_ND) >= MIN_TEXTS
    v_ND = v_ND.astype(np.float64)
    gram_NN = v_ND @ v_ND.T
    # the centre does not matter in theory; near it, little is lost to rounding
    mean_N = gram_NN.mean(axis=0)
    centred_NN = gram_NN - mean_N[:, None] - mean_N[None, :] + mean_N.mean()
    if np.trace(centred_NN) <= NO_MOTION * np.trace(gram_NN):
        return None
    n = len(v_ND)
    kept = np.arange(n)
    value = _participation(centred_NN)
    without_N = np.array([_participation(centred_NN[np.ix_(kept != i, kept != i)]) for i in range(n)])
    if not np.isfinite([value, *without_N]).all():
        return None
    error = np.sqrt((n - 1) / n * ((without_N - without_N.mean()) ** 2).sum())
    return around(value, float(error), n)


def _participation(gram_NN: np.ndarray) -> float:
    """tr(C)² / tr(C²) from inner products; inf where too few texts leave no positive estimate of tr(C²)."""
    n = len(gram_NN)
    diagonal_N = np.diag(gram_NN)
    off_NN = gram_NN - np.diag(diagonal_N)
    row_N = off_NN.sum(axis=1)
    total = row_N.sum()
    trace = diagonal_N.mean() - total / (n * (n - 1))
    # means of g_ij², g_ij g_ik and g_ij g_kl over distinct indices
    squares = (off_NN**2).sum()
    paths = (row_N**2).sum() - squares
    pairs = total**2 - 4 * paths - 2 * squares
    trace_of_square = (
        squares / (n * (n - 1))
        - 2 * paths / (n * (n - 1) * (n - 2))
        + pairs / (n * (n - 1) * (n - 2) * (n - 3))
    )
    return float(trace**2 / trace_of_square) if trace_of_square > 0 else np.inf


def _moved(v_LD: np.ndarray, around_D: np.ndarray) -> np.ndarray | None:
    """Differences from a point; None where there are none."""
    c_LD = v_LD.astype(np.float64) - around_D
    return c_LD if (c_LD**2).sum() > NO_MOTION * (v_LD.astype(np.float64) ** 2).sum() else None


def _centred(v_LD: np.ndarray) -> np.ndarray | None:
    """Differences from the mean over positions; None where there are none."""
    v_LD = v_LD.astype(np.float64)
    c_LD = v_LD - v_LD.mean(axis=0)
    return c_LD if (c_LD**2).sum() > NO_MOTION * (v_LD**2).sum() else None
