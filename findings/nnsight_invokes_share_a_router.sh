#!/usr/bin/env bash
# nnsight 0.8.1 with transformers 5.23.0: model.trace() with two invokes runs two texts as one batch, and each invoke reads and
# changes its own text. In a mixture of experts (Mixtral): what does one invoke see of the router, and whom does it change?
#
# Expected: the first text's tokens, and the first text only.
# Seen (2026-11-29): the tokens of both texts, as the router is given (texts x tokens) rows and an invoke's part is cut only from
# what has one row a text. Moving the first invoke's tokens to other experts moves the second's, whose logits change. At the
# whole block, which keeps the shape (texts, tokens, width), both are as expected. Nothing warns.
# What follows: to read or change routers, or anything inside a mixture of experts, one text (or one intervention) a trace.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nnsight==0.8.1 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from nnsight import LanguageModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)
torch.manual_seed(0)
words = Tokenizer(models.WordLevel({word: i for i, word in enumerate("<pad> a b c d e f g".split())}, unk_token="<pad>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")
sizes = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_local_experts": 4}
config = MixtralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, initializer_range=0.5)
model = LanguageModel(MixtralForCausalLM(config).eval(), tokenizer=tokenizer)
block = model.model.layers[0].mlp

with model.trace() as tracer:
    with tracer.invoke("a b c d"):
        routed = block.gate.input.save()
        whole = block.output.save()
    with tracer.invoke("e f g a"):
        second = model.lm_head.output.save()

with model.trace() as tracer:
    with tracer.invoke("a b c d"):
        block.gate.input[:] = -block.gate.input
    with tracer.invoke("e f g a"):
        second_beside_router = model.lm_head.output.save()

with model.trace() as tracer:
    with tracer.invoke("a b c d"):
        block.output[:] = -block.output
    with tracer.invoke("e f g a"):
        second_beside_block = model.lm_head.output.save()

print(f"tokens of an invoke of 4: router {routed.shape[0]}, block {whole.shape[:2].numel()}")
for place, logits in (("router", second_beside_router), ("block", second_beside_block)):
    changed = not torch.allclose(logits, second, atol=1e-5)
    print(f"logits of the second text, the first one's {place} changed: {'others' if changed else 'the same'}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep -E "^(tokens|logits) of")
echo "$said"
[ "$said" = "tokens of an invoke of 4: router 8, block 4
logits of the second text, the first one's router changed: others
logits of the second text, the first one's block changed: the same" ] || {
  echo "this is not what was seen before"
  exit 1
}
