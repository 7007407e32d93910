"""Write a trained TemporalSAE in the layout of the released ones: conf.yaml and latest_ckpt.safetensors.

    python -m dictionary_learning.exchange.export_temporal_sae --run_name tfa --output out/layer_15

Readers take the decoder layer from the path, so one folder of it should be named `layer_<n>`. The weights are
those of the training on scaled activations, and `sae.scaling_factor` says how they were scaled.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.options import RunOptions


@dataclass(frozen=True)
class ExportOptions(RunOptions):
    """What is written, and where.

    Raises:
        UserError: a flag is missing.
    """

    output: str | None = option(None, "folder to write, such as tfa/layer_15", group="result")

    def __post_init__(self) -> None:
        if not self.run_name or not self.output:
            raise UserError("--run_name and --output are needed: which run is written, and where.")


def parser() -> Parser:
    made = Parser(description=__doc__)
    add_options(made, ExportOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    options = build(ExportOptions, vars(parser().parse_args(argv)))
    assert options.run_name is not None
    assert options.output is not None
    check_writable(options.output, "--output")

    from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
    from dictionary_learning.exchange import released_folder
    from dictionary_learning.exchange.loading import find_run, load_dictionary
    from dictionary_learning.language_model.places import place_to_read

    run = find_run(options.run_name, options.checkpoints_path, options.trainer)
    dictionary, config = load_dictionary(run.dictionary, "cpu", options.checkpoint)
    if not isinstance(dictionary, TemporalSAE):
        raise UserError(
            f"{options.run_name} is a {type(dictionary).__name__}, and only a TemporalSAE has this layout: "
            "choose a run of train_attention.py."
        )
    output = Path(options.output)
    released_folder.save(dictionary, output, config)
    place = place_to_read(config)
    if place is not None and not any(re.fullmatch(r"layer_\d+", part) for part in output.absolute().parts):
        say(
            f"warning: no folder of {output} is named layer_{place.layer}, from which readers take the layer."
        )
    say(f"written: {output / released_folder.CONF} and {output / released_folder.WEIGHTS[0]}")


if __name__ == "__main__":
    cli.run(main)
