"""Garden paths: the lean by hand, the sentences, and the script on runs of the tiny model."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import warm
from toy_runs import EXPERIMENTS, load_script, make_run

from dictionary_learning.errors import UserError
from temporal_saes.experiment.numbers import right_reading
from temporal_saes.features import Tokens
from temporal_saes.garden_paths.study import Code, lean
from temporal_saes.garden_paths.triples import Triple, read_triples, tail_length

SCRIPT = EXPERIMENTS / "garden_paths.py"
garden_paths = load_script("garden_paths")
TRIPLE = Triple("object", "a b c d", "a x c d", "b a c d", "c d")


def code(rows: list[list[float]], usable: tuple[bool, ...] = (True, True, True, True)) -> Code:
    """A sentence of four one-letter tokens, of which the codes of the usable ones are given."""
    offsets = [(0, 1), (1, 3), (3, 5), (5, 7)]
    return Code(Tokens(np.array([1, 2, 3, 4], np.int32), offsets, np.array(usable)), np.array(rows))


def test_a_code_between_both_readings_leans_nowhere_and_one_like_the_right_reading_leans_by_hand():
    nothing = [0.0, 0.0]
    right = code([nothing, nothing, [1.0, 0.0], [1.0, 0.0]])
    wrong = code([nothing, nothing, [0.0, 1.0], [0.0, 1.0]])
    between = code([nothing, nothing, [1.0, 1.0], [2.0, 2.0]])
    zero_F = np.zeros(2)
    assert lean(TRIPLE, [between, right, wrong], zero_F) == pytest.approx(0)
    # at c the cosines are 1 and 0; at d 3/5 and 4/5: the mean of 1 and -.2
    path = code([nothing, nothing, [2.0, 0.0], [3.0, 4.0]])
    assert lean(TRIPLE, [path, right, wrong], zero_F) == pytest.approx(0.4)
    assert lean(TRIPLE, [path, wrong, right], zero_F) == pytest.approx(-0.4)


def test_what_all_codes_have_in_common_counts_for_neither():
    common = np.array([5.0, -3.0])
    right, wrong, path = (
        code((np.array(rows) + common).tolist())
        for rows in (
            [[0, 0], [0, 0], [1, 0], [1, 0]],
            [[0, 0], [0, 0], [0, 1], [0, 1]],
            [[0, 0], [0, 0], [2, 0], [3, 4]],
        )
    )
    assert lean(TRIPLE, [path, right, wrong], common) == pytest.approx(0.4)


def test_a_token_that_is_not_usable_in_one_of_the_sentences_is_left_out_of_all():
    right = code([[0, 0], [0, 0], [1, 0], [1, 0]])
    wrong = code([[0, 0], [0, 0], [0, 1]], (True, True, True, False))
    path = code([[0, 0], [0, 0], [2, 0], [3, 4]])
    assert lean(TRIPLE, [path, right, wrong], np.zeros(2)) == pytest.approx(1)
    # codes that are silent in all three sentences lean to neither reading, around their mean or not
    silent = code([[0, 0]] * 4)
    assert lean(TRIPLE, [silent] * 3, np.zeros(2)) is None
    assert lean(TRIPLE, [silent] * 3, np.array([0.2, 0.1])) == 0
    assert [right_reading(value) for value in (0.1, 0.0, -0.1)] == [1, 0.5, 0]
    never = code([[0, 0], [0, 0]], (True, True, False, False))
    assert lean(TRIPLE, [path, right, never], np.zeros(2)) is None


def test_the_tail_ends_where_tokens_begin_to_differ_or_the_words_do():
    texts = ["a b c d", "a x c d"]
    offsets = [[(0, 1), (1, 3), (3, 5), (5, 7)]] * 2
    assert tail_length(texts, "c d", [[1, 2, 3, 4], [1, 2, 3, 4]], offsets) == 2
    assert tail_length(texts, "c d", [[1, 2, 3, 4], [1, 2, 9, 4]], offsets) == 1
    # an EOS behind the text, which has no characters, takes no token of the tail away
    for eos in ((0, 0), (7, 7)):
        longer = [[*some, eos] for some in offsets]
        assert tail_length(texts, "c d", [[1, 2, 3, 4, 0], [1, 2, 3, 4, 0]], longer) == 3


@pytest.mark.parametrize(
    ("text", "tail", "fits"),
    [
        ("犬が追いかけた猫は逃げた。", "逃げた。", True),
        ("إن القمر قريب", "قريب", True),
        ("a dear", "ear", False),
        ("चाँद,है", "है", True),
        ("ran", "ran", False),
        ("he ran", "", False),
    ],
)
def test_a_tail_begins_with_a_word_in_any_script(tmp_path, text, tail, fits):
    path = tmp_path / "triples.jsonl"
    record = {"kind": "x", "sentence": text, "right": text, "wrong": text, "tail": tail}
    path.write_text(json.dumps(record) + "\n")
    with nullcontext() if fits else pytest.raises(UserError, match="does not end in its tail"):
        assert read_triples(str(path))[0].tail == tail


def test_the_thirty_triples_end_alike_and_tell_three_kinds_of_ambiguity():
    triples = read_triples(None)
    kinds = [triple.kind for triple in triples]
    assert {kind: kinds.count(kind) for kind in kinds} == {"object": 10, "clause": 10, "participle": 10}
    assert len({text for triple in triples for text in triple.texts}) == 90


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"kind": "object"}, "record 1 of --triples .* has no text in sentence, right, wrong, tail"),
        (TRIPLE._asdict() | {"right": "a c x"}, "right of record 1 of .* does not end in its tail 'c d'"),
    ],
)
def test_a_record_that_is_no_triple_is_a_sentence(tmp_path: Path, record: dict[str, str], told: str):
    path = tmp_path / "triples.jsonl"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match=told):
        read_triples(str(path))


def test_the_script_compares_predicted_codes_novel_codes_and_activations(tmp_path, tiny_lm_folder):
    runs = tmp_path / "runs"
    make_run(runs / "attention", tiny_lm_folder, kind="attention")
    words = ["--checkpoints_path", str(runs), "--device", "cpu", "--no_cache"]
    words += ["--compare", "attention:0", "attention:1", "baseline_model"]
    done = warm.run([str(SCRIPT), *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, _ = results = [
        json.loads((runs / f"attention/garden_paths/built-in_chunk{chunk}.json").read_text())
        for chunk in (0, 1)
    ]
    for result in results:
        known = [value for value in result["lean_of_triples"] if value is not None]
        assert result["n_texts"] == len(known) > 20
        assert result["lean"]["mean"] == pytest.approx(np.mean(known))
        assert all(-2 <= value <= 2 for value in known)
    (path,) = (runs / "comparisons" / "garden_paths").glob("*.json")
    assert path.with_suffix(".png").is_file()
    differ = json.loads(path.read_text())["minus_first"]
    assert differ["attention:1"]["mean"] == pytest.approx(
        np.mean(
            [
                b - a
                for a, b in zip(*(one["lean_of_triples"] for one in results), strict=True)
                if a is not None
            ]
        )
    )
    assert f"leans to the right reading by {first['lean']['mean']:.3f}" in done.stdout


def test_no_data_set_is_asked_for(capsys):
    with pytest.raises(SystemExit):
        garden_paths.main(["--dataset", "demo"])
    assert "--dataset" in capsys.readouterr().err
