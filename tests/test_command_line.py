"""The command `temporal-saes`: its page, its sub-commands, and the check in front of them."""

import importlib
import subprocess
import tomllib
from pathlib import Path

import pytest
import warm

from dictionary_learning.command import program
from temporal_saes.__main__ import ALL, COMMANDS, main, usage

ROOT = Path(__file__).parents[1]
ISSUED = [
    *("train", "train-baseline", "train-attention", "eval", "cache", "probe", "tsne", "align", "steer"),
    *("sequence", "similarity", "geometry", "autointerp", "browse", "convert", "report", "table"),
]


@pytest.fixture(autouse=True)
def started_as_before():
    yield
    program.start_as()


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return warm.run(["-m", "temporal_saes", *words], cwd)


def test_the_page_of_help_has_every_command_with_what_it_is_for() -> None:
    page = usage()
    assert set(ISSUED) <= set(ALL)
    for commands in COMMANDS.values():
        for name, command in commands.items():
            assert f"  {name:<16} {command.what}" in page
    assert max(map(len, page.splitlines())) <= 110


@pytest.mark.parametrize("name", ALL)
def test_a_command_is_the_main_of_its_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(importlib.import_module(ALL[name].module).main)
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: temporal-saes {name} ")


@pytest.mark.parametrize(
    ("word", "said"),
    [("prob", "did you mean probe?"), ("trian", "did you mean train?"), ("xyzzy", "choose one of train, ")],
)
def test_an_unknown_command_is_told_with_the_nearest(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([word])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_underscores_do_as_well_as_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train_baseline", "--help"])
    assert capsys.readouterr().out.startswith("usage: temporal-saes train-baseline ")


def test_pip_installs_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["temporal-saes"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_a_check_stops_before_the_weights_are_read_and_leaves_nothing(
    tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    flags = ["--model", str(tiny_lm_folder), "--dataset", str(tiny_corpus), "--layer", "2", "--run_name", "r"]
    done = run("check", "train", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"the next step would be to read the weights of {tiny_lm_folder}." in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--layer", "99"], "has no layer 99"),
        (["--dataset", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--k", "0"], "k"),
        (["--no_such_flag"], "no_such_flag"),
    ],
)
def test_a_check_finds_what_the_command_would_refuse(
    flags: list[str], said: str, tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    right = ["--model", str(tiny_lm_folder), "--dataset", str(tiny_corpus), "--layer", "2", "--run_name", "r"]
    done = run("check", "train", *right, *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_check_of_what_needs_no_language_model_writes_nothing(tmp_path: Path) -> None:
    from every_dictionary import CONFIG, make

    from dictionary_learning.exchange import run_folder

    run_folder.write(make("batchtopk"), CONFIG, tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    done = run("check", "convert", "--from", "run", "--to", "saelens", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the next step would be to write out" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_help_in_front_of_a_command_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["help", "probe"])
    assert capsys.readouterr().out.startswith("usage: temporal-saes probe ")


def test_a_log_file_gets_lines_and_no_bar_that_rewrites_one(
    tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    flags = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --context_length 32 --memory 20MB"
    sizes = "--batch_size 32 --dict_size 64 --k 4 --steps 3 --warmup_steps 1 --max_tokens 2000 --run_name r"
    done = run("train", *flags.split(), *sizes.split(), "--calibration_tokens", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert "Loading weights" not in done.stderr
    config = (tmp_path / "r").parent.joinpath("runs/r/config.yaml").read_text(encoding="utf-8")
    assert "git_revision: '***'" not in config


def test_fewer_steps_than_a_presets_schedule_are_told_with_one_that_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dictionary_learning.errors import UserError

    with pytest.raises(UserError) as raised:
        main(["train", "--config", "demo", "--steps", "20"])
    said = str(raised.value)
    assert "the --warmup_steps 50 and --decay_start 320 that --config demo brings" in said
    assert "add --warmup_steps 2 --decay_start 16 " in said
    schedule = ["--steps", "20", "--warmup_steps", "2", "--decay_start", "16"]
    with pytest.raises(UserError, match="--k"):  # with them the next mistake is told
        main(["train", "--config", "demo", *schedule, "--k", "0"])
