"""Where activations are stored and where batches arise; `meta` stands for a device that is not the CPU.

A tensor on `meta` has a shape and no numbers, so these tests say where things are. What a GPU computes is not
tested here.
"""

from pathlib import Path

import pytest
import torch
from caches import LAYER, LENGTH, cached_store, live_store

from dictionary_learning.activations.block import BEGINNING, Block
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.command import memory
from dictionary_learning.jobs import data as data_module
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.language_model import LanguageModel

META, CPU = torch.device("meta"), torch.device("cpu")


@pytest.fixture(scope="module")
def lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def free(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    """So much of the other device's memory is free, and enough of the CPU's."""
    monkeypatch.setattr(
        memory, "available_memory", lambda device: n_bytes if torch.device(device).type == "meta" else 10**9
    )


def on_meta(lm: LanguageModel, corpus: Path, log: list[str]) -> ActivationStore:
    store = live_store(lm, corpus, device=META)
    store.log = log.append
    return store


def test_half_of_a_device_is_for_data_and_all_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    assert memory.memory_for_data(META) == 500
    assert memory.memory_for_data(META, held=200) == 600
    assert memory.memory_for_data(CPU, held=200) == 10**9 + 200


def test_a_block_lies_on_the_trainers_device_where_there_is_room(
    lm: LanguageModel, marked_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 10**9)
    log: list[str] = []
    store = on_meta(lm, marked_corpus, log)
    assert next(store.pairs(8)).device == META
    assert store.block(BEGINNING).x_TD.device == META
    assert store.config["device"] == "meta"
    assert "on the CPU" not in log[0]


def test_a_block_that_is_too_large_stays_on_the_cpu_and_its_batches_do_not(
    lm: LanguageModel, marked_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 100_000)  # of which half is less than 900 rows of 32 float32
    log: list[str] = []
    store = on_meta(lm, marked_corpus, log)
    x_B2D = next(store.pairs(8))
    assert (x_B2D.device, tuple(x_B2D.shape), x_B2D.dtype) == (META, (8, 2, 32), torch.float32)
    assert store.block(BEGINNING).x_TD.device == CPU
    assert "; on the CPU, as meta has no room for them beside its work" in log[0]
    batch = next(store.sequences(4))
    assert {tensor.device for tensor in batch} == {META}


def test_the_memory_of_the_cpu_counts_where_that_of_the_device_does_not_suffice(
    lm: LanguageModel, marked_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 10_000)
    from dictionary_learning.errors import UserError

    with pytest.raises(UserError, match="take more than the 10 KB of memory that are free"):
        next(on_meta(lm, marked_corpus, []).pairs(8))


@pytest.mark.parametrize(("n_bytes", "where"), [(10**9, META), (100_000, CPU)])
def test_a_shard_is_copied_to_the_device_where_there_is_room(
    written_cache: Path, monkeypatch: pytest.MonkeyPatch, n_bytes: int, where: torch.device
) -> None:
    free(monkeypatch, n_bytes)
    store = cached_store(written_cache, device=META)
    assert next(store.tokens(8)).device == META
    assert store.block(BEGINNING).x_TD.device == where
    assert store.config["device"] == "meta"


def test_a_copy_on_another_device_has_the_numbers_of_the_block(
    lm: LanguageModel, marked_corpus: Path
) -> None:
    """The way over a gathered copy, with the CPU in the part of both devices."""
    block = live_store(lm, marked_corpus).block(BEGINNING)
    rows = torch.tensor([[5, 3], [0, 5]])
    here = torch.index_select(block.x_TD, 0, rows.flatten(), out=torch.empty(4, 32)).unflatten(0, (2, 2))
    assert torch.equal(block.rows(rows), here)
    away = Block(**{**vars_of(block), "device": META}).rows(rows)
    assert (away.device, away.shape) == (META, here.shape)


def vars_of(block: Block) -> dict[str, object]:
    return {name: getattr(block, name) for name in Block.__dataclass_fields__}


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_asks_for_batches_on_its_own_device(
    cached: bool,
    written_cache: Path,
    tiny_lm_folder: Path,
    marked_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free(monkeypatch, 10**9)
    monkeypatch.setattr(data_module, "find_device", lambda *asked: META)
    options = TrainOptions(
        model=str(tiny_lm_folder),
        dataset=str(marked_corpus),
        layer=LAYER,
        context_length=LENGTH,
        lm_device="cpu",
        dict_size=64,
        k=4,
        activations=str(written_cache) if cached else None,
    )
    store = data_module.open_activations(options)
    assert next(store.tokens(8)).device == META


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({}, None), ({"device": "cpu"}, "cpu"), ({"device": "cpu", "lm_device": "auto"}, "auto")],
)
def test_the_language_model_goes_to_its_own_device_or_to_the_trainers(
    flags: dict[str, str], expected: str | None, tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    load = LanguageModel.load
    monkeypatch.setattr(
        LanguageModel,
        "load",
        lambda name, *, device, **rest: seen.append(device) or load(name, device="cpu", **rest),
    )
    options = TrainOptions(model=str(tiny_lm_folder), layer=LAYER, dict_size=64, k=4, **flags)  # type: ignore[arg-type]
    lm = data_module.load_language_model(options, LAYER)
    assert seen == [expected]
    assert len(lm.layers) == LAYER + 1
