"""train_temporal.py and train_baseline.py on the tiny language model, from the command line to the files."""

import ast
import dataclasses
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from stopping import WAITING, stop_at

import dictionary_learning
from dictionary_learning import train_attention, train_baseline, train_temporal
from dictionary_learning.command import cli, program, rehearsal
from dictionary_learning.command.options import build, preset_names, read_preset
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.jobs import data, presets, request, train_command
from dictionary_learning.jobs.data import batch_unit
from dictionary_learning.jobs.options import FREE_ON_RESUME, TrainOptions
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.trainers.architectures import ARCHITECTURES, ONLY_FOR, is_for
from dictionary_learning.utils import load_dictionary

PACKAGE = Path(dictionary_learning.__file__).parent
OPTION_READERS = (
    ("options", "jobs/begin.py"),
    ("options", "jobs/data.py"),
    ("options", "jobs/request.py"),
    ("options", "jobs/train_command.py"),
    ("options", "trainers/architectures.py"),
    ("self", "jobs/options.py"),
    ("self", "trainers/options.py"),
    ("self", "activations/options.py"),
)
BASELINES = [arch for arch in ARCHITECTURES if arch not in ("temporal", "attention")]


@pytest.fixture(scope="module")
def tiny(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    """Flags of a small run."""
    flags = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --device cpu --context_length 32"
    sizes = "--memory 20MB --batch_size 32 --dict_size 64 --k 4 --steps 20 --warmup_steps 5 --lr 0.001"
    sizes += " --max_tokens 3000 --log_steps 5 --calibration_tokens 512"
    return [*flags.split(), *sizes.split()]


def run_temporal(*argv: str) -> None:
    train_temporal.main(["--threshold_start_step", "5", *argv])


def trainer_config(run: Path) -> dict[str, Any]:
    return json.loads((run / "trainer_0/config.json").read_text())


# --- what a run leaves ---


def test_a_t_sae_trains_from_the_command_line_and_records_every_option(
    tiny: list[str], tmp_path: Path
) -> None:
    run_temporal(*tiny, "--run_name", "tsae", "--checkpoints_path", str(tmp_path), "--save_fractions", "0.5")
    run = tmp_path / "tsae"
    dictionary, config = load_dictionary(run, device="cpu", checkpoint_path="checkpoints/ae_10.pt")
    dictionary, config = load_dictionary(run, device="cpu")
    assert type(dictionary).__name__ == "TemporalMatryoshkaBatchTopKSAE"
    assert dictionary.activation_dim == 32

    # the command line's default is the paper's method
    trainer = config["trainer"]
    expected = {"contrastive": True, "temporal": "p", "temp_alpha": 1.0, "form": "paper", "seed": 0, "k": 4}
    assert {name: trainer[name] for name in expected} == expected
    assert trainer["finished"]
    assert trainer["norm_factor"] > 0
    assert trainer["calibration_l0"] == pytest.approx(4, rel=0.05)
    buffer = {"ctx_len": 32, "context_length": 32, "max_norm_ratio": 10.0, "text_field": "text"}
    assert {name: config["buffer"][name] for name in buffer} == buffer
    assert {"dataset", "eval_share", "out_batch_size", "model", "lm_dtype"} <= config["buffer"].keys()

    recorded = RunFolder(run).read_config()
    names = {field.name for field in dataclasses.fields(TrainOptions)}
    assert recorded["options"].keys() == names
    assert recorded["options"]["k"] == 4
    assert recorded["preset"] is None
    assert {"versions", "git_revision", "command", "started", "machine"} <= recorded.keys()
    assert [record["step"] for record in RunFolder(run).read_metrics()] == [1, 5, 10, 15, 20]


@pytest.mark.parametrize("arch", BASELINES)
def test_every_baseline_trains_and_loads_again(tiny: list[str], tmp_path: Path, arch: str) -> None:
    flags = tiny if arch in ONLY_FOR["k"] else without(tiny, "--k")
    train_baseline.main([*flags, "--run_name", arch, "--checkpoints_path", str(tmp_path), "--arch", arch])
    dictionary, config = load_dictionary(tmp_path / arch, device="cpu")
    assert type(dictionary).__name__ == config["trainer"]["dict_class"]
    assert (dictionary.activation_dim, dictionary.dict_size) == (32, 64)
    assert all(tensor.isfinite().all() for tensor in dictionary.state_dict().values())
    x_BLD = torch.randn(2, 3, 32)
    assert dictionary(x_BLD).shape == x_BLD.shape


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "relu", "nullify"])
def test_a_temporal_sae_trains_from_the_command_line(tiny: list[str], tmp_path: Path, kind: str) -> None:
    sizes = f"--n_heads 2 --bottleneck_factor 4 --sae_diff_type {kind} --batch_size 4 --autocast bfloat16"
    where = ["--run_name", "tfa", "--checkpoints_path", str(tmp_path)]
    if kind == "batchtopk":
        sizes += " --threshold_start_step 5"
    train_attention.main([*without(tiny, "--batch_size"), *sizes.split(), *where])
    dictionary, config = load_dictionary(tmp_path / "tfa", device="cpu")
    assert isinstance(dictionary, TemporalSAE)
    assert (dictionary.activation_dim, dictionary.width, dictionary.context_length) == (32, 64, 32)
    assert float(dictionary.scaling_factor) == pytest.approx(1 / config["trainer"]["norm_factor"])
    assert config["trainer"]["sae_diff_type"] == kind
    last = RunFolder(tmp_path / "tfa").read_metrics()[-1]
    # contexts of at most 32 tokens, 4 in each of 20 batches
    assert 20 * 4 * 2 <= last["tokens"] <= 20 * 4 * 32
    assert last["trainer_0"]["nmse"] <= last["trainer_0"]["nmse_predicted"] + 1e-6
    if kind == "batchtopk":
        assert config["trainer"]["calibration_l0"] == pytest.approx(4, rel=0.05)
        assert float(dictionary.expected_min_act) == pytest.approx(config["trainer"]["expected_min_act"])


def test_heads_that_do_not_divide_the_width_are_told_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match="5 attention heads do not divide the 64 atoms"):
        train_attention.main(
            ["--model", "none", "--dict_size", "64", "--k", "4", "--n_heads", "5", "--run_name", "x"]
        )


def without(flags: list[str], name: str) -> list[str]:
    at = flags.index(name)
    return flags[:at] + flags[at + 2 :]


def test_several_seeds_train_on_the_same_batches_in_one_run(tiny: list[str], tmp_path: Path) -> None:
    # 15 of the 64 latents are high-level: int(0.25 * 64) = 16 would be a quarter, 0.24 gives 15
    grouped = ["--group_fractions", "0.24", "0.26", "0.5", "--seed", "3", "5", "--no_temporal"]
    run_temporal(*tiny, *grouped, "--run_name", "two", "--save-path", str(tmp_path))
    for i, seed in enumerate((3, 5)):
        dictionary, config = load_dictionary(tmp_path / f"two/trainer_{i}", device="cpu")
        assert config["trainer"]["seed"] == seed
        assert config["trainer"]["temporal"] is False
        assert dictionary.splits()["high"] == slice(0, 15)
    with pytest.raises(UserError, match="several trainers"):
        load_dictionary(tmp_path / "two")


# --- stopping and going on ---


def test_a_run_that_was_killed_and_stopped_ends_with_the_bits_of_one_that_was_not(
    tiny: list[str], tmp_path: Path
) -> None:
    steps = ["--steps", "40", "--log_steps", "1", "--resume_every", "7"]
    flags = [*tiny, *steps, "--threshold_start_step", "5", "--save_fractions", "0.9"]
    train_temporal.main([*flags, "--run_name", "whole", "--checkpoints_path", str(tmp_path)])

    # from another folder than the script's; kill -9 between saves
    here = ["train_temporal", "--run_name", "cut", "--checkpoints_path", "."]
    update = "dictionary_learning.trainers.batch_top_k.BatchTopKTrainer.update"
    cut = RunFolder(tmp_path / "cut")
    code, _ = stop_at(11, update, signal.SIGKILL, *here, *flags, cwd=tmp_path)
    assert code == -signal.SIGKILL
    assert cut.load_state()["step"] == 7  # type: ignore[index]

    # a signal lets the step end
    for number, expected, step in ((signal.SIGINT, 130, 17), (signal.SIGTERM, 143, 25)):
        done = cut.load_state()["step"]  # type: ignore[index]
        code, said = stop_at(step - done, update, number, *here, "--resume", cwd=tmp_path)
        assert code == expected, said
        assert cut.load_state()["step"] == step  # type: ignore[index]
        assert re.search(rf"stopped after step {step} of 40; to go on: .*--run_name cut .*--resume", said)
        _, config = load_dictionary(cut.path, device="cpu")
        assert config["trainer"]["steps_done"] == step

    train_temporal.main(["--run_name", "cut", "--checkpoints_path", str(tmp_path), "--resume"])
    for name in ("ae.pt", "checkpoints/ae_36.pt"):
        whole, resumed = (load_weights(tmp_path / run / "trainer_0" / name) for run in ("whole", "cut"))
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert [record["step"] for record in cut.read_metrics()] == list(range(1, 41))
    assert len(cut.read_config()["resumed"]) == 3


def test_a_run_resumes_with_its_own_options_only(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--run_name", "run", "--checkpoints_path", str(tmp_path)]
    run_temporal(*tiny, *place)
    resume = [*place, "--resume"]
    with pytest.raises(UserError, match=r"--k 5 \(the run has 4\), --layer 1 \(the run has 2\)"):
        train_temporal.main([*resume, "--k", "5", "--layer", "1", "--lr", "0.001"])
    with pytest.raises(
        UserError, match=r": --no_tf32 \(the run has --tf32\), --no_normalize \(the run has --normalize"
    ):
        train_temporal.main([*resume, "--no_tf32", "--no_normalize"])
    with pytest.raises(UserError, match=r"--config demo \(the run has None\)"):
        train_temporal.main([*resume, "--config", "demo"])
    with pytest.raises(UserError, match="no run of this script"):
        train_baseline.main(resume)
    with pytest.raises(UserError, match="there is no run"):
        train_temporal.main(["--run_name", "other", "--checkpoints_path", str(tmp_path), "--resume"])
    with pytest.raises(UserError, match="--resume needs the run's name"):
        train_temporal.main(["--resume"])
    capsys.readouterr()
    train_temporal.main([*resume, "--k", "4", "--log_steps", "7"])
    assert "finished already" in capsys.readouterr().err


def test_random_pairs_are_told_where_texts_end_and_those_of_a_conversation_are_not(
    tiny_lm_folder: Path,
) -> None:
    options = TrainOptions(model=str(tiny_lm_folder), pair_mode="random")
    assert data._tokenizer_for(options).eos_token == "<|endoftext|>"
    assert data._tokenizer_for(dataclasses.replace(options, chat_template=True)) is None
    assert data._tokenizer_for(dataclasses.replace(options, pair_mode="previous")) is None


def edit_options(run: Path, **changed: Any) -> None:
    """Change options in config.yaml by hand; None takes one out."""
    folder = RunFolder(run)
    config = folder.read_config()
    config["options"] = {
        name: value for name, value in (config["options"] | changed).items() if value != "out"
    }
    folder.write_config(config)


def stopped(tiny: list[str], tmp_path: Path) -> list[str]:
    """A run that was killed behind step 5 of 20, and the flags that go on with it."""
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

    update = BatchTopKTrainer.update

    def dies(self: BatchTopKTrainer, step: int, x: torch.Tensor) -> float:
        if step == 7:
            raise ZeroDivisionError
        return update(self, step, x)

    place = ["--run_name", "run", "--checkpoints_path", str(tmp_path)]
    BatchTopKTrainer.update = dies  # type: ignore[method-assign]
    try:
        with pytest.raises(ZeroDivisionError):
            run_temporal(*tiny, *place, "--resume_every", "5")
    finally:
        BatchTopKTrainer.update = update  # type: ignore[method-assign]
    return [*place, "--resume"]


def test_options_that_a_config_lost_come_from_the_state(tiny: list[str], tmp_path: Path) -> None:
    resume = stopped(tiny, tmp_path)
    lost = ["k", "lr", "temp_alpha", "context_length", "calibration_tokens", "steps", "log_steps", "arch"]
    edit_options(tmp_path / "run", **dict.fromkeys(lost, "out"))
    train_temporal.main(resume)
    run_temporal(*tiny, "--run_name", "whole", "--checkpoints_path", str(tmp_path))
    whole, found = (load_weights(tmp_path / name / "trainer_0/ae.pt") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], found[name]) for name in whole)


def test_a_run_that_leaves_texts_out_goes_on_with_the_same_bits_and_says_so(
    tiny: list[str], tmp_path: Path
) -> None:
    flags = [*tiny, "--negatives", "other_texts", "--pairs_per_text", "4", "--pair_mode", "sentence"]
    train_temporal.main(stopped(flags, tmp_path))
    run_temporal(*flags, "--run_name", "whole", "--checkpoints_path", str(tmp_path))
    whole, found = (load_weights(tmp_path / name / "trainer_0/ae.pt") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    config = trainer_config(tmp_path / "run")
    assert config["trainer"]["negatives"] == "other_texts"
    assert config["buffer"]["pairs_per_text"] == 4
    assert config["buffer"]["pair_mode"] == "sentence"
    n_negatives = [record["trainer_0"]["negatives"] for record in RunFolder(tmp_path / "run").read_metrics()]
    assert n_negatives
    assert all(28 <= n < 32 for n in n_negatives)  # of the 31 others at most 3 are of the same text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"k": 9}, r"k 9 \(the run was trained with 4\)"),
        ({"lr": 0.5, "temp_alpha": 3.0}, r"temp_alpha 3.0 \(the run was trained with 1.0\), lr 0.5 "),
        ({"batch_size": None}, r"batch_size None \(the run was trained with 32\)"),
    ],
)
def test_options_that_were_changed_in_a_config_are_named(
    tiny: list[str], tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    resume = stopped(tiny, tmp_path)
    edit_options(tmp_path / "run", **changed)
    with pytest.raises(UserError, match=rf"config.yaml was changed.*: {said}.*put its own back"):
        train_temporal.main(resume)
    assert RunFolder(tmp_path / "run").load_state()["step"] == 5  # type: ignore[index]


def test_a_state_without_options_resumes_with_those_of_its_config(tiny: list[str], tmp_path: Path) -> None:
    resume = stopped(tiny, tmp_path)
    run = RunFolder(tmp_path / "run")
    state = run.load_state()
    assert state is not None
    run.save_state({name: value for name, value in state.items() if name not in ("options", "configs")})
    edit_options(run.path, log_steps=4)
    train_temporal.main(resume)
    assert trainer_config(run.path)["trainer"]["finished"]
    assert run.load_state()["options"]["k"] == 4  # type: ignore[index]


def test_a_state_with_impossible_numbers_is_refused_before_the_model_is_loaded(
    tiny: list[str], tmp_path: Path
) -> None:
    resume = stopped(tiny, tmp_path)
    run = RunFolder(tmp_path / "run")
    edit_options(run.path)
    state = run.load_state()
    assert state is not None
    for factor in (0.0, float("nan"), -2.0, "2"):
        run.save_state(state | {"norm_factor": factor})
        with pytest.raises(
            UserError, match=r"norm_factor is .* in .*state.pt, and must be a positive number"
        ):
            train_temporal.main(resume)
    state["trainers"][0]["ae"]["b_dec"][3] = float("nan")
    run.save_state(state)
    with pytest.raises(UserError, match=r"b_dec of trainer_0 in .*state.pt holds NaN"):
        train_temporal.main(resume)


def test_no_file_of_a_run_holds_a_secret_and_it_still_resumes(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_" + "a1B2" * 8
    texts = Path(tiny[tiny.index("--dataset") + 1])
    with_secret = tmp_path / f"{secret}.jsonl"
    with_secret.write_bytes(texts.read_bytes())
    flags = [str(with_secret) if word == str(texts) else word for word in tiny]
    resume = stopped([*flags, "--wandb_entity", secret], tmp_path)
    with pytest.raises(UserError, match=r"--dataset .*\*\*\*.*give it again"):
        train_temporal.main(resume)
    train_temporal.main([*resume, "--dataset", str(with_secret), "--wandb_entity", secret])
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert secret not in capsys.readouterr().err


def test_a_second_resume_is_told_who_trains_and_the_run_goes_on_undisturbed(
    tiny: list[str], tmp_path: Path
) -> None:
    flags = [*tiny, "--steps", "12", "--log_steps", "1", "--resume_every", "3", "--threshold_start_step", "5"]
    train_temporal.main([*flags, "--run_name", "whole", "--checkpoints_path", str(tmp_path)])
    code = WAITING.format(
        module="dictionary_learning.trainers.batch_top_k",
        name="BatchTopKTrainer",
        method="update",
        call=8,
        command="train_temporal",
    )
    first = warm.Process(["-c", code, *flags, "--run_name", "run", "--checkpoints_path", "."], tmp_path)
    while first.poll() is None and not (tmp_path / "waits").exists():
        time.sleep(0.01)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = ["--run_name", "run", "--checkpoints_path", str(tmp_path)]
    for second in ([*again, "--resume"], [*flags, *again], [*flags, *again, "--resume"]):
        with pytest.raises(UserError, match=rf"process {first.pid} on .* is training in .*: wait for it"):
            train_temporal.main(second)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    (tmp_path / "goes on").touch()
    _, said = first.communicate()
    assert first.returncode == 0, said
    whole, found = (load_weights(tmp_path / name / "trainer_0/ae.pt") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    assert [record["step"] for record in RunFolder(tmp_path / "run").read_metrics()] == list(range(1, 13))
    assert [path.name for path in (tmp_path / "run").rglob(".*")] == []


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("left", ["", ".config.yaml.part", "config.yaml"])
def test_what_a_killed_start_left_is_taken_up_by_the_same_command(
    tiny: list[str], tmp_path: Path, left: str, resume: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--run_name", "run", "--checkpoints_path", str(tmp_path)]
    run = tmp_path / "run"
    if left == "config.yaml":
        run_temporal(*tiny, *place)
        for path in [*run.rglob("*.pt"), *run.rglob("checksums.json")]:
            path.unlink()
        written = trainer_config(run)
        del written["trainer"]["finished"]
        (run / "trainer_0/config.json").write_text(json.dumps(written))
    elif left:
        run.mkdir()
        (run / left).touch()
    capsys.readouterr()
    run_temporal(*tiny, *place, *resume)
    assert trainer_config(run)["trainer"]["finished"]
    steps = [record["step"] for record in RunFolder(run).read_metrics()]
    assert steps == sorted(set(steps))
    assert [path.name for path in run.rglob(".*")] == []
    said = capsys.readouterr().err
    assert ("from the beginning" in said) == bool(left == "config.yaml" or resume)


def test_a_killed_start_of_another_command_is_not_written_over(tiny: list[str], tmp_path: Path) -> None:
    place = ["--run_name", "run", "--checkpoints_path", str(tmp_path)]
    run_temporal(*tiny, *place)
    for path in (tmp_path / "run").rglob("*.pt"):
        path.unlink()
    with pytest.raises(UserError, match="not empty"):
        run_temporal(*tiny, *place, "--layer", "1")


def test_resume_without_a_run_starts_one_only_where_it_is_said_what_to_train(tmp_path: Path) -> None:
    place = ["--run_name", "run", "--checkpoints_path", str(tmp_path)]
    with pytest.raises(UserError, match="there is no run"):
        train_temporal.main([*place, "--resume", "--k", "3"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").touch()
    with pytest.raises(UserError, match="there is no run"):
        train_temporal.main([*place, "--resume", "--config", "demo"])


# --- wrong inputs ---


def make_taken(folder: Path) -> None:
    (folder / "runs/run").mkdir(parents=True)
    (folder / "runs/run/notes.txt").write_text("mine")


def make_file(folder: Path) -> None:
    (folder / "runs_file").write_text("")


def make_corpora(folder: Path) -> None:
    (folder / "empty.jsonl").write_text("")
    (folder / "corrupt.jsonl").write_text("{\nnot json\n")
    (folder / "short.jsonl").write_text('{"text": "The judge overrules a clause."}\n')


BAD_NAMES = ["../../x", "/tmp/x", "a/b", "..", "", "x" * 256, "a\0b"]
WRONG: list[tuple[list[str], str, Callable[[Path], None] | None]] = [
    (["--model", "no/such-folder-or-model"], "no/such-folder-or-model", None),
    (["--layer", "4"], "layer 4", None),
    (["--layer", "-1"], "--layer is -1", None),
    (["--device", "abacus"], "abacus", None),
    (["--group_fractions", "0.2", "0.9"], "must sum to 1", None),
    (["--group_fractions", "1.5", "-0.5"], "--group_fractions", None),
    (["--group_weights", "1"], "one weight for each of the 2 groups", None),
    (["--k", "65"], "--k is 65, and must not be larger than the 64 latents", None),
    (["--expansion_factor", "0.1"], "not be larger than the 3 latents", None),
    (["--k", "0"], "--k is 0", None),
    (["--steps", "0"], "--steps is 0", None),
    (["--lr", "-1"], "--lr is -1.0", None),
    (["--memory", "lots"], "no amount of memory", None),
    (["--memory", "1KB"], "--memory", None),
    (["--decay_start", "2"], "--decay_start is 2", None),
    (["--max_offset", "5"], "--pair_mode random", None),
    (["--run_length", "0"], "--run_length is 0", None),
    (["--run_length", "3"], "must be a multiple of the 3 pairs of a run, such as ", None),
    (["--batch_size", "1"], "its batch: give 2 or more, or --no_contrastive", None),
    (["--batch_size", "4", "--run_length", "4"], "or runs of pairs, of its batch: give 8 or more", None),
    (["--run_length", "2", "--pair_mode", "random"], "is for pairs with the previous token", None),
    (["--run_length", "2", "--no_temporal"], "is for pairs with the previous token", None),
    (["--negatives", "other_texts", "--no_contrastive"], "is for the contrastive loss", None),
    (["--pairs_per_text", "2", "--no_temporal"], "needs pairs", None),
    (["--pairs_per_text", "0"], "--pairs_per_text is 0, and must be at least 1.", None),
    (["--pairs_per_text", "2", "--run_length", "4"], "must be at least 4, a run of pairs.", None),
    (["--pairs_per_text", "1", "--batch_size", "2048"], "takes 2,048 texts, and ", None),
    (["--seeds", "1", "1"], "--seeds is 1 1", None),
    (["--context_length", "1"], "--context_length is 1", None),
    (["--l1_penalty", "3"], "l1_penalty", None),
    (["--no_such_flag"], "no_such_flag", None),
    (["--form", "prose"], "prose", None),
    (["--text_field", "body"], "'body'", None),
    (["--dataset", "no-such-file.jsonl"], "no-such-file.jsonl", None),
    (["--dataset", "empty.jsonl"], "empty.jsonl", make_corpora),
    (["--dataset", "corrupt.jsonl"], "corrupt.jsonl", make_corpora),
    (["--dataset", "short.jsonl", "--eval_share", "0"], "cannot be filled", make_corpora),
    (["--run_name", "run"], "not empty", make_taken),
    *[(["--run_name", name], "must be the plain name of a folder", None) for name in BAD_NAMES],
    (["--checkpoints_path", ""], "--checkpoints_path is ", None),
    *[(["--expansion_factor", value], "must be a finite number", None) for value in ("inf", "nan")],
    (["--lr", "nan"], "--lr is nan, and must be a finite number", None),
    (["--temp_alpha", "inf"], "--temp_alpha is inf", None),
    (["--group_fractions", "nan", "0.5"], "must be a finite number each", None),
    *[(["--seeds", "0", seed], "must lie from 0 to 4294967295", None) for seed in ("-1", str(2**64))],
    (["--dict_size", str(10**12)], "needs at least 32 TB of memory", None),
    (["--expansion_factor", "1e12"], "--expansion_factor 1000000000000.0 needs at least", None),
    (["--checkpoints_path", "runs_file"], "is a file, not a folder", make_file),
]


@pytest.mark.parametrize(
    ("flags", "sentence", "prepare"),
    WRONG,
    ids=[" ".join(case[0])[:60].replace("\0", "NUL") for case in WRONG],
)
def test_a_wrong_input_is_one_sentence_and_leaves_nothing_behind(
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    sentence: str,
    prepare: Callable[[Path], None] | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    if prepare is not None:
        prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as raised:
        cli.run(lambda: run_temporal(*tiny, "--run_name", "new", *flags))
    assert raised.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert sentence in errors[0]
    # these are known only when the width of the model or the number of tokens is
    assert len(lines) == 1 or flags[0] in ("--expansion_factor", "--memory", "--dataset")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_script_exits_with_2_and_one_line(tmp_path: Path) -> None:
    words = [PACKAGE / "train_baseline.py", "--arch", "top_k", "--temp_alpha", "1"]
    done = warm.run(words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "temp_alpha" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_activations_that_are_not_finite_stop_a_run_and_keep_the_last_good_state(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dictionary_learning.activations.batches import PairView

    take, calls = PairView.take, []

    def poisoned(self: PairView, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        batch = take(self, *arguments)
        # the first 16 batches are read ahead, so the 18th is batch 17
        return batch.clone().fill_(float("nan")) if len(calls) == 18 else batch

    monkeypatch.setattr(PairView, "take", poisoned)
    with pytest.raises(UserError, match=r"batch 17 .*step 17 is safe"):
        run_temporal(*tiny, "--run_name", "run", "--checkpoints_path", str(tmp_path), "--resume_every", "5")
    assert RunFolder(tmp_path / "run").load_state()["step"] == 17  # type: ignore[index]
    assert load_dictionary(tmp_path / "run", "cpu")[1]["trainer"]["steps_done"] == 17
    monkeypatch.undo()
    run_temporal("--run_name", "run", "--checkpoints_path", str(tmp_path), "--resume")
    assert trainer_config(tmp_path / "run")["trainer"]["finished"]


def test_no_argument_at_all_names_the_demo_where_the_paper_run_cannot_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(presets, "_hub_answers", lambda: False)
    monkeypatch.setattr(presets, "find_device", lambda device=None: torch.device("cpu"))
    with pytest.raises(UserError, match=r"a GPU and the Hugging Face hub: try --config demo"):
        train_temporal.main([])
    monkeypatch.setattr(presets, "find_device", lambda device=None: torch.device("cuda"))
    with pytest.raises(UserError, match=r"lacks the Hugging Face hub: try --config demo"):
        train_baseline.main([])
    monkeypatch.setattr(presets, "_hub_answers", lambda: True)
    options, preset = request.new_options({}, None, ["temporal"])
    assert (options.model, options.layer, preset) == ("EleutherAI/pythia-160m", 8, "pythia-160m")
    assert options.run_name == "pythia-160m-temporal-seed0"
    assert list(tmp_path.iterdir()) == []


# --- options and presets ---


def test_every_option_is_read_by_the_code() -> None:
    """An option that nothing reads would be a promise that is not kept."""
    read = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # reading an option only to check it is not reading it
        ignored = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name.startswith(("__post_init__", "_check"))
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and id(node) not in ignored
                and (node.value.id, path.relative_to(PACKAGE).as_posix()) in OPTION_READERS
            ):
                read.add(node.attr)
    names = {field.name for field in dataclasses.fields(TrainOptions)}
    assert names - read == set()
    assert ONLY_FOR.keys() <= names
    assert names >= FREE_ON_RESUME


def test_presets_hold_options_that_exist_and_fit_together() -> None:
    assert set(preset_names()) >= {"demo", "pythia-160m", "gemma-2-2b"}
    names = {field.name: field for field in dataclasses.fields(TrainOptions)}
    for preset in preset_names():
        values = read_preset(preset)
        for arch in ("temporal", "attention"):
            if not presets.is_preset_for(preset, arch):
                with pytest.raises(UserError, match=f"{preset} is not for {arch}: choose one of demo, "):
                    presets.preset_values(preset, arch)
                continue
            chosen = presets.preset_values(preset, arch)
            assert chosen.keys() <= names.keys()
            options = build(TrainOptions, {"arch": arch}, chosen)
            # YAML reads 3e-4 as text
            assert isinstance(options.lr, float)
            assert options.latents(d_model=576) == chosen["dict_size"]
        own = values.get("attention", {})
        assert all(is_for(name, "attention") for name in own)
        text = (PACKAGE / "configs" / f"{preset}.yaml").read_text()
        unsourced = [line for line in text.splitlines() if not line.startswith("#") and "# " not in line]
        assert unsourced == []


def test_the_defaults_are_the_papers_pythia_run() -> None:
    machine = {"lm_batch_size", "memory", "save_fractions", "resume_every"}
    defaults = TrainOptions()
    for name, value in read_preset("pythia-160m").items():
        default = getattr(defaults, name)
        if name not in machine:
            assert (list(default) if isinstance(default, tuple) else default) == value, name
    assert train_command.trainer_config(defaults, 768, 0)["lr"] == 3e-4
    assert defaults.temperature == 0.1
    assert TrainOptions(form="code").temperature == 1.0
    assert TrainOptions(arch="gated").lr == 5e-5


def test_flags_of_the_original_script_are_accepted() -> None:
    typed = (
        "--save-path out --run-name a --save_checkpoints --temp_alpha 0.1 --max-steps 50 --lr 1e-3 --seed 4"
    )
    typed += " --dataset x.jsonl --batch-size 64 --temporal r --contrastive --model_name demo --ctx-len 64"
    flags = vars(train_temporal.parser().parse_args(typed.split()))
    options, _ = request.new_options({**flags, "config": None}, None, ["temporal"])
    assert (options.checkpoints_path, options.run_name, options.steps, options.lr) == ("out", "a", 50, 1e-3)
    assert (options.seeds, options.dataset, options.batch_size) == ((4,), "x.jsonl", 64)
    assert (options.temporal, options.pair_mode, options.contrastive) == (True, "random", True)
    assert (options.model, options.context_length, options.temp_alpha) == ("demo", 64, 0.1)
    # shares .001 .00316 .01 .0316 .1 .316 1 of 50 steps; the first four round to the first step or two
    assert options.save_steps == [1, 2, 5, 16, 50]
    assert vars(train_temporal.parser().parse_args(["--no_temporal"]))["temporal"] is False


def test_local_paths_are_recorded_in_full_and_names_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("")
    (tmp_path / "demo").mkdir()
    for given, recorded in (
        ("corpus.jsonl", str(tmp_path / "corpus.jsonl")),
        ("demo", "demo"),
        ("a/b", "a/b"),
    ):
        options, _ = request.new_options({"model": "demo", "dataset": given}, None, ["temporal"])
        assert options.dataset == recorded


def test_no_module_beside_the_scripts_has_the_name_of_a_library() -> None:
    """A script's own folder is the first on sys.path."""
    libraries = set(metadata.packages_distributions()) | sys.stdlib_module_names
    ours = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert ours & libraries - {"__init__"} == set()


# --- what is told ---


def test_how_to_go_on_is_told_as_the_command_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainOptions(run_name="x y")
    program.start_as("temporal-saes", "train")
    try:
        assert train_command._resume_command(options) == "temporal-saes train --run_name 'x y' --resume"
    finally:
        program.start_as()
    monkeypatch.setattr(sys, "argv", ["dir/train_temporal.py", "--k", "3"])
    assert train_command._resume_command(options) == (
        f"{Path(sys.executable).name} dir/train_temporal.py --run_name 'x y' --resume"
    )


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        ({}, "pairs"),
        ({"temporal": False}, "tokens"),
        ({"arch": "top_k"}, "tokens"),
        ({"arch": "attention", "dict_size": 64, "n_heads": 2}, "contexts"),
    ],
)
def test_a_batch_is_counted_in_what_it_holds(options: dict[str, Any], unit: str) -> None:
    assert batch_unit(build(TrainOptions, options)) == unit


def test_a_missing_wandb_is_told_before_the_model_is_loaded(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"--use_wandb\) need the package wandb.*pip install"):
        run_temporal(*tiny, "--model", "demo", "--use_wandb", "--checkpoints_path", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_leaves_no_folder(tiny: list[str], tmp_path: Path) -> None:
    with pytest.raises(rehearsal.Reached, match="read the weights"), rehearsal.rehearsing():
        run_temporal(*tiny, "--run_name", "run", "--checkpoints_path", str(tmp_path / "runs"))
    with pytest.raises(rehearsal.Reached, match=r"make .*run"), rehearsal.rehearsing():
        RunFolder(tmp_path / "run").create()
    assert list(tmp_path.iterdir()) == []
