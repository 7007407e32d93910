"""Automatic interpretation: windows, questions and answers by hand, and the script against a server here."""

import json
import re
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import warm
from chat_server import TEMPLATE, serving
from conftest import corpus_records
from modules import load_module
from tokenizer_kinds import FOREIGN, tokenizer_of
from toy_runs import EXPERIMENTS, make_run

from dictionary_learning.command.lock import locked
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.token_text import Stretch, stretches
from temporal_saes.autointerp.command import main
from temporal_saes.autointerp.interpreter import (
    Trial,
    Window,
    cut,
    detection_trial,
    explain_question,
    fuzzing_trial,
    read_explanation,
    read_list,
    score_trial,
    template,
    trial_questions,
    unmarked,
    written,
    wrongly_marked,
)
from temporal_saes.autointerp.sample import draw
from temporal_saes.autointerp.study import in_turns
from temporal_saes.chat import journal
from temporal_saes.latents.examples import Example
from temporal_saes.latents.explanations import read_explanations
from temporal_saes.naming.names import Name, Share

CONVERTER = EXPERIMENTS.parent / "process_sae_bench_autointerp.py"


def words(ids) -> list[Stretch]:
    """Every token a word of its own."""
    return [Stretch(i, i + 1, f" w{number}") for i, number in enumerate(ids)]


def window(values: list[float], context: int = 0) -> Window:
    n = len(values)
    return Window(
        tuple(f" w{i}" for i in range(n)), tuple(values), tuple(v > 0 for v in values), context, None
    )


# --- windows ---


def test_a_cut_keeps_the_peak_anywhere_in_it_and_without_luck_in_the_middle():
    example = Example(0, 3, 50, list(range(100, 165)), [float(i == 32) for i in range(65)], 32, 2)
    middle = cut(example, 8, words)
    assert len(middle.texts) == 8
    assert middle.texts.index(" w132") == 3
    assert middle.quantile == 2
    places = {cut(example, 8, words, np.random.default_rng(i)).texts.index(" w132") for i in range(60)}
    assert places == set(range(8))


def test_a_cut_at_the_end_of_a_text_is_within_it():
    example = Example(0, 0, 1, [5, 6, 7], [0.0, 2.0, 0.0], 1, None)
    assert cut(example, 8, words).texts == (" w5", " w6", " w7")
    found = cut(example, 2, words, np.random.default_rng(0)).texts
    assert found in ((" w5", " w6"), (" w6", " w7"))


def test_wrong_marks_are_the_true_ones_moved_where_none_is_right():
    one = window([0, 0, 3.0, 2.0, 0, 0, 0, 1.0])
    for seed in range(20):
        moved = wrongly_marked(one, np.random.default_rng(seed))
        assert sum(moved.marked) == 3
        assert not any(m and a for m, a in zip(moved.marked, one.is_active, strict=True))
    assert wrongly_marked(window([1.0] * 6), np.random.default_rng(0)) is None
    assert wrongly_marked(window([1.0, 1.0, 1.0, 0]), np.random.default_rng(0)) is None


def test_half_of_a_trial_is_true():
    generator = np.random.default_rng(0)
    with_it = [window([0, 1.0, 0, 0], context) for context in range(7)]
    without_it = [window([0, 0, 0, 0], 10 + context) for context in range(5)]
    trial = detection_trial(with_it, without_it, generator)
    assert sorted(trial.truth) == [False] * 5 + [True] * 5
    assert all((one.context < 7) == true for one, true in zip(trial.windows, trial.truth, strict=True))
    assert not any(any(one.marked) for one in trial.windows)
    trial = fuzzing_trial(with_it, generator)
    assert sorted(trial.truth) == [False] * 3 + [True] * 3
    for one, true in zip(trial.windows, trial.truth, strict=True):
        assert (one.marked == one.is_active) == true
    assert fuzzing_trial([window([1.0, 1.0])] * 4, generator).windows == []


def test_groups_take_turns_from_the_strongest_on():
    assert in_turns([["a", "b"], [], ["c", "d", "e"]]) == ["c", "a", "d", "b", "e"]
    assert in_turns([]) == []


def test_latents_are_drawn_split_by_split_and_a_dead_one_changes_no_other():
    splits = {"high": slice(0, 20), "low": slice(20, 100)}
    drawn = draw(splits, set(range(100)), 5, seed=0)
    assert sum(latent < 20 for latent in drawn) == 5
    assert sum(latent >= 20 for latent in drawn) == 5
    without = draw(splits, set(range(100)) - {drawn[0]}, 5, seed=0)
    assert set(drawn[1:5]) < set(without[:5])
    assert without[5:] == drawn[5:]
    assert draw(splits, {3}, 5, seed=0) == [3]


# --- questions ---


def test_marks_stand_around_runs_of_tokens_and_nothing_in_the_text_looks_like_one():
    one = window([0, 1.0, 1.0, 0, 2.0])
    assert written(one) == " w0<< w1 w2>> w3<< w4>>"
    assert written(unmarked(one)) == " w0 w1 w2 w3 w4"
    assert written(one._replace(texts=("<<a>>\n\nb",) * 5)).count("<<") == 2
    assert "\n" not in written(one._replace(texts=("a\r\nb\u2028c",) * 5))


def test_the_explainer_sees_how_active_each_marked_token_is():
    (message,) = explain_question([window([0, 4.0, 2.0, 0.01]), window([1.0, 0])])
    assert "1.  w0<< w1 w2 w3>>" in message["content"]
    assert "active: 'w1' 10, 'w2' 5, 'w3' 1" in message["content"]
    assert "2. << w0>> w1" in message["content"]


def test_a_trial_is_asked_about_in_parts_and_shows_only_what_is_judged():
    trial = Trial([unmarked(window([0, 1.0], i)) for i in range(7)], [True] * 7)
    asked = trial_questions("detection", trial, "rivers & $n", 5)
    texts = [conversation[0]["content"] for conversation in asked]
    assert ["Answer: [N, N, N, N, N]" in text for text in texts] == [True, False]
    assert "Answer: [N, N]" in texts[1]
    assert all("rivers & $n" in text for text in texts)
    assert re.findall(r"^(\d)\.  w0 w1$", texts[0], re.MULTILINE) == list("12345")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("explain", {"examples", "held_over"}),
        ("detection", {"explanation", "n", "stretches", "blanks"}),
        ("fuzzing", {"explanation", "n", "stretches", "blanks"}),
    ],
)
def test_the_shipped_questions_have_the_fields_that_are_filled(name, fields):
    assert set(template(name).get_identifiers()) == fields
    assert template(name).template.rstrip().endswith(("Explanation: TEXT", "Answer: [$blanks]"))


@pytest.mark.parametrize("kind", ["byte_level", "dummy_prefix"])
@pytest.mark.parametrize("text", FOREIGN)
def test_no_question_shows_a_part_of_a_character_whatever_is_marked(kind, text):
    tokenizer = tokenizer_of(kind)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    generator = np.random.default_rng(0)

    def around(position: int) -> Example:
        values = [0.0] * len(ids)
        values[position] = 3.0
        return Example(0, 0, position, ids, values, position, None)

    examples = [around(i) for i in range(len(ids))]
    with_it = [cut(one, 6, lambda some: stretches(tokenizer, some), generator) for one in examples]
    (shown,) = explain_question(with_it)
    asked = trial_questions("fuzzing", fuzzing_trial(with_it, generator), "rivers", 5)
    told = "".join([shown["content"], *(conversation[0]["content"] for conversation in asked)])
    assert "\ufffd" not in told
    assert "⟨" not in told
    for one in with_it:
        assert "".join(one.texts).strip() in text
        (marked,) = re.findall("<<(.+?)>>", written(one))
        assert f"{marked.strip()!r} 10" in told


def test_bytes_at_the_edge_of_what_was_read_are_shown_as_bytes():
    tokenizer = tokenizer_of("byte_level")
    ids = tokenizer("北京", add_special_tokens=False)["input_ids"][:-1]
    example = Example(0, 0, 4, ids, [0, 0, 0, 0, 2.0], 4, None)
    one = cut(example, 3, lambda some: stretches(tokenizer, some))
    assert written(one) == "北⟨E4⟩<<⟨BA⟩>>"


def test_wrong_marks_are_moved_by_whole_characters():
    tokenizer = tokenizer_of("byte_level")
    ids = tokenizer("北京東", add_special_tokens=False)["input_ids"]
    example = Example(0, 0, 3, ids, [0, 0, 0, 1.0, 0, 0, 0, 0, 0], 3, None)
    one = cut(example, 9, lambda some: stretches(tokenizer, some))
    assert written(one) == "北<<京>>東"
    moved = {written(wrongly_marked(one, np.random.default_rng(seed))) for seed in range(20)}
    assert moved == {"<<北>>京東", "北京<<東>>"}


# --- answers ---


@pytest.mark.parametrize(
    ("said", "explanation"),
    [
        ("Explanation: names of rivers", "names of rivers"),
        ("I think so.\n**Explanation:** names of rivers", "names of rivers"),
        ("Explanation: a: b", "a: b"),
        ("**Explanation: names of rivers**", "names of rivers"),
        ("**Explanation**: names of rivers", "names of rivers"),
        ("Explanation: **names of rivers**", "names of rivers"),
        ("**Explanation:** **names of rivers**", "names of rivers"),
        ("*Explanation:* names of *rivers*", "names of *rivers*"),
        ("### explanation: names of rivers", "names of rivers"),
        ("Explanation: pointers, as in char *", "pointers, as in char *"),
        ("**Explanation:** pointers, as in char **", "pointers, as in char **"),
        ("Explanation: **kwargs and *args", "**kwargs and *args"),
        ("Explanation: **a** and **b**", "**a** and **b**"),
        ("Explanation: TEXT\nExplanation: rivers", "rivers"),
        ("Explanation: **", None),
        ("names of rivers", None),
        ("Explanation:", None),
        ("Explanation:   \nrivers", None),
        ("Explanation: TEXT", None),
        ("Explanation: a\nExplanation: b", None),
        ("Explanation: " + "a" * 600, None),
        ("", None),
    ],
)
def test_only_one_line_with_an_explanation_counts(said, explanation):
    assert read_explanation(said) == explanation


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ("Answer: [1, 0, 1]", [True, False, True]),
        ("Well.\n**Answer:** [1,0]", [True, False]),
        ("Answer: [1]", [True]),
        ("**Answer: [1, 0]**", [True, False]),
        ("**Answer**: [1, 0].", [True, False]),
        ("answer: [ 1,0 ]", [True, False]),
        ("[1, 0]", [True, False]),
        ("```\n[1, 0]\n```", [True, False]),
        ("Answer: 1, 0", [True, False]),
        ("1, 0", None),
        ("Stretch [1] has one.", None),
        ("[1, 0] or [0, 1]", None),
        ("Answer: [1, 0] or [0, 1]", None),
        ("Answer: [1 0]", None),
        ("Answer: [10, 1]", None),
        ("Answer: [1, 2]", None),
        ("Answer: []", None),
        ("Answer: [1,,0]", None),
        ("Answer: [N, N]", None),
        ("Answer: [1]\nAnswer: [0]", None),
    ],
)
def test_only_one_line_with_a_list_of_zeros_and_ones_counts(said, values):
    assert read_list(said) == values


def test_a_trial_is_scored_by_both_kinds_of_windows():
    trial = Trial([window([0])] * 6, [True, True, True, False, False, False])
    scored = score_trial(trial, [True, True, False, False, None, True])
    # 2 of 3 that are true, 1 of 2 that are not and were answered
    assert scored["score"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scored["accuracy"] == pytest.approx(3 / 5)
    assert (scored["n_answered"], scored["n_windows"]) == (5, 6)
    only_true = score_trial(trial, [True, True, True, None, None, None])
    assert (only_true["score"], only_true["accuracy"]) == (None, 1)
    assert score_trial(Trial([], []), [])["score"] is None


# --- the script ---


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_lm_folder):
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("grouped", "plain", "attention"):
        make_run(folder / kind, tiny_lm_folder, kind=kind)
    return folder


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-tests")
    monkeypatch.setattr("temporal_saes.chat.server.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def flags(runs, tiny_corpus, tmp_path):
    return [
        "--run_name", "grouped", "--checkpoints_path", str(runs), "--dataset", str(tiny_corpus),
        "--label_field", "domain", "--device", "cpu", "--output_dir", str(tmp_path / "out"),
        "--n_latents", "3", "--n_test", "4", "--window", "16",
    ]  # fmt: skip


def run_main(flags: list[str], *more: str) -> Path:
    """Where the result went."""
    main([*flags, *more])
    out = Path(flags[flags.index("--output_dir") + 1])
    return max(out.iterdir(), key=lambda path: (path / "scores.json").stat().st_mtime_ns)


def scores_of(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def kind_of(body: dict) -> str:
    asked = body["messages"][0]["content"]
    if "are you there" in asked:
        return "check"
    return "explain" if "Explanation: TEXT" in asked else "fuzzing" if "<<" in asked else "detection"


def numbers(body: dict) -> int:
    return len(re.findall("N", re.search(r"Answer: \[([N, ]+)\]", body["messages"][0]["content"])[1]))


def obliging(i: int, body: dict, tokens: int = 100) -> dict:
    """Explains, and says of every window that it is right."""
    said = "Explanation: things & <words>"
    if kind_of(body) in ("detection", "fuzzing"):
        said = f"Answer: [{', '.join('1' * numbers(body))}]"
    usage = {"prompt_tokens": tokens - 10, "completion_tokens": 10}
    return {"choices": [{"message": {"content": said}}], "usage": usage}


def served(server, *more: str) -> list[str]:
    return ["--explainer_url", server.url, "--explainer_model", "org/judge-7b", *more]


def test_the_script_scores_without_a_model_from_another_folder(flags, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    done = warm.run([str(EXPERIMENTS / "autointerp.py"), *flags], cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert "window AUC" in done.stdout
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "scores.json", "scores.png", "scores.pdf", "question.json"
    }  # fmt: skip
    result = scores_of(folder)
    assert [one["split"] for one in result["latents"]] == ["high"] * 3 + ["low"] * 3
    assert all(one["offline"]["token_share"] is not None for one in result["latents"])
    assert all(one["explanation"] is None and one["detection"] is None for one in result["latents"])
    assert result["summary"]["splits"]["high"]["token_auc"]["n"] > 0
    assert result["options"]["window"] == 16
    assert result["provenance"]["command"]


def test_texts_without_a_class_will_do(flags, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": one["text"]}) + "\n" for one in corpus_records()))
    place = flags.index("--label_field")
    result = scores_of(run_main(flags[:place] + flags[place + 2 :], "--dataset", str(corpus)))
    assert result["n_texts"] == 60


def test_predicted_and_novel_codes_are_scored_alike(flags):
    result = scores_of(run_main(flags, "--run_name", "attention"))
    assert [one["split"] for one in result["latents"]] == ["predicted"] * 3 + ["novel"] * 3
    assert all(latent["offline"]["token_auc"] is not None for latent in result["latents"])
    # chunk 1 alone draws the same novel ones, whatever else is drawn
    assert all(one["latent"] >= 48 for one in result["latents"][3:])
    only = scores_of(run_main(flags, "--run_name", "attention", "--chunk", "1", "--negatives", "neighbours"))
    assert {one["split"] for one in only["latents"]} == {"novel"}


@pytest.mark.usefixtures("drawn")
def test_a_server_explains_and_scores_and_what_is_written_is_read_by_all(flags, capsys):
    with serving(obliging) as server:
        folder = run_main(flags, *served(server))
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-secret-of-the-tests"}
        kinds = [kind_of(body) for body in server.requests]
        n_paid = len(server.requests)
    result = scores_of(folder)
    said = capsys.readouterr()
    for one in result["latents"]:
        assert one["explanation"] == "things & <words>"
        for kind in ("detection", "fuzzing"):
            if one[kind]["n_windows"]:
                assert one[kind]["score"] == 0.5  # who says yes to all is right of one half
                assert one[kind]["n_answered"] == one[kind]["n_windows"] == 2 * sum(one[kind]["truth"])
    assert any(one["fuzzing"]["n_windows"] == 8 for one in result["latents"])
    about = result["explainer"]
    assert about["asked"] == {
        kind: kinds.count(word)
        for kind, word in (("explanation", "explain"), ("detection", "detection"), ("fuzzing", "fuzzing"))
    }
    assert about["tokens"] == {"prompt": 90 * n_paid, "answer": 10 * n_paid, "calls_estimated": 0}
    assert (about["complete"], about["stopped"]) == (6, None)
    assert "about" in said.err
    assert "tokens" in said.err

    explained = read_explanations(folder / "explanations.json", 96)
    assert list(explained) == [one["latent"] for one in result["latents"]]
    convert = load_module(CONVERTER)
    bench = folder / "sae_bench_eval_results.json"
    read = convert.read_result(bench)
    assert read.explanations == explained
    assert (read.unexplained, read.dict_size) == ([], 96)
    first = json.loads(bench.read_text())["eval_result_unstructured"][str(result["latents"][0]["latent"])]
    assert set(first) == {"latent", "explanation", "predictions", "correct seqs", "score", "logs"}
    detection = result["latents"][0]["detection"]
    assert first["correct seqs"] == [i + 1 for i, true in enumerate(detection["truth"]) if true]
    assert first["score"] == detection["accuracy"]
    assert "<<" in first["logs"]
    assert (folder / "scores.png").stat().st_size > 10_000
    for path in folder.iterdir():
        assert b"sk-secret-of-the-tests" not in path.read_bytes(), path
    assert "sk-secret-of-the-tests" not in said.out + said.err


def test_a_key_that_a_server_repeats_is_in_no_file_and_no_line(flags, capsys):
    def respond(i, body):
        sent = server.headers[i]["Authorization"]
        if kind_of(body) == "explain":
            return f"Explanation: words like {sent}"
        return obliging(i, body) if kind_of(body) != "fuzzing" else f"Answer to {sent}: none"

    with serving(respond) as server:
        folder = run_main(flags, *served(server))
    said = capsys.readouterr()
    explained = read_explanations(folder / "explanations.json", 96)
    assert set(explained.values()) == {"words like Bearer ***"}
    assert {path.name for path in folder.iterdir()} >= {"answers.jsonl", "scores.json", "scores.png"}
    for path in folder.iterdir():
        assert b"sk-secret-of-the-tests" not in path.read_bytes(), path
    assert "sk-secret-of-the-tests" not in said.out + said.err


def test_harder_windows_are_asked_about_and_recorded(flags):
    easy = scores_of(run_main(flags))
    with serving(obliging) as server:
        folder = run_main(flags, "--negatives", "neighbours", *served(server))
    result = scores_of(folder)
    assert result["options"]["negatives"] == "neighbours"
    assert max(one["n_beside_neighbours"] for one in result["latents"]) > 0
    assert all(0 <= one["n_beside_neighbours"] <= 10 for one in result["latents"])
    for before, after in zip(easy["latents"], result["latents"], strict=True):
        assert before["latent"] == after["latent"]
        assert before["offline"]["token_auc"] == after["offline"]["token_auc"]
        assert "n_beside_neighbours" not in before


def test_a_model_that_sees_the_words_scores_above_chance_on_a_latent_that_is_a_word(
    flags, runs, tiny_lm_folder
):
    """Told which letters to look for, as an explanation would, a server that looks finds them."""
    latents = scores_of(run_main(flags, "--n_latents", "40", "--chunk", "2"))["latents"]
    best = max(latents, key=lambda one: one["offline"]["token_share"] or -1)
    assert best["offline"]["token_share"] > 0.3

    def respond(i: int, body: dict) -> object:
        asked = body["messages"][0]["content"]
        if kind_of(body) == "explain":
            marked = re.findall(r"<<(.*?)>>", asked)
            return f"Explanation: {max(set(marked), key=marked.count).strip()}"
        if kind_of(body) == "check":
            return "yes"
        word = re.search(r"<explanation>\n(.*)\n</explanation>", asked)[1]
        lines = re.findall(r"^\d+\. (.*)$", asked, re.MULTILINE)
        if kind_of(body) == "fuzzing":
            right = [word in [m.strip() for m in re.findall(r"<<(.*?)>>", line)] for line in lines]
        else:
            right = [word in line for line in lines]
        return f"Answer: [{', '.join('01'[r] for r in right)}]"

    with serving(respond) as server:
        result = scores_of(run_main(flags, "--latents", str(best["latent"]), *served(server)))
    (one,) = result["latents"]
    assert one["fuzzing"]["score"] >= 0.75
    assert one["detection"]["score"] >= 0.75


def test_a_killed_run_goes_on_and_pays_nothing_twice(flags, monkeypatch):
    line, written_lines = journal._line, []

    def killed_after_nine(key, completion):
        if len(written_lines) == 9:
            raise KeyboardInterrupt
        written_lines.append(key)
        return line(key, completion)

    with serving(obliging) as server:
        with monkeypatch.context() as patch:
            patch.setattr(journal, "_line", killed_after_nine)
            with pytest.raises(KeyboardInterrupt):
                run_main(flags, *served(server, "--concurrency", "1"))
        folder = run_main(flags, *served(server, "--concurrency", "1"))
        first = [json.dumps(body) for body in server.requests]
        whole = scores_of(folder)
        # another run of it asks nothing but whether the server is there
        n = len(server.requests)
        again = scores_of(run_main(flags, *served(server)))
        assert len(server.requests) == n + 1
    questions = [body for body in first if kind_of(json.loads(body)) != "check"]
    # what was under way when the run was killed may be asked again, the nine answers before it are kept
    assert [questions.count(body) for body in questions[:9]] == [1] * 9
    assert len(questions) < len(set(questions)) + 9
    assert whole["latents"] == again["latents"]
    assert whole["explainer"]["complete"] == 6


def test_a_budget_ends_a_run_before_it_is_passed_and_a_larger_one_goes_on(flags, capsys):
    with serving(lambda i, body: obliging(i, body, tokens=1000)) as server:
        folder = run_main(flags, *served(server, "--max_cost_tokens", "9000"))
        result = scores_of(folder)
        spent = result["explainer"]["tokens"]
        assert spent["prompt"] + spent["answer"] <= 9000
        assert result["explainer"]["stopped"] == "over budget"
        assert 0 < result["explainer"]["complete"] < 6 or len(server.requests) > 5
        said = capsys.readouterr().err
        assert "of --max_cost_tokens 9,000 are left" in said
        assert "enough for about" in said
        assert "as --max_cost_tokens is used up" in said
        assert len(result["latents"]) == 6  # offline scores of all
        more = run_main(flags, *served(server, "--max_cost_tokens", "900000"))
        assert more == folder
        assert scores_of(more)["explainer"]["complete"] == 6
        questions = [json.dumps(body) for body in server.requests if kind_of(body) != "check"]
        assert len(set(questions)) == len(questions)


def test_a_budget_for_no_latent_asks_nothing_and_says_so(flags, capsys):
    with serving(obliging) as server:
        result = scores_of(run_main(flags, *served(server, "--max_cost_tokens", "400")))
        assert len(server.requests) == 1
    assert "enough for about 0 latents" in capsys.readouterr().err
    assert result["explainer"]["complete"] == 0
    assert result["latents"][0]["offline"]["token_auc"] is not None


def test_nonsense_and_refusals_are_counted_by_kind_and_the_rest_is_scored(flags):
    def respond(i: int, body: dict) -> object:
        if kind_of(body) == "fuzzing":
            return {"choices": [{"message": {"content": None, "refusal": "no"}}]}
        return "Answer: [1, 1, 1, 1, 1, 1]" if kind_of(body) == "detection" else obliging(i, body)

    with serving(respond) as server:
        result = scores_of(run_main(flags, *served(server)))
    failures = result["explainer"]["failures"]
    assert failures["explanation"] == {}
    assert set(failures["fuzzing"]) <= {"refusal", "too few windows"}
    assert failures["fuzzing"]["refusal"] > 0
    assert failures["detection"]["unreadable answer"] > 0
    assert all(one["fuzzing"]["score"] is None for one in result["latents"])
    assert result["summary"]["splits"]["high"]["fuzzing"]["mean"] is None


def test_latents_that_get_no_explanation_are_told_in_the_sae_bench_file(flags):
    with serving(lambda i, body: "no idea") as server:
        folder = run_main(flags, *served(server))
    result = scores_of(folder)
    assert result["explainer"]["failures"]["explanation"] == {"unreadable answer": 6}
    assert not (folder / "explanations.json").exists()
    read = load_module(CONVERTER).read_result(folder / "sae_bench_eval_results.json")
    assert read.unexplained == [one["latent"] for one in result["latents"]]


def test_a_server_that_dies_on_the_way_is_left_and_gone_on_with(flags):
    with serving(lambda i, body: obliging(i, body) if i < 12 else (500, {}, b"oops")) as server:
        folder = run_main(flags, *served(server, "--attempts", "1", "--concurrency", "1"))
        assert scores_of(folder)["explainer"]["stopped"] == "not asked"
    with serving(obliging) as server:
        folder = run_main(flags, *served(server))
        assert scores_of(folder)["explainer"]["complete"] == 6


def test_a_busy_server_is_met_by_waiting_as_long_as_it_asks(flags, monkeypatch):
    slept = []
    monkeypatch.setattr("temporal_saes.chat.server.time.sleep", slept.append)
    said = (429, {"Retry-After": "3"}, b"")
    with serving(lambda i, body: said if i % 3 == 1 else obliging(i, body)) as server:
        result = scores_of(run_main(flags, *served(server, "--concurrency", "1")))
    assert result["explainer"]["complete"] == 6
    waits = {seconds for seconds in slept if seconds > 0.5}  # others wait for a process a moment
    assert waits == {3.0}


def test_a_server_whose_answers_never_end_costs_no_more_than_the_time_limit(flags):
    never = threading.Event()

    def respond(i: int, body: dict) -> object:
        if i:
            never.wait(3)
        return obliging(i, body)

    with serving(respond) as server:
        result = scores_of(
            run_main(flags, *served(server, "--time_limit", "1", "--explainer_timeout", "0.2"))
        )
    assert result["explainer"]["complete"] in range(7)
    assert set(result["explainer"]["failures"]["explanation"]) <= {"timeout", "not asked", "out of time"}


def test_given_explanations_are_scored_and_not_asked_for(flags, tmp_path):
    given = tmp_path / "given.json"
    given.write_text(json.dumps({str(i): f"about {i}" for i in (1, 2, 40, 41, 42, 43)}))
    with serving(obliging) as server:
        result = scores_of(run_main(flags, *served(server, "--explanation_path", str(given))))
        assert "explain" not in {kind_of(body) for body in server.requests}
    assert {one["latent"] for one in result["latents"]} <= {1, 2, 40, 41, 42, 43}
    assert all(one["explanation"] == f"about {one['latent']}" for one in result["latents"])


def test_a_local_model_with_a_chat_template_is_asked_in_the_same_way(flags, monkeypatch):
    load = LanguageModel.load

    def templated(*args, **options):
        lm = load(*args, **options)
        lm.tokenizer.chat_template = TEMPLATE
        lm.max_positions = None  # its vocabulary makes a question longer than its 512 positions
        return lm

    monkeypatch.setattr(LanguageModel, "load", templated)
    model = str(
        Path(json.loads((Path(flags[3]) / "grouped/trainer_0/config.json").read_text())["trainer"]["lm_name"])
    )
    more = ["--explainer_model", model, "--latents", "3", "--max_answer_tokens", "4", "--n_top", "2"]
    result = scores_of(run_main(flags, *more, "--n_weighted", "0"))
    # a model of random weights answers in no form
    assert result["explainer"]["failures"]["explanation"] == {"unreadable answer": 1}
    assert result["explainer"]["tokens"]["prompt"] > 100
    assert result["explainer"]["tokens"]["calls_estimated"] == 0


# --- mistakes ---


def test_a_server_that_is_not_there_or_refuses_is_told_before_the_model_is_loaded(flags, monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", lambda *args, **options: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    more = ["--explainer_model", "m", "--explainer_url"]
    with pytest.raises(UserError, match=r"the explainer at .* cannot be reached .*--explainer_url"):
        main([*flags, *more, url])
    said = (401, {}, b'{"error": "bad key sk-secret-of-the-tests"}')
    with (
        serving(lambda i, body: said) as server,
        pytest.raises(UserError, match=r"status 401.*bad key \*\*\*.*OPENAI_API_KEY"),
    ):
        main([*flags, *more, server.url])
    assert not Path(flags[flags.index("--output_dir") + 1]).exists()


def explanations_file(tmp_path: Path, content: dict) -> str:
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--latents", "96"], "--latents 96 is out of range"),
        (["--latents", "40", "--chunk", "0"], "--latents 40 is not in chunk 0"),
        (["--latents", "1", "1"], "names a latent twice"),
        (["--run_name", "baseline_model", "--model", "x", "--layer", "1"], "has no latents"),
        (["--run_name", "plain", "--chunk", "1"], "chunk 1 needs groups"),
        (["--explainer_url", "http://localhost:1/v1"], "--explainer_url needs a model"),
        (["--max_cost_tokens", "5"], "--max_cost_tokens needs a model"),
        (["--explainer_model", "m", "--max_cost_tokens", "0"], "--max_cost_tokens 0 is too small"),
        (["--explainer_model", "m", "--time_limit", "nan"], "--time_limit is nan, and must be a finite"),
        (["--n_top", "0", "--n_weighted", "0"], "nothing to explain"),
        (["--n_test", "0"], "--n_test 0 is too small"),
        (["--explainer_model", "m", "--explanation_path", "nothing.json"], "cannot be read"),
        (["--explainer_model", "m", "--explanation_path", {"96": "a"}], "explains latent 96"),
        (["--explainer_model", "m", "--explanation_path", {"1": "a"}, "--chunk", "1"], "explains no latent"),
        (["--explainer_model", "m", "--explanation_path", {"1": "a"}, "--latents", "2"], "explain latent 2"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_the_language_model_is_loaded(flags, tmp_path, monkeypatch, more, sentence):
    monkeypatch.setattr(LanguageModel, "load", lambda *args, **options: pytest.fail("loaded"))
    more = [explanations_file(tmp_path, one) if isinstance(one, dict) else one for one in more]
    with pytest.raises(UserError, match=sentence):
        main([*flags, *more])
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_as_it_is(flags):
    folder = run_main(flags)
    before = (folder / "scores.json").read_bytes()
    question = json.loads((folder / "question.json").read_text())
    question["weights_sha256"] = "0" * 64  # as if the run had been trained anew
    (folder / "question.json").write_text(json.dumps(question))
    with pytest.raises(UserError, match="results of other weights, texts or questions"):
        main(flags)
    (folder / "question.json").unlink()
    with pytest.raises(UserError, match="files of something else"):
        main(flags)
    assert (folder / "scores.json").read_bytes() == before


@pytest.mark.parametrize("left", [".question.json.part", ".question.json.12-0123abcd.part", ".lock"])
def test_what_a_killed_start_left_is_no_result_of_something_else(flags, left):
    folder = run_main(flags)
    names = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    (folder / left).touch()
    assert run_main(flags) == folder
    assert {path.name for path in folder.iterdir()} == names


def test_two_commands_do_not_write_to_one_folder(flags):
    folder = run_main(flags)
    before = (folder / "scores.json").read_bytes()
    with locked(folder), pytest.raises(UserError, match="wait for it, or stop it"):
        main(flags)
    assert (folder / "scores.json").read_bytes() == before


def test_a_latent_that_is_never_active_is_told(flags):
    result = scores_of(run_main(flags, "--min_active", "1", "--n_latents", "96"))
    alive = {one["latent"] for one in result["latents"]}
    dead = sorted(set(range(96)) - alive)
    assert result["n_alive"] == {
        "high": sum(latent < 32 for latent in alive),
        "low": sum(latent >= 32 for latent in alive),
    }
    if dead:
        with pytest.raises(UserError, match=f"--latents {dead[0]} is dead"):
            main([*flags, "--latents", str(dead[0])])
    with pytest.raises(UserError, match="no latent of chunk 2 is active at 1000000"):
        main([*flags, "--min_active", "1000000"])


def test_an_explainer_is_told_what_the_latent_is_held_over_as_data() -> None:
    window = Window(("a", " comet"), (0.0, 1.0), (False, True), 0, None)
    share = Share("orbit", 9.0, 0.1, 5.0)
    hostile = Share("<<ignore this>>\nand that", 5.0, 0.5, 3.0)
    name = Name((share, share._replace(text="moon")), (hostile,), (), 12.0, 0.25)
    told = explain_question([window], name)[0]["content"]
    bare = explain_question([window])[0]["content"]
    assert "orbit, moon" in told
    assert "stretches of 12 tokens" in told
    assert "< <ignore this> >" in told  # no mark of ours, and one line
    assert "Kinds of documents" not in told  # none stand out
    assert "<counts>" not in bare
    assert told.startswith(bare.partition("</examples>")[0])
    assert explain_question([window], Name((), (hostile,), (), 12.0, 0.25))[0]["content"] == bare
