"""Feature browsers made by several processes: the files of one, to the last byte."""

from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.forks import End, forked
from distributed.torchrun import torchrun
from toy_runs import make_run

from dictionary_learning.command import processes
from temporal_saes.browser.command import main
from temporal_saes.latents import dealt


def pages(site: Path) -> dict[str, bytes]:
    """All that is shown; browser.json says when and by what command it was made."""
    return {
        str(path.relative_to(site)): path.read_bytes()
        for path in sorted(site.rglob("*"))
        if path.is_file() and path.name != "browser.json"
    }


@pytest.fixture(scope="module", params=["grouped", "attention"])
def run(request: pytest.FixtureRequest, tiny_lm_folder: Path, tmp_path_factory: Any) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", tiny_lm_folder, kind=request.param)


def flags(run: Path, *more: str) -> list[str]:
    words = f"--run_name {run} --device cpu --max_tokens 4000 --per_quantile 2 --output_dir"
    return [*words.split(), *more]


def browse(n: int, words: list[str], cwd: Path, **named: Any) -> list[End]:
    def before(rank: int) -> None:
        dealt._AT_A_TIME = 7  # so that they meet often
        processes._SECONDS_TO_TELL = 0.5

    return forked(n, main, words, cwd, **{"before": before, **named})


@pytest.mark.parametrize("n", [2, 3])
def test_a_data_set_gives_the_pages_of_one_process(
    n: int, run: Path, marked_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from temporal_saes import recorded_activations

    monkeypatch.setattr(recorded_activations, "SHARD_TEXTS", 8)
    words = ["--no_cache", "--dataset", str(marked_corpus), "--text_field", "text", "--label_field", "domain"]
    main(flags(run, str(tmp_path / "one"), *words))
    ends = browse(n, flags(run, "several", *words), tmp_path)
    assert [end.code for end in ends] == [0] * n, ends[0].said
    assert not any(end.said for end in ends[1:])
    assert pages(tmp_path / "several") == pages(tmp_path / "one")
    assert len(pages(tmp_path / "one")) > 4


def test_a_cache_gives_the_pages_of_one_process(run: Path, written_cache: Path, tmp_path: Path) -> None:
    words = ["--activations", str(written_cache), "--part", "train"]
    main(flags(run, str(tmp_path / "one"), *words))
    ends = browse(2, flags(run, "two", *words), tmp_path)
    assert [end.code for end in ends] == [0, 0], ends[0].said
    assert pages(tmp_path / "two") == pages(tmp_path / "one")


def test_activations_that_are_not_finite_in_one_process_are_one_sentence(
    tiny_lm_folder: Path, written_cache: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", tiny_lm_folder)
    words = flags(run, "site", "--activations", str(written_cache), "--part", "train")

    def before(rank: int) -> None:
        from temporal_saes.latents import codes

        encode, calls = codes.encode_text, []

        def encoded(*arguments: Any) -> torch.Tensor:
            calls.append(1)
            factor = float("nan") if rank == 1 and len(calls) == 20 else 1.0
            return encode(*arguments) * factor

        codes.encode_text = encoded

    ends = browse(2, words, tmp_path, before=before)
    assert [end.code for end in ends] == [2, 2]
    assert [error for end in ends for error in end.errors] == [
        "error: the dictionary gives latents that are not finite: its weights are damaged."
    ]
    assert not (tmp_path / "site").exists()


def test_torchrun_makes_the_browser_of_one_process(
    tiny_lm_folder: Path, written_cache: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", tiny_lm_folder)
    words = ["--activations", str(written_cache), "--part", "train"]
    main(flags(run, str(tmp_path / "one"), *words))
    done = torchrun(2, "temporal_saes", "browse", *flags(run, "two", *words), cwd=tmp_path)
    assert done.code == 0, done.said
    assert pages(tmp_path / "two") == pages(tmp_path / "one")
