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
from dictionary_learning.remote.path import path_of

Result = dict[str, Any]


def write(name: str, result: Result, folder: Path, options: EvalOptions) -> None:
    """Write the results of a run and their figure, into `folder` unless `--output_dir` is given."""
    path = result_path(name, folder, options)
    save_text(path, json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    figure = report.draw({name: result}, [_method(result)], _figure_path(path))
    say(f"written: {path} and {figure[0].name}")


def write_comparison(results: Mapping[str, Result], options: EvalOptions) -> None:
    """Write the results of several runs in one file and one figure."""
    folder = Path(options.output_dir) if options.output_dir else folder_at(options.checkpoints_path)
    asked = [] if options.trainer == 0 else [f"trainer{options.trainer}"]
    asked += [] if options.threshold is None else [f"threshold-{_slug(options.threshold)}"]
    asked += [] if options.pool is None else [f"pool-{options.pool}"]
    target = folder / "_".join(["compare", short_enough("_".join(map(_slug, results))), *asked])
    save_text(
        target.with_name(f"{target.name}.json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    )
    figure = report.draw(results, [_method(result) for result in results.values()], target)
    say(f"written: {target}.json and {figure[0].name}")


def result_path(name: str, folder: Path, options: EvalOptions) -> Path:
    """eval_results.json, with what was asked for in its name where it is not the run's own."""
    parts = ["eval_results"]
    if options.checkpoint is not None:
        parts.append(_slug(Path(options.checkpoint).stem))
    if options.threshold is not None:
        parts.append(f"threshold-{_slug(options.threshold)}")
    if options.pool is not None:
        parts.append(f"pool-{options.pool}")
    if options.dataset is not None:
        parts.append(_slug(path_of(options.dataset).name))
    if options.output_dir is None:
        return folder / f"{'_'.join(parts)}.json"
    return Path(options.output_dir) / f"{'_'.join([_slug(name), *parts])}.json"


def _figure_path(path: Path) -> Path:
    return path.with_name(path.stem.replace("eval_results", "eval", 1))


def _method(result: Result) -> str:
    return figures.method_of(result["dict_class"])


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text).strip("-.")
