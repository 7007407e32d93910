"""Fingerprints: which weights and which tokenizer made some activations, whatever name they go by."""

import hashlib
import json
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dictionary_learning.language_model.model import LanguageModel
from dictionary_learning.language_model.tokens import PROBE, token_ids


def fingerprints(lm: LanguageModel, layer: int) -> dict[str, str]:
    """Both, under the names by which caches and runs keep them."""
    return {
        "tokenizer_sha256": tokenizer_fingerprint(lm),
        "weights_sha256": weights_fingerprint(lm, layer),
    }


def weights_fingerprint(lm: LanguageModel, layer: int) -> str:
    """A SHA-256 of all weights that the output of a layer depends on, in the dtype they are loaded in.

    Later layers and the LM head are not among them, so it is the same for a truncated model.
    """
    digest = hashlib.sha256()
    for weight in _weights_up_to(lm, layer):
        digest.update(f"{weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remembered_fingerprint(lm: LanguageModel, layer: int) -> str:
    """The `weights_fingerprint`, taken anew only when the model's weights have changed since."""
    known = _REMEMBERED.setdefault(lm, {})
    state = [_state(weight) for weight in _weights_up_to(lm, layer)]
    if layer not in known or known[layer][0] != state:
        known[layer] = state, weights_fingerprint(lm, layer)
    return known[layer][1]


_State = tuple[int, int, int]
_REMEMBERED: WeakKeyDictionary[LanguageModel, dict[int, tuple[list[_State], str]]] = WeakKeyDictionary()
_INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def _state(weight: Tensor) -> _State:
    """What changes with a weight, and is found where the weight is, a hundred times as fast as a hash.

    The counter of changes misses those through `weight.data`; the sum of the bits sees them.
    """
    version = 0 if weight.is_inference() else weight._version
    flat = weight.detach().reshape(-1)
    # the largest numbers as which its bits can be read: those of two bytes take ten times as long
    edges = [n * flat.element_size() for n in (flat.storage_offset(), flat.numel())]
    size = next(size for size in _INTEGERS if not any(edge % size for edge in edges))
    bits = flat.view(_INTEGERS[size])
    return version, weight.data_ptr(), int(bits.sum(dtype=torch.int64))


def _weights_up_to(lm: LanguageModel, layer: int) -> Iterator[Tensor]:
    """The weights that the output of a layer depends on, by name."""
    later = tuple(f"{lm.layers_path}.{number}." for number in range(layer + 1, lm.n_layers))
    head = lm.model.get_output_embeddings()
    tied = lm.model.get_input_embeddings().weight
    left_out = {id(weight) for weight in head.parameters()} - {id(tied)} if head is not None else set()
    for name, weight in sorted(lm.model.named_parameters()):
        if not name.startswith(later) and id(weight) not in left_out:
            yield weight


def tokenizer_fingerprint(lm: LanguageModel) -> str:
    """A SHA-256 of what a tokenizer does: its vocabulary, its special tokens, and how it cuts a text."""
    content = [
        sorted(lm.tokenizer.get_vocab().items()),
        sorted(lm.special_ids),
        lm.bos_id,
        token_ids(lm.tokenizer, [PROBE]),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
