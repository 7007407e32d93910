"""The config.json of a trainer's folder: ours, the library's, and whatever somebody made of it."""

from pathlib import Path
from typing import Any

from dictionary_learning.command.fields import FLAG, SHARE, TEXT, above, check_fields, whole
from dictionary_learning.command.files import read_json
from dictionary_learning.errors import UserError

# What a loader, an evaluation or an experiment takes from it. Options of the training alone are not here:
# their own reader checks them.
TRAINER = {
    **dict.fromkeys(("activation_dim", "dict_size", "width", "n_heads", "n_attn_layers"), whole(1)),
    **dict.fromkeys(("bottleneck_factor", "value_rank", "kval_topk"), whole(1)),
    **dict.fromkeys(("layer", "k", "steps_done"), whole()),
    **dict.fromkeys(("dict_class", "trainer_class", "lm_name", "submodule_name", "hook_name"), TEXT),
    "sae_diff_type": TEXT,
    **dict.fromkeys(("tied_weights", "apply_b_dec_to_input"), FLAG),
    "norm_factor": above(0),
}
BUFFER = {
    **dict.fromkeys(("context_length", "ctx_len", "document_tokens", "max_tokens"), whole(1)),
    **dict.fromkeys(("layer",), whole()),
    **dict.fromkeys(("model", "lm_dtype", "dataset", "subset", "split", "text_field", "io", "site"), TEXT),
    **dict.fromkeys(("add_bos", "bos", "drop_special", "chat_template"), FLAG),
    "max_norm_ratio": above(1),
    "eval_share": SHARE,
}


EXPECTED = 'JSON with a "trainer" in it'


def read_run_config(path: Path) -> dict[str, Any]:
    """The content of a config.json, `{"trainer": {...}, "buffer": {...}}`, the second where it is there.

    Raises:
        UserError: it is missing or damaged, or a value is of another kind than its name says.
    """
    config = read_json(path, EXPECTED)
    check_run_config(path, config)
    return config


def check_run_config(path: Path, config: Any) -> None:
    """Refuse what is no config of a run, or has a value of another kind than its name says.

    Args:
        path: where it was read, for the message.

    Raises:
        UserError: names the file, the field and the value.
    """
    parts = (config.get("trainer"), config.get("buffer") or {}) if isinstance(config, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path} is damaged or of another kind: {EXPECTED} was expected.")
    check_fields(path, config["trainer"], TRAINER)
    check_fields(path, config.get("buffer") or {}, BUFFER)
