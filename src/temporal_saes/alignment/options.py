"""What the alignment study can be asked; the flags of the experiment."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ChatOptions, ExplainedOptions, SeedOptions

PAPER_PAIRS = 1000
# options of other experiments, which preference pairs have no use for
UNUSED = ("text_field", "label_field", "categories", "max_texts")
POOLS_OF_ANSWER = ("turn", "sentence", "token")
RANKINGS = ("effect", "difference", "equal_length")


@dataclass(frozen=True)
class AlignmentOptions(SeedOptions, ExplainedOptions, ChatOptions):
    """What the alignment study can be asked."""

    dataset: str = option(
        "demo", "demo, hh-rlhf, a local file, or any preference pairs on the hub", group="data"
    )
    subset: str | None = option(
        None, "folder of hh-rlhf instead of harmless-base, or configuration of other hub data", group="data"
    )
    chosen_field: str = option("chosen", "field of a record with the preferred answer", group="data")
    rejected_field: str = option("rejected", "field of a record with the other answer", group="data")
    prompt_field: str = option(
        "prompt", "field with what both answer; where it is missing, what they share", group="data"
    )
    max_pairs: int = option(PAPER_PAIRS, "pairs: the first of the data set that can be used", group="data")
    pool: str = option(
        "turn",
        "a latent's value for an answer: its mean over the answer's tokens, the mean of its means over the "
        "sentences, each counting alike, or its value at the answer's last token",
        group="tests",
        choices=POOLS_OF_ANSWER,
    )
    fdr: float = option(0.05, "false discovery rate below which a latent counts as different", group="tests")
    min_active: int = option(
        10, "pairs in which a latent has to differ at all in order to be tested", group="tests"
    )
    length_correlation: float = option(
        0.3, "|r| with the difference in length from which a latent is a length latent", group="tests"
    )
    length_tolerance: float = option(
        0.1, "matched pairs: largest difference in length, as a share of the longer answer", group="tests"
    )
    n_flips: int = option(
        1000, "random sign flips for the p that is corrected for all latents", group="tests"
    )
    rank_by: str = option(
        "effect",
        "what makes a top latent: raw d_z, raw mean difference, or d_z at equal length",
        group="result",
        choices=RANKINGS,
    )
    n_latents: int = option(10, "top latents shown each way", group="result")
    n_examples: int = option(3, "example pairs shown for each top latent", group="result")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("max_pairs", 10), ("min_active", 2), ("n_flips", 1), ("n_latents", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)} is too small: give at least {least}.")
        if self.n_examples < 0:
            raise UserError(f"--n_examples {self.n_examples} cannot be negative.")
        for name in ("fdr", "length_correlation", "length_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)} must lie between 0 and 1.")
