#!/usr/bin/env bash
# sae-lens 6.54.12: CacheActivationsRunner writes the activations of a data set to a folder; shuffle, True by default, says
# "Whether to shuffle the dataset", seed the seed of it. In which order are they in the folder?
#
# Expected: in the order of the data set that run() returns, which is shuffled.
# Seen (2026-11-28): in the order of the texts. The folder is written first; only the object that run() returns (and what is
# pushed to the hub from it) is shuffled, and a training with cached_activations_path reads the folder.
# What follows: shuffle the texts before, or save what run() returns under another name, and train on that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import sys
from pathlib import Path

import torch
from datasets import Dataset, load_from_disk
from sae_lens import CacheActivationsRunner, CacheActivationsRunnerConfig
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

torch.set_num_threads(1)
folder = Path(sys.argv[1])
n_texts, length, width, batch_size = 256, 16, 8, 16
words = Tokenizer(models.WordLevel({str(n): n for n in range(n_texts)}, unk_token="0"))
PreTrainedTokenizerFast(tokenizer_object=words, bos_token="0", eos_token="0").save_pretrained(folder / "model")
GPT2LMHeadModel(
    GPT2Config(n_layer=1, n_embd=width, n_head=2, vocab_size=n_texts, n_positions=length, bos_token_id=0, eos_token_id=0)
).save_pretrained(folder / "model")
texts = Dataset.from_dict({"tokens": [[n] * length for n in range(n_texts)]})  # the n-th text is the token n
config = CacheActivationsRunnerConfig(
    dataset_path="none",
    model_name=str(folder / "model"),
    model_class_name="AutoModelForCausalLM",
    model_batch_size=batch_size,
    hook_name="transformer.h.0",
    d_in=width,
    training_tokens=n_texts * length,
    context_size=length,
    new_cached_activations_path=str(folder / "activations"),
    buffer_size_gb=2 * batch_size * length * width * 4 / 1e9,
    prepend_bos=False,
    streaming=False,
    device="cpu",
)
returned = CacheActivationsRunner(config, override_dataset=texts).run()
saved = load_from_disk(str(folder / "activations"))
for name, data in ("returned", returned), ("in the folder", saved):
    order = [int(row[0]) for row in data["token_ids"]]
    told = "in the order of the texts" if order == list(range(n_texts)) else "in another order"
    print(f"shuffle={config.shuffle}, {name}: {len(order)} texts {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder" 2>"$folder/warnings" | grep "^shuffle=")
echo "$said"
[ "$said" = "shuffle=True, returned: 256 texts in another order
shuffle=True, in the folder: 256 texts in the order of the texts" ] || {
  echo "this is not what was seen before"
  exit 1
}
