"""`--plan`: what a run would cost, from its options alone; nothing is read but the model's config."""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.devices import QUICKEST
from dictionary_learning.command.memory import format_bytes
from dictionary_learning.command.processes import is_first, n_processes, told_shares
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.costs import Cost, Sizes, beside_gradients, plan
from dictionary_learning.jobs.data import batch_unit
from dictionary_learning.jobs.machines import H100, Machine, this_cpu
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.jobs.request import new_options
from dictionary_learning.language_model.sizes import ModelSizes, given_sizes, read_sizes
from dictionary_learning.remote.path import path_of
from dictionary_learning.trainers.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from dictionary_learning.activations.cache import ActivationCache

FLAGS = ("plan", "processes", "model_sizes")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--plan`, and what it has to be told where it cannot find it out."""
    group = parser.add_argument_group("plan")
    group.add_argument(
        "--plan",
        nargs="?",
        const="h100",
        default=argparse.SUPPRESS,
        choices=("h100", "cpu"),
        help="print what the run would cost and end: on GPUs of assumed speed (h100, the default), or on "
        "this CPU, which is timed",
    )
    group.add_argument(
        "--processes",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="processes of the plan (default: those of torchrun, or 1)",
    )
    group.add_argument(
        "--model_sizes",
        type=float,
        nargs=4,
        default=argparse.SUPPRESS,
        metavar=("LAYERS", "WIDTH", "PARAMETERS", "VOCABULARY"),
        help="the language model's, for a plan without its config; parameters of its decoder layers",
    )


def has_planned(typed: Mapping[str, Any], architectures: Sequence[str]) -> bool:
    """Print the plan, if one is asked for, and say whether it was.

    Raises:
        UserError: options that do not go together, or a model whose sizes are not known.
    """
    if "plan" not in typed:
        for name in FLAGS:
            if name in typed:
                raise UserError(f"--{name} is for a plan: add --plan, or leave it out.")
        return False
    if is_first():
        print(told(typed, architectures))
    return True


def told(typed: Mapping[str, Any], architectures: Sequence[str]) -> str:
    """The plan as a text."""
    config = typed.get("config")
    flags = {name: value for name, value in typed.items() if name not in ("config", *FLAGS)}
    flags.pop("timeout", None)
    for name in ("resume", "sweep"):
        if flags.get(name):
            raise UserError(f"--plan is for one new run: leave out --{name}.")
    cache = _cache_of(flags)
    is_to_be_cached = cache is None and flags.pop("activations", None) is not None
    if config is None and cache is None and "model" not in flags:
        config = ARCHITECTURES[flags.get("arch", architectures[0])].preset
    is_for_here = typed["plan"] != "h100"
    options, _ = new_options(flags, config, architectures, is_for_here)
    if cache is not None:
        n_tokens = sum(entry.n_tokens or 0 for entry in cache.parts["train"].shards)
        options = replace(options, max_tokens=min(n_tokens, options.max_tokens or n_tokens))
    if not is_for_here:  # such a card is quicker in bfloat16
        options = replace(options, lm_dtype=_on_h100(options.lm_dtype), autocast=_on_h100(options.autocast))
    sizes = sizes_of(options, _model_sizes(typed, options), _processes(typed))
    if options.overlap or (options.overlap is None and not is_for_here):
        sizes = replace(sizes, memory=2 * sizes.memory)  # the next block is read ahead
    machine = this_cpu(sizes.d_model, sizes.n_latents, sizes.lm_dtype) if is_for_here else H100
    return table(sizes, machine, options.model, is_to_be_cached, cache is not None)


def _cache_of(flags: Mapping[str, Any]) -> "ActivationCache | None":
    """The cache of `--activations`; None where it is still to be written, and a plan has to do without."""
    from dictionary_learning.activations.cache import ActivationCache

    path = path_of(flags["activations"]) if flags.get("activations") else None
    return None if path is None or not path.exists() else ActivationCache.open(path)


def _on_h100(dtype: str) -> str:
    return "bfloat16" if dtype == QUICKEST else dtype


def _processes(typed: Mapping[str, Any]) -> int:
    n = typed.get("processes")
    if n is not None and n < 1:
        raise UserError(f"--processes is {n}, and must be at least 1.")
    return n or n_processes()


def _model_sizes(typed: Mapping[str, Any], options: TrainOptions) -> ModelSizes:
    if "model_sizes" in typed:
        return given_sizes(typed["model_sizes"])
    try:
        return read_sizes(options.model)
    except UserError as error:
        sentence = str(error).split(": give a hub id")[0]
        raise UserError(
            f"{sentence}: for a plan without it give --model_sizes LAYERS WIDTH PARAMETERS VOCABULARY."
        ) from None


def sizes_of(options: TrainOptions, model: ModelSizes, processes: int) -> Sizes:
    """The sizes that the formulas need.

    Raises:
        UserError: no such layer, or a batch too small for the processes.
    """
    from dictionary_learning.language_model.source import check_layer

    check_layer(options.model, options.layer, model.n_layers)
    options.check_processes(processes)
    if options.pool != "token":
        raise UserError(
            f"--plan cannot know how many tokens a {options.pool} has: leave out --pool {options.pool} for a "
            "plan of as many single tokens."
        )
    unit = batch_unit(options)
    tokens = float(options.steps) * options.batch_size * (options.context_length if unit == "contexts" else 1)
    distinct = tokens if options.max_tokens is None else min(tokens, float(options.max_tokens))
    bytes_a_token = model.d_model * (4 if options.store_dtype == "float32" else 2)
    stays = distinct * bytes_a_token <= options.memory_bytes * processes
    return Sizes(
        n_layers=model.n_layers,
        n_read_layers=options.layer + 1,
        layer_parameters=model.layer_parameters,
        vocab_size=model.vocab_size,
        d_model=model.d_model,
        arch=options.arch,
        unit=unit,
        n_latents=options.latents(model.d_model),
        batch_size=options.batch_size,
        k=options.k,
        processes=processes,
        context_length=options.context_length,
        steps=options.steps,
        tokens=distinct if stays else tokens,
        distinct_tokens=distinct,
        memory=min(options.memory_bytes, distinct * bytes_a_token / processes),
        lm_dtype=options.lm_dtype,
        encoder_dtype=options.encoder_dtype,
        store_dtype=options.store_dtype,
        lm_batch_size=options.lm_batch_size,
        high_share=options.group_fractions[0],
        n_groups=len(options.group_fractions) if options.arch in ("temporal", "matryoshka") else 1,
        contrastive=options.contrastive,
        run_length=options.run_length,
        n_seeds=len(options.seeds),
        n_checkpoints=len(options.save_steps),
        n_attn_layers=options.n_attn_layers,
        bottleneck_factor=options.bottleneck_factor,
        value_rank=options.value_rank,
        tied_weights=options.tied_weights,
    )


def table(
    sizes: Sizes, machine: Machine, model: str, is_to_be_cached: bool = False, is_cached: bool = False
) -> str:
    """The costs of a run, one part a line.

    Args:
        is_to_be_cached, is_cached: the activations come from a cache, which is still to be written, or there.
    """
    costs = plan(sizes, machine)
    places = "atoms" if sizes.arch == "attention" else "latents"
    shares = told_shares(sizes.batch_size, sizes.processes, sizes.run_length)
    lines = [
        f"plan on {machine.name} ({machine.source})",
        f"{sizes.arch}: {sizes.n_latents:,} {places} of width {sizes.d_model:,}, k {sizes.k}, on layer "
        f"{sizes.n_read_layers - 1} of {model}; {sizes.steps:,} steps of {sizes.batch_size:,} {sizes.unit} "
        f"({shares}), {sizes.distinct_tokens:.3g} tokens",
        "",
        f"{'':<16}{'time':>12}{'on disk':>12}{'sent':>12}{'memory':>12}",
        *(f"{name:<16}{_row(cost)}" for name, cost in costs.items()),
        "",
        "sent and memory: of each process. cache: in place of the harvest, once for all runs on it. On disk, "
        "of the steps: the run's folder.",
    ]
    if sizes.processes > 1:
        n_bytes = sum(beside_gradients(sizes).values())
        lines.append(f"beside the gradients each process sends {format_bytes(n_bytes)} a step.")
    steps = list(costs.values())[3]
    if is_cached:
        lines.append(f"together {duration(steps.seconds)}: the activations are there, in the cache.")
        return "\n".join(lines)
    first = costs["cache" if is_to_be_cached else "harvest"]
    share = first.seconds / (first.seconds + steps.seconds)
    lines.append(
        f"together {duration(first.seconds + steps.seconds)}, {share:.0%} of it for the language model."
    )
    return "\n".join(lines)


def _row(cost: Cost) -> str:
    amounts = [format_bytes(n) if n else "-" for n in (cost.disk, cost.wire, cost.memory)]
    return "".join(f"{text:>12}" for text in (duration(cost.seconds), *amounts))


def duration(seconds: float) -> str:
    """Seconds with three digits, in the unit that a person would choose."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * length or (unit == "s" and seconds >= 1):
            return f"{_three(seconds / length)} {unit}"
    return f"{_three(1000 * seconds)} ms"


def _three(number: float) -> str:
    if number >= 999.5 or number <= 0:
        return f"{number:,.0f}"
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"
