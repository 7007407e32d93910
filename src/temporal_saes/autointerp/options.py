"""What automatic interpretation can be asked; the flags of the experiment."""

import math
from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ExperimentOptions

# how fast answers come and how many may be bought, not what they are about: the next run may change them
LIMITS = ("explainer_url", "explainer_timeout", "concurrency", "attempts", "time_limit", "max_cost_tokens")

NEGATIVES = ("random", "neighbours")


@dataclass(frozen=True)
class AutointerpOptions(ExperimentOptions):
    """What automatic interpretation can be asked."""

    chunk: int = option(
        2, "latents to draw from: 0 the high-level split, 1 the rest, 2 each split by itself", group="run"
    )
    latents: tuple[int, ...] | None = option(
        None, "these latents, numbered over the whole dictionary, instead of drawn ones", group="latents"
    )
    n_latents: int = option(
        100, "latents drawn at random from the living ones of each split", group="latents"
    )
    min_active: int = option(15, "tokens at which a latent is above 0 to count as living", group="latents")
    explanation_path: str | None = option(
        None, "score the explanations of this explanations.json instead of new ones", group="latents"
    )
    window: int = option(32, "tokens of a window that a model is shown", group="windows")
    n_top: int = option(10, "windows where the latent is strongest that are explained", group="windows")
    n_weighted: int = option(
        5, "windows drawn in proportion to the activation that are explained", group="windows"
    )
    n_test: int = option(
        10, "held-out windows with the latent that are asked about, and as many without it", group="windows"
    )
    negatives: str = option(
        "random",
        "windows without the latent: any, or harder ones in which latents next to it are active",
        group="windows",
        choices=NEGATIVES,
    )
    per_question: int = option(5, "windows of one question", group="windows")
    explainer_model: str | None = option(
        None,
        "model that explains and scores: its name at --explainer_url, or a local one; without it only the "
        "offline scores are made",
        group="explainer",
    )
    explainer_url: str | None = option(
        None,
        "address of an OpenAI-compatible server, such as http://localhost:8000/v1; its key is read from "
        "OPENAI_API_KEY",
        group="explainer",
    )
    explainer_timeout: float = option(60.0, "seconds that one call may take in all", group="explainer")
    attempts: int = option(5, "calls for one question before it counts as failed", group="explainer")
    concurrency: int = option(8, "calls to the server at a time", group="explainer")
    max_answer_tokens: int = option(300, "tokens of an answer", group="explainer")
    max_cost_tokens: int | None = option(
        None,
        "tokens that may be spent, prompts and answers together, over all runs that go on with each other; "
        "no limit if not given",
        group="explainer",
    )
    time_limit: float | None = option(
        None, "seconds after which no more is asked; no limit if not given", group="explainer"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"window": 4, "n_top": 0, "n_weighted": 0}
        names = ("n_latents", "min_active", "n_test", "per_question", "concurrency", "attempts")
        for name in (*names, "max_answer_tokens", "max_cost_tokens", *least):
            value = getattr(self, name)
            if value is not None and value < least.get(name, 1):
                raise UserError(f"--{name} {value} is too small: give at least {least.get(name, 1)}.")
        if self.n_top + self.n_weighted == 0:
            raise UserError("--n_top 0 and --n_weighted 0 leave nothing to explain: give one of them.")
        for name in ("explainer_timeout", "time_limit"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{name} {value} is no time: give some seconds.")
        if self.latents is not None and len(set(self.latents)) < len(self.latents):
            raise UserError("--latents names a latent twice: leave one out.")
        for name in ("explainer_url", "explanation_path", "max_cost_tokens", "time_limit"):
            if getattr(self, name) is not None and self.explainer_model is None:
                raise UserError(
                    f"--{name} needs a model that is asked: give its name with --explainer_model."
                )
