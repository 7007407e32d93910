"""An activation cache at a URL: written there, read from there in bounded room, and what is refused."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import cached_store, forbid_language_model, index, refused, shards, write
from stores import ShakyStore, names, on_machine, put, put_folder, stored

from dictionary_learning import cache_activations, eval_temporal, train_temporal
from dictionary_learning.activations import shard_files
from dictionary_learning.activations.backstage import Backstage
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.remote.path import RemotePath

SMALL = ["--steps", "5", "--batch_size", "64", "--dict_size", "64", "--k", "4", "--device", "cpu"]


@pytest.fixture
def url(stores: Path, written_cache: Path) -> str:
    """The cache of the other tests, at a URL."""
    return put_folder(written_cache, "bucket/cache")


def shard_bytes(folder: Path) -> int:
    return max(path.stat().st_size for path in shards(folder))


def fetched(machine: Path) -> list[Path]:
    folder = machine / "shards"
    return (
        [path for path in folder.iterdir() if not path.suffix and path.name != ".lock"]
        if folder.exists()
        else []
    )


def batches(store: Any, n: int = 40) -> Iterator[torch.Tensor]:
    for _, batch in zip(range(n), store.pairs(50, seed=3), strict=False):
        yield batch


def test_it_gives_the_batches_of_the_one_here(url: str, written_cache: Path) -> None:
    for here, there in zip(batches(cached_store(written_cache)), batches(cached_store(url)), strict=True):
        assert torch.equal(here, there)


def test_shards_are_fetched_once_for_any_number_of_passes_and_readers(url: str, written_cache: Path) -> None:
    shaky = url.replace("memory", "shaky")
    for _ in range(2):
        store = cached_store(shaky)
        for _ in range(2):
            list(store.contexts(50))
    assert ShakyStore.calls.count("get") == len(list(written_cache.glob("train*")))


def test_a_bound_of_one_shard_is_enough_and_is_kept(url: str, written_cache: Path, stores: Path) -> None:
    bound = shard_bytes(written_cache)
    store = ActivationCache.open(url, str(bound)).store("train", log=lambda line: None)
    most = 0
    for here, there in zip(cached_store(written_cache).contexts(50), store.contexts(50), strict=True):
        assert torch.equal(here.x_NLD, there.x_NLD)
        most = max(most, sum(path.stat().st_size for path in fetched(stores)))
    assert 0 < most <= bound


def test_a_bound_below_a_shard_is_refused(
    url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [*SMALL, "--activations", url, "--local_cache", "1KB", "--checkpoints_path", str(tmp_path)]
    said = refused(capsys, lambda: train_temporal.main([*words, "--run_name", "mine"]))
    assert "does not fit into the 1 KB of --local_cache: give more" in said
    assert not (tmp_path / "mine").exists()


def test_the_next_shard_is_fetched_while_one_is_read(url: str, written_cache: Path, stores: Path) -> None:
    cache = ActivationCache.open(url)
    store = cache.store("train", log=lambda line: None)
    next(iter(store.contexts(50)))
    assert cache.files._fetching is not None  # type: ignore[attr-defined]
    cache.files._fetching.join(60)  # type: ignore[attr-defined]
    following = [entry["sha256"] for entry in index(written_cache)["parts"]["train"]["shards"][:2]]
    assert sorted(path.name for path in fetched(stores)) == sorted(following)


def test_a_damaged_shard_is_refused_when_it_is_fetched(url: str, written_cache: Path) -> None:
    name = shards(written_cache)[-1].name
    damaged = bytearray(stored(f"bucket/cache/{name}"))
    damaged[-1000] ^= 255
    put(f"bucket/cache/{name}", bytes(damaged))
    part = name.partition("-")[0]
    with pytest.raises(UserError, match=f"memory://bucket/cache/{name} has changed since it was written"):
        list(cached_store(url, part).contexts(50))


def test_a_missing_and_a_cut_shard_are_told_before_any_is_fetched(
    url: str, written_cache: Path, stores: Path
) -> None:
    name = next(path.name for path in shards(written_cache) if path.name.startswith("train"))
    content = stored(f"bucket/cache/{name}")
    put(f"bucket/cache/{name}", content[:-8])
    with pytest.raises(
        UserError, match=f"{name} is {len(content) - 8:,} bytes long instead of {len(content):,}"
    ):
        cached_store(url)
    RemotePath(f"{url}/{name}").unlink()
    with pytest.raises(UserError, match=f"memory://bucket/cache/{name} is missing: write it again"):
        cached_store(url)
    assert not fetched(stores)


def test_a_training_from_a_url_ends_with_the_weights_of_one_from_here(
    url: str, written_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_language_model(monkeypatch)
    for place in (url, str(written_cache)):
        words = [*SMALL, "--activations", place, "--checkpoints_path", str(tmp_path)]
        train_temporal.main([*words, "--run_name", "there" if place == url else "here"])
    here, there = (load_weights(tmp_path / run / "trainer_0" / "ae.pt") for run in ("here", "there"))
    assert all(torch.equal(here[name], there[name]) for name in here)
    config = (tmp_path / "there" / "config.yaml").read_text()
    assert f"activations: {url}\n" in config


def test_a_run_is_gone_on_with_from_a_cache_that_was_moved_to_a_url(
    url: str, written_cache: Path, tmp_path: Path
) -> None:
    words = ["--checkpoints_path", str(tmp_path), "--run_name", "mine"]

    def interrupt(self: Any, interruption: Any) -> None:
        self.keeper.save_state_once()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as stopped:
        stopped.setattr("dictionary_learning.runs.loop._Loop._finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_temporal.main([*SMALL, *words, "--activations", str(written_cache)])
    train_temporal.main([*words, "--resume", "--activations", url])
    assert (tmp_path / "mine" / "trainer_0" / "ae.pt").is_file()


def test_it_is_evaluated_on(url: str, written_cache: Path, tmp_path: Path) -> None:
    words = ["--checkpoints_path", str(tmp_path), "--run_name", "mine"]
    train_temporal.main([*SMALL, *words, "--activations", url])
    results = []
    for place in (url, str(written_cache)):
        eval_temporal.main([*words, "--activations", place, "--no_lm_loss"])
        results.append(
            json.loads((tmp_path / "mine" / "trainer_0" / "eval_results.json").read_text())["measures"]
        )
    assert results[0] == results[1]


# --- written there ---


def test_what_is_written_at_a_url_is_what_is_written_here(
    cache_flags: list[str], written_cache: Path, stores: Path
) -> None:
    write(*cache_flags, "--activations", "memory://bucket/new", "--parts", "train", "eval")
    assert names("bucket/new") == sorted(path.name for path in written_cache.iterdir())
    for path in shards(written_cache):
        assert stored(f"bucket/new/{path.name}") == path.read_bytes()
    assert not list((stores / "mirrors").rglob("*.safetensors*")), "no shard stays where it was filled"


def test_what_was_written_there_need_not_be_fetched_by_a_training_on_the_same_machine(
    cache_flags: list[str], stores: Path
) -> None:
    write(*cache_flags, "--activations", "shaky://bucket/new")
    list(cached_store("shaky://bucket/new").contexts(50))
    assert "get" not in ShakyStore.calls


def test_the_index_says_of_no_shard_that_it_is_there_before_it_is(
    cache_flags: list[str], stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, told = RemotePath.upload, []

    def watched(self: RemotePath, source: Path, *arguments: Any, **options: Any) -> None:
        if source.name == "index.json":
            parts = json.loads(source.read_text())["parts"]
            done = [shard["file"] for shard in parts["train"]["shards"] if shard["sha256"]]
            told.append(len(done))
            assert set(done) <= set(names("bucket/new"))
        upload(self, source, *arguments, **options)

    monkeypatch.setattr(RemotePath, "upload", watched)
    write(*cache_flags, "--activations", "memory://bucket/new")
    assert told == list(range(max(told) + 1))


def test_a_shard_that_was_sent_is_recorded_where_the_next_one_fails_before_anybody_looks(
    cache_flags: list[str], stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, look = RemotePath.upload, Backstage.newly_finished

    def lost(self: RemotePath, source: Path, *arguments: Any, **options: Any) -> None:
        if source.name == "train-00000.safetensors":
            time.sleep(0.5)  # the next one is full by then
        if source.name == "train-00001.safetensors":
            raise UserError(f"{self} cannot be reached.")
        upload(self, source, *arguments, **options)

    def late(self: Backstage) -> Any:
        if len(self._finished) < 2:
            return iter(())
        wait(self._finished.values())
        return look(self)

    monkeypatch.setattr(RemotePath, "upload", lost)
    monkeypatch.setattr(Backstage, "newly_finished", late)
    with pytest.raises(UserError, match="cannot be reached"):
        write(*cache_flags, "--activations", "memory://bucket/new")
    with pytest.raises(UserError, match=r"memory://bucket/new is half-written \(1 of"):
        cached_store("memory://bucket/new")


@pytest.mark.parametrize("same_machine", [True, False])
def test_it_is_gone_on_with_after_a_connection_was_lost(
    cache_flags: list[str],
    written_cache: Path,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_machine: bool,
) -> None:
    """The second shard is full when it cannot be sent; on the same machine nothing of it is made again."""
    upload, seen = RemotePath.upload, []

    def lost(self: RemotePath, source: Path, *arguments: Any, **options: Any) -> None:
        seen.append(source.name)
        if source.name == "train-00001.safetensors":
            raise UserError(f"{self} cannot be reached.")
        upload(self, source, *arguments, **options)

    url = "memory://bucket/new"
    with monkeypatch.context() as patched:
        patched.setattr(RemotePath, "upload", lost)
        with pytest.raises(UserError, match="cannot be reached"):
            write(*cache_flags, "--activations", url)
    assert names("bucket/new") == ["index.json", "train-00000.safetensors"]
    with pytest.raises(UserError, match=r"memory://bucket/new is half-written \(1 of"):
        cached_store(url)
    if not same_machine:
        on_machine(tmp_path / "other", monkeypatch)
    recorded, record = [0], LanguageModel.record_several

    def watched(self: LanguageModel, tokens_BL: Any, mask_BL: Any, layers: Any) -> Any:
        recorded[0] += int(mask_BL.sum())
        return record(self, tokens_BL, mask_BL, layers)

    monkeypatch.setattr(LanguageModel, "record_several", watched)
    write("--activations", url)
    sizes = [shard["n_positions"] for shard in index(written_cache)["parts"]["train"]["shards"]]
    # where the second shard is full, none of it is made again, and the third may have been begun
    assert recorded[0] <= sum(sizes[2:]) if same_machine else recorded[0] == sum(sizes[1:])
    for path in written_cache.glob("train*"):
        assert stored(f"bucket/new/{path.name}") == path.read_bytes()


def test_a_shard_that_was_damaged_there_is_written_again_when_its_length_tells(
    cache_flags: list[str], url: str, written_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(path.name for path in shards(written_cache) if path.name.startswith("train"))
    put(f"bucket/cache/{name}", b"short")
    write("--activations", url)
    assert f"memory://bucket/cache/{name} is not as it was written" in capsys.readouterr().err
    assert stored(f"bucket/cache/{name}") == (written_cache / name).read_bytes()


def test_a_complete_one_is_said_to_be_and_another_part_is_added(
    cache_flags: list[str], stores: Path, written_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "memory://bucket/new"
    write(*cache_flags, "--activations", url)
    write("--activations", url)
    assert "memory://bucket/new is complete" in capsys.readouterr().err
    write("--activations", url, "--parts", "eval")
    assert names("bucket/new") == sorted(path.name for path in written_cache.iterdir())


def test_several_layers_are_written_there_together_and_found_again(
    cache_flags: list[str], stores: Path, written_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [word for word in cache_flags if word not in ("--layer", "2")]
    url = "memory://bucket/layers"
    write(*flags, "--layer", "1", "2", "--activations", url)
    for path in written_cache.glob("train*"):
        assert stored(f"bucket/layers/layer_2/{path.name}") == path.read_bytes()
    write("--activations", url, "--verify")
    said = capsys.readouterr().err
    assert "every shard of memory://bucket/layers/layer_1 is" in said
    assert "every shard of memory://bucket/layers/layer_2 is" in said
    with pytest.raises(UserError, match=r"holds the caches of several layers \(layer_1, layer_2\)"):
        cached_store(url)
    cached_store(f"{url}/layer_2")


def test_every_shard_is_verified_by_reading_it(
    url: str, written_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("--activations", url, "--verify")
    assert "every shard of memory://bucket/cache is as it was written" in capsys.readouterr().err
    name = shards(written_cache)[0].name
    damaged = bytearray(stored(f"bucket/cache/{name}"))
    damaged[-1] ^= 1
    put(f"bucket/cache/{name}", bytes(damaged))
    with pytest.raises(UserError, match=f"{name} has changed since it was written"):
        write("--activations", url, "--verify")


def test_only_the_largest_shard_has_to_fit_on_this_disk(
    cache_flags: list[str], stores: Path, tmp_path: Path, written_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shard_bytes(written_cache) + 2**14
    usage = shutil.disk_usage(tmp_path)
    small = type(usage)(usage.total, usage.used, room)
    monkeypatch.setattr("dictionary_learning.activations.cache_plan.shutil.disk_usage", lambda path: small)
    with pytest.raises(UserError, match="the activations take another"):
        write(*cache_flags, "--activations", str(tmp_path / "here"))
    write(*cache_flags, "--activations", "memory://bucket/new")


# --- refused ---


@pytest.mark.parametrize(
    ("activations", "said"),
    [
        ("memory://bucket/none", "there is no folder memory://bucket/none: write a cache with"),
        ("memory://bucket/other", "memory://bucket/other is no activation cache (it has no index.json)"),
        ("memory://bucket/bad", "memory://bucket/bad/index.json is damaged or of another kind"),
        ("memory://bucket/a.txt", "there is no folder memory://bucket/a.txt"),
        ("memory://bucket/out", "memory://bucket/out/index.json is damaged"),
        ("mem0ry://bucket/cache", "which fsspec does not know: did you mean memory://?"),
        ("shaky://bucket/cache", "cannot be reached (reset by peer)"),
    ],
)
def test_what_is_no_cache_is_refused_before_a_run_begins(
    stores: Path,
    written_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    activations: str,
    said: str,
) -> None:
    put("bucket/other/a.txt", "A")
    put("bucket/a.txt", "A")
    put("bucket/bad/index.json", "{")
    leads_out = index(written_cache)
    leads_out["parts"]["train"]["shards"][0]["sha256"] = "../../" + 64 * "0"
    put("bucket/out/index.json", json.dumps(leads_out))
    ShakyStore.drops = 1000
    words = [*SMALL, "--activations", activations, "--checkpoints_path", str(tmp_path / "runs")]
    assert said in refused(capsys, lambda: train_temporal.main(words))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("activations", "said"),
    [
        ("memory://bucket/other", "memory://bucket/other is not empty and holds no activation cache"),
        ("memory://bucket/a.txt", "memory://bucket/a.txt is a file: give the folder that it is in"),
        ("shaky://bucket/new", "shaky://bucket/new/.claim.json may not be written (read-only credentials)"),
    ],
)
def test_where_none_can_be_written_is_told_before_the_model_is_loaded(
    cache_flags: list[str],
    stores: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    activations: str,
    said: str,
) -> None:
    forbid_language_model(monkeypatch)
    put("bucket/other/a.txt", "A")
    put("bucket/a.txt", "A")
    ShakyStore.refuses = True
    words = [*cache_flags, "--activations", activations]
    assert said in refused(capsys, lambda: cache_activations.main(words))


def test_texts_with_a_secret_are_recorded_without_it_and_asked_for_again(
    cache_flags: list[str], stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """memory:// has no passwords, so the secret stands where one would in the name of a folder."""
    at = cache_flags.index("--dataset")
    corpus = Path(cache_flags[at + 1])
    dataset = put("ann:pa55word@bucket/texts.jsonl", corpus.read_bytes())
    others = [*cache_flags[:at], *cache_flags[at + 2 :]]
    url = "memory://bucket/new"
    write(*others, "--dataset", dataset, "--activations", url)
    assert b"pa55word" not in stored("bucket/new/index.json")
    last = names("bucket/new")[-1]
    RemotePath(f"{url}/{last}").unlink()
    with pytest.raises(UserError, match="was recorded without its secret: give the whole URL again"):
        write("--activations", url)
    write("--dataset", dataset, "--activations", url)
    assert last in names("bucket/new")


def test_a_cache_here_is_asked_for_nothing_at_a_url(
    written_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a URL was opened")

    monkeypatch.setattr("dictionary_learning.remote.path.open_file_system", refuse)
    list(cached_store(written_cache).contexts(50))
    assert type(ActivationCache.open(written_cache).files) is shard_files.FilesHere
    assert os.path.isdir(ActivationCache.open(written_cache).path)
