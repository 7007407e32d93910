"""The reductions, in processes of their own and for one process."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from dictionary_learning import distributed
from dictionary_learning.command import devices


def _process(rank: int, size: int, folder: str, function: Callable[[], Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    torch.save(function(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def in_processes(size: int, function: Callable[[], Any], folder: Path) -> list[Any]:
    """What a function gives in each of several forked processes."""
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_process, args=(rank, size, str(folder), function)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def selection(values: torch.Tensor, n_keep: int, n_parts: int) -> torch.Tensor:
    """This process's part of the mask of the largest entries of a global batch [P, B, n]."""
    mine = values[:, distributed.share(values.shape[1])]
    part = torch.arange(n_parts).repeat_interleave(mine[0].numel())
    return distributed.keep_largest(mine.flatten(), n_keep, part, n_parts).view_as(mine)


@pytest.mark.parametrize("size", [2, 3])
def test_the_largest_entries_are_those_of_sorting_with_ties_in_global_order(
    size: int, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, 7, 30, generator=generator)
    values[0] = (values[0] * 8).round() / 8  # many ties, many zeros
    values[1, :3] = 0.0
    keeps = [1, 17, 100, 209, 210, 1000]

    def every() -> list[torch.Tensor]:
        return [selection(values, n, 2) for n in keeps]

    of_all = in_processes(size, every, tmp_path)
    for i, n in enumerate(keeps):
        found = torch.cat([masks[i] for masks in of_all], dim=1)
        for part in range(2):
            order = values[part].flatten().sort(descending=True, stable=True).indices[:n]
            expected = torch.zeros(210, dtype=torch.bool).index_fill_(0, order, True)
            assert torch.equal(found[part].flatten(), expected), n
            with distributed.alone():
                alone = distributed.keep_largest(values[part].flatten(), n)
            assert torch.equal(alone, expected)


def every_reduction() -> dict[str, Any]:
    rank = distributed.rank()
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])[distributed.share(3)].requires_grad_()
    gathered = distributed.gather(x)
    (gathered * (rank + 1)).sum().backward()
    state = {"a": torch.tensor([1.5]), "b": [2, None]} if rank == 0 else None
    with distributed.alone():
        alone = distributed.total(torch.tensor([1.0])), distributed.size()
    return {
        "gathered": gathered.detach(),
        "gradient": x.grad,
        "total": distributed.total(torch.tensor([rank + 1.0])),
        "nan": distributed.total(torch.tensor([float("nan") if rank == 1 else 1.0])),
        "is_all": [distributed.is_all(True), distributed.is_all(rank != 1)],
        "log_sum_exp": distributed.log_sum_exp(x.detach()),
        "texts": distributed.texts("é" * rank),
        "first": distributed.value_of_first({"rank": rank}),
        "state": distributed.state_of_first(state),
        "before": distributed.rows_before(len(x)),
        "alone": list(alone),
    }


@pytest.mark.parametrize("size", [2, 4])
def test_every_process_has_the_same_answer(size: int, tmp_path: Path) -> None:
    of_all = in_processes(size, every_reduction, tmp_path)
    whole = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    weight = size * (size + 1) / 2
    for rank, found in enumerate(of_all):
        rows = slice(rank * 3 // size, (rank + 1) * 3 // size)
        assert torch.equal(found["gathered"], whole)
        assert torch.equal(found["gradient"], torch.full_like(whole, weight)[rows])
        assert float(found["total"]) == weight
        assert found["nan"].isnan().all()
        assert found["is_all"] == [True, False]
        torch.testing.assert_close(found["log_sum_exp"], whole.logsumexp(0))
        assert found["texts"] == ["é" * r for r in range(size)]
        assert found["first"] == {"rank": 0}
        assert found["state"] == {"a": torch.tensor([1.5]), "b": [2, None]}
        assert found["before"] == rows.start
        assert found["alone"] == [torch.tensor([1.0]), 1]


def test_one_process_without_a_group_is_its_own_answer() -> None:
    x = torch.tensor([1.0, 3.0])
    assert distributed.total(x) is x
    assert distributed.gather(x) is x
    assert distributed.texts("a") == ["a"]
    assert distributed.share(5) == slice(0, 5)
    assert distributed.total_numbers(1, 2.5) == [1, 2.5]
    torch.testing.assert_close(distributed.log_sum_exp(x[:, None]), x.logsumexp(0, keepdim=True))


def test_the_dtype_that_is_left_to_the_machine_is_the_first_processes_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "times_as_long", lambda name, kind: (0.5, 4.0)[distributed.rank()])

    def both() -> torch.Tensor:
        alone = devices.dtype_for(devices.QUICKEST, "cpu")
        with devices.agreed(distributed.value_of_first):
            together = devices.dtype_for(devices.QUICKEST, "cpu")
        return torch.tensor([alone == "bfloat16", together == "bfloat16"])

    assert [found.tolist() for found in in_processes(2, both, tmp_path)] == [[True, True], [False, True]]
