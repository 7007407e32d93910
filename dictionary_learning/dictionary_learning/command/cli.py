"""How every command line of the project starts and ends."""

import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from dictionary_learning.command.files import sentence, settle
from dictionary_learning.command.memory import keep_freed_memory
from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.errors import UserError


def run(main: Callable[[], object]) -> None:
    """Run `main`; read `.env` first, and turn a user's mistake into one sentence and exit code 2.

    Exit codes: 0 done, 2 a user's mistake, a full disk, too little memory or a file that the system refuses,
    130 interrupted, 141 nobody reads any more what is printed, as behind `| head`.
    """
    warnings.showwarning = lambda message, *_: print(f"warning: {scrub_text(str(message))}", file=sys.stderr)
    keep_freed_memory()
    with _counted_stops() as stops:
        try:
            try:
                _read_environment()
                main()
                settle()
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except BrokenPipeError:
            if not _is_unread():
                raise  # another connection, whose end is told in full
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left in the buffer
            sys.exit(128 + signal.SIGPIPE)
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            if stops:  # in an import, which a library has told as another error
                _interrupted()
            said = sentence(error)
            if not said:
                raise  # neither a file nor memory is at fault: what happened is told in full
            _stop(said)
        except KeyboardInterrupt:
            _interrupted()


@contextmanager
def _counted_stops() -> Iterator[list[int]]:
    """Every Ctrl-C that is not handled elsewhere; each raises KeyboardInterrupt as ever."""
    stops: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        signal.default_int_handler(number, frame)

    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, receive)
    try:
        yield stops
    finally:
        if signal.getsignal(signal.SIGINT) is receive:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_unread() -> bool:
    """Whether what is printed goes into a pipe that nobody reads any more."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # it is no file
        return False
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _interrupted() -> NoReturn:
    print("\nstopped.", file=sys.stderr)
    sys.exit(130)


def _read_environment() -> None:
    """Set what `.env` says, in this folder or one above it.

    Raises:
        UserError: it cannot be read.
    """
    from dotenv import find_dotenv, load_dotenv

    path = find_dotenv(usecwd=True)
    try:
        load_dotenv(path)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8: save it as UTF-8, or remove it.") from None
    except ValueError as error:
        raise UserError(f"{path} holds a value that cannot be set ({error}): mend that line.") from None


def _stop(sentence: str) -> NoReturn:
    print(f"error: {scrub_text(sentence)}", file=sys.stderr)
    sys.exit(2)
