"""What persistence and stability can be asked; the flags of `experiments/persistence.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ComparedOptions


@dataclass(frozen=True)
class PersistenceOptions(ComparedOptions):
    """What persistence and stability can be asked."""

    n_texts: int = option(
        200, "texts, of each as many tokens as the dictionary was trained on", group="texts"
    )
    lags: tuple[int, ...] = option((1, 2, 4, 8, 16, 32), "distances in tokens", group="persistence")
    min_on: int = option(20, "leave out latents that are on at fewer tokens", group="persistence")
    same: float = option(
        0.7, "cosine from which on a latent counts as found again in another seed", group="stability"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "n_texts", "min_on")
        if not self.lags or min(self.lags) < 1 or len(set(self.lags)) < len(self.lags):
            shown = " ".join(map(str, self.lags))
            raise UserError(f"--lags {shown} are no distances: give different ones of at least 1 token.")
        if not 0 < self.same <= 1:
            raise UserError(f"--same {self.same} is no cosine of two that are alike: give 0 < same <= 1.")
