"""What garden-path sentences can be asked; the flags of `experiments/garden_paths.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from temporal_saes.experiment.options import SeedOptions


@dataclass(frozen=True)
class GardenPathOptions(SeedOptions):
    """What garden-path sentences can be asked."""

    triples: str | None = option(
        None, "file of triples, a JSON object a line, in place of the thirty that are built in", group="data"
    )
