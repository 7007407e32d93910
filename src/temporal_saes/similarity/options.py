"""What the similarity of positions can be asked; the flags of `experiments/similarity.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import JoinedTextOptions, SeedOptions

DETECTORS = ("novelty", "segments")
WORD_ORDERS = ("kept", "shuffled")


@dataclass(frozen=True)
class SimilarityOptions(SeedOptions, JoinedTextOptions):
    """What the similarity of positions can be asked."""

    word_order: str = option(
        "kept",
        "of each passage: kept, or shuffled, which leaves codes the words and takes the sentences away",
        group="texts",
        choices=WORD_ORDERS,
    )
    half_width: int = option(12, "novelty: tokens on either side that are compared", group="boundaries")
    peak_height: float = option(
        1.0,
        "novelty: standard deviations above the mean of its text that make a boundary",
        group="boundaries",
    )
    cut: float = option(0.2, "segments: mean cosine below which neighbours stay apart", group="boundaries")
    tolerance: int = option(3, "tokens by which a boundary may be missed", group="boundaries")
    detector: str = option("novelty", "whose boundaries the figure shows", group="result", choices=DETECTORS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(2, "half_width")
        self.check_least(0, "tolerance")
        if not -1 <= self.cut <= 1:
            raise UserError(f"--cut {self.cut} is no cosine: give a number from -1 to 1.")
