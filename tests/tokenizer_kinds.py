"""Tokenizers of the kinds that are about, real ones of 512 tokens, and a tiny random model for them.

byte_level     every byte a letter (GPT-2, Pythia, SmolLM2); nothing is added
bos_zero       the same with a BOS of id 0 in front
dummy_prefix   Llama-2's: a blank `▁` in front of every text, bytes where a character is not known, a BOS
prepend        the same written as a normaliser, as in older files
appends_eos    the same with an EOS behind every text
bare_pieces    the same without BOS

And one that does not keep the text, so that it is none of `KINDS`:

word_pieces    BERT's, as many Chinese models have it: small letters, no spaces, [CLS] and [SEP] around a text
"""

import json
from functools import cache
from typing import Any

import torch
from conftest import corpus_records, make_tokenizer

from dictionary_learning.language_model import LanguageModel

KINDS = ("byte_level", "bos_zero", "dummy_prefix", "prepend", "appends_eos", "bare_pieces")
# characters that no token of ours holds whole
FOREIGN = (
    "北京東京的古橋",
    "the 🌍 and 🧑‍🚀 met 👍🏽 twice",
    "Äpfel, Öl und Überfluß",
    "a dash — another – and “quotes”",
)


@cache
def _texts() -> tuple[str, ...]:
    return tuple(record["text"] for record in corpus_records())


@cache
def _pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges as SentencePiece learns them: specials, bytes, then pieces, in that order."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _word_pieces() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=512, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*_texts(), *FOREIGN], trainer)
    frame = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tokenizer_of(kind: str) -> Any:
    from tokenizers import normalizers, processors
    from transformers import LlamaTokenizer

    if kind in ("byte_level", "bos_zero"):
        eos = "<|endoftext|>" if kind == "byte_level" else "<|im_end|>"
        bos = {"bos_token": "<|endoftext|>"} if kind == "bos_zero" else {}
        made = make_tokenizer(list(_texts()), eos_token=eos, pad_token="<|pad|>", **bos)
        if kind == "bos_zero":
            made.backend_tokenizer.post_processor = processors.TemplateProcessing(
                single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
            )
        return made
    if kind == "word_pieces":
        return _word_pieces()
    vocabulary, merges = _pieces()
    made = LlamaTokenizer(
        vocab=vocabulary,
        merges=merges,
        add_bos_token=kind != "bare_pieces",
        add_eos_token=kind == "appends_eos",
    )
    if kind == "prepend":
        made.backend_tokenizer.pre_tokenizer = None
        made.backend_tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    return made


def tiny_lm(kind: str) -> LanguageModel:
    """A random Llama of four layers, which writes any token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(kind)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    return LanguageModel.wrap(LlamaForCausalLM(config), tokenizer, name=kind)
