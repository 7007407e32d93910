import json
from pathlib import Path

import pytest

NOTEBOOKS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"]
    for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb")
}
QUICKSTART, CLAIM = "temporal_sae_quickstart", "from_a_t_sae_to_a_claim"


def source(cell: dict) -> str:
    return "".join(cell["source"])


def run(notebook: str, parameters: dict, *, until: str | None = None) -> dict:
    """The names that are defined after the code cells ran in order, as in a fresh kernel.

    Args:
        until: a word of the last cell to run; None runs all.
    """
    names: dict = {"__name__": "__main__"}
    for number, cell in enumerate(NOTEBOOKS[notebook]):
        if cell["cell_type"] != "code":
            continue
        exec(compile(source(cell), f"cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert not parameters.keys() - names.keys()
            names.update(parameters)
        if until is not None and until in source(cell):
            break
    return names


def test_there_are_two_notebooks():
    assert NOTEBOOKS.keys() == {QUICKSTART, CLAIM}


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(cells):
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
    assert all(cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    assert len({cell["id"] for cell in cells}) == len(cells)


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_every_code_cell_is_explained(cells):
    kinds = [cell["cell_type"] for cell in cells]
    assert kinds[0] == "markdown"
    assert all(kinds[i - 1] == "markdown" for i, kind in enumerate(kinds) if kind == "code")


@pytest.mark.usefixtures("demo")
def test_the_notebook_runs_on_the_demo_model_and_does_not_train_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parameters = {"RUNS": "runs", "STEPS": 2, "TOKENS": 1500}
    names = run(QUICKSTART, parameters)
    weights = tmp_path / "runs" / "quickstart" / "trainer_0" / "ae.pt"
    assert weights.is_file()
    parts, kernels = names["parts"], names["kernels"]
    assert (parts.novel_codes[names["usable_BL"]] != 0).sum(-1).max() == 20
    n_usable = int(names["usable_BL"][0].sum())
    assert {kernel.shape for kernel in kernels.values()} == {(n_usable, n_usable)}
    # the first position is a sink; what follows is text
    assert names["usable_BL"][0, :2].tolist() == [False, True]
    for boundary, word in zip(names["boundaries"], ("Mix", "The"), strict=True):
        start, end = names["offsets"][0][boundary]
        assert names["texts"][0][start:end].strip() == word
    errors = names["errors"]
    assert errors["with both"] < errors["with the predicted part"]
    printed = capsys.readouterr().out
    assert "strongest novel atoms" in printed
    assert "predicted codes    found" in printed

    written = weights.stat().st_mtime_ns
    run(QUICKSTART, parameters, until="train_attention.main")
    assert weights.stat().st_mtime_ns == written


@pytest.mark.usefixtures("demo")
def test_the_second_notebook_ends_with_a_verdict_over_seeds(tmp_path, tiny_lm_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parameters = {
        "MODEL": str(tiny_lm_folder),
        "LAYER": 1,
        "RUNS": "runs",
        "STEPS": 4,
        "TOKENS": 2600,
        "DICT_SIZE": 256,
        "SEEDS": (0, 1),
        "PROBE_TEXTS": 120,
    }
    names = run(CLAIM, parameters)
    assert names["smoothness"].keys() == {(run, seed) for run in ("tsae", "control") for seed in (0, 1)}
    differences = [names["smoothness"]["tsae", s] - names["smoothness"]["control", s] for s in (0, 1)]
    assert names["difference"].mean == pytest.approx(sum(differences) / 2)
    assert names["said"] in ("holds", "does not", "cannot be told")
    assert len(names["accuracy"]) == 3
    assert 0 <= names["latent"] < names["high"].stop
    printed = capsys.readouterr().out
    assert "high-level" in printed
    assert f"latent {names['latent']} pushed:" in printed
