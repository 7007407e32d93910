"""Several layers in one pass of the language model: a cache each, with the bytes of one written alone."""

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import cut_short, flip_a_byte, index, refused, shards, write
from safetensors import safe_open
from stopping import stop_at

from dictionary_learning import train_baseline
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.shard import file_sha256
from dictionary_learning.language_model import LanguageModel, Place

LAYERS = (0, 1, 3)


def flags_of(cache_flags: list[str], *layers: int, site: str = "resid") -> list[str]:
    """The small cache's flags with other layers."""
    at = cache_flags.index("--layer")
    rest = [*cache_flags[:at], *cache_flags[at + 2 :]]
    return [*rest, "--layer", *map(str, layers), "--site", site]


@pytest.fixture(scope="module", params=["resid", "mlp"])
def site(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def alone(cache_flags: list[str], site: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches of one layer each, written one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    for layer in LAYERS:
        write(*flags_of(cache_flags, layer, site=site), "--activations", str(folder / f"layer_{layer}"))
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every shard below a folder, by its name there."""
    return {
        str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[Place]]:
    """The places of every pass of the language model."""
    passes: list[list[Place]] = []
    record = LanguageModel.record_several

    def counting(self: LanguageModel, tokens_BL: Any, mask_BL: Any, layers: Any) -> list[torch.Tensor]:
        passes.append(list(layers))
        return record(self, tokens_BL, mask_BL, layers)

    monkeypatch.setattr(LanguageModel, "record_several", counting)
    return passes


def test_layers_of_one_pass_have_the_bytes_of_caches_that_are_written_alone(
    cache_flags: list[str], alone: Path, site: str, tmp_path: Path, counted: list[list[Place]]
) -> None:
    write(*flags_of(cache_flags, *LAYERS, site=site), "--activations", str(tmp_path / "together"))
    assert hashes(tmp_path / "together") == hashes(alone)
    assert {tuple(places) for places in counted} == {tuple(Place(n, site=site) for n in LAYERS)}
    n_passes = len(counted)
    counted.clear()
    write(*flags_of(cache_flags, LAYERS[0], site=site), "--activations", str(tmp_path / "single"))
    assert len(counted) == n_passes
    for layer in LAYERS:
        told = index(tmp_path / "together" / f"layer_{layer}")
        expected = index(alone / f"layer_{layer}")
        for part in (told, expected):
            del part["provenance"]
            for shard in part["parts"]["train"]["shards"]:
                del shard["mtime_ns"]
        assert told == expected
        assert (told["options"]["layer"], told["options"]["site"]) == (layer, site)


def test_the_texts_are_tokenised_as_often_as_for_one_layer(
    cache_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dictionary_learning.activations import contexts

    calls: list[int] = []
    token_ids = contexts.token_ids
    monkeypatch.setattr(contexts, "token_ids", lambda *arguments: calls.append(1) or token_ids(*arguments))
    write(*flags_of(cache_flags, 0), "--activations", str(tmp_path / "one"))
    n_calls = len(calls)
    calls.clear()
    write(*flags_of(cache_flags, 0, 1, 3), "--activations", str(tmp_path / "three"))
    assert len(calls) == n_calls


def test_a_shard_says_its_site_unless_it_is_the_residual_stream(alone: Path, site: str) -> None:
    with safe_open(shards(alone / "layer_1")[0], "pt") as file:
        facts = file.metadata()
    assert facts["layer"] == "1"
    assert facts.get("site") == (None if site == "resid" else site)
    store = ActivationCache.open(alone / "layer_1").store(log=lambda line: None)
    assert (store.config["layer"], store.config["site"]) == (1, site)


def test_the_activations_are_those_of_the_place(alone: Path, site: str, tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    batch = next(ActivationCache.open(alone / "layer_3").store(log=lambda line: None).contexts(4))
    real_NL = batch.mask_NL | (batch.tokens_NL != 0)
    x_NLD = lm.record(batch.tokens_NL.long(), real_NL, Place(3, site=site))
    torch.testing.assert_close(batch.x_NLD[batch.mask_NL], x_NLD[batch.mask_NL], rtol=1e-4, atol=1e-5)


# --- gone on with ---


@pytest.fixture
def together(cache_flags: list[str], tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    write(*flags_of(cache_flags, 0, 3), "--activations", str(folder), "--max_tokens", "2500")
    return folder


@pytest.mark.parametrize("damage", [cut_short, flip_a_byte])
def test_only_what_is_damaged_of_one_layer_is_recorded_again(
    together: Path, damage: Callable[[Path], None], counted: list[list[Place]]
) -> None:
    before = hashes(together)
    times = {path: path.stat().st_mtime_ns for path in shards(together / "layer_0")}
    damage(together / "layer_3")
    write("--activations", str(together))
    assert hashes(together) == before
    assert {tuple(places) for places in counted} == {(Place(3),)}
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_is_complete_is_left_and_verified_as_a_whole(
    together: Path, capsys: pytest.CaptureFixture[str], counted: list[list[Place]]
) -> None:
    write("--activations", str(together))
    write("--activations", str(together), "--layer", "0", "3")
    assert not counted
    capsys.readouterr()
    write("--activations", str(together), "--verify")
    told = capsys.readouterr().err
    assert [told.count(f"every shard of {together / name} is") for name in ("layer_0", "layer_3")] == [1, 1]
    flip_a_byte(together / "layer_3", keep_time=True)
    assert "has changed since" in refused(capsys, lambda: write("--activations", str(together), "--verify"))


def test_another_layer_comes_later_with_the_options_of_those_that_are_there(
    cache_flags: list[str], together: Path, tmp_path: Path, counted: list[list[Place]]
) -> None:
    write("--activations", str(together), "--layer", "1", "--max_tokens", "2500")
    assert {tuple(places) for places in counted} == {(Place(1),)}
    alone = tmp_path / "alone"
    write(*flags_of(cache_flags, 1), "--activations", str(alone), "--max_tokens", "2500")
    assert hashes(together / "layer_1") == hashes(alone)


def test_another_part_is_added_to_all_layers(together: Path, counted: list[list[Place]]) -> None:
    write("--activations", str(together), "--parts", "eval")
    assert {tuple(places) for places in counted} == {(Place(0), Place(3))}
    for layer in (0, 3):
        cache = ActivationCache.open(together / f"layer_{layer}")
        assert cache.is_written(["train", "eval"])


def test_layers_that_were_killed_and_stopped_end_with_the_bytes_of_those_that_were_not(
    cache_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*flags_of(cache_flags, 0, 3), "--lm_batch_size", "1", "--max_tokens", "2500"]
    write(*flags, "--activations", str(tmp_path / "whole"))
    read = "dictionary_learning.language_model.LanguageModel.record_several"
    here = ["cache_activations", "--activations", "cut"]
    code, _ = stop_at(90, read, signal.SIGKILL, *here, *flags, cwd=tmp_path)
    assert code == -signal.SIGKILL
    assert len(list((tmp_path / "cut").rglob("*.part"))) >= 2  # of each layer; the next ones are begun ahead
    code, said = stop_at(40, read, signal.SIGINT, *here, cwd=tmp_path)
    assert code == 130, said
    [told] = [line for line in said.splitlines() if "to go on: " in line]
    monkeypatch.chdir(tmp_path)
    write(*shlex.split(told.partition("to go on: ")[2])[2:])
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert not list((tmp_path / "cut").rglob("*.part"))


# --- refused ---


def test_the_folder_of_several_layers_is_no_cache_and_says_what_is_in_it(
    together: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--arch", "batch_top_k", "--checkpoints_path", str(tmp_path), "--run_name", "run"]
    told = refused(capsys, lambda: train_baseline.main([*words, "--activations", str(together)]))
    assert (
        f"holds the caches of several layers (layer_0, layer_3): give one of them, such as {together}" in told
    )
    assert not (tmp_path / "run").exists()


def test_several_layers_do_not_go_into_the_folder_of_one(
    written_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, lambda: write("--activations", str(written_cache), "--layer", "2", "3"))
    assert "holds the cache of a single layer" in told
    assert not list(written_cache.glob("layer_*"))


def test_layers_of_other_options_are_not_written_together(
    cache_flags: list[str], together: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(*flags_of(cache_flags, 1, site="attn"), "--activations", str(together / "layer_1"))
    told = refused(capsys, lambda: write("--activations", str(together)))
    assert "--site resid (the cache has attn); caches that are written together" in told


def test_layers_of_other_texts_are_not_written_together(
    together: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = together / "layer_3" / "index.json"
    content = json.loads(path.read_text())
    content["parts"]["train"]["shards"][0]["texts_sha256"] = "0"
    path.write_text(json.dumps(content))
    shards(together / "layer_0")[0].unlink()
    assert "begun with other texts" in refused(capsys, lambda: write("--activations", str(together)))


def test_a_model_without_such_an_output_is_refused_before_anything_is_written(
    cache_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dictionary_learning.language_model import decoder_layers

    monkeypatch.setitem(decoder_layers._MODULES, "mlp", ("elsewhere",))
    words = [*flags_of(cache_flags, 0, 1, site="attn"), "--activations", str(tmp_path / "cache")]
    told = refused(capsys, lambda: write(*words))
    assert "LlamaDecoderLayer has no module named elsewhere (it has self_attn, mlp," in told
    assert list(tmp_path.iterdir()) == []


def test_a_cache_from_before_there_were_sites_is_of_the_residual_stream(cache_copy: Path) -> None:
    path = cache_copy / "index.json"
    content = json.loads(path.read_text())
    del content["options"]["site"]
    path.write_text(json.dumps(content))
    cache = ActivationCache.open(cache_copy)
    assert cache.place == Place(2)
    assert cache.store(log=lambda line: None).config["site"] == "resid"
    write("--activations", str(cache_copy))
