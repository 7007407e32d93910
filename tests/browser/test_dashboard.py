"""The feature browser: its files, its pages in a real browser, and the mistakes it refuses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caches import forbid_language_model
from chromium import Browser
from conftest import corpus_records
from toy_runs import make_run

from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.command.lock import locked
from dictionary_learning.errors import UserError
from temporal_saes.browser.command import main
from temporal_saes.latents.explanations import save_explanations

NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
READY = "document.querySelector('#view').children.length > 0"


@pytest.fixture(scope="module")
def runs(tiny_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("grouped", "attention"):
        run = make_run(folder / kind, tiny_lm_folder, kind=kind)
        said = {3: f"names of planets {NASTY}", 40: "cooking words"}
        save_explanations(run / "trainer_0" / "explanations.json", said)
    return folder


@pytest.fixture(scope="module")
def flags(tiny_corpus: Path, runs: Path) -> list[str]:
    data = ["--dataset", str(tiny_corpus), "--text_field", "text", "--label_field", "domain"]
    return ["--checkpoints_path", str(runs), "--device", "cpu", "--no_cache", *data]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text(f"The comet circles the moon. 日本 é 😀\n\n{NASTY} is only text.\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sites(flags: list[str], texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # type: ignore[no-untyped-def]
    """A browser of a dictionary with high and low latents, and one of predicted and novel codes."""
    folder = tmp_path_factory.mktemp("sites")
    scores = folder / "result.json"
    scores.write_text(json.dumps({"eval_result_unstructured": {"3": {"score": 0.75}, "5": {"score": 0.5}}}))
    for run in ("grouped", "attention"):
        words = ["--run_name", run, "--texts", str(texts), "--scores", str(scores), "--max_tokens", "3000"]
        main([*flags, *words, "--output_dir", str(folder / run)])
    return {run: folder / run for run in ("grouped", "attention")}


def data(site: Path, name: str) -> Any:
    """What a data file hands over."""
    call = (site / "data" / f"{name}.js").read_text(encoding="ascii")
    found = re.fullmatch(r'receive\("([\w-]+)",(.*)\)\n', call, re.DOTALL)
    assert found is not None
    assert found[1] == name
    return json.loads(found[2])


def test_a_dictionary_of_another_width_is_told_before_the_model_is_loaded(
    tmp_path: Path, tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_language_model(monkeypatch)
    make_run(tmp_path / "narrow", tiny_lm_folder, width=16)
    words = ["--run_name", "narrow", "--checkpoints_path", str(tmp_path), "--device", "cpu", "--no_cache"]
    with pytest.raises(UserError, match=r"takes activations of width 16, and .* has width 32"):
        main([*words, "--dataset", "demo", "--max_texts", "5", "--output_dir", str(tmp_path / "site")])
    assert not (tmp_path / "site").exists()


def test_texts_without_a_class_will_do(runs: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": one["text"]}) + "\n" for one in corpus_records(20)))
    words = ["--run_name", "grouped", "--dataset", str(corpus), "--max_tokens", "500", "--latents", "3"]
    words += ["--checkpoints_path", str(runs), "--device", "cpu", "--no_cache"]
    main([*words, "--output_dir", str(tmp_path / "site")])
    assert (tmp_path / "site" / "index.html").is_file()


def test_the_files_say_what_the_codes_say(sites: dict[str, Path]) -> None:
    site = sites["grouped"]
    index, vocabulary = data(site, "index"), data(site, "vocabulary")
    assert index["latents"] == list(range(96))
    assert index["split"] == ["high"] * 32 + ["low"] * 64
    assert index["explanation"][40] == "cooking words"
    assert (index["score"][3], index["score"][5], index["score"][6]) == (0.75, 0.5, None)
    record = json.loads((site / "browser.json").read_text())
    assert record["n_latents"] == 96
    assert record["options"]["max_tokens"] == 3000
    assert record["provenance"]["versions"]
    for number, latent in enumerate(record for i in range(3) for record in data(site, f"latents-{i}")):
        assert latent["latent"] == number
        assert latent["count"] == sum(latent["histogram"]["counts"])
        assert index["density"][number] == pytest.approx(latent["count"] / record["n_tokens"], rel=1e-2)
        assert [one["v"][one["i"].index(one["p"])] for one in latent["top"]] == sorted(
            (one["v"][one["i"].index(one["p"])] for one in latent["top"]), reverse=True
        )
        assert len({one["c"] for one in latent["top"]}) == len(latent["top"])
        for one in latent["top"]:
            context = data(site, f"contexts-{one['c'] // 128}")[one["c"] % 128]
            assert context["t"][one["f"] : one["f"] + len(one["t"])] == one["t"]
            assert len(context["t"]) == one["n"]
            assert not set(one["i"]) & set(context["out"])
        raised = [value for _, value in latent["promoted"]]
        lowered = [value for _, value in latent["suppressed"]]
        assert raised == sorted(raised, reverse=True)
        assert lowered == sorted(lowered)
        assert min(raised) > max(lowered)
        assert number not in [other for other, _ in latent["decoder"] + latent["together"]]
    assert all(isinstance(text, str) for text in vocabulary)


def test_neither_files_nor_page_hold_markup_of_a_text(sites: dict[str, Path]) -> None:
    for site in sites.values():
        for path in (site / "data").iterdir():
            assert not set("<>&") & set(path.read_text(encoding="ascii"))
        assert "hacked" not in (site / "index.html").read_text(encoding="utf-8")


def test_a_page_that_is_published_names_no_folder_of_this_machine(
    sites: dict[str, Path], tiny_lm_folder: Path, tiny_corpus: Path
) -> None:
    for site in sites.values():
        written = (site / "index.html").read_text(encoding="utf-8")
        assert f"{tiny_lm_folder.name}, layer 2" in written
        assert str(tiny_lm_folder) not in written
        assert str(tiny_corpus) not in written


def test_a_temporal_sae_has_predicted_and_novel_latents_and_the_matrix_of_predicted_codes(
    sites: dict[str, Path],
) -> None:
    site = sites["attention"]
    assert data(site, "index")["splits"] == ["predicted", "novel"]
    first, second = data(site, "sentences")
    for sentence in (first, second):
        n = len(sentence["t"]) - len(sentence["out"])
        assert sentence["compared"] == "predicted"
        kernel = np.array(sentence["kernel"])
        assert kernel.shape == (n, n)
        np.testing.assert_array_equal(kernel, kernel.T)
        assert kernel.min() >= -100
        assert kernel.max() <= 100


def test_bytes_that_are_no_text_are_shown_as_bytes(sites: dict[str, Path]) -> None:
    # the tiny tokenizer cuts 日 into its three bytes
    vocabulary = data(sites["grouped"], "vocabulary")
    assert {"⟨E6⟩", "⟨97⟩", "⟨A5⟩"} <= set(vocabulary)
    assert not any("\ufffd" in text for text in vocabulary)


# --- in a real browser ---


@pytest.fixture
def page(window: Browser) -> Iterator[Browser]:
    """The window, which must have no error at the end of the test."""
    window.errors.clear()
    window.size(1280)
    yield window
    assert window.errors == []


def rows(page: Browser) -> list[int]:
    return page.run(
        "[...document.querySelectorAll('.index tbody th')].map((cell) => Number(cell.textContent))"
    )


def type_into(page: Browser, element: str, value: str, event: str = "input") -> None:
    page.run(
        f"(() => {{ const e = document.querySelector({element!r}); e.value = {value!r};"
        f" e.dispatchEvent(new Event({event!r}, {{ bubbles: true }})); }})()"
    )


def test_the_index_is_searched_filtered_and_sorted(page: Browser, sites: dict[str, Path]) -> None:
    page.open(sites["grouped"] / "index.html", READY)
    index = data(sites["grouped"], "index")
    alive = [i for i in range(96) if index["density"][i] > 0]
    telling = sorted(alive, key=lambda i: (-index["telling"][i], i))
    assert telling != alive
    assert rows(page) == telling[:50]
    assert page.run("document.querySelector('#count').textContent") == f"{len(alive)} of 96 latents"

    type_into(page, "#search", "PLANETS names")
    assert rows(page) == [3]
    assert page.run("document.querySelector('td.meaning').textContent") == f"names of planets {NASTY}"
    type_into(page, "#search", "40")
    assert 40 in rows(page)
    type_into(page, "#search", "no such words")
    assert rows(page) == []
    named = next(i for i in telling if index["words"][i] and not index["explanation"][i])
    type_into(page, "#search", " ".join(index["words"][named]))
    assert named in rows(page)
    meaning = page.run(f"document.querySelector('a[href=\"#latent={named}\"]').closest('tr').textContent")
    assert ", ".join(index["words"][named]) in meaning

    type_into(page, "#search", "")
    type_into(page, "#sort", "latent", "change")
    assert rows(page) == alive[:50]
    type_into(page, "#split", "low", "change")
    assert rows(page) == [i for i in alive if i >= 32][:50]
    type_into(page, "#sort", "density", "change")
    low = sorted((i for i in alive if i >= 32), key=lambda i: (-index["density"][i], i))
    assert rows(page) == low[:50]
    page.run("document.querySelector('th[aria-sort] button').click()")
    assert rows(page) == sorted(low, key=lambda i: (index["density"][i], i))[:50]
    page.run("document.querySelector('#explained').click()")
    assert rows(page) == [40]

    # the address holds what was asked, so that a page that is loaded anew shows the same
    address = page.run("location.href")
    page.open(address, READY)
    assert rows(page) == [40]


def test_a_latent_is_opened_and_its_context_read(page: Browser, sites: dict[str, Path]) -> None:
    site = sites["grouped"]
    page.open(site / "index.html", READY)
    page.run("document.querySelector('a[href=\"#latent=3\"]').click()")
    page.wait("document.querySelector('h1').textContent === 'Latent 3'")
    assert page.run("document.querySelector('.explanation').textContent") == f"names of planets {NASTY}"
    record, vocabulary = data(site, "latents-0")[3], data(site, "vocabulary")
    example = record["top"][0]
    context = data(site, f"contexts-{example['c'] // 128}")[example["c"] % 128]
    text = "".join(vocabulary[token] for token in context["t"])
    page.run("document.querySelector('.examples button').click()")
    page.wait("document.querySelector('.examples button').getAttribute('aria-expanded') === 'true'")
    shown = page.run("document.querySelector('.examples button').textContent")
    assert re.sub("[↵␣⇥\\s]", "", shown) == re.sub(r"\s", "", text)
    n_active = len(example["i"])
    assert page.run("document.querySelector('.examples button').querySelectorAll('.on').length") == n_active
    assert page.run("document.querySelectorAll('.histogram rect').length") == len(
        record["histogram"]["counts"]
    )
    # on to a neighbour and back to the list
    other = record["decoder"][0][0]
    page.run(f"document.querySelector('.ranked a[href=\"#latent={other}\"]').click()")
    page.wait(f"document.querySelector('h1').textContent === 'Latent {other}'")
    page.run("document.querySelector('nav a').click()")
    page.wait("document.querySelector('.index') !== null")


def test_a_sentence_is_read_token_by_token(page: Browser, sites: dict[str, Path]) -> None:
    for site in sites.values():
        page.open(f"{(site / 'index.html').as_uri()}#sentence=1", READY)
        sentence, vocabulary = data(site, "sentences")[1], data(site, "vocabulary")
        shown = page.run("document.querySelector('.tokens').textContent")
        text = "".join(vocabulary[token] for token in sentence["t"])
        assert re.sub("[↵␣\\s]", "", shown) == re.sub(r"\s", "", text)
        assert "<script>" in shown
        page.run("document.querySelector('.sentence .tokens button').click()")
        first = next(i for i in range(len(sentence["t"])) if i not in sentence["out"])
        found = page.run(
            "[...document.querySelectorAll('.reading .what')].map((one) => parseInt(one.textContent))"
        )
        assert found == [latent for latent, _ in sentence["codes"][first][:12]]
        n = len(sentence["kernel"])
        assert page.run(
            "[document.querySelector('.matrix').width, document.querySelector('.matrix').height]"
        ) == [n, n]
        corner = page.run(
            "[...document.querySelector('.matrix').getContext('2d').getImageData(0, 0, 1, 1).data]"
        )
        assert corner == [213, 94, 0, 255]  # a token is like itself


def test_the_page_of_a_latent_says_what_it_is_held_over(page: Browser, sites: dict[str, Path]) -> None:
    site = sites["grouped"]
    index = data(site, "index")
    latent = next(i for i in range(96) if index["words"][i] and index["classes"][i] and i not in (3, 40))
    record = data(site, f"latents-{latent // 32}")[latent % 32]
    page.open(f"{(site / 'index.html').as_uri()}#latent={latent}", READY)
    assert page.run("document.querySelector('.held').textContent") == ", ".join(index["words"][latent])
    told = page.run("document.querySelector('#view dl').textContent")
    (class_, lift), *_ = index["classes"][latent]
    assert f"classes it prefers{class_} {lift:g}×" in told
    assert lift > 1
    assert index["stretch"][latent] >= 1
    ranked = page.run(
        "[...document.querySelectorAll('.ranked')[0].querySelectorAll('.what')].map((e) => e.textContent)"
    )
    assert ranked == [word for word, _ in record["words"]] == index["words"][latent]


def test_hostile_titles_and_classes_are_shown_as_text(page: Browser, runs: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    records = [
        {"text": one["text"], "domain": f"{NASTY}{one['domain']}", "title": f"{NASTY}{i}"}
        for i, one in enumerate(corpus_records(40))
    ]
    corpus.write_text("".join(json.dumps(one) + "\n" for one in records))
    words = [
        "--run_name",
        "grouped",
        "--dataset",
        str(corpus),
        "--label_field",
        "domain",
        "--max_tokens",
        "2000",
    ]
    words += ["--checkpoints_path", str(runs), "--device", "cpu", "--no_cache"]
    main([*words, "--output_dir", str(tmp_path / "site")])
    index = data(tmp_path / "site", "index")
    latent = next(i for i in range(96) if index["classes"][i])
    for view in ("", f"#latent={latent}"):
        page.open(f"{(tmp_path / 'site' / 'index.html').as_uri()}{view}", READY)
        assert NASTY in page.run("document.querySelector('#view').textContent")
        assert page.run("typeof window.hacked") == "undefined"
        assert page.run("document.querySelectorAll('#view script, #view img').length") == 0


def test_no_text_is_run(page: Browser, flags: list[str], tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import temporal_saes.browser.page as written

    monkeypatch.setattr(written, "token_texts", lambda tokenizer, ids: [f"{NASTY}{i}" for i in ids])
    words = ["--run_name", "grouped", "--latents", "3", "2", "--max_tokens", "500"]
    main([*flags, *words, "--output_dir", str(tmp_path / "site")])
    page.open(tmp_path / "site" / "index.html", READY)
    assert sorted(rows(page)) == [2, 3]
    page.run("location.hash = '#latent=3'")
    page.wait("document.querySelector('h1').textContent === 'Latent 3'")
    page.run("document.querySelector('.examples button').click()")
    page.wait("document.querySelector('.examples button').getAttribute('aria-expanded') === 'true'")
    assert NASTY in page.run("document.querySelector('.examples button').textContent")
    assert page.run("typeof window.hacked") == "undefined"
    assert page.run("document.querySelectorAll('#view script, #view img').length") == 0
    page.run("location.hash = '#latent=7'")
    page.wait("document.querySelector('.missing') !== null")
    assert "no page of latent 7" in page.run("document.querySelector('.missing').textContent")


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(page: Browser, sites: dict[str, Path], width: int) -> None:
    page.size(width)
    for site in sites.values():
        for view in ("", "#latent=3", "#sentence=0"):
            page.open(f"{(site / 'index.html').as_uri()}{view}", READY)
            assert page.run("innerWidth") == width
            # beside the bar that scrolls up and down
            assert (
                page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
            )
            smallest = page.run(
                "Math.min(...[...document.querySelectorAll('#view *')]"
                ".filter((e) => e.childElementCount === 0 && e.textContent.trim())"
                ".map((e) => parseFloat(getComputedStyle(e).fontSize)))"
            )
            assert smallest >= 11


def test_a_folder_that_is_not_whole_says_so(window: Browser, sites: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    site = Path(shutil.copytree(sites["grouped"], tmp_path / "site"))
    (site / "data" / "latents-0.js").unlink()
    window.open(f"{(site / 'index.html').as_uri()}#latent=3", READY)
    assert "data/latents-0.js cannot be read" in window.run("document.querySelector('.missing').textContent")


# --- mistakes ---


def refused(words: list[str]) -> str:
    with pytest.raises(UserError) as error:
        main(words)
    return str(error.value)


def test_a_folder_with_something_in_it_is_left_alone(flags, sites, tmp_path) -> None:  # type: ignore[no-untyped-def]
    words = [*flags, "--run_name", "grouped", "--output_dir"]
    assert "--overwrite" in refused([*words, str(sites["grouped"])])
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty" in refused([*words, str(tmp_path)])
    assert "something else than a browser" in refused([*words, str(tmp_path), "--overwrite"])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "is a file" in refused([*words, str(tmp_path / "notes.txt")])


def test_overwrite_replaces_a_browser_whole(flags, tmp_path) -> None:  # type: ignore[no-untyped-def]
    site = tmp_path / "site"
    words = [*flags, "--run_name", "grouped", "--output_dir", str(site), "--max_tokens", "300"]
    main(words)
    (site / "data" / "latents-7.js").write_text("")
    main([*words, "--overwrite", "--latents", "95"])
    assert not (site / "data" / "latents-7.js").exists()
    assert data(site, "index")["latents"] == [95]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.fixture
def site(flags: list[str], tmp_path: Path) -> Path:
    main([*small(flags, tmp_path / "site")])
    return tmp_path / "site"


def small(flags: list[str], site: Path, latent: int = 3) -> list[str]:
    words = ["--run_name", "grouped", "--output_dir", str(site), "--max_tokens", "300"]
    return [*flags, *words, "--latents", str(latent)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_overwrite_deletes_no_file_of_the_user(flags: list[str], site: Path) -> None:
    (site / "notes.txt").write_text("mine")
    (site / "sub").mkdir()
    (site / "sub" / "index.html").write_text("mine")
    (site / "data" / "table.csv").write_text("mine")
    before = files(site)
    told = refused([*small(flags, site, 95), "--overwrite"])
    assert "(data/table.csv, notes.txt, sub/): move them away" in told
    assert files(site) == before
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_neuronpedia_files_are_replaced_as_the_rest(flags: list[str], tmp_path: Path) -> None:
    words = small(flags, tmp_path / "site")
    main([*words, "--neuronpedia", "tsae-4k", "--neuronpedia_model", "smollm2-135m"])
    assert (tmp_path / "site" / "neuronpedia").is_dir()
    main([*words, "--overwrite"])
    assert not (tmp_path / "site" / "neuronpedia").exists()


def test_files_that_come_while_a_browser_is_made_are_kept(flags, site, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from temporal_saes.browser import page

    record = page._record
    monkeypatch.setattr(
        page, "_record", lambda browser: (site / "notes.txt").write_text("mine") and record(browser)
    )
    before = files(site)
    assert "(notes.txt)" in refused([*small(flags, site, 95), "--overwrite"])
    assert files(site) == {**before, "notes.txt": b"mine"}
    assert [path.name for path in site.parent.iterdir()] == ["site"]


@pytest.mark.parametrize("left", ["notes.txt", "new/notes.txt", "old/index.html/x", "index.html"])
def test_a_folder_of_the_user_that_is_named_like_ours_is_left_alone(flags, tmp_path, left) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / ".site.part" / left
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert "holds something else" in refused(small(flags, tmp_path / "site"))
    assert files(tmp_path) == {str(path.relative_to(tmp_path)): b"mine"}


def test_a_browser_that_was_moved_away_is_put_back_first(flags, site, capsys) -> None:  # type: ignore[no-untyped-def]
    before = files(site)
    part = site.with_name(".site.part")
    part.mkdir()
    site.rename(part / "old")
    (part / "new").mkdir()
    (part / "new" / "index.html").write_text("half")
    assert "give --overwrite" in refused(small(flags, site, 95))
    assert "what a killed command left" in capsys.readouterr().err
    assert files(site.parent) == {f"site/{name}": content for name, content in before.items()}


def test_a_browser_that_is_half_removed_is_removed(flags, site, capsys) -> None:  # type: ignore[no-untyped-def]
    old = site.with_name(".site.part") / "old"
    old.mkdir(parents=True)
    (old / "index.html").write_text("half")
    main([*small(flags, site, 95), "--overwrite"])
    assert "what a killed command left" in capsys.readouterr().err
    assert data(site, "index")["latents"] == [95]
    assert [path.name for path in site.parent.iterdir()] == ["site"]


def test_two_commands_do_not_write_one_browser(flags: list[str], tmp_path: Path) -> None:
    with locked(tmp_path / ".site.part", "writing a browser in"):
        assert "is writing a browser in" in refused(small(flags, tmp_path / "site"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--latents", "3", "96"], "--latents 96 is out of range: grouped:2 has the latents 0 to 95"),
        (["--latents", "40", "--chunk", "0"], "--latents 40 is not in chunk 0, which is 0 to 31"),
        (["--run_name", "baseline_model", "--model", "demo", "--layer", "1"], "has no latents"),
        (["--max_tokens", "0"], "--max_tokens 0 is too small"),
        (["--texts", "nowhere.txt"], "--texts nowhere.txt cannot be read"),
        (["--activations", "nowhere"], "there is no folder nowhere"),
        (["--part", "test"], "--part test does not exist"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(flags, tmp_path, words, told) -> None:  # type: ignore[no-untyped-def]
    site = tmp_path / "site"
    assert told in refused([*flags, "--run_name", "grouped", "--output_dir", str(site), *words])
    assert not site.exists()


def test_explanations_and_scores_of_another_dictionary_are_refused(flags, tmp_path) -> None:  # type: ignore[no-untyped-def]
    words = [*flags, "--run_name", "grouped", "--output_dir", str(tmp_path / "site")]
    other = tmp_path / "other.json"
    save_explanations(other, {5000: "a latent of another dictionary"})
    assert "explains latent 5000" in refused([*words, "--explanation_path", str(other)])
    assert "holds no scores" in refused([*words, "--scores", str(other)])
    other.write_text(json.dumps({"eval_result_unstructured": {"96": {"score": 1}}}))
    assert "latent 96" in refused([*words, "--scores", str(other)])


def test_recorded_activations_take_the_place_of_texts(written_cache, tiny_lm_folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(tmp_path / "run", tiny_lm_folder)
    words = ["--run_name", str(run), "--activations", str(written_cache), "--device", "cpu"]
    told = refused([*words, "--output_dir", str(tmp_path / "site"), "--layer", "1"])
    assert "layer" in told
    index = json.loads((written_cache / "index.json").read_text())
    layer = str(index["options"]["layer"])
    main([*words, "--output_dir", str(tmp_path / "site"), "--layer", layer])
    record = json.loads((tmp_path / "site" / "browser.json").read_text())
    store = ActivationCache.open(written_cache).store("eval", max_norm_ratio=10.0)  # the filter of the run
    n_tokens = sum(int(contexts.mask_NL.sum()) for contexts in store.contexts(8))
    assert record["n_tokens"] == n_tokens
