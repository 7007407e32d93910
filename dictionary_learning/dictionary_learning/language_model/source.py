"""Where a language model comes from: the hub, a folder or the demo, and what is said when it is not there."""

import errno
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dictionary_learning.command.devices import SPREAD, own_defaults
from dictionary_learning.command.memory import uncollected
from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.tokens import PROBE
from dictionary_learning.texts.demo_assets import language_model_folder
from dictionary_learning.texts.demo_models import DEMO_MODELS

REMEDY = "give a hub id, a folder saved by transformers, or --model demo"
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


@own_defaults()
def read_model(
    name: str, device: torch.device | None, dtype: torch.dtype, layer: int | None = None
) -> tuple[Any, Any]:
    """The transformers model and tokenizer of that name; the cheapest questions are asked first.

    Args:
        device: None spreads the model over all devices that there are.
        layer: checked against the config, before the weights are read.

    Raises:
        UserError: there is no such model or layer, it cannot be read, or the devices have no room for it.
    """
    source, options = locate(name)
    with uncollected():
        return _read(name, source, options, device, dtype, layer)


def _read(
    name: str,
    source: str,
    options: dict[str, Any],
    device: torch.device | None,
    dtype: torch.dtype,
    layer: int | None,
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        # its bar rewrites one line, which a log file cannot
        disable_progress_bar()
    options["trust_remote_code"] = False
    with told_in_a_sentence(name, "its config"):
        config = AutoConfig.from_pretrained(source, **options)
    masked = any(kind.endswith("ForMaskedLM") for kind in config.architectures or ())
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or masked:
        raise UserError(f"{name} is no causal language model but a {config.model_type} model: {REMEDY}.")
    n_layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    if layer is not None and n_layers is not None:
        check_layer(name, layer, n_layers)
    with told_in_a_sentence(name, "its tokenizer"):
        tokenizer = tokenizer_from(source, **options)
    about_to(f"read the weights of {name}")
    with told_in_a_sentence(name, "its weights"):
        # straight to the device, so that the host needs no copy
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            device_map=SPREAD if device is None else {"": device},
            output_loading_info=True,
            **options,
        )
    model, report = loaded  # the model alone, says its type
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"the weights of {name} are not complete ({len(missing)} missing, {missing[0]} the first) "
            f"and would be random numbers: {REMEDY}."
        )
    if any(weight.is_meta for weight in model.parameters()):
        raise UserError(
            f"{name} in {str(dtype).removeprefix('torch.')} is larger than the devices of this machine "
            "together: choose --lm_dtype bfloat16, a smaller model or a larger machine."
        )
    return model.requires_grad_(False), tokenizer


def read_tokenizer(name: str) -> Any:
    """The tokenizer of the model of that name; its weights are not looked for.

    Raises:
        UserError: there is no such model, or its tokenizer cannot be read.
    """
    source, options = locate(name)
    with told_in_a_sentence(name, "its tokenizer"):
        return tokenizer_from(source, trust_remote_code=False, **options)


def tokenizer_from(source: str, **options: Any) -> Any:
    """The tokenizer of a folder or of the hub, which cuts texts as its tokenizer.json says.

    A BOS, and a blank that is put in front of a text, are up to tokenizer_config.json.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if (otherwise := cuts_otherwise_than_its_file(tokenizer, source)) is None:
        return tokenizer
    warnings.warn(f"{otherwise}: it is read as that file says.")
    return PreTrainedTokenizerFast.from_pretrained(source, **options)


def given_or_read(tokenizer: Any, name: str) -> Any:
    """A tokenizer that is handed over, with a warning if it is not as its file; for None that of a model.

    Raises:
        UserError: there is none to be read.
    """
    if tokenizer is None:
        with told_in_a_sentence(name, "its tokenizer (pass one as tokenizer=)"):
            return tokenizer_from(name, trust_remote_code=False)
    if otherwise := cuts_otherwise_than_its_file(tokenizer, tokenizer.name_or_path):
        warnings.warn(f"{otherwise}: PreTrainedTokenizerFast.from_pretrained reads it as that file says.")
    return tokenizer


def cuts_otherwise_than_its_file(tokenizer: Any, source: str) -> str | None:
    """The beginning of a sentence about a tokenizer that does not cut texts as its tokenizer.json says.

    transformers makes tokenizers of many classes anew from their vocabulary alone, and has them cut texts as
    the class does (findings/transformers_tokenizer_is_not_the_file.sh): the model then sees tokens that it
    was not trained on.

    Args:
        source: the folder, or the name on the hub, that it was read from.

    Returns:
        None if it does, or if there is no such file here.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if not tokenizer.is_fast or type(tokenizer) is PreTrainedTokenizerFast:
        return None
    path = _tokenizer_file(source)
    if path is None or tokenizer.init_kwargs.get("do_lower_case") is not None:
        return None
    file = Tokenizer.from_file(str(path))
    file.no_truncation()
    file.no_padding()
    probe = " " + PROBE  # what puts a blank in front of a text puts none here
    as_file_says = file.encode(probe, add_special_tokens=False).ids
    if tokenizer(probe, add_special_tokens=False)["input_ids"] == as_file_says:
        return None
    return (
        f"transformers reads the tokenizer of {source} as a {type(tokenizer).__name__}, which cuts texts "
        f"otherwise than its {path.name}"
    )


def _tokenizer_file(source: str) -> Path | None:
    """The tokenizer.json of a folder, or of a hub model whose tokenizer was just read."""
    from huggingface_hub import try_to_load_from_cache

    name = "tokenizer.json"
    if source and Path(source).is_dir():
        found = Path(source) / name
        return found if found.is_file() else None
    cached = try_to_load_from_cache(source, name) if HUB_ID.fullmatch(source) else None
    return Path(cached) if isinstance(cached, str) else None


def check_layer(name: str, layer: int, n_layers: int) -> int:
    """`layer` itself.

    Raises:
        UserError: a model with `n_layers` has no such layer.
    """
    if not 0 <= layer < n_layers:
        raise UserError(f"{name} has no layer {layer}: choose one of its layers 0 to {n_layers - 1}.")
    return layer


@contextmanager
def told_in_a_sentence(name: str, part: str) -> Iterator[None]:
    """Turn whatever transformers raises for a model it cannot read into a UserError."""
    try:
        yield
    except Exception as error:
        full_disk = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full_disk or isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"the model {name!r} cannot be used because {part} cannot be read ({reason}): {REMEDY}."
        ) from error


def locate(name: str) -> tuple[str, dict[str, Any]]:
    """Where transformers finds a model, and the options it needs for that."""
    if name in DEMO_MODELS:
        return str(language_model_folder(name)), {"local_files_only": True}
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"the folder {name} holds no model (no config.json): {REMEDY}.")
        return str(folder), {"local_files_only": True}
    if not HUB_ID.fullmatch(name):
        raise UserError(f"there is no model folder {name!r}: {REMEDY}.")
    return name, _ask_hub(name)


def hub_revision(name: str) -> str | None:
    """The commit of a hub model's files in the local cache; None for a model from elsewhere."""
    from huggingface_hub import try_to_load_from_cache

    if not HUB_ID.fullmatch(name) or Path(name).is_dir():
        return None
    config = try_to_load_from_cache(name, "config.json")
    return Path(config).parent.name if isinstance(config, str) else None


def _ask_hub(name: str) -> dict[str, Any]:
    """Options for a model of the hub, which need not be reached if the model is in the cache.

    One short question: transformers by itself asks for half a minute before it gives up.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the Hugging Face hub has no model {name!r} (or it is private: run `hf auth login`): {REMEDY}."
        ) from error
    except HfHubHTTPError:
        return {}  # the hub is there; what it minds is told when the files are asked for
    except Exception as error:  # no connection: which class that is depends on the HTTP library
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return {"local_files_only": True}
        raise UserError(
            f"the model {name!r} is neither a folder nor in the local cache, and the Hugging Face hub "
            f"cannot be reached: {REMEDY}."
        ) from error
    return {}
