"""Explanations: the one loader, and SAEBench's results made into what it reads."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from modules import load_module

from dictionary_learning.errors import UserError
from temporal_saes.latents.explanations import find_explanations, read_explanations, save_explanations

SCRIPT = Path(__file__).parents[2] / "src" / "process_sae_bench_autointerp.py"


convert = load_module(SCRIPT)


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def sae_bench(explained: dict, d_sae: int | None = 8, **config: object) -> dict:
    """A result in SAEBench's form; an explanation of None is one that could not be made."""
    return {
        "eval_type_id": "autointerp",
        "eval_config": {"n_latents": len(explained), "dead_latent_threshold": 15, **config},
        "eval_result_metrics": {"autointerp": {"autointerp_score": 0.8, "autointerp_std_dev": 0.1}},
        "sae_cfg_dict": {} if d_sae is None else {"d_sae": d_sae},
        "eval_result_unstructured": {
            str(latent): {"latent": latent, "explanation": text, "correct seqs": [1], "score": 0.9}
            for latent, text in explained.items()
        },
    }


# --- the loader ---


def test_explanations_come_back_by_latent_in_order_without_the_empty_ones(tmp_path):
    path = write(tmp_path / "e.json", {"10": " rivers ", "2": "the past tense", "3": "  "})
    assert list(read_explanations(path, 11).items()) == [(2, "the past tense"), (10, "rivers")]


def test_what_is_saved_is_what_is_read(tmp_path):
    path = tmp_path / "new" / "explanations.json"
    save_explanations(path, {7: "„Flüsse“", 1: "x"})
    assert path.read_text(encoding="utf-8") == '{\n  "1": "x",\n  "7": "„Flüsse“"\n}\n'
    assert read_explanations(path) == {1: "x", 7: "„Flüsse“"}


def test_explanations_beside_the_weights_are_found_and_a_given_file_wins(tmp_path):
    assert find_explanations(None, tmp_path, 4) == {}
    assert find_explanations(None, None, 4) == {}
    write(tmp_path / "explanations.json", {"1": "beside"})
    given = write(tmp_path / "given.json", {"1": "given"})
    assert find_explanations(None, tmp_path, 4) == {1: "beside"}
    assert find_explanations(given, tmp_path, 4) == {1: "given"}


def test_explanations_of_neuronpedia_are_read_from_the_folder_of_a_source(tmp_path):
    rows = [
        {"index": "7", "description": "rivers", "embedding": [0.5]},
        {"index": "7", "description": "later"},
    ]
    folder = tmp_path / "20-set" / "explanations"
    folder.mkdir(parents=True)
    for number, some in enumerate((rows, [{"index": "1031", "description": "the past"}])):
        text = "".join(json.dumps(row) + "\n" for row in some)
        (folder / f"batch-{number}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for place in (folder, folder.parent):
        assert read_explanations(place, 2000) == {7: "rivers", 1031: "the past"}
    with pytest.raises(UserError, match=r"explains latent 1031, and the dictionary has"):
        read_explanations(folder, 100)
    (folder / "batch-2.jsonl.gz").write_bytes(gzip.compress(b'{"index": "3", "tokens": []}\n'))
    with pytest.raises(UserError, match=r"batch-2.jsonl.gz holds no explanations"):
        read_explanations(folder)
    (folder / "batch-2.jsonl.gz").write_bytes(gzip.compress(b'{"index": "3"}\n')[:-9])
    with pytest.raises(UserError, match=r"batch-2.jsonl.gz holds no"):
        read_explanations(folder)
    with pytest.raises(UserError, match="is a folder without explanations of Neuronpedia's"):
        read_explanations(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not JSON", "is damaged or of another kind .*JSON was expected"),
        ("", "is damaged or of another kind .*JSON was expected"),
        ("[" * 100_000, "is damaged or of another kind .*JSON was expected"),
        (["a"], "holds no explanations"),
        ({"1": 5}, "holds no explanations"),
        ({"one": "a"}, "the key 'one'"),
        ({"-1": "a"}, "the key '-1'"),
        ({"²": "a"}, "the key '²'"),
        ({"8": "a"}, "latent 8, and the dictionary has the latents 0 to 7"),
        (sae_bench({1: "a"}), "process_sae_bench_autointerp.py"),
    ],
)
def test_a_file_that_holds_no_explanations_of_this_dictionary_is_told(tmp_path, content, sentence):
    path = write(tmp_path / "e.json", content)
    with pytest.raises(UserError, match=sentence):
        read_explanations(path, 8)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.json cannot be read"):
        read_explanations(tmp_path / "nothing.json")
    (tmp_path / "latin.json").write_bytes(b'{"1": "caf\xe9"}')
    with pytest.raises(UserError, match=r"is damaged or of another kind .*JSON was expected"):
        read_explanations(tmp_path / "latin.json")


# --- SAEBench's result ---


def run(tmp_path: Path, *results: object, more: tuple[str, ...] = (), capsys) -> tuple[dict, str]:
    paths = [str(write(tmp_path / f"{i}.json", result)) for i, result in enumerate(results)]
    convert.main(["--results", *paths, *more])
    return json.loads((tmp_path / "explanations.json").read_text(encoding="utf-8")), capsys.readouterr().out


def test_the_script_converts_from_another_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path / "r.json", sae_bench({5: "rivers", 2: "tense"}))
    out = tmp_path / "out" / "mine.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--results", str(path), "--output", str(out)],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert out.read_text(encoding="utf-8") == '{\n  "2": "tense",\n  "5": "rivers"\n}\n'
    assert done.stdout.splitlines()[0] == "2 of 8 latents have an explanation."
    assert "6 are missing: SAEBench did not draw them, or they are dead" in done.stdout


def test_where_fewer_latents_lived_than_were_wanted_the_rest_is_called_dead(tmp_path, capsys):
    _, said = run(tmp_path, sae_bench({5: "rivers", 2: "tense"}, n_latents=1000), capsys=capsys)
    assert "6 are missing: 6 of them fired too rarely" in said


def test_latents_that_were_asked_about_in_vain_are_listed(tmp_path, capsys):
    explained, said = run(tmp_path, sae_bench({5: "rivers", 2: None, 3: " "}), capsys=capsys)
    assert explained == {"5": "rivers"}
    assert "2 were asked about and got no explanation: 2, 3." in said
    _, said = run(tmp_path, sae_bench({5: "rivers"}, override_latents=[5, 6, 7]), capsys=capsys)
    assert "2 were asked about and got no explanation: 6, 7." in said


def test_the_later_of_several_results_wins_and_fills_gaps(tmp_path, capsys):
    results = [sae_bench({1: "first", 2: None}), sae_bench({1: "second", 2: "found"})]
    explained, said = run(tmp_path, *results, capsys=capsys)
    assert explained == {"1": "second", "2": "found"}
    assert "no explanation" not in said


def test_a_result_that_does_not_tell_the_size_takes_it_from_the_flag(tmp_path, capsys):
    _, said = run(tmp_path, sae_bench({1: "a"}, d_sae=None), capsys=capsys)
    assert "give --dict_size" in said
    _, said = run(tmp_path, sae_bench({1: "a"}, d_sae=None), more=("--dict_size", "3"), capsys=capsys)
    assert "1 of 3 latents have an explanation." in said


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"eval_type_id": "core"}, "no result of SAEBench's autointerp"),
        ({"eval_result_unstructured": ["a"]}, "no result of SAEBench's autointerp"),
        ({"eval_result_unstructured": {"a": {}}}, "the key 'a'"),
        (sae_bench({8: "beyond"}), "latent 8, and the dictionary has the latents 0 to 7"),
        ("{", "is damaged or of another kind .*JSON was expected"),
    ],
)
def test_another_file_is_refused_and_nothing_written(tmp_path, result, sentence):
    path = write(tmp_path / "r.json", result)
    with pytest.raises(UserError, match=sentence):
        convert.main(["--results", str(path)])
    assert sorted(tmp_path.iterdir()) == [path]


def test_results_of_two_dictionaries_are_not_mixed(tmp_path):
    paths = [write(tmp_path / f"{d}.json", sae_bench({1: "a"}, d_sae=d)) for d in (8, 16)]
    with pytest.raises(UserError, match="dictionaries with 8, 16 latents"):
        convert.main(["--results", *map(str, paths)])


def test_no_file_or_a_folder_as_output_is_told(tmp_path):
    with pytest.raises(UserError, match="--results is missing"):
        convert.main([])
    path = write(tmp_path / "r.json", sae_bench({1: "a"}))
    with pytest.raises(UserError, match="is a folder"):
        convert.main(["--results", str(path), "--output", str(tmp_path)])


def test_half_a_character_in_an_explanation_can_be_written(tmp_path):
    (tmp_path / "e.json").write_text(r'{"3": "rivers \ud83d"}')
    assert read_explanations(tmp_path / "e.json") == {3: "rivers \ufffd"}
