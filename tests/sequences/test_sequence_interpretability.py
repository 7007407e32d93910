import itertools
import json
from pathlib import Path

import pytest
import warm
from caches import forbid_language_model
from toy_runs import EXPERIMENTS, JUDGES, LAYER, load_script, make_runs, passage_files

from dictionary_learning.command import figures
from dictionary_learning.errors import UserError
from temporal_saes.sequences.figure import SCORES, _scores

pytestmark = pytest.mark.usefixtures("own_cache")

SCRIPT = EXPERIMENTS / "sequence_interpretability.py"
sequences = load_script("sequence_interpretability")


@pytest.fixture
def runs(tmp_path, tiny_lm_folder) -> Path:
    return make_runs(tmp_path / "runs", tiny_lm_folder)


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    return [
        *["--checkpoints_path", str(runs), "--dataset", str(corpus), "--label_field", "domain"],
        *["--device", "cpu", "--context_length", "96", "--n_texts", "3", "--n_latents", "4", *more],
    ]


COMETS = "The distant comet circles the galaxy. A comet near the orbit <b>often</b> eclipses it."


def results(runs: Path, run: str = "*") -> list[dict]:
    paths = set(runs.glob(f"{run}/sequence_interpretability/*.json")) - set(runs.glob("comparisons/*/*"))
    return [json.loads(path.read_text()) for path in sorted(paths)]


def test_the_script_runs_from_another_folder(runs, tiny_corpus, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = flags(runs, tiny_corpus, "--run_name", "grouped")
    done = warm.run([str(SCRIPT), *words], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    folder = runs / "grouped" / "sequence_interpretability"
    assert sorted(path.suffix for path in folder.iterdir()) == [".html", ".json", ".pdf", ".png"]
    (result,) = results(runs)
    assert result["options"]["n_texts"] == result["n_texts"] == len(result["scores_of_texts"]["chosen"]) == 3
    assert (result["subject"]["layer"], result["subject"]["split"]) == (LAYER, "high")
    shown = result["shown"]
    assert len({passage["label"] for passage in shown["passages"]}) == 3
    assert len(shown["latents"]) == 4
    for latent in shown["latents"]:
        assert 0 <= latent["latent"] < 32
        assert len(latent["values"]) == len(shown["positions"]) == len(shown["passage"])
    for scores in result["scores"].values():
        for name in ("information", "shuffled", "shifted", "flicker", "on_share"):
            assert 0 <= scores[name]["mean"] <= 1
    assert "bits" in done.stdout
    assert list(elsewhere.iterdir()) == []


def test_compare_puts_every_kind_of_dictionary_beside_the_first(runs, tiny_corpus, capsys):
    names = ["grouped:0", "grouped:1", "plain:2", "attention:0", "attention:1", "baseline_model"]
    words = flags(runs, tiny_corpus, "--compare", *names)
    sequences.main(words)
    found = results(runs)
    assert len(found) == 6
    assert len({result["texts_sha256"] for result in found}) == 1
    assert len({json.dumps(result["shown"]["ids"]) for result in found}) == 1
    low = next(result for result in found if result["name"] == "grouped:1")
    assert all(32 <= latent["latent"] < 96 for latent in low["shown"]["latents"])
    folder = runs / "comparisons" / "sequence_interpretability"
    assert sorted(path.suffix for path in folder.iterdir()) == [".html", ".json", ".pdf", ".png"]
    differences = json.loads(next(folder.glob("*.json")).read_text())
    assert list(differences["minus_first"]) == names[1:]
    means = {result["name"]: result["scores"]["all"]["flicker"]["mean"] for result in found}
    paired = differences["minus_first"]["plain:2"]["all"]["flicker"]["mean"]
    assert paired == pytest.approx(means["plain:2"] - means["grouped:0"])
    capsys.readouterr()
    sequences.main(words)
    assert "taken from" in "".join(capsys.readouterr())


def test_the_page_loads_nothing_and_escapes_everything(runs, tiny_corpus, tmp_path):
    said = {str(latent): "<script>alert(1)</script> & $x$" for latent in range(96)}
    (runs / "plain" / "trainer_0" / "explanations.json").write_text(json.dumps(said))
    files = passage_files(tmp_path, COMETS, JUDGES)
    sequences.main(flags(runs, tiny_corpus, "--run_name", "plain", "--passages", *files))
    (page,) = (runs / "plain" / "sequence_interpretability").glob("*.html")
    text = page.read_text()
    assert "&lt;script&gt;alert(1)" in text
    for tag in ("<script", "<b>", "http://", "https://"):
        assert tag not in text
    (result,) = results(runs)
    assert result["shown"]["text"] == f"{COMETS} {JUDGES}"
    assert result["shown"]["latents"][0]["explanation"].startswith("<script>")
    assert result["scores"]["chosen"]["information"]["low"] is None


def test_the_same_text_cut_elsewhere_is_another_question(runs, tiny_corpus, tmp_path):
    first, second, third = "The judge overrules it.", "A witness forbids the appeal.", COMETS
    found = []
    for cut in ([f"{first} {second}", third], [first, f"{second} {third}"]):
        files = passage_files(tmp_path, *cut)
        words = flags(runs, tiny_corpus, "--compare", "plain", "baseline_model", "--passages", *files)
        sequences.main(words)
        found.append(results(runs, "plain")[-1])
    assert found[0]["shown"]["text"] == found[1]["shown"]["text"]
    assert found[0]["shown"]["passage"] != found[1]["shown"]["passage"]


def test_latents_can_be_given_and_passages_cut(runs, tiny_corpus, tmp_path):
    files = passage_files(tmp_path, COMETS, JUDGES)
    more = ["--chunk", "1", "--latents", "40", "95", "--passages", *files, "--passage_tokens", "12"]
    sequences.main(flags(runs, tiny_corpus, "--run_name", "grouped", *more))
    (result,) = results(runs)
    assert {latent["latent"] for latent in result["shown"]["latents"]} == {40, 95}
    assert len(result["shown"]["text"]) < len(COMETS) + len(JUDGES)
    assert result["scores"]["chosen"]["n_latents"]["mean"] == 2


def test_results_of_other_options_do_not_overwrite_each_other(runs, tiny_corpus):
    for more in ([], ["--select", "mean"], ["--active", "half"], ["--passage_tokens", "25"], ["--show", "1"]):
        sequences.main(flags(runs, tiny_corpus, "--run_name", "plain", *more))
    assert len(results(runs)) == 5


def test_a_dictionary_that_is_nowhere_on_has_no_scores_and_a_page(runs, tiny_corpus, tiny_lm_folder, capsys):
    import torch

    path = runs / "plain" / "trainer_0" / "ae.pt"
    weights = torch.load(path, weights_only=True)
    torch.save(weights | {"threshold": torch.tensor(1e6)}, path)
    sequences.main(flags(runs, tiny_corpus, "--run_name", "plain"))
    (result,) = results(runs)
    assert result["scores"]["chosen"]["information"] is None
    assert result["shown"]["latents"] == []
    assert "–" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "--run_name is missing"),
        (["--run_name", "nobody"], "no run 'nobody'"),
        (["--run_name", "plain", "--n_texts", "0"], "--n_texts 0"),
        (["--run_name", "plain", "--show", "3"], "--show 3 does not exist"),
        (["--run_name", "plain", "--n_passages", "1"], "no boundary"),
        (["--run_name", "plain", "--n_passages", "9"], "shorter than 8 tokens"),
        (["--run_name", "plain", "--passages", "one.txt"], "one.txt is one passage"),
        (["--run_name", "plain", "--passages", "nowhere.txt", "b.txt"], "nowhere.txt cannot be read"),
        (["--run_name", "plain", "--passage_tokens", "4"], "--passage_tokens 4 is too small"),
        (["--run_name", "plain", "--passage_tokens", "10"], "shorter than 8 tokens"),
        (["--run_name", "plain", "--passage_tokens", "60"], "give at most 30"),
        (["--run_name", "plain", "--latents", "96"], "--latents 96 is out of range"),
        (["--run_name", "plain", "--latents", "-1"], "--latents -1 is out of range"),
        (["--run_name", "grouped", "--latents", "40"], "not in chunk 0, which is 0 to 31"),
        (["--run_name", "plain", "--latents", "4", "4"], "twice"),
        (["--run_name", "plain", "--explanation_path", "no.json"], "no.json cannot be read"),
        (["--compare", "plain", "grouped", "--latents", "3"], "--latents is of one dictionary"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(
    runs, tiny_corpus, monkeypatch, more, sentence
):
    forbid_language_model(monkeypatch)
    with pytest.raises(UserError, match=sentence):
        sequences.main(flags(runs, tiny_corpus, *more))
    assert not list(runs.glob("*/sequence_interpretability"))


def test_given_passages_that_are_too_short_or_too_long_are_refused(runs, tiny_corpus, tmp_path):
    run = ["--run_name", "plain", "--passages"]
    with pytest.raises(UserError, match="8 are asked for: give a longer text or more of it"):
        sequences.main(flags(runs, tiny_corpus, *run, *passage_files(tmp_path, COMETS, "A.")))
    with pytest.raises(UserError, match="50 are asked for: give a longer text or a smaller --passage_tokens"):
        sequences.main(
            flags(runs, tiny_corpus, *run, *passage_files(tmp_path, COMETS, JUDGES), "--passage_tokens", "50")
        )
    with pytest.raises(UserError, match="more than 96 tokens together"):
        sequences.main(flags(runs, tiny_corpus, *run, *passage_files(tmp_path, COMETS * 4, JUDGES)))


def test_luck_is_within_the_axis_when_every_latent_is_steadier():
    interval = {"mean": 0.3, "low": 0.2, "high": 0.4}
    subject = {"dict_class": "BatchTopKSAE", "trainer_folder": "trainer_0", "split": "all"}
    scores = {which: {"relative_flicker": interval} for which in ("chosen", "all")}
    _, axis = figures.subplots()
    result = {"name": "plain:2", "n_texts": 2, "subject": subject, "scores": scores}
    _scores(axis, [result], "relative_flicker", "changes", first=True)
    low, high = axis.get_xlim()
    assert low == 0
    assert high > 1


def test_scores_of_a_single_run_have_names_that_do_not_overlap_and_say_where_there_is_none():
    interval = {"mean": 0.12, "low": 0.1, "high": 0.14}
    scores = {name: interval for name, _ in SCORES} | {"distance": None, "shifted": interval}
    result = {
        "n_texts": 5,
        "name": "one",
        "subject": {"dict_class": "BatchTopKSAE", "trainer_folder": None},
        "scores": {"chosen": scores, "all": scores},
    }
    with figures.style():
        fig, axes = figures.subplots(1, 4, figsize=(7.2, 1.5))
        for axis, (name, title) in zip(axes, SCORES, strict=True):
            _scores(axis, [result], name, title, first=axis is axes[0])
        fig.draw_without_rendering()
    boxes = [axis.xaxis.label.get_window_extent() for axis in axes]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert boxes[-1].x1 <= fig.bbox.x1
    assert [[text.get_text() for text in axis.texts] for axis in axes] == [[], ["none"], [], []]
