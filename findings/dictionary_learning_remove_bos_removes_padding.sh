#!/usr/bin/env bash
# dictionary_learning 0.1.0 with nnsight 0.3.7: ActivationBuffer(remove_bos=True) leaves out the first token of each text, whose
# activation is like no other's. How many of them are left in the buffer?
#
# Expected: none.
# Seen (2026-11-28): all but those of the longest texts of each batch. nnsight pads on the left, whatever side the tokenizer
# was saved with, and remove_bos cuts the first column, which is padding in every shorter text: of 16 texts of 2 to 17 tokens
# 15 keep theirs, 11 % of the buffer. Nothing warns.
# What follows: give the buffer texts that are all at least ctx_len tokens long, or set model.tokenizer.padding_side to
# "right", with which none is left.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet dictionary_learning==0.1.0 nnsight==0.3.7 torch==2.13.0 \
  transformers==5.23.0 numpy==2.4.6
# not needed, and of no use where torch is of another build than PyPI's
"$folder/venv/bin/python" -m pip uninstall --quiet --yes torchvision
cat >"$folder/look.py" <<'PYTHON'
import sys
from itertools import cycle

import torch
from dictionary_learning.buffer import ActivationBuffer
from nnsight import LanguageModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

torch.set_num_threads(1)
torch.manual_seed(0)
folder, width, bos = sys.argv[1], 8, 0
words = Tokenizer(models.WordLevel({"<s>": bos, "</s>": 1, "a": 2}, unk_token="</s>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "padding_side": "right"}
PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
sizes = {"n_layer": 1, "n_embd": width, "n_head": 2, "vocab_size": 3, "n_positions": 64}
GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=bos, eos_token_id=1)).save_pretrained(folder)
texts = ["a " * n for n in range(1, 17)]

for side in ("as it is", "right"):
    model = LanguageModel(folder, device_map="cpu", dispatch=True)
    if side != "as it is":
        model.tokenizer.padding_side = side
    embedding = model.transformer.wte  # whose activations tell the tokens apart
    buffer = ActivationBuffer(
        cycle(texts),
        model,
        embedding,
        d_submodule=width,
        ctx_len=34,
        n_ctxs=4,  # 136 tokens, which the 16 texts have
        refresh_batch_size=len(texts),
        out_batch_size=8,
        remove_bos=True,
    )
    next(buffer)
    of_bos = embedding._module.weight[bos]
    n_bos = sum(torch.allclose(row, of_bos) for row in buffer.activations)
    print(f"padding_side {side}, {model.tokenizer.padding_side}: {n_bos} of {len(buffer.activations)} are of BOS")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder/model" 2>"$folder/warnings" | grep "are of BOS")
echo "$said"
[ "$said" = "padding_side as it is, left: 15 of 136 are of BOS
padding_side right, right: 0 of 136 are of BOS" ] || {
  echo "this is not what was seen before"
  exit 1
}
