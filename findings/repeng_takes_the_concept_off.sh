#!/usr/bin/env bash
# repeng 0.4.0: ControlVector.train(model, tokenizer, dataset) finds a direction for each layer from pairs of texts, one with
# the concept and one without. By default ("pca_diff") it is the first principal component of their differences. Does it
# point to where the pairs differ?
#
# Expected: yes, above all where all pairs differ in the same way: along the mean difference.
# Seen (2026-11-29): no. The PCA is scikit-learn's, which takes the mean off first, and the mean of the differences is what
# the pairs have in common. What is left is how they vary: where more than 99 % of the squared differences is the same in all
# pairs, the direction has the cosines .01, .10 and .63 with it in three layers. With method="pca_center", of the same
# pairs, all three are 1.00. Nothing warns.
# What follows: method="pca_center"; look at the cosine with the mean difference before steering by a direction.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet repeng==0.4.0 torch==2.13.0 transformers==4.57.1 numpy==1.26.4 \
  scikit-learn==1.7.2 gguf==0.17.1
cat >"$folder/look.py" <<'PYTHON'
import random

import torch
from repeng import ControlVector, DatasetEntry
from repeng.extract import batched_get_hiddens
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

torch.set_num_threads(1)
torch.manual_seed(0)
random.seed(0)
words = Tokenizer(models.WordLevel({word: n for n, word in enumerate("</s> a b c d e f g h".split())}, unk_token="</s>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>")
sizes = {"n_layer": 4, "n_embd": 128, "n_head": 2, "vocab_size": 9, "n_positions": 64}
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
with torch.no_grad():
    model.transformer.wte.weight.mul_(20)  # so that a pair differs by its last word rather than by what is before
texts = [" ".join(random.choice("cdefgh") for _ in range(random.randint(3, 8))) for _ in range(128)]
pairs = [DatasetEntry(positive=f"{text} a", negative=f"{text} b") for text in texts]
both = [text for pair in pairs for text in (pair.positive, pair.negative)]

for method in ("pca_diff", "pca_center"):
    directions = ControlVector.train(model, tokenizer, pairs, method=method).directions
    hidden = batched_get_hiddens(model, tokenizer, both, [1, 2, 3], 32)
    for layer in (1, 2, 3):
        differences = torch.from_numpy(hidden[layer][::2] - hidden[layer][1::2])
        mean, direction = differences.mean(0), torch.from_numpy(directions[layer])
        common = float(mean.square().sum() / differences.square().sum(1).mean())
        cosine = abs(float(torch.cosine_similarity(mean, direction, dim=0)))
        told = "above .99" if cosine > 0.99 else "below .7" if cosine < 0.7 else f"{cosine:.2f}"
        print(f"{method}, layer {layer}: {'all' if common > 0.99 else 'not all'} in common, cosine {told}")
        print(f"exactly {common:.4f} {cosine:.4f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^pca")
echo "$said"
[ "$said" = "pca_diff, layer 1: all in common, cosine below .7
pca_diff, layer 2: all in common, cosine below .7
pca_diff, layer 3: all in common, cosine below .7
pca_center, layer 1: all in common, cosine above .99
pca_center, layer 2: all in common, cosine above .99
pca_center, layer 3: all in common, cosine above .99" ] || {
  echo "this is not what was seen before"
  exit 1
}
