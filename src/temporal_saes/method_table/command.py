"""One table of what every experiment found about several runs, from the JSON files that they wrote.

    python -m temporal_saes.method_table --checkpoints_path runs/demo --output docs/methods.md
    python -m temporal_saes.method_table --checkpoints_path runs/demo --compare tsae:0 tsae:1 matryoshka:0

Nothing is computed anew: a column is a run's chunk, a row a number of an experiment. A checkpoint or a
threshold that was chosen has a column of its own, and so has each of several layers, models or folders of
runs of one name; of a run that was trained again only results of its newest weights are taken. Only results
of the same options and the same length of contexts stand in a row; of an experiment with several settings of
a data set the one that most columns have is taken, and the others are named below the table. A result of
several seeds (trainers) is their mean ± standard deviation, any other the experiment's mean ± half of its
95 % interval.
"""

from dataclasses import dataclass
from pathlib import Path

from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from temporal_saes.method_table.results import read_results
from temporal_saes.method_table.table import table

COMMAND = "python -m temporal_saes.method_table"


@dataclass(frozen=True)
class MethodTableOptions:
    """Which results, and where the table goes.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    checkpoints_path: str = option("runs", "folder of the runs with their results", group="results")
    compare: tuple[str, ...] | None = option(
        None, "columns in this order: run:chunk or baseline_model; all if not given", group="results"
    )
    output: str | None = option(None, "file to write, such as docs/methods.md", group="table")

    def __post_init__(self) -> None:
        if self.compare is not None and len(set(self.compare)) < len(self.compare):
            raise UserError(f"--compare {' '.join(self.compare)} names the same thing twice: leave one out.")


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__, prog=COMMAND)
    add_options(made, MethodTableOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Write the table.

    Raises:
        UserError: there are no results, or a column that is asked for has none.
    """
    options = build(MethodTableOptions, vars(parser().parse_args(argv)))
    output = Path(options.output) if options.output else None
    if output is not None:
        if output.is_dir():
            raise UserError(f"--output {output} is a folder: give the name of a file in it.")
        check_writable(output.parent, "--output")
    written = table(read_results(options.checkpoints_path), options.compare)
    if output is None:
        print(written)
    else:
        save_text(output, written)
        say(f"written: {output}")
