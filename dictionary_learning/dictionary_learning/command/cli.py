"""How every command line of the project starts and ends."""

import errno
import sys
import warnings
from collections.abc import Callable

from dictionary_learning.errors import UserError


def run(main: Callable[[], object]) -> None:
    """Run `main`; read `.env` first, and turn a user's mistake into one sentence and exit code 2.

    Exit codes: 0 done, 2 a user's mistake or a full disk, 130 interrupted.
    """
    from dotenv import find_dotenv, load_dotenv

    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    load_dotenv(find_dotenv(usecwd=True))
    try:
        main()
    except UserError as error:
        _stop(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _stop(f"the disk is full ({error.filename or 'while saving'}): free some space and run again.")
    except KeyboardInterrupt:
        print("\nstopped.", file=sys.stderr)
        sys.exit(130)


def _stop(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
