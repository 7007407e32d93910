"""Finding and loading a trained dictionary, whatever format its folder has.

`load_dictionary` is what users call (`dictionary_learning.utils`).
"""

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dictionary_learning.command.checksums import sha256_of
from dictionary_learning.command.devices import find_device, own_defaults
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.config_file import read_run_config
from dictionary_learning.dictionaries.weights_file import read_checkpoint
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import released_folder, saelens, single_file, thresholds
from dictionary_learning.exchange.download import download, download_file, is_hub_name
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.language_model.places import Place
from dictionary_learning.remote import mirror
from dictionary_learning.remote.file_system import is_url, told

DICTIONARIES = {
    "AutoEncoder": "dictionary_learning.dictionaries.classics",
    "AutoEncoderNew": "dictionary_learning.dictionaries.classics",
    "GatedAutoEncoder": "dictionary_learning.dictionaries.classics",
    "JumpReluAutoEncoder": "dictionary_learning.dictionaries.classics",
    "AutoEncoderTopK": "dictionary_learning.trainers.top_k",
    "BatchTopKSAE": "dictionary_learning.trainers.batch_top_k",
    "MatryoshkaBatchTopKSAE": "dictionary_learning.trainers.matryoshka_batch_top_k",
    "TemporalMatryoshkaBatchTopKSAE": "dictionary_learning.trainers.temporal_sequence_top_k",
    "TemporalSAE": "dictionary_learning.dictionaries.temporal_sae",
    "ContextMean": "dictionary_learning.dictionaries.context_mean",
}

# Of a run at a URL: what nobody reads who does not train it further, or only when asked for.
_NOT_READ = re.compile(r"(^|/)(resume/|checkpoints/[^/]+\.pt$|dashboard/)")
# The file of a run's folder, or of a dictionary's in it or by itself, that says what is there.
_SAYS_WHAT_IT_IS = re.compile(r"[^/]+/(config\.yaml|(trainer_\d+/)?config\.json|conf\.yaml|cfg\.json)$")
_LATER = re.compile(r"(^|/)ae\.pt$")

# Configs of some older runs name the trainer only.
TRAINERS = {
    "StandardTrainer": "AutoEncoder",
    "StandardTrainerAprilUpdate": "AutoEncoderNew",
    "PAnnealTrainer": "AutoEncoder",
    "GatedSAETrainer": "GatedAutoEncoder",
    "GatedAnnealTrainer": "GatedAutoEncoder",
    "JumpReluTrainer": "JumpReluAutoEncoder",
    "TopKTrainer": "AutoEncoderTopK",
    "BatchTopKTrainer": "BatchTopKSAE",
    "MatryoshkaBatchTopKTrainer": "MatryoshkaBatchTopKSAE",
    "TemporalMatryoshkaBatchTopKTrainer": "TemporalMatryoshkaBatchTopKSAE",
    "TemporalAttentionTrainer": "TemporalSAE",
}


@own_defaults()
def load_dictionary(
    path: str | Path,
    device: str | torch.device | None = None,
    checkpoint_path: str | Path | None = None,
    *,
    revision: str | None = None,
    fidelity: Fidelity | None = None,
    overrides: Mapping[str, Any] | None = None,
    trainable: bool = False,
    threshold: str | None = None,
) -> tuple[Dictionary, dict[str, Any]]:
    """Load a trained dictionary, in evaluation mode and for use, with the content of its config.json.

    The class comes from the config; weights of another class or size are an error, never another
    architecture. The dictionary works on raw activations. Of a released TemporalSAE (`conf.yaml`) the
    config has the form of a run's, with the content of its conf.yaml under "conf".

    Args:
        path: a run folder with one trainer, a trainer's folder (config.json and ae.pt), a folder with
            conf.yaml and latest_ckpt.safetensors or .pt, or a SAELens one (cfg.json and
            sae_weights.safetensors), in it or below, or one of these on the Hugging Face hub, as
            `user/repository/folder`, or at a URL; or a single file that `single_file` reads, such as
            Qwen-Scope's layer12.sae.pt, here or on the hub.
        device: where the weights go; the best there is when None.
        checkpoint_path: another file than ae.pt, such as checkpoints/ae_1000.pt; relative to the
            trainer's folder.
        revision: branch, tag or commit on the hub.
        fidelity: takes what reading a SAELens folder rounds or loses, which is refused otherwise.
        overrides: values in place of those in the conf.yaml of a released TemporalSAE, or of what a single
            file says.
        trainable: let its parameters take gradients, to train it on.
        threshold: of inference: a name in the folder's thresholds.json, which `calibrate` writes, or `topk`
            for the k largest latents of each token; the one that training set when None.

    Raises:
        UserError: nothing is there, the format is another one, weights and config disagree, or there is no
            such threshold for these weights.
    """
    folder = trainer_folder(path, revision)
    dictionary, config = _load(folder, checkpoint_path, fidelity, overrides)
    place = Place.of_run(config)
    dictionary.place = None if place is None else place.output
    if threshold is not None:
        thresholds.choose(dictionary, folder, threshold, weights_sha256(folder, checkpoint_path))
    return dictionary.to(find_device(device)).requires_grad_(trainable), config


def _load(
    folder: Path,
    checkpoint_path: str | Path | None,
    fidelity: Fidelity | None,
    overrides: Mapping[str, Any] | None,
) -> tuple[Dictionary, dict[str, Any]]:
    """The dictionary of a folder, on the CPU in evaluation mode, and its config."""
    if folder.is_file():
        _no_checkpoint(folder, checkpoint_path)
        return single_file.load(folder, fidelity, overrides)
    if is_released(folder):
        _no_checkpoint(folder, checkpoint_path)

        released = released_folder.load(folder, overrides)
        return released.dictionary, released_folder.describe(released)
    if overrides:
        raise UserError(
            f"{folder} says by itself what its dictionary is: leave {', '.join(overrides)} out (only the "
            f"{released_folder.CONF} of a released TemporalSAE can be overridden)."
        )
    if is_saelens(folder):
        _no_checkpoint(folder, checkpoint_path)

        read = saelens.read(folder, fidelity)
        return read.dictionary, read.config
    config = read_run_config(folder / "config.json")
    name = _dictionary_name(config["trainer"], folder)
    file = weights_path(folder, checkpoint_path)
    checkpoint = read_checkpoint(file)
    cls = getattr(importlib.import_module(DICTIONARIES[name]), name)
    try:
        dictionary = cls.from_state_dict(checkpoint.weights, config["trainer"])
    except UserError as error:
        raise UserError(f"{file} does not fit {folder / 'config.json'}: {error}") from error
    if checkpoint.norm_factor is not None:
        dictionary.scale_biases(checkpoint.norm_factor)
    return dictionary.eval(), config


def trainer_folder(path: str | Path, revision: str | None = None) -> Path:
    """The folder of the one dictionary at `path`: that folder, the run's, or one above a released one.

    Args:
        revision: branch, tag or commit, where `path` is a name on the hub.

    Raises:
        UserError: nothing is there, several dictionaries are, or a format that is not read.
    """
    if is_hub_name(path):
        if str(path).endswith(single_file.SUFFIX):
            return download_file(str(path), revision)
        return download(str(path), revision, _find_folder, _names_of_weights)
    if not is_url(path):
        return _find_folder(Path(os.path.expanduser(path)))
    folder = mirror.folder_at(path)
    mirror.pull(folder, lambda name: not _NOT_READ.search(name))
    return _find_folder(folder)


def _find_folder(path: Path) -> Path:
    if path.is_file() and path.suffix == single_file.SUFFIX:
        return path
    if not path.is_dir():
        raise UserError(f"there is no folder {mirror.place_of(path)}: check the run's name.")
    if (path / "config.json").is_file() or is_released(path) or is_saelens(path):
        return path
    trainers = sorted(folder for folder in path.glob("trainer_*") if (folder / "config.json").is_file())
    if len(trainers) == 1:
        return trainers[0]
    if trainers:
        names = ", ".join(folder.name for folder in trainers)
        raise UserError(f"{path} holds several trainers ({names}): choose one, such as {trainers[0]}.")
    places = [f"{depth}/{name}" for depth in ("*", "*/*", "*/*/*") for name in ("conf.yaml", "cfg.json")]
    below = sorted({found.parent for place in places for found in path.glob(place)})
    if len(below) == 1:
        return below[0]
    if below:
        names = ", ".join(folder.relative_to(path).as_posix() for folder in below)
        raise UserError(f"{path} holds several dictionaries ({names}): choose one, such as {below[0]}.")
    files = sorted(path.glob(f"*{single_file.SUFFIX}"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files[:5]) + (", ..." if len(files) > 5 else "")
        raise UserError(f"{path} holds several files ({names}): choose one, such as {files[0]}.")
    raise UserError(f"{path} holds no trained dictionary (no config.json): check the run's name.")


class Run(NamedTuple):
    """Where a trained dictionary is, and where what is found out about it goes."""

    dictionary: Path  # the folder with the weights
    results: Path


def find_run(name: str, checkpoints_path: str | Path, trainer: int = 0) -> Run:
    """A run by its name in `checkpoints_path`, by the path or URL of its folder, or by its name on the hub.

    Results go beside the run's `trainer_<i>`; of a dictionary on the hub, into `checkpoints_path`. Of a run
    at a URL the folders are those of its copy on this machine, which has everything but large files.

    Raises:
        UserError: there is none.
    """
    runs = mirror.folder_at(str(checkpoints_path))
    if is_url(name):
        folder = mirror.folder_at(name)
        pull_run(folder)
    else:
        pull_run(runs / name)
        folder = runs / name if (runs / name).is_dir() else Path(name)
    if folder.is_file() and folder.suffix == single_file.SUFFIX:
        return Run(folder, runs / folder.stem)
    if not folder.is_dir():
        if is_hub_name(name):
            return Run(trainer_folder(name), runs / name.strip("/").replace("/", "--"))
        raise no_run(name, runs)
    of_trainer = folder / f"trainer_{trainer}"
    if (of_trainer / "config.json").is_file():
        return Run(of_trainer, folder)
    if trainer and not (folder / "config.json").is_file():
        raise no_trainer(folder, trainer)
    return Run(trainer_folder(folder), folder)


def pull_run(folder: Path) -> None:
    """Fetch what is read of a run, if its folder is the copy of one at a URL; weights when they are loaded.

    Raises:
        UserError: the URL cannot be reached, or is a file.
    """
    mirror.pull(folder, lambda name: not (_NOT_READ.search(name) or _LATER.search(name)))


def no_run(name: str, runs: Path) -> UserError:
    """The sentence for a run that is not in a folder of runs, with those that are."""
    there = run_names(runs)
    known = f"it has {', '.join(there)}" if there else "it has none"
    return UserError(
        f"there is no run {told(name)!r} in {mirror.place_of(runs)} ({known}): check --run_name and "
        "--checkpoints_path."
    )


def no_trainer(folder: Path, trainer: int) -> UserError:
    """The sentence for a dictionary that a run has not got, with those that it has."""
    there = sorted(path.parent.name for path in folder.glob("trainer_*/config.json"))
    known = f"it has {', '.join(there)}" if there else "it has none"
    return UserError(f"{folder} has no trainer_{trainer} with a config.json ({known}): choose among its own.")


def run_names(runs: Path) -> list[str]:
    """The runs and dictionaries in a folder of runs, of this machine or at a URL."""
    if mirror.place_of(runs) == runs:
        files = [path for pattern in ("*/*", "*/trainer_*/config.json") for path in runs.glob(pattern)]
        names = [path.relative_to(runs).as_posix() for path in files]
    else:
        names = mirror.names(runs)
    return sorted({name.partition("/")[0] for name in names if _SAYS_WHAT_IT_IS.match(name)})


def weights_sha256(folder: Path, checkpoint_path: str | Path | None = None) -> str:
    """The hash of a dictionary's file of weights: another training of the same name has another.

    Raises:
        UserError: as `weights_path`.
    """
    return sha256_of(weights_path(folder, checkpoint_path))


def is_released(folder: Path) -> bool:
    """Whether a folder has the released layout of a TemporalSAE, complete or not, and is no run's."""

    names = (released_folder.CONF, *released_folder.WEIGHTS)
    return not (folder / "config.json").is_file() and any((folder / name).is_file() for name in names)


def is_saelens(folder: Path) -> bool:
    """Whether a folder is SAELens', complete or not, and no run's."""
    if (folder / "config.json").is_file():
        return False

    return any((folder / name).is_file() for name in (saelens.CFG, saelens.WEIGHTS))


def _names_of_weights(folder: Path) -> Sequence[str]:

    if is_saelens(folder):
        return (saelens.WEIGHTS,)
    return released_folder.WEIGHTS if is_released(folder) else ("ae.pt",)


def _no_checkpoint(folder: Path, checkpoint_path: str | Path | None) -> None:
    if checkpoint_path is not None:
        raise UserError(f"{folder} is no run's folder and has no checkpoints: leave {checkpoint_path} out.")


def _dictionary_name(trainer: dict[str, Any], folder: Path) -> str:
    name = trainer.get("dict_class") or TRAINERS.get(trainer.get("trainer_class", ""))
    if name not in DICTIONARIES:
        known = ", ".join(DICTIONARIES)
        given = name or trainer.get("trainer_class")
        raise UserError(f"{folder / 'config.json'} asks for a {given}, which is not one of {known}.")
    return name


def weights_path(folder: Path, checkpoint_path: str | Path | None = None) -> Path:
    """The file of weights in the folder of a dictionary.

    Args:
        checkpoint_path: another file than its last; relative to the folder.

    Raises:
        UserError: there is no such file.
    """
    if folder.is_file():
        _no_checkpoint(folder, checkpoint_path)
        return folder
    if is_released(folder):
        _no_checkpoint(folder, checkpoint_path)

        return released_folder.weights_path(folder)
    if is_saelens(folder):
        _no_checkpoint(folder, checkpoint_path)

        return folder / saelens.WEIGHTS
    inside = folder / (checkpoint_path or "ae.pt")
    mirror.fetch(inside)
    if checkpoint_path is None or inside.is_file():
        return inside
    if Path(checkpoint_path).is_file():
        return Path(checkpoint_path)
    there = sorted(mirror.names(folder / "checkpoints", "*.pt"), key=lambda name: (len(name), name))
    names = ", ".join(f"checkpoints/{name}" for name in there) or "none"
    raise UserError(f"there is no checkpoint {inside}: the run has {names}.")
