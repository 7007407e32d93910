"""What a feature browser can be asked; the flags of the experiment."""

import re
from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from dictionary_learning.remote.options import LocalCacheOptions
from temporal_saes.experiment.options import ExplainedOptions

SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class BrowserOptions(ExplainedOptions, LocalCacheOptions):
    """What a feature browser can be asked."""

    chunk: int = option(2, "latents to show: 0 the high-level split, 1 the rest, 2 all", group="run")
    max_tokens: int = option(200_000, "tokens of the texts that are read, at most", group="data")
    activations: str | None = option(
        None,
        "folder or URL that cache_activations wrote, in place of --dataset and the language model",
        group="data",
    )
    part: str = option("eval", "part of --activations that is read: train, eval or all", group="data")
    latents: tuple[int, ...] | None = option(
        None, "show only these latents, counted in the whole dictionary", group="pages"
    )
    n_top: int = option(12, "strongest examples of a latent", group="pages")
    per_quantile: int = option(3, "examples of each fifth of a latent's range", group="pages")
    texts: str | None = option(
        None, "file of sentences to show with their latents, one a line", group="pages"
    )
    scores: str | None = option(
        None, "result of SAEBench's autointerp evaluation, for the scores of explanations", group="pages"
    )
    neuronpedia: str | None = option(
        None, "write the files that Neuronpedia takes, too, for a set of this name", group="neuronpedia"
    )
    neuronpedia_model: str | None = option(
        None, "id of the language model on Neuronpedia, such as gemma-2-2b", group="neuronpedia"
    )
    explained_by: str | None = option(
        None, "the model that wrote the explanations, as Neuronpedia names it", group="neuronpedia"
    )
    neuronpedia_creator: str | None = option(
        None, "who is named as the maker of the set in Neuronpedia's export", group="neuronpedia"
    )
    delphi: bool = option(
        False, "write the cache of latents that delphi's explainers and scorers read, too", group="delphi"
    )
    overwrite: bool = option(False, "replace a browser that is in the output folder", group="result")

    def __post_init__(self) -> None:
        super().__post_init__()
        LocalCacheOptions.__post_init__(self)
        self.check_least(1, "max_tokens", "n_top", "per_quantile")
        if self.neuronpedia is not None and not SET_NAME.fullmatch(self.neuronpedia):
            raise UserError(
                f"--neuronpedia {self.neuronpedia} is no name of a set: use small letters, digits and dashes."
            )
        if self.neuronpedia is not None and self.neuronpedia_model is None:
            raise UserError("--neuronpedia needs --neuronpedia_model, the id of the language model there.")
        if self.neuronpedia_model is not None and not MODEL_ID.fullmatch(self.neuronpedia_model):
            raise UserError(
                f"--neuronpedia_model {self.neuronpedia_model} is no id of a model there: give one such as "
                "gemma-2-2b, without an owner."
            )
        if self.part not in ("train", "eval", "all"):
            raise UserError(f"--part {self.part} does not exist: give train, eval or all.")
