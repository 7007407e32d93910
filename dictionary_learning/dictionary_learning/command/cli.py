"""How every command line of the project starts and ends."""

import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from dictionary_learning.command.files import FULL_DISK
from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.errors import UserError


def run(main: Callable[[], object]) -> None:
    """Run `main`; read `.env` first, and turn a user's mistake into one sentence and exit code 2.

    Exit codes: 0 done, 2 a user's mistake, a full disk or a file that the system refuses, 130 interrupted.
    """
    warnings.showwarning = lambda message, *_: print(f"warning: {scrub_text(str(message))}", file=sys.stderr)
    try:
        _read_environment()
        main()
    except UserError as error:
        _stop(str(error))
    except BrokenPipeError:
        raise  # whoever read what is printed has gone: that is no mistake of a path
    except OSError as error:
        if error.errno in FULL_DISK:
            _stop(f"the disk is full ({error.filename or 'while saving'}): free some space and run again.")
        if error.filename is None or error.strerror is None:
            raise  # no file is at fault: what happened is told in full
        _stop(
            f"{_name(error.filename)} cannot be used ({error.strerror}): check the path and its permissions."
        )
    except KeyboardInterrupt:
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


def _name(filename: object) -> str:
    """A path as it was given, cut where it is too long to be read."""
    text = filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]} ({len(text):,} characters)"


def _stop(sentence: str) -> NoReturn:
    print(f"error: {scrub_text(sentence)}", file=sys.stderr)
    sys.exit(2)
