"""Writing activation caches, shard after shard; by one process, or by several side by side.

Caches of several places, such as the layers of one model, are written side by side: their texts go through
the language model once. Each ends with the bytes that it has when it is written alone.

Of several processes, each machine takes some of the missing pieces, one behind the other, so that it reads
its texts once; and the processes of a machine fill the same files, batch i of shard s by process i + s mod
their number. Which batches there are depends on the texts alone, so the files' bytes do not depend on
the number of processes. The first process of a machine begins and finishes its files (`backstage`).

Every few seconds all processes report to each other: what they have done, whether one was asked to stop or
has failed. So they end together, whatever happens to one, and none waits long for another.
"""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning import distributed
from dictionary_learning.activations.backstage import Backstage
from dictionary_learning.activations.cache import WRITE, ActivationCache
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.activations.piece import Piece, PieceInProgress
from dictionary_learning.command import program
from dictionary_learning.command.files import sentence
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.command.processes import machine
from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import AnyPath

# How often several processes report to each other.
_SECONDS_BETWEEN_REPORTS = 5.0
# The index is written whole, which takes long where there are thousands of shards: at most this share of the
# time. Shards on this disk that are full and not in it yet are found by whoever goes on (`cache_plan`).
_SHARE_OF_INDEX = 0.05


def write(caches: Sequence[ActivationCache], stores: Mapping[str, ActivationStore], folder: AnyPath) -> None:
    """Write every shard that was planned (`cache_plan.plan`) and is not there.

    The first process's caller holds the caches' folders by `command.lock.locked`.

    Args:
        caches: of different places and otherwise of the same options; new, begun, or with shards that are to
            be written again.
        stores: the activations of every part, straight from the language model; of whichever place.
        folder: that of the one cache, or the one that holds them all.

    Raises:
        UserError: the texts have changed since a cache was begun, activations are not finite, or the disk of
            another process is full.
        OSError: the disk is full.
        SystemExit: interrupted (130 or 143); what has been made is kept.
    """
    pieces = list(_missing(caches, stores))
    total = sum(entry.n_positions for part in caches[0].parts.values() for entry in part.shards)
    n_missing = sum(piece.entries[0].n_positions for piece in pieces)
    progress = TokenProgress(total, total - n_missing, "activations")
    try:
        with Interruption() as interruption:
            try:
                _Writer(pieces, progress, interruption).go()
            except Interrupted:
                assert interruption.signal is not None
                kept = f"{progress.done:,} of {total:,} tokens"
                say(f"stopped with {kept} on disk; to go on: {go_on(folder)}")
                raise SystemExit(128 + interruption.signal) from None
    finally:
        progress.close()


def go_on(folder: AnyPath) -> str:
    """The command that goes on with the cache, or the caches, in a folder; a sweep writes them, too."""
    started = program.words()
    words = [*started, "--activations"] if "cache" in Path(started[-1]).stem else WRITE.split()
    return shlex.join([*words, str(folder)])


def _missing(caches: Sequence[ActivationCache], stores: Mapping[str, ActivationStore]) -> Iterator[Piece]:
    """The pieces that not every cache has, in the order of the corpus."""
    for part, store in stores.items():
        for number in range(len(caches[0].parts[part].shards)):
            lacking = [cache for cache in caches if not cache.parts[part].shards[number].sha256]
            if lacking:
                yield Piece(part, number, lacking, store)


class _Report(NamedTuple):
    """What a process tells all others; but for the first three, what came since it last told."""

    machine: int
    n_begun: int  # pieces of the machine that are open, from the process that begins them
    n_filled: int  # pieces of the machine whose batches this process is through with
    n_found: int = 0  # tokens that were there when a piece was begun
    n_tokens: int = 0
    n_batches: int = 0
    seconds: float = 0.0
    finished: Sequence[tuple[int, Sequence[Any]]] = ()  # number of a piece, and `Written` of each cache
    is_busy: bool = True
    signal: int = 0
    failure: str = ""


class _Writer:
    """One process's share in the writing of some pieces.

    The machine's own pieces have numbers from 0; its first process has the thread that begins them.
    """

    def __init__(self, pieces: Sequence[Piece], progress: TokenProgress, interruption: Interruption) -> None:
        self.pieces, self.progress, self.interruption = pieces, progress, interruption
        self.machine = machine()
        self.first, end = (
            (self.machine.number + i) * len(pieces) // self.machine.n_machines for i in range(2)
        )
        self.own = pieces[self.first : end]
        self.backstage = Backstage(self.own) if self.machine.rank == 0 else None
        self.n_begun = self.n_filled = self.n_full = self.n_finished = 0
        self.filling: Iterator[int] | None = None
        self.pace = 1  # batches between two reports
        self.failure: Exception | None = None
        self.unsaid: list[tuple[int, Sequence[Any]]] = []  # pieces that are finished, and not yet in an index
        self.unsaved: list[ActivationCache] = []  # caches whose index on the disk lacks shards
        self.save_from = 0.0  # on the monotonic clock

    def go(self) -> None:
        """Write until all is there.

        Raises:
            Interrupted: some process was asked to stop.
            UserError, OSError: something has failed, here or elsewhere.
        """
        try:
            is_busy = True
            while is_busy:
                reports = self._tell(self._work())
                failures = [report.failure for report in reports if report.failure]
                if failures:
                    raise self.failure or UserError(failures[0])
                stopped = max(report.signal for report in reports)
                if stopped:
                    self.interruption.signal = self.interruption.signal or stopped
                    self._stop()
                is_busy = any(report.is_busy for report in reports)
        finally:
            try:
                self._save_indices()
            finally:
                if self.backstage is not None:
                    self.backstage.close()

    def _work(self) -> _Report:
        """Some batches of the language model, if there are any to do."""
        began = time.monotonic()
        n_tokens = n_batches = 0
        report = _Report(self.machine.number, self.n_begun, self.n_filled)
        try:
            while n_batches < self.pace and not self.interruption.signal and (n := self._fill_batch()):
                n_tokens, n_batches = n_tokens + n, n_batches + 1
            report = report._replace(n_tokens=n_tokens, n_batches=n_batches, seconds=time.monotonic() - began)
            if self.backstage is not None:
                report = self._look_backstage(self.backstage, report)
        except Exception as error:
            told = sentence(error)
            if not told:
                raise
            self.failure = error
            report = report._replace(n_tokens=n_tokens, failure=told)
        n_done = self.n_filled if self.backstage is None else self.n_finished
        return report._replace(
            n_filled=self.n_filled, is_busy=n_done < len(self.own), signal=self.interruption.signal or 0
        )

    def _fill_batch(self) -> int:
        """One batch of the language model: its tokens, or 0 where there is none to do now."""
        while self.n_filled < self.n_begun:
            if self.filling is None:
                piece = (
                    PieceInProgress.join(self.own[self.n_filled])
                    if self.backstage is None
                    else self.backstage.open(self.n_filled)
                )
                # the one that has a batch more is another one in every piece
                first = (self.machine.rank - self.own[self.n_filled].number) % self.machine.size
                self.filling = piece.fill((first, self.machine.size))
            if n_tokens := next(self.filling, 0):
                return n_tokens
            self.filling = None
            self.n_filled += 1
        return 0

    def _look_backstage(self, backstage: Backstage, report: _Report) -> _Report:
        """What the thread has begun and finished; waits for it where the language model has nothing to do."""
        if not report.n_batches and not self.interruption.signal:
            if self.n_finished == self.n_filled:
                backstage.check(self.n_filled)
            backstage.wait(_SECONDS_BETWEEN_REPORTS)
        n_found = 0
        for piece in backstage.newly_begun():
            self.n_begun += 1
            n_found += piece.n_found
        for number, written in backstage.newly_finished():  # where one has failed, those before it count
            self.n_finished += 1
            self.unsaid.append((self.first + number, written))
        return report._replace(n_begun=self.n_begun, n_found=n_found)

    def _tell(self, report: _Report) -> list[_Report]:
        """Tell all processes, hear their reports, and do what follows from them."""
        report, self.unsaid = report._replace(finished=self.unsaid), []
        reports = [_Report(*values) for values in distributed.values_of_all(report)]
        if n_found := sum(report.n_found for report in reports):
            self.progress.find(n_found)
        if n_tokens := sum(report.n_tokens for report in reports):
            self.progress.add(n_tokens)
        self._record([finished for report in reports for finished in report.finished])
        of_machine = [report for report in reports if report.machine == self.machine.number]
        self.n_begun = max(report.n_begun for report in of_machine)
        n_full = min(report.n_filled for report in of_machine)
        if self.backstage is not None:
            for number in range(self.n_full, n_full):
                self.backstage.finish(number)
        self.n_full = n_full
        n_batches = sum(report.n_batches for report in reports)
        if n_batches and len(reports) > 1:
            seconds = sum(report.seconds for report in reports) / n_batches
            self.pace = max(1, round(_SECONDS_BETWEEN_REPORTS / seconds))
        return reports

    def _record(self, finished: Sequence[tuple[int, Sequence[Any]]]) -> None:
        """Put shards that are finished into the indices, which the first process saves from time to time."""
        for number, written in finished:
            piece = self.pieces[number]
            for cache, entry, (facts, line) in zip(piece.caches, piece.entries, written, strict=True):
                for name, value in facts.items():
                    setattr(entry, name, value)
                self.unsaved += [cache] if cache not in self.unsaved else []
                say(line)
        is_found = all(cache.files.finds_full for cache in self.unsaved)
        if not is_found or time.monotonic() >= self.save_from:
            self._save_indices()

    def _save_indices(self) -> None:
        began = time.monotonic()
        while self.unsaved:
            cache = self.unsaved.pop()
            if distributed.is_first():
                cache.save_index()
        ended = time.monotonic()
        self.save_from = ended + (ended - began) / _SHARE_OF_INDEX

    def _stop(self) -> None:
        """Have everything on the disk, in all processes.

        Raises:
            Interrupted: always.
        """
        report = _Report(self.machine.number, self.n_begun, self.n_filled)
        if self.backstage is not None:
            self.backstage.stop()
            report = self._look_backstage(self.backstage, report)
        self._tell(report)
        raise Interrupted
