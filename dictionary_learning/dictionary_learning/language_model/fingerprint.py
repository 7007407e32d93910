"""Fingerprints: which weights and which tokenizer made some activations, whatever name they go by."""

import hashlib
import json

import torch

from dictionary_learning.language_model.model import LanguageModel
from dictionary_learning.language_model.tokens import token_ids

# Where tokenizers differ although their vocabularies do not: numbers, white space, case, other scripts.
_PROBE = (
    "It's 2024:  Ünïcode, naïve\tTABS\r\nand camelCase_words — 3.14159 👍🏽 北京 Straße ﬁn don't\n\n end "
)


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
    later = tuple(f"{lm.layers_path}.{number}." for number in range(layer + 1, lm.n_layers))
    head = lm.model.get_output_embeddings()
    tied = lm.model.get_input_embeddings().weight
    left_out = {id(weight) for weight in head.parameters()} - {id(tied)} if head is not None else set()
    digest = hashlib.sha256()
    for name, weight in sorted(lm.model.named_parameters()):
        if not name.startswith(later) and id(weight) not in left_out:
            digest.update(f"{weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def tokenizer_fingerprint(lm: LanguageModel) -> str:
    """A SHA-256 of what a tokenizer does: its vocabulary, its special tokens, and how it cuts a text."""
    content = [
        sorted(lm.tokenizer.get_vocab().items()),
        sorted(lm.special_ids),
        lm.bos_id,
        token_ids(lm.tokenizer, [_PROBE]),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
