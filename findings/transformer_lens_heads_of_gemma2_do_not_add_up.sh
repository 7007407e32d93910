#!/usr/bin/env bash
# transformer-lens 3.9.0: cache.get_full_resid_decomposition() takes the residual stream apart into every head, every neuron or MLP,
# the embedding and the biases. Do the parts add up to the residual stream, for Llama and for Gemma 2?
#
# Expected: yes; it says that it decomposes the residual stream, and logit attribution by heads rests on that.
# Seen (2026-11-29): for Llama yes. In Gemma 2 a norm follows attention and MLP, and heads and neurons are given as they are before
# it: without its scale (which is not near 1) and without its weight. The sum is off by as much as the residual stream is long
# with heads, by several times that with neurons, in compatibility mode too, and logit_attrs takes such parts. decompose_resid(), by
# whole layers, adds up. Nothing warns.
# What follows: for models with norms behind their blocks (Gemma 2 and 3, OLMo 2) decompose by layers, or scale heads by the norm.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformer-lens==3.9.0 torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import sys

import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedTokenizerFast

torch.set_num_threads(1)
torch.set_grad_enabled(False)
words = Tokenizer(models.WordLevel({word: i for i, word in enumerate("<s> a b c d e f g".split())}, unk_token="<s>"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="<s>", pad_token="<s>")
sizes = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
configs = {
    "Llama": LlamaConfig(**sizes, initializer_range=0.5),
    "Gemma 2": Gemma2Config(**sizes, num_key_value_heads=2, head_dim=8, initializer_range=0.5),
}
for name, config in configs.items():
    torch.manual_seed(0)
    folder = f"{sys.argv[1]}/{name.replace(' ', '')}"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = TransformerBridge.boot_transformers(folder, device="cpu")
    model.enable_compatibility_mode()
    _, cache = model.run_with_cache(torch.randint(0, 8, (3, 6)))
    whole = cache["blocks.1.hook_resid_post"]
    parts = {
        "layers": cache.decompose_resid(layer=-1),
        "heads and MLPs": cache.get_full_resid_decomposition(layer=-1, expand_neurons=False),
        "heads and neurons": cache.get_full_resid_decomposition(layer=-1, expand_neurons=True),
    }
    for kind, stack in parts.items():
        off = ((stack.sum(0) - whole).norm() / whole.norm()).item()
        told = "add up" if off < 1e-3 else "are off by more than half" if off > 0.5 else "are off"
        print(f"parts of {name}, {kind}: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder" 2>"$folder/warnings" | grep "^parts of")
echo "$said"
[ "$said" = "parts of Llama, layers: add up
parts of Llama, heads and MLPs: add up
parts of Llama, heads and neurons: add up
parts of Gemma 2, layers: add up
parts of Gemma 2, heads and MLPs: are off by more than half
parts of Gemma 2, heads and neurons: are off by more than half" ] || {
  echo "this is not what was seen before"
  exit 1
}
