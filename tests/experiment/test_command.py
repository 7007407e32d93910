"""What the `main` of every experiment is made of."""

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest

from dictionary_learning.errors import UserError
from temporal_saes.experiment import results
from temporal_saes.experiment.command import Case, case_of, check_places, results_of, save_answer, shared_path
from temporal_saes.experiment.names import beside
from temporal_saes.experiment.options import ComparedOptions, JoinedTextOptions
from temporal_saes.experiment.results import differences
from temporal_saes.experiment.subjects import Subject, check_latents, cut_alike
from temporal_saes.reading import Reading


def a_subject(folder: Path, name: str = "run", **changes: object) -> Subject:
    """The dense activations of a model that nobody loads."""
    subject = Subject(
        run_name=name,
        folder=folder / name,
        trainer_folder=None,
        checkpoint=None,
        chunk=2,
        split="all",
        dict_class="baseline_model",
        model="m",
        layer=3,
        context_length=48,
        max_norm_ratio=7.0,
        add_bos=False,
        lm_dtype="float32",
    )
    return dataclasses.replace(subject, **changes)  # type: ignore[arg-type]


def options_in(folder: Path, *names: str, **more: object) -> ComparedOptions:
    return ComparedOptions(checkpoints_path=str(folder), compare=names or None, **more)  # type: ignore[arg-type]


def run(folder: Path, options: ComparedOptions, texts: list[str], made: list[str]) -> list[dict]:
    """A study of two subjects that finds the length of their name."""
    subjects = [a_subject(folder, name) for name in ("one", "three")]
    cases = [case_of("lengths", subject, options, texts) for subject in subjects]

    def study(subject: Subject) -> dict[str, int]:
        made.append(subject.run_name)
        return {"length": len(subject.run_name)}

    return results_of(cases, options, study, lambda result: f"{result['name']}: {result['length']}", indent=2)


def test_a_result_that_lacks_what_is_shown_is_made_again(tmp_path, capsys):
    compare = options_in(tmp_path, "one", "three")
    made: list[str] = []
    run(tmp_path, compare, ["text"], made)
    (path,) = tmp_path.glob("one/lengths/*.json")
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "length"}))
    made.clear()
    capsys.readouterr()
    assert [result["length"] for result in run(tmp_path, compare, ["text"], made)] == [3, 5]
    assert made == ["one"]
    said = f"{path} is no result of this version (KeyError: 'length'), so it is made again."
    assert said in capsys.readouterr().err
    assert json.loads(path.read_text())["length"] == 3


def test_a_result_is_written_with_all_that_it_depends_on(tmp_path, capsys):
    made: list[str] = []
    run(tmp_path, options_in(tmp_path, seed=4), ["text"], made)
    assert capsys.readouterr().out == "one: 3\nthree: 5\n"
    written = json.loads((tmp_path / "one/lengths/demo_m_layer3_seed4.json").read_text())
    assert list(written) == [
        *[
            "experiment",
            "options",
            "subject",
            "weights_sha256",
            "model_identity",
            "texts_sha256",
            "name",
            "length",
            "provenance",
        ]
    ]
    assert (written["experiment"], written["name"], written["length"]) == ("lengths", "one", 3)
    assert (written["options"]["seed"], written["subject"]["layer"]) == (4, 3)


def test_a_comparison_waits_for_a_result_that_another_one_is_at_work_on(tmp_path, capsys):
    compared = options_in(tmp_path, "one", "three")
    working, finish = threading.Event(), threading.Event()
    subject, made = a_subject(tmp_path, "one"), []
    case = case_of("lengths", subject, compared, ["text"])

    def slow(subject: Subject) -> dict[str, int]:
        working.set()
        assert finish.wait(60)
        return {"length": 3}

    first = threading.Thread(target=results_of, args=([case], compared, slow, str))
    first.start()
    assert working.wait(60)
    second = threading.Thread(target=run, args=(tmp_path, compared, ["text"], made))
    second.start()
    told = ""
    while "waiting for it" not in told:
        assert second.is_alive()
        told += capsys.readouterr().err
        time.sleep(0.01)
    finish.set()
    first.join(60)
    second.join(60)
    assert made == ["three"]  # the other one was taken from what it had waited for
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json"}


def test_a_study_that_fails_leaves_no_lock_and_no_folder(tmp_path):
    compared = options_in(tmp_path, "one")
    case = case_of("lengths", a_subject(tmp_path, "one"), compared, ["text"])

    def fail(subject: Subject) -> dict[str, int]:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        results_of([case], compared, fail, str)
    assert not list(tmp_path.iterdir())


def test_only_a_comparison_takes_what_is_there_and_only_if_it_answers_the_same_question(tmp_path, capsys):
    alone, compared = options_in(tmp_path), options_in(tmp_path, "one", "three")
    made: list[str] = []
    first = run(tmp_path, alone, ["text"], made)
    run(tmp_path, alone, ["text"], made)
    assert made == ["one", "three"] * 2
    assert [one["length"] for one in run(tmp_path, compared, ["text"], made)] == [3, 5]
    assert made == ["one", "three"] * 2
    assert capsys.readouterr().err.count("taken from") == 2
    run(tmp_path, compared, ["another text"], made)
    run(tmp_path, dataclasses.replace(compared, max_records=9), ["another text"], made)
    assert made == ["one", "three"] * 4
    assert [one["name"] for one in first] == ["one", "three"]


def test_the_figure_is_beside_the_one_result_or_with_the_comparisons(tmp_path):
    def rename(path: Path, question: object) -> Path:
        return beside(path, "_pca")

    subjects = [a_subject(tmp_path, name) for name in ("one", "three")]
    options = options_in(tmp_path)
    cases = [case_of("lengths", subject, options, [], rename) for subject in subjects]
    assert cases[0].path == tmp_path / "one/lengths/demo_m_layer3_pca"
    assert shared_path(cases[:1], options, rename) == cases[0].path
    compared = options_in(tmp_path, "one", "three")
    assert shared_path(cases, compared, rename) == tmp_path / "comparisons/lengths/demo_one_three_pca"


def test_experiments_with_one_folder_for_their_results_do_not_overwrite_each_other(tmp_path):
    subject = a_subject(tmp_path, "one")
    for compare in ((), ("one", "three")):
        options = dataclasses.replace(options_in(tmp_path, *compare), output_dir=str(tmp_path / "out"))
        paths = set()
        for experiment in ("lengths", "widths"):
            cases = [case_of(experiment, subject, options, [])] * 2
            paths |= {cases[0].path, shared_path(cases, options)}
        assert len(paths) == (4 if compare else 2)
        assert {path.parent for path in paths} == {tmp_path / "out"}


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    check_places([a_subject(tmp_path)], options_in(tmp_path), "lengths")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    with pytest.raises(UserError, match="is a file, not a folder: choose another --output_dir"):
        check_places([a_subject(tmp_path / "file")], options_in(tmp_path), "lengths")


def test_letters_are_kept_as_the_experiment_asks(tmp_path):
    for escaped in (True, False):
        case = Case("lengths", a_subject(tmp_path), {}, tmp_path / "v1.5")
        save_answer(case, {"word": "naïve"}, ensure_ascii=escaped)
        assert ("naïve" in (tmp_path / "v1.5.json").read_text(encoding="utf-8")) is not escaped


def test_a_subject_says_how_texts_are_read(tmp_path):
    options = options_in(tmp_path, lm_batch_size=5, cache=False)
    assert a_subject(tmp_path).reading(options) == Reading(48, 7.0, False, 5, False)


def test_subjects_that_are_cut_alike_see_the_tokens_of_the_shortest(tmp_path):
    subjects = [a_subject(tmp_path, context_length=length) for length in (90, 30, 60)]
    assert [subject.context_length for subject in cut_alike(subjects)] == [30, 30, 30]


def test_a_latent_that_is_not_in_the_chunk_is_told_with_the_chunk(tmp_path):
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE

    dictionary = MatryoshkaBatchTopKSAE(8, 12, k=2, group_sizes=[4, 8])
    subject = a_subject(tmp_path, chunk=1)
    check_latents([4, 11], subject, dictionary)
    for latent, sentence in ((12, "out of range: run has the latents 0 to 11"), (3, "which is 4 to 11")):
        with pytest.raises(UserError, match=sentence):
            check_latents([latent], subject, dictionary)


def test_differences_are_of_every_later_subject_against_the_first():
    results = [
        {"experiment": "lengths", "name": name, "n_texts": 2, "options": {"seed": 0}, "length": length}
        for name, length in (("a", 3), ("b", 5), ("c", 1))
    ]
    found = differences(results, "minus_first", lambda one, first: one["length"] - first["length"])
    assert (found["first"], found["subjects"]) == ("a", ["a", "b", "c"])
    assert found["minus_first"] == {"b": 2, "c": -2}


def test_a_text_to_show_has_to_be_there():
    JoinedTextOptions(n_texts=3, show=2)
    for wrong, sentence in (
        ({"n_texts": 3, "show": 3}, "--show 3 does not exist: there are the texts 0 to 2"),
        ({"passages": ("a.txt", "b.txt"), "show": 1}, "--show 1 does not exist: there are the texts 0 to 0"),
        ({"show": -1}, "--show -1 is too small: give at least 0"),
        ({"n_texts": 0}, "--n_texts 0 is too small: give at least 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            JoinedTextOptions(**wrong)  # type: ignore[arg-type]


def test_results_of_a_model_that_was_overwritten_are_not_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    weights = model / "model.safetensors"
    weights.write_bytes(b"one")
    made: list[str] = []

    def compare() -> None:
        subjects = [a_subject(tmp_path, name, model=str(model)) for name in ("one", "three")]
        compared = options_in(tmp_path, "one", "three")
        cases = [case_of("lengths", subject, compared, ["text"]) for subject in subjects]
        results_of(cases, compared, lambda subject: made.append(subject.run_name) or {}, lambda result: "")

    compare()
    compare()
    assert made == ["one", "three"]
    weights.write_bytes(b"two")
    compare()
    assert made == ["one", "three"] * 2
    weights.write_bytes(b"one")
    compare()
    assert made == ["one", "three"] * 3

    results._tell_once.cache_clear()
    for path in tmp_path.glob("*/lengths/*.json"):
        old = json.loads(path.read_text())
        del old["model_identity"]
        path.write_text(json.dumps(old))
    capsys.readouterr()
    compare()
    assert made == ["one", "three"] * 4
    assert capsys.readouterr().err.count("older version") == 1
