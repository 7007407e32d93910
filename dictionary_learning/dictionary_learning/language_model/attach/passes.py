"""A forward pass that is watched, or changed, at the output of a module.

    with watching(model, model.model.layers[15], lambda x_BLD, one: print(x_BLD.shape, one.start)):
        model.generate(...)

A module sees a piece of a text at a time where the model keeps the rest in a cache. So a pass tells what of
its positions is padding, how many came before, and whether they are of the texts that another pass began.

Shapes: B texts, L positions that go through the model now, D model width, T positions in all.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.hooks import Edit, hidden_states, unflattened, with_hidden_states

Rows = Callable[[Tensor], Tensor]
"""What becomes of the rows of anything whose first axis is the texts of a batch."""
_unwatched: ContextVar[bool] = ContextVar("unwatched", default=False)


class Past:
    """The texts that one cache holds: the same object in every pass over that cache."""

    def __init__(self) -> None:
        self.n_seen = 0
        """Positions that are behind the last pass."""
        self.on_rows: list[Callable[[Rows], None]] = []
        """Called when the cache exchanges, repeats or leaves out texts, as a beam search does."""


class Pass(NamedTuple):
    """A forward pass, as far as a module in it has to know."""

    tokens_BL: Tensor | None
    """Token ids of the positions that go through the model now; None where it was given something else."""
    mask_BL: Tensor | None
    """bool, False where padded; None where the model was told nothing of padding."""
    start: int
    """How many positions are in the cache, padding included."""
    past: Past


class _Pasts:
    """The texts that each cache holds, for as long as there is the cache."""

    def __init__(self) -> None:
        self._by_cache: WeakKeyDictionary[Any, Past] = WeakKeyDictionary()
        self._by_list: tuple[Any, Past] = (None, Past())  # RWKV's; only the last, as lists are not weak

    def get(self, cache: Any) -> Past | None:
        if isinstance(cache, list):
            return self._by_list[1] if self._by_list[0] is cache else None
        return self._by_cache.get(cache)

    def put(self, cache: Any, past: Past) -> Past:
        if isinstance(cache, list):
            self._by_list = cache, past
        else:
            self._by_cache[cache] = past
        return past

    def n_before(self, cache: Any) -> int:
        """How many positions are in a cache; of one that does not count them, those that were seen."""
        length = getattr(cache, "get_seq_length", None)
        if length is not None:
            with suppress(ValueError):  # what all-recurrent ones, as Mamba's, raise
                return int(length())
            if not cache.has_previous_state():
                return 0
        elif not isinstance(cache, list):
            return 0
        past = self.get(cache)
        return 1 if past is None else past.n_seen  # not seen: it may be more


@contextmanager
def watching(
    model: nn.Module, module: nn.Module, look: Callable[[Tensor, Pass], Tensor | None]
) -> Iterator[None]:
    """Inside the block `look(x_BLD, one)` is called with the module's output in every pass of the model.

    What it returns is put in place of the output; None leaves that as it is.
    """
    signature = inspect.signature(model.forward)
    pasts = _Pasts()
    now: list[Pass] = []  # empty outside a pass: a module may be called by itself

    def past_of(cache: Any, start: int) -> Past:
        if cache is None:
            return Past()
        past = pasts.get(cache)
        if start == 0 or past is None:  # a cache can be emptied for other texts
            return pasts.put(cache, Past())
        return past

    def exchanged(cache: Any, rows: Rows) -> None:
        past = pasts.get(cache)
        for told in past.on_rows if past is not None else ():
            told(rows)

    def begin(model: nn.Module, args: Any, inputs: dict[str, Any]) -> None:
        if _unwatched.get():
            return
        try:
            given = signature.bind_partial(*args, **inputs).arguments
        except TypeError:
            return  # the model says it better
        given = {**given, **given.get("kwargs", {})}
        cache = next((given[name] for name in _CACHES if given.get(name) is not None), None)
        start = pasts.n_before(cache)
        tokens = given.get("input_ids")
        tokens_BL = tokens if torch.is_tensor(tokens) and tokens.ndim == 2 else None
        past = past_of(cache, start)
        n = _length(tokens, given.get("inputs_embeds"))
        past.n_seen = start + n
        now[:] = [Pass(tokens_BL, None, start, past)]
        if given.get("attention_mask") is not None:
            now[0] = now[0]._replace(mask_BL=_padding(given["attention_mask"], start, n))

    def end(model: nn.Module, args: Any, inputs: Any, output: Any) -> None:
        if _unwatched.get():
            return
        made_here = output if isinstance(output, tuple) else [getattr(output, name, None) for name in _CACHES]
        for made in made_here:
            is_cache = hasattr(made, "get_seq_length") or isinstance(made, list)  # RWKV's
            if now and is_cache and pasts.get(made) is None:
                pasts.put(made, now[0].past)
        now.clear()

    def see(module: nn.Module, args: Any, output: Any) -> Any:
        if _unwatched.get():
            return output
        x = hidden_states(output)
        one = now[0] if now else Pass(None, None, 0, Past())
        shape_BL = x.shape[:-1] if one.tokens_BL is None else one.tokens_BL.shape
        x_BLD = unflattened(x, shape_BL)
        # a dictionary computes in the dtype of its weights, whatever the model does
        with torch.autocast(x.device.type, enabled=False):
            made_BLD = look(x_BLD if x_BLD.ndim == 3 else x_BLD[None], one)
        if made_BLD is None:
            return output
        # a copy: what runs on may write into it
        return with_hidden_states(output, torch.empty_like(x).copy_(made_BLD.reshape(x.shape)))

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(begin, with_kwargs=True).remove)
        hooks.callback(model.register_forward_hook(end, with_kwargs=True, always_call=True).remove)
        hooks.callback(module.register_forward_hook(see).remove)
        hooks.enter_context(_following(exchanged))
        yield


@contextmanager
def unwatched() -> Iterator[None]:
    """Inside the block, in this thread, nothing that is attached sees a pass: it is nobody's but ours."""
    token = _unwatched.set(True)
    try:
        yield
    finally:
        _unwatched.reset(token)


@contextmanager
def editing(model: nn.Module, module: nn.Module, edit: Edit) -> Iterator[None]:
    """Inside the block every pass of the model has `edit(x_BLD)` in place of the module's output x_BLD."""

    def put(x_BLD: Tensor, one: Pass) -> Tensor:
        edited_BLD = edit(x_BLD)
        assert edited_BLD.shape == x_BLD.shape, f"edit made {edited_BLD.shape} of {x_BLD.shape}"
        return edited_BLD

    with watching(model, module, put):
        yield


_CACHES = ("past_key_values", "cache_params", "state")  # the last two are of recurrent models
# What becomes of a cache's rows, by the method that does it.
_EXCHANGES: dict[str, Callable[[Any], Rows]] = {
    "reorder_cache": lambda rows_B: lambda of_B: of_B[rows_B.to(of_B.device)],
    "batch_select_indices": lambda rows_B: lambda of_B: of_B[rows_B.to(of_B.device)],
    "batch_repeat_interleave": lambda repeats: lambda of_B: of_B.repeat_interleave(repeats, dim=0),
}
_listeners: list[Callable[[Any, Rows], None]] = []
_own: dict[str, Callable[[Any, Any], Any]] = {}


@contextmanager
def _following(told: Callable[[Any, Rows], None]) -> Iterator[None]:
    """Inside the block `told(cache, rows)` hears of every exchange of rows in a cache.

    No hook tells of them, so the methods that do it are replaced, while there is a block.
    """
    from transformers.cache_utils import Cache

    if not _listeners:
        _own.update({name: getattr(Cache, name) for name in _EXCHANGES})
        for name, rows in _EXCHANGES.items():
            setattr(Cache, name, _telling(name, rows))
    _listeners.append(told)
    try:
        yield
    finally:
        _listeners.remove(told)
        if not _listeners:
            for name, own in _own.items():
                setattr(Cache, name, own)


def _telling(name: str, rows: Callable[[Any], Rows]) -> Callable[[Any, Any], Any]:
    def call(cache: Any, argument: Any) -> Any:
        for told in list(_listeners):
            told(cache, rows(argument))
        return _own[name](cache, argument)

    return call


def _length(*inputs: Any) -> int:
    """How many positions go through the model now."""
    return next((x.shape[1] for x in inputs if torch.is_tensor(x) and x.ndim > 1), 0)


def _last_size(tensor: Tensor) -> int:
    return tensor.shape[-1]


def _padding(mask: Any, start: int, length: int) -> Tensor | None:
    """True [B, L] where a position is real, of a mask as a model takes it; None where it hides nothing.

    A mask of who attends to whom says so, too: padding does not attend to itself.

    Raises:
        UserError: a mask that does not tell.
    """
    if isinstance(mask, Mapping):  # one a kind of layers, in any order
        if all(one is None for one in mask.values()):
            return None
        # that of layers with a window tells of its positions alone
        mask = max((one for one in mask.values() if torch.is_tensor(one)), key=_last_size, default=None)
    if torch.is_tensor(mask) and mask.ndim == 2:
        return mask[:, mask.shape[1] - length :].bool()
    if torch.is_tensor(mask) and mask.ndim == 4 and mask.shape[3] >= length:
        first = min(start, mask.shape[3] - length)  # where a window has moved on, the newest are its last
        own_BL = mask[:, 0, :, first : first + length].diagonal(dim1=1, dim2=2)
        return own_BL == 0 if mask.is_floating_point() else own_BL.bool()
    raise UserError(
        "this attention mask does not tell which positions are padding: give the model one of the shape "
        "[texts, positions], or texts of the same length without one."
    )
