"""Activations that were harvested elsewhere become a cache that training and experiments read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dictionary_learning import cache_activations, train_temporal
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.command.files import save_text
from dictionary_learning.command.lock import locked
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel

LAYER, LENGTH = 2, 24


@pytest.fixture(scope="module")
def lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture(scope="module")
def harvest(lm: LanguageModel, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody's own script leaves: padded rows of texts, on the left for every second."""
    texts = [json.loads(line)["text"] for line in tiny_corpus.read_text().splitlines()][:40]
    tokens_NL, mask_NL, _ = lm.tokenize(texts, LENGTH)
    mask_NL[0, 20:] = False
    x_NLD = lm.record(tokens_NL, mask_NL, LAYER).float()
    for row in range(1, len(texts), 2):
        shift = int((~mask_NL[row]).sum())
        tokens_NL[row], mask_NL[row], x_NLD[row] = (
            one[row].roll(shift, 0) for one in (tokens_NL, mask_NL, x_NLD)
        )
    folder = tmp_path_factory.mktemp("harvest")
    np.save(folder / "activations.npy", x_NLD.half().numpy())
    np.save(folder / "tokens.npy", tokens_NL.numpy())
    np.save(folder / "mask.npy", mask_NL.numpy())
    return folder


@pytest.fixture(scope="module")
def flags(tiny_lm_folder: Path) -> list[str]:
    return ["--model", str(tiny_lm_folder), "--layer", str(LAYER), "--device", "cpu", "--eval_share", "0.3"]


def imported(harvest: Path, folder: Path, flags: list[str], *more: str) -> ActivationCache:
    cache_activations.main(["--harvest", str(harvest), "--activations", str(folder), *flags, *more])
    return ActivationCache.open(folder)


def rows_of(cache: ActivationCache) -> dict[bytes, torch.Tensor]:
    """The usable activations of each context, by its tokens."""
    found = {}
    for part in cache.parts:
        for batch in cache.store(part, max_norm_ratio=None, log=lambda line: None).contexts(4):
            for x_LD, mask_L, tokens_L in zip(batch.x_NLD, batch.mask_NL, batch.tokens_NL, strict=True):
                found[tokens_L[mask_L].numpy().tobytes()] = x_LD[mask_L]
    return found


def test_a_folder_of_npy_files_becomes_a_cache(
    harvest: Path, flags: list[str], lm: LanguageModel, tmp_path: Path
) -> None:
    cache = imported(harvest, tmp_path / "cache", flags)
    assert set(cache.parts) == {"train", "eval"}
    tokens_NL, mask_NL = (np.load(harvest / f"{name}.npy") for name in ("tokens", "mask"))
    x_NLD = np.load(harvest / "activations.npy")
    special = sorted(lm.special_ids)
    expected = {}
    for tokens_L, mask_L, x_LD in zip(tokens_NL, mask_NL, x_NLD, strict=True):
        is_text = mask_L & ~np.isin(tokens_L, special)
        if is_text.sum() >= 2:
            expected[tokens_L[is_text].astype(np.int32).tobytes()] = torch.from_numpy(x_LD[is_text]).float()
    found = rows_of(cache)
    assert found.keys() == expected.keys()
    for key, x in expected.items():
        torch.testing.assert_close(found[key], x)
    assert cache.facts["weights_sha256"]
    assert cache.options["context_length"] == LENGTH


def test_training_reads_it(harvest: Path, flags: list[str], tmp_path: Path) -> None:
    imported(harvest, tmp_path / "cache", flags)
    words = "--batch_size 16 --dict_size 64 --k 4 --steps 6 --warmup_steps 2 --device cpu --run_name t"
    place = ["--activations", str(tmp_path / "cache"), "--checkpoints_path", str(tmp_path)]
    train_temporal.main([*words.split(), *place, "--calibration_tokens", "64"])
    assert (tmp_path / "t" / "trainer_0" / "ae.pt").is_file()


def test_safetensors_flat_arrays_and_small_shards_give_the_same_contexts(
    harvest: Path, flags: list[str], tmp_path: Path
) -> None:
    arrays = {
        name: torch.from_numpy(np.load(harvest / f"{name}.npy")) for name in ("activations", "tokens", "mask")
    }
    save_file(arrays, tmp_path / "one.safetensors")
    first = imported(harvest, tmp_path / "a", flags)
    second = imported(tmp_path / "one.safetensors", tmp_path / "b", flags, "--memory", "40KB")
    assert len(second.parts["train"].shards) > 1
    mask_NL = arrays["mask"]
    rows = torch.arange(len(mask_NL))[:, None].expand_as(mask_NL)
    (tmp_path / "flat").mkdir()
    np.save(tmp_path / "flat" / "activations.npy", arrays["activations"][mask_NL].numpy())
    np.save(tmp_path / "flat" / "input_ids.npy", arrays["tokens"][mask_NL].numpy())
    np.save(tmp_path / "flat" / "documents.npy", rows[mask_NL].numpy())
    third = imported(tmp_path / "flat", tmp_path / "c", flags, "--context_length", str(LENGTH))
    expected = rows_of(first)
    for cache in (second, third):
        found = rows_of(cache)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_second_import_into_the_same_folder_leaves_the_first_one_at_work(
    harvest: Path, flags: list[str], tmp_path: Path
) -> None:
    at_work = tmp_path / ".cache.import"
    with locked(at_work, "importing activations into"):
        save_text(at_work / "cache" / "train-00000.safetensors.part", "half")
        with pytest.raises(UserError, match=r"importing activations into .*wait for it"):
            imported(harvest, tmp_path / "cache", flags)
        assert [path.name for path in (at_work / "cache").iterdir()] == ["train-00000.safetensors.part"]
    assert imported(harvest, tmp_path / "cache", flags).parts  # as if that one had been killed
    assert not at_work.exists()


def test_another_layer_width_or_model_is_refused_and_nothing_is_left(
    harvest: Path, flags: list[str], tmp_path: Path
) -> None:
    def refused(source: Path, *more: str) -> str:
        with pytest.raises(UserError) as error:
            imported(source, tmp_path / "cache", flags, *more)
        assert not (tmp_path / "cache").exists()
        assert not (tmp_path / ".cache.import").exists()
        return str(error.value)

    assert "has other activations at layer 1 than" in refused(harvest, "--layer", "1")
    copies = {name: np.load(harvest / f"{name}.npy") for name in ("activations", "tokens", "mask")}

    def saved(name: str, **changed: np.ndarray | None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for key, array in {**copies, **changed}.items():
            if array is not None:
                np.save(folder / f"{key}.npy", array)
        return folder

    x, tokens = copies["activations"], copies["tokens"]
    assert "has activations of width 8" in refused(saved("narrow", activations=x[..., :8]))
    assert "has no tokens" in refused(saved("bare", tokens=None))
    assert "activations of shape" in refused(saved("short", tokens=tokens[:, :-1]))
    assert "must be whole numbers" in refused(saved("floats", tokens=tokens.astype(np.float32)))
    assert "nothing says where a document ends" in refused(
        saved("flat", activations=x[0], tokens=tokens[0], mask=None)
    )
    broken = x.copy()
    broken[10, 5] = np.nan
    assert "not finite at row 10, position 5" in refused(saved("nan", activations=broken))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    np.save(pickled / "activations.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "is no array of numbers" in refused(pickled)
    assert "check --harvest" in refused(tmp_path / "nowhere")
    (tmp_path / "cut.safetensors").write_bytes(b"\1\2")
    assert "damaged or cut short" in refused(tmp_path / "cut.safetensors")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(UserError, match="is there already"):
        imported(harvest, tmp_path / "full", flags)
    with pytest.raises(UserError, match="a folder of this machine"):
        imported(harvest, Path("x"), [*flags, "--activations", "memory://cache"])
    for lacking in (["--model", "demo"], ["--layer", "2"], ["--model", "demo", "--layer", "1", "2"]):
        with pytest.raises(UserError, match="needs the --model and the one --layer"):
            cache_activations.main(
                ["--harvest", str(harvest), "--activations", str(tmp_path / "x"), *lacking]
            )


def test_without_the_model_the_mask_says_what_is_text(harvest: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from caches import forbid_language_model

    forbid_language_model(monkeypatch)
    words = ["--model", "nobody/knows", "--layer", "2", "--no_compare"]
    cache = imported(harvest, tmp_path / "cache", words)
    assert cache.facts["weights_sha256"] is None
    cache.check_model({"tokenizer_sha256": "any", "weights_sha256": "any"})
    mask_NL = np.load(harvest / "mask.npy")
    n = sum(entry.n_positions for part in cache.parts.values() for entry in part.shards)
    assert n == int(mask_NL.sum())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_activation_that_is_not_finite_is_told_with_its_place_also_where_the_model_reads_it_again(
    value: float, harvest: Path, flags: list[str], tmp_path: Path
) -> None:
    shutil.copytree(harvest, tmp_path / "bad")
    x_NLD = np.load(harvest / "activations.npy")
    x_NLD[0, 7, 3] = value
    np.save(tmp_path / "bad" / "activations.npy", x_NLD)
    with pytest.raises(UserError, match=r"not finite at row 0, position 7: harvest them in float32 or"):
        imported(tmp_path / "bad", tmp_path / "cache", flags)
    assert not (tmp_path / "cache").exists()
    mask_NL = np.load(harvest / "mask.npy")
    mask_NL[0, 7:] = False
    np.save(tmp_path / "bad" / "mask.npy", mask_NL)
    imported(tmp_path / "bad", tmp_path / "cache", flags)
