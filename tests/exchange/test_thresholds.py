"""Inference thresholds beside a dictionary's weights: set, chosen at loading, and refused."""

import json
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from toy_runs import make_run

from dictionary_learning import calibrate
from dictionary_learning.errors import UserError
from dictionary_learning.eval_temporal import EvalOptions, evaluate_runs
from dictionary_learning.exchange import thresholds
from dictionary_learning.exchange.loading import weights_sha256
from dictionary_learning.exchange.thresholds import Entry, beside_k
from dictionary_learning.texts.names import place_name
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary


@pytest.fixture
def run(tmp_path: Path, tiny_lm_folder: Path) -> Path:
    """A Matryoshka run with k 8 and a threshold of 0.3."""
    return make_run(tmp_path / "runs" / "mine", tiny_lm_folder)


def entry(run: Path, **changes: object) -> Entry:
    facts = {"threshold": 0.75, "l0": 5.0, "k": 5, "tokens": 100, "dataset": "news.jsonl", "made": "today"}
    return Entry(**(facts | {"weights_sha256": weights_sha256(run / "trainer_0")} | changes))  # type: ignore[arg-type]


def words(run: Path, corpus: Path, *more: str) -> list[str]:
    runs = ["--run_name", run.name, "--checkpoints_path", str(run.parent), "--device", "cpu"]
    return [*runs, "--dataset", str(corpus), "--max_tokens", "600", *more]


def test_a_threshold_is_set_for_other_texts_beside_those_that_are_there(
    run: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "trainer_0/ae.pt").read_bytes()
    calibrate.main(words(run, tiny_corpus, "--name", "news"))
    told = capsys.readouterr().out
    calibrate.main(words(run, tiny_corpus, "--name", "sparse", "--k", "3"))
    written = json.loads((run / "trainer_0/thresholds.json").read_text("utf-8"))
    assert list(written) == ["news", "sparse"]
    assert written["news"]["l0"] == pytest.approx(8, abs=0.05)
    assert written["sparse"]["l0"] == pytest.approx(3, abs=0.05)
    assert written["sparse"]["threshold"] > written["news"]["threshold"] > 0
    assert written["news"]["k"] == 8
    assert written["news"]["weights_sha256"] == weights_sha256(run / "trainer_0")
    assert (run / "trainer_0/ae.pt").read_bytes() == before
    assert "the trained one, 0.3, has L0" in told


def test_an_evaluation_with_the_new_threshold_has_the_l0_that_it_was_set_for(
    run: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate.main(words(run, tiny_corpus, "--name", "news"))
    printed = float(capsys.readouterr().out.split("has L0 ")[1].split()[0])

    def evaluated(threshold: str | None) -> dict:
        options = EvalOptions(
            run_name="mine",
            checkpoints_path=str(run.parent),
            dataset=str(tiny_corpus),
            part="all",
            max_tokens=600,
            loss_tokens=0,
            device="cpu",
            threshold=threshold,
        )
        return evaluate_runs(options)["mine"]

    trained, news, top_k = evaluated(None), evaluated("news"), evaluated("topk")
    assert trained["l0"] == pytest.approx(printed, abs=0.006)
    assert news["l0"] == pytest.approx(8, abs=0.05)
    assert top_k["l0"] == 8
    assert [one["k"] for one in (trained, news, top_k)] == [8, 8, 8]
    assert trained["threshold"]["name"] == "trained"
    assert news["threshold"]["name"] == "news"
    assert top_k["threshold"] == {"name": "topk", "value": None, "k": 8}
    assert "loss_original" not in trained
    names = {path.stem for path in (run / "trainer_0").glob("eval_results*.json")}
    asked = f"part-all_{place_name(str(tiny_corpus))}"
    assert names == {f"eval_results_{name}{asked}" for name in ("", "threshold-news_", "threshold-topk_")}
    assert "the threshold was set on other texts; `temporal-saes calibrate" in capsys.readouterr().err


def test_a_threshold_is_chosen_when_a_dictionary_is_loaded(run: Path) -> None:
    thresholds.save(run / "trainer_0", "news", entry(run))
    trained, _ = load_dictionary(run, "cpu")
    chosen, _ = load_dictionary(run, "cpu", threshold="news")
    top_k, _ = load_dictionary(run, "cpu", threshold="topk")
    x_BD = torch.randn(10, 32)
    every_BF = trained.before_selection(x_BD)
    assert torch.equal(trained.encode(x_BD), every_BF * (every_BF > 0.3))
    assert torch.equal(chosen.encode(x_BD), every_BF * (every_BF > 0.75))
    assert int(chosen.k) == 5
    assert (top_k.encode(x_BD) != 0).sum(1).tolist() == [8] * 10


def test_wrong_choices_are_refused_in_one_sentence(run: Path, tmp_path: Path, tiny_lm_folder: Path) -> None:
    thresholds.save(run / "trainer_0", "news", entry(run))
    with pytest.raises(UserError, match="has no threshold 'poems', only news, topk"):
        load_dictionary(run, "cpu", threshold="poems")
    thresholds.save(run / "trainer_0", "old", entry(run, weights_sha256="0" * 64))
    with pytest.raises(UserError, match=r"'old' .* was set for other weights"):
        load_dictionary(run, "cpu", threshold="old")
    attention = make_run(tmp_path / "attention", tiny_lm_folder, kind="attention")
    with pytest.raises(UserError, match="a TemporalSAE, whose inference has no threshold"):
        load_dictionary(attention, "cpu", threshold="topk")
    (run / "trainer_0/thresholds.json").write_text('{"news": {"threshold": "low"}}')
    with pytest.raises(UserError, match=r"'news' .* is damaged"):
        load_dictionary(run, "cpu", threshold="news")


@pytest.mark.parametrize("name", ["topk", "trained", "a/b", "", "../x", "-x"])
def test_a_name_that_no_file_can_have_is_refused(run: Path, tiny_corpus: Path, name: str) -> None:
    with pytest.raises(UserError, match="--name"):
        calibrate.main(words(run, tiny_corpus, f"--name={name}"))
    assert not (run / "trainer_0/thresholds.json").exists()


def test_what_infers_without_a_threshold_is_refused(
    tmp_path: Path, tiny_lm_folder: Path, tiny_corpus: Path
) -> None:
    attention = make_run(tmp_path / "attention", tiny_lm_folder, kind="attention")
    with pytest.raises(UserError, match="TemporalSAE, whose inference has no threshold"):
        calibrate.main(words(attention, tiny_corpus, "--name", "news"))
    with pytest.raises(UserError, match="--name is missing"):
        calibrate.main(words(attention, tiny_corpus))
    with pytest.raises(UserError, match="AutoEncoderTopK, whose inference has no threshold"):
        thresholds.check_has_threshold(AutoEncoderTopK(4, 8, 2), tmp_path)


def test_l0_is_told_beside_k_and_warned_of_where_they_are_far_apart(run: Path) -> None:
    dictionary, _ = load_dictionary(run, "cpu")
    assert beside_k(dictionary, 8.8) == "L0 is 8.8 on these texts, and k is 8 (+10 %)"
    assert beside_k(dictionary, 11.3) == (
        "L0 is 11.3 on these texts, and k is 8 (+41 %): the threshold was set on other texts; "
        "`temporal-saes calibrate ...` sets one for these."
    )
    assert "set on other texts" in beside_k(dictionary, 6.0)
    dictionary.token_top_k = True
    assert "set on other texts" not in beside_k(dictionary, 6.0)


def test_two_calibrations_that_end_together_keep_both_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_read = threading.Barrier(2)
    read = thresholds.read

    def read_together(folder: Path) -> dict[str, Entry]:
        found = read(folder)
        with suppress(threading.BrokenBarrierError):  # the other one has to wait, as it should
            both_have_read.wait(timeout=0.2)
        return found

    monkeypatch.setattr(thresholds, "read", read_together)
    facts = {"threshold": 0.75, "l0": 5.0, "k": 5, "tokens": 100, "dataset": "x", "made": "today"}
    one = Entry(**facts, weights_sha256="")  # type: ignore[arg-type]
    savers = [threading.Thread(target=thresholds.save, args=(tmp_path, name, one)) for name in ("a", "b")]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert sorted(read(tmp_path)) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == [thresholds.FILE]
