"""How well simple rules say where a latent is active, learnt on half of the texts and tested on the other.

    halves = split_contexts(codes, seed=0)          # of naming.windows
    codes = keep_active(codes, active_thresholds(codes, halves.learn_C))
    scores = score_latents(codes, halves, seed=0)     # one for each column of the codes

No language model and no embedding is asked, so these numbers exist for every latent. They say what a short
explanation could be made of, and what is left when it could not:

token_share  the share of the variance of the latent's activation over the held-out tokens that the current
             token alone tells: 1 - squared error / variance, where the prediction is the token's mean
             activation in the learning half (with one token of the overall mean added, so that rare tokens
             are near it). 1 is all, 0 nothing, below 0 worse than the mean.
token_auc    among the tokens of the held-out windows that contain the latent: how often the same prediction
             is larger at a token where it is active than at one where it is silent (ties count half). It is
             the counterpart of fuzzing: which tokens of this window are marked rightly?
window_auc   how often a held-out window that contains the latent scores above one that does not, by the
             words in it: naive Bayes with the log odds of each token's presence in the windows of the
             learning half. It is the counterpart of detection: which windows contain the latent?

With `beside`, the places of each latent's neighbours, `window_auc` compares with those windows without the
latent in which a neighbour is active; what is learnt is the same.

Chance is .5 for the two areas under the curve and 0 for the share. Beside each stands what the same rule
reaches when, in the learning half, activations are dealt out anew among the tokens or windows (`shuffled`,
the mean of `N_SHUFFLES`): what it learns from nothing.

A latent is active where it exceeds `ACTIVE_SHARE` of its largest activation. One that would then be in more
than half of the windows, as dense predicted codes are, counts as active only above the median of the
windows' maxima, so that half of the windows do not contain it.

Windows and halves are those of `naming.windows`.

Shapes: T positions of all contexts, C contexts, U usable positions, K latents, V distinct tokens, M windows.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from temporal_saes.latents.codes import CodesOfContexts, select
from temporal_saes.naming.windows import MIN_PLACES, Halves, area_under_curve, window_of

ACTIVE_SHARE = 0.01
N_SHUFFLES = 4
SMOOTHING = 1.0  # of token means, in tokens; of presences, in windows
MEASURES = ("token_share", "token_auc", "window_auc")
CHANCE = {"token_share": 0.0, "token_auc": 0.5, "window_auc": 0.5}


class LatentScore(NamedTuple):
    """The scores of one latent; None where it has too few places."""

    token_share: float | None
    token_auc: float | None
    window_auc: float | None
    shuffled: dict[str, float | None]


# --- what is active ---


def active_thresholds(codes: CodesOfContexts, learn_C: np.ndarray) -> np.ndarray:
    """The value [K] above which each latent counts as active, from the learning half alone."""
    learnt = select(codes, learn_C)
    f_UK = sparse.csr_array(learnt.codes_TF[learnt.usable_T])
    share_K = ACTIVE_SHARE * _maximum(f_UK)
    window_U = window_of(learnt)
    if not (window_U >= 0).any():
        return share_K
    inside = window_U >= 0
    coo = sparse.coo_array(f_UK[inside])
    maximum_MK = np.zeros((window_U.max() + 1, f_UK.shape[1]), dtype=np.float32)
    np.maximum.at(maximum_MK, (window_U[inside][coo.coords[0]], coo.coords[1]), coo.data)
    return np.maximum(share_K, np.median(maximum_MK, axis=0))


def keep_active(codes: CodesOfContexts, threshold_K: np.ndarray) -> CodesOfContexts:
    """The codes with 0 where a latent is not above its threshold."""
    f_TK = codes.codes_TF.copy()
    f_TK.data[f_TK.data <= threshold_K[f_TK.indices]] = 0
    f_TK.eliminate_zeros()
    return codes._replace(codes_TF=f_TK)


def _maximum(f_UK: sparse.csr_array) -> np.ndarray:
    if not f_UK.shape[0]:
        return np.zeros(f_UK.shape[1], dtype=np.float32)
    return f_UK.max(axis=0).toarray().ravel()


# --- scores ---


def score_latents(
    codes: CodesOfContexts, halves: Halves, seed: int, beside: CodesOfContexts | None = None
) -> list[LatentScore]:
    """The scores of every column of the codes, which are above 0 where a latent is active.

    Args:
        beside: above 0 where a neighbour of the latent is active: see above.
    """
    _, word_T = np.unique(codes.tokens_T, return_inverse=True)
    codes = codes._replace(tokens_T=word_T)
    learn = _Half(select(codes, halves.learn_C), int(word_T.max(initial=-1)) + 1)
    test = _Half(select(codes, halves.test_C), learn.n_words)
    generator = np.random.default_rng(seed)
    token_orders = [generator.permutation(len(learn.word_U)) for _ in range(N_SHUFFLES)]
    window_orders = [generator.permutation(learn.n_windows) for _ in range(N_SHUFFLES)]
    near_MK = None if beside is None else _windows_with(select(beside, halves.test_C))
    window_auc_K = _window_aucs(learn, test, None, near_MK)
    shuffled_auc = [_window_aucs(learn, test, order, near_MK) for order in window_orders]
    scores = []
    for latent in range(codes.codes_TF.shape[1]):
        share, auc = _token_scores(learn, test, latent, None)
        shuffled = [_token_scores(learn, test, latent, order) for order in token_orders]
        scores.append(
            LatentScore(
                token_share=share,
                token_auc=auc,
                window_auc=window_auc_K[latent],
                shuffled={
                    "token_share": _mean([one[0] for one in shuffled]),
                    "token_auc": _mean([one[1] for one in shuffled]),
                    "window_auc": _mean([one[latent] for one in shuffled_auc]),
                },
            )
        )
    return scores


class _Half:
    """One half of the contexts, usable positions only."""

    def __init__(self, codes: CodesOfContexts, n_words: int) -> None:
        self.n_words = n_words
        self.word_U = codes.tokens_T[codes.usable_T]
        self.f_UK = sparse.csc_array(codes.codes_TF[codes.usable_T])
        self.window_U = window_of(codes)
        inside = np.flatnonzero(self.window_U >= 0)
        self.n_windows = int(self.window_U.max(initial=-1)) + 1
        ones = np.ones(len(inside), dtype=np.float32)
        self.has_MK = _windows_with(codes)
        words_MV = sparse.csr_array(
            (ones, (self.window_U[inside], self.word_U[inside])), shape=(self.n_windows, n_words)
        )
        words_MV.sum_duplicates()
        words_MV.data[:] = 1
        self.words_MV = words_MV

    def activation(self, latent: int) -> np.ndarray:
        """[U] of one latent."""
        return self.f_UK[:, [latent]].toarray().ravel().astype(np.float64)


def _windows_with(codes: CodesOfContexts) -> np.ndarray:
    """Whether each window [M, K] has a usable position at which a code is above 0."""
    window_U = window_of(codes)
    inside = np.flatnonzero(window_U >= 0)
    ones = np.ones(len(inside), dtype=np.float32)
    shape = int(window_U.max(initial=-1)) + 1, len(window_U)
    in_window_MU = sparse.csr_array((ones, (window_U[inside], inside)), shape=shape)
    is_active_UK = (codes.codes_TF[codes.usable_T] > 0).astype(np.float32)
    found: np.ndarray = (in_window_MU @ is_active_UK).toarray() > 0
    return found


def _token_scores(
    learn: _Half, test: _Half, latent: int, order: np.ndarray | None
) -> tuple[float | None, float | None]:
    """`token_share` and `token_auc`; with an order, of activations that are dealt out in it."""
    learnt_U, tested_U = learn.activation(latent), test.activation(latent)
    if order is not None:
        learnt_U = learnt_U[order]
    if min(np.count_nonzero(learnt_U), np.count_nonzero(tested_U)) < MIN_PLACES:
        return None, None
    count_V = np.bincount(learn.word_U, minlength=learn.n_words)
    sum_V = np.bincount(learn.word_U, learnt_U, minlength=learn.n_words)
    predicted_V = (sum_V + SMOOTHING * learnt_U.mean()) / (count_V + SMOOTHING)
    error = float(np.sum((tested_U - predicted_V[test.word_U]) ** 2))
    spread = float(np.sum((tested_U - tested_U.mean()) ** 2))
    share = 1 - error / spread if spread > 0 else None
    inside_U = (test.window_U >= 0) & test.has_MK[test.window_U, latent] if test.n_windows else None
    if inside_U is None:
        return share, None
    active_U = tested_U > 0
    active_V, silent_V = (
        np.bincount(test.word_U[inside_U & which], minlength=test.n_words) for which in (active_U, ~active_U)
    )
    return share, area_under_curve(predicted_V, active_V, silent_V)


def _window_aucs(
    learn: _Half, test: _Half, order: np.ndarray | None, near_MK: np.ndarray | None
) -> list[float | None]:
    """`window_auc` of every latent; with an order, of windows that are dealt out in it.

    Args:
        near_MK: the held-out windows that count as without the latent, where they do not have it; None: all.
    """
    has_MK = learn.has_MK if order is None else learn.has_MK[order]
    with_K, without_K = has_MK.sum(0), (~has_MK).sum(0)
    with_VK = learn.words_MV.T @ has_MK.astype(np.float64)
    without_VK = learn.words_MV.sum(axis=0)[:, None] - with_VK
    share_with_VK = (with_VK + SMOOTHING) / (with_K + 2 * SMOOTHING)
    share_without_VK = (without_VK + SMOOTHING) / (without_K + 2 * SMOOTHING)
    presence_VK = np.log(share_with_VK / share_without_VK)
    absence_VK = np.log((1 - share_with_VK) / (1 - share_without_VK))
    score_MK = test.words_MV @ (presence_VK - absence_VK)
    aucs: list[float | None] = []
    for latent in range(has_MK.shape[1]):
        enough = min(with_K[latent], without_K[latent]) >= MIN_PLACES
        has_M = test.has_MK[:, latent]
        without_M = ~has_M if near_MK is None else ~has_M & near_MK[:, latent]
        aucs.append(area_under_curve(score_MK[:, latent], has_M, without_M) if enough else None)
    return aucs


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
