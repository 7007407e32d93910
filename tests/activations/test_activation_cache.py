"""The activation cache, read: the language model's batches from disk, and what is refused."""

import json
import os
import re
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from caches import (
    LAYER,
    LENGTH,
    MEMORY,
    ROWS,
    cached_store,
    contents,
    cut_short,
    flip_a_byte,
    forbid_language_model,
    index,
    live_store,
    refused,
    shards,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from dictionary_learning import eval_temporal, train_baseline, train_temporal
from dictionary_learning.activations.batches import PairView
from dictionary_learning.activations.block import TextPairs, told_tokens
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.store import Store
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation import report
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.utils import load_dictionary


@pytest.fixture(scope="module")
def lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture
def no_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_language_model(monkeypatch)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, TextPairs):
        return torch.equal(a.x_BLD, b.x_BLD) and torch.equal(a.text_B, b.text_B)
    return all(map(torch.equal, a, b)) if isinstance(a, tuple) else torch.equal(a, b)


# --- the same batches ---

VIEWS: dict[str, Callable[[Store], Any]] = {
    "tokens": lambda store: store.tokens(50, seed=5),
    "previous": lambda store: store.pairs(50, seed=5),
    "random": lambda store: store.pairs(50, mode="random", max_offset=4, seed=5),
    "of texts": lambda store: store.pairs(40, with_texts=True, pairs_per_text=9, seed=5),
    "sequences": lambda store: store.sequences(7, seed=5),
}


@pytest.mark.parametrize("view", VIEWS)
def test_batches_from_disk_are_those_of_the_language_model_bit_for_bit(
    written_cache: Path, lm: LanguageModel, marked_corpus: Path, view: str
) -> None:
    live, cached = VIEWS[view](live_store(lm, marked_corpus)), VIEWS[view](cached_store(written_cache))
    for _ in range(240):
        assert same(next(live), next(cached))
        assert live.state_dict() == cached.state_dict()
    assert live.epoch >= 1
    assert len(index(written_cache)["parts"]["train"]["shards"]) >= 4


@pytest.mark.parametrize("part", ["train", "eval"])
def test_an_ordered_pass_and_its_statistics_are_those_of_the_language_model(
    written_cache: Path, lm: LanguageModel, marked_corpus: Path, part: str
) -> None:
    limit = 100_000 if part == "eval" else None  # as --eval_tokens and --max_tokens are
    live, cached = live_store(lm, marked_corpus, part, max_tokens=limit), cached_store(written_cache, part)
    pairs = list(zip(live.contexts(8), cached.contexts(8), strict=True))
    assert all(same(*pair) for pair in pairs)
    assert live.statistics == cached.statistics
    assert live.statistics.n_special > 0
    assert live.statistics.n_high_norm > 0
    assert live.config == {name: cached.config[name] for name in live.config}


def test_a_cache_tells_which_tokens_its_norm_filter_drops_and_an_older_one_does_not(
    written_cache: Path, lm: LanguageModel, marked_corpus: Path, tmp_path: Path
) -> None:
    statistics = live_store(lm, marked_corpus)
    list(statistics.contexts(8))
    counts = statistics.statistics.high_norm_tokens(lm.tokenizer)
    often, n = next(iter(counts.items()))
    lines: list[str] = []
    cache = ActivationCache.open(written_cache)
    cache.store("train", log=lines.append)
    assert lines[-1].endswith(told_tokens(counts))
    assert f"{often!r} {n:,}" in lines[-1]
    cache.store("train", max_norm_ratio=None, log=lines.append)
    assert lines[-1].endswith("of the part 'train'")
    old = tmp_path / "old"
    shutil.copytree(written_cache, old)
    content = index(old)
    for part in content["parts"].values():
        for entry in part["shards"]:
            del entry["high_norm_tokens"]
    (old / "index.json").write_text(json.dumps(content))
    store = ActivationCache.open(old).store("train", log=lines.append)
    assert lines[-1].endswith("of the part 'train'")
    assert len(next(store.tokens(50))) == 50


def test_bfloat16_activations_take_half_and_are_the_same_batches(
    cache_flags: list[str], written_cache: Path, lm: LanguageModel, marked_corpus: Path, tmp_path: Path
) -> None:
    write(*cache_flags, "--activations", str(tmp_path / "half"), "--store_dtype", "bfloat16")
    live, cached = live_store(lm, marked_corpus, dtype=torch.bfloat16), cached_store(tmp_path / "half")
    assert all(same(a, b) for a, b in islice(zip(live.pairs(50), cached.pairs(50), strict=True), 200))
    sizes = [
        sum(path.stat().st_size for path in folder.glob("train*"))
        for folder in (written_cache, tmp_path / "half")
    ]
    # a position takes 32 * 4 + 9 bytes or 32 * 2 + 9, and its share of a context's 32
    assert sizes[1] / sizes[0] == pytest.approx((32 * 2 + 9 + 2) / (32 * 4 + 9 + 2), rel=0.03)


@given(view=st.sampled_from(sorted(VIEWS)), n_before=st.integers(0, 150))
@settings(max_examples=15)
def test_cached_batches_go_on_from_any_position_exactly(
    written_cache: Path, view: str, n_before: int
) -> None:
    batches = VIEWS[view](cached_store(written_cache))
    list(islice(batches, n_before))
    resumed = VIEWS[view](cached_store(written_cache))
    resumed.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    assert all(same(next(batches), next(resumed)) for _ in range(40))


def tokens_and_masks(store: Store) -> list[tuple[list[int], list[bool]]]:
    return [
        (tokens.tolist(), mask.tolist())
        for contexts in store.contexts(1)
        for tokens, mask in zip(contexts.tokens_NL, contexts.mask_NL, strict=True)
    ]


@given(max_tokens=st.integers(20, 4000), at_an_edge=st.booleans())
@settings(max_examples=25)
def test_fewer_tokens_of_a_cache_are_the_beginning_of_the_corpus(
    written_cache: Path, lm: LanguageModel, marked_corpus: Path, max_tokens: int, at_an_edge: bool
) -> None:
    if at_an_edge:
        starts = [shard["start"][2] for shard in index(written_cache)["parts"]["train"]["shards"][1:]]
        max_tokens = min(starts, key=lambda n: abs(n - max_tokens))
    live, cached = (
        live_store(lm, marked_corpus, max_tokens=max_tokens),
        cached_store(written_cache, max_tokens=max_tokens),
    )
    assert tokens_and_masks(cached) == tokens_and_masks(live)
    assert cached.statistics.n_tokens == live.statistics.n_tokens <= max_tokens


def test_another_norm_filter_needs_no_other_cache(
    written_cache: Path, lm: LanguageModel, marked_corpus: Path
) -> None:
    counts = set()
    for ratio in (1.1, 1.2, None):
        cached, live = (
            cached_store(written_cache, max_norm_ratio=ratio),
            live_store(lm, marked_corpus, max_norm_ratio=ratio),
        )
        assert tokens_and_masks(cached) == tokens_and_masks(live)
        counts.add(cached.statistics.n_tokens)
    assert len(counts) == 3
    assert cached_store(written_cache).config["max_norm_ratio"] == 1.2


def test_a_block_is_a_mapped_file_and_takes_no_memory_of_its_own(cache_copy: Path) -> None:
    store = cached_store(cache_copy)
    x_TD = store.block(next(iter(store._entries))).x_TD
    before = x_TD[3, 5].item()
    path = cache_copy / index(cache_copy)["parts"]["train"]["shards"][0]["file"]
    with safe_open(path, "pt") as file:
        assert file.get_tensor("x")[3, 5].item() == before
    header = int.from_bytes(path.read_bytes()[:8], "little")
    offset = json.loads(path.read_bytes()[8 : 8 + header])["x"]["data_offsets"][0]
    with open(path, "r+b") as file:
        file.seek(8 + header + offset + (3 * 32 + 5) * 4)
        file.write(torch.tensor([123.0]).numpy().tobytes())
    assert x_TD[3, 5].item() == 123.0


def test_a_shard_is_a_safetensors_file_that_says_what_it_is(
    written_cache: Path, tiny_lm_folder: Path
) -> None:
    for part, entries in index(written_cache)["parts"].items():
        for entry in entries["shards"]:
            with safe_open(written_cache / entry["file"], "pt") as file:
                n_positions, n_contexts = entry["n_positions"], entry["n_contexts"]
                assert n_positions <= ROWS
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
                assert shapes == {
                    "x": (n_positions, 32),
                    **dict.fromkeys(("norm", "tokens", "text"), (n_positions,)),
                    **dict.fromkeys(("documents", "positions", "numbers"), (n_contexts,)),
                    "starts": (n_contexts + 1,),
                }
                assert file.get_tensor("tokens").dtype == torch.int32
                norm_T = file.get_tensor("x").norm(dim=1)
                torch.testing.assert_close(file.get_tensor("norm"), norm_T)
                facts = file.metadata()
            assert (facts["part"], facts["model"], facts["layer"]) == (part, str(tiny_lm_folder), str(LAYER))


def test_the_parts_of_a_cache_share_no_document(written_cache: Path) -> None:
    documents = {
        part: {
            int(d) for contexts in cached_store(written_cache, part).contexts(10) for d in contexts.document_N
        }
        for part in ("train", "eval")
    }
    assert documents["train"]
    assert documents["eval"]
    assert not documents["train"] & documents["eval"]


# --- training and evaluation ---

SIZES = "--batch_size 64 --dict_size 64 --k 4 --steps 40 --warmup_steps 5 --lr 0.001 --log_steps 5"
SIZES += " --calibration_tokens 512"


def train(main: Callable[[list[str]], None], *words: str, run: str, folder: Path) -> Path:
    main([*words, *SIZES.split(), "--run_name", run, "--checkpoints_path", str(folder)])
    return folder / run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_weights(run / "trainer_0" / "ae.pt")


def same_weights(a: Path, b: Path) -> bool:
    return all(map(torch.equal, weights(a).values(), weights(b).values()))


@pytest.mark.parametrize("arch", ["temporal", "matryoshka"])
def test_training_from_a_cache_ends_with_the_weights_of_training_from_the_language_model(
    cache_flags: list[str], written_cache: Path, tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = train_temporal.main if arch == "temporal" else train_baseline.main
    which = [] if arch == "temporal" else ["--arch", arch]
    live = train(main, *cache_flags, *which, run="live", folder=tmp_path)

    forbid_language_model(monkeypatch)
    cached = train(main, *which, "--activations", str(written_cache), run="cached", folder=tmp_path)
    assert same_weights(live, cached)
    by_run = [load_dictionary(run, device="cpu")[1] for run in (live, cached)]
    # what a run records of its activations is the same, and where they came from beside it
    live_data, cached_data = (config["buffer"] for config in by_run)
    of_cache = {"activations", "cache_sha256", "tokenizer_sha256", "weights_sha256"}
    assert {name for name in cached_data if cached_data[name] != live_data.get(name)} == of_cache
    assert cached_data["activations"] == str(written_cache)


def test_training_from_a_cache_needs_no_model_folder_and_runs_from_another_directory(
    cache_flags: list[str],
    tiny_lm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(tiny_lm_folder, tmp_path / "model")
    words = [str(model) if word == str(tiny_lm_folder) else word for word in cache_flags]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = ["-m", "dictionary_learning.cache_activations", *words, "--activations", "demo_cache"]
    done = warm.run(command, elsewhere)
    assert done.returncode == 0, done.stderr
    size_line, *_, last_line = (line for line in done.stderr.splitlines() if "tokens of the part" in line)
    assert re.match(
        r"activation cache: [\d.]+ [KM]B for [\d,]+ tokens of the part 'train', width 32", size_line
    )
    assert "demo_cache is complete" in last_line
    shutil.rmtree(model)
    monkeypatch.chdir(elsewhere)
    words = ["--activations", "demo_cache", *SIZES.split(), "--run_name", "run"]
    train_temporal.main([*words, "--pair_mode", "random"])
    assert "a record counts as one text, whatever end-of-text tokens are in it: " in capsys.readouterr().err
    # a relative path is recorded in full, though it begins like a name of the demo
    config = load_dictionary(elsewhere / "runs/run", device="cpu")[1]
    assert config["buffer"]["activations"] == str(elsewhere / "demo_cache")
    assert config["trainer"]["lm_name"] == str(model)


def test_a_run_on_a_cache_resumes_bit_for_bit_though_the_cache_was_moved(
    cache_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_language_model: None
) -> None:
    words = ["--activations", str(cache_copy), "--resume_every", "7", "--pair_mode", "random"]
    whole = train(train_temporal.main, *words, run="whole", folder=tmp_path)
    take, calls = PairView.take, []

    def stopped(self: PairView, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 33:
            raise MemoryError
        return take(self, *arguments)

    monkeypatch.setattr(PairView, "take", stopped)
    with pytest.raises(MemoryError):
        train(train_temporal.main, *words, run="cut", folder=tmp_path)
    monkeypatch.setattr(PairView, "take", take)
    place = ["--run_name", "cut", "--checkpoints_path", str(tmp_path), "--resume"]
    moved = cache_copy.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"there is no folder .* or say with --activations where it is now"):
        train_temporal.main(place)
    train_temporal.main([*place, "--activations", str(moved)])
    assert same_weights(whole, tmp_path / "cut")


def test_fewer_contexts_than_a_batch_of_so_many_pairs_a_text_takes_are_refused(
    written_cache: Path, tmp_path: Path
) -> None:
    words = ["--activations", str(written_cache), "--pairs_per_text", "1"]  # of batches of 64
    with pytest.raises(UserError, match=r"takes 64 texts, and a shard of .* has \d\d at most"):
        train(train_temporal.main, *words, run="run", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_resumed_on_other_activations(
    cache_flags: list[str],
    written_cache: Path,
    cache_copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = train(train_temporal.main, "--activations", str(cache_copy), run="run", folder=tmp_path)
    path = run / "trainer_0/config.json"
    config = json.loads(path.read_text())
    del config["trainer"]["finished"]
    path.write_text(json.dumps(config))
    place = ["--run_name", "run", "--checkpoints_path", str(tmp_path), "--resume"]
    shutil.rmtree(cache_copy)
    write(*cache_flags, "--activations", str(cache_copy), "--max_tokens", "3000")
    assert "written anew" in refused(capsys, lambda: train_temporal.main(place))
    # and a run that was started on the language model does not go on from a cache
    train(train_temporal.main, *cache_flags, run="live", folder=tmp_path)
    place[1] = "live"
    path = tmp_path / "live/trainer_0/config.json"
    path.write_text(path.read_text().replace('"finished": true', '"finished": false'))
    told = refused(capsys, lambda: train_temporal.main([*place, "--activations", str(written_cache)]))
    assert "(the run has None)" in told


def test_options_that_are_not_typed_are_the_caches_and_those_that_agree_are_accepted(
    cache_flags: list[str], written_cache: Path, tmp_path: Path, no_language_model: None
) -> None:
    words = ["--activations", str(written_cache), *SIZES.split(), "--checkpoints_path", str(tmp_path)]
    # the preset's own model, layer, texts and sizes give way
    train_temporal.main([*words, "--config", "demo", "--run_name", "preset", "--decay_start", "30"])
    train_temporal.main([*words, *cache_flags, "--run_name", "typed"])
    for run in ("preset", "typed"):
        buffer = load_dictionary(tmp_path / run, device="cpu")[1]["buffer"]
        assert (buffer["layer"], buffer["context_length"], buffer["memory_bytes"]) == (LAYER, LENGTH, MEMORY)
        assert (buffer["max_norm_ratio"], buffer["max_tokens"], buffer["eval_share"]) == (1.2, None, 0.2)


def test_evaluation_from_a_cache_gives_the_numbers_of_the_language_model(
    cache_flags: list[str], written_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(train_temporal.main, "--activations", str(written_cache), run="run", folder=tmp_path)
    monkeypatch.setattr(report, "draw", lambda *arguments: [Path("eval.png")])
    words = ["--run_name", "run", "--checkpoints_path", str(tmp_path), "--device", "cpu"]
    # the blocks and the batches of the language model as the cache has them
    words += ["--memory", str(MEMORY), "--batch_size", "4", "--loss_tokens", "500"]
    cached = ["--activations", str(written_cache)]
    results = [
        eval_temporal.evaluate_runs(
            eval_temporal.build(
                eval_temporal.EvalOptions, vars(eval_temporal.parser().parse_args([*words, *more]))
            )
        )["run"]
        for more in ([], cached, [*cached, "--n_contexts", "5"], ["--n_contexts", "5"])
    ]
    assert results[0]["measures"] == results[1]["measures"]
    assert results[0]["texts"] == results[1]["texts"]
    assert results[1]["measures"]["all"]["loss_clean"]["value"] > 0
    assert results[2]["contexts"] == results[3]["contexts"] == 5
    assert results[1]["options"]["activations"] == str(written_cache)

    forbid_language_model(monkeypatch)
    eval_temporal.main([*words, *cached, "--no_lm_loss"])


# --- what is refused ---


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = index(folder)
    change(content)
    (folder / "index.json").write_text(json.dumps(content), encoding="utf-8")


def half_write(folder: Path) -> None:
    last = index(folder)["parts"]["train"]["shards"][-1]["file"]
    (folder / last).rename(folder / f"{last}.part")
    edit_index(folder, lambda content: content["parts"]["train"]["shards"][-1].update(sha256=None))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "no index": (
        lambda folder: (folder / "index.json").unlink(),
        "no activation cache (it has no index.json)",
    ),
    "an index of nothing": (lambda folder: (folder / "index.json").write_text("{"), "index.json is damaged"),
    "another program's index": (
        lambda folder: (folder / "index.json").write_text('{"weights": []}'),
        "index.json is damaged",
    ),
    "an index without options": (
        lambda folder: edit_index(folder, lambda content: content["options"].pop("layer")),
        "index.json is damaged",
    ),
    "another version": (
        lambda folder: edit_index(folder, lambda content: content.update(version=9)),
        "version 9",
    ),
    "half-written": (half_write, "half-written"),
    "cut short": (cut_short, "bytes long instead of"),
    "missing": (lambda folder: shards(folder)[-1].unlink(), "is missing"),
    "changed": (flip_a_byte, "has changed since it was written"),
    "no such part": (
        lambda folder: edit_index(folder, lambda content: content["parts"].pop("train")),
        "no activations of the part 'train' (it has eval)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_one_sentence_before_anything_is_trained(
    cache_copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    no_language_model: None,
) -> None:
    harm, sentence = DAMAGE[damage]
    harm(cache_copy)
    told = refused(
        capsys,
        lambda: train(
            train_temporal.main, "--activations", str(cache_copy), run="run", folder=tmp_path / "runs"
        ),
    )
    assert sentence in told
    assert str(cache_copy) in told
    assert not (tmp_path / "runs").exists()


def test_a_change_that_hides_behind_its_time_is_found_by_verify(
    cache_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_byte(cache_copy, keep_time=True)
    list(cached_store(cache_copy).contexts(50))  # taken as it is
    told = refused(capsys, lambda: write("--activations", str(cache_copy), "--verify"))
    assert "has changed since it was written (its checksum is another)" in told


def test_a_copy_without_its_times_is_checked_once_and_is_then_known(
    cache_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dictionary_learning.activations import shard_files

    for path in shards(cache_copy):
        os.utime(path)
    hashed: list[Path] = []
    file_sha256 = shard_files.file_sha256
    monkeypatch.setattr(shard_files, "file_sha256", lambda path: hashed.append(path) or file_sha256(path))
    store = cached_store(cache_copy)
    list(store.contexts(50))
    list(store.contexts(50))
    n_shards = len(list(cache_copy.glob("train*")))
    assert len(hashed) == n_shards
    write("--activations", str(cache_copy), "--verify")
    assert "every shard" in capsys.readouterr().err
    hashed.clear()
    list(cached_store(cache_copy).contexts(50))
    assert not hashed


CONTRADICTIONS = [
    (["--layer", "3"], "--layer 3 (the cache has 2)"),
    (["--site", "mlp"], "--site mlp (the cache has resid)"),
    (["--model", "demo"], "--model demo (the cache has"),
    (["--context_length", "32"], "--context_length 32 (the cache has 16)"),
    (["--lm_dtype", "bfloat16"], "--lm_dtype bfloat16 (the cache has float32)"),
    (["--dataset", "demo"], "--dataset demo (the cache has"),
    (["--eval_share", "0.1"], "--eval_share 0.1 (the cache has 0.2)"),
    (["--memory", "2GB"], "--memory 2GB (the cache has"),
]


@pytest.mark.parametrize(("words", "sentence"), CONTRADICTIONS, ids=[words[0] for words, _ in CONTRADICTIONS])
def test_options_that_contradict_the_cache_are_refused_by_training_and_by_writing(
    written_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    cached = ["--activations", str(written_cache)]
    assert sentence in refused(
        capsys, lambda: train(train_temporal.main, *cached, *words, run="run", folder=tmp_path)
    )
    before = contents(written_cache)
    assert sentence in refused(capsys, lambda: write(*cached, *words))
    assert contents(written_cache) == before


def test_more_tokens_than_a_cache_holds_are_refused_and_less_are_used(
    cache_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "small")
    write(*cache_flags, "--activations", folder, "--max_tokens", "1000")
    cached = ["--activations", folder]
    told = refused(
        capsys,
        lambda: train(train_temporal.main, *cached, "--max_tokens", "1001", run="run", folder=tmp_path),
    )
    assert "holds the first 1000 text tokens" in told
    run = train(train_temporal.main, *cached, "--max_tokens", "500", run="less", folder=tmp_path)
    assert load_dictionary(run, device="cpu")[1]["buffer"]["max_tokens"] == 500
    told = refused(capsys, lambda: write(*cached, "--max_tokens", "2000"))
    assert "was begun with --max_tokens 1000, not 2000" in told
    told = refused(capsys, lambda: write(*cached, "--config", "demo"))
    assert "--layer 15 (the cache has 2)" in told


def test_an_evaluation_refuses_a_cache_of_other_activations_than_its_run(
    cache_flags: list[str],
    written_cache: Path,
    cache_copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(train_temporal.main, "--activations", str(written_cache), run="run", folder=tmp_path)
    words = ["--run_name", "run", "--checkpoints_path", str(tmp_path), "--device", "cpu"]

    def told(*more: str) -> str:
        return refused(capsys, lambda: eval_temporal.main([*words, *more]))

    assert "--layer 1 (the cache has 2)" in told("--activations", str(written_cache), "--layer", "1")
    assert "no activations of the part 'all'" in told("--activations", str(written_cache), "--part", "all")
    for name in ("tokenizer_sha256", "weights_sha256"):
        edit_index(cache_copy, lambda content, name=name: content["facts"].update({name: "0"}))
        assert f"{name} " in told("--activations", str(cache_copy))
    assert "no activation cache" in told("--activations", str(tmp_path))
    assert not list(tmp_path.rglob("eval_results.json"))


def test_a_language_model_that_changed_under_its_name_is_noticed(
    cache_flags: list[str], tiny_lm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    model = shutil.copytree(tiny_lm_folder, tmp_path / "model")
    words = [str(model) if word == str(tiny_lm_folder) else word for word in cache_flags]
    cache = ["--activations", str(tmp_path / "cache")]
    write(*words, *cache, "--parts", "train", "eval")
    train(train_temporal.main, *cache, run="run", folder=tmp_path)
    changed = AutoModelForCausalLM.from_pretrained(model)
    changed.model.layers[1].mlp.up_proj.weight.data[3, 3] += 1
    changed.save_pretrained(model)
    run = ["--run_name", "run", "--checkpoints_path", str(tmp_path), "--device", "cpu"]
    told = refused(capsys, lambda: eval_temporal.main([*run, *cache]))
    assert "another" in told
    assert "weights" in told
    shards(tmp_path / "cache")[0].unlink()
    assert "its weights changed" in refused(capsys, lambda: write(*cache))
