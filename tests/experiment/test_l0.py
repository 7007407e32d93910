"""`--threshold` and the L0 of every experiment, on a run of the tiny language model."""

import json
from pathlib import Path

import pytest
import torch
from toy_runs import make_run

from dictionary_learning.errors import UserError
from dictionary_learning.exchange import thresholds
from dictionary_learning.exchange.loading import weights_sha256
from dictionary_learning.exchange.thresholds import Entry
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.options import ComparedOptions
from temporal_saes.experiment.results import asked
from temporal_saes.experiment.subjects import Subject, resolve, subjects_of
from temporal_saes.experiment.text_codes import text_codes
from temporal_saes.features import extract_features, last_usable
from temporal_saes.sparsity import reading_l0

pytestmark = pytest.mark.usefixtures("own_cache")

TEXTS = ["The distant comet circles the orbit.", "A judge.", "In 1999, the onion and the garlic were crisp."]


@pytest.fixture
def run(tmp_path: Path, tiny_lm_folder: Path) -> Path:
    return make_run(tmp_path / "runs" / "mine", tiny_lm_folder)


def options(run: Path, **more: object) -> ComparedOptions:
    given = {"run_name": run.name, "checkpoints_path": str(run.parent), "dataset": "demo"} | more
    return ComparedOptions(**given)  # type: ignore[arg-type]


def set_threshold(run: Path, value: float, name: str = "news") -> None:
    folder = run / "trainer_0"
    thresholds.save(
        folder, name, Entry(value, 8.0, 8, 100, "news.jsonl", weights_sha256(folder), "2026-01-01")
    )


def question(subject: Subject, given: ComparedOptions) -> dict:
    return json.loads(json.dumps(asked(subject, given, TEXTS)))


def test_a_threshold_is_in_the_subject_its_name_and_the_names_of_files(run: Path) -> None:
    set_threshold(run, 0.5)
    given = options(run, threshold="news")
    subject = resolve(given)
    assert subject.name == "mine:0 news"
    assert subject.result_path(given, "probing").name == "demo_chunk0_threshold-news"
    said = question(subject, given)["subject"]
    assert (said["threshold"], said["threshold_value"]) == ("news", 0.5)
    dictionary = subject.load_dictionary("cpu")
    assert dictionary is not None
    assert float(dictionary.threshold) == 0.5  # type: ignore[arg-type]


def test_another_threshold_under_the_same_name_is_another_question(run: Path) -> None:
    given = options(run, threshold="news")
    set_threshold(run, 0.5)
    before = question(resolve(given), given)
    set_threshold(run, 0.6)
    assert question(resolve(given), given) != before
    set_threshold(run, 0.5)
    assert question(resolve(given), given) == before
    # a threshold beside it changes nothing about the one that training set
    trained = options(run)
    before = question(resolve(trained), trained)
    set_threshold(run, 0.7, "poems")
    assert question(resolve(trained), trained) == before
    assert "threshold" not in before["subject"]


def test_an_unknown_threshold_is_refused_before_the_model_is_loaded(run: Path) -> None:
    set_threshold(run, 0.5)
    with pytest.raises(UserError, match="no threshold 'poems', only news, topk"):
        subjects_of(options(run, run_name=None, compare=("mine:0", "mine:1"), threshold="poems"))


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_l0_is_that_of_all_latents_whatever_chunk_is_read(
    run: Path, tiny_lm_folder: Path, chunk: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    given = options(run, chunk=chunk)
    subject = resolve(given)
    dictionary = subject.load_dictionary("cpu")
    reading = subject.reading(given)
    every = extract_features(TEXTS, lm, subject.layer, reading, dictionary, 2)
    slow = (every.x != 0).sum() / every.x.shape[0]
    with reading_l0() as l0:
        extract_features(TEXTS, lm, subject.layer, reading, dictionary, chunk)
    assert l0.tokens == every.x.shape[0]
    assert l0.told("mine") == {"l0": pytest.approx(slow), "k": 8}
    assert f"mine: L0 is {slow:.1f} on these texts, and k is 8" in capsys.readouterr().err
    with reading_l0() as along_texts:
        list(text_codes(TEXTS, lm, subject, dictionary, reading))
    assert along_texts.mean == pytest.approx(slow)


def test_only_tokens_that_are_encoded_anyway_are_counted(run: Path, tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    given = options(run, threshold="topk")
    subject = resolve(given)
    reading = subject.reading(given)
    with reading_l0() as l0:
        extract_features(
            TEXTS, lm, subject.layer, reading, subject.load_dictionary("cpu"), 0, choose=last_usable
        )
    assert (l0.tokens, l0.mean) == (3, 8)


def test_dense_activations_have_no_l0(run: Path, tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    given = options(run, run_name="baseline_model", model=str(tiny_lm_folder), layer=2, threshold="news")
    subject = resolve(given)
    with reading_l0() as l0:
        extract_features(TEXTS, lm, 2, subject.reading(given), subject.load_dictionary("cpu"))
    assert l0.told("dense") == {}
    assert torch.is_grad_enabled()
