"""--sweep: the language model once, and members that are the runs which they would be by themselves."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import refused
from stopping import stop_at

from dictionary_learning import train_attention, train_baseline, train_temporal
from dictionary_learning.command import devices, rehearsal
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.sweep import is_faster_apart
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.loop import _Loop
from dictionary_learning.utils import load_dictionary


@pytest.fixture(scope="module")
def data(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    words = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --device cpu --context_length 32"
    return [*words.split(), "--memory", "20MB", "--max_tokens", "3000"]


@pytest.fixture(scope="module")
def sizes() -> list[str]:
    words = "--batch_size 32 --steps 12 --warmup_steps 2 --lr 0.001 --log_steps 4 --resume_every 4"
    return [*words.split(), "--calibration_tokens", "256"]


def written(folder: Path, text: str) -> str:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def place(folder: Path, name: str = "s") -> list[str]:
    return ["--checkpoints_path", str(folder), "--run_name", name]


def runs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if (path / "config.yaml").is_file())


def check_same(one: Path, other: Path) -> None:
    """Two runs have the same weights, options and data, but for their names."""
    mine, theirs = (load_weights(run / "trainer_0/ae.pt") for run in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    configs = [json.loads((run / "trainer_0/config.json").read_text()) for run in (one, other)]
    options = [RunFolder(run).read_config()["options"] for run in (one, other)]
    for config, own in zip(configs, options, strict=True):
        del config["trainer"]["wandb_name"], own["run_name"]
    assert configs[0] == configs[1]
    assert options[0] == options[1]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many contexts the language model has read, a number a batch."""
    found: list[int] = []
    record = LanguageModel.record_several

    def counting(self: LanguageModel, tokens_BL: torch.Tensor, *arguments: Any) -> Any:
        found.append(len(tokens_BL))
        return record(self, tokens_BL, *arguments)

    monkeypatch.setattr(LanguageModel, "record_several", counting)
    return found


# --- what a sweep leaves ---


@pytest.mark.usefixtures("drawn")
def test_members_are_the_runs_that_they_would_be_by_themselves(
    data: list[str],
    sizes: list[str],
    tmp_path: Path,
    passes: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = written(tmp_path, "layer: [1, 2]\nk: [3, 6]\nseed: 5\ndict_size: 64\n")
    flags = [*data, *sizes, "--threshold_start_step", "3"]
    train_temporal.main([*flags, *place(tmp_path), "--sweep", grid])
    told = capsys.readouterr()
    assert re.findall(r"member (\d) of 4: (\S+)", told.err) == [
        ("1", "layer1-k3"),
        ("2", "layer1-k6"),
        ("3", "layer2-k3"),
        ("4", "layer2-k6"),
    ]
    assert runs(tmp_path) == [f"s-layer{layer}-k{k}" for layer in (1, 2) for k in (3, 6)]
    n_contexts = sum(passes)

    for layer, k in ((1, 6), (2, 3)):
        own = ["--k", str(k), "--layer", str(layer), "--dict_size", "64", "--seeds", "5"]
        cache = ["--activations", str(tmp_path / f"s/activations/layer_{layer}")]
        train_temporal.main([*flags, *own, *cache, *place(tmp_path, "single")])
        check_same(tmp_path / f"s-layer{layer}-k{k}", tmp_path / "single")
        for path in sorted((tmp_path / "single").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "single").rmdir()
    assert sum(passes) == n_contexts

    # both layers from one pass over the texts
    train_temporal.main([*flags, "--layer", "2", "--k", "3", "--dict_size", "64", *place(tmp_path, "live")])
    assert sum(passes) == 2 * n_contexts

    # the members side by side
    results = json.loads((tmp_path / "s/sweep.json").read_text())["members"]
    assert [row["member"] for row in results] == ["layer1-k3", "layer1-k6", "layer2-k3", "layer2-k6"]
    for row in results:
        last = RunFolder(tmp_path / f"s-{row['member']}").read_metrics()[-1]["trainer_0"]
        assert {name: row[name] for name in ("fve", "l0", "dead_share", "loss")} == {
            name: last[name] for name in ("fve", "l0", "dead_share", "loss")
        }
        assert f"| {row['member']} | 12 | {row['fve']:.3g} | {row['l0']:.3g} |" in told.out
    assert (tmp_path / "s/sweep.png").stat().st_size > 10_000
    dictionary, _ = load_dictionary(tmp_path / "s-layer2-k6", device="cpu")
    assert dictionary.activation_dim == 32


def test_architectures_of_one_script_are_swept_together(
    data: list[str], sizes: list[str], tmp_path: Path
) -> None:
    text = "- {arch: [top_k, matryoshka], k: 4}\n- {arch: standard, l1_penalty: [0.1]}\n"
    flags = [*data, *without(sizes, "--lr"), "--layer", "2", "--dict_size", "64"]
    train_baseline.main([*flags, *place(tmp_path), "--sweep", written(tmp_path, text)])
    names = ["matryoshka-k4", "standard-l1_penalty0.1", "top_k-k4"]
    assert runs(tmp_path) == [f"s-{name}" for name in names]
    methods = {row["member"]: row["method"] for row in results(tmp_path)}
    assert [methods[name] for name in names] == ["Matryoshka", "Standard", "TopK"]
    # each with its architecture's own learning rate
    rates = [RunFolder(tmp_path / f"s-{name}").read_config()["options"]["lr"] for name in names]
    assert rates == [3e-4, 1e-3, 3e-4]


def test_temporal_saes_are_swept_and_sites_have_a_cache_each(
    data: list[str], sizes: list[str], tmp_path: Path
) -> None:
    flags = [*data, *without(sizes, "--batch_size"), "--batch_size", "4", "--layer", "2", "--dict_size", "32"]
    grid = written(tmp_path, "site: [resid, mlp]\nbottleneck_factor: [4]\nn_heads: 2\nk: 4\n")
    train_attention.main([*flags, *place(tmp_path), "--sweep", grid])
    assert runs(tmp_path) == ["s-mlp", "s-resid"]
    for site in ("resid", "mlp"):
        config = json.loads((tmp_path / f"s-{site}/trainer_0/config.json").read_text())["buffer"]
        assert config["site"] == site
        assert config["activations"] == str(tmp_path / "s/activations" / site)


def without(flags: list[str], name: str) -> list[str]:
    at = flags.index(name)
    return flags[:at] + flags[at + 2 :]


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "s/sweep.json").read_text())["members"]


@pytest.fixture
def cache(data: list[str], tmp_path: Path) -> list[str]:
    """Flags that read a cache, and no language model from now on."""
    from dictionary_learning import cache_activations

    cache_activations.main([*data, "--layer", "2", "--activations", str(tmp_path / "cache")])
    return ["--activations", str(tmp_path / "cache"), "--dict_size", "64", "--device", "cpu"]


def test_a_cache_that_is_there_is_used(
    cache: list[str], sizes: list[str], tmp_path: Path, passes: list[int]
) -> None:
    grid = written(tmp_path, "k: [3, 6]\nbatch_size: [16]\n")
    train_baseline.main([*cache, *without(sizes, "--batch_size"), *place(tmp_path), "--sweep", grid])
    assert runs(tmp_path) == ["s-k3", "s-k6"]
    assert not (tmp_path / "s/activations").exists()
    assert not passes


# --- stopping and going on ---


def test_a_sweep_that_was_stopped_goes_on_with_what_is_not_finished(
    data: list[str], sizes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written(tmp_path, "k: [3, 4, 5]\n")
    flags = [*data, *sizes, "--layer", "2", "--dict_size", "64", "--sweep", grid]
    train_baseline.main([*flags, *place(tmp_path, "whole")])
    # in the seventh step of the second member
    here = ["train_baseline", *flags, "--checkpoints_path", ".", "--run_name", "s"]
    update = "dictionary_learning.trainers.batch_top_k.BatchTopKTrainer.update"
    code, said = stop_at(12 + 7, update, signal.SIGINT, *here, cwd=tmp_path)
    assert code == 130
    assert re.search(r"to go on with the sweep: .* --sweep \S*grid.yaml .*--resume\n", said), said
    finished = tmp_path / "s-k3/trainer_0/ae.pt"
    time = finished.stat().st_mtime_ns
    assert RunFolder(tmp_path / "s-k4").load_state()["step"] == 7  # type: ignore[index]
    assert runs(tmp_path) == ["s-k3", "s-k4", "whole-k3", "whole-k4", "whole-k5"]

    with pytest.raises(UserError, match=r"s-k3 is not empty: go on with the sweep by --resume"):
        train_baseline.main([*flags, *place(tmp_path)])
    with pytest.raises(UserError, match=r"s-k3 has other options than member k3: --lr 0.002 \(the run has"):
        train_baseline.main([*flags, *place(tmp_path), "--resume", "--lr", "0.002"])

    capsys.readouterr()
    train_baseline.main([*flags, *place(tmp_path), "--resume"])
    said = capsys.readouterr().err
    assert re.findall(r"member (\d) of 2: (\S+)", said) == [("1", "k4"), ("2", "k5")]
    assert re.search(r"k3: .*, finished\n.*k4: .*, begun\n", said)
    assert finished.stat().st_mtime_ns == time
    for k in (3, 4, 5):
        check_same_weights(tmp_path / f"s-k{k}", tmp_path / f"whole-k{k}")
    assert len(results(tmp_path)) == 3

    # once more: nothing is left, and the table is told again
    train_baseline.main([*flags, *place(tmp_path), "--resume"])
    told = capsys.readouterr()
    assert "member 1" not in told.err
    assert "| k5 | 12 |" in told.out


def test_a_sweep_that_is_stopped_in_the_language_model_says_how_both_go_on(
    data: list[str], sizes: list[str], tmp_path: Path
) -> None:
    flags = [*data, *sizes, "--layer", "2", "--dict_size", "64", "--sweep", written(tmp_path, "k: [3, 4]")]
    here = ["train_baseline", *flags, "--lm_batch_size", "4", "--checkpoints_path", ".", "--run_name", "s"]
    record = "dictionary_learning.language_model.LanguageModel.record_several"
    code, said = stop_at(3, record, signal.SIGTERM, *here, cwd=tmp_path)
    assert code == 143, said
    assert "to go on: python -m dictionary_learning.cache_activations --activations s/activations\n" in said
    assert re.search(r"to go on with the sweep: .*--resume\n", said)
    assert runs(tmp_path) == []
    train_baseline.main([*flags, "--lm_batch_size", "4", *place(tmp_path), "--resume"])
    assert runs(tmp_path) == ["s-k3", "s-k4"]


def check_same_weights(one: Path, other: Path) -> None:
    mine, theirs = (load_weights(run / "trainer_0/ae.pt") for run in (one, other))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_member_that_fails_does_not_stop_the_others(
    cache: list[str], sizes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written(tmp_path, "lr: [1e38, 1e-3]\nk: 4\n")
    flags = [*cache, *without(sizes, "--lr"), *place(tmp_path), "--sweep", grid]
    with pytest.raises(
        UserError, match=r"1 of 2 members failed, and the others are finished; lr1e\+38: .* the loss "
    ):
        train_baseline.main(flags)
    told = capsys.readouterr().out
    assert "| lr0.001 | 12 |" in told
    assert "| lr1e+38 (failed) | 2 |" in told
    faults = {row["member"]: row["fault"] for row in results(tmp_path)}
    assert faults["lr0.001"] is None
    assert "try a smaller lr" in faults["lr1e+38"]


def test_a_member_that_memory_does_not_hold_does_not_stop_the_others(
    cache: list[str], sizes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = _Loop._advance

    def of_k_5(loop: _Loop, trainer: Any, *arguments: Any) -> float | None:
        if trainer.k == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
        return advance(loop, trainer, *arguments)

    monkeypatch.setattr(_Loop, "_advance", of_k_5)
    flags = [*cache, *sizes, *place(tmp_path), "--sweep", written(tmp_path, "k: [5, 4]\n")]
    with pytest.raises(UserError, match=r"1 of 2 members failed.*k5: there is not enough memory \(CUDA"):
        train_baseline.main(flags)
    assert {row["member"] for row in results(tmp_path) if row["fault"] is None} == {"k4"}


# --- wrong inputs ---


WRONG: dict[str, tuple[str, str]] = {
    "misspelt": ("kk: [1]", "kk in .*grid.yaml is no option: did you mean k"),
    "a fault of one member": ("k: [4, 99]", "member k99 of .*grid.yaml: --k is 99, and must not be larger"),
    "both": ("batch_size: [16]", "--batch_size 32 and batch_size in .* contradict"),
    "a layer that is not there": ("layer: [2, 9]", "no layer 9"),
    "a long name": (
        f"group_fractions: [[{', '.join(['0.015625'] * 64)}], [1]]",
        "must be the plain name of a folder",
    ),
    "no memory": ("dict_size: [64, 99999999999]", "member d99999999999 of .*needs at least"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_told_before_anything_starts(
    data: list[str],
    sizes: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    passes: list[int],
    case: str,
) -> None:
    text, said = WRONG[case]
    flags = [*data, *sizes, *place(tmp_path), "--sweep", written(tmp_path, text)]
    if "layer" not in text:
        flags += ["--layer", "2"]
    if "dict_size" not in text:
        flags += ["--dict_size", "64"]
    sentence = refused(capsys, lambda: train_temporal.main(flags))
    assert re.search(said, sentence), sentence
    assert not passes
    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]


def test_a_folder_of_something_else_is_not_swept_into(
    cache: list[str], sizes: list[str], tmp_path: Path
) -> None:
    flags = [*cache, *sizes, *place(tmp_path)]
    train_baseline.main([*flags, "--k", "4"])
    grid = ["--sweep", written(tmp_path, "k: [4]")]
    with pytest.raises(UserError, match="is a run: choose another --run_name for the sweep"):
        train_baseline.main([*flags, *grid])
    (tmp_path / "t-k4").mkdir()
    (tmp_path / "t-k4/notes.txt").touch()
    flags = [*cache, *sizes, *place(tmp_path, "t")]
    for more, said in (([], "not empty"), (["--resume"], "there is no run at")):
        with pytest.raises(UserError, match=said):
            train_baseline.main([*flags, *grid, *more])
    assert [path.name for path in (tmp_path / "t-k4").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "t").exists()


def test_a_rehearsal_lists_the_members_and_writes_nothing(
    data: list[str], sizes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written(tmp_path, "k: [4, 8]\nsteps: [10, 30]\n")
    flags = [*data, *without(sizes, "--steps"), "--layer", "2", "--dict_size", "64", "--sweep", grid]
    with rehearsal.rehearsing(), pytest.raises(rehearsal.Reached, match="read the weights"):
        train_temporal.main([*flags, *place(tmp_path)])
    said = capsys.readouterr().err
    assert "sweep of 4 members" in said
    # 10 + 30 + 10 + 30 steps of the same size
    assert "k4-steps10: temporal of 64 latents, 10 steps of 32 pairs, 12% of the training" in said
    assert "k8-steps30: temporal of 64 latents, 30 steps of 32 pairs, 38% of the training" in said
    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]


@pytest.mark.parametrize(
    ("costs", "n", "apart"),
    [
        ([1], 1, False),
        ([1], 2, False),
        ([1, 1], 2, True),
        ([1, 1, 1], 2, False),  # two turns, where three members in halves take 1.67
        ([2, 1, 1], 2, True),  # the dear one beside the two others
        ([1] * 9, 8, False),
        ([1] * 15, 8, True),  # two turns, where fifteen in eighths take 2.08
        ([5, 1, 1, 1], 4, False),
    ],
)
def test_members_are_dealt_out_where_that_is_done_earlier(costs: list[float], n: int, apart: bool) -> None:
    assert is_faster_apart(costs, n) == apart


def test_the_default_name_is_that_of_preset_or_model_and_file(
    cache: list[str], sizes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_baseline.main([*cache, *sizes, "--sweep", written(tmp_path, "k: [4]")])
    assert runs(tmp_path / "runs") == ["grid-k4"]


def test_a_dtype_that_was_left_to_the_machine_stays_on_one_where_another_is_quicker(
    data: list[str], sizes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*data, *sizes, "--layer", "2", "--dict_size", "64", "--lm_dtype", "auto"]
    flags += ["--sweep", written(tmp_path, "k: [3, 4]"), *place(tmp_path)]
    monkeypatch.setattr(devices, "times_as_long", lambda dtype, kind="cpu": 0.5)
    train_baseline.main(flags)
    shutil.rmtree(tmp_path / "s-k4")
    monkeypatch.setattr(devices, "times_as_long", lambda dtype, kind="cpu": 2.0)
    train_baseline.main([*flags, "--resume"])
    for k in (3, 4):
        assert RunFolder(tmp_path / f"s-k{k}").read_config()["options"]["lm_dtype"] == "bfloat16"
