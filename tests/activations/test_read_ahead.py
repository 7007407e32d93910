"""A store one block ahead: the same batches, another block in memory, and an end when it is asked for."""

import json
import signal
import threading
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_activation_store import NAN, TEXTS, VIEWS, TellingLM, document, make_store, same

from dictionary_learning.activations import live_store as live_store_module
from dictionary_learning.activations.block import BEGINNING
from dictionary_learning.activations.read_ahead import ReadAhead
from dictionary_learning.errors import UserError


class LocalLM(TellingLM):
    """It says where it is."""

    devices = frozenset({torch.device("cpu")})


class HeldLM(LocalLM):
    """It waits in every batch but the first ones until it is let go on."""

    def __init__(self, n_free: int) -> None:
        super().__init__()
        self.n_free = n_free
        self.waits, self.goes_on = threading.Event(), threading.Event()

    def record_several(
        self, tokens_BL: torch.Tensor, mask_BL: torch.Tensor, layers: Any
    ) -> list[torch.Tensor]:
        recorded = super().record_several(tokens_BL, mask_BL, layers)
        if len(self.batches) > self.n_free:
            self.waits.set()
            assert self.goes_on.wait(60)
        return recorded


def ahead(lm: Any = None, rows: int = 10, texts: list[str] = TEXTS, **options: Any) -> ReadAhead:
    return ReadAhead(make_store(texts, lm or LocalLM(), rows, **options))


@given(view=st.sampled_from(sorted(VIEWS)), rows=st.integers(8, 70), n_before=st.integers(0, 45))
@settings(max_examples=25)
def test_the_batches_and_the_positions_are_those_of_the_store_alone(
    view: str, rows: int, n_before: int
) -> None:
    alone = VIEWS[view](make_store(TEXTS, rows=rows))
    list(islice(alone, n_before))
    state = json.loads(json.dumps(alone.state_dict()))
    expected = list(islice(alone, 20))
    with ahead(rows=rows) as store:
        batches = VIEWS[view](store)
        list(islice(batches, n_before))
        assert batches.state_dict() == state
        assert all(map(same, islice(batches, 20), expected))
        # back to where it was: another block is being read by now
        batches.load_state_dict(state)
        assert all(map(same, islice(batches, 20), expected))
        assert batches.state_dict() == alone.state_dict()
    with ahead(rows=rows) as other:
        resumed = VIEWS[view](other)
        resumed.load_state_dict(state)
        assert all(map(same, islice(resumed, 20), expected))


def settled(store: ReadAhead) -> None:
    """Wait until nothing is being read."""
    if store._next is not None:
        assert store._next._is_over.wait(60)


def test_one_block_is_read_ahead_and_no_more() -> None:
    lm = LocalLM()
    alone = LocalLM()
    blocks = make_store(TEXTS, alone, 10)
    with ahead(lm) as store:
        start = BEGINNING
        seen = []
        for _ in range(8):
            block = blocks.block(start)
            seen.append(len(alone.batches))
            assert torch.equal(store.block(start).x_TD, block.x_TD)
            settled(store)
            start = block.next or BEGINNING
            blocks.block(start)
            assert lm.batches == alone.batches  # up to the next block, also from the last one to the first
        assert seen == sorted(set(seen))


def test_a_corpus_of_one_block_is_read_once_and_no_thread_begins() -> None:
    lm = LocalLM()
    with ahead(lm, rows=100) as store:
        batches = store.pairs(10)
        next(batches)
        n = len(lm.batches)
        list(islice(batches, 50))
        assert len(lm.batches) == n
        assert store._next is None


def test_two_buffers_take_turns() -> None:
    with ahead() as store:
        places = []
        for start in [block_start for block_start, _ in zip(starts(store), range(9), strict=False)]:
            places.append(store.block(start).x_TD.data_ptr())
        assert len(set(places)) == 2
        assert all(a != b for a, b in pairwise(places))


def starts(store: ReadAhead) -> Any:
    start = BEGINNING
    while True:
        yield start
        start = store.block(start).next or BEGINNING


def test_an_error_is_raised_where_its_block_is_asked_for() -> None:
    texts = [document(0, 8), document(1, 8), NAN + document(2, 7)]
    with ahead(texts=texts, rows=8) as store:
        batches = store.tokens(4)
        assert len(list(islice(batches, 4))) == 4
        settled(store)
        for _ in range(2):  # whoever asks again is told again
            with pytest.raises(UserError, match="NaN or infinite activations in batch 0"):
                next(batches)


def held(n_free: int) -> tuple[HeldLM, ReadAhead, Any]:
    """A reader that is held in a batch of the language model.

    Blocks are three contexts, each a batch of its own.
    """
    lm = HeldLM(n_free)
    store = ahead(lm, texts=[document(number, 8) for number in range(9)], rows=24, lm_batch_size=1)
    batches = store.tokens(24)
    next(batches)
    assert lm.waits.wait(60)
    return lm, store, batches


def close(lm: HeldLM, store: ReadAhead, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the store; the language model is let go when its end is waited for."""
    assert store._next is not None
    over = store._next._is_over
    wait = over.wait
    assert not over.is_set()
    monkeypatch.setattr(over, "wait", lambda timeout=None: (lm.goes_on.set(), wait(timeout)))
    store.close()
    assert over.is_set()


def test_closing_ends_the_reader_between_two_batches_of_the_language_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, store, _ = held(4)
    assert len(lm.batches) == 5  # the second one of the next block
    close(lm, store, monkeypatch)
    assert len(lm.batches) == 5
    store.close()


def test_a_signal_ends_the_wait_for_a_block_and_then_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, store, batches = held(3)

    def interrupted() -> None:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            next(batches)
        finally:
            signal.signal(signal.SIGALRM, before)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    close(lm, store, monkeypatch)
    assert len(lm.batches) == 4


def test_memory_for_both_blocks_is_told_and_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with ahead(rows=10, log=lines.append) as store:
        next(store.tokens(1))
        settled(store)
    told = [line for line in lines if "for 10 tokens" in line]
    assert len(told) == 2
    assert all("(with --overlap there are 2)" in line for line in told)

    row = make_store(TEXTS)._bytes_per_row
    monkeypatch.setattr(live_store_module, "memory_for_data", lambda device, held=0: 19 * row + held)
    lm = LocalLM()
    with ahead(lm, rows=10) as store, pytest.raises(UserError, match=r"2 blocks of .* --no_overlap"):
        next(store.tokens(1))
    assert not lm.batches
    next(make_store(TEXTS, rows=10).tokens(1))  # one has room
