"""JSON and YAML that somebody wrote: read, or one sentence with the file's name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dictionary_learning.command import files
from dictionary_learning.command.fields import FLAG, SHARE, TEXT, above, check_fields, whole
from dictionary_learning.command.files import read_json, read_yaml
from dictionary_learning.dictionaries.config_file import read_run_config
from dictionary_learning.errors import UserError

READERS = {"json": read_json, "yaml": read_yaml}


def refused(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(UserError) as raised:
        read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_written_is_read_with_or_without_a_bom(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    for start in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(start + '{"a": [1, 2.5, null, true, "né"]}'.encode())
        assert READERS[kind](path) == {"a": [1, 2.5, None, True, "né"]}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "content",
    [
        b'{"a"',
        b'{"a": "caf\xe9"}',
        b"[" * 200_000,
        b"[" * 101 + b"]" * 101,
        b'{"a": ' * 101 + b"1" + b"}" * 101,
        b'{"a": ' + b"9" * 5000 + b"}",
        '{"a": 1}'.encode("utf-16"),
        b"{\0}",
    ],
)
def test_what_is_none_is_one_sentence(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    assert "is damaged or of another kind" in refused(READERS[kind], path)


def test_yaml_makes_no_objects_and_its_references_are_followed_once(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    refused(read_yaml, path)
    path.write_text("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)))
    assert len(read_yaml(path)) == 60  # 2^60 strings where each reference is followed


@pytest.mark.parametrize("kind", READERS)
def test_a_file_that_is_not_there_or_too_large_is_told(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be read" in refused(READERS[kind], tmp_path / "none")
    assert "cannot be read" in refused(READERS[kind], tmp_path)
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    (tmp_path / "large").write_text('"' + "a" * 2**20 + '"')
    assert "more than 1 MB" in refused(READERS[kind], tmp_path / "large")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (whole(), [0, 5, None], [-1, 1.5, 2.0, "2", True, [1], {}, 10**30]),
        (whole(1), [1], [0]),
        (above(0), [1, 0.5], [0, -1.0, float("nan"), float("inf"), "2", True, [1]]),
        (above(1), [10.0], [1, 0.5]),
        (SHARE, [0, 0.1], [1, -0.1, "x", True]),
        (TEXT, ["", "x"], [1, ["x"], True]),
        (FLAG, [True, False], [0, 1, "true"]),
    ],
)
def test_a_value_of_another_kind_is_told_with_file_and_field(kind: Any, right: list, wrong: list) -> None:
    for value in right:
        check_fields("f.json", {"a": value}, {"a": kind})
    for value in wrong:
        with pytest.raises(UserError, match=r"^a is .* in f\.json, and must be "):
            check_fields("f.json", {"a": value}, {"a": kind})


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *(("trainer", "layer", value) for value in (1.5, "2", -1, [])),
        *(("trainer", "n_heads", value) for value in ({}, 0)),
        *(("trainer", name, []) for name in ("dict_class", "lm_name", "submodule_name")),
        *(("buffer", "context_length", value) for value in ("x", 0, 1.5)),
        *(("buffer", "max_norm_ratio", value) for value in ("x", 0.5, float("nan"))),
        ("buffer", "add_bos", "no"),
        ("buffer", "eval_share", 2),
        ("buffer", "io", 1),
    ],
)
def test_a_config_with_another_kind_of_value_is_refused(
    tmp_path: Path, part: str, name: str, value: Any
) -> None:
    config: dict[str, Any] = {"trainer": {"dict_class": "AutoEncoder"}, "buffer": {}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert read_run_config(path) == config
    config[part][name] = value
    path.write_text(json.dumps(config))
    assert f"{name} is" in refused(read_run_config, path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"trainer": []}', '{"trainer": {}, "buffer": [1]}'])
def test_json_that_is_no_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert 'JSON with a "trainer" in it was expected' in refused(read_run_config, tmp_path / "config.json")
