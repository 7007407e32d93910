"""Runs at a URL: trained, gone on with on another machine, read, evaluated, and refused."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from caches import forbid_language_model, refused
from stopping import stop_at
from stores import ShakyStore, names, on_machine, put, put_folder, stored

from dictionary_learning import calibrate, convert, eval_temporal, train_temporal
from dictionary_learning.command import cli
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.remote import mirror
from dictionary_learning.remote.claim import CLAIM
from dictionary_learning.remote.path import RemotePath
from dictionary_learning.utils import load_dictionary

RUNS = "memory://bucket/runs"
MINE = ("--run_name", "mine", "--checkpoints_path", RUNS)


@pytest.fixture(scope="module")
def tiny(written_cache: Path) -> list[str]:
    """Flags of a small run, from a cache."""
    sizes = "--batch_size 32 --dict_size 64 --k 4 --steps 20 --warmup_steps 5 --lr 0.001 --device cpu"
    sizes += " --log_steps 5 --calibration_tokens 512 --threshold_start_step 5 --resume_every 5"
    return ["--activations", str(written_cache), *sizes.split()]


@pytest.fixture(scope="module")
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in a folder of this machine, to compare with."""
    runs = tmp_path_factory.mktemp("runs")
    train_temporal.main(
        [*tiny, "--run_name", "mine", "--checkpoints_path", str(runs), "--save_fractions", "0.5"]
    )
    return runs / "mine"


@pytest.fixture
def run(stores: Path, trained: Path) -> str:
    """The same run at a URL."""
    return put_folder(trained, "bucket/runs/mine")


def stopped(tiny: list[str], *words: str, after: int = 12) -> None:
    """Train, and be killed after so many steps; the full state was saved every five."""
    from dictionary_learning.runs.loop import _Loop

    step = _Loop._step

    def killed(self: Any, *arguments: Any) -> None:
        if self.state.done == after:
            raise KeyboardInterrupt
        step(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_Loop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_temporal.main([*tiny, *words])


def weights_of(machine: Path, place: str) -> dict[str, torch.Tensor]:
    machine.mkdir()
    content = RemotePath(f"{place}/trainer_0/ae.pt")
    content.fetch(machine / "ae.pt")
    return load_weights(machine / "ae.pt")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_at_a_url_leaves_there_what_one_leaves_here(
    tiny: list[str], trained: Path, stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_temporal.main([*tiny, *MINE, "--save_fractions", "0.5"])
    there = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert set(names("bucket/runs/mine")) == there
    assert_same(weights_of(tmp_path / "there", f"{RUNS}/mine"), load_weights(trained / "trainer_0" / "ae.pt"))
    metrics = stored("bucket/runs/mine/metrics.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 5, 10, 15, 20]
    config = yaml.safe_load(stored("bucket/runs/mine/config.yaml"))
    assert config["options"]["checkpoints_path"] == RUNS
    assert "memory://bucket/runs is worked on in" in capsys.readouterr().err


def test_every_save_is_there_before_the_next_step(tiny: list[str], stores: Path) -> None:
    stopped(tiny, *MINE)
    assert {"config.yaml", "metrics.jsonl", "resume/state.pt"} <= set(names("bucket/runs/mine"))
    folder = mirror.folder_at(RUNS) / "mine"
    assert stored("bucket/runs/mine/resume/state.pt") == (folder / "resume" / "state.pt").read_bytes()


@pytest.mark.parametrize("same_machine", [True, False])
def test_a_killed_run_is_gone_on_with_and_ends_with_the_weights_of_one_that_was_not(
    tiny: list[str],
    trained: Path,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_machine: bool,
) -> None:
    stopped(tiny, *MINE)
    if not same_machine:
        on_machine(tmp_path / "other", monkeypatch)
    train_temporal.main([*MINE, "--resume"])
    assert_same(weights_of(tmp_path / "there", f"{RUNS}/mine"), load_weights(trained / "trainer_0" / "ae.pt"))
    metrics = stored("bucket/runs/mine/metrics.jsonl").decode().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 5, 10, 15, 20]


@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_on_while_the_url_cannot_be_reached_and_sends_all_at_its_end(
    tiny: list[str],
    trained: Path,
    stores: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dictionary_learning.runs.loop import _Loop

    step = _Loop._step

    def unreachable(self: Any, *arguments: Any) -> None:
        ShakyStore.drops = 10**6 if 4 <= self.state.done < 18 else 0
        step(self, *arguments)

    monkeypatch.setattr(_Loop, "_step", unreachable)
    train_temporal.main([*tiny, "--run_name", "mine", "--checkpoints_path", "shaky://bucket/runs"])
    assert capsys.readouterr().err.count("sent later") == 1
    assert {"trainer_0/ae.pt", "resume/state.pt", "metrics.jsonl"} <= set(names("bucket/runs/mine"))


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_could_not_be_sent_says_so_and_is_sent_by_a_resume(
    tiny: list[str],
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dictionary_learning.runs.keeper import Keeper

    where = ["--run_name", "mine", "--checkpoints_path", "shaky://bucket/runs"]
    save = Keeper.save_state

    def cut_off(self: Keeper) -> None:
        ShakyStore.drops = 10**6
        save(self)

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "save_state", cut_off)
        said = refused(capsys, lambda: train_temporal.main([*tiny, *where]))
    assert "cannot be reached" in said
    assert "is not there yet: run the command again" in said
    ShakyStore.drops = 0
    train_temporal.main([*where, "--resume"])
    assert {"trainer_0/ae.pt", "resume/state.pt"} <= set(names("bucket/runs/mine"))


def test_a_failed_start_leaves_nothing_there(
    tiny: list[str], stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dictionary_learning.runs.loop import _Loop

    def fail(self: Any, *arguments: Any) -> None:
        raise UserError("the loss is NaN")

    monkeypatch.setattr(_Loop, "_step", fail)
    with pytest.raises(UserError, match="the loss is NaN"):
        train_temporal.main([*tiny, *MINE])
    assert names() == []
    assert RemotePath(RUNS).files() == {}, "not even a claim"
    assert not (mirror.folder_at(RUNS) / "mine").exists()


def test_a_signal_saves_and_sends(tiny: list[str], tmp_path: Path) -> None:
    """In a process of its own, with a store on the disk."""
    url = f"file://{tmp_path}/store/runs"
    where = ["--run_name", "mine", "--checkpoints_path", url]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "machine"))
        loop = "dictionary_learning.runs.loop._Loop._step"
        code, said = stop_at(8, loop, signal.SIGTERM, "train_temporal", *tiny, *where, cwd=tmp_path)
        assert code == 128 + signal.SIGTERM
        assert f"--checkpoints_path {url} --resume" in said
        store = tmp_path / "store" / "runs" / "mine"
        assert (store / "resume" / "state.pt").is_file()
        assert not (store / CLAIM).exists()
        on_machine(tmp_path / "other", patched)
        train_temporal.main([*where, "--resume"])
    assert (store / "trainer_0" / "ae.pt").is_file()


# --- what is refused ---


def test_a_run_that_is_there_is_not_begun_again_and_nothing_large_is_fetched(
    tiny: list[str], run: str, stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: stored(f"bucket/runs/mine/{name}") for name in names("bucket/runs/mine")}
    said = refused(capsys, lambda: train_temporal.main([*tiny, *MINE]))
    assert said.startswith("error: memory://bucket/runs/mine is not empty: go on with that run by --resume")
    assert {name: stored(f"bucket/runs/mine/{name}") for name in names("bucket/runs/mine")} == before
    assert not list(stores.rglob("*.pt"))


def test_files_of_something_else_are_not_taken_for_a_run(
    tiny: list[str], stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("bucket/runs/mine/photo.jpg", b"JPEG")
    assert "is not empty" in refused(capsys, lambda: train_temporal.main([*tiny, *MINE]))


def test_a_run_that_another_machine_trains_is_refused(
    tiny: list[str], stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import time

    claim = {"host": "elsewhere", "pid": 7, "token": "a", "what": "training in", "touched": time.time()}
    put(f"bucket/runs/mine/{CLAIM}", json.dumps(claim))
    said = refused(capsys, lambda: train_temporal.main([*tiny, *MINE, "--resume"]))
    assert "process 7 on elsewhere is training in memory://bucket/runs/mine" in said
    assert names() == []


@pytest.mark.parametrize(
    ("checkpoints_path", "said"),
    [
        ("memory://bucket/a.txt", "memory://bucket/a.txt is a file: give --checkpoints_path a folder"),
        ("shaky://bucket/runs", "cannot be reached (reset by peer): check the URL and the connection"),
        ("s4://bucket/runs", "has the protocol s4://, which fsspec does not know"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_where_no_run_can_be_kept_is_told_before_the_model_is_loaded(
    tiny_lm_folder: Path,
    tiny_corpus: Path,
    stores: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    checkpoints_path: str,
    said: str,
) -> None:
    forbid_language_model(monkeypatch)
    put("bucket/a.txt", "A")
    ShakyStore.drops = 10**6
    words = ["--model", str(tiny_lm_folder), "--dataset", str(tiny_corpus), "--layer", "1", "--device", "cpu"]
    assert said in refused(
        capsys, lambda: train_temporal.main([*words, "--checkpoints_path", checkpoints_path])
    )


def test_a_rehearsal_writes_nothing_there(
    tiny: list[str], stores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from temporal_saes.__main__ import main

    main(["check", "train", *tiny, *MINE])
    assert "nothing is wrong up to here" in capsys.readouterr().out
    assert RemotePath(RUNS).files() == {}


def test_a_url_in_a_flag_that_takes_none_is_one_sentence_and_makes_no_folder(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--from", run, "--to", "saelens", "--output", "s3://bucket/out"]
    assert "--output s3:/bucket/out is a URL" in refused(capsys, lambda: convert.main(words))
    words = [*MINE, "--output_dir", "s3://bucket/out", "--no_lm_loss"]
    assert "--output_dir s3:/bucket/out is a URL" in refused(capsys, lambda: eval_temporal.main(words))
    assert not (tmp_path / "s3:").exists()


# --- read ---


@pytest.mark.parametrize("place", [f"{RUNS}/mine", f"{RUNS}/mine/trainer_0"])
def test_a_dictionary_is_loaded_from_its_url(run: str, trained: Path, place: str, stores: Path) -> None:
    there, config = load_dictionary(place, "cpu")
    here, own = load_dictionary(trained, "cpu")
    assert_same(there.state_dict(), here.state_dict())
    assert config == own
    assert not list(stores.rglob("state.pt")), "what only a training needs is not fetched"
    assert not list(stores.rglob("ae_*.pt"))


def test_a_checkpoint_is_fetched_when_it_is_asked_for(run: str, trained: Path) -> None:
    there, _ = load_dictionary(run, "cpu", "checkpoints/ae_10.pt")
    here, _ = load_dictionary(trained, "cpu", "checkpoints/ae_10.pt")
    assert_same(there.state_dict(), here.state_dict())
    with pytest.raises(UserError, match=r"there is no checkpoint .*: the run has checkpoints/ae_10.pt"):
        load_dictionary(run, "cpu", "checkpoints/ae_11.pt")


def test_weights_that_do_not_arrive_whole_are_refused(run: str) -> None:
    content = stored("bucket/runs/mine/trainer_0/ae.pt")
    put("bucket/runs/mine/trainer_0/ae.pt", content[:-100])
    with pytest.raises(UserError, match="is damaged"):
        load_dictionary(run, "cpu")
    put("bucket/runs/mine/trainer_0/ae.pt", content)
    load_dictionary(run, "cpu")


def test_a_run_that_is_not_there_is_one_sentence_with_those_that_are(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, lambda: eval_temporal.main(["--run_name", "other", "--checkpoints_path", RUNS]))
    assert said.startswith(
        "error: there is no run 'other' in memory://bucket/runs (it has mine): check --run_name"
    )
    with pytest.raises(UserError, match="there is no folder memory://bucket/runs/other"):
        load_dictionary(f"{RUNS}/other")


def test_it_is_evaluated_and_the_results_are_there(
    run: str, trained: Path, written_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--no_lm_loss", "--activations", str(written_cache)]
    cli.run(lambda: eval_temporal.main([*words, *MINE]))
    there = json.loads(stored("bucket/runs/mine/trainer_0/eval_results.json"))
    assert stored("bucket/runs/mine/trainer_0/eval.png") is not None
    eval_temporal.main([*words, "--run_name", str(trained), "--output_dir", str(tmp_path / "out")])
    (here,) = (tmp_path / "out").glob("*.json")
    assert there["measures"] == json.loads(here.read_text())["measures"]
    cli.run(lambda: eval_temporal.main([*words, "--run_name", run, "--threshold", "topk"]))
    assert "trainer_0/eval_results_threshold-topk.json" in names("bucket/runs/mine")


def test_a_threshold_is_set_there(run: str, written_cache: Path, marked_corpus: Path) -> None:
    texts = ["--dataset", str(marked_corpus), "--name", "news", "--max_tokens", "500", "--device", "cpu"]
    calibrate.main([*texts, *MINE])
    assert list(json.loads(stored("bucket/runs/mine/trainer_0/thresholds.json"))) == ["news"]
    load_dictionary(run, "cpu", threshold="news")


def test_it_is_converted_from_its_url(run: str, tmp_path: Path) -> None:
    convert.main(["--from", run, "--to", "dictionary_learning", "--output", str(tmp_path / "out")])
    assert (tmp_path / "out" / "ae.pt").is_file()


def test_an_experiment_reads_it_and_leaves_its_result_there(
    run: str,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another machine takes the result from there, in place of computing it again."""
    from temporal_saes.probing.command import main

    words = ["--dataset", str(tiny_corpus), "--label_field", "domain", "--no_cache", "--tasks", "semantics"]
    words += ["--k", "5", "--n_train", "30", "--n_test", "15", "--repeats", "1"]
    words += ["--checkpoints_path", RUNS, "--compare", "mine:0", "baseline_model", "--device", "cpu"]
    main(words)
    left = names("bucket/runs")
    assert any(name.startswith("mine/probing/") and name.endswith(".json") for name in left), left
    assert any(name.startswith("baseline_model/probing/") for name in left)
    assert any(name.startswith("comparisons/probing/") for name in left)
    on_machine(tmp_path / "other", monkeypatch)
    capsys.readouterr()
    main(words)
    assert capsys.readouterr().err.count("taken from") == 2


def test_the_report_and_the_table_read_it(
    run: str, written_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from temporal_saes.method_table import command as table
    from temporal_saes.report import command as report

    eval_temporal.main(["--no_lm_loss", "--activations", str(written_cache), *MINE])
    report.main([*MINE, "--text", "The judge forbids a faint verdict. The comet circles."])
    assert b"memory://bucket/runs" in stored("bucket/runs/mine/report.html")
    table.main(["--checkpoints_path", RUNS])
    assert "mine:0" in capsys.readouterr().out
    assert "there is no run 'other' in memory://bucket/runs (it has mine)" in refused(
        capsys, lambda: report.main(["--run_name", "other", "--checkpoints_path", RUNS])
    )
