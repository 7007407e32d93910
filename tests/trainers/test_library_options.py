"""The library's own calls: every keyword of its trainers is honoured, or refused in one sentence.

The lists are those of dictionary_learning 0.1.0 on PyPI, and `k_anneal_steps` of its later revisions.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from dictionary_learning import trainSAE
from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.errors import UserError
from dictionary_learning.trainers import (
    AutoEncoderTopK,
    BatchTopKSAE,
    BatchTopKTrainer,
    GatedSAETrainer,
    JumpReluTrainer,
    MatryoshkaBatchTopKSAE,
    MatryoshkaBatchTopKTrainer,
    StandardTrainer,
    StandardTrainerAprilUpdate,
    TemporalAttentionTrainer,
    TemporalMatryoshkaBatchTopKSAE,
    TemporalMatryoshkaBatchTopKTrainer,
    TopKTrainer,
)
from dictionary_learning.trainers.make import arguments, make_trainer

D, F = 8, 16
# a value for each keyword, none of them a default
COMMON = {
    "steps": 40,
    "activation_dim": D,
    "dict_size": F,
    "layer": 3,
    "lm_name": "a model",
    "lr": 2e-4,
    "warmup_steps": 5,
    "decay_start": 30,
    "seed": 7,
    "device": "cpu",
    "wandb_name": "a name",
    "submodule_name": "resid_post_layer_3",
}
TOP_K = COMMON | {
    "k": 3,
    "auxk_alpha": 0.5,
    "threshold_beta": 0.9,
    "threshold_start_step": 4,
    "k_anneal_steps": 20,
}
PENALTY = COMMON | {"sparsity_warmup_steps": 6}
OF_THE_LIBRARY: dict[type, dict[str, Any]] = {
    TopKTrainer: TOP_K | {"dict_class": AutoEncoderTopK},
    BatchTopKTrainer: TOP_K | {"dict_class": BatchTopKSAE},
    MatryoshkaBatchTopKTrainer: TOP_K
    | {
        "dict_class": MatryoshkaBatchTopKSAE,
        "group_fractions": [0.25, 0.75],
        "group_weights": [0.3, 0.7],
    },
    StandardTrainer: PENALTY | {"dict_class": AutoEncoder, "l1_penalty": 0.2, "resample_steps": 9},
    StandardTrainerAprilUpdate: PENALTY | {"dict_class": AutoEncoderNew, "l1_penalty": 0.2},
    GatedSAETrainer: PENALTY | {"dict_class": GatedAutoEncoder, "l1_penalty": 0.2},
    JumpReluTrainer: PENALTY
    | {"dict_class": JumpReluAutoEncoder, "bandwidth": 0.01, "sparsity_penalty": 2.0, "target_l0": 5.0},
}
TRAINERS = pytest.mark.parametrize("cls", OF_THE_LIBRARY, ids=lambda cls: cls.__name__)


@TRAINERS
def test_every_keyword_of_the_library_is_honoured(cls: type) -> None:
    options = OF_THE_LIBRARY[cls]
    assert options.keys() <= arguments(cls).keys()
    for trainer in (cls(**options), make_trainer({"trainer": cls, **options})):
        assert type(trainer.ae) is options["dict_class"]
        recorded = trainer.config | {"dict_class": options["dict_class"]}
        assert {name: recorded[name] for name in options} == options


def test_the_librarys_own_example_trains(tmp_path: Path) -> None:
    config = {
        "trainer": TopKTrainer,
        "dict_class": AutoEncoderTopK,
        **{"activation_dim": D, "dict_size": F, "k": 4, "lr": 1e-3, "device": "cpu", "steps": 10},
        **{"layer": 1, "lm_name": "m", "warmup_steps": 1},
    }
    before = dict(config)
    result = trainSAE(torch.randn(10, 32, D), [config], 10, save_dir=tmp_path / "run", device="cpu")
    assert result.steps_done == 10
    assert config == before
    assert (tmp_path / "run" / "trainer_0" / "ae.pt").is_file()


@pytest.mark.parametrize(
    ("cls", "options", "sentence"),
    [
        (
            TopKTrainer,
            {"dict_class": BatchTopKSAE},
            "dict_class is BatchTopKSAE, and a TopKTrainer trains a Au",
        ),
        (StandardTrainerAprilUpdate, {"dict_class": AutoEncoder}, "trains a AutoEncoderNew: leave it out"),
        (
            BatchTopKTrainer,
            {"auxk_alfa": 1},
            "a BatchTopKTrainer has no option auxk_alfa: did you mean auxk_alp",
        ),
        (
            TopKTrainer,
            {"l1_penality": 1},
            "a TopKTrainer has no option l1_penality: choose among activation_dim,",
        ),
        (GatedSAETrainer, {"l1_penality": 1}, "has no option l1_penality: did you mean l1_penalty"),
        (BatchTopKTrainer, {"k": 4.5}, r"k is 4\.5, and must be a whole number"),
        (BatchTopKTrainer, {"k": "four"}, "k is 'four', and must be a whole number"),
        (BatchTopKTrainer, {"k": True}, "k is True, and must be a whole number"),
        (JumpReluTrainer, {"dict_size": 16.5}, r"dict_size is 16\.5, and must be a whole number"),
        (StandardTrainer, {"steps": float("inf")}, "steps is inf, and must be a whole number"),
        (
            BatchTopKTrainer,
            {"k_anneal_steps": 40},
            "k_anneal_steps is 40, and must be less than the 40 steps",
        ),
        (BatchTopKTrainer, {"k_anneal_steps": 1.5}, r"k_anneal_steps is 1\.5"),
        (BatchTopKTrainer, {"k": 9, "k_anneal_steps": 4}, "k is 9, and cannot fall to that from .*, 8"),
    ],
)
def test_what_cannot_be_honoured_is_told_before_anything_is_written(
    tmp_path: Path, cls: type, options: dict[str, Any], sentence: str
) -> None:
    own = {name: value for name, value in OF_THE_LIBRARY[cls].items() if name != "k_anneal_steps"}
    config = {"trainer": cls, **own, **options}
    with pytest.raises(UserError, match=sentence) as raised:
        trainSAE(torch.randn(10, 32, D), [config], 10, save_dir=tmp_path / "run", device="cpu")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_config_without_a_class_or_a_size_is_told() -> None:
    with pytest.raises(UserError, match="trainer is None, and must be a class"):
        make_trainer({"k": 3})
    with pytest.raises(UserError, match="a BatchTopKTrainer lacks dict_size, k: add it"):
        make_trainer({"trainer": BatchTopKTrainer, "steps": 5, "activation_dim": D})


@pytest.mark.parametrize("cls", [*OF_THE_LIBRARY, TemporalMatryoshkaBatchTopKTrainer])
def test_whole_numbers_may_be_written_as_floats(cls: type) -> None:
    options = OF_THE_LIBRARY.get(cls) or TOP_K | {"dict_class": TemporalMatryoshkaBatchTopKSAE}
    as_floats = {
        name: float(value)
        if isinstance(value, int) and name in ("k", "steps", "dict_size", "seed")
        else value
        for name, value in options.items()
    }
    trainer = cls(**as_floats | {"activation_dim": float(D)})
    assert trainer.config == cls(**options).config
    assert all(type(trainer.config[name]) is int for name in ("dict_size", "activation_dim", "steps", "seed"))


def test_k_of_a_temporal_attention_may_be_a_float() -> None:
    options = {"steps": 5, "activation_dim": D, "width": F, "device": "cpu", "n_heads": 2}
    assert TemporalAttentionTrainer(k=4.0, **options).ae.kval_topk == 4
    with pytest.raises(UserError, match=r"k is 4\.5"):
        TemporalAttentionTrainer(k=4.5, **options)


@pytest.mark.parametrize("cls", [TopKTrainer, BatchTopKTrainer, MatryoshkaBatchTopKTrainer])
def test_k_falls_from_the_width_of_the_activations(cls: type) -> None:
    trainer = cls(**COMMON | {"k": 3, "k_anneal_steps": 10, "threshold_start_step": 0})
    expected = [8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 3]  # int(8 (1 - t / 10) + 3 t / 10)
    assert [trainer.k_at(step) for step in range(12)] == expected
    x_BD = torch.randn(64, D, generator=torch.Generator().manual_seed(0))
    for step in range(12):
        trainer.update(step, x_BD)
        kept = trainer._last.values_N
        if expected[step] <= 6:  # of 16 latents about half are positive
            assert len(kept) == 64 * expected[step]
        assert trainer.metrics()["l0"] <= expected[step]
    assert int(trainer.ae.k) == 3
    assert float(trainer.ae.threshold) > 0
    facts = trainer.calibrate([x_BD])
    assert facts is None or facts["calibration_l0"] == pytest.approx(3, abs=0.1)


def test_k_falls_from_all_latents_where_the_activations_are_wider() -> None:
    trainer = BatchTopKTrainer(**COMMON | {"dict_size": 6, "k": 2, "k_anneal_steps": 4})
    assert [trainer.k_at(step) for step in range(5)] == [6, 6, 5, 3, 2]
    trainer.update(0, torch.randn(5, D))
    trainer.update(1, torch.randn(5, D))
