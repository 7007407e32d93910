"""Check the arguments of a plan of commands without running any, and print the plan with its time and disk.

    bash scripts/reproduce_pythia.sh --dry_run

Reads the plan that steps.sh writes from standard input. Each script's own parser and options check its
flags; and what only the plan as a whole can tell is checked here: that every run that is looked at is
trained before, with as many seeds and with the groups that are asked for, and that every data set has a
known name. No GPU, no network, and no language model is needed.
"""

import contextlib
import importlib
import importlib.util
import io
import shlex
import sys
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dictionary_learning.command import cli
from dictionary_learning.command.options import build
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.texts.data_sets import KINDS
from dictionary_learning.trainers.architectures import GROUPED

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "baseline_model"
UNIT, RECORD = "\x1f", "\x1e"  # of steps.sh


class Step(NamedTuple):
    """One command of the plan."""

    what: str
    output: str  # a path or a pattern: where there is one, the step is done
    done: bool
    hours: float | None  # estimated
    gigabytes: float | None  # estimated
    published: str  # the figure that it compares to
    words: list[str]  # the command line after the interpreter


def read_plan(written: str) -> list[Step]:
    """The steps that `add_to_plan` of steps.sh wrote."""
    steps = []
    for record in written.split(RECORD)[:-1]:
        what, output, done, hours, gigabytes, published, *words = record.split(UNIT)[:-1]
        steps.append(Step(what, output, done == "done", _number(hours), _number(gigabytes), published, words))
    return steps


def _number(written: str) -> float | None:
    return float(written) if written else None


def check(steps: list[Step]) -> None:
    """Check every command, alone and among those before it.

    Raises:
        UserError: the first that would fail, and why.
    """
    trained: dict[tuple[str, str], TrainOptions] = {}
    for number, step in enumerate(steps, 1):
        try:
            options = options_of(step.words)
            if isinstance(options, TrainOptions):
                trained[options.checkpoints_path, str(options.run_name)] = options
            else:
                _check_runs(options, trained)
            _check_dataset(options)
        except UserError as error:
            raise UserError(f"step {number} ({step.what}): {error}") from None


def options_of(words: list[str]) -> Any:
    """The options that a command line gives, as the script itself would make them.

    Raises:
        UserError: there is no such script, or its parser or its options refuse the arguments.
    """
    module, argv = _module(words)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parser = module.parser()
            parser.prog = shlex.join(words[: len(words) - len(argv)])  # what to ask for --help
            typed = vars(parser.parse_args(argv))
    except SystemExit:
        raise UserError(complaint.getvalue().strip().removeprefix("error: ")) from None
    architectures = _architectures(module)
    if architectures is None:
        return build(_options_class(module), typed)
    from dictionary_learning.jobs.request import new_options

    flags = {name: value for name, value in typed.items() if name != "config"}
    return new_options(flags, typed.get("config"), architectures)[0]


def _module(words: list[str]) -> tuple[ModuleType, list[str]]:
    """The module that holds a command's parser, and the command's arguments."""
    if words[0] == "-m":
        name, argv = words[1], words[2:]
    else:
        # a script's folder is no package, but the folder that holds it is on the path
        parts = Path(words[0]).with_suffix("").parts
        name, argv = ".".join(parts[1:]), words[1:]
        if not (ROOT / words[0]).is_file():
            raise UserError(f"there is no script {words[0]}: check its path.")
    try:
        if importlib.util.find_spec(f"{name}.__main__"):
            name = f"{name}.__main__"
    except ModuleNotFoundError:  # it is no package
        pass
    module = importlib.import_module(name)
    return sys.modules[module.main.__module__], argv


def _architectures(module: ModuleType) -> list[str] | None:
    """What a training script trains, the default first; None for any other."""
    from dictionary_learning import train_baseline

    of_script = {
        "train_temporal": ["temporal"],
        "train_baseline": train_baseline.BASELINES,
        "train_attention": ["attention"],
    }
    return of_script.get(module.__name__.rpartition(".")[2])


def _options_class(module: ModuleType) -> Any:
    """The options of a script: those that it defines, or else takes from the module beside it."""
    found = [
        value for name, value in vars(module).items() if name.endswith("Options") and is_dataclass(value)
    ]
    own = [cls for cls in found if cls.__module__ == module.__name__]
    (only,) = own or found
    return only


def _check_runs(options: Any, trained: dict[tuple[str, str], TrainOptions]) -> None:
    """Raise a UserError where a run, a seed of it or a group of its latents is not there by then."""
    chunk = getattr(options, "chunk", None)
    compared = getattr(options, "compare", None) or ()
    for asked in (*compared, *([options.run_name] if getattr(options, "run_name", None) else [])):
        name, colon, typed_chunk = asked.rpartition(":")
        name, of_chunk = (name, int(typed_chunk)) if colon and typed_chunk.isdigit() else (asked, chunk)
        run = trained.get((options.checkpoints_path, name))
        if name == BASELINE or (run is None and (ROOT / options.checkpoints_path / name).is_dir()):
            continue
        if run is None:
            raise UserError(
                f"no step before it trains {name!r} in {options.checkpoints_path}: check the name."
            )
        if getattr(options, "trainer", 0) >= len(run.seeds):
            raise UserError(
                f"--trainer {options.trainer} of {name!r} does not exist: it has {len(run.seeds)} seeds."
            )
        has_groups = run.arch in GROUPED or run.arch == "attention"
        if of_chunk is not None and not (of_chunk in (0, 1, 2) if has_groups else of_chunk in (0, 2)):
            raise UserError(f"{asked} asks for chunk {of_chunk}, which {run.arch} does not have.")


def _check_dataset(options: Any) -> None:
    """Raise a UserError where a data set is neither a known name, nor a path, nor a name of the hub."""
    name = getattr(options, "dataset", None)
    known = {name for entries in KINDS.values() for name in entries}
    if name is not None and name not in known and "/" not in name and not Path(name).exists():
        raise UserError(f"there is no data set {name!r}: choose {', '.join(sorted(known))}.")


# --- the plan for a person ---


def shown(steps: list[Step]) -> str:
    """The plan: every command with what it is estimated to take, and the totals of what is left."""
    lines = []
    for number, step in enumerate(steps, 1):
        sizes = f"{_amount(step.hours, 'h'):>8}{_amount(step.gigabytes, 'GB'):>10}"
        lines.append(f"{number:>3}  {step.what:<68}{sizes}{'  done already' if step.done else ''}")
        if step.published:
            lines.append(f"     published: {step.published}")
        lines.append(f"     python {shlex.join(step.words)}")
    left = [step for step in steps if not step.done]
    hours, gigabytes = sum(step.hours or 0 for step in left), sum(step.gigabytes or 0 for step in left)
    lines.append(
        f"{len(left)} of {len(steps)} steps to do: about {hours:,.0f} hours of one GPU, {gigabytes:,.0f} GB "
        f"of disk. Estimates, reckoned as scripts/experiments.sh says; nothing was measured on a GPU."
    )
    return "\n".join(lines)


def _amount(number: float | None, unit: str) -> str:
    return f"{number:g} {unit}" if number is not None else ""


def main() -> None:
    """Check the plan on standard input and print it.

    Raises:
        UserError: an argument that would fail.
    """
    steps = read_plan(sys.stdin.read())
    check(steps)
    print(shown(steps))


if __name__ == "__main__":
    cli.run(main)
