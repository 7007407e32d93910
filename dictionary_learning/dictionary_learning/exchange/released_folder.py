"""The folder in which TemporalSAEs are released: `conf.yaml` beside `latest_ckpt.safetensors` or `.pt`.

`conf.yaml` has the sizes under `llm` and `sae`, and what the activations were made from under `data`;
`sae.scaling_factor` is what raw activations are multiplied by before they meet the weights. A `.pt` is a
state dict, bare or under "sae"; it is read without running pickled code. The decoder layer is in the path,
as `layer_12`.
"""

import copy
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from dictionary_learning.command import fields
from dictionary_learning.command.checksums import save_with_checksum
from dictionary_learning.command.files import read_yaml, save_text
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.temporal_tensors import released_form
from dictionary_learning.dictionaries.weights_file import read_safetensors, read_state_dict
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.names import public_name
from dictionary_learning.language_model.places import place_to_read

CONF = "conf.yaml"
WEIGHTS = ("latest_ckpt.safetensors", "latest_ckpt.pt")  # the first that is there is taken

# What decides the dictionary: each is in conf.yaml, or given by the caller.
REQUIRED = {
    "dimin": "llm",
    "exp_factor": "sae",
    "n_heads": "sae",
    "n_attn_layers": "sae",
    "bottleneck_factor": "sae",
    "sae_diff_type": "sae",
    "kval_topk": "sae",
    "tied_weights": "sae",
    "scaling_factor": "sae",
}
OPTIONAL = {"context_length": "data"}
KINDS = {
    **dict.fromkeys(("dimin", "n_heads", "n_attn_layers", "bottleneck_factor", "kval_topk"), fields.whole(1)),
    **dict.fromkeys(("exp_factor", "scaling_factor"), fields.above(0)),
    "sae_diff_type": fields.TEXT,
    "tied_weights": fields.FLAG,
    "context_length": fields.whole(1),
}
_LAYER = re.compile(r"layer_(\d+)")
_LM_DTYPES = ("float32", "bfloat16", "float16")


class Released(NamedTuple):
    """A dictionary from such a folder."""

    dictionary: TemporalSAE
    conf: dict[str, Any]  # the content of conf.yaml
    options: dict[str, Any]  # the values of `REQUIRED` and `OPTIONAL`, the caller's included
    folder: Path


def load(folder: Path, overrides: Mapping[str, Any] | None = None) -> Released:
    """The dictionary of a folder as it works on raw activations, on the CPU in float32, for evaluation.

    Args:
        overrides: values that stand in place of those in conf.yaml.

    Raises:
        UserError: a file or a value is missing, or the sizes do not fit the weights.
    """
    conf = read_conf(folder)
    options = _options(folder / CONF, conf, overrides or {})
    path = weights_path(folder)
    state = _read_weights(path)
    _compare(path, state)
    config = {
        "activation_dim": options["dimin"],
        "width": round(options["exp_factor"] * options["dimin"]),
        **{name: options.get(name) for name in (*REQUIRED, *OPTIONAL)},
    }
    state["scaling_factor"] = torch.tensor(float(options["scaling_factor"]))
    try:
        dictionary = TemporalSAE.from_state_dict(state, config)
    except UserError as error:
        raise UserError(f"{path} does not fit {folder / CONF}: {error}") from error
    return Released(dictionary.eval(), conf, options, folder)


def read_conf(folder: Path) -> dict[str, Any]:
    """The content of conf.yaml.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / CONF
    if not path.is_file():
        raise UserError(
            f"{folder} has no {CONF}, which says what the weights mean: copy it from where they came."
        )
    expected = "YAML with llm and sae in it"
    conf = read_yaml(path, expected)
    sections = (
        [conf.get("llm"), conf.get("sae"), conf.get("data") or {}] if isinstance(conf, dict) else [None]
    )
    if not all(isinstance(section, dict) for section in sections):
        raise UserError(f"{path} is damaged or of another kind: {expected} was expected.")
    return conf


def public_conf(conf: Mapping[str, Any]) -> dict[str, Any]:
    """The same without folders of the machine of the training."""
    public = copy.deepcopy(dict(conf))
    for part, key in (("llm", "model_hf_name"), ("llm", "tokenizer_hf_name"), ("data", "hf_name")):
        if key in (public.get(part) or {}):
            public[part][key] = public_name(public[part][key])
    return public


def write_conf(folder: Path, conf: Mapping[str, Any]) -> None:
    """Write a conf.yaml."""
    save_text(folder / CONF, yaml.safe_dump(dict(conf), sort_keys=False, allow_unicode=True))


def weights_path(folder: Path) -> Path:
    """The file of weights that is taken.

    Raises:
        UserError: there is none.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has a {CONF} and no weights: put {' or '.join(WEIGHTS)} beside it.")


def describe(released: Released) -> dict[str, Any]:
    """What `load_dictionary` returns beside the dictionary, in the form of a run's config.json."""
    dictionary, conf, options, folder = released
    llm, data = conf["llm"], conf.get("data") or {}
    layers = [int(match[1]) for part in folder.parts if (match := _LAYER.fullmatch(part))]
    trainer = {
        "dict_class": type(dictionary).__name__,
        "activation_dim": dictionary.activation_dim,
        "dict_size": dictionary.dict_size,
        "width": dictionary.width,
        **dictionary.architecture,
        "k": dictionary.kval_topk,
        "scaling_factor": options["scaling_factor"],
        "context_length": dictionary.context_length,
        "lm_name": llm.get("model_hf_name"),
        "layer": layers[-1] if layers else None,
    }
    buffer = {"model": llm.get("model_hf_name"), "context_length": dictionary.context_length}
    if data.get("dtype") in _LM_DTYPES:
        buffer["lm_dtype"] = data["dtype"]
    return {"trainer": trainer, "buffer": buffer, "conf": conf}


def save(dictionary: TemporalSAE, folder: str | Path, config: Mapping[str, Any] | None = None) -> None:
    """Write a dictionary in the released layout; `load` gives it back bit for bit, but for a `value_rank`.

    The layout has none: zeros then follow the values (`released_form`), and the codes are the same.

    Args:
        folder: should be in a folder named `layer_<n>`, from which readers take the layer.
        config: what `load_dictionary` returned with the dictionary; it tells the language model.

    Raises:
        UserError: the folder holds such a dictionary already, the dictionary is of a place that the layout
            cannot name, or the disk is full.
    """
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    place = place_to_read(config or {})
    if place is not None and place.is_added:
        raise UserError(
            f"the dictionary reads {place.description}, and the released layout can name a layer alone: "
            "choose another format, such as --to saelens."
        )
    for name in (CONF, *WEIGHTS):
        if (folder / name).exists():
            raise UserError(f"{folder / name} is there already: choose another folder, or remove it.")
    form = released_form(dictionary.state_dict(), dictionary.architecture)
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in form.state.items()
        if name != "scaling_factor"
    }
    save_with_checksum(
        folder / WEIGHTS[0], lambda file: file.write(to_bytes(state, metadata={"format": "pt"}))
    )
    write_conf(folder, _conf(dictionary, form.architecture, config or {}))


def _conf(
    dictionary: TemporalSAE, architecture: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    conf: dict[str, Any] = copy.deepcopy(dict(config.get("conf") or {}))
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    llm, data, sae = (conf.setdefault(name, {}) for name in ("llm", "data", "sae"))
    model = trainer.get("lm_name")
    llm |= {"dimin": dictionary.activation_dim}
    if model is not None:
        llm |= {"model_hf_name": model, "tokenizer_hf_name": llm.get("tokenizer_hf_name", model)}
    found = {
        "context_length": dictionary.context_length,
        "dtype": buffer.get("lm_dtype"),
        "hf_name": buffer.get("dataset"),
    }
    data |= {name: value for name, value in found.items() if value is not None}
    factor = float(dictionary.scaling_factor)
    known = sae.get("scaling_factor")
    # a conf's own digits, where they stand for the same float32
    if isinstance(known, int | float) and float(torch.tensor(float(known))) == factor:
        factor = known
    whole, rest = divmod(dictionary.width, dictionary.activation_dim)
    sae |= {
        "sae_type": "temporal",
        "exp_factor": dictionary.width / dictionary.activation_dim if rest else whole,
        **architecture,
        "scaling_factor": factor,
    }
    return conf


def _options(path: Path, conf: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values that decide the dictionary, the caller's over those of conf.yaml."""
    places = REQUIRED | OPTIONAL
    if unknown := overrides.keys() - places.keys():
        raise UserError(
            f"{', '.join(sorted(unknown))} cannot be set for a TemporalSAE: choose among {', '.join(places)}."
        )
    found = {
        name: (conf.get(section) or {})[name]
        for name, section in places.items()
        if name in (conf.get(section) or {})
    } | dict(overrides)
    needs_k = str(found.get("sae_diff_type")).endswith("topk")
    for name, section in REQUIRED.items():
        if found.get(name) is None and (name != "kval_topk" or needs_k):
            raise UserError(
                f"{path} lacks {section}.{name}: add it there, or give {name} to TemporalSAE.from_pretrained."
            )
    fields.check_fields(path, found, KINDS)
    return found


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return read_state_dict(
        path,
        under="sae",
        of_code="convert it where you trust it, with torch.load(path, weights_only=False)['sae'] and "
        f"safetensors.torch.save_file(..., '{WEIGHTS[0]}').",
    )


def _compare(taken: Path, state: Mapping[str, Tensor]) -> None:
    """Warn where the other file of weights is there, too, and another one."""
    other = taken.with_name(WEIGHTS[1])
    if other == taken or not other.is_file():
        return
    try:
        theirs = _read_weights(other)
    except UserError:
        return
    same = theirs.keys() == state.keys() and all(
        torch.equal(theirs[name].reshape(-1).float(), state[name].reshape(-1).float()) for name in state
    )
    if not same:
        warnings.warn(
            f"{other.name} in {taken.parent} holds other weights than {taken.name}: {taken.name} is taken."
        )
