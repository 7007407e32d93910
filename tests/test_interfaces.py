"""The names that other people's scripts import stay where they are."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import dictionary_learning
from dictionary_learning import evaluation, language_model, trainers

ROOT = Path(__file__).parents[1]
TRAINERS = {
    *("AutoEncoderTopK", "BatchTopKSAE", "BatchTopKTrainer", "GatedSAETrainer", "JumpReluTrainer"),
    *("MatryoshkaBatchTopKSAE", "MatryoshkaBatchTopKTrainer", "StandardTrainer"),
    *("StandardTrainerAprilUpdate", "TemporalAttentionTrainer", "TemporalMatryoshkaBatchTopKSAE"),
    *("TemporalMatryoshkaBatchTopKTrainer", "TopKTrainer", "Trainer"),
}
PLACES = [
    ("utils", "load_dictionary"),
    ("training", "trainSAE"),
    ("smoothness", "smoothness"),
    ("language_model", "LanguageModel"),
    ("temporal_sae", "TemporalSAE"),
    ("buffer", "ActivationBuffer"),
    ("dictionary", "AutoEncoder"),
    ("evaluation", "evaluate"),
    ("eval_temporal", "EvalOptions"),
    ("trainers.temporal_sequence_top_k", "TemporalMatryoshkaBatchTopKSAE"),
    ("trainers.temporal_sequence_top_k", "TemporalMatryoshkaBatchTopKTrainer"),
]
IMPORT = re.compile(r"^from (dictionary_learning[\w.]*) import (.+)$", re.MULTILINE)


@pytest.mark.parametrize(("module", "name"), PLACES)
def test_a_name_is_found_where_users_import_it(module: str, name: str) -> None:
    found = getattr(importlib.import_module(f"dictionary_learning.{module}"), name)
    assert callable(found)
    assert found.__name__ == name


@pytest.mark.parametrize("package", [dictionary_learning, trainers, language_model, evaluation])
def test_every_public_name_of_a_package_resolves(package) -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert not inspect.ismodule(getattr(package, name)), name
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_trainers_are_public() -> None:
    assert set(trainers.__all__) == TRAINERS


@pytest.mark.parametrize("page", ["README.md", "dictionary_learning/README.md"])
def test_what_a_readme_imports_is_there_and_public(page: str) -> None:
    shown = IMPORT.findall((ROOT / page).read_text(encoding="utf-8"))
    assert shown
    for module, names in shown:
        for name in names.split(", "):
            found = getattr(importlib.import_module(module), name)
            # a function with the name of its module cannot be at the root, too
            assert name in dictionary_learning.__all__ or module.endswith(f".{name}")
            assert getattr(dictionary_learning, name) is (
                found if name in dictionary_learning.__all__ else importlib.import_module(module)
            )


def test_trainsae_takes_the_seventeen_arguments_of_the_library() -> None:
    parameters = inspect.signature(dictionary_learning.trainSAE).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_position == [
        *("data", "trainer_configs", "steps", "use_wandb", "wandb_entity", "wandb_project", "save_steps"),
        *("save_dir", "log_steps", "activations_split_by_head", "transcoder", "run_cfg"),
        *("normalize_activations", "verbose", "device", "autocast_dtype", "backup_steps"),
    ]
