"""Runs that begin with the weights of another dictionary: what goes where, what is recorded and refused."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.torchrun import torchrun
from safetensors.torch import save_file
from stopping import stop_at
from torch import Tensor

from dictionary_learning import train_attention, train_baseline, train_temporal
from dictionary_learning.dictionaries.classics import AutoEncoder, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.beginning import load_beginning
from dictionary_learning.exchange.saelens import writing
from dictionary_learning.runs.beginning import Beginning
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.scaling import Scaling
from dictionary_learning.runs.source import Source
from dictionary_learning.trainers import (
    BatchTopKSAE,
    MatryoshkaBatchTopKSAE,
    TemporalMatryoshkaBatchTopKSAE,
)
from dictionary_learning.trainers.make import make_trainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKTrainer
from dictionary_learning.utils import load_dictionary

D, F = 8, 24


def batches(n: int = 4, pairs: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [5 * torch.randn(64, *([2] if pairs else []), D, generator=generator) for _ in range(n)]


def batch_top_k(threshold: float = 1.5) -> BatchTopKSAE:
    ae = BatchTopKSAE(D, F, 4, seed=3)
    with torch.no_grad():
        ae.encoder.bias.normal_(generator=torch.Generator().manual_seed(1))
        ae.b_dec.normal_(generator=torch.Generator().manual_seed(2))
    ae.threshold.fill_(threshold)
    return ae.eval()


def begun(
    dictionary: Any, cls: type, factor: float = 4.0, density_F: Tensor | None = None, **options: Any
) -> Any:
    """A trainer after the beginning, before its first step, and its weights for raw activations."""
    config = {"steps": 10, "activation_dim": D, "dict_size": F, "k": 4, "device": "cpu", "seed": 0, **options}
    trainer = make_trainer({"trainer": cls, **config})
    scaling = Scaling(torch.device("cpu"), by_head=False)
    scaling.factor = factor
    Beginning(dictionary, "given", density_F=density_F).set(trainer, scaling, Source(batches()))
    return trainer, scaling.folded(trainer)


def test_the_weights_are_in_the_units_of_training_and_come_back_in_raw_ones() -> None:
    given = batch_top_k()
    trainer, folded = begun(given, TemporalMatryoshkaBatchTopKTrainer, density_F=torch.arange(F, 0, -1))
    again = TemporalMatryoshkaBatchTopKSAE.from_state_dict(folded, {})
    x_BD = batches()[0]
    torch.testing.assert_close(again.encode(x_BD), given.encode(x_BD))
    torch.testing.assert_close(again(x_BD), given(x_BD))
    # what the trainer sees is divided by the factor, and so is what depends on it
    torch.testing.assert_close(trainer.ae.b_dec * 4, given.b_dec)
    assert float(trainer.ae.threshold) == pytest.approx(1.5 / 4)
    # the first step sets nothing from its batch
    before = trainer.ae.b_dec.detach().clone()
    trainer.lr = 0.0
    trainer.update(0, batches(pairs=True)[0] / 4)
    assert torch.equal(trainer.ae.b_dec, before)


def test_latents_come_into_groups_by_density_and_the_same_groups_stay() -> None:
    given = batch_top_k()
    density_F = torch.linspace(0, 1, F)[torch.randperm(F, generator=torch.Generator().manual_seed(5))]
    _, folded = begun(given, MatryoshkaBatchTopKTrainer, density_F=density_F)
    order = density_F.argsort(descending=True)
    torch.testing.assert_close(folded["W_dec"], given.weights().W_dec_FD[order])
    torch.testing.assert_close(folded["b_enc"], given.encoder.bias[order])

    grouped = MatryoshkaBatchTopKSAE(D, F, 4, [4, 20], seed=1)
    for fractions, sizes in (([4 / F, 20 / F], [4, 20]), ([0.5, 0.5], [12, 12])):
        trainer, folded = begun(
            grouped, MatryoshkaBatchTopKTrainer, density_F=density_F, group_fractions=fractions
        )
        assert trainer.ae.group_sizes.tolist() == sizes
        stays = torch.equal(folded["W_dec"], grouped.W_dec)
        assert stays == (sizes == [4, 20])


@pytest.mark.parametrize("threshold", [1.5, -1.0])
def test_density_is_measured_on_the_first_batches(threshold: float) -> None:
    given = batch_top_k(threshold)
    _, folded = begun(given, MatryoshkaBatchTopKTrainer)
    x_BD = torch.cat(batches())
    parts = [given.encode(x, use_threshold=threshold >= 0) for x in x_BD.split(64)]
    order = (torch.cat(parts) != 0).double().mean(0).argsort(descending=True, stable=True)
    torch.testing.assert_close(folded["W_dec"], given.weights().W_dec_FD[order])


def test_decoder_norms_go_to_the_encoder() -> None:
    given = batch_top_k(0.0)
    with torch.no_grad():
        given.decoder.weight.mul_(torch.linspace(0.5, 2, F))
    trainer, folded = begun(given, MatryoshkaBatchTopKTrainer, density_F=torch.arange(F, 0, -1))
    again = MatryoshkaBatchTopKSAE.from_state_dict(folded, {})
    x_BD = batches()[0]
    torch.testing.assert_close(again.decode(again.encode(x_BD, use_threshold=True).relu()), given(x_BD))
    torch.testing.assert_close(trainer.ae.W_dec.norm(dim=1), torch.ones(F))
    given.threshold.fill_(1.0)
    trainer, _ = begun(given, MatryoshkaBatchTopKTrainer, density_F=torch.arange(F, 0, -1))
    assert float(trainer.ae.threshold) == -1  # one threshold no longer fits all latents


@pytest.mark.parametrize("arch", ["standard", "jumprelu", "gated", "jumprelu_subtracting"])
def test_other_architectures_begin_with_their_own_kind(arch: str) -> None:
    from dictionary_learning.trainers.architectures import ARCHITECTURES

    torch.manual_seed(0)
    makes = {"standard": AutoEncoder, "gated": GatedAutoEncoder}
    cls = makes.get(arch, JumpReluAutoEncoder)
    given = cls(D, F)
    with torch.no_grad():
        for parameter in given.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.1, 0.5)
    if arch == "jumprelu_subtracting":
        given.apply_b_dec_to_input = True
    trainer_class = ARCHITECTURES[arch.partition("_")[0]].trainer_class()
    config = {"trainer": trainer_class, "steps": 10, "activation_dim": D, "dict_size": F, "device": "cpu"}
    trainer = make_trainer(config)
    scaling = Scaling(torch.device("cpu"), by_head=False)
    scaling.factor = 4.0
    Beginning(given, "given").set(trainer, scaling, Source(batches()))
    again = cls.from_state_dict(scaling.folded(trainer), {})
    x_BD = batches()[0]
    torch.testing.assert_close(again(x_BD), given(x_BD), rtol=1e-4, atol=1e-4)
    trainer.update(0, x_BD / 4)


# --- from the command line ---


@pytest.fixture(scope="module")
def flags(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    words = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --device cpu --context_length 32"
    sizes = "--memory 20MB --batch_size 32 --dict_size 64 --k 4 --steps 12 --warmup_steps 2 --lr 0.001"
    return [*words.split(), *sizes.split(), "--max_tokens", "3000", "--calibration_tokens", "512"]


@pytest.fixture(scope="module")
def first(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = ["--arch", "batch_top_k", "--run_name", "first", "--steps", "80", "--lr", "0.01"]
    train_baseline.main([*flags, *words, "--checkpoints_path", str(folder)])
    return folder / "first"


def losses(run: Path) -> list[float]:
    return [record["trainer_0"]["reconstruction"] for record in RunFolder(run).read_metrics()]


def test_batch_top_k_becomes_matryoshka_becomes_a_t_sae(
    flags: list[str], first: Path, tmp_path: Path
) -> None:
    place = ["--checkpoints_path", str(tmp_path)]
    second = [*flags, "--arch", "matryoshka", "--run_name", "second", "--init_from", str(first), *place]
    train_baseline.main(second)
    third = [*flags, "--run_name", "third", "--init_from", str(tmp_path / "second"), *place]
    train_temporal.main(third)
    train_temporal.main([*flags, "--run_name", "anew", *place])

    recorded = RunFolder(tmp_path / "second").read_config()
    assert recorded["options"]["init_from"] == str(first)
    assert recorded["init_from"]["dict_class"] == "BatchTopKSAE"
    assert recorded["init_from"]["groups"] == "by density, measured on the first batches"
    assert len(recorded["init_from"]["weights_sha256"]) == 64
    recorded = RunFolder(tmp_path / "third").read_config()
    assert recorded["init_from"]["groups"] == "as they are"
    assert recorded["init_from"]["dict_class"] == "MatryoshkaBatchTopKSAE"
    # it goes on where the other ended, in another dictionary's loss
    assert losses(tmp_path / "third")[0] < 0.8 * losses(tmp_path / "anew")[0]
    dictionary, config = load_dictionary(tmp_path / "third", "cpu")
    assert type(dictionary) is TemporalMatryoshkaBatchTopKSAE
    assert config["trainer"]["steps_done"] == 12


def test_it_begins_with_a_saelens_folder_and_its_densities(
    flags: list[str], first: Path, tmp_path: Path
) -> None:
    dictionary, config = load_dictionary(first, "cpu")
    writing.write(dictionary, config, tmp_path / "saelens")
    density_F = torch.linspace(0.001, 0.2, 64)
    save_file({"sparsity": density_F.log10()}, tmp_path / "saelens" / "sparsity.safetensors")
    beginning = load_beginning(str(tmp_path / "saelens"))
    torch.testing.assert_close(beginning.density_F, density_F.double(), rtol=1e-4, atol=0)
    words = ["--run_name", "t", "--init_from", str(tmp_path / "saelens"), "--checkpoints_path", str(tmp_path)]
    train_temporal.main([*flags, *words, "--steps", "1", "--lr", "1e-12", "--warmup_steps", "0"])
    assert RunFolder(tmp_path / "t").read_config()["init_from"]["groups"] == "by density, from its files"
    weights = load_weights(tmp_path / "t" / "trainer_0" / "ae.pt")
    torch.testing.assert_close(
        weights["W_dec"], dictionary.decoder_directions().flip(0), rtol=1e-4, atol=1e-5
    )


def test_a_temporal_sae_goes_on_in_its_own_units(flags: list[str], tmp_path: Path) -> None:
    sizes = ["--n_heads", "2", "--bottleneck_factor", "2", "--batch_size", "4"]
    place = ["--checkpoints_path", str(tmp_path)]
    train_attention.main([*flags, *sizes, "--run_name", "one", *place])
    words = ["--run_name", "two", "--init_from", str(tmp_path / "one"), *place]
    train_attention.main([*flags, *sizes, *words, "--steps", "1", "--lr", "1e-12", "--weight_decay", "0"])
    one, two = (load_dictionary(tmp_path / name, "cpu")[0] for name in ("one", "two"))
    assert isinstance(one, TemporalSAE)
    x_BLD = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(two(x_BLD), one(x_BLD), rtol=1e-3, atol=1e-3)
    with pytest.raises(UserError, match=r"has value_rank 64, and this run asks for 8: give --value_rank 64"):
        train_attention.main([*flags, *sizes, *words, "--run_name", "other", "--value_rank", "8"])
    with pytest.raises(UserError, match=r"has n_heads 2, and this run asks for 4: give --n_heads 2"):
        train_attention.main(
            [*flags, "--batch_size", "4", "--run_name", "three", "--init_from", str(tmp_path / "one"), *place]
        )


def test_a_run_that_is_resumed_does_not_begin_again(flags: list[str], first: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(first, tmp_path / "source"))
    words = [*flags, "--run_name", "r", "--init_from", str(source), "--checkpoints_path", str(tmp_path)]
    train_temporal.main([*words, "--run_name", "whole"])
    update = "dictionary_learning.trainers.batch_top_k.BatchTopKTrainer.update"
    code, said = stop_at(6, update, signal.SIGTERM, "train_temporal", *words, cwd=tmp_path)
    assert code == 143, said
    shutil.rmtree(source)
    train_temporal.main(["--run_name", "r", "--checkpoints_path", str(tmp_path), "--resume"])
    whole, resumed = (load_weights(tmp_path / name / "trainer_0" / "ae.pt") for name in ("whole", "r"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert RunFolder(tmp_path / "r").read_config()["init_from"]["dict_class"] == "BatchTopKSAE"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dict_size", "32"], "has 64 latents, and 32 are asked for: give --dict_size 64"),
        (["--layer", "1"], "is of layer 2, and this run reads layer 1"),
        (["--site", "mlp"], "is of site resid, and this run reads site mlp"),
        (["--seeds", "0", "1"], "--seeds asks for 2 dictionaries"),
        (["--init_from", "nowhere/at/all/x"], "there is no folder nowhere/at"),
    ],
)
def test_what_cannot_begin_is_refused_before_the_model_is_read(  # type: ignore[no-untyped-def]
    flags: list[str], first: Path, tmp_path: Path, monkeypatch, words: list[str], sentence: str
) -> None:
    from caches import forbid_language_model

    forbid_language_model(monkeypatch)
    place = ["--run_name", "no", "--init_from", str(first), "--checkpoints_path", str(tmp_path)]
    with pytest.raises(UserError, match=sentence):
        train_temporal.main([*flags, *place, *words])
    assert not (tmp_path / "no").exists()


def test_another_family_and_another_model_are_refused(flags: list[str], first: Path, tmp_path: Path) -> None:
    place = ["--run_name", "no", "--init_from", str(first), "--checkpoints_path", str(tmp_path)]
    with pytest.raises(
        UserError, match="is a BatchTopKSAE, and --arch standard can begin with a AutoEncoder"
    ):
        train_baseline.main([*(w for w in flags if w not in ("--k", "4")), *place, "--arch", "standard"])
    config = first / "trainer_0" / "config.json"
    kept = config.read_text()
    try:
        told = json.loads(kept)
        told["trainer"]["lm_name"] = told["buffer"]["model"] = "google/gemma-2-2b"
        config.write_text(json.dumps(told))
        with pytest.raises(
            UserError, match=r"is of the language model google/gemma-2-2b, and this run reads"
        ):
            train_temporal.main([*flags, *place])
    finally:
        config.write_text(kept)
    narrow = BatchTopKSAE(16, 64, 4)
    with pytest.raises(UserError, match="takes activations of width 16, and these have width 32"):
        Beginning(narrow, "narrow").check_width(32)


def test_processes_begin_with_the_same_weights(flags: list[str], first: Path, tmp_path: Path) -> None:
    from dictionary_learning import cache_activations

    data = flags[: flags.index("--memory")]
    cache_activations.main([*data, "--max_tokens", "3000", "--activations", str(tmp_path / "cache")])
    sizes = (
        "--batch_size 32 --dict_size 64 --k 4 --steps 6 --warmup_steps 2 --lr 0.001 --calibration_tokens 256"
    )
    words = [
        *sizes.split(),
        "--activations",
        str(tmp_path / "cache"),
        "--init_from",
        str(first),
        "--device",
        "cpu",
    ]
    train_temporal.main([*words, "--run_name", "one", "--checkpoints_path", str(tmp_path)])
    done = torchrun(2, "train_temporal", *words, "--run_name", "two", "--checkpoints_path", ".", cwd=tmp_path)
    assert done.code == 0, done.said
    one, two = (load_weights(tmp_path / name / "trainer_0" / "ae.pt") for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(two[key].float(), one[key].float(), rtol=1e-3, atol=1e-4)
