"""The page of a dictionary on the Hugging Face hub, written from its run: nothing in it is typed by hand."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.exchange import names
from dictionary_learning.language_model.places import Place

# what the training of a dictionary decided, in the order of the page
_SETTINGS = (
    ("k", "latents kept a token (k)"),
    ("kval_topk", "novel latents kept a token (k)"),
    ("sae_diff_type", "selection of the novel codes"),
    ("group_sizes", "latents of the groups"),
    ("contrastive", "contrastive loss"),
    ("temp_alpha", "strength of the temporal term"),
    ("temperature", "temperature of the contrastive loss"),
    ("form", "form of the loss"),
    ("l1_penalty", "L1 penalty"),
    ("sparsity_penalty", "sparsity penalty"),
    ("n_heads", "attention heads"),
    ("n_attn_layers", "attention layers"),
    ("bottleneck_factor", "bottleneck of the attention"),
    ("value_rank", "rank of the attention's values"),
    ("steps_done", "steps"),
    ("lr", "learning rate"),
    ("seed", "seed"),
    ("threshold", "inference threshold"),
    ("norm_factor", "scale of training, folded into the weights"),
    ("scaling_factor", "scale of the activations, in the weights' file"),
)
_METHODS = {
    "TemporalMatryoshkaBatchTopKSAE": (
        "T-SAE, a Temporal SAE",
        "a Matryoshka BatchTopK SAE whose first group of latents is held steady from token to token by a "
        "contrastive loss (Bhalla et al., [arXiv 2511.05541](https://arxiv.org/abs/2511.05541))",
    ),
    "MatryoshkaBatchTopKSAE": (
        "Matryoshka BatchTopK SAE",
        "groups of latents that reconstruct one after another (Bussmann et al., "
        "[arXiv 2503.17547](https://arxiv.org/abs/2503.17547))",
    ),
    "BatchTopKSAE": (
        "BatchTopK SAE",
        "the largest latents of a batch are kept (Bussmann et al., "
        "[arXiv 2412.06410](https://arxiv.org/abs/2412.06410))",
    ),
    "AutoEncoderTopK": (
        "TopK SAE",
        "the largest latents of each token are kept (Gao et al., "
        "[arXiv 2406.04093](https://arxiv.org/abs/2406.04093))",
    ),
    "AutoEncoder": ("ReLU SAE", "a sparse autoencoder with an L1 penalty"),
    "AutoEncoderNew": ("ReLU SAE", "a sparse autoencoder with an L1 penalty and a free decoder norm"),
    "GatedAutoEncoder": (
        "Gated SAE",
        "one path says whether a latent fires, the other how much "
        "([arXiv 2404.16014](https://arxiv.org/abs/2404.16014))",
    ),
    "JumpReluAutoEncoder": (
        "JumpReLU SAE",
        "a threshold a latent ([arXiv 2407.14435](https://arxiv.org/abs/2407.14435))",
    ),
    "TemporalSAE": (
        "TemporalSAE",
        "codes that the context predicts and codes of what is novel, Temporal Feature Analysis "
        "([arXiv 2511.01836](https://arxiv.org/abs/2511.01836))",
    ),
}


def model_card(
    name: str,
    dictionary: Dictionary,
    config: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    *,
    licence: str,
    is_saelens: bool = False,
    revision: str | None = None,
) -> str:
    """The README.md of a repository on the hub.

    Args:
        name: what `load_dictionary` takes, `user/repository` with the folder in it.
        config: what `load_dictionary` returned with the dictionary.
        results: the content of eval_results.json.
        is_saelens: the folder is SAELens', which its own loader reads, too.
    """
    trainer, buffer = config["trainer"], config.get("buffer") or {}
    title, method = _METHODS[type(dictionary).__name__]
    model, read = names.model_name(trainer), Place.of_run(config)
    place = str(model or "a language model")
    if model and read is not None and read.layer is not None:
        place = f"{read} of {model}"
    sections = [
        _front_matter(model, licence, is_saelens),
        f"# {title} for {place}",
        f"{method[0].upper()}{method[1:]}.",
        "## The dictionary\n\n" + _bullets(_sizes(dictionary, read)),
        "## The training\n\n" + _bullets(_training(trainer, buffer, model)),
        "## Figures\n\n" + _figures(name, results),
        "## How to load it\n\n" + _loading(name, dictionary, is_saelens, revision),
        f"## Licence\n\nThe weights: {licence}. The language model and the texts have licences of their own.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(model: str | None, licence: str, is_saelens: bool) -> str:
    """What the hub reads; its button shows how the library that is named there loads the folder."""
    from huggingface_hub import ModelCardData

    tags = ["sparse-autoencoder", "sae", "temporal-sae", "interpretability"]
    # a model's name on the hub is user/name; of a folder the hub knows nothing
    base = model if model and model.count("/") == 1 else None
    tags += ["saelens"] if is_saelens else []
    library = "saelens" if is_saelens else "temporal-saes"
    data = ModelCardData(license=licence, base_model=base, tags=tags, library_name=library)
    return f"---\n{data.to_yaml()}\n---"


def _sizes(dictionary: Dictionary, place: Place | None) -> list[str]:
    lines = [f"{dictionary.dict_size:,} latents over activations of width {dictionary.activation_dim:,}"]
    if isinstance(dictionary, TemporalSAE):
        lines[0] += f": {dictionary.width:,} atoms, each in a predicted and in a novel role"
    if place is not None and place.hook_name:
        lines.append(f"reads {place.description}, `{place.hook_name}` in TransformerLens' words")
    shapes = ", ".join(f"`{name}` {list(tensor.shape)}" for name, tensor in dictionary.named_parameters())
    lines.append(f"parameters here: {shapes}")
    for part, latents in dictionary.splits().items():
        lines.append(f"{part}: latents {latents.start:,} to {latents.stop - 1:,}")
    lines.append("works on raw activations: no scaling by the caller")
    return lines


def _training(trainer: Mapping[str, Any], buffer: Mapping[str, Any], model: str | None) -> list[str]:
    lines = []
    if buffer.get("dataset"):
        where = {"subset": buffer.get("subset"), "split": buffer.get("split")}
        said = ", ".join(f"{key} {value}" for key, value in where.items() if value)
        lines.append(f"texts: `{names.public_name(buffer['dataset'])}`" + (f" ({said})" if said else ""))
    length = names.context_length({"trainer": trainer, "buffer": buffer})
    if length:
        lines.append(f"contexts of {length:,} tokens")
    if buffer.get("max_tokens"):
        lines.append(f"at most {buffer['max_tokens']:,} tokens of text")
    if trainer.get("steps_done") and buffer.get("out_batch_size"):
        lines.append(f"{n_of(trainer['steps_done'], 'batch')} of {buffer['out_batch_size']:,}")
    if buffer.get("lm_dtype"):
        lines.append(f"{model} in {buffer['lm_dtype']}")
    for key, label in _SETTINGS:
        value = trainer.get(key)
        if value is not None and not isinstance(value, dict):
            lines.append(f"{label}: {_shown(value)}")
    return lines or ["not recorded"]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figures(name: str, results: Mapping[str, Any] | None) -> str:
    if not results or not isinstance(results.get("measures"), Mapping):
        return "This dictionary has not been evaluated (no eval_results.json)."
    from dictionary_learning.evaluation.report import table

    setting = results.get("setting") or {}
    said = f"{n_of(results['tokens'], 'held-out token')} in {n_of(results['contexts'], 'context')}"
    if setting.get("dataset"):
        said += f" of `{setting['dataset']}`"
    return (
        f"On {said}; {results.get('masks', 'text tokens')}. Formulas and all digits are in "
        f"`eval_results.json`.\n\n```\n{table({name.split('/')[-1]: results})}\n```"
    )


def _loading(name: str, dictionary: Dictionary, is_saelens: bool, revision: str | None) -> str:
    argument = f', revision="{revision}"' if revision else ""
    shape = "[texts, tokens, {0}]" if dictionary.reads_sequences else "[..., {0}]"
    lines = [
        "```python",
        "from dictionary_learning.utils import load_dictionary",
        "",
        f'dictionary, config = load_dictionary("{name}"{argument})',
        f"f = dictionary.encode(x)  # raw activations {shape.format(dictionary.activation_dim)}",
        "x_hat = dictionary.decode(f)",
        "```",
    ]
    if is_saelens:
        repository, _, inside = name.partition("/")[2].partition("/")
        repo = f"{name.split('/')[0]}/{repository}"
        lines += [
            "",
            "In SAELens:",
            "",
            "```python",
            "from sae_lens import SAE",
            "",
            f'sae = SAE.from_pretrained("{repo}", "{inside or "."}")',
            "```",
        ]
    return "\n".join(lines)


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
