"""Which latents fire, and how much.

Shapes: n tokens, C contexts, F latents, N entries of a code.
"""

import torch

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.evaluation.formulas import Measure, measure, share
from dictionary_learning.evaluation.sums import double
from dictionary_learning.evaluation.target import Target


class Activity:
    """Counts and sums of each latent."""

    def __init__(self, dict_size: int) -> None:
        self.tokens = self.contexts = 0
        self.tokens_fired_F = torch.zeros(dict_size, dtype=torch.int64)
        self.contexts_fired_F = torch.zeros(dict_size, dtype=torch.int64)
        self.sum_F = torch.zeros(dict_size, dtype=torch.float64)

    def add(self, code: SparseCode, target: Target) -> None:
        n_latents = code.n_cols
        self.tokens += code.n_rows
        self.contexts += len(target.counts)
        values_N, col_N = double(code.values_N), code.col_N
        context_N = target.context_n[code.row_N.to(target.context_n.device)]
        fired_N = (context_N * n_latents + col_N.to(context_N.device)).unique()
        self.tokens_fired_F += torch.bincount(col_N, minlength=n_latents).cpu()
        self.contexts_fired_F += torch.bincount(fired_N % n_latents, minlength=n_latents).cpu()
        self.sum_F += torch.bincount(col_N.to(values_N.device), values_N.abs(), minlength=n_latents).cpu()

    def over_processes(self) -> None:
        """Turn the counts and sums into those over all processes."""
        self.tokens, self.contexts = map(distributed.total_count, (self.tokens, self.contexts))
        self.tokens_fired_F = distributed.total(self.tokens_fired_F)
        self.contexts_fired_F = distributed.total(self.contexts_fired_F)
        self.sum_F = distributed.total(self.sum_F)

    def measures(self, part: slice) -> dict[str, Measure]:
        """Of the latents in `part`; every sum over tokens is a sum over latents of sums over tokens."""
        n, contexts = self.tokens, self.contexts
        fired = self.tokens_fired_F[part]
        return {
            "l0": measure(int(fired.sum()) / n, tokens=n),
            "l0_context": measure(int(self.contexts_fired_F[part].sum()) / contexts, contexts=contexts),
            "l1": measure(self.sum_F[part].sum().item() / n, tokens=n),
            "alive": measure(share(int((fired > 0).sum()), len(fired)), tokens=n),
        }
