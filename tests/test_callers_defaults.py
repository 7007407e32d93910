"""What a caller has set in PyTorch for work of their own does not reach into ours."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import cached_store, live_store
from distributed.worlds import CASES, COMMON, batches
from torch.nn.parallel import DataParallel, DistributedDataParallel
from toy_runs import KINDS, make_runs

from dictionary_learning import ActivationBuffer, evaluate
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.architectures import ARCHITECTURES
from dictionary_learning.utils import get_submodule, load_dictionary


@contextmanager
def default_device():
    """In place of a card: whatever lies there by accident has no content."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "device": default_device,
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}
each_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
TRAINED = ("temporal_paper", "top_k", "standard", "gated", "jumprelu", "attention_topk", "attention_recall")
DATA = {unit: batches(unit)[:3] for unit in ("pairs", "tokens", "texts")}


def trained(name: str) -> dict[str, Any]:
    """What three steps of a trainer leave, and say."""
    options = dict(CASES[name])
    arch, unit = options.pop("arch"), options.pop("unit", "tokens")
    trainer = ARCHITECTURES[arch].trainer_class()(**COMMON, **options)
    losses = [trainer.update(step, batch) for step, batch in enumerate(DATA[unit])]
    calibrated = trainer.calibrate(iter(DATA[unit]))
    return {**trainer.ae.state_dict(), "said": [losses, trainer.metrics(), calibrated]}


def same(found: dict[str, Any], right: dict[str, Any]) -> None:
    assert found.pop("said", None) == right.pop("said", None)
    assert found.keys() == right.keys()
    for name, tensor in right.items():
        assert (found[name].dtype, found[name].device) == (tensor.dtype, tensor.device), name
        assert torch.equal(found[name], tensor), name


@each_setting
@pytest.mark.parametrize("name", TRAINED)
def test_a_trainer_trains_as_ever(name: str, setting: Any) -> None:
    right = trained(name)
    with setting():
        found = trained(name)
    same(found, right)


@pytest.fixture(scope="module")
def lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture(scope="module")
def runs(tiny_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_runs(tmp_path_factory.mktemp("runs"), tiny_lm_folder)


@each_setting
@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_is_loaded_as_ever(kind: str, setting: Any, runs: Path) -> None:
    right, _ = load_dictionary(runs / kind, device="cpu")
    with setting():
        found, _ = load_dictionary(runs / kind, device="cpu", trainable=True)
    same(found.state_dict(), right.state_dict())
    x_BLD = torch.randn(2, 5, 32)
    found.encode(x_BLD).sum().backward()  # what was made in inference mode could not be trained on


@each_setting
def test_activations_are_read_as_ever(
    setting: Any, lm: LanguageModel, tiny_lm_folder: Path, marked_corpus: Path, written_cache: Path
) -> None:
    def read(lm: LanguageModel) -> dict[str, Any]:
        stores = {"live": live_store(lm, marked_corpus), "cached": cached_store(written_cache)}
        texts = iter(["The judge forbids the clause. A comet eclipses the moon."] * 4)
        buffer = ActivationBuffer(texts, lm, 2, out_batch_size=8, device="cpu", log=lambda line: None)
        return {
            **{f"{name} pairs": next(store.pairs(8)) for name, store in stores.items()},
            **{f"{name} random": next(store.pairs(8, mode="random")) for name, store in stores.items()},
            **{f"{name} means": next(store.means(8, "document")) for name, store in stores.items()},
            **{f"{name} texts": next(store.sequences(2)).x_NLD for name, store in stores.items()},
            "buffer": next(buffer),
        }

    right = read(lm)
    with setting():
        found = read(LanguageModel.load(str(tiny_lm_folder), device="cpu"))
    same(found, right)


@each_setting
def test_texts_are_encoded_and_dictionaries_evaluated_as_ever(
    setting: Any, lm: LanguageModel, runs: Path, written_cache: Path
) -> None:
    def seen() -> dict[str, Any]:
        dictionary, _ = load_dictionary(runs / "grouped", device="cpu")
        codes = lm.encode(["The judge forbids the clause.", "A comet."], dictionary, layer=2)
        contexts = list(cached_store(written_cache, "eval").contexts(8))
        return {"codes": codes.codes_BLF, "said": evaluate(dictionary, contexts, lm=lm, layer=2)}

    right = seen()
    with setting():
        found = seen()
    same(found, right)


# --- what a caller has put around a language model ---


def test_a_model_in_data_parallel_is_read_like_the_model(lm: LanguageModel) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        around = [DataParallel(lm.model), DistributedDataParallel(lm.model.requires_grad_())]
    finally:
        dist.destroy_process_group()
    for model in around:
        wrapped = LanguageModel.wrap(model, lm.tokenizer)
        assert wrapped.model is lm.model
        assert wrapped.place_of(get_submodule(model, 2)).layer == 2
