"""How every command line of the project starts and ends."""

import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from dictionary_learning.command.files import sentence, settle
from dictionary_learning.command.memory import keep_freed_memory
from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.errors import UserError


def run(main: Callable[[], object]) -> None:
    """Run `main`; read `.env` first, and turn a user's mistake into one sentence and exit code 2.

    Exit codes: 0 done, 2 a user's mistake, a full disk or a file that the system refuses, 130 interrupted.
    """
    warnings.showwarning = lambda message, *_: print(f"warning: {scrub_text(str(message))}", file=sys.stderr)
    keep_freed_memory()
    try:
        _read_environment()
        main()
        settle()
    except BrokenPipeError:
        raise  # whoever read what is printed has gone: that is no mistake of a path
    except (UserError, OSError) as error:
        said = sentence(error)
        if not said:
            raise  # no file is at fault: what happened is told in full
        _stop(said)
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


def _stop(sentence: str) -> NoReturn:
    print(f"error: {scrub_text(sentence)}", file=sys.stderr)
    sys.exit(2)
