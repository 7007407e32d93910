"""What `--sweep` of the three training commands does: the language model once, and a run for each member.

A member is exactly the run that `--activations` and its own flags start by themselves, in a folder beside the
others, and can be gone on with, evaluated and converted like any other:

    runs/demo-sweep/               activations/, sweep.json and sweep.png: the members side by side
    runs/demo-sweep-k20-d4608/     a run

Under torchrun each process trains whole members by itself where that is done earlier than dividing the
batches of one member after the other.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.activations.options import DataOptions, without_settled
from dictionary_learning.command import program
from dictionary_learning.command.files import check_writable, sentence
from dictionary_learning.command.lock import is_ours_alone, locked
from dictionary_learning.command.options import is_plain_name, shown
from dictionary_learning.command.processes import (
    apart,
    check_alike,
    dealt_out,
    is_first,
    n_processes,
    n_restarts,
    together,
)
from dictionary_learning.command.progress import n_of, say
from dictionary_learning.command.secrets import scrub, scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.jobs import train_command
from dictionary_learning.jobs.begin import Load
from dictionary_learning.jobs.data import batch_unit, check_devices, check_pairs_per_text
from dictionary_learning.jobs.grid import Member, read_members
from dictionary_learning.jobs.options import TrainOptions, differences
from dictionary_learning.jobs.plan_command import has_planned
from dictionary_learning.jobs.request import new_options, run_folder
from dictionary_learning.jobs.sweep_results import Row, save_results
from dictionary_learning.remote import mirror
from dictionary_learning.remote.path import name_of, path_of
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.provenance import versions

# What several processes on one batch reach of as many times the speed of one, at best.
_OF_IDEAL = 0.9


class Planned(NamedTuple):
    """A member and its run."""

    name: str
    flags: dict[str, Any]
    options: TrainOptions
    """Checked before there are activations; what is left to the machine is settled when it trains."""

    @property
    def run(self) -> RunFolder:
        return run_folder(self.options)

    @property
    def is_finished(self) -> bool:
        return train_command.is_finished(self.run, self.options)

    @property
    def cost(self) -> float:
        """What its training takes, in units of which only the ratios mean anything."""
        options = self.options
        latents = options.expansion_factor or options.dict_size
        return latents * options.steps * options.batch_size * len(options.seeds)


@dataclass(frozen=True)
class Sweep:
    """The members, and what they share.

    Attributes:
        folder: of what is not a single member's.
        preset: whose values stand below the flags.
        activations: the cache that was given; None where it is written into `folder`.
    """

    path: Path
    folder: Path
    preset: str | None
    activations: str | None
    members: list[Planned]


def train(typed: Mapping[str, Any], architectures: Sequence[str], load: Load) -> None:
    """Train what the flags ask for: a run, or with --sweep one for each member.

    Args:
        load: gives the dictionary of --init_from.

    Raises:
        UserError, SystemExit: as `train_command.train`; the file of the sweep is wrong; some members failed.
    """
    typed = dict(typed)
    if has_planned(typed, architectures):
        return
    if "sweep" not in typed:
        train_command.train(typed, architectures, load)
        return
    with together(typed.pop("timeout")):
        sweep = read_sweep(typed, architectures)
        members = [member.name for member in sweep.members]
        check_alike({"flags": scrub_values(typed), "versions": versions(), "members": members})
        if is_first():
            _check_folder(sweep)
            with locked(sweep.folder, "sweeping in"):
                _train_all(sweep, typed, architectures, load)
        else:
            _train_all(sweep, typed, architectures, load)


def read_sweep(typed: Mapping[str, Any], architectures: Sequence[str]) -> Sweep:
    """The sweep that the flags ask for, with all that can be checked of every member.

    Raises:
        UserError: the file, or the options of a member, cannot work.
    """
    path = Path(typed["sweep"])
    flags = {name: value for name, value in typed.items() if name not in ("sweep", "config", "resume")}
    preset = typed.get("config")
    members = read_members(path, flags, architectures)
    name = flags.get("run_name") or _default_name(path, flags, preset)
    if not is_plain_name(name):
        raise UserError(f"--run_name is {shown(name)}, and must be the plain name of a folder.")
    planned = []
    for member in members:
        own = {**flags, **member.flags, "run_name": f"{name}-{member.name}"}
        if "activations" in flags:
            own["activations"] = _cache_of(flags["activations"], own)
        options, preset = _checked(path, member, own, preset, architectures)
        planned.append(Planned(member.name, own, options))
    folder = mirror.folder_at(planned[0].options.checkpoints_path) / name
    return Sweep(path, folder, preset, flags.get("activations"), planned)


def _default_name(path: Path, flags: Mapping[str, Any], preset: str | None) -> str:
    """Such as `demo-sweep`, of `--config demo --sweep sweep.yaml`."""
    of = preset or Path(str(flags.get("model") or "")).name
    return f"{of}-{path.stem}" if of else path.stem


def _cache_of(folder: str, flags: Mapping[str, Any]) -> str:
    """The member's cache: the folder itself, or the one of its layer where several are in it."""
    from dictionary_learning.activations.shard_files import cache_of_layer, caches_of_layers

    several = "layer" in flags and caches_of_layers(path_of(folder))
    return name_of(cache_of_layer(path_of(folder), flags["layer"])) if several else folder


def _checked(
    path: Path,
    member: Member,
    flags: Mapping[str, Any],
    preset: str | None,
    architectures: Sequence[str],
) -> tuple[TrainOptions, str | None]:
    """The options of a member, and its preset's name."""
    try:
        options, preset = new_options(flags, preset, architectures, is_for_here=False)
        if options.expansion_factor is None:
            options.check_memory()
        check_pairs_per_text(options)
        return options, preset
    except UserError as error:
        raise UserError(f"member {member.name} of {path}: {error}") from None


def _check_folder(sweep: Sweep) -> None:
    """Refuse a folder that holds something else."""
    check_writable(sweep.folder, "--checkpoints_path")
    if RunFolder(sweep.folder).config_path.is_file():
        raise UserError(f"{sweep.folder} is a run: choose another --run_name for the sweep.")


def _train_all(sweep: Sweep, typed: Mapping[str, Any], architectures: Sequence[str], load: Load) -> None:
    """Train what is not finished; called by every process."""
    todo = _of_first(_unfinished(sweep, bool(typed.get("resume"))) if is_first() else [])
    failed: dict[str, str] = {}
    if todo:
        members = [sweep.members[i] for i in todo]
        check_devices(members[0].options)
        is_dealt = is_faster_apart([member.cost for member in members], n_processes())
        if n_processes() > 1 and not is_dealt:
            for member in members:
                member.options.check_processes()
        try:
            caches = _activations(sweep)
            failed = _train_members(members, is_dealt, caches, sweep.preset, architectures, load)
        except SystemExit as stop:
            if stop.code in (130, 143):
                say(f"to go on with the sweep: {_go_on_command()}")
            raise
    if is_first():
        rows = [Row(member.name, member.run, failed.get(member.name)) for member in sweep.members]
        print(save_results(sweep.folder, rows))
    if failed:
        told = "; ".join(f"{name}: {sentence}" for name, sentence in failed.items())
        raise UserError(
            f"{len(failed)} of {len(sweep.members)} members failed, and the others are finished; {told}"
        )


def _of_first(numbers: list[int]) -> list[int]:
    """The first process's, in every process."""
    if n_processes() == 1:
        return numbers
    from dictionary_learning import distributed

    return distributed.value_of_first(numbers)


def _unfinished(sweep: Sweep, resume: bool) -> list[int]:
    """Which members are to be trained; all are told, with what they cost.

    Raises:
        UserError: a member's folder holds something and the sweep is not resumed, or another run.
    """
    total = sum(member.cost for member in sweep.members)
    say(f"sweep of {n_of(len(sweep.members), 'member')}, {sweep.folder}-*, on the same activations:")
    todo = []
    for i, member in enumerate(sweep.members):
        mirror.pull(member.run.path)
        is_begun = not is_ours_alone(member.run.path)
        if is_begun:
            _check_own(member, resume)
        is_finished = is_begun and member.is_finished
        state = ", finished" if is_finished else ", begun" if is_begun else ""
        say(f"  {member.name}: {_size(member.options)}, {member.cost / total:.0%} of the training{state}")
        if not is_finished:
            todo.append(i)
    return todo


def _check_own(member: Planned, resume: bool) -> None:
    """Refuse a folder that is not this member's, or one that is to be gone on with and is not asked to."""
    if not resume and n_restarts() == 0 and not member.run.is_unsaved():
        raise UserError(
            f"{member.run.path} is not empty: go on with the sweep by --resume, or choose another --run_name "
            "(or remove the folder)."
        )
    asked = asdict(member.options)
    del asked["activations"]  # of the sweep's own cache, which may not be there yet
    if member.options.expansion_factor is not None:
        del asked["dict_size"]
    own = member.run.read_config().get("options") or {}
    told = differences(scrub_values(without_settled(asked, own)), own)
    if told:
        raise UserError(
            f"{member.run.path} has other options than member {member.name}: {', '.join(told)}; choose "
            "another --run_name, or remove the folder."
        )


def _size(options: TrainOptions) -> str:
    latents = f"{options.dict_size:,} latents"
    if options.expansion_factor is not None:
        latents = f"{options.expansion_factor:g} latents for each number of an activation"
    seeds = f", {len(options.seeds)} seeds" if len(options.seeds) > 1 else ""
    unit = batch_unit(options)
    return (
        f"{options.arch} of {latents}, {n_of(options.steps, 'step')} of {options.batch_size:,} {unit}{seeds}"
    )


# --- the activations ---


def _activations(sweep: Sweep) -> dict[str, str]:
    """The cache of each member, written, or gone on with, where none was given.

    Every layer is recorded in the same pass of the language model, every site in one of its own.
    """
    if sweep.activations is not None:
        return {member.name: str(member.flags["activations"]) for member in sweep.members}
    from dictionary_learning.jobs import cache_command

    sites = dict.fromkeys(member.options.site for member in sweep.members)
    caches: dict[str, str] = {}
    for site in sites:
        members = [member for member in sweep.members if member.options.site == site]
        layers = sorted({member.options.layer for member in members})
        folder = mirror.place_of(sweep.folder / "activations" / (site if len(sites) > 1 else ""))
        data = {field.name: getattr(members[0].options, field.name) for field in fields(DataOptions)}
        cache_command.write(folder, {**data, "layer": layers, "parts": ("train",)})
        check_alike({"folder": str(folder)})  # by now the first process has written all of it
        caches |= {
            member.name: _cache_of(name_of(folder), {"layer": member.options.layer}) for member in members
        }
    return caches


# --- the training ---


def _train_members(
    members: Sequence[Planned],
    is_dealt: bool,
    caches: Mapping[str, str],
    preset: str | None,
    architectures: Sequence[str],
    load: Load,
) -> dict[str, str]:
    """Train the members; those that failed, with what was said, where the others could go on.

    Args:
        is_dealt: each process trains whole members by itself.
    """
    failed: dict[str, str] = {}
    if n_processes() > 1:
        how = "each process trains whole members" if is_dealt else "all processes train each member together"
        say(f"{n_processes()} processes: {how}.")
    for number in _numbers(members, is_dealt):
        member = members[number]
        say(f"member {number + 1} of {len(members)}: {member.name}")
        flags = {**member.flags, "activations": caches[member.name], "config": preset}
        if is_first() or is_dealt:
            flags["resume"] = not is_ours_alone(member.run.path) and not member.run.is_unsaved()
        if n_processes() > 1 and not is_dealt:
            train_command.train_run(flags, architectures, load)  # an error of one process ends all
            continue
        try:
            with apart():
                train_command.train_run(flags, architectures, load)
        except Exception as error:
            told = sentence(error)
            if not told:
                raise
            failed[member.name] = told
            say(f"member {member.name} failed: {told}")
    return _failed_anywhere(failed)


def is_faster_apart(costs: Sequence[float], n: int) -> bool:
    """Whether `n` processes that train whole members are done before `n` that divide each one's batches.

    Args:
        costs: of the members; the dearest are begun first.
    """
    if n == 1:
        return False
    busy = [0.0] * n
    for cost in sorted(costs, reverse=True):
        busy[busy.index(min(busy))] += cost
    return max(busy) <= sum(costs) / (n * _OF_IDEAL)


def _numbers(members: Sequence[Planned], is_dealt: bool) -> Iterator[int]:
    """The members that this process trains, by number."""
    if not is_dealt:
        yield from range(len(members))
        return
    dearest_first = sorted(range(len(members)), key=lambda i: -members[i].cost)
    for turn in dealt_out(len(members)):
        yield dearest_first[turn]


def _failed_anywhere(failed: dict[str, str]) -> dict[str, str]:
    """What failed in any process, in every process."""
    if n_processes() == 1:
        return failed
    from dictionary_learning import distributed

    return {name: told for of_one in distributed.values_of_all(failed) for name, told in of_one.items()}


def _go_on_command() -> str:
    words = scrub(program.typed())
    return shlex.join(words if "--resume" in words else [*words, "--resume"])
