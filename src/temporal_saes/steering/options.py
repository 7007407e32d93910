"""What steering can be asked; the flags of the experiment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.attach import MODES
from temporal_saes.experiment.options import ExplainedOptions, SeedOptions

RULES = {
    "domain": "for each class of the data set in turn, the most selective one",
    "random": "at random",
    "active": "those that fire most often",
}
"""Rules by which latents are chosen (`latents.tables.choose_latents`), in words."""
STRENGTHS = {
    "max": (0.5, 1.0, 2.0, 4.0),
    "raw": (10.0, 100.0, 150.0, 500.0, 1000.0, 1500.0, 5000.0, 10000.0, 15000.0),
}


@dataclass(frozen=True)
class SteeringOptions(SeedOptions, ExplainedOptions):
    """What steering can be asked."""

    latents: tuple[int, ...] | None = option(
        None,
        "latents to push, numbered over the whole dictionary; --choose decides if not given",
        group="latents",
    )
    choose: str = option("domain", "rule by which latents are chosen", group="latents", choices=tuple(RULES))
    n_latents: int = option(10, "latents that the rule chooses", group="latents")
    mode: str = option(
        "add", "add the decoder direction, or clamp the latent to a value", group="steering", choices=MODES
    )
    strengths: tuple[float, ...] | None = option(
        None,
        "how far to push, in --unit (default: 0.5 1 2 4 of the maximum, or the paper's 10 to 15000 raw)",
        group="steering",
    )
    unit: str = option(
        "max",
        "of --strengths: the latent's largest activation over the data set, or raw, the length of the "
        "vector that is added",
        group="steering",
        choices=tuple(STRENGTHS),
    )
    positions: str = option(
        "all",
        "where to push: all positions, the prompt's too, or only those that are generated",
        group="steering",
        choices=("all", "generated"),
    )
    control: bool = option(
        True, "repeat every push along a random direction of the same length", group="steering"
    )
    prompts: str | None = option(
        None, "text file with a prompt a line; a small set of openings if not given", group="texts"
    )
    max_new_tokens: int = option(40, "tokens that are written after a prompt", group="texts")
    temperature: float = option(0.7, "of sampling; 0 takes the likeliest token", group="texts")
    judge_model: str | None = option(
        None, "model that judges: its name at --judge_url, or a local one", group="judge"
    )
    judge_url: str | None = option(
        None, "address of an OpenAI-compatible server, such as http://localhost:8000/v1", group="judge"
    )
    judge_timeout: float = option(60.0, "seconds that one answer of the judge may take", group="judge")
    judge_workers: int = option(8, "questions to the server at a time", group="judge")
    generation_batch_size: int = option(64, "texts that are written at a time", group="machine")
    compare: tuple[str, ...] | None = option(
        None, "several runs in one figure: run or run:chunk", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "n_latents", "max_new_tokens", "judge_workers", "generation_batch_size")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"--temperature {self.temperature} is none: give 0 or more.")
        if not 0 < self.judge_timeout < math.inf:
            raise UserError(f"--judge_timeout {self.judge_timeout} is no time: give some seconds.")
        if self.judge_url is not None and self.judge_model is None:
            raise UserError("--judge_url needs --judge_model: give the name of the model there.")
        if not self.amounts or not all(map(math.isfinite, self.amounts)):
            raise UserError(f"--strengths {_words(self.amounts)} cannot be pushed: give numbers.")
        for name, values in (("strengths", self.amounts), ("latents", self.latents or ())):
            if len(set(values)) < len(values):
                raise UserError(f"--{name} {_words(values)} names one twice: leave it out.")
        if self.compare is not None and (self.latents or self.explanation_path):
            flag = "--latents" if self.latents else "--explanation_path"
            raise UserError(
                f"{flag} is about one dictionary, and --compare about several: leave one of the two out "
                f"(latents by --choose, explanations beside the weights)."
            )

    @property
    def amounts(self) -> tuple[float, ...]:
        return STRENGTHS[self.unit] if self.strengths is None else self.strengths


def _words(values: Sequence[object]) -> str:
    return " ".join(map(str, values))
