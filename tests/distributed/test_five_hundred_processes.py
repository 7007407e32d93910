"""The slices and shapes of 512 processes, in this one: torch's fake process group has no peers.

Under it a sum over all processes is this process's own part, so no value means anything. `EQUAL_PEERS` gives
the peers the counts that they would tell; then what is gathered has the sizes of the global batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from dictionary_learning import distributed
from dictionary_learning.activations.block import BEGINNING, Block, BlockStart
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.activations.store import Store
from dictionary_learning.dictionaries.sparse import gathered
from dictionary_learning.trainers import losses
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKTrainer

W, B, D, F, K = 512, 8192, 8, 64, 4
RANKS = (0, 1, 255, 511)


@contextmanager
def process(rank: int) -> Iterator[None]:
    """This process as one of `W`."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=W)
    try:
        yield
    finally:
        dist.destroy_process_group()


class Numbered(Store):
    """One block of two-token contexts, whose activations are their row number in every dimension."""

    def __init__(self, n_contexts: int, is_shared: bool) -> None:
        self.is_shared = is_shared
        super().__init__(D, 2 * n_contexts, {}, lambda line: None)

    def _read(self, start: BlockStart) -> Block:
        n = self.capacity
        numbers_C = torch.arange(n // 2)
        packed = PackedTokens(
            torch.zeros(n, dtype=torch.int32), torch.ones(n, dtype=torch.bool), torch.arange(0, n + 1, 2),
            *[numbers_C] * 3,
        )  # fmt: skip
        x_TD = torch.arange(n, dtype=torch.float32).unsqueeze(1).expand(n, D).contiguous()
        return Block.of(packed, x_TD, torch.ones(n), None, start=BEGINNING, next=None)


def trainer(**options: Any) -> TemporalMatryoshkaBatchTopKTrainer:
    return TemporalMatryoshkaBatchTopKTrainer(
        steps=10, activation_dim=D, dict_size=F, k=K, form="paper", seed=0, device="cpu", **options
    )


def test_the_shares_of_all_processes_are_the_global_batch_once() -> None:
    rows = []
    for rank in range(W):
        with process(rank):
            assert (distributed.rank(), distributed.size()) == (rank, W)
            rows.append(torch.arange(B)[distributed.share(B)])
    assert {len(part) for part in rows} == {B // W}
    assert torch.equal(torch.cat(rows), torch.arange(B))


@pytest.mark.parametrize("rank", RANKS)
def test_a_process_takes_its_rows_of_the_batch_that_one_process_would_see(rank: int) -> None:
    store = Numbered(B + 100, is_shared=True)
    whole = next(store.pairs(B, seed=3))
    with process(rank):
        batches = store.pairs(B, seed=3)
        mine = next(batches)
        assert batches.division == "rows"
    assert mine.shape == (B // W, 2, D)
    assert torch.equal(mine, whole[rank * B // W : (rank + 1) * B // W])


@pytest.mark.parametrize("rank", RANKS)
def test_a_process_with_documents_of_its_own_takes_as_many_rows_of_these(rank: int) -> None:
    with process(rank):
        batches = Numbered(40, is_shared=False).pairs(B, seed=3)
        assert batches.division == "documents"
        assert [len(next(batches)) for _ in range(3)] == [B // W] * 3


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("encoder_dtype", ["float32", "bfloat16"])
def test_a_step_runs_without_any_peer(rank: int, encoder_dtype: str) -> None:
    pairs = torch.randn(B // W, 2, D, generator=torch.Generator().manual_seed(rank))
    with process(rank):
        ours = trainer(encoder_dtype=encoder_dtype)
        before = {name: tensor.clone() for name, tensor in ours.ae.state_dict().items()}
        for step in range(2):
            assert torch.tensor(ours.update(step, pairs)).isfinite()
        ours.metrics()
    after = ours.ae.state_dict()
    assert {name: t.shape for name, t in after.items()} == {name: t.shape for name, t in before.items()}
    assert not torch.equal(after["W_dec"], before["W_dec"])


@pytest.mark.parametrize("rank", RANKS)
def test_a_process_compares_its_rows_with_those_of_the_whole_batch(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    equal_peers = lambda *n: [[number] * W for number in n]  # noqa: E731
    shapes = []
    dot_products = losses.dot_products

    def measured(*z: Any) -> torch.Tensor:
        logits = dot_products(*z)
        shapes.append(logits.shape)
        return logits

    monkeypatch.setattr(losses, "dot_products", measured)
    pairs = torch.randn(B // W, 2, D, generator=torch.Generator().manual_seed(rank))
    with process(rank):
        monkeypatch.setattr(distributed, "counts", equal_peers)
        ours = trainer()
        assert torch.tensor(ours.update(0, pairs)).isfinite()
        code = ours._encode(ours._tokens_of(pairs))[1]
        assert code is not None
        everyone, first = gathered(code)
    assert shapes == [(B // W, B)]
    assert first == rank * B // W
    assert everyone.n_rows == B
    assert len(everyone.values_N) == W * len(code.values_N)
    here = slice(rank * len(code.values_N), (rank + 1) * len(code.values_N))
    assert torch.equal(everyone.row_N[here] - first, code.row_N)
    assert torch.equal(everyone.col_N[here], code.col_N)
