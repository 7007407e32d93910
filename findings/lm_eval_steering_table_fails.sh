#!/usr/bin/env bash
# lm-eval 0.4.13: --model steered takes a table of latents (a CSV file) of a sparse model. Does its own example work,
# and may two latents be steered at one place?
#
# Expected: a row with the action "add", as in the docstring of SteeredModel, steers; two rows add up.
# Seen (2026-11-28): "add" never loads. Every row gets the sparse model's b_dec as "bias", and the loader refuses a bias
# with "add" (AssertionError). With "clamp" the model loads, and of two rows for one module only the later one is left.
# What follows: write the .pt form of the file, with one vector a module and bias None.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 lm-eval==0.4.13 accelerate==1.15.0
# without triton, which a CPU does not need
"$folder/venv/bin/python" -m pip install --quiet --no-deps eai-sparsify==1.3.3
"$folder/venv/bin/python" -m pip install --quiet simple-parsing==0.1.9 schedulefree==1.4.1 natsort==8.4.0 einops==0.8.2
cat >"$folder/look.py" <<'PYTHON'
import csv
import sys
from pathlib import Path

from lm_eval.models.hf_steered import SteeredModel
from sparsify import SparseCoder, SparseCoderConfig
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
model = folder / "model"
LlamaForCausalLM(
    LlamaConfig(vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
).save_pretrained(model)
words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2}, unk_token="<s>"))
PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<s>", pad_token="<s>").save_pretrained(model)
SparseCoder(4, SparseCoderConfig(num_latents=8, k=2), device="cpu").save_to_disk(folder / "layers.1")

columns = "loader action sparse_model hookpoint feature_index steering_coefficient head_index sae_id description"
for action in ("add", "clamp"):
    table = folder / f"{action}.csv"
    rows = [["sparsify", action, str(folder), "layers.1", latent, strength, "", "", ""] for latent, strength in ((3, 10.0), (5, 2.0))]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(), *rows])
    try:
        steered = SteeredModel(pretrained=str(model), steer_path=str(table), device="cpu")
        left = SteeredModel.derive_steer_config(str(table))["layers.1"]["steering_coefficient"]
        print(f"{action}: {len(steered.hook_to_steer)} of 2 rows is left, with the strength {left}")
    except AssertionError as error:
        print(f"{action}: AssertionError: {error}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder" 2>"$folder/errors" | grep -E "^(add|clamp)" || cat "$folder/errors")
echo "$said"
[ "$said" = 'add: AssertionError: Bias is not supported for the `add` action.
clamp: 1 of 2 rows is left, with the strength 2.0' ] || {
  echo "this is not what was seen before"
  exit 1
}
