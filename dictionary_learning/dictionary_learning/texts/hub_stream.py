"""Records of data sets on the Hugging Face hub, streamed: a lost connection loses and repeats nothing.

When the connection drops, the data set is opened again and goes on behind the last record.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dictionary_learning.errors import UserError
from dictionary_learning.remote.connection import is_drop, said
from dictionary_learning.texts.records import FORMATS, Record, is_damage

# Seconds to wait before each new attempt; ten minutes of a silent hub end the stream.
_WAITS = (1, 2, 4, 8, 16, 32, 60, 120, 180, 180)
# Before the first record somebody is waiting: a wrong setting shows at once.
_FIRST_WAITS = (1, 2)
_REMEMBER_EVERY = 1_000


def hub_records(
    name: str,
    *,
    subset: str | None = None,
    split: str = "train",
    start: int = 0,
    data_dir: str | None = None,
) -> Iterator[Record]:
    """The records of a hub data set, or of a folder like one, from number `start` on, streamed.

    A lost connection is met with exponential back-off. The stream is then opened again at a remembered
    position, so that nothing is read twice or left out.

    Args:
        subset: a named configuration of the data set.
        data_dir: a folder of its files, for data sets whose parts have no names but folders.

    Raises:
        UserError: the hub cannot be reached, or the data set, subset or split does not exist.
    """
    _check_reachable(name)
    try:
        stream = _open(name, subset, split, data_dir)
    except OSError as error:
        if not is_drop(error):
            raise
        raise UserError(_unreachable(name, error)) from None
    return _follow(stream, lambda: _open(name, subset, split, data_dir), name, start)


def _check_reachable(name: str) -> None:
    """One quick question to the hub, which `load_dataset` would put half a minute of retries into."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    # Offline, a data set in the cache may still be there.
    if Path(name).is_dir() or constants.HF_HUB_OFFLINE:
        return
    n_failures = 0
    while True:
        try:
            HfApi().dataset_info(name, timeout=10)
            return
        except Exception as error:
            if is_drop(error):
                if n_failures == len(_FIRST_WAITS):
                    raise UserError(_unreachable(name, error)) from None
                time.sleep(_FIRST_WAITS[n_failures])
                n_failures += 1
            elif isinstance(error, HfHubHTTPError | ValueError):  # no such name, gated, or not a name at all
                raise UserError(not_there(name, error)) from None
            else:
                raise


def _open(name: str, subset: str | None, split: str, data_dir: str | None) -> Any:
    """`datasets.load_dataset` in streaming mode, with its errors as sentences."""
    import datasets

    try:
        return datasets.load_dataset(name, subset, split=split, data_dir=data_dir, streaming=True)
    except (ValueError, RuntimeError, FileNotFoundError, ImportError) as error:
        # In this order: a wrong subset or split, a data set that is a script, none at all or a gated one, one
        # of files that take a package which is not there.
        raise UserError(not_there(name, error)) from None


def _follow(stream: Any, reopen: Callable[[], Any], name: str, start: int) -> Iterator[Record]:
    """Records of a streaming data set from `start` on; where the connection drops, of a reopened one."""
    position = start
    remembered: tuple[int, dict[str, Any]] | None = None  # where a reopened stream can start without reading
    n_failures = 0
    while True:
        try:
            stream = reopen() if stream is None else stream
            if start:
                stream = stream.skip(start)
            if remembered:
                stream.load_state_dict(remembered[1])
            n_known = position - (remembered[0] if remembered else start)
            for record in islice(stream, n_known, None):
                position += 1
                n_failures = 0
                if position % _REMEMBER_EVERY == 0:
                    remembered = position, stream.state_dict()
                yield record
            return
        except Exception as error:
            if not is_drop(error):
                if isinstance(error, ImportError) or (Path(name).is_dir() and position == start == 0):
                    raise UserError(not_there(name, error)) from error  # sound or images, say, and no texts
                if is_damage(error):
                    raise UserError(
                        f"the data set {name!r} is damaged behind record {position:,} ({said(error)}):"
                        f" get its files anew, or {_INSTEAD}."
                    ) from error
                raise
            waits = _WAITS if position > start else _FIRST_WAITS
            if n_failures == len(waits):
                raise UserError(_unreachable(name, error, position)) from error
            wait = waits[n_failures]
            n_failures += 1
            warnings.warn(
                f"{name}: the connection dropped at record {position:,} ({said(error)});"
                f" trying again in {wait} s"
            )
            time.sleep(wait)
            stream = None


_INSTEAD = "use --dataset demo or a local file (" + ", ".join(FORMATS) + ")"


def not_there(name: str, error: Exception) -> str:
    if Path(name).is_dir():
        return (
            f"the folder {name} cannot be opened as a data set of texts ({said(error)}): check the subset "
            f"and the split, or give a folder with files of {', '.join(FORMATS)}."
        )
    return (
        f"the data set {name!r} cannot be opened ({said(error)}): check its name, subset and split, log in"
        f" with `hf auth login` if it is gated, or {_INSTEAD}."
    )


def _unreachable(name: str, error: Exception, position: int = 0) -> str:
    where = f" behind record {position:,}" if position else ""
    return (
        f"the data set {name!r} cannot be reached on the Hugging Face hub{where} ({said(error)}): check the"
        f" connection, or {_INSTEAD}."
    )
