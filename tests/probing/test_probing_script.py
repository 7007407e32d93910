import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from conftest import corpus_records

from dictionary_learning.command import cli, progress
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from temporal_saes.features import Tokens
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing import figure, last_read, probes
from temporal_saes.probing.examples import Positions
from temporal_saes.probing.options import ProbingOptions

SCRIPT = Path(__file__).parents[2] / "src" / "experiments" / "probing.py"
LAYER = 2


def load_script():
    spec = importlib.util.spec_from_file_location("probing_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


probing = load_script()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))


def make_run(folder: Path, model: Path, *, groups: bool = True, width: int = 32, seed: int = 0) -> Path:
    """A run folder with a random dictionary, written by hand in the format of the training script."""
    torch.manual_seed(seed)
    if groups:
        ae = MatryoshkaBatchTopKSAE(width, 96, k=8, group_sizes=[32, 64], seed=seed)
    else:
        ae = BatchTopKSAE(width, 96, k=8, seed=seed)
    ae.threshold.fill_(0.3)
    trainer = folder / "trainer_0"
    (trainer / "checkpoints").mkdir(parents=True)
    config = {
        "trainer": {
            "dict_class": type(ae).__name__,
            "activation_dim": width,
            "dict_size": 96,
            "k": 8,
            "layer": LAYER,
            "lm_name": str(model),
        },
        "buffer": {"ctx_len": 48, "max_norm_ratio": 10.0},
    }
    (trainer / "config.json").write_text(json.dumps(config))
    torch.save(ae.state_dict(), trainer / "ae.pt")
    with torch.no_grad():
        ae.b_dec.add_(0.1)
    torch.save(ae.state_dict(), trainer / "checkpoints" / "ae_10.pt")
    return folder


@pytest.fixture
def runs(tmp_path, tiny_lm_folder):
    make_run(tmp_path / "runs" / "grouped", tiny_lm_folder)
    make_run(tmp_path / "runs" / "plain", tiny_lm_folder, groups=False)
    make_run(tmp_path / "runs" / "wide", tiny_lm_folder, width=40)
    (tmp_path / "runs" / "empty").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def corpus(tmp_path) -> Path:
    """More documents than the shared corpus has, so that parts of speech have examples enough."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in corpus_records(180)), encoding="utf-8")
    return path


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    small = "--label_field domain --k 2 all --repeats 2 --n_train 120 --n_test 60 --context_texts 6"
    return [
        *["--checkpoints_path", str(runs), "--dataset", str(corpus), "--device", "cpu"],
        *small.split(),
        *["--context_tokens", "10", *more],
    ]


def run_main(runs: Path, corpus: Path, *more: str) -> dict:
    """The result of the one run asked for."""
    before = set(runs.glob("*/probing/*.json"))
    probing.main(flags(runs, corpus, *more))
    (made,) = set(runs.glob("*/probing/*.json")) - before
    return json.loads(made.read_text())


def accuracy(result: dict, task: str, k: int | str) -> dict:
    return next(one for one in result["tasks"][task]["accuracy"] if one["k"] == k)


def test_the_script_runs_from_another_folder(runs, corpus, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = flags(runs, corpus, "--run_name", "grouped", "--chunk", "0")
    done = warm.run([str(SCRIPT), *words], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (path,) = (runs / "grouped" / "probing").glob("*.json")
    assert path.name.endswith("_chunk0.json")
    assert path.with_suffix(".png").is_file()
    result = json.loads(path.read_text())
    assert set(result["tasks"]) == {"semantics", "syntax", "context"}
    assert result["options"]["repeats"] == 2
    assert result["subject"]["layer"] == LAYER
    assert result["subject"]["context_length"] == 48
    assert result["n_features"] == 32
    semantics = result["tasks"]["semantics"]
    assert (semantics["n_train"], semantics["n_test"], semantics["n_classes"]) == (120, 60, 3)
    assert semantics["chance"] == pytest.approx(1 / 3)
    assert result["tasks"]["context"]["n_classes"] == 6
    assert result["tasks"]["context"]["n_train"] == 40  # two thirds of 6 x 10 tokens
    assert "semantics" in done.stdout
    assert list(elsewhere.iterdir()) == []


def test_dense_activations_are_probed_and_know_the_domain(runs, corpus, tiny_lm_folder):
    more = ["--run_name", "baseline_model", "--model", str(tiny_lm_folder), "--layer", str(LAYER)]
    result = run_main(runs, corpus, *more, "--tasks", "semantics", "context", "--context_length", "48")
    assert result["subject"]["trainer_folder"] is None
    assert result["n_features"] == 32
    assert accuracy(result, "semantics", "all")["mean"] > 0.5  # chance is 1/3
    assert accuracy(result, "semantics", 2)["n_features"][0] <= 6
    (path,) = (runs / "baseline_model" / "probing").glob("*.json")
    assert "_tiny_lm0-" in path.name
    assert f"_layer{LAYER}" in path.name


def test_a_task_gives_the_same_numbers_whatever_else_is_asked(runs, corpus):
    run = ["--run_name", "grouped"]
    both = run_main(runs, corpus, *run, "--tasks", "semantics", "context")
    # the same weights under another name, so that it is another file
    alone = run_main(runs, corpus, *run, "--tasks", "semantics", "--checkpoint", "ae.pt")
    assert alone["tasks"]["semantics"] == both["tasks"]["semantics"]
    assert set(alone["tasks"]) == {"semantics"}


def test_an_intermediate_checkpoint_is_probed_under_its_own_name(runs, corpus):
    final = run_main(runs, corpus, "--run_name", "grouped", "--tasks", "semantics")
    more = ["--tasks", "semantics", "--checkpoint", "checkpoints/ae_10.pt"]
    early = run_main(runs, corpus, "--run_name", "grouped", *more)
    assert early["weights_sha256"] != final["weights_sha256"]
    names = sorted(path.name for path in (runs / "grouped" / "probing").glob("*.json"))
    assert [name.split("_chunk0")[1] for name in names] == [".json", "_ae_10.json"]


def test_compare_draws_one_figure_and_takes_what_is_finished(runs, corpus, monkeypatch, capsys):
    compare = ["--compare", "grouped:0", "grouped:1", "plain", "baseline_model", "--tasks", "semantics"]
    probing.main(flags(runs, corpus, *compare))
    assert len(list(runs.glob("*/probing/*.json"))) == 4
    (figure,) = (runs / "comparisons" / "probing").glob("*.png")
    assert "grouped-0_grouped-1_plain-0_baseline_model" in figure.name
    baseline = next((runs / "baseline_model" / "probing").glob("*.json"))
    assert json.loads(baseline.read_text())["subject"]["context_length"] == 48  # as the first run's

    fitted = []
    probe = probes.probe
    monkeypatch.setattr(probes, "probe", lambda *a, **b: fitted.append(1) or probe(*a, **b))
    probing.main(flags(runs, corpus, *compare))
    assert fitted == []
    # another training under the same name is not the same result
    make_run(runs / "other", Path(json.loads(baseline.read_text())["subject"]["model"]), seed=1)
    (runs / "other" / "trainer_0" / "ae.pt").replace(runs / "grouped" / "trainer_0" / "ae.pt")
    probing.main(flags(runs, corpus, *compare))
    assert len(fitted) == 2  # both chunks of that run
    probing.main(flags(runs, corpus, *compare, "--seed", "1"))
    assert len(fitted) == 6


def test_a_log_file_says_which_subject_task_and_k_is_fitted_and_how_many_are_to_come(
    runs, corpus, monkeypatch, capsys
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_PIECES", 0)
    more = ["--compare", "grouped:1", "plain", "--tasks", "semantics", "--repeats", "1"]
    probing.main(flags(runs, corpus, *more))
    said = capsys.readouterr().err.splitlines()
    assert "grouped:1 (1 of 2): semantics, k 2, repeat 1 of 1, 0 of 2 fits" in said
    (line,) = [
        line
        for line in said
        if line.startswith("plain:0 (2 of 2): semantics, k all") and "1 of 2 fits" in line
    ]
    assert line.endswith(" min left")


def test_the_chunks_of_a_dictionary_are_taken_from_one_reading(runs, corpus, tmp_path, monkeypatch):
    read = []
    extract = last_read.extract_features
    monkeypatch.setattr(last_read, "extract_features", lambda *a, **b: read.append(1) or extract(*a, **b))
    some = ["--tasks", "semantics", "--repeats", "1"]
    together, alone = tmp_path / "together", tmp_path / "alone"
    compare = [
        "--compare",
        "grouped:0",
        "grouped:1",
        "plain",
        "baseline_model",
        "--output_dir",
        str(together),
    ]
    probing.main(flags(runs, corpus, *compare, *some))
    assert len(read) == 3
    for chunk in ("0", "1"):
        one = ["--run_name", "grouped", "--chunk", chunk, "--output_dir", str(alone)]
        probing.main(flags(runs, corpus, *one, *some))
    assert len(read) == 5
    for path in alone.glob("*.json"):
        result, expected = json.loads((together / path.name).read_text()), json.loads(path.read_text())
        for key in ("l0", "k", "n_features", "outlier_share", "tasks"):
            assert result[key] == expected[key]


@pytest.mark.usefixtures("drawn")
def test_the_figure_of_all_tasks_with_one_repeat_has_no_band(runs, corpus):
    result = run_main(runs, corpus, "--run_name", "plain", "--repeats", "1", "--tasks", "semantics")
    assert accuracy(result, "semantics", 2)["low"] is None


def result_of(name: str, ks: list, halves: list) -> dict:
    accuracy = [
        {"k": k, "mean": 0.5, "low": half and 0.5 - half, "high": half and 0.5 + half}
        for k, half in zip(ks, halves, strict=True)
    ]
    tasks = {"semantics": {"accuracy": accuracy, "majority": 0.4, "chance": 0.3, "n_classes": 3}}
    subject = {"dict_class": "BatchTopKSAE"}
    return {"name": name, "options": {"k": ks}, "subject": subject, "tasks": tasks}


@pytest.mark.parametrize("half", [0.125, None])
def test_intervals_of_a_single_k_are_bars_beside_each_other_that_can_be_seen(half, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure.figures, "save", lambda fig, path, **more: drawn.append(fig) or [])
    figure.draw([result_of(name, [5], [half]) for name in ("a:0", "b:0")], tmp_path / "figure")
    bars = drawn[0].axes[0].containers
    at = [bar.lines[0].get_xdata()[0] for bar in bars]
    assert at == [-0.2, 0.2]  # of a place from -.4 to .4, which two share
    heights = [np.ptp([cap.get_ydata() for cap in bar.lines[1]]) for bar in bars]
    # NaN: without an interval there is no cap either, which would look like one of no width
    assert heights == pytest.approx([2 * half if half else np.nan] * 2, nan_ok=True)
    figure.draw([result_of("a:0", [5, "all"], [half, half])], tmp_path / "figure")
    assert not drawn[1].axes[0].containers  # a band


def test_results_in_one_folder_do_not_collide(runs, corpus, tmp_path):
    out = tmp_path / "out"
    for run in ("grouped", "plain"):
        more = ["--run_name", run, "--output_dir", str(out), "--tasks", "semantics"]
        probing.main(flags(runs, corpus, *more))
    assert len(list(out.glob("*.json"))) == 2
    assert not list(runs.glob("*/probing"))


def test_fewer_texts_than_asked_are_used_and_said(runs, corpus, capsys):
    more = ["--tasks", "semantics", "--n_train", "300", "--n_test", "100"]
    result = run_main(runs, corpus, "--run_name", "plain", *more)
    assert (result["tasks"]["semantics"]["n_train"], result["tasks"]["semantics"]["n_test"]) == (135, 45)
    assert "135 training and 45 test examples instead of 300 and 100" in capsys.readouterr().err


def test_the_tagger_is_only_needed_for_syntax(runs, corpus, monkeypatch):
    def refuse():
        raise AssertionError("tagged without need")

    monkeypatch.setattr("temporal_saes.labelled.parts_of_speech._tagger", refuse)
    run_main(runs, corpus, "--run_name", "plain", "--tasks", "semantics", "context")
    with pytest.raises(AssertionError, match="without need"):
        probing.main(flags(runs, corpus, "--run_name", "plain", "--tasks", "syntax"))


def test_a_task_that_the_texts_do_not_allow_is_told_with_those_that_they_do(runs, tmp_path):
    numbers = tmp_path / "numbers.jsonl"
    records = ({"text": " ".join(map(str, range(i, i + 40))), "domain": "ab"[i % 2]} for i in range(40))
    numbers.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with pytest.raises(UserError, match=r"^syntax: .*; --tasks semantics leaves syntax out\.$"):
        probing.main(flags(runs, numbers, "--run_name", "plain", "--tasks", "semantics", "syntax"))
    with pytest.raises(UserError, match=r"^syntax: .*another data set\.$"):
        probing.main(flags(runs, numbers, "--run_name", "plain", "--tasks", "syntax"))


def test_a_mistake_is_one_sentence_exit_code_2_and_leaves_nothing(runs, corpus, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: probing.main(flags(runs, corpus, "--run_name", "plain", "--chunk", "1")))
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip().splitlines() == [
        "error: chunk 1 needs groups, and BatchTopKSAE has none: use chunk 2."
    ]
    assert not list(runs.glob("*/probing"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "--run_name is missing"),
        (["--run_name", "nobody"], "no run 'nobody'.*has grouped, plain, wide"),
        (["--run_name", "empty"], "holds no trained dictionary"),
        (["--run_name", "baseline_model"], "needs --model and --layer"),
        (["--run_name", "plain", "--checkpoint", "checkpoints/ae_7.pt"], "checkpoints/ae_10.pt"),
        (["--run_name", "plain", "--text_field", "body"], "no field 'body'"),
        (["--run_name", "plain", "--label_field", "source"], "the one class 'tests'"),
        (["--run_name", "plain", "--dataset", "finewebb"], "no labelled data set|--label_field"),
        (["--run_name", "plain", "--k", "0"], "--k 0"),
        (["--run_name", "plain", "--repeats", "0"], "--repeats 0"),
        (["--run_name", "plain", "--context_tokens", "1"], "--context_tokens 1"),
        (["--run_name", "plain", "--max_texts", "0"], "--max_texts 0"),
        (["--compare", "plain", "plain:0"], "twice"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(runs, corpus, monkeypatch, more, sentence):
    def refuse(*args, **options):
        raise AssertionError("loaded before the mistake was seen")

    monkeypatch.setattr(LanguageModel, "load", refuse)
    with pytest.raises(UserError, match=sentence):
        probing.main(flags(runs, corpus, *more))
    assert not list(runs.glob("*/probing"))


def test_a_dictionary_of_another_width_is_refused(runs, corpus):
    with pytest.raises(UserError, match="width 40"):
        probing.main(flags(runs, corpus, "--run_name", "wide"))


def test_texts_too_short_for_the_context_task_are_told(runs, corpus):
    more = ["--run_name", "plain", "--tasks", "context", "--context_tokens", "47", "--context_texts", "2"]
    with pytest.raises(UserError, match="context: "):
        probing.main(flags(runs, corpus, *more, "--context_length", "20"))


# --- which tokens ---


def spaced(n: int) -> tuple[LabelledText, Tokens]:
    """n one-letter words, each with a token for the letter and one for the space behind it."""
    text = "x " * n
    offsets = [(i, i + 1) for i in range(2 * n)]
    tokens = Tokens(np.arange(2 * n, dtype=np.int32), offsets, np.ones(2 * n, dtype=bool))
    return LabelledText(text, "a", "", "", id=n), tokens


def options(**changes):
    return ProbingOptions(**{"context_texts": 2, "context_tokens": 5, **changes})


def test_the_cut_is_in_the_second_half_and_never_white_space_or_an_unusable_token():
    pairs = [spaced(n) for n in range(4, 60)]
    for _, tokens in pairs:
        tokens.usable_L[-2] = False  # the last letter
    positions = Positions([text for text, _ in pairs], options(tasks=("semantics",)))
    for index, (_, tokens) in enumerate(pairs):
        (cut,) = positions(index, tokens)
        assert cut % 2 == 0
        assert len(tokens.ids_L) // 2 - 2 <= cut < len(tokens.ids_L) - 2
    assert positions.context == {}


def test_context_tokens_are_distinct_and_only_from_texts_that_are_long_enough():
    pairs = [spaced(n) for n in (3, 8, 4, 9, 20)]
    positions = Positions([text for text, _ in pairs], options())
    chosen = [positions(index, tokens) for index, (_, tokens) in enumerate(pairs)]
    assert list(positions.context) == [1, 3]  # two texts are enough
    assert [len(set(where.tolist())) for where in positions.context.values()] == [5, 5]
    for index, where in positions.context.items():
        assert set(where.tolist()) | {positions.cut[index]} == set(np.concatenate(chosen[index]).tolist())


def test_a_text_without_a_usable_token_gives_none():
    text, tokens = spaced(3)
    tokens.usable_L[:] = False
    positions = Positions([text], options())
    assert positions(0, tokens) == []
    assert positions.cut == {}


def test_pooled_tokens_end_with_the_one_that_is_read():
    pairs = [spaced(n) for n in (2, 8, 9)]
    texts = [text for text, _ in pairs]
    positions = Positions(texts, options(tasks=("semantics",), pool="3"))
    single = Positions(texts, options(tasks=("semantics",)))
    for index, (_, tokens) in enumerate(pairs):
        ((cut,),) = single(index, tokens)  # the same token as without pooling
        (span,) = positions(index, tokens)
        assert span.tolist() == [place for place in (cut - 4, cut - 2, cut) if place >= 0]


def test_another_choice_of_latents_has_a_result_of_its_own(runs, tiny_corpus):
    words = [*flags(runs, tiny_corpus, "--run_name", "grouped"), "--tasks", "semantics"]
    probing.main(words)
    probing.main([*words, "--direction", "either", "--scale_choice", "--pool", "4"])
    names = sorted(path.name for path in (runs / "grouped" / "probing").glob("*.json"))
    assert len(names) == 2
    assert names[1] == names[0].replace(".json", "_either_scaled_pool4.json")
