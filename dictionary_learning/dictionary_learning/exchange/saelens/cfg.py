"""cfg.json of a SAELens folder: what it says of an SAE, read and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.command import fields
from dictionary_learning.command.files import read_json
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.config_file import check_run_config
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import names
from dictionary_learning.language_model.places import Place
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary, group_ends

CFG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
FORMAT_VERSION = "6.54.12"  # of SAELens; below 6 it reads cfg.json in an older way
RUNNER = "runner_cfg.json"
OURS = "temporal_saes"  # our part of the metadata
KINDS = {
    **dict.fromkeys(("d_in", "d_sae", "n_heads", "n_attn_layers", "bottleneck_factor"), fields.whole(1)),
    "kval_topk": fields.whole(1),
    "activation_normalization_factor": fields.above(0),
    "tied_weights": fields.FLAG,
    "sae_diff_type": fields.TEXT,
}
METADATA = {
    "context_size": fields.whole(1),
    **dict.fromkeys(("hook_name", "model_name", "dataset_path"), fields.TEXT),
    OURS: fields.OBJECT,
}
RESCALABLE = ("jumprelu", "topk", "batchtopk", "matryoshka_batchtopk")  # by the norms of the decoder


def read_cfg(folder: Path) -> dict[str, Any]:
    """The content of cfg.json in the form of SAELens 6.

    Before version 6 everything stood in one level, and a topk was a standard with another activation.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / CFG
    if not path.is_file():
        raise UserError(
            f"{folder} has no {CFG}, which says what the weights mean: copy it from where they came."
        )
    cfg = read_json(path, "JSON with d_in, d_sae and architecture")
    sizes = [cfg.get(name) for name in ("d_in", "d_sae")] if isinstance(cfg, dict) else []
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise UserError(
            f"{path} is damaged or of another kind: JSON with d_in, d_sae and architecture was expected."
        )
    assert cfg is not None
    if "metadata" not in cfg:
        keys = ("model_name", "hook_name", "context_size", "prepend_bos", "dataset_path", "sae_lens_version")
        renamed = {"hook_point": "hook_name"}
        flat = {renamed.get(key, key): value for key, value in cfg.items()}
        cfg = cfg | {"metadata": {key: flat[key] for key in keys if key in flat}}
        head = flat.get("hook_head_index", flat.get("hook_point_head_index"))
        cfg["metadata"]["hook_head_index"] = head
        cfg.setdefault("architecture", "standard")
        if cfg["architecture"] in ("standard", "topk") and "topk" in _activation_functions(cfg):
            cfg |= {"architecture": "topk", "k": _kwargs(cfg).get("k", cfg.get("k"))}
    if not isinstance(cfg.get("architecture"), str) or not isinstance(cfg["metadata"], dict):
        raise UserError(f"{path} is damaged: it names no architecture.")
    fields.check_fields(path, cfg, KINDS)
    fields.check_fields(path, cfg["metadata"], METADATA)
    return cfg


def check_fields(folder: Path, cfg: Mapping[str, Any]) -> None:
    """Refuse by name what would change codes, and what the dictionaries here do not do.

    Raises:
        UserError: there is such a field.
    """
    architecture, normalised = cfg["architecture"], cfg.get("normalize_activations") or "none"
    if normalised in ("expected_average_only_in", True):  # as older versions write it
        raise UserError(
            f"the SAE in {folder} works on activations scaled by a factor that the folder does not have "
            "(normalize_activations expected_average_only_in): in SAELens, call "
            "fold_activation_norm_scaling_factor with it and save_model, and convert that folder."
        )
    own_scale = architecture == "temporal" and normalised == "constant_scalar_rescale"
    foreign = set(_activation_functions(cfg)) - {"relu", *(["topk"] if architecture == "topk" else [])}
    kwargs = _kwargs(cfg) if architecture == "topk" else {}
    for is_there, name, value, what in (
        (normalised != "none" and not own_scale, "normalize_activations", normalised, "normalises its input"),
        (foreign, "activation_fn", ", ".join(sorted(foreign)), "has another activation function"),
        (
            kwargs.keys() - {"k"} or kwargs.get("k", cfg.get("k")) != cfg.get("k"),
            "activation_fn_kwargs",
            kwargs,
            "has an activation function with settings of its own",
        ),
        (
            cfg.get("reshape_activations") not in (None, "none"),
            "reshape_activations",
            cfg.get("reshape_activations"),
            "reads the heads of an attention layer side by side",
        ),
        (
            cfg["metadata"].get("hook_head_index") is not None,
            "hook_head_index",
            cfg["metadata"].get("hook_head_index"),
            "reads one head of an attention layer",
        ),
        (
            cfg.get("rescale_acts_by_decoder_norm")
            and (architecture not in RESCALABLE or cfg.get("finetuning_scaling_factor")),
            "rescale_acts_by_decoder_norm",
            cfg.get("rescale_acts_by_decoder_norm"),
            f"is a {architecture} whose codes are in units of the decoder's norms",
        ),
        (
            not isinstance(cfg.get("apply_b_dec_to_input", True), bool),
            "apply_b_dec_to_input",
            cfg.get("apply_b_dec_to_input"),
            "does not say whether it subtracts its bias",
        ),
    ):
        if is_there:
            raise UserError(
                f"the SAE in {folder} {what} ({name} is {value!r} in {CFG}), which the dictionaries here do "
                "not: choose another."
            )


def _activation_functions(cfg: Mapping[str, Any]) -> list[str]:
    """What older versions name, under either of two names."""
    return [str(cfg[name]) for name in ("activation_fn_str", "activation_fn") if cfg.get(name)]


def _kwargs(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    kwargs = cfg.get("activation_fn_kwargs") or {}
    return kwargs if isinstance(kwargs, Mapping) else {"activation_fn_kwargs": kwargs}


def run_config(folder: Path, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's config.json would say.

    Raises:
        UserError: cfg.json has a part of ours that is damaged.
    """
    metadata = cfg["metadata"]
    ours = metadata.get(OURS)
    if isinstance(ours, dict) and isinstance(ours.get("trainer"), dict):
        check_run_config(folder / CFG, ours)
        return {"trainer": dict(ours["trainer"]), "buffer": dict(ours.get("buffer") or {}), "cfg": dict(cfg)}
    hook = metadata.get("hook_name")
    place = None if hook is None else Place.of_hook(str(hook)).output
    layer = None if place is None else place.layer
    trainer = {"lm_name": metadata.get("model_name"), "layer": layer, "hook_name": hook}
    trainer |= {key: metadata[key] for key in ("k",) if metadata.get(key) is not None}
    buffer = {
        "model": metadata.get("model_name"),
        "layer": layer,
        "site": None if place is None else place.site,
        "ctx_len": metadata.get("context_size"),
        "dataset": metadata.get("dataset_path"),
    }
    if isinstance(metadata.get("prepend_bos"), bool):
        buffer |= {"add_bos": metadata["prepend_bos"], "bos": metadata["prepend_bos"]}
    return {
        "trainer": trainer,
        "buffer": {key: value for key, value in buffer.items() if value is not None},
        "cfg": dict(cfg),
    }


def make_cfg(
    dictionary: Dictionary,
    config: Mapping[str, Any],
    *,
    architecture: str,
    training_architecture: str,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of cfg.json for a dictionary.

    Args:
        config: what `load_dictionary` returned with the dictionary.
        fields: those of the architecture, beside the fields that every one has.
    """
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    public = names.public_config({"trainer": trainer, "buffer": buffer})
    ours = {"dict_class": type(dictionary).__name__, **public}
    metadata: dict[str, Any] = {
        "sae_lens_version": FORMAT_VERSION,
        "sae_lens_training_version": None,
        "model_name": names.model_name(trainer),
        "hook_name": names.hook_name(config),
        "hf_hook_name": names.hf_hook_name(config),
        "hook_head_index": None,
        "context_size": names.context_length(config),
        "prepend_bos": names.prepends_bos(config),
        "seqpos_slice": [None],
        "model_from_pretrained_kwargs": {},
        "dataset_path": public["buffer"].get("dataset"),
        "training_architecture": training_architecture,
    }
    if isinstance(dictionary, ThresholdDictionary):
        metadata["k"] = int(dictionary.k)
    if isinstance(dictionary, MatryoshkaBatchTopKSAE):
        metadata["matryoshka_widths"] = group_ends(dictionary.group_sizes.tolist())
    return {
        "d_in": dictionary.activation_dim,
        "d_sae": dictionary.width if isinstance(dictionary, TemporalSAE) else dictionary.dict_size,
        "dtype": "float32",
        "device": "cpu",
        "normalize_activations": "none",
        "reshape_activations": "none",
        **fields,
        "metadata": metadata | {OURS: ours},
        "architecture": architecture,
    }


def make_runner_cfg(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The content of runner_cfg.json: the training under SAELens' names as far as it has any, and ours.

    SAELens writes the options of its runner there and reads nothing back; people look up the training in it.

    Args:
        cfg: the content of cfg.json.
    """
    metadata, ours = cfg["metadata"], cfg["metadata"][OURS]
    trainer, buffer = ours["trainer"], ours["buffer"]
    size, steps = buffer.get("out_batch_size"), trainer.get("steps_done", trainer.get("steps"))
    known = {
        "model_name": metadata["model_name"],
        "hook_name": metadata["hook_name"],
        "hf_hook_name": metadata["hf_hook_name"],
        "dataset_path": metadata["dataset_path"],
        "context_size": metadata["context_size"],
        "prepend_bos": metadata["prepend_bos"],
        "training_tokens": size * steps if size is not None and steps is not None else None,
        "train_batch_size_tokens": size,
        "lr": trainer.get("lr"),
        "lr_warm_up_steps": trainer.get("warmup_steps"),
        "seed": trainer.get("seed"),
        "architecture": cfg["architecture"],
    }
    return {
        **{name: value for name, value in known.items() if value is not None},
        "sae": {name: value for name, value in cfg.items() if name != "metadata"},
        OURS: ours,
    }
