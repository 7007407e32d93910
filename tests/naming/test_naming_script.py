"""The naming experiment on a tiny random model: files, figure, mistakes, and where its names are shown."""

import json
from pathlib import Path

import pytest
from toy_runs import make_run

from dictionary_learning.errors import UserError
from temporal_saes.naming.command import main
from temporal_saes.naming.found import names_of, naming_result
from temporal_saes.naming.result import table


@pytest.fixture(scope="module")
def runs(tiny_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("grouped", "plain", "attention"):
        make_run(folder / kind, tiny_lm_folder, kind=kind)
    return folder


@pytest.fixture(scope="module")
def flags(tiny_corpus: Path, runs: Path) -> list[str]:
    data = ["--dataset", str(tiny_corpus), "--text_field", "text", "--label_field", "domain"]
    return ["--checkpoints_path", str(runs), "--device", "cpu", "--no_cache", *data]


@pytest.fixture(scope="module")
def result(flags: list[str], runs: Path, drawing) -> dict:  # type: ignore[type-arg,no-untyped-def]
    with drawing():
        main([*flags, "--compare", "grouped:2", "plain:2", "attention:2", "--held", "4"])
    (path,) = (runs / "grouped" / "naming").glob("*.json")
    return json.loads(path.read_text())


def test_every_latent_that_is_active_has_a_name(result, runs: Path) -> None:  # type: ignore[no-untyped-def]
    assert list(result["splits"]) == ["high", "low"]
    assert len(result["latents"]) == result["n_alive"] > 50
    domains = {"Astronomy", "Cooking", "Law"}
    assert any(one["classes"] for one in result["latents"])
    for one in result["latents"]:
        assert {name for name, *_ in one["classes"]} <= domains
        assert one["stretch"] >= 1
        assert len(one["words"]) <= 8
        assert all(z >= 2.5 for _, z, _, _ in one["words"])
        assert set(one["scores"]) == {"1", "4"}
    found = result["splits"]["low"]["4"]
    assert found["n_latents"] >= 5
    areas = [one["scores"]["4"] for one in result["latents"] if one["split"] == "low"]
    both = [one["words"] - one["tokens"] for one in areas if None not in one.values()]
    assert len(both) == found["n_latents"]
    assert found["difference"]["mean"] == pytest.approx(sum(both) / len(both))
    assert "low" in table(result)
    for run in ("plain", "attention"):
        (path,) = (runs / run / "naming").glob("*.json")
        assert list(json.loads(path.read_text())["splits"]) == (
            ["all"] if run == "plain" else ["predicted", "novel"]
        )
    assert len(list((runs / "comparisons" / "naming").glob("*.png"))) == 1


def test_names_are_found_again_for_the_weights_they_are_of(result, runs: Path) -> None:  # type: ignore[no-untyped-def]
    found = naming_result(runs / "grouped", result["weights_sha256"])
    assert found == result
    assert names_of(found)[result["latents"][0]["latent"]].stretch == result["latents"][0]["stretch"]
    assert naming_result(runs / "grouped", "another") is None
    assert naming_result(runs / "nobody", result["weights_sha256"]) is None
    assert names_of(None) == {}


def test_the_page_of_sequences_says_what_latents_are_held_over(result, runs, flags, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from temporal_saes.sequences.command import main as sequences

    words = [
        "--run_name",
        "grouped",
        "--n_texts",
        "3",
        "--n_passages",
        "2",
        "--chunk",
        "2",
        "--select",
        "mean",
    ]
    sequences([*flags, *words, "--output_dir", str(tmp_path)])
    (page,) = tmp_path.glob("*.html")
    (path,) = tmp_path.glob("*.json")
    shown = json.loads(path.read_text())["shown"]["latents"]
    by_latent = {one["latent"]: [word for word, *_ in one["words"]] for one in result["latents"]}
    assert any(one["held_over"] for one in shown)
    for one in shown:
        assert one["held_over"] == by_latent[one["latent"]]
        if one["held_over"]:
            words = [f"<bdi>{word}</bdi>" for word in one["held_over"]]
            assert f"Held over: {', '.join(words)}" in page.read_text()


def test_mistakes_are_told_in_a_sentence(
    flags: list[str], runs: Path, tiny_lm_folder: Path, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    def refused(*words: str) -> str:
        with pytest.raises(UserError) as error:
            main([*flags, *words])
        return str(error.value)

    model = ["--model", str(tiny_lm_folder), "--layer", "2"]
    assert "has no latents to name" in refused("--run_name", "baseline_model", *model)
    assert "--held 0 is too small" in refused("--run_name", "grouped", "--held", "0")
    assert "--held 33" in refused("--run_name", "grouped", "--held", "33")
    corpus = tmp_path / "one.jsonl"
    corpus.write_text(json.dumps({"text": "The comet circles the moon."}) + "\n")
    words = ["--run_name", "grouped", "--checkpoints_path", str(runs), "--device", "cpu", "--no_cache"]
    with pytest.raises(UserError, match="one text cannot be learnt from"):
        main([*words, "--dataset", str(corpus), "--output_dir", str(tmp_path / "out")])
