"""The explorer's page in a real browser, over a tiny model."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import torch
from chromium import Browser
from run_folders import save_run
from serving import NASTY, exploring, make_site, request

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE

pytest.importorskip("uvicorn")
TEXT = (
    "The comet circles the moon. A judge near the oven often overrules it.\nEvery onion softens the butter."
)
READ = "summary !== null && !readButton.disabled && now.pins.every((n) => known.get(n).raised)"
UNITS = "[...document.querySelectorAll('#text [data-i]')]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_lm_folder: Path, tiny_corpus: Path) -> Path:
    return make_site(tmp_path_factory.mktemp("page"), tiny_lm_folder, tiny_corpus)


@pytest.fixture(scope="module", autouse=True)
def cache(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPORAL_SAES_CACHE", str(folder / "cache"))
        yield


def flags(folder: Path, run: str, port: int = 0) -> list[str]:
    runs = ["--checkpoints_path", str(folder / "runs"), "--run_name", run]
    return [*runs, "--device", "cpu", "--port", str(port)]


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with exploring(*flags(folder, "grouped")) as address:
        yield address


@pytest.fixture
def page(window: Browser) -> Iterator[Browser]:
    """The window, which must have no error at the end of the test."""
    window.errors.clear()
    window.size(1280)
    yield window
    # Chromium now and then calls a stream aborted that was read to its end; the page tells what is broken off
    assert set(window.errors) <= {"net::ERR_ABORTED"}


def open_text(page: Browser, address: str, text: str = TEXT, more: str = "") -> None:
    page.open(f"{address}#text={quote(text)}{more}", READ)


def type_into(page: Browser, element: str, value: str, event: str = "input") -> None:
    page.run(
        f"(() => {{ const e = document.querySelector({json.dumps(element)}); e.value = {json.dumps(value)};"
        f" e.dispatchEvent(new Event({event!r}, {{ bubbles: true }})); }})()"
    )


def numbers(page: Browser, within: str) -> list[int]:
    return page.run(
        f"[...document.querySelectorAll({json.dumps(within)})].map((e) => parseInt(e.textContent))"
    )


def wait_for_another_page(page: Browser, condition: str, seconds: float = 30) -> None:
    """As `Browser.wait`, while the page is loaded anew."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(AssertionError):  # it is on its way
            if page.run(f"(() => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }})()"):
                return
        time.sleep(0.1)
    pytest.fail(f"after {seconds} s it still does not hold: {condition}")


def codes(address: str, text: str = TEXT) -> list[list]:
    events = request(address, "api/read", {"text": text}).events
    return [unit for event in events if "context" in event for unit in event["context"]["units"]]


def test_a_text_is_typed_read_and_coloured(page: Browser, address: str) -> None:
    page.open(address, "document.querySelector('#typed') !== null")
    type_into(page, "#typed", TEXT)
    page.run("document.querySelector('#read').click()")
    page.wait(READ)
    units = codes(address)
    shown = page.run(f"{UNITS}.map((e) => e.textContent)")
    assert [re.sub("[↵␣]", "", text).strip() for text in shown] == [unit[0].strip() for unit in units]
    first, second = page.run("now.pins")  # the strongest of each split
    assert (first < 32, second >= 32) == (True, True)
    on = page.run(f"{UNITS}.map((e) => e.classList.contains('on'))")
    assert on == [bool({first, second} & {latent for latent, _ in unit[3]}) for unit in units]
    assert "linear-gradient" in page.run(f"getComputedStyle({UNITS}[{on.index(True)}]).backgroundImage")
    assert page.run("document.querySelector('.matrix').width") == len(units)
    assert f"{len(units)} tokens in 1 context," in page.run("progress.textContent")


def test_a_token_a_passage_and_the_text_have_their_strongest_latents(page: Browser, address: str) -> None:
    open_text(page, address)
    units = codes(address)
    page.run(f"{UNITS}[2].click()")
    assert page.run("scopeTitle.textContent").startswith("At ")
    for split, inside in (("high", range(32)), ("low", range(32, 96))):
        expected = [latent for latent, _ in units[2][3] if latent in inside][:12]
        assert numbers(page, f"[data-split={split}] .ranked button") == expected
    page.run("document.querySelector('[data-name=passage]').click()")
    ends = next(i for i, unit in enumerate(units) if unit[0] == ".")
    assert page.run("now.range") == [0, ends]
    sums = {n: 0.0 for n in range(32)}
    for unit in units[: ends + 1]:
        for latent, value in unit[3]:
            if latent < 32:
                sums[latent] += value
    best = max(sums, key=lambda n: sums[n])
    assert numbers(page, "[data-split=high] .ranked button")[0] == best
    page.run("document.querySelector('[data-name=rest]').click()")
    rest = {n: 0.0 for n in range(32)}
    for unit in units[ends + 1 :]:
        for latent, value in unit[3]:
            if latent < 32:
                rest[latent] += value
    n_in, n_out = ends + 1, len(units) - ends - 1
    gain = {n: sums[n] / n_in - rest[n] / n_out for n in range(32)}
    assert numbers(page, "[data-split=high] .ranked button")[0] == max(gain, key=lambda n: gain[n])
    page.run("document.querySelector('[data-name=text]').click()")
    assert page.run("scopeTitle.textContent") == "Mean over the whole text"


def test_arrow_keys_go_from_token_to_token(page: Browser, address: str) -> None:
    open_text(page, address)
    for _ in range(3):
        page.run("text.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', cancelable: true }))")
    assert page.run("now.range") == [2, 2]
    page.run("text.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', cancelable: true }))")
    assert page.run(f"{UNITS}.findIndex((e) => e.classList.contains('at'))") == 1


def test_latents_are_searched_pinned_and_linked_to_their_page(page: Browser, address: str) -> None:
    open_text(page, address, more="&pins=5")
    type_into(page, "#search", "planets")
    page.wait("document.querySelector('.answers button') !== null")
    assert NASTY in page.run("document.querySelector('.answers').textContent")
    page.run("document.querySelector('.answers button').click()")
    page.wait("known.get(3).raised && document.querySelectorAll('.pin').length === 2")
    assert page.run("now.pins") == [5, 3]
    assert NASTY in page.run("document.querySelectorAll('.pin')[1].textContent")
    link = page.run("document.querySelectorAll('.pin')[1].querySelector('a').href")
    assert link == f"{address}browser/index.html#latent=3"
    page.run("document.querySelector('.pin button').click()")
    assert page.run("now.pins") == [3]
    page.open(link, "document.querySelector('h1').textContent === 'Latent 3'")


def test_the_address_holds_what_is_shown(page: Browser, address: str) -> None:
    open_text(page, address, more="&pins=40,3&steer=3:-1.5&mode=add&tokens=7&prompt=A%20judge&seed=4")
    page.run(f"{UNITS}[4].click()")
    kept = page.run("location.href")
    page.open(kept, READ)
    held = page.run("[now.pins, now.range, now.scope, now.tokens, now.prompt, now.seed, [...now.strengths]]")
    assert held == [[40, 3], [4, 4], "token", 7, "A judge", 4, [[3, -1.5]]]
    assert page.run("typed.value") == TEXT
    assert page.run("document.querySelector('[data-latent=\"3\"]').value") == "-1.5"
    assert page.run("location.href") == kept


def test_an_address_that_somebody_made_up_is_no_mistake(page: Browser, address: str) -> None:
    bad = "pins=999,-1,x,3,3&steer=a:b,3:1e999&at=9-2000&scope=all&tokens=1e9&temperature=x&seed=-4&mode=z"
    page.open(f"{address}#text=A%20judge&{bad}", READ)
    assert page.run("[now.pins, now.scope, now.tokens, now.seed, now.mode]") == [[3], "text", 400, 0, "add"]


def test_two_texts_are_written_as_the_slider_says(page: Browser, address: str) -> None:
    open_text(page, address, more="&pins=3&prompt=The%20judge&tokens=8")
    page.run("write()")
    page.wait("/Nothing is steered/.test(writing.textContent)")
    plain, steered = (
        page.run(f"document.querySelector('#{name}').textContent") for name in ("plain", "steered")
    )
    assert plain == steered
    assert plain.startswith("The judge")
    type_into(page, "[data-latent='3']", "4")
    type_into(page, "[data-latent='3']", "4", "change")
    page.wait("writing.textContent === '' && steered.textContent !== plain.textContent")
    strength = page.run("4 * unitOf(3)")
    wish = {"prompt": "The judge", "tokens": 8, "strengths": {"3": strength}}
    expected = request(address, "api/write", wish).events[-2]["texts"]
    assert [
        re.sub("[↵␣]", "", page.run(f"{name}.lastChild.textContent")) for name in ("plain", "steered")
    ] == expected
    assert page.run("location.hash").find("steer=3%3A4") > 0


@pytest.mark.parametrize("run", ["attention", "plain"])
def test_other_dictionaries_have_their_own_lists(page: Browser, folder: Path, run: str) -> None:
    with exploring(*flags(folder, run)) as address:
        open_text(page, address)
        splits = page.run("[...document.querySelectorAll('#lists section')].map((e) => e.dataset.split)")
        assert splits == {"attention": ["predicted", "novel"], "plain": ["all"]}[run]
        assert len(numbers(page, "#lists .ranked button")) > 5
        assert page.run("document.querySelector('nav a')") is None
        # nothing is known of the first one but where it is strongest in this text
        first = numbers(page, "#lists .ranked button")[0]
        told = page.run("document.querySelector('#lists .ranked .what span').textContent")
        units = codes(address)
        strongest = max(units, key=lambda unit: dict(unit[3]).get(first, 0))[0]
        assert first in (3, 40) or told.split()[0] == strongest.strip()
        page.open("about:blank", "true")


def test_no_text_is_run(page: Browser, address: str) -> None:
    hostile = f"{NASTY} \u202e &lt;b&gt; {{}} ${{window.hacked = 3}} \x00 日本 😀"
    open_text(page, address, hostile, "&pins=3&tokens=4")
    assert "<script>" in page.run("text.textContent")
    page.run("write()")
    page.wait("writing.textContent !== 'Writing …' && !/of/.test(writing.textContent)")
    assert page.run("typeof window.hacked") == "undefined"
    assert page.run("document.querySelectorAll('#view script, #view img').length") == 0


def test_a_text_of_five_thousand_tokens_is_shown_whole(page: Browser, address: str) -> None:
    text = " ".join([TEXT.replace("\n", " ")] * 220)
    page.open(address, "document.querySelector('#typed') !== null")
    type_into(page, "#typed", text)
    page.run("read()")
    page.wait(READ, 60)
    assert page.run(f"{UNITS}.length") > 5000
    assert page.run(f"{UNITS}.map((e) => e.textContent).join('')") == text
    assert page.run("document.querySelector('.matrix').width") <= 160
    began = time.monotonic()
    page.run(f"{UNITS}[4000].click()")
    page.run("pin(7)")
    assert time.monotonic() - began < 10
    assert page.run("now.range") == [4000, 4000]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(page: Browser, address: str, width: int) -> None:
    page.size(width)
    text = f"{TEXT} {'unbroken' * 40} {NASTY}"
    open_text(page, address, text, "&pins=3,40,5,60&tokens=12&scope=passage")
    page.run("write()")
    page.wait("!/Writing|of/.test(writing.textContent)")
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    smallest = page.run(
        "Math.min(...[...document.querySelectorAll('#view *')]"
        ".filter((e) => e.childElementCount === 0 && e.textContent.trim())"
        ".map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 11


def test_a_mistake_of_the_server_is_told_on_the_page(page: Browser, address: str) -> None:
    page.open(address, "document.querySelector('#typed') !== null")
    page.run("read()")
    page.wait("!state.hidden")
    assert page.run("state.textContent") == "there is nothing to read: type a text."
    type_into(page, "#typed", "A judge")
    page.run("read()")
    page.wait("state.hidden")


def test_the_demo_s_model_is_read_and_steered(window: Browser, demo, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A dictionary made by hand: each latent is the mean activation of a topic minus that of another."""
    lm = LanguageModel.load(str(demo.language_model), device="cpu", dtype="float32")
    topics = (
        "The orchestra played a symphony. The singer recorded an album of songs with her guitar.",
        "Fry the onions in butter, add garlic and salt, and bake the dough in the oven.",
    )
    means = []
    for topic in topics:
        tokens_BL, mask_BL, _ = lm.tokenize([topic], 64)
        means.append(lm.record(tokens_BL, mask_BL, 15)[0, 4:].float().mean(0))
    difference_D = means[0] - means[1]
    dictionary = BatchTopKSAE(576, 2, k=1)
    dictionary.threshold.fill_(0.0)
    with torch.no_grad():
        dictionary.decoder.weight.copy_(torch.stack([difference_D, -difference_D], dim=1))
        dictionary.encoder.weight.copy_(dictionary.decoder.weight.T / float(difference_D @ difference_D))
        dictionary.b_dec.copy_((means[0] + means[1]) / 2)
    save_run(tmp_path / "runs" / "topics", dictionary, demo.language_model, 15, k=1)
    with exploring(*flags(tmp_path, "topics"), "--lm_dtype", "float32", "--context_length", "128") as address:
        text = f"{topics[0]} {topics[1]}"
        # how wide the page is makes no difference to a model: widths are looked at with the tiny one
        window.size(1280)
        window.open(
            f"{address}#text={quote(text)}&pins=0,1&tokens=24&prompt=Yesterday%20evening%20we%20talked%20about",
            READ,
        )
        # the music is the first latent's, the food the second's
        first, second = (window.run(f"units.map((unit) => unit.codes.get({n}) || 0)") for n in (0, 1))
        half = len(first) // 2
        assert sum(first[:half]) > 2 * sum(first[half:])
        assert sum(second[half:]) > 2 * sum(second[:half])
        assert window.run("units[0].isRead") is False  # the sink
        texts = []
        for strength in (2.0, -2.0):
            window.run(f"now.strengths.set(0, {strength} / unitOf(0)); write(), undefined")
            window.wait("writing.textContent === ''", 120)
            texts.append(window.run("steered.lastChild.textContent").lower())
        music, food = texts
        assert re.search("music|song|sing|album|band|guitar|orchestra|concert|symphon", music), music
        assert re.search("cook|food|bak|recipe|oven|butter|flour|garlic|onion|salt|dough|cake|bread", food), (
            food
        )
        window.open("about:blank", "true")


def test_a_page_that_is_open_while_the_server_restarts_goes_on(window: Browser, folder: Path) -> None:
    with exploring(*flags(folder, "grouped")) as address:
        port = urlsplit(address).port
        assert port is not None
        window.open(f"{address}#text={quote(TEXT)}&pins=3", READ)
    type_into(window, "#typed", "A judge near the oven.")
    window.run("read(), undefined")
    window.wait("/does not answer/.test(state.textContent)")
    assert window.run("typed.value") == "A judge near the oven."
    with exploring(*flags(folder, "grouped", port)) as again:
        assert again == address  # the token is kept
        window.wait(f"state.hidden && {READ}")
        assert window.run("text.textContent") == "A judge near the oven."
        assert window.run("now.pins") == [3]
    # another dictionary in its place: the page is made anew, with what was typed
    window.run("read(), undefined")
    window.wait("/does not answer/.test(state.textContent)")
    with exploring(*flags(folder, "plain", port)):
        wait_for_another_page(window, f"document.querySelector('h1').textContent === 'plain' && {READ}")
        assert window.run("text.textContent") == "A judge near the oven."
    # another token: said, and not tried for ever
    window.run("read(), undefined")
    window.wait("/does not answer/.test(state.textContent)")
    with exploring(*flags(folder, "plain", port), "--new_token"):
        window.wait("/another token now/.test(state.textContent)")
        window.open("about:blank", "true")
