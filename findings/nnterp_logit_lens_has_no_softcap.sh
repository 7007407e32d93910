#!/usr/bin/env bash
# nnterp 1.3.0 with nnsight 0.6.3 and transformers 5.23.0: project_on_vocab applies the final norm and the LM head to hidden
# states, and logit_lens gives the probabilities of the next token after each layer so. Are those after the last layer the
# model's own?
#
# Expected: yes; at the last layer the lens is the model.
# Seen (2026-11-29): of a Llama, yes. Gemma 2 also caps its logits (final_logit_softcapping, 30), which both leave out: of a tiny
# Gemma 2 with large logits the most probable token has 1.00 where the model gives .86. The order of tokens is the same.
# What follows: for Gemma 2 put cap * tanh(logits / cap) between project_on_vocab and the softmax.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nnterp==1.3.0 nnsight==0.6.3 transformers==5.23.0 torch==2.13.0 \
  tokenizers==0.23.3 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import tempfile

import torch
from nnterp import StandardizedTransformer
from nnterp.interventions import logit_lens
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = ["<pad>", "<eos>", "the", "Senate", "met", *(f"w{i}" for i in range(95))]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<eos>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
sizes = {
    "vocab_size": len(words),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": False,
}


def look(kind, model):
    with torch.no_grad():
        model.lm_head.weight.copy_(3 * torch.randn(model.lm_head.weight.shape))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        lens = StandardizedTransformer(folder, device_map="cpu", dtype=torch.float32)
        lens_probabilities = logit_lens(lens, ["the Senate met"])[0, -1]
    with torch.no_grad():
        logits = model(**tokenizer("the Senate met", return_tensors="pt")).logits[0, -1]
    order = "the same" if torch.equal(logits.argsort(), lens_probabilities.argsort()) else "another"
    model_says, lens_says = float(logits.softmax(-1).max()), float(lens_probabilities.max())
    print(f"most probable token of {kind}: {model_says:.2f} of the model, {lens_says:.2f} of the lens; {order} order")


torch.manual_seed(0)
look("Llama", LlamaForCausalLM(LlamaConfig(**sizes)).eval())
torch.manual_seed(0)
look("Gemma 2", Gemma2ForCausalLM(Gemma2Config(**sizes, query_pre_attn_scalar=8)).eval())
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^most")
echo "$said"
[ "$said" = "most probable token of Llama: 0.98 of the model, 0.98 of the lens; the same order
most probable token of Gemma 2: 0.86 of the model, 1.00 of the lens; the same order" ] || {
  echo "this is not what was seen before"
  exit 1
}
