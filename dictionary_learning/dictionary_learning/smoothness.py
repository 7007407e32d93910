"""How smoothly latents follow a text: five measures over time, for any dictionary and any splits.

Shapes: T tokens of one text, D model width, F latents, A latents that are non-zero somewhere in the
text, S latents of A that belong to one split.

A latent is *active* when its sum over the text is not zero. At k = 20 of 16,384 all but a few hundred
latents are silent in a text of 128 tokens, so everything after the first pass over f is computed on
those columns only, once for all splits.

Over one text and the active latents of one split:

- `total_variation`: sum over t and latents of abs(f_t - f_{t-1}).
- `lipschitz`: max over t of abs(f_t - f_{t-1}) / ‖x_t - x_{t-1}‖₂, mean over latents.
- `fourier`: power from the middle frequency up / power below it, mean over latents.
- `wavelet`: detail energy of three Haar levels / energy of the last approximation, both over all latents.
- `multiscale`: v(1) / v(largest of 1, 2, 4, 8 below T), v(s) the variance over t of f_{t+s} - f_t, mean over
  latents.

`lipschitz` is "smoothness" in the tables of the T-SAE paper (arXiv 2511.05541); the others are from the
evaluation released with it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dictionary_learning import distributed

METRICS = ("total_variation", "lipschitz", "fourier", "wavelet", "multiscale")
SCALES = (1, 2, 4, 8)
HAAR_LEVELS = 3
# Texts whose Fourier transform is a matrix product: 127 tokens, what is left of 128 behind a BOS, are a prime
# number, of which a fast transform takes eight times as long.
LONGEST_BY_PRODUCT = 512
EPSILON = 1e-10  # of the formulas' denominators
BLOCK = 256  # latents at a time: what is made of 128 tokens of them in float64 stays in a core's cache

Values = dict[str, float | None]
Array = NDArray[np.float64]


class TextMean(NamedTuple):
    """The mean of one measure over texts; `value` is None when no text defines it."""

    value: float | None
    texts: int
    left_out: int  # texts that leave the measure undefined


@torch.no_grad()
def smoothness(f_TF: Tensor, x_TD: Tensor, splits: Mapping[str, slice] | None = None) -> dict[str, Values]:
    """The five measures of one text: `{"all": {metric: value}, "<split>": {metric: value}}`.

    Args:
        f_TF: latents of the text's tokens, in order, any float type; computed in float64.
        x_TD: the activations they were encoded from.
        splits: named ranges of latents, as `Dictionary.splits()` gives them.

    Returns:
        a float, or None where the text leaves the measure undefined: fewer than two tokens (all five);
        no active latent in the split (all but `total_variation`); two equal activations in a row
        (`lipschitz`); fewer than 8 tokens (`wavelet`); fewer than two differences at the largest scale
        below T, which is 2, 3, 5 and 9 tokens (`multiscale`); a numerator over nothing (`wavelet`,
        `multiscale`). Never NaN or infinite for finite input.

    Raises:
        ValueError: shapes that do not belong together, a split that is no range of latents.
    """
    if f_TF.ndim != 2 or x_TD.ndim != 2 or len(f_TF) != len(x_TD):
        shapes = f"{list(f_TF.shape)} and {list(x_TD.shape)}"
        raise ValueError(f"smoothness takes f [T, F] and x [T, D] of one text, not {shapes}.")
    ranges = _ranges(splits, f_TF.shape[1])
    if len(f_TF) < 2 or f_TF.shape[1] == 0:
        return {name: dict.fromkeys(METRICS) for name in ranges}
    return _of_columns(*_touched(f_TF), step_lengths(x_TD), ranges)


def smoothness_of_entries(
    values_N: NDArray[np.floating],
    row_N: NDArray[np.integer],
    col_N: NDArray[np.integer],
    n_latents: int,
    step_T: Array,
    splits: Mapping[str, slice] | None = None,
) -> dict[str, Values]:
    """What `smoothness` gives, from the entries of the code [T, F] of a text; silent latents cost nothing.

    Args:
        values_N, row_N, col_N: the entries in any order, none twice; rows are the text's tokens, in order.
        n_latents: F.
        step_T: `step_lengths` of the activations they were encoded from, [T - 1].
        splits: as there.
    """
    ranges = _ranges(splits, n_latents)
    if not len(step_T) or n_latents == 0:
        return {name: dict.fromkeys(METRICS) for name in ranges}
    columns_A, place_N = np.unique(col_N, return_inverse=True)
    if not len(columns_A):
        columns_A = np.zeros(1, np.intp)
    f_TA = np.zeros((len(step_T) + 1, len(columns_A)))
    f_TA[row_N, place_N] = values_N
    return _of_columns(columns_A, f_TA, step_T, ranges)


def step_lengths(x_TD: Tensor) -> Array:
    """‖x_t - x_{t-1}‖₂ of the activations of a text, [T - 1]."""
    x = _array(x_TD).astype(np.float64)
    return np.linalg.norm(x[1:] - x[:-1], axis=1)


def _of_columns(
    columns_A: NDArray[np.intp], f_TA: NDArray[np.floating], step_T: Array, ranges: Mapping[str, slice]
) -> dict[str, Values]:
    """The measures from the columns of the latents that are not zero everywhere, ascending.

    In numpy, because a device may lack float64, and because torch's threads wait for each other longer than
    an operation of this size takes when other work has the cores.
    """
    blocks = [
        _measure(f_TA[:, start : start + BLOCK].astype(np.float64), step_T)
        for start in range(0, f_TA.shape[1], BLOCK)
    ]
    measured = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}

    active_A = measured.pop("sum") != 0
    # a latent that goes up and down by the same is not active, and varies
    terms_MA = np.stack(
        [measured.pop("total_variation"), *(value_A * active_A for value_A in measured.values())]
    )
    result = {}
    for name, part in ranges.items():
        start, stop = np.searchsorted(columns_A, (part.start, part.stop))
        sums = terms_MA[:, start:stop].sum(1).tolist()
        active = int(np.count_nonzero(active_A[start:stop]))
        result[name] = _values(dict(zip(["total_variation", *measured], sums, strict=True)), active)
    return result


@torch.no_grad()
def latents_lipschitz(f_TF: Tensor, x_TD: Tensor) -> tuple[NDArray[np.intp], Array]:
    """`lipschitz` of each active latent of one text by itself: their numbers, ascending, and the values.

    Both are empty where the text leaves the measure undefined. Arguments as `smoothness`.
    """
    nothing = np.zeros(0, np.intp), np.zeros(0)
    if len(f_TF) < 2 or f_TF.shape[1] == 0:
        return nothing
    columns_A, f_TA = _touched(f_TF)
    step_T = step_lengths(x_TD)
    active_A = f_TA.sum(0, dtype=np.float64) != 0
    if not (step_T > 0).all():
        return nothing
    f_TA = f_TA[:, active_A].astype(np.float64)
    return columns_A[active_A], _lipschitz(np.abs(f_TA[1:] - f_TA[:-1]), step_T)


def _lipschitz(change_TA: Array, step_T: Array) -> Array:
    return (change_TA / step_T[:, None]).max(0)


def _touched(f_TF: Tensor) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """The latents that are not zero everywhere, and their columns; at least one, so that nothing is empty."""
    if f_TF.device.type == "cpu":
        f = _array(f_TF)
        columns_A = np.flatnonzero(f.any(axis=0))
        columns_A = columns_A if len(columns_A) else np.zeros(1, np.intp)
        return columns_A, f.take(columns_A, axis=1)
    columns = (f_TF != 0).any(0).nonzero().flatten()
    columns = columns if len(columns) else columns.new_zeros(1)
    return columns.cpu().numpy(), _array(f_TF.index_select(1, columns))


def _array(tensor: Tensor) -> NDArray[np.floating]:
    """numpy does not know bfloat16."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


class SmoothnessMean:
    """Means over texts, the papers' way: first over the latents of a text, then over texts.

    A text that leaves a measure undefined is left out of that mean and counted.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], tuple[float, int, int]] = {}

    def add(self, one_text: Mapping[str, Values]) -> None:
        """Add what `smoothness` returned for one text."""
        for split, values in one_text.items():
            for metric, value in values.items():
                total, texts, left_out = self._sums.get((split, metric), (0.0, 0, 0))
                if value is None:
                    self._sums[split, metric] = (total, texts, left_out + 1)
                else:
                    self._sums[split, metric] = (total + value, texts + 1, left_out)

    def over_processes(self) -> None:
        """Turn the sums into those over all processes."""
        named = {
            f"{metric} {split}": torch.tensor(sums, dtype=torch.float64)
            for (split, metric), sums in self._sums.items()
        }
        self._sums = {}
        for name, sums in distributed.total_by_name(named).items():
            metric, _, split = name.partition(" ")
            total, texts, left_out = sums.tolist()
            self._sums[split, metric] = total, int(texts), int(left_out)

    def mean(self) -> dict[str, dict[str, TextMean]]:
        """`{split: {metric: TextMean}}` of all texts added so far."""
        means: dict[str, dict[str, TextMean]] = {}
        for (split, metric), (total, texts, left_out) in self._sums.items():
            value = total / texts if texts else None
            means.setdefault(split, {})[metric] = TextMean(value, texts, left_out)
        return means


def _ranges(splits: Mapping[str, slice] | None, F: int) -> dict[str, slice]:
    return {"all": slice(0, F)} | {name: _range(name, part, F) for name, part in (splits or {}).items()}


def _range(name: str, part: slice, F: int) -> slice:
    start, stop, step = part.indices(F)
    if name == "all" or step != 1:
        raise ValueError(f"split {name!r} = {part} is no named range of latents besides 'all'.")
    return slice(start, max(start, stop))


def _measure(f_TA: Array, step_T: Array) -> dict[str, Array]:
    """What each latent adds to the sums of the measures that a text of T tokens defines."""
    T = len(f_TA)
    difference_TA = f_TA[1:] - f_TA[:-1]
    change_TA = np.abs(difference_TA)
    measured = {"sum": f_TA.sum(0), "total_variation": change_TA.sum(0), "fourier": _fourier(f_TA)}
    if (step_T > 0).all():
        measured["lipschitz"] = _lipschitz(change_TA, step_T)
    if 2**HAAR_LEVELS <= T:
        measured["detail"], measured["approximation"] = _haar_energies(f_TA)
    largest = max(scale for scale in SCALES if scale < T)
    if T - largest >= 2:
        measured["v(smallest)"] = _variance(difference_TA)
        measured["v(largest)"] = _variance(f_TA[largest:] - f_TA[:-largest])
    return measured


def _variance(difference_TA: Array) -> Array:
    """Over time; what is given is lost."""
    difference_TA -= difference_TA.mean(0)
    return _squares(difference_TA) / (len(difference_TA) - 1)


def _squares(f_TA: Array) -> Array:
    """The sum of the squares of each latent."""
    return np.einsum("ta,ta->a", f_TA, f_TA)


def _fourier(f_TA: Array) -> Array:
    T = len(f_TA)
    frequencies = T // 2 + 1
    low_A = _low_power(f_TA, int(0.5 * frequencies))
    # All frequencies of both signs hold T times the sum of squares (Parseval); the first has no partner of
    # the other sign, nor has the last where T is even.
    alone_A = np.square(f_TA.sum(0))
    if T % 2 == 0:
        alone_A += np.square(f_TA[::2].sum(0) - f_TA[1::2].sum(0))
    all_A = (T * _squares(f_TA) + alone_A) / 2
    return np.maximum(all_A - low_A, 0) / (low_A + EPSILON)


def _low_power(f_TA: Array, middle: int) -> Array:
    """The power of the frequencies below the middle one."""
    if len(f_TA) <= LONGEST_BY_PRODUCT:
        return _squares(_waves(len(f_TA), middle) @ f_TA)
    spectrum_KA = np.fft.rfft(f_TA, axis=0)[:middle]
    return _squares(spectrum_KA.real) + _squares(spectrum_KA.imag)


@lru_cache(4)
def _waves(T: int, middle: int) -> Array:
    """Cosines and sines of the frequencies below the middle one, [2 middle, T]."""
    angle_KT = 2 * np.pi / T * (np.outer(np.arange(middle), np.arange(T)) % T)
    return np.concatenate([np.cos(angle_KT), np.sin(angle_KT)])


def _haar_energies(f_TA: Array) -> tuple[Array, Array]:
    """Energy of the details of all levels and of the last approximation; an odd last step is dropped."""
    approximation_TA, detail_A = f_TA, np.zeros(f_TA.shape[1])
    for _ in range(HAAR_LEVELS):
        pairs = len(approximation_TA) // 2
        even, odd = approximation_TA[: 2 * pairs : 2], approximation_TA[1 : 2 * pairs : 2]
        detail_A += _squares(even - odd) / 4
        approximation_TA = (even + odd) / 2
    return detail_A, _squares(approximation_TA)


def _values(sums: Mapping[str, float], active: int) -> Values:
    """The measures of one split from sums over its active latents."""
    values: Values = dict.fromkeys(METRICS)
    values["total_variation"] = sums["total_variation"]
    if not active:
        return values
    for metric in ("lipschitz", "fourier"):
        if metric in sums:
            values[metric] = sums[metric] / active
    if "detail" in sums:
        values["wavelet"] = _ratio(sums["detail"], sums["approximation"])
    if "v(largest)" in sums:
        values["multiscale"] = _ratio(sums["v(smallest)"] / active, sums["v(largest)"] / active)
    return values


def _ratio(above: float, below: float) -> float | None:
    return None if below == 0 < above else above / (below + EPSILON)
