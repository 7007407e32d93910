"""Sums over activations and their reconstructions, and over the parts of these.

Shapes: n usable tokens of a batch, C contexts of it, D model width.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.evaluation.formulas import Measure, measure, share
from dictionary_learning.evaluation.sums import Sums, double
from dictionary_learning.evaluation.target import Target


class Reconstruction:
    """Sums over x and one reconstruction of it."""

    def __init__(self) -> None:
        self.tokens = self.contexts = 0
        self.sums = Sums()

    def add(self, target: Target, x_hat_nD: Tensor) -> None:
        x_nD, x_hat_nD = target.x_double_nD, double(x_hat_nD)
        error_nD = x_nD - x_hat_nD
        error_square_n = error_nD.square().sum(1)
        error_sum_CD = target.sum_by_context(error_nD)
        norm_n, norm_hat_n = target.norm_n, x_hat_nD.norm(dim=1)
        dot_n = (x_nD * x_hat_nD).sum(1)
        long_n = norm_n > 0
        both_n = long_n & (norm_hat_n > 0)
        left_C = target.sum_by_context(error_square_n) - error_sum_CD.square().sum(1) / target.count_C
        varies_C = target.variation_C > 0
        self.tokens += len(x_nD)
        self.contexts += len(target.counts)
        self.sums.add(
            x=target.sum_D,
            x_hat=target.sum_D - error_sum_CD.sum(0),
            square=norm_n.square().sum(),
            error_square=error_square_n.sum(),
            x_hat_square=norm_hat_n.square().sum(),
            dot=dot_n.sum(),
            l2=error_square_n.sqrt().sum(),
            l2_ratio=_quotients(norm_hat_n, norm_n, long_n),
            l2_ratio_tokens=long_n.sum(),
            cosine=_quotients(dot_n, norm_n * norm_hat_n, both_n),
            cosine_tokens=both_n.sum(),
            context_fve=varies_C.sum() - _quotients(left_C.clamp(min=0), target.variation_C, varies_C),
            contexts=varies_C.sum(),
        )

    def over_processes(self) -> None:
        """Turn the sums into those over all processes."""
        self.tokens, self.contexts = map(distributed.total_count, (self.tokens, self.contexts))
        self.sums.over_processes()

    def measures(self) -> dict[str, Measure]:
        n, sums = self.tokens, self.sums
        mean_D = sums.vector("x") / n
        variation = _difference(sums["square"], n * mean_D.square().sum().item())
        with_cosine, with_ratio, contexts = map(
            int, (sums["cosine_tokens"], sums["l2_ratio_tokens"], sums["contexts"])
        )
        return {
            "nmse": measure(share(sums["error_square"], sums["square"]), tokens=n),
            "fve_global": measure(share(variation - sums["error_square"], variation), tokens=n),
            "fve_context_mean": measure(
                share(sums["context_fve"], contexts), contexts=contexts, left_out=self.contexts - contexts
            ),
            "cosine": measure(
                share(sums["cosine"], with_cosine), tokens=with_cosine, left_out=n - with_cosine
            ),
            "cosine_centred": measure(self._cosine_centred(mean_D, variation), tokens=n),
            "l2": measure(sums["l2"] / n, tokens=n),
            "l2_ratio": measure(
                share(sums["l2_ratio"], with_ratio), tokens=with_ratio, left_out=n - with_ratio
            ),
            "relative_bias": measure(share(sums["x_hat_square"], sums["dot"]), tokens=n),
        }

    def _cosine_centred(self, mean_D: Tensor, variation: float) -> float | None:
        """The cosine of all x and x̂ less the mean of x, from sums over x and x̂.

        Args:
            variation: Σ‖x - mean x‖².
        """
        n, mean_square = self.tokens, mean_D.square().sum().item()
        mean_dot_hat = (mean_D * self.sums.vector("x_hat")).sum().item()
        dot = self.sums["dot"] - mean_dot_hat  # the mean of x takes nothing from Σ x less itself
        hat_square = self.sums["x_hat_square"]
        hat_variation = _difference(hat_square + n * mean_square, 2 * mean_dot_hat)
        return share(dot, math.sqrt(variation * hat_variation))


class Parts:
    """Sums over what each split adds to the reconstruction."""

    def __init__(self, splits: list[str]) -> None:
        self.splits = splits
        self.tokens = 0
        self.sums = Sums()

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """
        Args:
            parts: [n, D] of each split.
        """
        of_split = [double(parts[name]) for name in self.splits]
        norms = [part_nD.norm(dim=1) for part_nD in of_split]
        self.tokens += len(of_split[0])
        for name, norm_n in zip(self.splits, norms, strict=True):
            self.sums.add(**{f"norm {name}": norm_n.sum(), f"energy {name}": norm_n.square().sum()})
        if len(of_split) == 2:
            lengths_n = norms[0] * norms[1]
            dot_n = (of_split[0] * of_split[1]).sum(1)
            self.sums.add(
                cosine=_quotients(dot_n, lengths_n, lengths_n > 0), cosine_tokens=(lengths_n > 0).sum()
            )

    def over_processes(self) -> None:
        """Turn the sums into those over all processes."""
        self.tokens = distributed.total_count(self.tokens)
        self.sums.over_processes()

    def measures(self, name: str) -> dict[str, Measure]:
        """Of a split, or of "all"."""
        n = self.tokens
        if name in self.splits:
            return {
                f"{kind}_share": measure(
                    share(
                        self.sums[f"{kind} {name}"],
                        sum(self.sums[f"{kind} {other}"] for other in self.splits),
                    ),
                    tokens=n,
                )
                for kind in ("norm", "energy")
            }
        if len(self.splits) != 2:
            return {}
        with_cosine = int(self.sums["cosine_tokens"])
        cosine = share(self.sums["cosine"], with_cosine)
        return {"cosine_of_parts": measure(cosine, tokens=with_cosine, left_out=n - with_cosine)}


def _difference(sum_of_squares: float, other: float) -> float:
    """What is left of a sum of squares; 0 where it cancels, as what is left then is rounding."""
    left = sum_of_squares - other
    return left if left > 1e-12 * sum_of_squares else 0.0


def _quotients(above: Tensor, below: Tensor, where: Tensor) -> Tensor:
    """The sum of the quotients that `where` admits."""
    return torch.where(where, above / torch.where(where, below, 1), 0).sum()
