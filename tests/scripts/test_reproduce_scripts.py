"""The scripts that repeat the papers' experiments: plans, the check of their arguments, restarts."""

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.texts.names import slug
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.results import comparison_path
from temporal_saes.experiment.subjects import Subject

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_arguments  # noqa: E402
from check_arguments import Step, check, options_of, read_plan, shown  # noqa: E402

EXPERIMENTS = (
    *("probing", "tsne", "sequence_interpretability", "similarity", "temporal_geometry"),
    *("alignment_study", "steering"),
)
SCRIPTS = {"pythia": ["reproduce_pythia.sh"], "gemma": ["reproduce_gemma.sh", "--llama"]}

# Stands for the interpreter: notes its arguments, and makes what the real command would leave behind.
STUB = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$STUB_LOG"
case $* in *"$STUB_FAILS"*) [ -z "$STUB_FAILS" ] || exit 1 ;; esac
output_dir='' compare=() into='' trainer=''
script=$1
while [ $# -gt 0 ]; do
  case $1 in
    --checkpoints_path) runs=$2 ;;
    --run_name) name=$2 ;;
    --dataset) dataset=$2 ;;
    --output_dir) output_dir=$2 ;;
    --trainer) trainer=_trainer$2 ;;
    --output) mkdir -p "$(dirname "$2")" && touch "$2" ;;
  esac
  case $1 in
    --compare) into=compare ;;
    --*) into='' ;;
    *) [ -z "$into" ] || compare+=("${1/:/-}") ;;
  esac
  shift
done
names=$(IFS=_ && echo "${compare[*]}")
case $script in
  */train_*)
    mkdir -p "$runs/$name/trainer_0"
    [ -e "$runs/$name/config.yaml" ] || touch "$runs/$name/config.yaml" "$runs/$name/trainer_0/ae.pt"
    ;;
  */eval_*) mkdir -p "${output_dir:-$runs}" && touch "${output_dir:-$runs}/compare_$names$trainer.json" ;;
  src/*)
    folder=${output_dir:-$runs/comparisons/$(basename "$script" .py)}
    told=${output_dir:+$(basename "$script" .py)_}
    mkdir -p "$folder" && touch "$folder/$told${dataset}_$names.png"
    ;;
esac
"""


def run(
    words: list[str], stub: Path | None = None, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    interpreter = str(stub) if stub else sys.executable
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / words[0]), *words[1:]],
        env={**os.environ, "STEPS_PYTHON": interpreter, "STUB_FAILS": "", **(environment or {})},
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """What `--dry_run` hands to check_arguments.py, of a script and its flags."""
    folder = tmp_path_factory.mktemp("plans")
    copier = folder / "copier"
    copier.write_text('#!/usr/bin/env bash\ncat >"$PLAN_COPY"\n')
    copier.chmod(0o755)

    def plan(*words: str) -> str:
        copy = folder / slug(" ".join(words))
        if not copy.exists():
            result = run([*words, "--dry_run"], copier, environment={"PLAN_COPY": str(copy)})
            assert result.returncode == 0, result.stderr
        return copy.read_text(encoding="utf-8")

    return plan


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_argument_of_a_plan_is_accepted(written, name):
    steps = read_plan(written(*SCRIPTS[name]))
    check(steps)
    assert all(step.hours is not None and step.gigabytes is not None for step in steps)
    page = shown(steps)
    assert page.count("     python ") == len(steps)
    hours = sum(step.hours or 0 for step in steps)
    assert f"{len(steps)} of {len(steps)} steps to do: about {hours:.0f} hours" in page
    assert "Estimates" in page


def test_the_plans_hold_the_papers_methods_and_experiments(written):
    scripts = {}
    for name, words in SCRIPTS.items():
        steps = read_plan(written(*words))
        scripts[name] = {Path(step.words[0]).stem for step in steps}
        trained = [options_of(step.words) for step in steps if "/train_" in step.words[0]]
        arches = {options.arch for options in trained}
        assert {"temporal", "matryoshka", "batch_top_k"} <= arches
        assert all(len(o.seeds) == 3 for o in trained if o.run_name in ("tsae", "matryoshka", "batch_top_k"))
    assert {*EXPERIMENTS, "eval_temporal", "-m"} <= scripts["pythia"] & scripts["gemma"]


def test_temporal_feature_analysis_and_its_baselines_see_as_many_tokens(written):
    trained = {}
    for step in read_plan(written(*SCRIPTS["gemma"])):
        if "/train_" in step.words[0]:
            options = options_of(step.words)
            trained[options.run_name] = options
    assert {trained["tfa_llama_15"].layer, trained["tfa_llama_26"].layer} == {15, 26}
    assert trained["tfa"].batch_size * trained["tfa"].context_length * trained["tfa"].steps == 1e9
    for name in ("tfa_batch_top_k", "tfa_top_k", "tfa_relu"):
        one = trained[name]
        assert (one.dict_size, one.context_length) == (9216, trained["tfa"].context_length)
        assert one.batch_size * one.steps == pytest.approx(1e9, rel=1e-4)


def test_without_llama_nothing_is_done_with_it(written):
    assert "llama" not in written("reproduce_gemma.sh")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_step_waits_for_the_file_that_its_command_writes(written, name):
    for step in read_plan(written(*SCRIPTS[name])):
        options = options_of(step.words)
        if isinstance(options, ExperimentOptions):
            subjects = [stand_in(one) for one in vars(options)["compare"]]
            path = comparison_path(subjects, options, Path(step.words[0]).stem)
            assert fnmatch(f"{path}.png", step.output), step
        elif isinstance(options, TrainOptions):
            assert step.output == f"{options.checkpoints_path}/{options.run_name}/trainer_0/ae.pt"
        elif hasattr(options, "loss_tokens"):
            folder = options.output_dir or options.checkpoints_path
            told = "_".join([*options.compare, *([f"trainer{options.trainer}"] if options.trainer else [])])
            assert step.output == f"{folder}/compare_{told}.json"
        else:
            assert step.output == options.output


def stand_in(asked: str) -> Subject:
    """A subject of that name, of which no more than the name is looked at."""
    name, _, chunk = asked.partition(":")
    return Subject(
        run_name=name,
        folder=Path(),
        trainer_folder=None if name == "baseline_model" else Path(),
        checkpoint=None,
        chunk=int(chunk or 2),
        split="",
        dict_class="",
        model="",
        layer=0,
        context_length=0,
        max_norm_ratio=None,
        add_bos=False,
        lm_dtype="",
    )


def test_no_two_steps_wait_for_the_same_file(written):
    outputs = [step.output for step in read_plan(written(*SCRIPTS["gemma"]))]
    assert len(set(outputs)) == len(outputs)
    assert not any(fnmatch(a, b) for a in outputs for b in outputs if a != b)


TRAIN = (
    "dictionary_learning/dictionary_learning/train_temporal.py --config demo --checkpoints_path r "
    "--run_name a"
)
PROBE = "src/experiments/probing.py --checkpoints_path r"


def step(command: str) -> Step:
    return Step("one", "", False, 1.0, 1.0, "", shlex.split(command))


@pytest.mark.parametrize(
    ("commands", "sentence"),
    [
        (
            [f"{TRAIN} --steps many"],
            r"step 1 \(one\): .*--steps.*invalid int value: 'many' \(see \S*/train_temporal.py --help\)",
        ),
        ([f"{TRAIN} --stepps 5"], "unrecognized arguments: --stepps 5"),
        ([f"{TRAIN} --config pythia"], "argument --config: invalid choice"),
        ([f"{TRAIN} --group_fractions 0.5 0.6"], "--group_fractions is 0.5 0.6, and must sum to 1"),
        ([f"{TRAIN} --config llama-3.1-8b"], "the preset llama-3.1-8b is not for temporal"),
        ([f"{TRAIN} --dataset piles"], "there is no data set 'piles': choose demo"),
        ([TRAIN, f"{PROBE} --run_name a --k none"], r"step 2 \(one\): .*k"),
        ([TRAIN, f"{PROBE} --compare a:0 b:0"], "no step before it trains 'b' in r"),
        ([f"{PROBE} --run_name a", TRAIN], "step 1 .* no step before it trains 'a'"),
        ([TRAIN, f"{PROBE} --compare a:3"], "a:3 asks for chunk 3, which temporal does not have"),
        ([TRAIN, f"{PROBE} --run_name a --trainer 1"], "--trainer 1 of 'a' does not exist: it has 1 seeds"),
        ([TRAIN, f"{PROBE} --run_name a --dataset mlu"], "there is no data set 'mlu'"),
        (["src/experiments/probbing.py"], "there is no script src/experiments/probbing.py"),
    ],
)
def test_a_command_that_would_fail_is_told_in_one_sentence(commands, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        check([step(command) for command in commands])
    assert "\n" not in str(told.value)


def test_a_group_that_an_architecture_lacks_is_told():
    baseline = TRAIN.replace("train_temporal", "train_baseline") + " --arch batch_top_k"
    check([step(baseline), step(f"{PROBE} --compare a:2")])
    with pytest.raises(UserError, match="a:1 asks for chunk 1, which batch_top_k does not have"):
        check([step(baseline), step(f"{PROBE} --compare a:1")])


def test_a_run_that_is_there_need_not_be_trained_by_the_plan(tmp_path):
    (tmp_path / "old").mkdir()
    check([step(f"src/experiments/tsne.py --checkpoints_path {tmp_path} --compare old:0 baseline_model")])


def test_every_script_of_the_experiments_has_its_own_options():
    for name in EXPERIMENTS:
        options = options_of([f"src/experiments/{name}.py"])
        assert isinstance(options, ExperimentOptions)
        assert type(options) is not ExperimentOptions
    assert type(options_of(["-m", "temporal_saes.report", "--run_name", "a"])).__name__ == "ReportOptions"


def test_the_dry_run_runs_from_another_folder_and_ends_with_2_where_an_argument_is_wrong(
    tmp_path, monkeypatch, written
):
    from dictionary_learning.command import cli

    assert run(["reproduce_pythia.sh", "--dry_run", "--bla"], cwd=tmp_path).returncode == 2
    done = run(["reproduce_pythia.sh", "--dry_run", "--runs", str(tmp_path / "runs")], cwd=tmp_path)
    assert done.returncode == 0
    assert " hours of one GPU" in done.stdout
    assert not list(tmp_path.iterdir())

    plan = written("reproduce_pythia.sh").replace("pythia-160m\x1f--arch", "pythia-70m\x1f--arch")
    monkeypatch.setattr(sys, "stdin", io.StringIO(plan))
    with pytest.raises(SystemExit) as ended:
        cli.run(check_arguments.main)
    assert ended.value.code == 2


def test_a_stopped_reproduction_goes_on_and_a_finished_step_is_skipped(tmp_path):
    stub, log = tmp_path / "stub", tmp_path / "log"
    stub.write_text(STUB)
    stub.chmod(0o755)
    runs = tmp_path / "my runs"
    words = ["reproduce_pythia.sh", "--runs", str(runs)]

    def calls(**environment: str) -> list[str]:
        log.write_text("")
        run(words, stub, environment={"STUB_LOG": str(log), **environment})
        return log.read_text().splitlines()

    stopped = calls(STUB_FAILS="dataset mmlu")
    assert "dataset mmlu" in stopped[-1]  # nothing is run behind a step that failed
    rest = calls()
    trainings, others = rest[:7], rest[7:]
    assert all(line.endswith("--resume") for line in trainings)
    assert others[0] == stopped[-1]
    assert len(stopped) - 1 + len(others) == 31

    # all is there now: only the trainings look whether they are finished
    assert calls() == trainings
    # a result that was removed, and what is older than its weights, is made again
    (removed,) = (runs / "comparisons/steering").iterdir()
    removed.unlink()
    again = calls()[7:]
    assert again[0].startswith("src/experiments/steering.py")
    assert [line.split()[:2] for line in again[1:]] == [["-m", "temporal_saes.method_table"]]
    page = (runs / "report.html").stat().st_mtime_ns
    weights = runs / "l1_similarity/trainer_0/ae.pt"
    os.utime(weights, ns=(page + 10**9, page + 10**9))
    assert [line.split()[0] for line in calls()[7:]] == [
        "dictionary_learning/dictionary_learning/eval_temporal.py",
        "src/experiments/probing.py",
        "-m",
    ]


def test_copies_take_the_place_of_the_hub_where_they_are_there(written, tmp_path):
    (tmp_path / "some/mmlu").mkdir(parents=True)
    for one in read_plan(written("reproduce_pythia.sh", "--copies", str(tmp_path / "some"))):
        assert ("--data_path" in one.words) == ("mmlu" in one.words)
    (tmp_path / "texts/pile").mkdir(parents=True)
    steps = read_plan(written("reproduce_pythia.sh", "--copies", str(tmp_path / "texts")))
    assert options_of(steps[0].words).dataset == str(tmp_path / "texts/pile")


def test_the_judge_is_handed_on_to_steering(written):
    judge = ["--judge_url", "http://localhost:8000/v1", "--judge_model", "some/model"]
    steps = read_plan(written("reproduce_gemma.sh", *judge))
    (steering,) = [options_of(one.words) for one in steps if one.words[0].endswith("steering.py")]
    assert (steering.judge_url, steering.judge_model) == ("http://localhost:8000/v1", "some/model")


def test_the_documentation_names_both_scripts():
    page = (ROOT / "docs" / "replication.md").read_text(encoding="utf-8")
    assert "scripts/reproduce_pythia.sh" in page
    assert "scripts/reproduce_gemma.sh" in page


# --- all_methods.sh ---


@pytest.fixture
def demo_of(tmp_path: Path) -> Path:
    """A folder with the scripts and what demo.sh leaves behind that all_methods.sh looks for."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "runs/demo/matryoshka/trainer_0").mkdir(parents=True)
    (tmp_path / "runs/demo/matryoshka/trainer_0/ae.pt").touch()
    return tmp_path


def all_methods(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(folder / "scripts/all_methods.sh")],
        env={**os.environ, "STEPS_PYTHON": "true", **environment},
        capture_output=True,
        text=True,
    )


def test_every_argument_of_all_methods_is_one_that_its_script_takes(demo_of: Path) -> None:
    plan = demo_of / "plan"
    done = all_methods(demo_of, plan=str(plan))
    assert done.returncode == 0, done.stderr
    steps = read_plan(plan.read_text())
    for step in steps:
        words = step.words
        if "--activations" in words:  # a cache that the steps before would have written
            at = words.index("--activations")
            words = words[:at] + words[at + 2 :]
        options_of(words)
    told = " ".join(" ".join(step.words) for step in steps)
    assert all(f"src/experiments/{name}.py" in told for name in EXPERIMENTS)
    assert all(name in told for name in ("--arch batch_top_k", "train_attention.py", "method_table"))


def test_all_methods_without_the_demo_says_what_to_run_first(demo_of: Path) -> None:
    (demo_of / "runs/demo/matryoshka/trainer_0/ae.pt").unlink()
    done = all_methods(demo_of)
    assert done.returncode == 2
    assert done.stderr == "error: there is no runs/demo/matryoshka: run bash scripts/demo.sh first.\n"
