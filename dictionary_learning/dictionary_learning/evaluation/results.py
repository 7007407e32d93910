"""Where the results of an evaluation go, and writing them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from dictionary_learning.command.files import save_text, short_enough
from dictionary_learning.command.progress import say
from dictionary_learning.evaluation import report
from dictionary_learning.evaluation.options import EvalOptions
from dictionary_learning.remote.mirror import folder_at
from dictionary_learning.texts.names import place_name, slug

Result = dict[str, Any]
_OF_SETTING = (
    *("threshold", "pool", "layer", "site", "subset", "split", "text_field", "part"),
    *("context_length", "document_tokens", "max_norm_ratio"),
)
_USUAL = {"part": "eval"}


def write(name: str, result: Result, folder: Path, options: EvalOptions) -> None:
    """Write the results of a run and their figure, into `folder` unless `--output_dir` is given."""
    path = result_path(name, folder, options)
    save_text(path, json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    figure = report.draw({name: result}, [_method(result)], _figure_path(path))
    say(f"written: {path} and {figure[0].name}")


def write_comparison(results: Mapping[str, Result], options: EvalOptions) -> None:
    """Write the results of several runs in one file and one figure."""
    folder = Path(options.output_dir) if options.output_dir else folder_at(options.checkpoints_path)
    names = short_enough("_".join(map(slug, results)))
    target = folder / "_".join(["compare", names, *_trainer(options), *_asked(options)])
    save_text(
        target.with_name(f"{target.name}.json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    )
    figure = report.draw(results, [_method(result) for result in results.values()], target)
    say(f"written: {target}.json and {figure[0].name}")


def result_path(name: str, folder: Path, options: EvalOptions) -> Path:
    """eval_results.json, with what was asked for in its name where it is not the run's own."""
    parts = ["eval_results", *_asked(options)]
    if options.output_dir is None:
        return folder / f"{'_'.join(parts)}.json"
    return Path(options.output_dir) / f"{'_'.join([slug(name), *_trainer(options), *parts])}.json"


def _trainer(options: EvalOptions) -> list[str]:
    return [f"trainer{options.trainer}"] if options.trainer else []


def _asked(options: EvalOptions) -> list[str]:
    """Of what is measured all that a flag says and not the run; not how much, nor on what machine."""
    told = {name: value for name in _OF_SETTING if (value := _flag(vars(options), name)) is not None}
    parts = [f"{name}-{slug(str(value))}" for name, value in told.items()]
    parts += [place_name(place) for place in (options.model, options.dataset) if place is not None]
    if options.checkpoint is not None:
        parts.insert(0, slug(Path(options.checkpoint).stem))
    return [short_enough("_".join(parts))] if parts else []


def is_of_the_runs_setting(options: Mapping[str, Any]) -> bool:
    """Whether the options of a result ask for nothing but, perhaps, a threshold of another name."""
    others = {*_OF_SETTING, "model", "dataset", "checkpoint"} - {"threshold"}
    return all(_flag(options, name) is None for name in others)


def _flag(options: Mapping[str, Any], name: str) -> Any:
    value = options.get(name)
    return None if value == _USUAL.get(name) else value


def _figure_path(path: Path) -> Path:
    return path.with_name(path.stem.replace("eval_results", "eval", 1))


def _method(result: Result) -> str:
    return figures.method_of(result["dict_class"])
