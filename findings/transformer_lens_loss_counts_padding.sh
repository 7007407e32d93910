#!/usr/bin/env bash
# transformer-lens 3.9.0: model(texts, return_type="loss") of texts of unequal length pads the shorter ones. Is the loss the
# mean over the tokens of the texts, as when each text is given alone?
#
# Expected: yes, on whichever side they are padded.
# Seen (2026-11-28): with default_padding_side="left" it is. With "right", the default, no attention mask is made, and the
# predictions of padding are in the mean: of 16 predictions, where the texts below have 11. It is right where an
# attention_mask is given. Nothing warns.
# What follows: pad on the left, or pass attention_mask, before a loss (and a "loss recovered", which is a ratio of
# differences of them) of a batch of texts is reported.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformer-lens==3.9.0 torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.utilities import get_attention_mask
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)
words = Tokenizer(models.WordLevel({word: n for n, word in enumerate("<s> </s> <pad> a b c d e f g h".split())}))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
sizes = {"n_layers": 2, "d_model": 16, "d_head": 8, "n_heads": 2, "n_ctx": 32, "d_vocab": 11, "act_fn": "gelu"}
texts = ["a b c", "a b c d e f g h"]  # 3 and 8 tokens to predict

for side in ({}, {"default_padding_side": "right"}, {"default_padding_side": "left"}):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, name_or_path="tiny", add_bos_token=True, **special)
    torch.manual_seed(0)
    model = HookedTransformer(HookedTransformerConfig(**sizes, initializer_range=0.5), tokenizer=tokenizer, **side)
    with torch.no_grad():
        alone = [float(model(text, return_type="loss")) for text in texts]
        expected = (3 * alone[0] + 8 * alone[1]) / 11
        mask = get_attention_mask(model.tokenizer, model.to_tokens(texts), prepend_bos=True)
        batches = {
            "texts": model(texts, return_type="loss"),
            "texts and mask": model(texts, return_type="loss", attention_mask=mask),
        }
        per_token = model(texts, return_type="loss", loss_per_token=True)
    for given, loss in batches.items():
        told = "of the texts" if abs(float(loss) - expected) < 1e-4 else "another"
        counted = f", {per_token.numel()} predictions" if abs(float(loss - per_token.mean())) < 1e-4 else ""
        print(f"padding side {side.get('default_padding_side', 'by default')}, given {given}: loss {told}{counted}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^padding side")
echo "$said"
[ "$said" = "padding side by default, given texts: loss another, 16 predictions
padding side by default, given texts and mask: loss of the texts
padding side right, given texts: loss another, 16 predictions
padding side right, given texts and mask: loss of the texts
padding side left, given texts: loss of the texts
padding side left, given texts and mask: loss of the texts" ] || {
  echo "this is not what was seen before"
  exit 1
}
