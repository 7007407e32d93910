"""Which latents fire, and how much.

Shapes: n tokens, C contexts, F latents, Q of them in all contexts, N entries of a code.
"""

import torch

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.evaluation.formulas import Measure, measure, share
from dictionary_learning.evaluation.sums import Sums, double
from dictionary_learning.evaluation.target import Target


class Activity:
    """Counts and sums of each latent."""

    def __init__(self) -> None:
        self.tokens = self.contexts = 0
        self.sums = Sums()

    def add(self, code: SparseCode, target: Target) -> None:
        self.tokens += code.n_rows
        self.contexts += len(target.counts)
        n_contexts, n_latents = len(target.counts), code.n_cols
        size_N = double(code.values_N).abs()
        row_N, col_N = code.row_N.to(size_N.device), code.col_N.to(size_N.device)
        fires_N = size_N > 0  # all of them, but for entries that were emptied on a card
        nothing_F = size_N.new_zeros(n_latents)
        tokens_Q = size_N.new_zeros(n_contexts * n_latents, dtype=torch.float32)
        tokens_Q.index_add_(0, target.context_n[row_N] * n_latents + col_N, fires_N.float())
        self.sums.add(
            tokens_fired=nothing_F.index_add(0, col_N, fires_N.double()),
            contexts_fired=(tokens_Q.view(n_contexts, n_latents) > 0).sum(0),
            size=nothing_F.index_add(0, col_N, size_N),
        )

    def over_processes(self) -> None:
        """Turn the counts and sums into those over all processes."""
        self.tokens, self.contexts = map(distributed.total_count, (self.tokens, self.contexts))
        self.sums.over_processes()

    def measures(self, part: slice) -> dict[str, Measure]:
        """Of the latents in `part`; every sum over tokens is a sum over latents of sums over tokens."""
        n, contexts = self.tokens, self.contexts
        fired, contexts_fired, size = (
            self.sums.vector(name)[part] for name in ("tokens_fired", "contexts_fired", "size")
        )
        return {
            "l0": measure(int(fired.sum()) / n, tokens=n),
            "l0_context": measure(int(contexts_fired.sum()) / contexts, contexts=contexts),
            "l1": measure(size.sum().item() / n, tokens=n),
            "alive": measure(share(int((fired > 0).sum()), len(fired)), tokens=n),
        }
