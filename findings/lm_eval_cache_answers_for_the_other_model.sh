#!/usr/bin/env bash
# lm-eval 0.4.13: simple_evaluate(use_cache=PATH), --use_cache of the command, "a path to a sqlite db file for caching model
# responses". A model and then the same model steered (a hook, or another checkpoint) are evaluated with the same path. Whose
# accuracy is the second one?
#
# Expected: the second model's, as without a cache.
# Seen (2026-11-29): the first model's, question by question: an answer is kept under its request alone, with nothing of the
# model, its revision, its dtype or its hooks. Nothing warns; the table names the second model.
# What follows: a path of its own for each model and each steering, or no cache: "steering changes nothing" may be the cache.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet lm-eval==0.4.13 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 \
  datasets==5.2.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
words = Tokenizer(models.WordLevel({word: i for i, word in enumerate("<s> a b c yes no".split())}, unk_token="<s>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<s>", pad_token="<s>")
torch.manual_seed(0)
config = LlamaConfig(vocab_size=6, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
model = LlamaForCausalLM(config)

tasks = folder / "tasks"
tasks.mkdir()
asked = [" ".join(three) for three in ("abc", "acb", "bac", "bca", "cab", "cba")]
(folder / "asked.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in asked))
task = {
    "task": "says_yes",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(folder / "asked.jsonl")}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc"}],
}
(tasks / "says_yes.yaml").write_text(json.dumps(task))  # JSON is YAML
manager = TaskManager(include_path=str(tasks), include_defaults=False)


def steer(toward):
    """The logits of "yes" and "no" moved by 100 each way."""
    return model.lm_head.register_forward_hook(lambda module, x, logits: logits + 100 * toward)


def accuracy(cache):
    evaluated = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu")
    found = simple_evaluate(evaluated, tasks=["says_yes"], task_manager=manager, use_cache=cache, bootstrap_iters=0)
    return found["results"]["says_yes"]["acc,none"]


for cache in (None, str(folder / "answers")):
    for name, toward in (("to yes", [0, 0, 0, 0, 1, -1]), ("to no", [0, 0, 0, 0, -1, 1])):
        hook = steer(torch.tensor(toward))
        print(f"{'one cache' if cache else 'no cache'}: says yes when steered {name} {accuracy(cache):.2f}")
        hook.remove()
PYTHON
said=$(HF_HUB_OFFLINE=1 HF_HOME="$folder/hub" "$folder/venv/bin/python" "$folder/look.py" "$folder" 2>"$folder/warnings" |
  grep "says yes" || tail -5 "$folder/warnings")
echo "$said"
[ "$said" = "no cache: says yes when steered to yes 1.00
no cache: says yes when steered to no 0.00
one cache: says yes when steered to yes 1.00
one cache: says yes when steered to no 1.00" ] || {
  echo "this is not what was seen before"
  exit 1
}
