"""The page about a run: on hand-made run folders, from the command line to what a browser would read."""

import hashlib
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import warm
import yaml
from scipy import sparse

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.documents import document_id, is_eval
from dictionary_learning.trainers import BatchTopKSAE, TemporalMatryoshkaBatchTopKSAE
from temporal_saes.features import Features, Tokens
from temporal_saes.pages import page
from temporal_saes.pages.page import element
from temporal_saes.pages.text_latents import (
    Part,
    Shown,
    choose,
    join_parts,
    look,
    opening,
    pieces,
    steadiness,
    strongest,
    two_documents,
)
from temporal_saes.pages.token_colours import visible
from temporal_saes.report.command import COMMAND, main
from temporal_saes.report.held_out import held_out_records, some_paragraphs
from temporal_saes.report.latent_names import names_section
from temporal_saes.report.results import (
    _no_evaluation,
    evaluation_section,
    number,
    probing_figure,
    probing_section,
)
from temporal_saes.report.run_files import RunFiles
from temporal_saes.report.training_curves import training_curves

# The smallest PNG there is: one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc00000030101"
    "0018dd8db00000000049454e44ae426082"
)
WICKED = "</span><script>alert(1)</script>&"


# --- run folders ---


def make_run(folder: Path, lm_folder: Path, corpus: Path, *, grouped: bool = True, seed: int = 0) -> Path:
    """A run as training leaves it, of random weights: config.yaml, metrics.jsonl, trainer_0."""
    torch.manual_seed(seed)
    ae = TemporalMatryoshkaBatchTopKSAE(32, 64, 4, [16, 48]) if grouped else BatchTopKSAE(32, 64, 4)
    ae.threshold.fill_(2.0)
    trainer_folder = folder / "trainer_0"
    trainer_folder.mkdir(parents=True)
    torch.save(ae.state_dict(), trainer_folder / "ae.pt")
    trainer = {
        "dict_class": type(ae).__name__,
        **{"activation_dim": 32, "dict_size": 64, "k": 4, "layer": 2, "lm_name": str(lm_folder)},
        **{"steps": 40, "steps_done": 40, "seed": seed, "device": "cpu", "dead_feature_threshold": 1000},
    }
    buffer = {
        **{"model": str(lm_folder), "layer": 2, "lm_dtype": "float32", "dataset": str(corpus)},
        **{"text_field": "text", "eval_share": 0.3, "context_length": 48, "max_norm_ratio": 10.0},
        **{"out_batch_size": 32, "max_tokens": 3000, "pair_mode": "previous"},
    }
    if grouped:
        trainer |= {"group_sizes": [16, 48], "temporal": "p", "contrastive": True, "temp_alpha": 1.0}
    (trainer_folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": buffer}))
    config = {
        "preset": None,
        "options": {"steps": 40, "group_fractions": [0.25, 0.75]},
        "command": f"python train_temporal.py --run_name {folder.name}",
        "started": "2026-01-01T00:00:00+00:00",
        "git_revision": "abc123",
        "versions": {"python": "3.11", "torch": "2"},
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    groups = {"l0_group_0": 1.5, "l0_group_1": 2.5, "temporal": 0.7} if grouped else {}
    lines = []
    for step in (10, 20, 30, 40):
        numbers = {"loss": 4 / step, "reconstruction": 3 / step, "fve": step / 100 - 0.2, "l0": 4.0, **groups}
        numbers |= {"dead_share": None if step == 20 else 0.125}
        told = {"step": step, "tokens": step * 32, "seconds": step / 10, "epoch": step // 20}
        lines.append(json.dumps({**told, "trainer_0": numbers}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def weights_of(run: Path) -> str:
    return hashlib.sha256((run / "trainer_0/ae.pt").read_bytes()).hexdigest()


def add_evaluation(run: Path, **changes: Any) -> None:
    """eval_results.json with the keys that eval_temporal.py writes; values are easy to tell apart."""

    def measure(value: float | None, formula: str = "a < b") -> dict[str, Any]:
        return {"value": value, "tokens": 1234, "left_out": 0, "formula": formula}

    result = {
        "weights_sha256": weights_of(run),
        "tokens": 1234,
        "contexts": 40,
        "masks": "text tokens",
        "provenance": {"command": "python eval_temporal.py"},
        "measures": {
            "all": {
                **{"fve_global": measure(0.7111), "fve_context_mean": measure(0.7222), "alive": measure(0.5)},
                **{"cosine": measure(0.9), "l0": measure(4.125), "smoothness_lipschitz": measure(None)},
                **{"loss_clean": measure(3.0) | {"predictions": 999}, "loss_recovered": measure(0.9876)},
                "smoothness_wavelet": measure(1.5),
            },
            "high": {"fve_context_mean": measure(0.3333), "smoothness_lipschitz": measure(0.0123)},
        },
    }
    (run / "trainer_0/eval_results.json").write_text(json.dumps(result | changes))


def add_probing(run: Path, chunk: int = 0, **changes: Any) -> dict[str, Any]:
    """A result of probing.py, and its figure."""
    accuracy = [
        {"k": 5, "mean": 0.6, "low": 0.55, "high": 0.65, "values": [0.6]},
        {"k": "all", "mean": 0.75, "low": None, "high": None, "values": [0.75]},
    ]
    numbers = {"accuracy": accuracy, "chance": 0.25, "majority": 0.3, "n_train": 3000, "n_test": 1000}
    subject = {"run_name": run.name, "trainer_folder": "trainer_0", "checkpoint": None, "chunk": chunk}
    result = {
        "experiment": "probing",
        "name": f"{run.name}:{chunk}",
        "options": {"dataset": "demo"},
        "subject": subject,
        "weights_sha256": weights_of(run),
        "tasks": {"semantics": numbers | {"n_classes": 4, "classes": {WICKED: 10}}},
        "interval": "t-interval",
        "provenance": {"command": "python probing.py"},
    }
    (run / "probing").mkdir(exist_ok=True)
    (run / f"probing/demo_chunk{chunk}.json").write_text(json.dumps(result | changes))
    (run / f"probing/demo_chunk{chunk}.png").write_bytes(PNG)
    return result | changes


def add_naming(run: Path, **changes: Any) -> None:
    """A result of naming.py."""
    mean = {"mean": 0.6543, "low": 0.64, "high": 0.67}
    split = {"n_latents": 2, "words": mean, "tokens": mean | {"mean": 0.5}}
    one = {"split": "high", "titles": [], "classes": [[WICKED, 5.0, 0.5, 3.25]], "information": 0.125}
    result = {
        "experiment": "naming",
        "options": {"dataset": "demo", "held": 8, "list_length": 8},
        "weights_sha256": weights_of(run),
        "n_tokens": 5678,
        "window": 32,
        "splits": {"high": {"1": split, "8": split}},
        "latents": [
            one
            | {"latent": i, "words": [[f"senate{i}", 9.0, 0.1, 5.0], [WICKED, 4.0, 0.1, 2.0]]}
            | {"stretch": 10.0 + i, "telling": 1.25 + i}
            for i in range(64)
        ],
        "provenance": {"command": "python naming.py"},
    }
    (run / "naming").mkdir(exist_ok=True)
    (run / "naming/demo_chunk2.json").write_text(json.dumps(result | changes))


@pytest.fixture(scope="module")
def wicked_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus, its titles and domains full of markup."""
    path = tmp_path_factory.mktemp("wicked") / "wicked.jsonl"
    records = [json.loads(line) for line in tiny_corpus.read_text().splitlines()]
    for record in records:
        record["text"] = f"{WICKED} {record['text']}"
        record["title"] += WICKED
        record["source"] = f'https://example.org/"{WICKED}'
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture(scope="module")
def runs(tiny_lm_folder: Path, wicked_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole runs, `one` with groups and `two` without, and `bare`, which was only trained."""
    folder = tmp_path_factory.mktemp("runs")
    for name, grouped in (("one", True), ("two", False)):
        run = make_run(folder / name, tiny_lm_folder, wicked_corpus, grouped=grouped, seed=len(name))
        add_evaluation(run)
        add_probing(run, 0 if grouped else 2)
        add_naming(run)
    make_run(folder / "bare", tiny_lm_folder, wicked_corpus)
    return folder


@pytest.fixture
def own_runs(runs: Path, tmp_path: Path) -> Path:
    """A copy of `one` that a test may damage."""
    shutil.copytree(runs / "one", tmp_path / "one")
    return tmp_path


@pytest.fixture(scope="module")
def whole(runs: Path) -> str:
    """The page about `one` beside `two`."""
    main(["--run_name", "one", "--compare", "two", "--checkpoints_path", str(runs), "--device", "cpu"])
    return (runs / "one/report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Reads a page as a browser does; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in page.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


# --- the whole page ---


def test_latents_are_named_by_what_they_are_held_over(whole: str, own_runs: Path) -> None:
    read = Reader(whole)
    assert "From 5,678 tokens of demo" in read.text
    # the most telling first, and no more than twelve
    assert read.text.index("senate63") < read.text.index("senate62") < read.text.index("senate52")
    assert "senate51," not in read.text.partition("Latents on a text")[0]
    assert "3.2×" in read.text
    assert "0.654 ± 0.016" in read.text
    # the coloured latents, too
    assert read.text.partition("Latents on a text")[2].count("Held over: senate") == 4
    # names of other weights are not shown
    add_naming(own_runs / "one", weights_sha256="of another training")
    run = RunFiles.read(own_runs, "one")
    assert run.naming is None
    assert "naming.py --run_name one" in "".join(str(one) for one in names_section(run))


def test_the_page_of_a_whole_run_has_every_section(whole: str) -> None:
    read = Reader(whole)
    for heading in ("Training", "Evaluation", "Probing", "Latents on a text", "How this page was made"):
        assert heading in read.text
    assert "one: a T-SAE on" in read.text
    assert "64: 16 high-level, 48 low-level" in read.text
    assert "arXiv 2511.05541" in read.text
    assert "40 of 32" in read.text  # steps of pairs
    assert "1,280" in read.text  # pairs: 40 * 32
    assert read.of_class("missing") == []
    # curves: loss, reconstruction, temporal, FVE, L0, dead; and the probing figure
    assert len(read.all("img")) == 7
    # a panel for each document in each of the two splits
    assert len(read.of_class("panel")) == 4
    assert len(read.of_class("high")) == len(read.of_class("low")) == 2
    for command in (
        "python train_temporal.py --run_name one",
        "python eval_temporal.py",
        "python probing.py",
    ):
        assert command in read.text
    assert f"{COMMAND} --run_name one --compare two" in read.text


def test_the_page_loads_nothing_and_runs_nothing(whole: str) -> None:
    read = Reader(whole)
    assert not read.all("script") + read.all("link") + read.all("iframe") + read.all("object")
    assert all((image["src"] or "").startswith("data:image/") for image in read.all("img"))
    assert {name for name, attributes in read.tags if "src" in attributes} == {"img"}
    assert not any(key.startswith("on") for _, attributes in read.tags for key in attributes)
    style = whole.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policies = [meta["content"] for meta in read.all("meta") if meta.get("http-equiv")]
    assert policies == [page.POLICY]


def test_what_comes_from_texts_and_files_is_escaped(whole: str) -> None:
    read = Reader(whole)
    assert "<script" not in whole
    # it is still there to be read: in a title, and cut into tokens in the coloured text
    assert WICKED in read.text
    assert any(WICKED in (link["href"] or "") for link in read.all("a"))
    expected = "html head meta title style body main h1 h2 h3 p a dl div dt dd details summary table caption"
    expected += " thead tbody tr th td ul li figure figcaption img section svg rect line span i code pre mark"
    expected += " bdi"
    assert {tag for tag, _ in read.tags} <= set(expected.split())


def test_pictures_have_descriptions_and_tables_have_headers(whole: str) -> None:
    read = Reader(whole)
    assert all(len(image["alt"] or "") > 20 for image in read.all("img"))
    assert all(len(svg["aria-label"] or "") > 20 for svg in read.all("svg"))
    assert all(header["scope"] in ("row", "col") for header in read.all("th"))
    assert len(read.all("caption")) == len(read.all("table")) > 0
    assert read.all("html")[0]["lang"] == "en"


def test_every_token_of_the_text_is_shown_with_its_value(whole: str, runs: Path) -> None:
    read = Reader(whole)
    spans = [span for span in read.all("span") if "title" in span]
    assert all(
        span["title"] == "not read" or float((span["title"] or "").split(" + ")[0]) >= 0 for span in spans
    )
    coloured = read.of_class("on")
    assert coloured
    # the strongest token of each of the four panels
    assert sum(span["style"] == "--a:0.80" for span in coloured) >= 4


@pytest.mark.parametrize(("buffer", "on_others"), [({"dataset": "demo"}, False), ({}, True)])
def test_a_run_of_unknown_texts_is_told_to_be_evaluated_on_others(buffer: dict, on_others: bool) -> None:
    run: Any = SimpleNamespace(name="mine", flags="--run_name mine", buffer=buffer)
    assert ("--run_name mine --dataset texts.jsonl --part all" in str(_no_evaluation(run))) == on_others


def test_the_page_names_the_commands_for_what_is_missing(runs: Path, tmp_path: Path) -> None:
    (runs / "bare/metrics.jsonl").rename(runs / "bare/elsewhere")
    try:
        output = tmp_path / "deep/page.html"
        main([*flags(runs, "bare"), "--output", str(output), "--held_out_texts", "0"])
    finally:
        (runs / "bare/elsewhere").rename(runs / "bare/metrics.jsonl")
    read = Reader(output.read_text())
    where = f"--run_name bare --checkpoints_path {runs}"
    assert f"eval_temporal.py {where}" in read.text
    assert f"probing.py {where} --chunk 0" in read.text
    assert f"probing.py {where} --chunk 1" in read.text
    assert f"naming.py {where}" in read.text
    assert "no metrics.jsonl" in read.text
    assert len(read.of_class("missing")) == 4
    assert "It fires at no token of the held-out texts that were read." in read.text


def flags(runs: Path, name: str) -> list[str]:
    return ["--run_name", name, "--checkpoints_path", str(runs), "--device", "cpu"]


def test_a_text_of_ones_own_is_coloured(runs: Path, tmp_path: Path) -> None:
    text = "The judge overrules the appeal 🎉.\n\tA comet circles the moon.   And so on."
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    output = tmp_path / "page.html"
    main([*flags(runs, "two"), "--text_file", str(tmp_path / "text.txt"), "--output", str(output)])
    read = Reader(output.read_text())
    assert "Of the latents, the two are shown" in read.text
    panels = read.of_class("panel")
    assert len(panels) == 2
    # line end and tab are seen, the emoji's bytes are one character
    assert "↵\n" in read.text
    assert "⇥\t" in read.text
    assert "🎉" in read.text


def test_the_rest_of_the_page_is_written_without_the_language_model(
    tiny_lm_folder: Path, wicked_corpus: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "moved", tiny_lm_folder, wicked_corpus)
    path = run / "trainer_0/config.json"
    path.write_text(path.read_text().replace(str(tiny_lm_folder), str(tmp_path / "gone")))
    main(flags(tmp_path, "moved"))
    read = Reader((run / "report.html").read_text())
    assert "The coloured text is left out" in read.text
    assert str(tmp_path / "gone") in read.text
    assert len(read.all("img")) == 6


# --- wrong inputs ---


def test_a_wrong_run_is_one_sentence_and_exit_code_2_from_another_directory(
    tmp_path: Path, runs: Path
) -> None:
    words = ["-m", "temporal_saes.report", "--run_name", "nope", "--checkpoints_path", runs]
    done = warm.run(words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: there is no run 'nope' in {runs} (it has bare, one, two): check --run_name and "
        "--checkpoints_path."
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--run_name is missing"),
        (["--run_name", "one", "--compare", "one"], "names a run twice"),
        (["--run_name", "one", "--compare", "three"], "no run 'three'"),
        (
            ["--run_name", "one", "--trainer", "3"],
            r"has no trainer_3 with a config.json \(it has trainer_0\)",
        ),
        (["--run_name", "one", "--trainer", "-1"], "--trainer is -1"),
        (["--run_name", "one", "--text", "a", "--text_file", "b"], "both given"),
        (["--run_name", "one", "--text_file", "/nowhere/b.txt"], r"cannot be read \(No such file"),
        (["--run_name", "one", "--text", " \n"], "is empty"),
        (["--run_name", "one", "--device", "toaster"], "toaster"),
        (["--run_name", "one", "--output", "/"], "is a folder"),
        (["--run_name", "one", "--output", f"{__file__}/x.html"], "is a file.*choose another --output"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(runs: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        main([*words, "--checkpoints_path", str(runs)])


def test_a_damaged_config_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run/trainer_0").mkdir(parents=True)
    (tmp_path / "run/trainer_0/config.json").write_text('{"trainer": ')
    with pytest.raises(UserError, match="is damaged"):
        main(flags(tmp_path, "run"))


# --- evaluation and probes ---


def test_the_evaluation_table_has_a_column_a_run_and_a_dash_for_what_is_undefined(runs: Path) -> None:
    read = Reader("".join(filter(None, evaluation_section([RunFiles.read(runs, n) for n in ("one", "two")]))))
    headers = [word for word in read.words if word in ("one", "T-SAE", "two", "BatchTopK")]
    assert headers == ["one", "T-SAE", "two", "BatchTopK"] * 2  # the table, and the one of more measures
    assert read.words.count("0.711") == read.words.count("0.988") == 2
    assert read.words.count("–") >= 2  # smoothness of all latents
    assert "1,234" in read.words
    assert "999" in read.words
    assert "a < b" in read.words  # a formula


def test_results_of_other_weights_are_left_out(
    tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", tiny_lm_folder, tiny_corpus)
    add_evaluation(run, weights_sha256="another")
    add_probing(run, weights_sha256="another")
    files = RunFiles.read(tmp_path, "run")
    assert files.evaluation is None
    assert files.probing == []
    add_evaluation(run)
    (run / "trainer_0/eval_results.json").write_text("{")
    assert RunFiles.read(tmp_path, "run").evaluation is None


def test_the_probing_table_shows_intervals_chance_and_majority(runs: Path) -> None:
    section = probing_section([RunFiles.read(runs, "one"), RunFiles.read(runs, "two")], [])
    read = Reader("".join(filter(None, section)))
    assert read.words.count("0.600 ± 0.050") == 2
    assert read.words.count("0.750") == 2  # a single repeat has no interval
    assert {"one, high-level", "two, all latents", "0.250", "0.300"} <= set(read.words)


def test_probes_of_one_run_that_differ_are_told_apart(own_runs: Path) -> None:
    run, name = own_runs / "one", "one, high-level"
    plain = add_probing(run)
    for i, (options, subject) in enumerate(
        [({"seed": 1}, {}), ({"seed": 0}, {"threshold": "topk"}), ({"seed": 0, "dataset": "mmlu"}, {})]
    ):
        other = {"options": plain["options"] | options, "subject": plain["subject"] | subject}
        path = run / f"probing/demo_chunk0_{i}.json"
        path.write_text(json.dumps(plain | other | {"provenance": {}}))
    section = probing_section([RunFiles.read(own_runs, "one")], [])
    words = Reader("".join(filter(None, section))).words
    assert [word for word in words if word.startswith(name)] == [
        name,
        f"{name}, seed 1",
        f"{name}, threshold topk, seed 0",
    ]
    assert "Not shown: probes on mmlu." in words


def test_the_figure_of_the_comparison_with_most_of_the_subjects_is_shown(tmp_path: Path) -> None:
    run = tmp_path / "a"
    (run / "probing").mkdir(parents=True)
    own = run / "probing/demo_chunk0.png"
    folder = tmp_path / "comparisons/probing"
    folder.mkdir(parents=True)
    results = [{"name": name, "options": {"dataset": "demo"}} for name in ("a:0", "b:0", "baseline_model")]
    own.write_bytes(PNG)
    assert probing_figure(run, results) == own
    for name in (
        "demo_aa-0_b-0_baseline_model",
        "demo_a-0_b-0",
        "demo_a-0_b-0_baseline_model",
        "demo_b-0_a-0",
        "mmlu_a-0_b-0_baseline_model",  # of other texts
    ):
        (folder / f"{name}.png").write_bytes(PNG)
    assert probing_figure(run, results) == folder / "demo_a-0_b-0_baseline_model.png"


def test_numbers_are_short_and_counts_are_whole() -> None:
    values = (None, 0.71234, 0.7, 4.125, 20.13, 12345.6, 1234567, 0.00012345)
    shown = ["–", "0.712", "0.700", "4.12", "20.1", "12,346", "1,234,567", "0.000123"]
    assert [number(value) for value in values] == shown


# --- curves ---


def test_curves_show_each_number_that_was_logged_and_say_the_last_ones(runs: Path) -> None:
    curves = {
        curve.name: curve for curve in training_curves([RunFiles.read(runs, n) for n in ("one", "two")])
    }
    assert list(curves) == ["loss", "reconstruction", "temporal", "fve", "l0", "dead_share"]
    assert all(curve.svg.lstrip().startswith(b"<?xml") for curve in curves.values())
    # fve at step 40 is 40 / 100 - 0.2
    assert "one 0.2 at step 40; two 0.2 at step 40." in curves["fve"].description
    assert "one, high-level group 1.5" in curves["l0"].description
    assert "two 4 at step 40" in curves["l0"].description
    assert "two" not in curves["temporal"].description
    # a number that was null at a step leaves a point out, not the curve
    assert RunFiles.read(runs, "one").curve("dead_share") == ([10, 30, 40], [0.125] * 3)


def test_auxk_s_curve_is_of_batches_with_dead_latents(own_runs: Path) -> None:
    log = own_runs / "one/metrics.jsonl"
    auxk = {50: 0.0, 60: 0.98, 70: 0.0}
    lines = [json.dumps({"step": step, "trainer_0": {"auxk": value}}) for step, value in auxk.items()]
    log.write_text(log.read_text() + "\n".join(lines) + "\n")
    curve = next(c for c in training_curves([RunFiles.read(own_runs, "one")]) if c.name == "auxk")
    assert "one 0.98 at step 60." in curve.description
    log.write_text("\n".join(lines[:1]) + "\n")  # none were dead at all
    curve = next(c for c in training_curves([RunFiles.read(own_runs, "one")]) if c.name == "auxk")
    assert "one 0 at step 50." in curve.description


@pytest.mark.parametrize(
    ("line", "points"),
    [
        ("[1, 2]", 4),
        ('{"step": "x"}', 4),
        ('{"step": 50, "trainer_0": [1]}', 4),
        ('{"step": 50, "trainer_0": {"loss": "x", "fve": [1], "l0": NaN, "l0_group_0": true}}', 4),
        ('{"step": 50, "trainer_0": {"loss": Infinity, "fve": 1' + "0" * 400 + "}}", 4),
        ('{"step": 50, "trainer_0": {"loss": 1, "fve": 0.5}}', 5),
    ],
)
def test_a_line_of_the_log_that_says_something_else_is_left_out(
    own_runs: Path, line: str, points: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log = own_runs / "one/metrics.jsonl"
    log.write_text(log.read_text() + line + "\n")
    run = RunFiles.read(own_runs, "one")
    for name in ("loss", "fve"):
        assert len(run.curve(name)[0]) == points
    assert len(training_curves([run])) == 6
    left_out = "1 of 5 lines cannot be read" in capsys.readouterr().err
    assert left_out == ("50" not in line)


def test_a_log_that_is_no_text_is_told_in_a_sentence(own_runs: Path) -> None:
    log = own_runs / "one/metrics.jsonl"
    log.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"metrics.jsonl cannot be read .*: move it away"):
        RunFiles.read(own_runs, "one")
    log.unlink()
    log.mkdir()
    with pytest.raises(UserError, match=r"metrics.jsonl cannot be read .*: move it away"):
        RunFiles.read(own_runs, "one")


def test_damaged_results_are_left_out_with_a_line_each(
    own_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert RunFiles.read(own_runs, "one").probing
    (own_runs / "one/trainer_0/eval_results.json").write_text("[]")
    for path in (own_runs / "one/probing").glob("*.json"):
        path.write_text(path.read_text()[:-20])
    (own_runs / "one/probing/other.json").write_text('{"experiment": "probing", "subject": {}}')
    capsys.readouterr()
    run = RunFiles.read(own_runs, "one")
    assert (run.evaluation, run.probing) == (None, [])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + len(list((own_runs / "one/probing").glob("*.json")))
    assert all(line.startswith("left out: ") and ".json" in line for line in lines)


def test_results_of_another_form_are_left_out_with_a_line_each(
    own_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own_runs / "one"
    probes = add_probing(run)
    del probes["tasks"]["semantics"]["majority"]
    (run / "probing/old.json").write_text(json.dumps(probes))
    evaluation = json.loads((run / "trainer_0/eval_results.json").read_text())
    evaluation["measures"]["all"]["l0"] = 20.5
    (run / "trainer_0/eval_results.json").write_text(json.dumps(evaluation))
    capsys.readouterr()
    read = RunFiles.read(own_runs, "one")
    assert read.evaluation is None
    assert len(read.probing) == len(list((run / "probing").glob("*.json"))) - 1
    said = capsys.readouterr().err
    assert f"left out: {run / 'trainer_0/eval_results.json'} is no evaluation of this version." in said
    assert f"left out: {run / 'probing/old.json'} is no result of the probing experiment of this" in said


def test_the_same_curves_are_the_same_file(runs: Path) -> None:
    run = RunFiles.read(runs, "one")
    assert training_curves([run]) == training_curves([run])


# --- which latents ---


def test_steadiness_is_0_for_single_tokens_and_near_1_for_what_stays() -> None:
    assert steadiness(np.array([[0.0], [3.0], [0.0], [0.0]])) == 0  # change 6, sum 3: 1 - 6/6
    assert steadiness(np.array([[3.0], [0.0], [0.0], [2.0]])) == 0  # at the ends, too
    assert steadiness(np.ones((10, 1))) == pytest.approx(0.9)  # up and down by 1, sum 10: 1 - 2/20
    # on for three of six: change 2 of height 1 twice, sum 3: 1 - 2/6
    assert steadiness(np.array([[0], [1], [1], [1], [0], [0]])) == pytest.approx(2 / 3)
    assert steadiness(np.zeros((4, 2))) == 0


def test_the_latent_of_a_part_is_the_one_that_exceeds_the_other_part_most() -> None:
    f_TF = sparse.csr_array(
        np.array(
            [
                # always on, first part, second part, silent
                [5.0, 1.0, 0.0, 0.0],
                [5.0, 3.0, 0.0, 0.0],
                [5.0, 0.0, 2.0, 0.0],
                [5.0, 0.0, 0.0, 0.0],
            ]
        )
    )
    part_T = np.array([0, 0, 1, 1])
    nothing = sparse.csr_array((0, 4))
    assert list(choose(f_TF, part_T, nothing, slice(0, 4), n_parts=2)) == [(0, 1), (1, 2)]
    # a split in which nothing exceeds gives none
    assert list(choose(f_TF, part_T, nothing, slice(0, 1), n_parts=2)) == []
    assert list(choose(f_TF, part_T, nothing, slice(2, 4), n_parts=2)) == [(1, 2)]
    # one text alone is compared with the held-out texts, in which latent 0 is on, too: means there are
    # 5, 0, 1, 0 and in the text 5, 1, 0.5, 0
    held_out = sparse.csr_array(np.array([[5.0, 0.0, 1.0, 0.0]]))
    assert list(choose(f_TF, np.zeros(4, dtype=int), held_out, slice(0, 4), n_parts=1)) == [(0, 1)]


def features_of(texts: list[str], f_NF: np.ndarray) -> Features:
    """Features of texts whose tokens are their words, each with the space before it; all usable."""
    tokens, text_N, position_N = [], [], []
    for i, text in enumerate(texts):
        offsets, end = [], 0
        for j, word in enumerate(text.split(" ")):
            start, end = end, end + len(word) + (j > 0)
            offsets.append((start, end))
            text_N.append(i)
            position_N.append(j)
        ids_L = np.arange(len(offsets), dtype=np.int32)
        tokens.append(Tokens(ids_L, offsets, np.ones(len(offsets), dtype=bool)))
    return Features(sparse.csr_array(f_NF), np.array(text_N), np.array(position_N), tokens, 0.0)


def test_a_latents_strongest_tokens_are_from_other_texts_and_each_is_there_once() -> None:
    texts = ["x y", "a cat sat", "the cat ran far"]
    values = [9, 9, 1, 4, 0, 0, 5, 2, 0]
    features = features_of(texts, np.array(values, dtype=np.float32)[:, None])
    found = strongest(features, texts, 0)
    assert [(s.before, s.token, s.after, s.value) for s in found] == [
        ("the", " cat", " ran far", 5.0),
        ("the cat", " ran", " far", 2.0),
        ("", "a", " cat sat", 1.0),
    ]


def test_each_split_shows_a_latent_for_each_of_two_parts() -> None:
    parts = [Part("a a", "A", "x", None), Part("b b", "B", "y", None)]
    text, boundary = join_parts(parts)
    assert (text, boundary) == ("a a\n\nb b", 5)
    tokens = Tokens(np.arange(4), [(0, 1), (1, 3), (5, 6), (6, 8)], np.ones(4, dtype=bool))
    f_TF = np.array([[1, 0, 2, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 2]], dtype=np.float32)
    features = Features(
        sparse.csr_array(f_TF), np.zeros(4, dtype=int), np.arange(4), [tokens], outlier_share=0.0
    )
    shown = look(parts, features, [text], {"high": slice(0, 2), "low": slice(2, 4)})
    assert [(one.split, one.part, one.number) for one in shown.latents] == [
        ("high", 0, 0),
        ("high", 1, 1),
        ("low", 0, 2),
        ("low", 1, 3),
    ]
    assert [one.on_in_parts for one in shown.latents] == [
        [(2, 2), (0, 2)],
        [(0, 2), (2, 2)],
        [(1, 2), (0, 2)],
        [(0, 2), (1, 2)],
    ]
    # high: each latent goes up and down by 1, the sum is 4: 1 - 4/8; low: by 2, the sum is 4: 1 - 8/8
    assert shown.steadiness == {"high": pytest.approx(0.5), "low": pytest.approx(0)}


# --- the text and its tokens ---


def shown_with(text: str, offsets: list[tuple[int, int]], position_T: list[int]) -> Shown:
    tokens = Tokens(np.arange(len(offsets)), offsets, np.ones(len(offsets), dtype=bool))
    return Shown([], text, None, tokens, np.array(position_T), [], {}, 0)


def test_tokens_that_share_a_character_are_one_piece() -> None:
    # BOS, "hi", three bytes of the emoji, and a space that no token claims; "hi" is not read
    shown = shown_with("hi 🎉!", [(0, 0), (0, 2), (3, 4), (3, 4), (3, 4), (4, 5)], [2, 3, 4, 5])
    found = pieces(shown, np.array([1.0, 0.0, 3.0, 0.5]))
    assert [(piece.text, piece.values) for piece in found] == [
        ("hi", None),
        (" ", None),
        ("🎉", [1.0, 0.0, 3.0]),
        ("!", [0.5]),
    ]


def test_what_is_not_seen_gets_a_sign() -> None:
    assert visible("a\nb") == "a↵\nb"
    assert visible("   ") == "␣␣␣"
    assert visible(" word") == " word"
    assert visible("\t\r\n") == "⇥\t↵\n"
    assert visible("\x00") == "�"
    assert visible("ab\u202egnp.exe") == "ab�gnp.exe"  # would turn the letters after it around
    assert visible("👩\u200d🚀") == "👩\u200d🚀"
    assert visible("") == ""


def test_the_two_documents_are_of_different_domains() -> None:
    records = [{"text": "1", "domain": "law"}, {"text": "2", "domain": "law"}, {"text": "3", "domain": "art"}]
    assert [record["text"] for record in two_documents(records)] == ["1", "3"]
    without = [{"text": "1"}, {"text": "2"}]
    assert two_documents(without) == without
    with pytest.raises(UserError, match="no two held-out documents"):
        two_documents(records[:2])


def test_an_opening_skips_the_greeting_and_ends_with_a_sentence(tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    sentence = "The comet circles the moon."
    record = {"text": "Dear all:\n\n" + " ".join([sentence] * 20), "title": "T", "domain": None, "source": 3}
    part = opening(lm, record, "text", 48)
    # half of 48 tokens, less 2: no more than 22
    assert len(lm.tokenize([part.text], 512).tokens_BL[0]) <= 22
    assert part.text.startswith(sentence)
    assert part.text.endswith("moon.")
    assert part[1:] == ("T", None, None)


@pytest.mark.parametrize(
    ("sentence", "space"), [("彗星は月の近くにある。", ""), ("彗星は、月の、", ""), ("धूमकेतु पास है।", " ")]
)
def test_an_opening_of_another_script_is_no_shorter(tiny_lm_folder: Path, sentence: str, space: str) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    text = "彗星 " + space.join([sentence] * 20)  # a space near the beginning is no place to end
    part = opening(lm, {"text": text}, "text", 300)
    assert 15 < len(part.text) < len(text)
    assert part.text.endswith(sentence if sentence[-1] in "。।" else tuple("、彗星は月の"))


def test_only_documents_that_the_run_kept_out_are_read(tiny_corpus: Path) -> None:
    buffer = {"dataset": str(tiny_corpus), "eval_share": 0.3}
    records = held_out_records(buffer, "text")
    texts = [json.loads(line)["text"] for line in tiny_corpus.read_text().splitlines()]
    assert [record["text"] for record in records] == [t for t in texts if is_eval(document_id(t), 0.3)]
    assert records[0].keys() == {"text", "domain", "title", "source"}
    assert held_out_records({**buffer, "eval_share": 0}, "text") == []
    assert held_out_records({}, "text") == []


def test_paragraphs_are_taken_from_the_documents_in_turn() -> None:
    a, b, c = ("a" * 200, "b" * 200, "c" * 200)
    records = [{"text": f"{a}\n\nshort\n\n{b}"}, {"text": c}, {"text": "all short"}]
    assert some_paragraphs(records, "text", 10) == [a, c, "all short", b]
    assert some_paragraphs(records, "text", 2) == [a, c]


def test_an_element_escapes_all_but_markup() -> None:
    inner = element("b", "x < y")
    assert (
        element("p", inner, None, 3, class_='a"b', hidden=None) == '<p class="a&quot;b"><b>x &lt; y</b>3</p>'
    )
    assert element("br") == "<br>"


def test_columns_of_words_are_told_from_those_of_numbers(whole: str) -> None:
    made = page.table(["latent", "words", "bits"], [[14, "set, system", 0.5]], "Named.", worded=(1,))
    assert '<th scope="col" class="words">words</th>' in made
    assert '<td class="words">set, system</td><td>0.5</td>' in made
    assert '<th scope="col" class="words">words</th>' in whole
