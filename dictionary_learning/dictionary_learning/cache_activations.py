"""Write a language model's activations of a corpus to disk, for any number of training runs.

    python -m dictionary_learning.cache_activations --config demo --activations runs/demo/activations

Training reads them in place of running the model, and with the same options sees the same batches:

    python dictionary_learning/dictionary_learning/train_temporal.py --config demo \\
        --activations runs/demo/activations

Several layers are recorded in one pass of the language model, each into a cache of its own, here
cache/layer_8 and cache/layer_15:

    python -m dictionary_learning.cache_activations --config demo --layer 8 15 --activations cache

Under torchrun the processes of all machines write one cache, with the bytes that one process gives it:

    torchrun --nproc_per_node 8 dictionary_learning/dictionary_learning/cache_activations.py \\
        --config gemma-2-2b --activations cache

Activations that were harvested elsewhere become a cache in the same way, without a run of the language model
but for the first contexts, which it reads again to tell whether these are its own (--no_compare leaves that
out):

    python -m dictionary_learning.cache_activations --harvest harvest --model google/gemma-2-2b --layer 12 \\
        --activations cache

`--parts train eval` also writes documents that training does not see, for eval_temporal.py. `--activations`
alone goes on with a cache that was stopped, and writes shards again that are missing or damaged; `--verify`
compares every shard with its checksum.
"""

from typing import Any

from dictionary_learning.activations.options import CacheOptions
from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser, add_options, preset_names, read_preset
from dictionary_learning.command.processes import add_timeout, together
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.presets import preset_values
from dictionary_learning.trainers.architectures import ARCHITECTURES

DEFAULT = "temporal"  # architecture


def parser() -> Parser:
    made = Parser(description=__doc__)
    made.add_argument("--config", choices=preset_names(), help="preset whose values the other flags override")
    made.add_argument(
        "--arch",
        choices=tuple(ARCHITECTURES),
        help="take the values that the preset has for this architecture (attention: other contexts, perhaps)",
    )
    add_timeout(made)
    add_options(made, CacheOptions, several=("layer",))
    return made


def main(argv: list[str] | None = None) -> None:
    typed = vars(parser().parse_args(argv))
    with together(typed.pop("timeout")):
        _run(typed)


def _run(typed: dict[str, Any]) -> None:
    flags = {name: value for name, value in typed.items() if name not in ("config", "arch")}
    if "activations" not in flags:
        raise UserError("--activations is missing: give the folder of the cache.")
    asked = {**preset(typed["config"], typed["arch"]), **flags}

    from dictionary_learning.jobs import cache_command

    if flags.get("verify"):
        cache_command.verify(flags["activations"])
    elif "harvest" in flags:
        from dictionary_learning.harvest import importing

        importing.write(asked)
    else:
        cache_command.write(flags["activations"], asked)


def preset(config: str | None, arch: str | None) -> dict[str, Any]:
    """The values of a preset for an architecture, by default the one that it is for."""
    if config is not None and arch is None:
        arch = read_preset(config).get("architectures", [DEFAULT])[0]
    return preset_values(config, arch or DEFAULT)


if __name__ == "__main__":
    cli.run(main)
