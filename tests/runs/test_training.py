"""The training loop: what it saves, how it goes on, and how it stops.

Shapes: B 16 tokens, D 6 model width, F 12 latents.
"""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dictionary_learning.activations.block import TextPairs
from dictionary_learning.command import files as saved_files
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.runs import log, scaling
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.trainers import BatchTopKTrainer, StandardTrainer, TemporalMatryoshkaBatchTopKTrainer
from dictionary_learning.training import TrainingResult, trainSAE

B, D, F, K = 16, 6, 12, 3
STEPS = 12


@pytest.fixture(autouse=True)
def measure_the_norm_on_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "NORM_BATCHES", 2)


def batch_of(index: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(index)
    return 5 * torch.randn(shape or (B, D), generator=generator) + 1


class Batches:
    """Rewindable batches, each a function of its index; `before` is called with the index first."""

    def __init__(
        self, shape: tuple[int, ...] = (B, D), before: Callable[[int], object] | None = None
    ) -> None:
        self.shape, self.before, self.index, self.epoch = shape, before, 0, 0

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        if self.before is not None:
            self.before(self.index)
        self.index += 1
        return batch_of(self.index - 1, *self.shape)

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.index = state["index"]


def batch_top_k(**options: Any) -> dict[str, Any]:
    common = {"trainer": BatchTopKTrainer, "steps": STEPS, "activation_dim": D, "dict_size": F, "k": K}
    schedule = {"warmup_steps": 2, "threshold_start_step": 3, "lr": 0.01, "seed": 0, "device": "cpu"}
    return common | schedule | options


def train(data: Any, folder: Path | None, *configs: dict[str, Any], **options: Any) -> TrainingResult:
    options = {"normalize_activations": True, "calibration_tokens": 5 * B, "log_steps": 3} | options
    return trainSAE(data, configs or (batch_top_k(),), STEPS, save_dir=folder, **options)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def same_weights(one: Path, other: Path) -> bool:
    a, b = load_weights(one), load_weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_upstreams_call_trains_and_fills_a_run_folder(tmp_path: Path) -> None:
    batches = (batch_of(i) for i in range(100))
    data = type("Buffer", (), {"config": {"ctx_len": 128}, "__iter__": lambda self: batches})()
    trainSAE(
        data=data,
        trainer_configs=[batch_top_k(seed=0), batch_top_k(seed=1)],
        steps=STEPS,
        use_wandb=False,
        save_steps=[4, 8],
        save_dir=str(tmp_path / "run"),
        log_steps=5,
        normalize_activations=True,
        device="cpu",
        run_cfg={"options": {"k": K}},
    )
    expected = {"config.yaml", "metrics.jsonl", "resume/state.pt"}
    for i in (0, 1):
        names = ["config.json", "ae.pt", "checkpoints/ae_4.pt", "checkpoints/ae_8.pt"]
        names += ["checksums.json", "checkpoints/checksums.json"]
        expected |= {f"trainer_{i}/{name}" for name in names}
    assert files(tmp_path / "run") == expected

    config = json.loads((tmp_path / "run/trainer_1/config.json").read_text())
    assert config["buffer"] == {"ctx_len": 128}
    assert config["trainer"]["dict_class"] == "BatchTopKSAE"
    assert config["trainer"]["seed"] == 1
    assert config["trainer"]["steps_done"] == STEPS
    assert config["trainer"]["calibration_l0"] == pytest.approx(K, rel=0.05)
    assert config["trainer"]["threshold_moving_average"] != config["trainer"]["threshold"]
    threshold = float(load_weights(tmp_path / "run/trainer_1/ae.pt")["threshold"])
    assert config["trainer"]["threshold"] == pytest.approx(threshold)

    recorded = RunFolder(tmp_path / "run").read_config()
    assert recorded["options"] == {"k": K}
    assert {"versions", "git_revision", "command", "started", "machine"} <= recorded.keys()

    records = RunFolder(tmp_path / "run").read_metrics()
    assert [record["step"] for record in records] == [1, 5, 10, 12]
    assert [record["tokens"] for record in records] == [B, 5 * B, 10 * B, 12 * B]
    assert {"loss", "fve", "l0", "dead_share"} <= records[0]["trainer_0"].keys()


def test_activations_are_scaled_to_unit_mean_square_norm_and_no_batch_is_lost(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Watching(BatchTopKTrainer):
        def update(self, step: int, x: Tensor) -> float:
            seen.append(x)
            return super().update(step, x)

    # Every x is (3, 4, 0, ...), so its square norm is 25 and the factor is 5.
    x_BD = torch.zeros(B, D)
    x_BD[:, 0], x_BD[:, 1] = 3.0, 4.0
    result = train((x_BD + 0 for _ in range(STEPS)), None, batch_top_k(trainer=Watching))
    assert result.norm_factor == pytest.approx(5.0)
    assert result.steps_done == len(seen) == STEPS
    torch.testing.assert_close(seen[0], x_BD / 5)

    seen.clear()
    train(Batches(), None, batch_top_k(trainer=Watching), normalize_activations=False)
    assert all(torch.equal(x, batch_of(i)) for i, x in enumerate(seen))


def test_a_saved_dictionary_does_to_raw_activations_what_training_does_to_scaled_ones(tmp_path: Path) -> None:
    result = train(Batches(), tmp_path / "run", save_steps=[6])
    trained, scale = result.trainers[0].ae, result.norm_factor
    assert scale > 5
    weights = load_weights(tmp_path / "run/trainer_0/ae.pt")
    saved = type(trained).from_state_dict(weights, {})
    x_BD = batch_of(1000)
    torch.testing.assert_close(saved.encode(x_BD), scale * trained.encode(x_BD / scale))
    torch.testing.assert_close(saved(x_BD), scale * trained(x_BD / scale))
    assert json.loads((tmp_path / "run/trainer_0/config.json").read_text())["trainer"]["norm_factor"] == scale
    middle = type(trained).from_state_dict(load_weights(tmp_path / "run/trainer_0/checkpoints/ae_6.pt"), {})
    # A checkpoint's threshold fits its own weights: L0 is k on the batch that was just trained on.
    l0 = (middle.encode(batch_of(5)) > 0).sum(1).float().mean()
    assert float(l0) == pytest.approx(K, rel=0.05)


class FourBatches(Batches):
    """The same four batches in every epoch."""

    def __next__(self) -> Tensor:
        self.index += 1
        self.epoch = self.index // 4
        return batch_of((self.index - 1) % 4, B, D)


@pytest.mark.parametrize(("asked", "read"), [(3 * B, 3), (1000 * B, 8)])
def test_a_threshold_is_set_on_a_small_corpus_without_reading_it_again_and_again(
    tmp_path: Path, asked: int, read: int
) -> None:
    data = FourBatches()
    train(data, tmp_path / "run", calibration_tokens=asked)
    config = json.loads((tmp_path / "run/trainer_0/config.json").read_text())
    assert data.index == STEPS + read
    assert config["trainer"]["calibration_tokens"] == read * B


def test_nothing_is_read_for_a_dictionary_that_needs_no_threshold(tmp_path: Path) -> None:
    data = Batches()
    config = {
        name: value for name, value in batch_top_k().items() if name not in ("k", "threshold_start_step")
    }
    train(data, tmp_path / "run", config | {"trainer": StandardTrainer})
    assert data.index == STEPS


def test_logging_checkpoints_and_backups_change_nothing(tmp_path: Path) -> None:
    train(Batches(), tmp_path / "quiet", log_steps=None)
    train(Batches(), tmp_path / "busy", log_steps=1, save_steps=range(1, STEPS), backup_steps=1, verbose=True)
    assert same_weights(tmp_path / "quiet/trainer_0/ae.pt", tmp_path / "busy/trainer_0/ae.pt")


def send(number: int, at: int) -> Callable[[int], object]:
    return lambda index: os.kill(os.getpid(), number) if index == at else None


TEMPORAL = {"trainer": TemporalMatryoshkaBatchTopKTrainer, "group_fractions": [0.25, 0.75], "temp_alpha": 0.1}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    configs = batch_top_k(**TEMPORAL), batch_top_k(**TEMPORAL, seed=1)
    options: dict[str, Any] = {"save_steps": [4, 9], "backup_steps": 4}
    shape = (B, 2, D)
    train(Batches(shape), tmp_path / "whole", *configs, **options)

    with pytest.raises(SystemExit) as raised:
        train(
            Batches(shape, before=send(number, 7)),
            tmp_path / "cut",
            *configs,
            **options,
            resume_hint="type this",
        )
    assert raised.value.code == code
    said = capsys.readouterr().err
    assert "stopped after step" in said
    assert "type this" in said
    state = RunFolder(tmp_path / "cut").load_state()
    assert state is not None
    assert state["step"] == 7  # the signal came while batch 7 was waited for
    assert (tmp_path / "cut/trainer_1/ae.pt").exists()

    result = train(Batches(shape), tmp_path / "cut", *configs, **options, resume=True)
    assert result.steps_done == STEPS
    for name in ("ae.pt", "checkpoints/ae_9.pt"):
        for i in (0, 1):
            assert same_weights(tmp_path / f"whole/trainer_{i}/{name}", tmp_path / f"cut/trainer_{i}/{name}")
    steps = [record["step"] for record in RunFolder(tmp_path / "cut").read_metrics()]
    assert steps == [1, 3, 6, 9, 12]
    assert RunFolder(tmp_path / "cut").read_config()["resumed"][0]["step"] == state["step"]


def test_a_signal_in_the_middle_of_a_step_lets_the_step_end(tmp_path: Path) -> None:
    class Signalled(BatchTopKTrainer):
        def update(self, step: int, x: Tensor) -> float:
            if step == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().update(step, x)

    # data that cannot be rewound are read again
    with pytest.raises(SystemExit):
        train((batch_of(i) for i in range(100)), tmp_path / "cut", batch_top_k(trainer=Signalled))
    state = RunFolder(tmp_path / "cut").load_state()
    assert state is not None
    assert state["step"] == 6
    train((batch_of(i) for i in range(100)), tmp_path / "cut", resume=True)
    train(Batches(), tmp_path / "whole")
    assert same_weights(tmp_path / "whole/trainer_0/ae.pt", tmp_path / "cut/trainer_0/ae.pt")


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    class SignalledTwice(BatchTopKTrainer):
        def update(self, step: int, x: Tensor) -> float:
            if step == 5:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().update(step, x)

    before = signal.getsignal(signal.SIGINT)  # in a background job of a shell it is ignored
    with pytest.raises(KeyboardInterrupt):
        train(Batches(), tmp_path / "run", batch_top_k(trainer=SignalledTwice), backup_steps=4)
    assert RunFolder(tmp_path / "run").load_state()["step"] == 4  # type: ignore[index]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_before_the_first_step_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(Batches(before=send(signal.SIGTERM, 1)), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_killed_before_its_first_save_begins_again(tmp_path: Path) -> None:
    def die(index: int) -> None:
        if index == 9:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(Batches(before=die), tmp_path / "cut")
    train(Batches(), tmp_path / "cut", resume=True)
    train(Batches(), tmp_path / "whole")
    assert same_weights(tmp_path / "whole/trainer_0/ae.pt", tmp_path / "cut/trainer_0/ae.pt")
    assert [record["step"] for record in RunFolder(tmp_path / "cut").read_metrics()] == [1, 3, 6, 9, 12]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    train(Batches(), tmp_path / "run")
    before = load_weights(tmp_path / "run/trainer_0/ae.pt")
    train(Batches(), tmp_path / "run", resume=True)
    after = load_weights(tmp_path / "run/trainer_0/ae.pt")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_folder_that_is_trained_in_is_refused_and_left_alone(tmp_path: Path) -> None:
    train(Batches(), tmp_path / "run")
    with RunFolder(tmp_path / "run").alone():
        before = files(tmp_path / "run")
        for resume in (True, False):
            with pytest.raises(UserError, match=rf"process {os.getpid()} on .* is training in"):
                train(Batches(), tmp_path / "run", resume=resume)
        assert files(tmp_path / "run") == before


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    train(Batches(), tmp_path / "run")
    with pytest.raises(UserError, match="does not fit this run"):
        train(Batches(), tmp_path / "run", batch_top_k(dict_size=F + 1), resume=True)
    with pytest.raises(UserError, match="does not fit this run"):
        train(Batches(), tmp_path / "run", batch_top_k(), batch_top_k(seed=1), resume=True)
    with pytest.raises(UserError, match="not empty"):
        train(Batches(), tmp_path / "run")
    with pytest.raises(UserError, match="there is no run"):
        train(Batches(), tmp_path / "other", resume=True)


def bad_from(index: int, value: float) -> Iterator[Tensor]:
    for i in range(100):
        x_BD = batch_of(i)
        if i >= index:
            x_BD[2, 3] = value
        yield x_BD


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_activations_stop_the_run_and_the_last_good_state_stays(tmp_path: Path, value: float) -> None:
    with pytest.raises(UserError, match=r"batch 7 .*NaN or infinit.*step 7 is safe"):
        train(bad_from(7, value), tmp_path / "run")
    assert RunFolder(tmp_path / "run").load_state()["step"] == 7  # type: ignore[index]
    assert all(w.isfinite().all() for w in load_weights(tmp_path / "run/trainer_0/ae.pt").values())

    with pytest.raises(UserError, match=r"batch 0 .*NaN or infinity"):
        train(bad_from(0, value), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_the_last_good_state_stays(tmp_path: Path) -> None:
    class Diverging(BatchTopKTrainer):
        def update(self, step: int, x: Tensor) -> float:
            loss = super().update(step, x)
            if step == 6:
                with torch.no_grad():
                    self.ae.weights().b_dec_D.fill_(float("nan"))
                return float("nan")
            return loss

    config = batch_top_k(trainer=Diverging)
    with pytest.raises(UserError, match=r"loss of trainer_0 is nan at step 6 .*step 4 is safe"):
        train(Batches(), tmp_path / "run", config, backup_steps=4)
    assert RunFolder(tmp_path / "run").load_state()["step"] == 4  # type: ignore[index]
    with pytest.raises(UserError, match=r"step 6 .*nothing had been saved"):
        train(Batches(), tmp_path / "unsaved", config)
    assert not (tmp_path / "unsaved").exists()


def test_data_that_run_out_are_told_and_the_steps_done_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train((batch_of(i) for i in range(7)), tmp_path / "run")
    assert result.steps_done == 7
    assert "ran out after 7 of 12 steps" in capsys.readouterr().err
    config = json.loads((tmp_path / "run/trainer_0/config.json").read_text())["trainer"]
    assert config["steps_done"] == 7
    assert config["calibration_l0"] == pytest.approx(K, rel=0.05)
    with pytest.raises(UserError, match="not one batch"):
        train(iter([]), tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_silent_group_is_warned_about_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Silent(BatchTopKTrainer):
        def metrics(self) -> dict[str, float]:
            # group 0 recovers before the third log in a row, group 1 stays silent
            step = len(calls)
            calls.append(step)
            return {"loss": 1.0, "l0_group_0": 0.1 if step % 3 else 1.0, "l0_group_1": 0.1}

    calls: list[int] = []
    train(Batches(), tmp_path / "run", batch_top_k(trainer=Silent), log_steps=1)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "silent" in line]
    assert len(warnings) == 1
    assert "group 1 of trainer_0" in warnings[0]


def test_a_failing_wandb_costs_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    run = SimpleNamespace(log=fail, finish=fail)
    settings = {"Settings": lambda **_: None}
    for wandb in (
        None,
        SimpleNamespace(init=fail, **settings),
        SimpleNamespace(init=lambda **_: run, **settings),
    ):
        monkeypatch.setitem(sys.modules, "wandb", wandb)
        result = train(Batches(), None, use_wandb=True, log_steps=1)
        assert result.steps_done == STEPS
        assert capsys.readouterr().err.count("wandb failed") == 1


def test_heads_go_to_their_trainers(tmp_path: Path) -> None:
    seen: dict[int, Tensor] = {}

    class Watching(BatchTopKTrainer):
        def update(self, step: int, x: Tensor) -> float:
            seen[self.seed] = x
            return super().update(step, x)

    configs = [batch_top_k(trainer=Watching, seed=seed) for seed in (0, 1)]
    train(Batches((B, 2, D)), None, *configs, activations_split_by_head=True, normalize_activations=False)
    last = batch_of(STEPS - 1, B, 2, D)
    assert torch.equal(seen[0], last[:, 0])
    assert torch.equal(seen[1], last[:, 1])
    with pytest.raises(UserError, match="transcoder"):
        trainSAE(Batches(), [batch_top_k()], STEPS, transcoder=True)


def test_pairs_with_their_texts_are_split_by_head_too() -> None:
    pairs = TextPairs(batch_of(0, B, 2, 3, D), torch.arange(B))
    part = scaling.Scaling(torch.device("cpu"), by_head=True).part(pairs, 1, trainer=None)
    assert isinstance(part, TextPairs)
    assert torch.equal(part.x_BLD, pairs.x_BLD[:, :, 1])
    assert torch.equal(part.text_B, pairs.text_B)


def test_a_disk_that_fills_up_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = os.fsync

    def full(descriptor: int) -> None:
        if saving["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(descriptor)

    saving = {"full": False}
    monkeypatch.setattr(saved_files.os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        train(Batches(before=lambda index: saving.update(full=index == 7)), tmp_path / "run", backup_steps=4)
    saving["full"] = False
    assert RunFolder(tmp_path / "run").load_state()["step"] == 4  # type: ignore[index]
    assert not [name for name in files(tmp_path / "run") if name.endswith(".part")]
    train(Batches(), tmp_path / "run", resume=True)
    train(Batches(), tmp_path / "whole")
    assert same_weights(tmp_path / "whole/trainer_0/ae.pt", tmp_path / "run/trainer_0/ae.pt")


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    run = SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)
    wandb = SimpleNamespace(init=lambda **with_: started.append(with_) or run, Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for resume in (False, True):
        train(Batches(), tmp_path / "run", use_wandb=True, resume=resume)
    train(Batches(), tmp_path / "other", use_wandb=True)
    ids = [with_["id"] for with_ in started]
    assert ids[0] == ids[1] != ids[2]
    assert [with_["resume"] for with_ in started] == ["allow"] * 3
    assert (tmp_path / "run/wandb_id").read_text().strip() == ids[0]


def test_records_have_the_first_and_the_last_step_and_one_when_time_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(run: str) -> list[int]:
        return [record["step"] for record in RunFolder(tmp_path / run).read_metrics()]

    train(Batches(), tmp_path / "short", log_steps=100)
    assert steps("short") == [1, STEPS]
    train((batch_of(i) for i in range(7)), tmp_path / "ran out", log_steps=5)
    assert steps("ran out") == [1, 5, 7]
    train(Batches(), tmp_path / "short", log_steps=100, resume=True)
    assert steps("short") == [1, STEPS]
    monkeypatch.setattr(log, "SECONDS_BETWEEN_LINES", 0.0)
    train(Batches(), tmp_path / "slow", log_steps=100)
    assert steps("slow") == list(range(1, STEPS + 1))
    assert same_weights(tmp_path / "short/trainer_0/ae.pt", tmp_path / "slow/trainer_0/ae.pt")


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "of_a_loader", [lambda x: [x], lambda x: (x,), Tensor.numpy], ids=("list", "tuple", "numpy")
)
def test_batches_that_are_no_tensors_are_refused_before_anything_is_written(
    of_a_loader: Callable[[Tensor], Any], normalize: bool, tmp_path: Path
) -> None:
    batches = (of_a_loader(batch_of(i)) for i in range(STEPS))
    with pytest.raises(UserError, match=r"where a batch is a tensor .* \(batch\[0\] for batch in loader\)"):
        train(batches, tmp_path / "run", normalize_activations=normalize)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("normalize", [True, False])
def test_a_generator_may_fill_the_same_tensor_again_and_give_empty_ones(normalize: bool) -> None:
    """As one that reads a memory map does, or one that filters tokens."""

    def in_place() -> Iterator[Tensor]:
        x_BD = torch.empty(B, D)
        for i in range(STEPS + 9):
            yield x_BD.copy_(batch_of(i))
            yield torch.empty(0, D)

    expected = train([batch_of(i) for i in range(STEPS + 9)], None, normalize_activations=normalize)
    found = train(in_place(), None, normalize_activations=normalize)
    assert (found.steps_done, found.norm_factor) == (STEPS, expected.norm_factor)
    a, b = (result.trainers[0].ae.state_dict() for result in (expected, found))
    assert all(torch.equal(a[name], b[name]) for name in a)  # the threshold, too


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [(2.5, "must be a whole number"), (-1, "must be at least 1"), (0, "must be at least 1")],
)
def test_steps_that_cannot_be_taken_are_told(steps: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"steps is {steps}, and {sentence}"):
        trainSAE(Batches(), [batch_top_k()], steps, save_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_by_itself_is_told_to_go_into_a_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"put it into a list"):
        trainSAE(Batches(), batch_top_k(), STEPS, save_dir=tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
