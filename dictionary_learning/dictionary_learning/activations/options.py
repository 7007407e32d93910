"""Which activations: the options of language model, texts and store that several commands share.

Defaults are the T-SAE paper's setting for Pythia-160m (arXiv 2511.05541).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dictionary_learning.command.devices import QUICKEST, dtype_for
from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.options import Checked, option
from dictionary_learning.language_model.places import SITES, Place
from dictionary_learning.remote.file_system import is_url
from dictionary_learning.remote.options import LocalCacheOptions
from dictionary_learning.texts.data_sets import TEXTS
from dictionary_learning.texts.documents import PARTS

if TYPE_CHECKING:
    import torch

PAIR_MODES = ("previous", "random", "sentence")
"""Which earlier token a pair has: the one before, a random one of the same text, or of the sentence."""


def device_option(group: str) -> Any:
    """The option `device`, for every command that computes."""
    return option(None, "cpu, cuda, cuda:1 or mps; the best there is if not given", group=group)


def lm_dtype_option(default: str | None, help: str, group: str) -> Any:
    """The option `lm_dtype`, for every command that runs a language model."""
    return option(
        default,
        f"{help}; auto is bfloat16 where the device multiplies it quicker than float32, which not every "
        "processor does",
        group=group,
        choices=(QUICKEST, "float32", "bfloat16", "float16"),
        spellings=("dtype",),
    )


def without_settled(asked: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for but a dtype that is left to the machine where `own` options have settled it."""
    return {
        name: value
        for name, value in asked.items()
        if not (name in ("lm_dtype", "autocast") and value == QUICKEST and name in own)
    }


def other_site_option(group: str) -> Any:
    """The option `site`, for a command that reads what a run was trained on."""
    return option(
        None,
        "what is read of the layer instead of the run's: the residual stream, or what attention or MLP adds",
        group=group,
        choices=tuple(SITES),
    )


def lm_device_option(group: str) -> Any:
    """The option `lm_device`, for every command that runs a language model."""
    return option(
        None,
        "device of the language model where it is not --device; auto spreads it over all devices there are",
        group=group,
        spellings=("lm_devices",),
    )


@dataclass(frozen=True)
class DataOptions(Checked):
    """Which activations are read, and how they are stored.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    # language model
    model: str = option(
        "EleutherAI/pythia-160m",
        "language model: hub name, local folder, demo or demo-gemma",
        group="language model",
        spellings=("model_name", "lm_name"),
    )
    lm_dtype: str = lm_dtype_option("float32", "dtype in which the language model runs", "language model")
    layer: int = option(
        8,
        "decoder layer, from 0, whose output is read",
        group="language model",
        spellings=("layers",),
    )
    site: str = option(
        "resid",
        "what is read of the layer: resid, the residual stream after it; attn or mlp, what its attention or "
        "its MLP adds to that",
        group="language model",
        choices=tuple(SITES),
    )
    device: str | None = device_option("language model")
    lm_device: str | None = lm_device_option("language model")

    # text
    dataset: str = option(
        "monology/pile-uncopyrighted",
        "texts: demo, pile, hub name, or a file (.jsonl .json .csv .parquet .txt .jsonl.zst) or folder, here "
        "or at a URL",
        group="text",
        spellings=("dataset_name", "data_path"),
    )
    subset: str | None = option(None, "subset of a hub data set or of a folder like one", group="text")
    split: str = option("train", "split of a hub data set or of a folder like one", group="text")
    text_field: str = option("text", "field that holds the text", group="text", spellings=("text_column",))
    chat_template: bool = option(
        False,
        "records are conversations, in the field messages if --text_field says no other: they are read "
        "through the model's chat template, and what the roles say is text",
        group="text",
    )
    roles: tuple[str, ...] | None = option(
        None,
        "with --chat_template: only what these roles say is trained on, such as assistant; all, if not given",
        group="text",
    )
    eval_share: float = option(
        0.1, "share of the documents kept for evaluation, chosen by a hash of their text", group="text"
    )
    context_length: int = option(
        256, "tokens a context", group="text", spellings=("ctx_len", "ctx_length", "n_ctx")
    )
    max_tokens: int | None = option(
        None, "use only so many tokens of the texts, from the beginning", group="text"
    )
    document_tokens: int | None = option(
        None,
        "use only so many tokens of a document, spread over it, so that a few long ones do not fill the run",
        group="text",
    )

    # activations
    lm_batch_size: int = option(
        32,
        "contexts of full length a batch of the language model",
        group="activations",
        spellings=("llm_batch_size", "refresh_batch_size"),
    )
    memory: str = option("4GB", "memory for stored activations, such as 4GB or 512MiB", group="activations")
    store_dtype: str = option(
        "float32", "dtype of the stored activations", group="activations", choices=("float32", "bfloat16")
    )
    max_norm_ratio: float = option(
        10.0,
        "leave out tokens whose activation is longer than this multiple of the median (attention sinks)",
        group="activations",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.lm_batch_size > 0, "lm_batch_size", "must be at least 1")
        self._require(self.layer >= 0, "layer", "must not be negative")
        self._require(self.context_length >= 2, "context_length", "must be at least 2: a pair is two tokens")
        self._require(
            self.document_tokens is None or self.document_tokens >= 2, "document_tokens", "must be at least 2"
        )
        self._require(
            self.roles is None or self.chat_template, "roles", "is for conversations: add --chat_template"
        )
        self._require(0 <= self.eval_share < 1, "eval_share", "must be at least 0 and below 1")
        self._require(self.max_norm_ratio > 1, "max_norm_ratio", "must be above 1, such as 10")
        parse_bytes(self.memory)

    def settled(self) -> Self:
        """The same with the dtype that `auto` stands for on this machine."""
        flag = "--lm_device" if self.lm_device else "--device"
        lm_dtype = dtype_for(self.lm_dtype, self.lm_device or self.device, flag)
        return self if lm_dtype == self.lm_dtype else replace(self, lm_dtype=lm_dtype)

    @property
    def place(self) -> Place:
        """Where in the language model the activations are read."""
        return Place(self.layer, site=self.site)

    @property
    def memory_bytes(self) -> int:
        return parse_bytes(self.memory)

    @property
    def torch_store_dtype(self) -> "torch.dtype":
        import torch

        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.store_dtype]


@dataclass(frozen=True)
class CacheOptions(DataOptions, LocalCacheOptions):
    """Which activations are written, and where.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    activations: str | None = option(
        None, "folder or URL of the cache: a new one, or one to go on with", group="cache"
    )
    parts: tuple[str, ...] = option(
        ("train",),
        "parts of the documents: train, eval (those that training does not see), all",
        group="cache",
        choices=PARTS,
    )
    eval_tokens: int = option(
        100_000, "text tokens of the part eval, at most; --max_tokens is for the others", group="cache"
    )
    harvest: str | None = option(
        None,
        "in place of running the language model, activations that were harvested elsewhere: a folder with "
        "activations.npy, tokens.npy and, where there are any, mask.npy and documents.npy, or one "
        ".safetensors file with these arrays",
        group="cache",
    )
    compare: bool = option(
        True, "let the language model read the first contexts of --harvest again, and compare", group="cache"
    )
    verify: bool = option(False, "only compare every shard with its checksum", group="cache")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.activations != "", "activations", "must be a folder, such as cache")
        self._require(self.harvest != "", "harvest", "must be a folder, or a .safetensors file")
        self._require(self.eval_tokens > 0, "eval_tokens", "must be at least 1")
        self._require(self.max_tokens is None or self.max_tokens > 0, "max_tokens", "must be at least 1")
        self._require(len(set(self.parts)) == len(self.parts), "parts", "must differ from each other")


def from_anywhere(name: str) -> str:
    """A model's or data set's local path in full, a data set's hub id for its name; others as they are."""
    if is_url(name):
        return name
    if name in TEXTS and TEXTS[name].hub_id is not None:
        return str(TEXTS[name].hub_id)
    return name if name.startswith("demo") or not Path(name).exists() else str(Path(name).resolve())
