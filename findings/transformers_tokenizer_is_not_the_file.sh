#!/usr/bin/env bash
# transformers 5.23.0: a BPE tokenizer that cuts texts as Llama 3's is trained with tokenizers, saved with save_pretrained,
# and read with AutoTokenizer from beside a model's config.json. Does it give the tokens that the model is trained on?
#
# Expected: yes; tokenizer.json is whole, and tokenizer_config.json names TokenizersBackend, which reads just that.
# Seen (2026-11-29): beside a Llama, a Qwen 3 or a GPT-NeoX, yes. Beside a Qwen 2 or a Qwen 3.5 it becomes the tokenizer of
# that model: it keeps vocabulary and merges, and puts the class's way of cutting in place of the file's. Nothing is said.
# The same beside a Llama where tokenizer_config.json, as in many older repositories, names GPT2Tokenizer, Qwen2Tokenizer
# or GPTNeoXTokenizerFast; for a few kinds of model that were reported (OLMo 2, Granite) the file is read.
# What follows: compare AutoTokenizer's ids with those of tokenizers.Tokenizer.from_file("tokenizer.json");
# PreTrainedTokenizerFast.from_pretrained takes the file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3
cat >"$folder/look.py" <<'PYTHON'
import json
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

text = 'It SHE\'LL say:\n\n\n"(Don\'t) be late," in 2023.\n\n  The end.\n'
split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
tokenizer.train_from_iterator([text] * 9, trainer)
right = tokenizer.encode(text).ids


def read(model_type, tokenizer_class=None):
    with tempfile.TemporaryDirectory() as folder:
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
        (Path(folder) / "config.json").write_text(json.dumps({"model_type": model_type}))
        settings = Path(folder) / "tokenizer_config.json"
        said = json.loads(settings.read_text())
        settings.write_text(json.dumps(said | {"tokenizer_class": tokenizer_class or said["tokenizer_class"]}))
        given = AutoTokenizer.from_pretrained(folder)
        taken = PreTrainedTokenizerFast.from_pretrained(folder)
    assert taken(text)["input_ids"] == right
    ids = given(text)["input_ids"]
    told = "the file's" if ids == right else f"{len(ids)} others"
    print(f"tokens beside {model_type}, {tokenizer_class or 'as saved'}: {told} ({type(given).__name__})")


print(f"tokens of the file: {len(right)}")
for model_type in ("llama", "qwen3", "gpt_neox", "qwen2", "qwen3_5"):
    read(model_type)
for tokenizer_class in ("GPT2Tokenizer", "Qwen2Tokenizer", "GPTNeoXTokenizerFast"):
    read("llama", tokenizer_class)
read("olmo2", "GPT2Tokenizer")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^tokens")
echo "$said"
[ "$said" = "tokens of the file: 21
tokens beside llama, as saved: the file's (TokenizersBackend)
tokens beside qwen3, as saved: the file's (TokenizersBackend)
tokens beside gpt_neox, as saved: the file's (TokenizersBackend)
tokens beside qwen2, as saved: 23 others (Qwen2Tokenizer)
tokens beside qwen3_5, as saved: 23 others (Qwen3_5Tokenizer)
tokens beside llama, GPT2Tokenizer: 27 others (GPT2Tokenizer)
tokens beside llama, Qwen2Tokenizer: 23 others (Qwen2Tokenizer)
tokens beside llama, GPTNeoXTokenizerFast: 27 others (GPTNeoXTokenizer)
tokens beside olmo2, GPT2Tokenizer: the file's (TokenizersBackend)" ] || {
  echo "this is not what was seen before"
  exit 1
}
