#!/usr/bin/env bash
# transformers 5.23.0: Trainer.evaluate() gives "eval_loss" of a language model, of which the perplexity is taken. Is it the loss the
# model itself gives for the same batch, and does it depend on the batch size?
#
# Expected: the mean over the predicted tokens, which is the model's own loss where all texts are one batch.
# Seen (2026-11-29): for Llama it is, in one batch. For GPT-2 it is smaller: the sum is divided by the number of labels with the first
# token of each text, which nothing predicts (texts of 3 tokens have two thirds of their loss). Trainer leaves those out only for
# models whose "loss_type" is found from their class's name, which "...LMHeadModel" is not; training steps are scaled the same way.
# With one text a batch either model's loss is the mean over texts instead of tokens. Nothing warns.
# What follows: compute losses that are to be compared (of model and spliced model, or of GPT-2 and Llama) by hand, summed over
# tokens; model.loss_type = "ForCausalLM" before Trainer repairs the first part.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 torch==2.13.0 accelerate==1.15.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import math
import sys

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Trainer, TrainingArguments, default_data_collator

torch.set_num_threads(1)
LONG, SHORT = 30, 3
sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 1.0}
models = {"GPT-2": GPT2Config(**sizes), "GPT-2, told": GPT2Config(**sizes), "Llama": LlamaConfig(**sizes, intermediate_size=16)}
torch.manual_seed(0)
texts = {"short": [], "short and long": []}
for number in range(16):
    for kind, lengths in (("short", [SHORT]), ("short and long", [SHORT, LONG])):
        length = lengths[number % len(lengths)]
        ids = torch.randint(1, 20, (length,)) if length == LONG else torch.ones(length, dtype=torch.long)
        empty = torch.zeros(LONG - length, dtype=torch.long)
        texts[kind].append(
            {
                "input_ids": torch.cat([ids, empty]),
                "attention_mask": torch.cat([torch.ones_like(ids), empty]),
                "labels": torch.cat([ids, empty - 100]),
            }
        )

for name, config in models.items():
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    if name == "GPT-2, told":
        model.loss_type = "ForCausalLM"
    for kind, rows in texts.items():
        with torch.no_grad():
            own = model(**default_data_collator(rows)).loss.item()
        told = []
        for size in (16, 2, 1):
            options = TrainingArguments(sys.argv[1], per_device_eval_batch_size=size, report_to=[], use_cpu=True)
            loss = Trainer(model, options, eval_dataset=rows).evaluate()["eval_loss"]
            told.append("the model's own" if math.isclose(loss, own, rel_tol=1e-3) else f"{loss / own:.2f} of it")
        print(f"eval_loss of {name}, {kind} texts, by 16, 2 and 1: {'; '.join(told)}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder/out" 2>"$folder/warnings" | grep "^eval_loss of")
echo "$said"
[ "$said" = "eval_loss of GPT-2, short texts, by 16, 2 and 1: 0.67 of it; 0.67 of it; 0.67 of it
eval_loss of GPT-2, short and long texts, by 16, 2 and 1: 0.94 of it; 0.94 of it; 0.71 of it
eval_loss of GPT-2, told, short texts, by 16, 2 and 1: the model's own; the model's own; the model's own
eval_loss of GPT-2, told, short and long texts, by 16, 2 and 1: the model's own; the model's own; 0.84 of it
eval_loss of Llama, short texts, by 16, 2 and 1: the model's own; the model's own; the model's own
eval_loss of Llama, short and long texts, by 16, 2 and 1: the model's own; the model's own; 0.84 of it" ] || {
  echo "this is not what was seen before"
  exit 1
}
