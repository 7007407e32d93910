"""A small activation cache and the store that it stands for, for the tests of reading and of writing one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dictionary_learning import cache_activations
from dictionary_learning.activations.block import bytes_per_token
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.command import cli
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.documents import DocumentStream

LAYER = 2
LENGTH = 16
ROWS = 900  # of a block, so that the corpus takes several
MEMORY = ROWS * bytes_per_token(32)
# Which activations: the same for a cache and for a run straight from the language model.
FLAGS = [
    *("--layer", str(LAYER), "--device", "cpu", "--context_length", str(LENGTH), "--lm_batch_size", "4"),
    *("--memory", str(MEMORY), "--eval_share", "0.2", "--max_norm_ratio", "1.2"),
]


def write(*words: str) -> None:
    cache_activations.main(list(words))


def live_store(lm: LanguageModel, corpus: Path, part: str = "train", **options: Any) -> ActivationStore:
    """What the cache stands for: the same activations straight from the language model."""
    options = {"memory_bytes": MEMORY, "max_norm_ratio": 1.2, **options}
    return ActivationStore(
        lm,
        LAYER,
        lambda start: DocumentStream.open(str(corpus), part=part, eval_share=0.2, start=start),
        context_length=LENGTH,
        lm_batch_size=4,
        log=lambda line: None,
        **options,
    )


def cached_store(folder: Path, part: str = "train", **options: Any) -> Any:
    return ActivationCache.open(folder).store(part, log=lambda line: None, **options)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "index.json").read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refused(capsys: pytest.CaptureFixture[str], main: Callable[[], object]) -> str:
    """The one sentence that a command line answers with."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    return told[0]


def forbid_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the language model was loaded")

    monkeypatch.setattr(LanguageModel, "load", load)


def cut_short(folder: Path) -> None:
    path = shards(folder)[-1]
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(folder: Path, keep_time: bool = False) -> None:
    path = folder / index(folder)["parts"]["train"]["shards"][0]["file"]
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte ^ 255]))
    if keep_time:
        os.utime(path, ns=times)
