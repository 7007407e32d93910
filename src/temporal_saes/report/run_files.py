"""What a run left on disk: its options, its log, its evaluation and its probes, for whoever shows them."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from dictionary_learning.command.files import read_json
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.loading import no_run, no_trainer, pull_run
from dictionary_learning.language_model.places import Place
from dictionary_learning.remote import mirror
from dictionary_learning.runs.folder import RunFolder
from temporal_saes.experiment.options import BASELINE
from temporal_saes.experiment.results import read_place
from temporal_saes.naming.found import naming_result

LARGEST = 1e300  # number in a log; what is beyond, or not finite, cannot be drawn


@dataclass(frozen=True)
class RunFiles:
    """One trainer of one run; what is not there yet is empty or None."""

    name: str
    folder: Path
    trainer_name: str
    """`trainer_<i>`."""
    config: dict[str, Any]
    """config.yaml: options, versions, git revision, command line; empty for a run of other software."""
    trainer: dict[str, Any]
    """"trainer" of config.json."""
    buffer: dict[str, Any]
    """"buffer" of config.json: which activations these were."""
    metrics: list[dict[str, Any]]
    """metrics.jsonl; the numbers of a trainer stand under its name."""
    evaluation: dict[str, Any] | None
    """eval_results.json, if it is of the weights in ae.pt."""
    probing: list[dict[str, Any]]
    """Results of the probing experiment on the weights in ae.pt."""
    naming: dict[str, Any] | None = None
    """What the latents of the weights in ae.pt are held over."""

    @classmethod
    def read(cls, checkpoints_path: str | Path, name: str, trainer: int = 0) -> "RunFiles":
        """Read the files of a run; weights are not among them.

        Raises:
            UserError: there is no such run or trainer, or its config is damaged.
        """
        runs = mirror.folder_at(str(checkpoints_path))
        folder = runs / name
        pull_run(folder)
        if not folder.is_dir():
            raise no_run(name, runs)
        trainer_folder = folder / f"trainer_{trainer}"
        config_path = trainer_folder / "config.json"
        if not config_path.is_file():
            raise no_trainer(folder, trainer)
        config = read_json(config_path, 'JSON with a "trainer" in it')
        if not isinstance(config, dict) or not isinstance(config.get("trainer"), dict):
            raise UserError(f'{config_path} is damaged: JSON with a "trainer" in it was expected.')
        run = RunFolder(folder)
        mirror.fetch(trainer_folder / "ae.pt")
        weights = _sha256(trainer_folder / "ae.pt")
        evaluation = read_object(trainer_folder / "eval_results.json") or {}
        is_current = evaluation.get("weights_sha256") == weights and _holds_measures(evaluation)
        if evaluation and not _holds_measures(evaluation):
            say(f"left out: {trainer_folder / 'eval_results.json'} is no evaluation of this version.")
        return cls(
            name=name,
            folder=folder,
            trainer_name=trainer_folder.name,
            config=run.read_config() if run.config_path.is_file() else {},
            trainer=config["trainer"],
            buffer=config.get("buffer") or {},
            metrics=run.read_metrics(),
            evaluation=evaluation if is_current else None,
            probing=[result for result in read_probing(folder) if result.get("weights_sha256") == weights],
            naming=naming_result(folder, weights),
        )

    @property
    def method(self) -> str:
        """The short name of its method, such as T-SAE."""
        return figures.method_of(self.trainer.get("dict_class"))

    @property
    def model(self) -> str | None:
        """The language model whose activations it was trained on."""
        return self.trainer.get("lm_name") or self.buffer.get("model")

    @property
    def output(self) -> Place | None:
        """The output of a decoder layer that these are; None where they are of another place."""
        return None if self.place is None else self.place.output

    @property
    def place(self) -> Place | None:
        """Where in the language model its activations came from, if that is recorded."""
        return Place.of_run({"trainer": self.trainer, "buffer": self.buffer})

    @property
    def flags(self) -> str:
        """`--run_name` and its companions, for a command line."""
        words = ["--run_name", self.name]
        if self.folder.parent != Path("runs"):
            words += ["--checkpoints_path", str(mirror.place_of(self.folder.parent))]
        if self.trainer_name != "trainer_0":
            words += ["--trainer", self.trainer_name.removeprefix("trainer_")]
        return shlex.join(words)

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values of a number in the log; records without it are left out."""
        points = [
            (record["step"], numbers[metric])
            for record, numbers in zip(self.metrics, self._numbers(), strict=True)
            if metric in numbers
        ]
        return [step for step, _ in points], [value for _, value in points]

    def logged(self) -> set[str]:
        """Names of all numbers in the log."""
        return {name for numbers in self._numbers() for name in numbers}

    def _numbers(self) -> list[dict[str, float]]:
        """What each record says of the trainer; what is no number is left out."""
        said = [record.get(self.trainer_name) for record in self.metrics]
        return [
            {name: value for name, value in numbers.items() if _is_number(value)}
            if isinstance(numbers, dict)
            else {}
            for numbers in said
        ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _sha256(path: Path) -> str | None:
    """None if there is no such file: nothing was made from it then."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is no such file, or with a line that says why it cannot be had."""
    if not path.exists():
        return None
    try:
        content = read_json(path, "a JSON object")
        if not isinstance(content, dict):
            raise UserError(f"{path} is damaged or of another kind: a JSON object was expected.")
    except UserError as error:
        say(f"left out: {error}")
        return None
    return content


def read_probing(folder: Path) -> list[dict[str, Any]]:
    """The results of probing on single tokens in a run's folder, by file name; others are told of."""
    results = []
    for path in sorted((folder / "probing").glob("*.json")):
        result = read_object(path)
        if result is None:
            continue
        if result.get("experiment") == "probing" and _holds_probes(result):
            results += [result] if result["options"].get("pool", "token") == "token" else []
        else:
            say(f"left out: {path} is no result of the probing experiment of this version.")
    return results


def _holds_probes(result: Mapping[str, Any]) -> bool:
    """Whether a result of probing has all that is shown of one."""
    try:
        for numbers in result["tasks"].values():
            shown = [numbers[name] for name in ("majority", "chance", "n_classes", "n_train", "n_test")]
            shown += [one["mean"] for one in numbers["accuracy"] if one["k"] is not None]
            if not all(map(_is_number, shown)):
                return False
        return all(isinstance(result[name], dict) for name in ("subject", "options")) and "name" in result
    except (LookupError, TypeError, AttributeError):
        return False


def _holds_measures(evaluation: Mapping[str, Any]) -> bool:
    """Whether an evaluation has measures by split and name."""
    splits = evaluation.get("measures")
    return isinstance(splits, dict) and all(
        isinstance(measures, dict) and all(isinstance(one, dict) for one in measures.values())
        for measures in splits.values()
    )


def read_baseline_probing(checkpoints_path: str | Path, run: RunFiles) -> list[dict[str, Any]]:
    """Probes on the dense activations that a run was trained on."""
    folder = mirror.folder_at(str(checkpoints_path)) / BASELINE
    mirror.pull(folder)
    return [
        result
        for result in read_probing(folder)
        if result["subject"].get("model") == run.model and read_place(result["subject"]) == run.output
    ]
