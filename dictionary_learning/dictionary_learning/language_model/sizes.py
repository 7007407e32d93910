"""How large a language model is and what its modules are called, from its config alone: no weight is read."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from dictionary_learning.errors import UserError

if TYPE_CHECKING:
    import torch

    from dictionary_learning.language_model.text_codes import Encoder


class ModelSizes(NamedTuple):
    """What the cost of a language model's passes depends on."""

    n_layers: int
    d_model: int
    layer_parameters: float  # of all decoder layers together
    vocab_size: int


def read_sizes(name: str) -> ModelSizes:
    """The sizes of the model of that name: the hub's, a folder's, or the demo's.

    Raises:
        UserError: its config cannot be read.
    """
    from dictionary_learning.language_model.decoder_layers import find_decoder_layers

    model = _without_weights(name)
    text = model.config.get_text_config(decoder=True)
    layers = find_decoder_layers(model)[1]
    n_parameters = sum(weight.numel() for weight in layers.parameters())
    return ModelSizes(len(layers), text.hidden_size, n_parameters, text.vocab_size)


def check_width(dictionary: "Encoder", name: str) -> None:
    """Raise a UserError unless the dictionary is as wide as the model of that name, as its config says."""
    from dictionary_learning.language_model import text_codes

    text_codes.check_width(dictionary, SimpleNamespace(name=name, d_model=read_sizes(name).d_model))


def layer_path(name: str, layer: int) -> str:
    """The path of a decoder layer in the model without its head (`base_model`), such as "layers.12".

    Raises:
        UserError: its config cannot be read, or it has no such layer.
    """
    from dictionary_learning.language_model.decoder_layers import find_decoder_layers
    from dictionary_learning.language_model.source import check_layer

    model = _without_weights(name)
    layers = find_decoder_layers(model)[1]
    check_layer(name, layer, len(layers))
    return next(path for path, module in model.base_model.named_modules() if module is layers[layer])


def module_path(name: str, layer: int) -> str:
    """The path of a decoder layer in the model as transformers names it, such as "model.layers.12".

    Raises:
        UserError: as `layer_path`.
    """
    from dictionary_learning.language_model.decoder_layers import find_decoder_layers
    from dictionary_learning.language_model.source import check_layer

    model = _without_weights(name)
    path, layers = find_decoder_layers(model)
    check_layer(name, layer, len(layers))
    return f"{path}.{layer}"


def check_fits(name: str, dtype: str, device: "torch.device") -> None:
    """Raise a UserError if the weights of the model are larger than the memory that is free on the device."""
    from dictionary_learning.command.memory import available_memory, format_bytes
    from dictionary_learning.language_model.model import DTYPES

    n_bytes = sum(weight.numel() for weight in _without_weights(name).parameters()) * DTYPES[dtype].itemsize
    free = available_memory(device)
    if n_bytes > free:
        raise UserError(
            f"the language model {name} has {format_bytes(n_bytes)} of weights in {dtype}, and "
            f"{format_bytes(free)} of memory are free on {device}: choose a smaller model, a shorter "
            "--lm_dtype or another --device."
        )


def _without_weights(name: str) -> Any:
    """The model of that name with weights of no content.

    Raises:
        UserError: its config cannot be read.
    """
    import torch

    from dictionary_learning.language_model.source import locate, told_in_a_sentence

    source, options = locate(name)

    from transformers import AutoConfig, AutoModelForCausalLM

    with told_in_a_sentence(name, "its config"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)


def given_sizes(numbers: list[float]) -> ModelSizes:
    """The sizes that were typed: layers, width, parameters of the layers, vocabulary.

    Raises:
        UserError: they are no sizes of a model.
    """
    if not all(0 < number < 1e18 for number in numbers):
        told = " ".join(f"{number:g}" for number in numbers)
        raise UserError(f"--model_sizes is {told}, and must be four positive numbers.")
    n_layers, d_model, n_parameters, vocab_size = numbers
    return ModelSizes(int(n_layers), int(d_model), n_parameters, int(vocab_size))


def random_llama(width: int, n_layers: int, dtype: "torch.dtype") -> Any:
    """A Llama of random weights without a head, whose time is that of a usual model; width in 64s."""
    from transformers import LlamaConfig, LlamaModel

    heads = width // 64
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=8,
        use_cache=False,
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=1,
    )
    return LlamaModel(config).eval().to(dtype)
