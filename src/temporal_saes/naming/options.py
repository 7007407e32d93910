"""What naming can be asked; the flags of `experiments/naming.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import SeedOptions

EXPERIMENT = "naming"
WINDOW = 32  # tokens
HELD = 8  # tokens of a window of 32: a passage of the latent's, not a spark


@dataclass(frozen=True)
class NamingOptions(SeedOptions):
    """What naming can be asked."""

    chunk: int = option(2, "latents to name: 0 the high-level split, 1 the rest, 2 all", group="run")
    held: int = option(
        HELD,
        f"tokens of a window of {WINDOW} over which a latent is held that make it a passage of the latent's",
        group="score",
    )
    list_length: int = option(8, "entries of the lists that are scored", group="score")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "held", "list_length")
        if self.held > WINDOW:
            raise UserError(f"--held {self.held} is more than the {WINDOW} tokens of a window: give fewer.")
