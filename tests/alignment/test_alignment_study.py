"""The alignment study from the command line to its page, on a tiny language model and random dictionaries."""

import dataclasses
import json
import random
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from caches import forbid_language_model
from conftest import VOCABULARY
from scipy import sparse
from toy_runs import EXPERIMENTS, LAYER, make_run

from dictionary_learning.command import cli, figures
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes import alignment
from temporal_saes.alignment.command import main
from temporal_saes.alignment.differences import VIEWS, Settings, differences_of, smallest_effect
from temporal_saes.alignment.figure import _compare_counts
from temporal_saes.alignment.names import named
from temporal_saes.alignment.options import RANKINGS, AlignmentOptions
from temporal_saes.alignment.page import study_page
from temporal_saes.alignment.pairs import PreferencePair
from temporal_saes.alignment.responses import ResponseMeans
from temporal_saes.alignment.result import summary, top_latents
from temporal_saes.experiment.options import ChatOptions, ExperimentOptions, SeedOptions

pytestmark = pytest.mark.usefixtures("own_cache")

SCRIPT = EXPERIMENTS / "alignment_study.py"
ROOM = Path(alignment.__file__).parent
WICKED = "</span><script>alert(1)</script>&"
PNG = bytes.fromhex("89504e470d0a1a0a")


@pytest.fixture
def runs(tmp_path, tiny_lm_folder):
    make_run(tmp_path / "runs" / "grouped", tiny_lm_folder)
    make_run(tmp_path / "runs" / "plain", tiny_lm_folder, kind="plain")
    return tmp_path / "runs"


def answer(draw: random.Random, domain: str, n_words: int) -> str:
    nouns = VOCABULARY[domain]["noun"].split()
    return " ".join(f"The {draw.choice(nouns)}." for _ in range(n_words))


# From 14 pairs on the signed-rank test need not try all signs, which takes a second a test.
def pair_records(n: int = 30, seed: int = 0) -> list[dict[str, str]]:
    """Chosen answers speak of astronomy, rejected ones of cooking; these are longer by about one word."""
    draw = random.Random(seed)
    records = []
    for i in range(n):
        prompt = f"\n\nHuman: Tell me something, number {i}.\n\nAssistant:"
        size = draw.randint(2, 4)
        texts = answer(draw, "Astronomy", size), answer(draw, "Cooking", size + draw.randint(0, 2))
        records.append({"chosen": f"{prompt} {texts[0]}", "rejected": f"{prompt} {texts[1]}"})
    return records


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path) -> Path:
    return write(tmp_path / "pairs.jsonl", pair_records())


def flags(runs: Path, pairs: Path, *more: str) -> list[str]:
    small = "--device cpu --context_length 96 --n_flips 99"
    return ["--checkpoints_path", str(runs), "--dataset", str(pairs), *small.split(), *more]


def read(path: Path) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def run_main(runs: Path, pairs: Path, *more: str) -> dict:
    """The result of the one run asked for."""
    before = set(runs.glob("*/alignment_study/*.json"))
    main(flags(runs, pairs, *more))
    (made,) = set(runs.glob("*/alignment_study/*.json")) - before
    return read(made)


def script(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return warm.run([str(SCRIPT), *words], cwd=cwd)


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the whole script ---


def test_the_script_runs_from_another_folder(runs, pairs, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = script(elsewhere, *flags(runs, pairs, "--run_name", "grouped", "--chunk", "1"))
    assert done.returncode == 0, done.stderr
    folder = runs / "grouped" / "alignment_study"
    (path,) = folder.glob("*.json")
    assert {file.suffix for file in folder.iterdir()} == {".json", ".html", ".png", ".pdf"}
    assert re.search(r"_chunk1_[0-9a-f]{6}$", path.stem)  # fewer flips than usual
    assert list(elsewhere.iterdir()) == []
    assert "length:" in done.stdout
    result = read(path)
    assert result["options"]["n_flips"] == 99
    assert result["subject"]["layer"] == LAYER
    assert result["pairs"] == {"used": 30, "read": 30, "skipped": {}, "prompts": 30, "answers_cut": 0}
    assert result["n_latents"] == 64
    length = result["surface"][0]
    assert length["name"] == "length"
    assert length["chosen"] < length["rejected"]
    assert length["difference"]["mean"] == pytest.approx(length["chosen"] - length["rejected"])
    # the answers share hardly a word, so that many latents differ, at equal length, too
    assert result["views"]["raw"]["significant"] > 5
    assert result["views"]["equal_length"]["significant"] > 3
    assert result["views"]["raw"]["n_pairs"] == 30
    # latents are numbered in the dictionary, whose first 32 are of chunk 0
    assert min(result["latents"]["latent"]) >= 32
    assert len(result["latents"]["raw_q"]) == result["n_tested"]
    for side, sign in (("chosen", 1), ("rejected", -1)):
        effects = [sign * latent["raw"]["effect"] for latent in result["top"][side]]
        assert effects == sorted(effects, reverse=True)
        assert effects[-1] > 0
    top = result["top"]["chosen"][0]
    assert len(top["examples"]) == 3
    assert top["raw"]["difference"] == pytest.approx(top["chosen"] - top["rejected"], rel=1e-4)
    page = Page((folder / f"{path.stem}.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert f"Latent {top['latent']}" in page.text
    assert summary(result) in done.stdout


def test_a_latents_difference_is_that_of_a_slow_reference(runs, pairs, tiny_lm_folder):
    from dictionary_learning.utils import load_dictionary

    result = run_main(runs, pairs, "--run_name", "plain", "--chunk", "2", "--min_active", "2")
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    ae, _ = load_dictionary(runs / "plain" / "trainer_0", "cpu")
    differences = []
    for record in pair_records():
        means = []
        for side in ("chosen", "rejected"):
            prompt = record[side].split("Assistant:")[0] + "Assistant:"
            n_prompt = len(lm.tokenizer(prompt)["input_ids"])
            encoding = lm.tokenize([record[side]], 96)
            x_LD = lm.record(encoding.tokens_BL, encoding.mask_BL, LAYER)[0]
            means.append(ae.encode(x_LD[n_prompt:]).mean(0).detach().numpy())
        differences.append(means[0] - means[1])
    expected_F = np.mean(differences, axis=0)
    found = dict(zip(result["latents"]["latent"], result["latents"]["raw_difference"], strict=True))
    assert len(found) > 20
    for latent, difference in found.items():
        assert difference == pytest.approx(expected_F[latent], abs=1e-4)


def test_dense_activations_are_studied_through_the_same_path(runs, pairs, tiny_lm_folder):
    model = ["--model", str(tiny_lm_folder), "--layer", str(LAYER)]
    result = run_main(runs, pairs, "--run_name", "baseline_model", *model)
    assert result["n_latents"] == result["n_tested"] == 32
    assert result["views"]["raw"]["significant"] > 5
    assert result["top"]["chosen"][0]["examples"] == []
    (page,) = (runs / "baseline_model" / "alignment_study").glob("*.html")
    assert "Dense activations are never off" in Page(page.read_text(encoding="utf-8")).text


def test_a_dictionary_that_reads_sequences_is_studied(runs, pairs, tiny_lm_folder):
    make_run(runs / "attention", tiny_lm_folder, kind="attention")
    for chunk in ("0", "1"):
        result = run_main(runs, pairs, "--run_name", "attention", "--chunk", chunk)
        assert result["n_tested"] > 0


@pytest.mark.usefixtures("drawn")
def test_compare_draws_one_figure_and_page_and_takes_what_is_finished(runs, pairs, monkeypatch, capsys):
    # a result with explanations is good enough for a comparison that has none
    explained = write(runs.parent / "explanations.json", [{"40": "comets"}])
    single = ["--run_name", "grouped", "--chunk", "1", "--explanation_path", str(explained)]
    main(flags(runs, pairs, *single))
    compare = ["--compare", "grouped:0", "grouped:1", "plain:2", "baseline_model"]
    main(flags(runs, pairs, *compare))
    assert "grouped:1: taken from" in capsys.readouterr().err
    folder = runs / "comparisons" / "alignment_study"
    assert {path.suffix for path in folder.iterdir()} == {".html", ".png", ".pdf"}
    (page,) = folder.glob("*.html")
    assert "plain:2 (BatchTopK, all)" in Page(page.read_text(encoding="utf-8")).text

    def refuse(*args, **options):
        raise AssertionError("loaded although everything is there")

    monkeypatch.setattr(LanguageModel, "load", refuse)
    monkeypatch.setattr(
        "temporal_saes.alignment.figure.draw_comparison", lambda results, path: list(folder.glob("*.png"))
    )
    main(flags(runs, pairs, *compare))
    with pytest.raises(AssertionError, match="although"):
        main(flags(runs, pairs, *compare, "--fdr", "0.1"))


def test_every_option_that_makes_another_result_makes_another_name():
    names = {named(Path("demo"), AlignmentOptions()).name}
    shared = {field.name for field in dataclasses.fields(ExperimentOptions)}
    changed = [
        field
        for field in dataclasses.fields(AlignmentOptions)
        if field.name not in shared - {"split", "max_records"} and field.name not in {"compare", "trainers"}
    ]
    for field in changed:
        # roles are those of chats
        usual = AlignmentOptions(chat_template=field.name == "roles")
        options = dataclasses.replace(usual, **{field.name: other(field)})
        names.add(named(Path("demo"), options).name)
    # explanations change what stands beside the numbers, not the numbers
    assert len(names) == len(changed)


def other(field: dataclasses.Field) -> Any:
    """A value that is allowed and not the default."""
    if field.metadata["choices"]:
        return field.metadata["choices"][-1]
    if field.name == "roles":
        return ("assistant",)
    return {bool: True, int: 12, float: 0.2}.get(
        type(field.default), 12 if field.name == "max_records" else "another"
    )


def test_skipped_pairs_are_counted_and_said(runs, tmp_path, capsys):
    records: list[dict[str, Any]] = [*pair_records(14)]
    records += [dict.fromkeys(("chosen", "rejected"), records[0]["chosen"]), {"chosen": 1, "rejected": 2}]
    result = run_main(runs, write(tmp_path / "some.jsonl", records), "--run_name", "plain")
    assert result["pairs"]["used"] == 14
    assert result["pairs"]["skipped"] == {"with two equal answers": 1, "neither text nor messages": 1}
    assert "1 with two equal answers" in capsys.readouterr().err


def test_everything_from_outside_is_escaped_in_the_page(runs, tmp_path):
    records = [
        {side: text + f" {WICKED} telescope." for side, text in record.items()} for record in pair_records(14)
    ]
    pairs = write(tmp_path / "wicked.jsonl", records)
    explained = write(tmp_path / "explanations.json", [{str(latent): WICKED for latent in range(96)}])
    run_main(runs, pairs, "--run_name", "plain", "--chunk", "2", "--explanation_path", str(explained))
    (path,) = (runs / "plain" / "alignment_study").glob("*.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert WICKED in page.text


def test_explanations_beside_the_weights_are_found(runs, pairs):
    explained = {str(latent): f"it is {latent}" for latent in range(96)}
    write(runs / "plain" / "trainer_0" / "explanations.json", [explained])
    result = run_main(runs, pairs, "--run_name", "plain", "--chunk", "2")
    top = result["top"]["rejected"][0]
    assert top["explanation"] == f"it is {top['latent']}"


def test_no_examples_and_another_ranking_can_be_asked_for(runs, pairs):
    more = ["--n_examples", "0", "--n_latents", "4", "--rank_by", "difference"]
    result = run_main(runs, pairs, "--run_name", "plain", "--chunk", "2", *more)
    differences = [latent["raw"]["difference"] for latent in result["top"]["chosen"]]
    assert differences == sorted(differences, reverse=True)
    assert len(differences) == 4


# --- mistakes ---


def test_a_mistake_is_one_sentence_and_exit_code_2(runs, tmp_path, capsys):
    path = write(tmp_path / "texts.jsonl", [{"text": "a"}] * 20)
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main(flags(runs, path, "--run_name", "plain")))
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    assert line.startswith(f"error: {path} has no field 'chosen'")
    assert not list(runs.glob("*/alignment_study"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "--run_name is missing"),
        (["--run_name", "nobody"], "no run 'nobody'"),
        (["--run_name", "plain", "--chosen_field", "better"], "no field 'better'.*--chosen_field"),
        (["--run_name", "plain", "--max_records", "9"], "gives 9 pairs.*at least 10"),
        (["--run_name", "plain", "--max_pairs", "9"], "--max_pairs 9 is too small"),
        (["--run_name", "plain", "--min_active", "1"], "--min_active 1 is too small"),
        (["--run_name", "plain", "--n_examples", "-1"], "--n_examples -1"),
        (["--run_name", "plain", "--fdr", "1.5"], "--fdr 1.5 must lie between 0 and 1"),
        (["--run_name", "plain", "--data_path", "nowhere"], "no file or folder nowhere"),
        (["--run_name", "plain", "--explanation_path", "nowhere.json"], "nowhere.json cannot be read"),
        (["--compare", "plain", "grouped", "--explanation_path", "x.json"], "for one dictionary"),
        (["--compare", "plain", "plain:0"], "twice"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(runs, pairs, monkeypatch, more, sentence):
    forbid_language_model(monkeypatch)
    with pytest.raises(UserError, match=sentence):
        main(flags(runs, pairs, *more))
    assert not list(runs.glob("*/alignment_study"))


def test_explanations_of_a_larger_dictionary_or_of_dense_activations_are_refused(runs, pairs, tmp_path):
    path = str(write(tmp_path / "explanations.json", [{"96": "too far"}]))
    with pytest.raises(UserError, match=r"latent 96.*0 to 95"):
        main(flags(runs, pairs, "--run_name", "plain", "--explanation_path", path))
    dense = ["--run_name", "baseline_model", "--model", "demo", "--layer", "1", "--explanation_path", path]
    with pytest.raises(UserError, match="dense activations have none"):
        main(flags(runs, pairs, *dense))


def test_a_threshold_that_no_latent_reaches_is_told(runs, pairs):
    with pytest.raises(UserError, match="--min_active"):
        main(flags(runs, pairs, "--run_name", "plain", "--min_active", "31"))


# --- the study itself ---

SETTINGS = Settings(fdr=0.05, min_active=5, length_correlation=0.3, length_tolerance=0.1, n_flips=199, seed=0)


def made_up(
    chosen_PF: np.ndarray, rejected_PF: np.ndarray, n_tokens_P2: np.ndarray, *, dense: bool = False
) -> Any:
    pairs = [PreferencePair("", f"A word{i}.", f"Word {i}, a word.", i) for i in range(len(chosen_PF))]
    sides = [x if dense else sparse.csr_array(x) for x in (chosen_PF, rejected_PF)]
    means = ResponseMeans(np.arange(len(pairs)), sides[0], sides[1], 0)
    return differences_of(pairs, n_tokens_P2, means, 100, SETTINGS)


def tokens(difference_P: np.ndarray) -> np.ndarray:
    """Lengths with these differences, chosen minus rejected."""
    return np.column_stack([100 + difference_P, np.full(len(difference_P), 100)])


@pytest.mark.parametrize("dense", [False, True])
def test_length_and_content_are_told_apart(dense):
    # column 0 follows length, 1 is content, 2 is neither, 3 is too rare, 4 is never on
    generator = np.random.default_rng(0)
    length_P = np.round(generator.normal(-30, 20, size=80))
    rejected_PF = generator.random((80, 5))
    chosen_PF = rejected_PF + generator.normal(0, 0.1, size=(80, 5))
    chosen_PF[:, 0] += length_P / 10
    chosen_PF[:, 1] += 0.2
    rejected_PF[:, 3:] = chosen_PF[:, 3:] = 0
    chosen_PF[:4, 3] = 1
    found = made_up(chosen_PF, rejected_PF, tokens(length_P), dense=dense)
    assert found.latent_F.tolist() == [100, 101, 102]
    assert found.is_length_F.tolist() == [True, False, False]
    assert (found.n_latents, found.n_active) == (5, 4)
    raw, equal = found.views["raw"], found.views["equal_length"]
    assert (raw.q_F <= 0.05).tolist() == [True, True, False]
    assert (equal.q_F <= 0.05).tolist() == [False, True, False]
    assert equal.mean_F[1] == pytest.approx(0.2, abs=0.05)
    assert (found.p_flips_F <= 0.05).tolist() == [True, True, False]
    np.testing.assert_allclose(found.chosen_F, chosen_PF[:, :3].mean(0))
    assert found.active_chosen_F.tolist() == [1, 1, 1]


def test_a_view_that_the_pairs_do_not_allow_says_why():
    generator = np.random.default_rng(0)
    chosen_PF, rejected_PF = generator.random((14, 3)), generator.random((14, 3))
    found = made_up(chosen_PF, rejected_PF, tokens(np.full(14, -40)))
    missing = ("equal_length", "equal_surface", "matched")
    assert [found.views[view] for view in missing] == [None] * 3
    # the surface cannot be held equal where length, a part of it, cannot
    for view in missing[:2]:
        assert "by the same number of tokens" in found.missing[view]
    assert "0 pairs have answers" in found.missing["matched"]
    # two confounds and the mean, five pairs for each, are more than 14: length, and word length
    found = made_up(chosen_PF, rejected_PF, tokens(np.arange(14)))
    assert found.views["equal_length"] is not None
    assert found.missing["equal_surface"] == "2 confounds need at least 15 pairs"
    # at equal length in every pair nothing has to be held
    same = made_up(chosen_PF, rejected_PF, tokens(np.zeros(14)))
    np.testing.assert_array_equal(same.views["equal_length"].q_F, same.views["raw"].q_F)
    assert same.views["matched"].n_pairs == 14


def test_top_latents_are_on_the_side_they_are_shown_for():
    generator = np.random.default_rng(0)
    chosen_PF = generator.random((20, 6)) + np.array([0.5, -0.5, 0.1, 0, 0.3, -0.1])
    found = made_up(chosen_PF, generator.random((20, 6)), tokens(generator.integers(-9, 9, 20)))
    raw = found.views["raw"]
    for rank_by in RANKINGS:
        chosen, rejected = top_latents(found, rank_by, 10)
        assert sorted(chosen + rejected) == list(range(6))
        value_F = {"effect": raw.effect_F, "difference": raw.mean_F}.get(
            rank_by, found.views["equal_length"].effect_F
        )
        assert (value_F[chosen] > 0).all()
        assert (value_F[rejected] < 0).all()
        assert (np.diff(value_F[chosen]) <= 0).all()


def test_the_smallest_effect_is_the_one_whose_p_just_passes():
    # one test of 12 pairs: t(.975, 11) = 2.201, d_z = 2.201 / sqrt(12)
    assert smallest_effect(12, 1, 0.05) == pytest.approx(2.201 / 12**0.5, abs=1e-3)
    assert smallest_effect(12, 1000, 0.05) > smallest_effect(12, 1, 0.05)
    assert smallest_effect(1000, 1000, 0.05) < smallest_effect(12, 1, 0.05)


def test_every_option_is_read():
    source = "".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    own = {field.name for field in dataclasses.fields(AlignmentOptions)}
    shared = {field.name for cls in (ChatOptions, SeedOptions) for field in dataclasses.fields(cls)}
    for name in own - shared | {"compare"}:
        assert f"options.{name}" in source, name


def test_a_page_of_a_result_without_latents_on_one_side_says_so(runs, pairs):
    result = run_main(runs, pairs, "--run_name", "plain")
    result["top"]["rejected"] = []
    text = Page(study_page(result, {}, PNG)).text
    assert "No tested latent is higher in rejected answers." in text


def test_views_that_were_not_tested_have_their_places_beside_others():
    tested = {"significant": 2, "n_pairs": 30}
    views = {view: tested if view == VIEWS[0] else {"missing": "too few pairs"} for view in VIEWS}
    subject = {"dict_class": "BatchTopKSAE", "trainer_folder": None}
    result = {"name": "a", "subject": subject, "views": views, "n_tested": 9, "options": {"fdr": 0.05}}
    with figures.style():
        _, axis = figures.subplots()
        _compare_counts(axis, [result, result])
    assert axis.get_xlim() == (-0.5, len(VIEWS) - 0.5)
    assert [text.get_position()[0] for text in axis.texts if "tested" in text.get_text()] == [1, 2, 3]
