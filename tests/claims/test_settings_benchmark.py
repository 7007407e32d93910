"""benchmarks/settings.py with two members on a tiny model: all are trained, measured and told, once."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from commands import called_here
from conftest import corpus_records
from modules import load_module

from dictionary_learning.command.files import read_yaml
from temporal_saes.claims import pieces

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return load_module(ROOT / "benchmarks/settings.py")


def test_every_member_differs_from_the_middle_and_from_all_others(benchmark: ModuleType) -> None:
    found = benchmark.members(pairs_per_text=20)
    assert len({member.run for member in found}) == len({member.told for member in found}) == len(found) == 20
    assert found[0].told == "the middle"
    assert all(member.changed for member in found[1:])
    assert found[-1].flags[-2:] == ["--k", "20"]
    assert "--pairs_per_text" in found[-1].flags
    told = [member.told for member in found]
    assert "strength 0.3, temperature 0.03" in told
    assert "negatives of other texts, runs of 4" in told


def test_settings_are_trained_probed_and_told_and_what_is_finished_is_not_done_again(
    benchmark: ModuleType,
    tiny_lm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The real commands, in this process."""
    from temporal_saes.__main__ import main

    run = called_here(monkeypatch, pieces)
    monkeypatch.setattr(benchmark, "CHANGES", ({"negatives": "other_texts"},))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(record) + "\n" for record in corpus_records(120)))
    cache = ["--activations", str(tmp_path / "cache"), "--model", str(tiny_lm_folder), "--layer", "1"]
    cache += ["--dataset", str(corpus), "--lm_dtype", "float32", "--parts", "train", "eval"]
    main(["cache", "--config", "demo", *cache, "--max_tokens", "4000", "--eval_tokens", "600"])
    flags = ["--activations", str(tmp_path / "cache"), "--runs", str(tmp_path / "runs"), "--steps", "5"]
    flags += ["--dict_size", "96", "--eval_tokens", "600", "--n_train", "40", "--n_test", "20"]
    flags += ["--context_texts", "8", "--repeats", "2", "--out", str(tmp_path / "settings")]
    flags += ["--", "--dataset", str(corpus), "--label_field", "domain"]
    benchmark.main(flags)
    assert run == ["train"] * 2 + ["eval", "probe"] * 2
    content = json.loads((tmp_path / "settings.json").read_text())
    assert [row["member"] for row in content["rows"]] == ["the middle", "negatives of other texts"]
    for row in content["rows"]:
        assert {len(values) for values in row["found"].values()} == {2}
        assert row["found"]["FVE"][0] != row["found"]["FVE"][1]
    trained = read_yaml(tmp_path / "runs/settings-negatives-other_texts/config.yaml", "a config")["options"]
    assert (trained["negatives"], trained["pair_mode"], trained["steps"]) == ("other_texts", "previous", 5)
    table = (tmp_path / "settings.md").read_text()
    assert table.count("\n") == 4
    assert table in capsys.readouterr().out

    benchmark.main(flags)
    assert len(run) == 6
