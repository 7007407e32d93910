"""How large a part of the activations is, and how much of them it says by itself.

What the predicted part has to say depends on the bias, which belongs to neither part: a bias that is the
corpus mean leaves it less to say than one that is zero. So sizes are given three times, as the codes have it,
with the bias as a share of the predicted part, and with the corpus mean taken from that.

Shapes: u usable positions of one text, D model width.
"""

from typing import NamedTuple

import numpy as np


class Parts(NamedTuple):
    """One text's activations as a dictionary takes them apart."""

    v_uD: np.ndarray
    """What the chunk's codes add to the reconstruction."""
    rest_uD: np.ndarray | None
    """What the other codes add; None where there are no others."""
    bias_D: np.ndarray
    x_uD: np.ndarray
    is_first: bool
    """Whether the chunk is the one that the bias is counted with."""

    @property
    def whole_uD(self) -> np.ndarray:
        """The chunk's part, with the bias where it is counted with it."""
        return self.v_uD + self.bias_D if self.is_first else self.v_uD


# as_coded: without the bias; with_bias: the bias is predicted; less_mean: the same around the corpus mean
VIEWS = ("as_coded", "with_bias", "less_mean")


def sizes(parts: Parts, mean_D: np.ndarray) -> dict[str, float | None]:
    """Shares of the norm and the energy, and the norm beside the activations', of one text.

    A share is of the two parts, Σ‖v‖ / (Σ‖v‖ + Σ‖rest‖); `norm_of_x` is Σ‖v‖ / Σ‖x‖, with x around the same
    point as v.

    Args:
        mean_D: of the activations of all texts.

    Returns:
        `<measure>_<view>` for each of `VIEWS`.
    """
    nothing_D = np.zeros_like(mean_D)
    added = {"as_coded": nothing_D, "with_bias": parts.bias_D, "less_mean": parts.bias_D - mean_D}
    found: dict[str, float | None] = {}
    for view, added_D in added.items():
        first_D, second_D = (added_D, nothing_D) if parts.is_first else (nothing_D, added_D)
        own = _norms(parts.v_uD + first_D)
        x = _norms(parts.x_uD - (mean_D if view == "less_mean" else 0))
        found[f"norm_of_x_{view}"] = float(own.sum() / x.sum()) if x.sum() else None
        if parts.rest_uD is None:
            continue
        other = _norms(parts.rest_uD + second_D)
        for name, power in (("norm_share", 1), ("energy_share", 2)):
            both = (own**power).sum() + (other**power).sum()
            found[f"{name}_{view}"] = float((own**power).sum() / both) if both else None
    return found


def errors(parts: Parts, mean_D: np.ndarray) -> dict[str, float | None]:
    """What the chunk and the bias miss of one text's activations: Σ‖x - b - v‖² / Σ‖x‖².

    `nmse_less_mean` is a share of Σ‖x - mean‖² instead, so that the mean alone has 1.
    """
    missed = (_norms(parts.x_uD - parts.bias_D - parts.v_uD) ** 2).sum()
    wholes = {
        "nmse": (_norms(parts.x_uD) ** 2).sum(),
        "nmse_less_mean": (_norms(parts.x_uD - mean_D) ** 2).sum(),
    }
    return {name: float(missed / whole) if whole else None for name, whole in wholes.items()}


def _norms(v_uD: np.ndarray) -> np.ndarray:
    return np.linalg.norm(v_uD.astype(np.float64), axis=1)
