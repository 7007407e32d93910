"""How commands end: one sentence and exit code 2 for what the system or a file refuses."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.command.secrets import scrub_text, scrub_values
from dictionary_learning.errors import UserError


def ended(capsys: pytest.CaptureFixture[str], main) -> tuple[int, str]:
    with pytest.raises(SystemExit) as raised:
        cli.run(main)
    return raised.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.ENAMETOOLONG, errno.EEXIST, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EROFS],
)
def test_what_the_system_refuses_is_one_sentence_with_the_path_and_the_reason(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "some/where.json")

    code, said = ended(capsys, refused)
    assert code == 2
    assert said.splitlines() == [said.strip()]
    assert said.startswith(f"error: some/where.json cannot be used ({os.strerror(number)})")


def test_a_name_too_long_to_read_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(capsys, lambda: (tmp_path / ("x" * 5000)).read_text())
    assert code == 2
    assert len(said) < 400
    assert "File name too long" in said


def test_a_full_disk_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a/state.pt")

    code, said = ended(capsys, full)
    assert (code, said.startswith("error: the disk is full (a/state.pt)")) == (2, True)


def test_a_secret_is_not_repeated_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "hf_" + "a1B2" * 8

    def refused() -> None:
        raise UserError(f"there is no data set https://me:{secret}@host/{secret}: check --dataset.")

    assert ended(capsys, refused) == (
        2,
        "error: there is no data set https://***@host/***: check --dataset.\n",
    )
    parser = Parser(prog="x")
    parser.add_argument("--k", type=int)
    for words in (["--hf_token", "abc"], ["--k", secret]):
        code, said = ended(capsys, lambda words=words: parser.parse_args(words))
        assert code == 2
        assert "***" in said
        assert words[1] not in said


def test_the_revision_in_a_path_of_the_hubs_cache_is_no_secret() -> None:
    path = f"/home/me/hub/models--gpt2/snapshots/{'0a' * 20}"
    assert scrub_text(path) == path
    assert scrub_values({"git_revision": "1b" * 20}) == {"git_revision": "1b" * 20}  # no key of anybody
    assert scrub_values({"model": path, "seeds": (1, 2), "note": "1b" * 20, "deep": [{"k": None}]}) == {
        **{"model": path, "seeds": (1, 2), "note": "***", "deep": [{"k": None}]}
    }


def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(OSError, match="no file is at fault"):
        cli.run(lambda: (_ for _ in ()).throw(OSError("no file is at fault")))


@pytest.mark.parametrize("content", [b"A=caf\xe9\n", "A=1\n".encode("utf-16"), b"A=a\x00b\n"])
def test_an_environment_file_that_cannot_be_read_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(content)
    code, said = ended(capsys, lambda: pytest.fail("the command ran"))
    assert code == 2
    assert ".env" in said
    assert len(said.splitlines()) == 1


PRINTING = """
import sys
from dictionary_learning.command import cli
cli.run(lambda: print("x" * 100_000))
"""


@pytest.mark.parametrize("buffered", ["", "1"])
def test_nothing_is_said_where_nobody_reads_on(buffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    words = [sys.executable, "-c", PRINTING]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as printing:
        assert printing.stdout is not None
        assert printing.stderr is not None
        printing.stdout.close()
        assert printing.stderr.read() == b""
    assert printing.returncode == 141


def test_another_broken_connection_is_told_in_full() -> None:
    with pytest.raises(BrokenPipeError):
        cli.run(lambda: (_ for _ in ()).throw(BrokenPipeError(errno.EPIPE, "Broken pipe")))


def test_a_ctrl_c_that_a_library_tells_as_an_error_of_its_own_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped_in_an_import() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise UserError("the model cannot be used because its config cannot be read") from None

    # these tests may run where it is ignored, as behind a shell's &
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert ended(capsys, stopped_in_an_import) == (130, "\nstopped.\n")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
