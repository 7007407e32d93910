"""What a run is evaluated on: as it was trained, unless a flag says otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dictionary_learning.command.devices import QUICKEST, dtype_for
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.options import EvalOptions
from dictionary_learning.language_model.places import Place, place_to_read


@dataclass(frozen=True)
class Setting:
    """What the activations are made from, after the run's config and the flags."""

    model: str
    layer: int
    site: str
    lm_dtype: str
    dataset: str
    subset: str | None
    split: str
    text_field: str
    chat_template: bool
    roles: tuple[str, ...] | None
    part: str
    eval_share: float
    context_length: int
    document_tokens: int | None
    max_norm_ratio: float | None
    drop_special: bool
    add_bos: bool
    pool: str = "token"
    """What is measured on: tokens, or means over spans, one of `POOLS`."""

    @property
    def place(self) -> Place:
        """Where in the language model the activations are read."""
        return Place(self.layer, site=self.site)


def resolve(options: EvalOptions, config: dict[str, Any], folder: Path) -> Setting:
    """What to evaluate on: the flags, else what the run's config.json says, else the usual.

    Raises:
        UserError: the config does not say, and no flag does; the dictionary is of a place that is not read
            here; the run kept no documents for evaluation.
    """
    trainer, buffer = config["trainer"], config.get("buffer") or {}
    place = place_to_read(config, options.layer, options.site, folder)
    texts = buffer if options.dataset in (None, buffer.get("dataset")) else {}
    given = {
        "model": _first(options.model, buffer.get("model"), trainer.get("lm_name")),
        "layer": None if place is None else place.layer,
        "dataset": _first(options.dataset, buffer.get("dataset")),
        "context_length": _first(options.context_length, buffer.get("context_length"), buffer.get("ctx_len")),
    }
    for flag, value in given.items():
        if value is None:
            raise UserError(f"the config in {folder} does not say which {flag} to use: give --{flag}.")
    eval_share = buffer.get("eval_share", 0.1)
    if options.part == "eval" and not eval_share:
        raise UserError(
            f"{folder} was trained on all documents (eval_share 0), so none are left to evaluate on: give "
            "another --dataset, with --part all."
        )
    assert place is not None
    pool = str(_first(options.pool, buffer.get("pool"), "token"))
    if pool == "turn" and not texts.get("chat_template", False):
        raise UserError(
            "--pool turn needs the turns of chats, and these texts are read without a chat template: give "
            "--pool sentence, document or token."
        )
    return Setting(
        **given,
        site=place.site,
        lm_dtype=dtype_for(
            _first(_asked_dtype(options), buffer.get("lm_dtype"), "float32"),
            options.lm_device or options.device,
            "--lm_device" if options.lm_device else "--device",
        ),
        subset=_first(options.subset, texts.get("subset")),
        split=_first(options.split, texts.get("split"), "train"),
        text_field=_first(options.text_field, texts.get("text_field"), "text"),
        chat_template=bool(texts.get("chat_template", False)),
        roles=None if texts.get("roles") is None else tuple(texts["roles"]),
        part=options.part,
        eval_share=eval_share,
        document_tokens=_first(options.document_tokens, buffer.get("document_tokens")),
        max_norm_ratio=_first(options.max_norm_ratio, buffer.get("max_norm_ratio", 10.0)),
        drop_special=buffer.get("drop_special", True),
        add_bos=buffer.get("add_bos", True),
        pool=pool,
    )


def _asked_dtype(options: EvalOptions) -> str | None:
    """None where it is left to the machine, and a cache has settled it: the run's own has to fit that."""
    return None if options.lm_dtype == QUICKEST and options.activations is not None else options.lm_dtype


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
