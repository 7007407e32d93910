"""`temporal-saes controls`: runs without learning that everything reads like those of a TemporalSAE."""

import json
from pathlib import Path

import pytest
import torch

from dictionary_learning import cache_activations, convert, eval_temporal
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.errors import UserError
from dictionary_learning.jobs import control_runs, controls
from dictionary_learning.utils import load_dictionary

NAMES = ["corpus_mean", "recall", "recall_centred", "running_mean", "running_mean_centred"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory, tiny_lm_folder, tiny_corpus) -> Path:
    folder = tmp_path_factory.mktemp("controls") / "cache"
    where = ["--model", str(tiny_lm_folder), "--layer", "2", "--dataset", str(tiny_corpus), "--device", "cpu"]
    cache_activations.main([*where, "--context_length", "32", "--activations", str(folder)])
    return folder


@pytest.fixture(scope="module")
def runs(cache) -> Path:
    folder = cache.parent / "runs"
    controls.main(["--activations", str(cache), "--checkpoints_path", str(folder), "--device", "cpu"])
    return folder


def test_every_control_is_a_run_of_its_own_that_says_what_it_is(runs: Path, cache: Path) -> None:
    assert sorted(path.name for path in runs.iterdir()) == NAMES
    store = ActivationCache.open(cache).store("train", log=lambda line: None)
    x_TD = torch.cat([batch.x_NLD[batch.mask_NL] for batch in store.contexts(8)])
    for name in NAMES:
        dictionary, config = load_dictionary(runs / name, "cpu")
        assert config["trainer"]["control"] in name
        assert config["buffer"]["context_length"] == 32
        expected_D = x_TD.mean(0) if name.endswith("_centred") else torch.zeros(x_TD.shape[1])
        torch.testing.assert_close(dictionary.b, expected_D, rtol=1e-4, atol=1e-5)
    dictionary, _ = load_dictionary(runs / "corpus_mean", "cpu")
    torch.testing.assert_close(dictionary.constant, x_TD.mean(0), rtol=1e-4, atol=1e-5)


def test_the_sharpness_of_recall_is_the_best_of_those_tried(runs: Path, cache: Path) -> None:
    _, config = load_dictionary(runs / "recall_centred", "cpu")
    missed = config["trainer"]["missed_at_sharpness"]
    best = min(missed, key=missed.__getitem__)
    assert float(best) == config["trainer"]["sharpness"]
    dictionary, _ = load_dictionary(runs / "recall_centred", "cpu")
    store = ActivationCache.open(cache).store("train", log=lambda line: None)
    texts = [Sequences.of(batch.x_NLD, batch.mask_NL) for batch in store.contexts(16)]
    (again,) = control_runs.missed_shares([dictionary], texts)  # type: ignore[list-item]
    assert again == pytest.approx(missed[best], rel=1e-4)


def test_an_evaluation_reads_them_and_the_parts_sum_to_the_whole(runs: Path, tiny_corpus: Path) -> None:
    words = ["--checkpoints_path", str(runs), "--compare", "running_mean", "running_mean_centred"]
    eval_temporal.main([*words, "--part", "all", "--no_lm_loss", "--device", "cpu", "--max_tokens", "500"])
    measures = {}
    for name in ("running_mean", "running_mean_centred"):
        result = json.loads((runs / name / "trainer_0" / "eval_results_part-all.json").read_text())
        measures[name] = result["measures"]
        assert measures[name]["all"]["nmse"]["value"] == pytest.approx(0, abs=1e-9)
    # counted as predicted, the mean makes up for more of the norm than what it leaves to predict
    shares = [measures[name]["predicted"]["norm_share"]["value"] for name in measures]
    assert shares[0] > shares[1]


def test_a_fitted_length_has_a_name_of_its_own_and_never_fits_worse(runs: Path, cache: Path) -> None:
    words = [
        "--activations",
        str(cache),
        "--checkpoints_path",
        str(runs.parent / "fitted"),
        "--device",
        "cpu",
    ]
    controls.main([*words, "--controls", "recall", "--bias", "mean", "--fit_length"])
    _, fitted = load_dictionary(runs.parent / "fitted" / "recall_centred_fitted", "cpu")
    _, plain = load_dictionary(runs / "recall_centred", "cpu")
    assert fitted["trainer"]["fits_length"]
    for sharpness, missed in plain["trainer"]["missed_at_sharpness"].items():
        assert fitted["trainer"]["missed_at_sharpness"][sharpness] <= missed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give --activations with a cache, or --config demo"),
        (["--model", "x", "--controls", "corpus_mean", "--bias", "mean"], "leaves nothing"),
        (["--model", "x", "--controls", "recall", "recall"], "--controls is recall recall, and must differ"),
        (["--model", "x", "--fit_tokens", "0"], "--fit_tokens is 0, and must be at least 1"),
    ],
)
def test_what_cannot_work_is_told_at_once(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        controls.main(words)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start the command without torchrun"):
        controls.main(["--model", "x"])


def test_other_tools_have_no_class_for_them(runs: Path, tmp_path: Path) -> None:
    for form in ("saelens", "dictionary_learning", "released"):
        with pytest.raises(UserError, match="ContextMean"):
            convert.main(["--from", str(runs / "recall"), "--to", form, "--output", str(tmp_path / form)])
        assert not (tmp_path / form).exists()


def test_a_run_that_is_there_is_left_alone(runs: Path, cache: Path) -> None:
    before = (runs / "recall" / "trainer_0" / "config.json").read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        controls.main(["--activations", str(cache), "--checkpoints_path", str(runs), "--device", "cpu"])
    assert (runs / "recall" / "trainer_0" / "config.json").read_bytes() == before
