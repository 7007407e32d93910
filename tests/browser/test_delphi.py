"""delphi's cache of latents: what its loader makes of the files, and that they are the codes that went by."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy import sparse
from toy_runs import make_run

from temporal_saes.browser import delphi
from temporal_saes.browser.command import main
from temporal_saes.browser.delphi import DelphiCache
from temporal_saes.latents.codes import CodesOfContexts


def codes(tokens: list[int], entries: dict[tuple[int, int], float], n_latents: int) -> CodesOfContexts:
    f_TF = np.zeros((len(tokens), n_latents), dtype=np.float32)
    for place, value in entries.items():
        f_TF[place] = value
    return CodesOfContexts(
        np.array(tokens, dtype=np.int32),
        np.ones(len(tokens), dtype=bool),
        np.array([0, len(tokens)]),
        sparse.csr_array(f_TF),
        np.array([0]),
    )


def read(folder: Path) -> tuple[np.ndarray, dict[tuple[int, int, int], float]]:
    """Tokens, and activations by row, position and latent, as eai-delphi 0.1.3 reads them."""
    found: dict[tuple[int, int, int], float] = {}
    edges = []
    for path in folder.glob("*.safetensors"):
        first, last = map(int, path.stem.split("_"))
        edges.append((first, last))
        content = load_file(path)
        for (row, position, latent), value in zip(
            content["locations"].astype(np.int64), content["activations"], strict=True
        ):
            assert 0 <= latent <= last - first
            found[int(row), int(position), int(latent) + first] = float(value)
    edges.sort()
    assert all(end + 1 == start for (_, end), (start, _) in itertools.pairwise(edges))
    return content["tokens"], found


def test_contexts_are_cut_into_rows_and_the_rest_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delphi, "ROW", 4)
    cache = DelphiCache(first=10, n_latents=6)
    chunks = [
        codes([1, 2, 3], {(0, 0): 0.5, (2, 5): 2.0}, 6),
        codes([4, 5, 6, 7, 8, 9], {(0, 3): 70_000.0, (5, 1): 9.0, (2, 5): 0.25}, 6),
    ]
    assert list(cache.watching(chunks)) == chunks
    cache.write(tmp_path, "layers.3", "a/model", "texts")
    tokens, found = read(tmp_path / "latents/layers.3")
    assert tokens.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    # 70,000 is more than float16 holds; latent 1 at the ninth token is behind the last whole row
    assert found == {(0, 0, 10): 0.5, (0, 2, 15): 2.0, (0, 3, 13): 70_000.0, (1, 1, 15): 0.25}
    config = json.loads((tmp_path / "latents/layers.3/config.json").read_text())
    assert (config["model_name"], config["cache_ctx_len"], config["n_tokens"]) == ("a/model", 4, 8)


def test_a_browser_brings_its_codes_along_and_takes_them_away_again(
    tmp_path: Path, tiny_lm_folder: Path, tiny_corpus: Path
) -> None:
    make_run(tmp_path / "grouped", tiny_lm_folder, kind="grouped")
    words = ["--run_name", "grouped", "--checkpoints_path", str(tmp_path), "--dataset", str(tiny_corpus)]
    words += ["--max_tokens", "2000", "--latents", "40", "--device", "cpu", "--no_cache", "--chunk", "1"]
    site = tmp_path / "site"
    main([*words, "--output_dir", str(site), "--delphi", "--label_field", "domain"])
    (module,) = (site / "delphi/latents").iterdir()
    tokens, found = read(module)
    assert tokens.shape[1] == delphi.ROW
    assert found
    assert {latent for *_, latent in found} <= set(range(32, 96))  # numbers of the whole
    record = json.loads((site / "browser.json").read_text())
    assert record["options"]["delphi"] is True
    main([*words, "--output_dir", str(site), "--overwrite", "--label_field", "domain"])
    assert not (site / "delphi").exists()
