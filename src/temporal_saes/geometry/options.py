"""What the temporal geometry can be asked; the flags of `experiments/temporal_geometry.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import SeedOptions

MIN_TEXTS = 5  # the dimension over texts takes four distinct ones, and its jackknife leaves one out


@dataclass(frozen=True)
class GeometryOptions(SeedOptions):
    """What the temporal geometry can be asked."""

    n_texts: int = option(200, "texts, of each the first --context_length tokens", group="geometry")
    slow: float = option(0.1, "the highest slow frequency, as a share of Nyquist's", group="geometry")
    steps: int = option(32, "steps of a piece of a path, for its tortuosity", group="geometry")
    max_lag: int = option(32, "tokens up to which the autocorrelation goes", group="geometry")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(MIN_TEXTS, "n_texts")
        self.check_least(2, "steps")
        self.check_least(1, "max_lag")
        if not 0 < self.slow < 1:
            raise UserError(f"--slow {self.slow} is no share of Nyquist's frequency: give 0 < slow < 1.")
