"""What a process ends with when another one failed, by what torchrun's store still says."""

from typing import Any

import pytest
import torch.distributed as dist

from dictionary_learning.command import processes
from dictionary_learning.errors import UserError


class Gone:
    """A store whose machine went down."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError("Connection reset by peer")

        return fail


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(processes, "_SECONDS_TO_TELL", 0.2)


@pytest.mark.usefixtures("first")
def test_the_sentence_of_the_one_that_failed_is_told() -> None:
    store = dist.HashStore()
    store.set(processes._FAILURE, "process 2: the texts are gone.")
    ended = processes._failure_of_another(store, RuntimeError("Connection closed by peer"))
    assert isinstance(ended, UserError)
    assert str(ended) == "process 2: the texts are gone."
    assert store.check([processes._TELLING])


@pytest.mark.usefixtures("first")
def test_what_another_process_tells_already_is_not_told_again() -> None:
    store = dist.HashStore()
    store.set(processes._FAILURE, "process 2: the texts are gone.")
    assert processes._may_tell(store)
    ended = processes._failure_of_another(store, RuntimeError("Connection closed by peer"))
    assert isinstance(ended, SystemExit)
    assert ended.code == 2


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("store", [Gone(), dist.HashStore()], ids=["gone", "silent"])
def test_a_store_that_says_nothing_leaves_a_sentence_of_our_own(store: Any) -> None:
    ended = processes._failure_of_another(store, RuntimeError("Connection closed by peer"))
    assert isinstance(ended, UserError)
    assert "another process was killed or gave no answer (Connection closed by peer)" in str(ended)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.safetensors"), "a.safetensors cannot be used"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "there is not enough memory (CUDA"),
        (KeyboardInterrupt(), "stopped."),
        (ZeroDivisionError("division by zero\nand more"), "ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_process_leaves_to_the_first_is_what_it_would_have_said_itself(
    error: BaseException, said: str
) -> None:
    assert processes._sentence(error).startswith(said)
    assert "\n" not in processes._sentence(error)
