"""The text of a file: UTF-8, or what a byte order mark in front says; anything else is refused.

Everything that reads texts of a user's files reads them here, so that no file becomes other letters in one
place and a sentence in another.
"""

import codecs
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import AnyPath, path_of

# UTF-32 before UTF-16, whose mark its own begins with.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_CHUNK_BYTES = 1 << 20

# Opens a file as bytes, decompressed; what it gives has `peek`.
Opener = Callable[[AnyPath], AbstractContextManager[Any]]


def read_text(path: str | AnyPath, name: str | None = None) -> str:
    """The whole text of a file, without its byte order mark, lines ended by a newline.

    Args:
        name: what to call the file in an error, such as `--prompts prompts.txt`; its path if not given.

    Raises:
        UserError: the file cannot be read, or is no text in UTF-8 (or in what its byte order mark says).
    """
    path = path_of(path)
    try:
        return "".join(text_lines(path, newline=None, name=name))
    except OSError as error:
        raise UserError(f"{name or path} cannot be read ({error.strerror}): check the path.") from None


def text_lines(
    path: AnyPath, opener: Opener | None = None, *, newline: str | None = "\n", name: str | None = None
) -> Iterator[str]:
    """The lines of a file with their ends, in bounded memory.

    Args:
        opener: how the file is opened, if it is compressed.
        newline: what ends a line, as for `open`.
        name: see `read_text`.

    Raises:
        UserError: (at the place) the file is no text in UTF-8, or in what its byte order mark says.
        OSError: the file cannot be read.
    """
    opener = opener or _open
    with opener(path) as file:
        codec, _ = _skip_mark(file)
        try:
            with io.TextIOWrapper(file, encoding=codec, newline=newline) as lines:
                for line in lines:
                    if "\0" in line:
                        break
                    yield line
                else:
                    return
        except UnicodeDecodeError:
            pass
    raise UserError(_refusal(path, opener, name or str(path)))


def _open(path: AnyPath) -> AbstractContextManager[Any]:
    return path.open("rb")


def _skip_mark(file: Any) -> tuple[str, int]:
    """The codec of a file that has just been opened; goes behind its byte order mark, of so many bytes."""
    head = file.peek(4)
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            file.read(len(mark))
            return codec, len(mark)
    return "utf-8", 0


def _refusal(path: AnyPath, opener: Opener, name: str) -> str:
    """Why a file is no text: it is read again up to the byte that says so."""
    with opener(path) as file:
        codec, n_mark = _skip_mark(file)
        n_read = n_mark
        decoder = codecs.getincrementaldecoder(codec)()
        while True:
            place = n_read - len(decoder.getstate()[0])
            data = file.read(_CHUNK_BYTES)
            n_read += len(data)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                place += error.start
                break
            if "\0" in text:
                place += len(text[: text.index("\0")].encode(codec))
                return (
                    f"{name} holds a NUL (byte {place:,}), so it is UTF-16 without a byte order mark or no"
                    " text at all: convert it with `iconv -f utf-16le -t utf-8`."
                )
            assert data, "the file was refused, and is text now"
    if n_mark:
        return (
            f"{name} is not the {codec.upper()} that its byte order mark says (byte {place:,}): save it as"
            " UTF-8."
        )
    return (
        f"{name} is not UTF-8 (byte {place:,}): convert it with `iconv -f latin1 -t utf-8`, or from the"
        " encoding that it has."
    )
