"""Latents as a file of lm-eval's `--model steered`: what it adds is what steering here adds."""

import json
from pathlib import Path

import pytest
import torch
from every_dictionary import make
from transformers import AutoModelForCausalLM

from dictionary_learning import convert
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import run_folder
from dictionary_learning.language_model import LanguageModel

LAYER = 2


@pytest.fixture
def run(tiny_lm_folder: Path, tmp_path: Path) -> Path:
    trainer = {"lm_name": str(tiny_lm_folder), "layer": LAYER, "steps": 5}
    run_folder.write(make("tsae", D=32), {"trainer": trainer, "buffer": {}}, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["trainer"]["lm_name"] = str(tiny_lm_folder)  # as a training writes it
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def written(run: Path, output: Path, *steer: str) -> dict[str, dict[str, object]]:
    convert.main(["--from", str(run), "--to", "lm_eval", "--output", str(output), "--steer", *steer])
    return torch.load(output / "steer.pt", weights_only=True)  # type: ignore[no-any-return]


def test_the_vector_at_the_named_module_gives_the_logits_of_steering_here(
    run: Path, tiny_lm_folder: Path, tmp_path: Path
) -> None:
    """lm-eval looks for the module in `base_model`, and adds coefficient times vector to its output."""
    ((name, entry),) = written(run, tmp_path / "out", "5=3", "9=-1.5").items()
    assert (entry["action"], entry["bias"], entry["head_index"]) == ("add", None, None)
    model = AutoModelForCausalLM.from_pretrained(tiny_lm_folder)
    vector = entry["steering_vector"] * entry["steering_coefficient"]  # type: ignore[operator]
    tokens = torch.tensor([[10, 11, 12, 13]])

    def add(module: object, inputs: object, output: object) -> object:
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

    handle = dict(model.base_model.named_modules())[name].register_forward_hook(add)
    theirs = model(tokens).logits
    handle.remove()

    lm = LanguageModel.load(str(tiny_lm_folder))
    with lm.steered(make("tsae", D=32), {5: 3.0, 9: -1.5}, LAYER):
        ours = lm.model(tokens).logits
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, lm.model(tokens).logits, atol=1e-3)


def test_what_was_written_is_told_beside_it(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written(run, tmp_path / "out", "5=3")
    told = json.loads((tmp_path / "out/steer.json").read_text())
    assert (told["module"], told["layer"], told["strengths"]) == ("layers.2", LAYER, {"5": 3.0})
    said = capfd.readouterr()
    assert "at every position" in said.out + said.err


@pytest.mark.parametrize(
    ("steer", "said"),
    [
        ([], "--steer is missing"),
        (["5"], "--steer 5 is no latent with a strength"),
        (["x=1"], "--steer x=1 is no latent"),
        (["99=1"], "there is no latent 99, the last is 11"),
        (["-1=1"], "there is no latent -1"),
        (["5=1", "5=2"], "names latent 5 twice"),
        (["5=inf"], "has to be a finite number"),
        (["5=nan"], "has to be a finite number"),
    ],
)
def test_what_cannot_be_steered_is_a_sentence_and_nothing_is_written(
    run: Path, tmp_path: Path, steer: list[str], said: str
) -> None:
    flags = [f"--steer={steer[0]}"] if len(steer) == 1 else ["--steer", *steer] if steer else []
    with pytest.raises(UserError, match=said):
        convert.main(["--from", str(run), "--to", "lm_eval", "--output", str(tmp_path / "out"), *flags])
    assert not list((tmp_path / "out").glob("*"))


def test_a_run_that_does_not_tell_its_model_is_refused(tmp_path: Path) -> None:
    run_folder.write(make("topk"), {"trainer": {"steps": 5}, "buffer": {}}, tmp_path / "run")
    with pytest.raises(UserError, match="does not tell the language model and the layer"):
        written(tmp_path / "run", tmp_path / "out", "5=3")


def test_strengths_for_another_format_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--steer is for --to lm_eval"):
        convert.main(["--from", str(run), "--to", "run", "--output", str(tmp_path / "out"), "--steer", "5=3"])
