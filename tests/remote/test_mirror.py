"""A folder at a URL and its copy here: what is fetched, what is sent, and who is right where both changed."""

import json
import os
import socket
import time
from pathlib import Path

import pytest
from stores import ShakyStore, names, on_machine, put, stored

from dictionary_learning.command import files, rehearsal
from dictionary_learning.command.files import save_text
from dictionary_learning.errors import UserError
from dictionary_learning.remote import mirror
from dictionary_learning.remote.claim import CLAIM, claimed
from dictionary_learning.remote.path import RemotePath

RUNS = "memory://bucket/runs"


@pytest.fixture
def run(stores: Path) -> Path:
    """The copy of a run's folder."""
    return mirror.folder_at(RUNS) / "mine"


def test_a_folder_of_this_machine_stands_for_itself(tmp_path: Path, stores: Path) -> None:
    assert mirror.folder_at(str(tmp_path)) == tmp_path
    assert mirror.place_of(tmp_path) == tmp_path
    mirror.pull(tmp_path)
    mirror.fetch(tmp_path / "a")
    save_text(tmp_path / "in" / "a.json", "{}")
    assert mirror.names(tmp_path, "*.json") == ["in/a.json"]
    with mirror.held(tmp_path):
        pass
    assert not stores.exists()


def test_the_copy_lies_in_the_cache_folder_under_the_parts_of_the_url(stores: Path) -> None:
    assert mirror.folder_at(RUNS) == stores / "mirrors" / "memory" / "bucket" / "runs"
    assert mirror.place_of(mirror.folder_at(RUNS) / "mine") == RemotePath(f"{RUNS}/mine")


@pytest.mark.parametrize(
    "url", ["memory://a/../../etc", "memory://./a", "memory://a/" + 300 * "x", "memory://a/b:c"]
)
def test_no_url_leads_out_of_the_cache_folder(url: str, stores: Path) -> None:
    folder = mirror.folder_at(url)
    assert folder.resolve().is_relative_to(stores / "mirrors" / "memory")
    folder.mkdir(parents=True)


def test_names_and_passwords_are_in_no_name_of_a_copy(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dictionary_learning.remote.path.open_file_system", lambda url: (None, url))
    one = mirror.folder_at("https://ann:pa55@host/runs?token=pa55")
    assert one.relative_to(stores / "mirrors").parts[:3] == ("https", "host", "runs")
    assert "pa55" not in str(one)
    assert one != mirror.folder_at("https://ann:pa55@host/runs?token=other")


def test_what_is_saved_in_the_copy_is_at_the_url_at_once(run: Path) -> None:
    save_text(run / "trainer_0" / "config.json", "{}")
    assert stored("bucket/runs/mine/trainer_0/config.json") == b"{}"


def test_what_is_at_the_url_is_fetched_and_fetched_again_when_it_changes(run: Path) -> None:
    put("bucket/runs/mine/config.yaml", "one")
    put("bucket/runs/mine/resume/state.pt", "large")
    mirror.pull(run, lambda name: not name.endswith(".pt"))
    assert (run / "config.yaml").read_text() == "one"
    assert not (run / "resume").exists()
    put("bucket/runs/mine/config.yaml", "two")
    mirror.pull(run)
    assert (run / "config.yaml").read_text() == "two"
    assert (run / "resume" / "state.pt").read_text() == "large"


def test_what_is_here_already_is_not_fetched_again(stores: Path) -> None:
    run = mirror.folder_at("shaky://bucket/runs") / "mine"
    put("bucket/runs/mine/config.yaml", "one")
    save_text(run / "sent.txt", "sent")
    mirror.pull(run)
    ShakyStore.calls.clear()
    mirror.pull(run)
    mirror.fetch(run / "config.yaml")
    assert "get" not in ShakyStore.calls


def test_what_was_removed_at_the_url_is_removed_here_with_its_folders(run: Path) -> None:
    save_text(run / "trainer_0" / "config.json", "{}")
    RemotePath(f"{RUNS}/mine/trainer_0/config.json").unlink()
    mirror.pull(run)
    assert list(run.iterdir()) == []


def test_another_machine_reads_what_one_has_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_text(run / "config.yaml", "one")
    other = on_machine(tmp_path / "other", monkeypatch)
    copy = mirror.folder_at(RUNS) / "mine"
    assert copy.is_relative_to(other)
    mirror.pull(copy)
    assert (copy / "config.yaml").read_text() == "one"


def test_what_cannot_be_sent_is_kept_told_once_and_sent_later(
    stores: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    run = mirror.folder_at("shaky://bucket/runs") / "mine"
    ShakyStore.drops = 1000
    save_text(run / "a.txt", "A")
    save_text(run / "b.txt", "B")
    assert capsys.readouterr().err.count("is sent later") == 1
    with pytest.raises(UserError, match=r"cannot be reached.*a.txt is not there yet"):
        files.settle()
    ShakyStore.drops = 0
    files.settle()
    assert names("bucket/runs/mine") == ["a.txt", "b.txt"]
    files.settle()


@pytest.mark.filterwarnings("ignore")
def test_a_run_does_not_wait_for_every_file_while_the_connection_is_gone(
    stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("dictionary_learning.remote.mirror.time.monotonic", lambda: clock[0])
    run = mirror.folder_at("shaky://bucket/runs") / "mine"
    ShakyStore.drops = 1000
    save_text(run / "a.txt", "A")
    attempts = len(ShakyStore.calls)
    for clock[0] in (1.0, 59.0):
        save_text(run / "b.txt", "B")
    assert len(ShakyStore.calls) == attempts
    ShakyStore.drops, clock[0] = 0, 61.0
    save_text(run / "c.txt", "C")
    assert names("bucket/runs/mine") == ["a.txt", "b.txt", "c.txt"]


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next(run: Path) -> None:
    save_text(run / "metrics.jsonl", "one\n")
    with open(run / "metrics.jsonl", "a") as file:  # and no offer: killed
        file.write("two\n")
    mirror.pull(run)
    assert (run / "metrics.jsonl").read_text() == "one\ntwo\n"
    with mirror.held(run):
        pass
    assert stored("bucket/runs/mine/metrics.jsonl") == b"one\ntwo\n"


def test_where_both_have_changed_the_url_is_right(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_text(run / "state.pt", "step 1")
    save_text(run / "metrics.jsonl", "1")
    for name in ("state.pt", "metrics.jsonl"):
        (run / name).write_text("here, step 2")  # not sent
    put("bucket/runs/mine/state.pt", "there, step 3")
    mirror.pull(run)
    assert (run / "state.pt").read_text() == "there, step 3"
    assert (run / "metrics.jsonl").read_text() == "1", "both files are of one run"
    assert "was written elsewhere while state.pt of" in capsys.readouterr().err


def test_hidden_files_parts_and_the_logs_of_wandb_stay_here(run: Path) -> None:
    for name in (
        ".hidden",
        ".b.part/new/a",
        "train-00000.safetensors.part",
        "wandb/run-1/a",
        "wandb/latest-run",
    ):
        save_text(run / name, "")
    save_text(run / "a.txt", "A")
    with mirror.held(run):
        pass
    assert names("bucket/runs/mine") == ["a.txt"]


def test_a_run_that_is_called_like_a_library_is_sent(run: Path) -> None:
    save_text(run.with_name("wandb") / "config.yaml", "one")
    assert names("bucket/runs") == ["wandb/config.yaml"]


def test_a_failed_start_leaves_nothing_at_the_url(run: Path) -> None:
    save_text(run / "config.yaml", "one")
    (run / "config.yaml").unlink()
    mirror.discard(run)
    assert names() == []


def test_a_file_where_a_folder_is_needed_is_one_sentence(run: Path) -> None:
    put("bucket/runs/mine", "a file")
    with pytest.raises(UserError, match="memory://bucket/runs/mine is a file: give the folder that it is in"):
        mirror.pull(run)


def test_a_run_that_another_process_of_this_machine_trains_is_read_as_it_is_here(run: Path) -> None:
    """Its newest files are here, and fetching older ones would undo what it has written."""
    import subprocess
    import sys

    save_text(run / "metrics.jsonl", "1\n")
    lines = (
        "import sys, time; from pathlib import Path; from dictionary_learning.command.lock import locked",
        "with locked(Path(sys.argv[1])):",
        "    print('held', flush=True); time.sleep(60)",
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines), str(run)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        put("bucket/runs/mine/metrics.jsonl", "older")
        mirror.pull(run)
        mirror.fetch(run / "metrics.jsonl")
        assert (run / "metrics.jsonl").read_text() == "1\n"
    finally:
        holder.kill()
        holder.communicate()
    mirror.pull(run)  # whoever held it is dead
    assert (run / "metrics.jsonl").read_text() == "older"


# --- who writes there ---


def claim_of(pid: int, host: str | None = None, touched: float | None = None, token: str = "other") -> None:
    own = {"host": host or socket.gethostname(), "pid": pid, "token": token, "what": "training in"}
    put(
        f"bucket/runs/mine/{CLAIM}",
        json.dumps({**own, "touched": time.time() if touched is None else touched}),
    )


def test_a_folder_is_claimed_while_it_is_held_and_free_afterwards(run: Path) -> None:
    marker = RemotePath(f"{RUNS}/mine/{CLAIM}")
    with mirror.held(run, "training in"):
        told = json.loads(marker.read_bytes())
        assert (told["pid"], told["host"]) == (os.getpid(), socket.gethostname())
    assert not marker.exists()


def test_a_folder_that_another_machine_writes_is_refused_before_anything_is_written(run: Path) -> None:
    claim_of(7, "elsewhere")
    with (
        pytest.raises(UserError, match="process 7 on elsewhere is training in memory://bucket/runs/mine"),
        mirror.held(run, "training in"),
    ):
        raise AssertionError("it was held")
    assert json.loads(stored(f"bucket/runs/mine/{CLAIM}"))["pid"] == 7


@pytest.mark.parametrize(
    "claim",
    [
        {"pid": 7, "host": "elsewhere", "touched": 0.0},  # nobody has renewed it for long
        {"pid": 2**30},  # no process of this machine
        {"pid": os.getpid()},  # the process of that number is this one, and has made no claim
    ],
)
def test_a_claim_whose_process_has_died_is_taken_over(
    run: Path, claim: dict, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[type-arg]
    claim_of(**claim)
    with mirror.held(run, "training in"):
        assert "has ended without saying so" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"host": 1, "pid": "a", "what": "", "touched": 1.0}'])
def test_a_marker_of_another_kind_is_no_claim(run: Path, content: str) -> None:
    put(f"bucket/runs/mine/{CLAIM}", content)
    with mirror.held(run):
        pass


def test_a_claim_is_renewed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dictionary_learning.remote.claim.RENEWED_SECONDS", 0.01)
    with claimed(RemotePath(f"{RUNS}/mine"), "training in"):
        first = json.loads(stored(f"bucket/runs/mine/{CLAIM}"))["touched"]
        deadline = time.monotonic() + 30
        while json.loads(stored(f"bucket/runs/mine/{CLAIM}"))["touched"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_claim_that_somebody_else_has_taken_over_is_left_to_them(run: Path) -> None:
    with mirror.held(run, "training in"):
        claim_of(7, "elsewhere")
    assert json.loads(stored(f"bucket/runs/mine/{CLAIM}"))["pid"] == 7


def test_a_rehearsal_claims_nothing(run: Path) -> None:
    with rehearsal.rehearsing(), mirror.held(run):
        pass
    assert RemotePath(RUNS).files() == {}


def test_a_place_that_can_only_be_read_is_refused(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dictionary_learning.remote.path.open_file_system", lambda url: (None, url))
    run = mirror.folder_at("https://host/runs") / "mine"
    with pytest.raises(UserError, match="can only be read, over https://: choose another --output_dir"):
        files.check_writable(run, "--output_dir")


def test_what_is_saved_while_the_body_fails_is_sent_and_the_first_failure_is_told(run: Path) -> None:
    def train() -> None:
        with mirror.held(run):
            (run / "metrics.jsonl").write_text("1\n")
            raise UserError("the loss is NaN")

    with pytest.raises(UserError, match="the loss is NaN"):
        train()
    assert stored("bucket/runs/mine/metrics.jsonl") == b"1\n"
