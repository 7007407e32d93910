#!/usr/bin/env bash
# sae-probes 0.4.2: generate_dataset_activations, one of the few names that the package exports, records a model's
# activations on its data sets. And may its nine data sets out of distribution be read?
#
# Expected: a file for each of its sets; the texts and labels of a set out of distribution.
# Seen (2026-11-28): no file, and no word about it: it looks for *.csv, and the wheel has *.csv.zst. Of the sets out of
# distribution get_xy_OOD looks for <name>_OOD.csv, too, and raises FileNotFoundError for each of them.
# What follows: run_sae_evals records what it needs by another way, for which the names are right; call
# ensure_dataset_activations, or write the files yourself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-probes==0.4.2 sae-lens==6.54.12 transformer-lens==3.9.0 torch==2.13.0
cat >"$folder/look.py" <<'PYTHON'
import sys
from pathlib import Path

import torch
from sae_probes import DATASETS, generate_dataset_activations
from sae_probes.utils_data import get_OOD_datasets, get_xy_OOD
from tokenizers import Tokenizer, models, pre_tokenizers
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import PreTrainedTokenizerFast

folder = Path(sys.argv[1])
hook = "blocks.0.hook_resid_post"
words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, unk_token="<s>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<s>")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, name_or_path="tiny", add_bos_token=True, **special)
config = HookedTransformerConfig(n_layers=1, d_model=8, d_head=4, n_heads=2, n_ctx=1024, d_vocab=2, act_fn="gelu")
model = HookedTransformer(config, tokenizer=tokenizer)
generate_dataset_activations("tiny", [hook], folder, device="cpu", model=model)
print("data sets:", len(DATASETS), "files of activations:", len(list(folder.rglob(f"*_{hook}.pt"))))

names = get_OOD_datasets()
missing = 0
(folder / "model_activations_tiny_OOD").mkdir()
for name in names:
    torch.save(torch.zeros(2, 8), folder / "model_activations_tiny_OOD" / f"{name}_OOD_{hook}.pt")
    try:
        get_xy_OOD(name, "tiny", hook, folder)
    except FileNotFoundError:
        missing += 1
print("out of distribution:", len(names), "not found:", missing)
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder" 2>/dev/null)
echo "$said"
[ "$said" = "data sets: 113 files of activations: 0
out of distribution: 9 not found: 9" ] || {
  echo "this is not what was seen before"
  exit 1
}
