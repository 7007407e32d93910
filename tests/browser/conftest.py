"""A browser with all that is written for Neuronpedia."""

from pathlib import Path

import pytest
from toy_runs import make_run

from temporal_saes.browser.command import main
from temporal_saes.latents.explanations import save_explanations


@pytest.fixture(scope="session")
def written(tiny_lm_folder: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a dictionary of 96 latents, of which 95 is dead."""
    import torch

    folder = tmp_path_factory.mktemp("neuronpedia")
    run = make_run(folder / "run", tiny_lm_folder)
    weights = torch.load(run / "trainer_0" / "ae.pt", weights_only=True)
    weights["W_enc"][:, 95] = 0
    weights["b_enc"][95] = -1
    torch.save(weights, run / "trainer_0" / "ae.pt")
    save_explanations(run / "trainer_0" / "explanations.json", {2: "x" * 600, 95: "a dead one"})
    words = ["--run_name", str(run), "--device", "cpu", "--no_cache", "--dataset", str(tiny_corpus)]
    words += ["--text_field", "text", "--label_field", "domain", "--max_tokens", "2000"]
    words += ["--neuronpedia", "toy-set", "--neuronpedia_model", "tiny", "--explained_by", "a model"]
    words += ["--neuronpedia_creator", "me"]
    main([*words, "--output_dir", str(folder / "site")])
    return folder / "site"
