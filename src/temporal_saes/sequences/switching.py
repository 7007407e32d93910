"""Do latents switch where the passages of a joined text do? Scores that need no eye.

    on_TF = activity(f_TF)
    passage_information(on_TF, passage_T)   # bits that each latent tells about the passage
    shuffled_information(on_TF, passage_T)  # bits it would tell by luck alone
    switches(on_TF, passage_T)              # how many tokens late a latent changes
    flicker(on_TF, passage_T)               # how often it changes where nothing does

A latent that stands for what a passage is about tells the passage, changes once at its boundary, and
nowhere else. In T-SAE (arXiv 2511.05541, Figures 1 and 4) this is seen in a plot.

Shapes: T usable tokens of one text in order, F latents, P passages, S shifts of the text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import hypergeom

MIN_CHANGE = 0.5
"""A latent takes part in a boundary if the shares of tokens at which it is on differ by so much."""
MAX_SHIFTS = 32


def activity(f_TF: np.ndarray, how: str = "firing") -> np.ndarray:
    """Where each latent is on, bool [T, F].

    Args:
        how: `firing`: above zero. `half`: above the middle between its lowest and its highest value
            in the text, for codes that are hardly ever zero; a latent that is constant is never on.
    """
    if how == "firing":
        return f_TF > 0
    assert how == "half"
    low_F, high_F = f_TF.min(axis=0), f_TF.max(axis=0)
    return f_TF > (low_F + high_F) / 2


def one_hot(passage_T: np.ndarray, n: int) -> np.ndarray:
    """Passages [..., T] as indicators [..., P, T], float64."""
    return (passage_T[..., None, :] == np.arange(n)[:, None]).astype(np.float64)


# --- information ---


def passage_information(on_TF: np.ndarray, passage_T: np.ndarray) -> np.ndarray:
    """Mutual information of on or off and the passage, over the tokens of the text, bits [..., F].

    At most 1 bit, as a latent is on or off, and 0 for one that is always the same.

    Args:
        passage_T: [..., T]; leading axes give one answer each.
    """
    passage_PT = one_hot(passage_T, int(passage_T.max()) + 1)
    on_PF = passage_PT @ on_TF.astype(np.float64)
    size_P1 = passage_PT.sum(axis=-1)[..., None]
    n = passage_T.shape[-1]
    on_1F = on_PF.sum(axis=-2, keepdims=True)
    return (_term(on_PF, size_P1 * on_1F, n) + _term(size_P1 - on_PF, size_P1 * (n - on_1F), n)).sum(axis=-2)


def _term(both: np.ndarray, product: np.ndarray, n: int) -> np.ndarray:
    """both / n · log2(n · both / product); 0 where both is 0."""
    safe = np.where(both > 0, both, 1)
    return both / n * np.log2(np.where(both > 0, n * safe / np.where(product > 0, product, 1), 1))


def shuffled_information(on_TF: np.ndarray, passage_T: np.ndarray) -> np.ndarray:
    """The mean of `passage_information` over all orders of the tokens, bits [F]: exact, nothing is drawn.

    It is what finitely many tokens tell by luck (the expected mutual information of Vinh, Epps and Bailey
    2010). In a random order the tokens of a passage at which a latent is on are hypergeometric.
    """
    n = len(passage_T)
    on_F = on_TF.sum(axis=0)
    on_U, place_F = np.unique(on_F, return_inverse=True)
    bits_U = np.zeros(len(on_U))
    for size in np.bincount(passage_T):
        k_K = np.arange(size + 1)
        weight_UK = hypergeom.pmf(k_K, n, size, on_U[:, None])
        on_UK = _term(np.broadcast_to(k_K, weight_UK.shape), size * on_U[:, None], n)
        off_UK = _term(np.broadcast_to(size - k_K, weight_UK.shape), size * (n - on_U[:, None]), n)
        bits_U += (weight_UK * (on_UK + off_UK)).sum(axis=1)
    return bits_U[place_F]


def shifts(passage_T: np.ndarray, most: int = MAX_SHIFTS) -> np.ndarray:
    """The passages moved along the text, round its end, by even distances: [S, T], S at most `most`.

    Boundaries are then elsewhere, and neither the passages nor the latents are torn: a latent that stays
    on for long tells much about any long stretch. Some shifts come near the true boundaries again.
    """
    n = len(passage_T)
    distances = np.unique(np.linspace(1, n - 1, min(most, n - 1)).round().astype(int))
    return np.stack([np.roll(passage_T, distance) for distance in distances])


# --- switching ---


class Switch(NamedTuple):
    """One latent changes between two passages."""

    latent: int
    boundary: int
    """The token with which the second passage begins."""
    delay: int
    """Tokens from the boundary to the change; negative if the change is in front of it."""


def switches(on_TF: np.ndarray, passage_T: np.ndarray) -> list[Switch]:
    """Each boundary at which a latent changes from mostly off to mostly on or back.

    Mostly is told by `MIN_CHANGE`. The change is put where one step between off and on disagrees with
    the fewest tokens of the two passages, and among such places the nearest to the boundary.
    """
    found = []
    starts = [0, *boundaries(passage_T), len(passage_T)]
    for start, boundary, end in zip(starts, starts[1:], starts[2:], strict=False):
        before_F, after_F = on_TF[start:boundary].mean(axis=0), on_TF[boundary:end].mean(axis=0)
        for latent in np.flatnonzero(np.abs(after_F - before_F) >= MIN_CHANGE).tolist():
            goes_on = after_F[latent] > before_F[latent]
            # 1 where a token is as it should be behind the change, 0 where it is as in front of it
            new_W = (on_TF[start:end, latent] == goes_on).astype(int)
            too_early_C = np.concatenate([[0], np.cumsum(new_W)])
            too_late_C = np.concatenate([np.cumsum((1 - new_W)[::-1])[::-1], [0]])
            wrong_C = too_early_C + too_late_C
            best = np.flatnonzero(wrong_C == wrong_C.min()) + start - boundary
            found.append(Switch(latent, boundary, int(best[np.lexsort((-best, np.abs(best)))[0]])))
    return found


def boundaries(passage_T: np.ndarray) -> list[int]:
    """The first token of every passage but the first."""
    return (np.flatnonzero(np.diff(passage_T)) + 1).tolist()


def flicker(on_TF: np.ndarray, passage_T: np.ndarray) -> np.ndarray:
    """Changes between on and off for each two neighbouring tokens of one passage, [F]."""
    inside_t = passage_T[1:] == passage_T[:-1]
    changes_F = (on_TF[1:] != on_TF[:-1])[inside_t].sum(axis=0)
    return changes_F / max(1, int(inside_t.sum()))


def shuffled_flicker(on_TF: np.ndarray, passage_T: np.ndarray) -> np.ndarray:
    """The mean of `flicker` over all orders of the tokens within their passages, [F].

    Of n tokens with k on, two neighbours differ with probability 2 k (n - k) / (n (n - 1)), so
    2 k (n - k) / n of the n - 1 pairs do. A latent that is seldom on flickers seldom: here is how seldom.
    """
    changes_F = np.zeros(on_TF.shape[1])
    n_pairs = 0
    for passage in np.unique(passage_T):
        some_NF = on_TF[passage_T == passage]
        n, k_F = len(some_NF), some_NF.sum(axis=0)
        changes_F += 2 * k_F * (n - k_F) / n
        n_pairs += n - 1
    return changes_F / max(1, n_pairs)


# --- which latents ---


def choose(f_TF: np.ndarray, passage_T: np.ndarray, rule: str, n: int) -> list[int]:
    """The n latents to look at, the first choice first; fewer if fewer are above zero anywhere.

    `mean`: the highest mean over the text, which knows nothing of the passages. `contrast`: for one
    passage after another, the latent whose mean over the passage exceeds that over the rest most, then
    the second of each, and so on; one that exceeds nowhere is not chosen.
    """
    n_passages = int(passage_T.max()) + 1
    sum_PF = one_hot(passage_T, n_passages) @ f_TF
    size_P1 = np.bincount(passage_T)[:, None]
    total_F = sum_PF.sum(axis=0)
    if rule == "mean":
        order = np.argsort(-total_F, kind="stable")[:n]
        return order[total_F[order] > 0].tolist()
    assert rule == "contrast"
    excess_PF = sum_PF / size_P1 - (total_F - sum_PF) / np.maximum(1, len(passage_T) - size_P1)
    # no passage can need more than n candidates of its own and the n of the others
    depth = min(n * 2, excess_PF.shape[1])
    queues = [_largest(excess_F, depth) for excess_F in excess_PF]
    chosen: list[int] = []
    while len(chosen) < n and any(queues):
        for queue in queues:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < n:
                chosen.append(queue.pop(0))
    return chosen


def _largest(value_F: np.ndarray, n: int) -> list[int]:
    """The places of the n largest positive values, the largest first; of equal ones the first."""
    if n < len(value_F):
        limit = np.partition(value_F, -n)[-n]
        candidates = np.flatnonzero((value_F >= limit) & (value_F > 0))
    else:
        candidates = np.flatnonzero(value_F > 0)
    return candidates[np.argsort(-value_F[candidates], kind="stable")][:n].tolist()


# --- a text ---


class Scores(NamedTuple):
    """A text's scores: means over latents; None where there is nothing to take a mean of."""

    information: float | None
    """Bits that a latent tells about the passage."""
    shuffled: float | None
    """The same if the tokens stood in any order."""
    shifted: float | None
    """The same if the boundaries were elsewhere, latents chosen anew."""
    above_shifted: float | None
    """information - shifted."""
    switches: float | None
    """Latents that change at a boundary, as a mean over boundaries."""
    delay: float | None
    """Tokens from a boundary to a change, early changes negative."""
    distance: float | None
    """The same, early changes positive."""
    flicker: float | None
    """Changes a token inside a passage."""
    relative_flicker: float | None
    """Changes of all latents as a share of those in any order inside the passages: 1 is luck, 0 steady."""
    on_share: float | None
    """Tokens at which a latent is on."""
    n_latents: int


NOTHING = Scores(None, None, None, None, None, None, None, None, None, None, 0)


def score(
    f_TF: np.ndarray,
    passage_T: np.ndarray,
    chosen: Sequence[int],
    *,
    how: str = "firing",
    rule: str | None = None,
    n: int = 0,
) -> Scores:
    """The scores of the chosen latents on one text; of those that are nowhere on or everywhere, too.

    Args:
        rule, n: how `chosen` was chosen, if the choice knows the passages: it is made again for
            shifted passages. None: it stays.
    """
    if not len(chosen):
        return NOTHING
    on_TF = activity(f_TF[:, list(chosen)], how)
    information = float(passage_information(on_TF, passage_T).mean())
    shifted = _shifted(f_TF, on_TF, passage_T, how, rule, n)
    found = switches(on_TF, passage_T)
    delays = np.array([switch.delay for switch in found])
    luck = float(shuffled_flicker(on_TF, passage_T).sum())
    flicker_F = flicker(on_TF, passage_T)
    return Scores(
        information=information,
        shuffled=float(shuffled_information(on_TF, passage_T).mean()),
        shifted=shifted,
        above_shifted=information - shifted,
        switches=len(found) / len(boundaries(passage_T)),
        delay=float(delays.mean()) if found else None,
        distance=float(np.abs(delays).mean()) if found else None,
        flicker=float(flicker_F.mean()),
        relative_flicker=float(flicker_F.sum()) / luck if luck else None,
        on_share=float(on_TF.mean()),
        n_latents=len(chosen),
    )


def _shifted(
    f_TF: np.ndarray, on_TF: np.ndarray, passage_T: np.ndarray, how: str, rule: str | None, n: int
) -> float:
    moved_ST = shifts(passage_T)
    if rule != "contrast":
        return float(passage_information(on_TF, moved_ST).mean())
    bits = []
    for moved_T in moved_ST:
        again = activity(f_TF[:, choose(f_TF, moved_T, rule, n)], how)
        bits.append(float(passage_information(again, moved_T).mean()))
    return float(np.mean(bits))
