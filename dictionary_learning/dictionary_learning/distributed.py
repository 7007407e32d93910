"""Several processes as one: every reduction over the global batch has its name here.

The global batch is what all processes hold, one rank's rows behind the other's. What a trainer defines by its
batch (a mean, a k-th largest value, a softmax) it asks for here, and gets the same whatever the number of
processes is. Where no process group is initialised every function answers for one process, so no caller needs
a second path; where one is, all processes have to call the same functions in the same order.

The engine is `torch.distributed`; `command.processes` starts it under torchrun.

Shapes: N entries or rows of this process, W processes, P parts, any more dimensions behind.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

traffic: Counter[str] = Counter()
"""Bytes that this process handed to collectives, by the name of the reduction."""

# A positive float orders like its bits: half of them choose a bin, the other half a value within it.
_HALF = 16
_N_HIGH, _N_LOW = 1 << (31 - _HALF), 1 << _HALF

_FILL_BYTES = 2**26  # that are on their way at a time


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _is_several() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _is_several() else 1


def is_first() -> bool:
    """Whether this is the process that speaks, and writes what is written once."""
    return rank() == 0


def share(n: int) -> slice:
    """The rows that this process takes of a global batch of `n`; shares differ by one row at most."""
    return slice(rank() * n // size(), (rank() + 1) * n // size())


@contextmanager
def alone() -> Iterator[None]:
    """Within it every function answers for one process: what is asked is this process's own affair."""
    _alone.append(True)
    try:
        yield
    finally:
        _alone.pop()


_alone: list[bool] = []


def _is_several() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


# --- reductions of tensors, each of the same shape in every process ---


def total(x: Tensor) -> Tensor:
    """The sum over all processes, without gradient; a NaN or an infinity anywhere stays one."""
    return _reduced(x, dist.ReduceOp.SUM, "total")


def largest(x: Tensor) -> Tensor:
    """The largest over all processes. Not for what may be NaN: gloo keeps a NaN of the first process only."""
    return _reduced(x, dist.ReduceOp.MAX, "largest")


def smallest(x: Tensor) -> Tensor:
    """The smallest over all processes; not for what may be NaN."""
    return _reduced(x, dist.ReduceOp.MIN, "smallest")


def total_numbers(*numbers: Any) -> list[Any]:
    """The sums of some numbers over all processes, in double precision; for one process what was given."""
    if size() == 1:
        return list(numbers)
    return total(torch.tensor(numbers, dtype=torch.float64)).tolist()


def total_terms(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums of named numbers over all processes, each of which has the same names in the same order."""
    if size() == 1:
        return dict(terms)
    return dict(zip(terms, total(torch.stack(list(terms.values()))), strict=True))


def total_count(n: int) -> int:
    """How many rows, tokens or the like all processes have together."""
    return n if size() == 1 else int(total(torch.tensor(n)))


def total_by_name(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums of named tensors over all processes, in double precision on the CPU.

    A process that lacks a name has nothing to add to it: one that had no rows need not know what others sum.
    """
    if size() == 1:
        return dict(tensors)
    shapes: dict[str, list[int]] = {}
    for one in values_of_all({name: list(x.shape) for name, x in tensors.items()}):
        shapes |= one
    pieces = [
        tensors[name].cpu().double() if name in tensors else torch.zeros(shape, dtype=torch.float64)
        for name, shape in shapes.items()
    ]
    if not pieces:
        return {}
    sums = total(torch.cat([piece.flatten() for piece in pieces])).split([piece.numel() for piece in pieces])
    return {name: x.view(shapes[name]) for name, x in zip(shapes, sums, strict=True)}


def is_all(condition: bool) -> bool:
    """Whether a condition holds in every process. A sum of flags, because no NaN is dropped from a sum."""
    return condition if size() == 1 else total_count(not condition) == 0


def anywhere(mask: Tensor) -> Tensor:
    """Where a mask holds in any process."""
    return mask if size() == 1 else largest(mask.byte()).bool()


def log_sum_exp(x_ND: Tensor) -> Tensor:
    """log of the sum of exp over the rows of all processes, for each column [D]."""
    if size() == 1 and len(x_ND):
        return x_ND.logsumexp(0)
    largest_D = largest(x_ND.amax(0) if len(x_ND) else x_ND.new_full(x_ND.shape[1:], -torch.inf))
    return total((x_ND - largest_D).exp_().sum(0)).log_().add_(largest_D)


def fill_in(x: Tensor) -> None:
    """Let every process have all rows of `x`, in place; each has written some and left zeros elsewhere."""
    if size() == 1:
        return
    traffic["fill_in"] += x.nbytes
    for rows in x.split(max(1, _FILL_BYTES * len(x) // max(1, x.nbytes))):
        dist.all_reduce(rows)


def _reduced(x: Tensor, operation: Any, name: str) -> Tensor:
    if size() == 1:
        return x
    reduced = x.detach().clone(memory_format=torch.contiguous_format)
    traffic[name] += reduced.nbytes
    dist.all_reduce(reduced, operation)
    return reduced


# --- rows of different numbers in every process ---


def counts(*n: int) -> list[list[int]]:
    """Some numbers of all processes, each as a list in order of rank."""
    if size() == 1:
        return [[number] for number in n]
    of_all_Wn = torch.zeros(size(), len(n), dtype=torch.int64)
    of_all_Wn[rank()] = torch.tensor(n)
    return total(of_all_Wn).T.tolist()


def rows_before(n: int) -> int:
    """How many rows of the global batch come before the `n` of this process."""
    return sum(counts(n)[0][: rank()])


def gather(x: Tensor, counts_W: list[int] | None = None) -> Tensor:
    """The rows of all processes, one rank's behind the other's, with gradient.

    The gradient of a row is the sum over the processes that used it: losses are shares of one global sum.

    Args:
        counts_W: rows of each process, where they are known.
    """
    if size() == 1:
        return x
    return _Gather.apply(x, counts(len(x))[0] if counts_W is None else counts_W)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts_W: list[int]) -> Tensor:
        ctx.first, ctx.n, longest = sum(counts_W[: rank()]), len(x), max(counts_W)
        if longest == 0:
            return x.detach().clone()
        padded = x.new_zeros(longest, *x.shape[1:])
        padded[: len(x)] = x.detach()
        of_all = [torch.zeros_like(padded) for _ in counts_W]
        traffic["gather"] += padded.nbytes
        dist.all_gather(of_all, padded)
        return torch.cat([part[:n] for part, n in zip(of_all, counts_W, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return total(grads[0])[ctx.first : ctx.first + ctx.n], None


# --- the largest entries of the global batch ---


def keep_largest(values_N: Tensor, n_keep: int, part_N: Tensor | None = None, n_parts: int = 1) -> Tensor:
    """Mask [N] of the `n_keep` largest of all processes' values, exactly: of equal ones the first stay.

    A radix select over the processes: two histograms of the values' bits find the smallest value kept.

    Args:
        values_N: float32, not negative and not NaN.
        part_N: int64, ascending: which part of the batch an entry is of; `n_keep` are kept of each.
    """
    if size() == 1:
        sizes = [len(values_N)] if part_N is None else part_N.bincount(minlength=n_parts).tolist()
        return torch.cat([_largest_here(part, n_keep) for part in values_N.split(sizes)])
    key_N = values_N.view(torch.int32).long()
    part_N = torch.zeros_like(key_N) if part_N is None else part_N
    high_N, low_N = key_N >> _HALF, key_N & (_N_LOW - 1)

    n_left_P = torch.full((n_parts,), n_keep, device=key_N.device)
    bin_P, n_left_P = _kth(_histogram(part_N, high_N, n_parts, _N_HIGH, None), n_left_P)
    at_bin_N = high_N == bin_P[part_N]
    low_P, n_left_P = _kth(_histogram(part_N, low_N, n_parts, _N_LOW, at_bin_N), n_left_P)
    smallest_P = (bin_P << _HALF) + low_P  # negative where there are fewer values than are to be kept

    tie_N = key_N == smallest_P[part_N]
    return (key_N > smallest_P[part_N]) | _first_ties(tie_N, part_N, n_left_P)


def _largest_here(values_N: Tensor, n_keep: int) -> Tensor:
    """The same mask for one process: a selection among all values at once."""
    if len(values_N) <= n_keep:
        return torch.ones_like(values_N, dtype=torch.bool)
    smallest_kept = values_N.topk(n_keep, sorted=False).values.min()
    keep_N = values_N > smallest_kept
    ties = (values_N == smallest_kept).nonzero().squeeze(1)[: n_keep - int(keep_N.sum())]
    keep_N[ties] = True
    return keep_N


def _histogram(part_N: Tensor, bin_N: Tensor, n_parts: int, n_bins: int, of_N: Tensor | None) -> Tensor:
    """How many entries of all processes are in each bin [P, bins]; of those alone where `of_N` holds."""
    ones_N = torch.ones_like(bin_N, dtype=torch.int32) if of_N is None else of_N.int()
    counts = torch.zeros(n_parts * n_bins, dtype=torch.int32, device=bin_N.device)
    return total(counts.index_add_(0, part_N * n_bins + bin_N, ones_N)).view(n_parts, n_bins)


def _kth(counts_Pb: Tensor, k_P: Tensor) -> tuple[Tensor, Tensor]:
    """The bin of the k-th largest entry [P], -1 where there are fewer, and its rank within that bin [P]."""
    from_top_Pb = counts_Pb.flip(1).cumsum(1)
    above_P = (from_top_Pb < k_P.unsqueeze(1)).sum(1)  # bins that the k largest do not fill
    bin_P = counts_Pb.shape[1] - 1 - above_P
    n_above_P = torch.where(above_P > 0, from_top_Pb.gather(1, (above_P - 1).clamp_min(0)[:, None])[:, 0], 0)
    return bin_P, k_P - n_above_P


def _first_ties(tie_N: Tensor, part_N: Tensor, n_P: Tensor) -> Tensor:
    """The first `n_P` of the ties of each part, in the order of the global batch."""
    n_parts = len(n_P)
    tie_PN = tie_N & (part_N == torch.arange(n_parts, device=part_N.device).unsqueeze(1))
    n_tie_WP = torch.zeros(size(), n_parts, dtype=torch.int64, device=tie_N.device)
    n_tie_WP[rank()] = tie_PN.sum(1)
    left_P = n_P - total(n_tie_WP)[: rank()].sum(0)
    return (tie_PN & (tie_PN.cumsum(1) <= left_P.unsqueeze(1))).any(0)


# --- gradients ---


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Put the sum over all processes in place of every gradient, where it lies; all are sent at once.

    A loss is this process's share of a global sum, so gradients are summed and nothing is divided. A
    parameter that only other processes' rows have reached has had a gradient of zeros here.
    """
    if size() == 1:
        return
    parameters = list(parameters)
    has_P = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
    reached = [p for p, has in zip(parameters, total(has_P).tolist(), strict=True) if has]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in reached]
    if not gradients:
        return
    works = []
    for parameter, gradient in zip(reached, gradients, strict=True):
        if not _in_memory_order(gradient).is_contiguous():
            gradient = torch.empty_like(parameter).copy_(gradient)
        works.append(dist.all_reduce(_in_memory_order(gradient), async_op=True))
        traffic["gradients"] += gradient.nbytes
        parameter.grad = gradient
    for work in works:
        work.wait()


def _in_memory_order(gradient: Tensor) -> Tensor:
    """A matrix that is stored by columns as its transpose, so that it is sent as it lies."""
    return gradient if gradient.is_contiguous() else gradient.T if gradient.ndim == 2 else gradient


# --- what is no tensor ---


def texts(text: str) -> list[str]:
    """A text of every process, in order of rank."""
    return [content.decode() for content in bytes_of_all(text.encode())]


def bytes_of_all(content: bytes) -> list[bytes]:
    """Some bytes of every process, in order of rank."""
    if size() == 1:
        return [content]
    (counts_W,) = counts(len(content))
    own = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.zeros(0).byte()
    return [part.numpy().tobytes() for part in gather(own, counts_W).split(counts_W)]


def states_of_all(state: Any) -> list[Any]:
    """Tensors in dicts, lists and tuples of every process, in order of rank."""
    if size() == 1:
        return [state]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return [torch.load(io.BytesIO(one), weights_only=True) for one in bytes_of_all(buffer.getvalue())]


def values_of_all(value: Any) -> list[Any]:
    """A value that JSON can hold, of every process, in order of rank."""
    return [json.loads(text) for text in texts(json.dumps(value))]


def value_of_first(value: Any) -> Any:
    """The first process's value, in every process: what JSON can hold (tuples become lists)."""
    return value if size() == 1 else json.loads(_bytes_of_first(json.dumps(value).encode()))


def state_of_first(state: Any) -> Any:
    """The first process's tensors in dicts and lists, in every process; the others' do not count."""
    if size() == 1:
        return state
    buffer = io.BytesIO()
    if is_first():
        torch.save(state, buffer)
    received = _bytes_of_first(buffer.getvalue())
    return state if is_first() else torch.load(io.BytesIO(received), weights_only=True, map_location="cpu")


def _bytes_of_first(content: bytes) -> bytes:
    length = torch.tensor(len(content))
    dist.broadcast(length, 0)
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if is_first() and content else None
    if data is None:
        data = torch.zeros(int(length), dtype=torch.uint8)
    dist.broadcast(data, 0)
    return data.numpy().tobytes()
