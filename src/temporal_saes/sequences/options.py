"""What latents along joined passages can be asked: flags of `experiments/sequence_interpretability.py`."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ExplainedOptions, JoinedTextOptions, SeedOptions
from temporal_saes.labelled.passages import MIN_TOKENS

ACTIVITIES = ("firing", "half")
RULES = ("contrast", "mean")
SETS = ("chosen", "all")
"""The latents that a score is of: those the rule chooses, or every one that is on somewhere in the text."""


@dataclass(frozen=True)
class SequenceOptions(SeedOptions, ExplainedOptions, JoinedTextOptions):
    """What latents along joined passages can be asked."""

    passage_tokens: int | None = option(
        None,
        "tokens of each given passage, or the most of a drawn one; as many as the context has room for "
        "if not given",
        group="texts",
    )
    select: str = option(
        "contrast",
        "how latents are chosen: contrast (mean over a passage minus that over the rest, passages in turn) "
        "or mean (mean over the text)",
        group="latents",
        choices=RULES,
    )
    n_latents: int = option(6, "latents chosen in each text", group="latents")
    latents: tuple[int, ...] | None = option(
        None, "these latents, counted in the whole dictionary, instead of chosen ones", group="latents"
    )
    active: str = option(
        "firing",
        "when a latent counts as on: firing (above zero) or half (above half of its range in the text)",
        group="latents",
        choices=ACTIVITIES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "n_latents")
        self.check_least(MIN_TOKENS, "passage_tokens")
        if self.passages is not None and len(self.passages) < 2:
            raise UserError(
                f"--passages {self.passages[0]} is one passage, and nothing can switch in it: give two files "
                f"or more."
            )
        if self.latents and len(set(self.latents)) < len(self.latents):
            raise UserError("--latents names a latent twice: leave one out.")
        for name in ("latents", "explanation_path"):
            if self.compare and len(self.compare) > 1 and getattr(self, name):
                raise UserError(
                    f"--{name} is of one dictionary, and --compare asks for several: leave one of them out."
                )

    def room(self, context_length: int) -> int:
        """Tokens of a drawn text, so that its passages are no longer than asked."""
        if self.passage_tokens is None:
            return context_length
        return 1 + self.n_passages * (self.passage_tokens + 1)
