#!/usr/bin/env bash
# interpreto 0.5.2: the concept metrics MSE and SparsityRatio of 8 principal components of 1,000 activations, and of the same
# activations four and sixteen times over. Every concept is active at every activation.
#
# Expected: one mean squared error, .4 an entry or 7.1 an activation; and a ratio of 1.
# Seen (2026-11-29): MSE is 85, 169 and 338: it is the norm of the whole matrix of errors, neither squared nor a mean, and grows with
# the root of the number of activations. SparsityRatio is .125: Sparsity is already a share of the concepts, and is divided by the
# number of concepts once more.
# What follows: compare neither between sets of unlike size, nor between dictionaries of unlike size; square MSE and divide by the
# number of activations, and take Sparsity for the share of active concepts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 nnsight==0.7.0 numpy==2.4.6 scipy==1.17.1 \
  scikit-learn==1.9.1 matplotlib==3.11.2 jaxtyping==0.2.36 beartype==0.23.1 nltk==3.10.4 bitsandbytes==0.50.2 einops==0.8.2
# without the libraries of CUDA 11
"$folder/venv/bin/python" -m pip install --quiet --no-deps interpreto==0.5.2
cat >"$folder/look.py" <<'PYTHON'
import torch
from interpreto import ModelWithSplitPoints
from interpreto.concepts import PCAConcepts
from interpreto.concepts.metrics import MSE, Sparsity, SparsityRatio
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

names = ["<pad>", "<unk>", "word"]
words = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=3, n_embd=16, n_layer=2, n_head=2)).eval()
splitter = ModelWithSplitPoints(model, split_point="transformer.h.0", tokenizer=tokenizer, automodel=AutoModelForCausalLM)
activations = torch.randn(1000, 16)
concepts = PCAConcepts(splitter, nb_concepts=8)
concepts.fit(activations)
for times in (1, 4, 16):
    many = activations.repeat(times, 1)
    with torch.no_grad():
        codes = concepts.activations_to_concepts(many)
        error = concepts.concepts_to_activations(codes) - many
    squares, share = float((error**2).sum(1).mean()), float((codes != 0).float().mean())
    told = MSE(concepts).compute(many)
    print(
        f"{len(many)} activations: MSE is {told / squares**0.5 / len(many) ** 0.5:.2f} of the root of "
        f"number times squared error, squared error by hand {squares:.1f}, MSE {told:.0f}"
    )
    print(
        f"{len(many)} activations: share of active entries by hand {share:.3f}, Sparsity {Sparsity(concepts).compute(many):.3f}, "
        f"SparsityRatio {SparsityRatio(concepts).compute(many):.3f}"
    )
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "activations")
echo "$said"
[ "$said" = "1000 activations: MSE is 1.00 of the root of number times squared error, squared error by hand 7.1, MSE 85
1000 activations: share of active entries by hand 1.000, Sparsity 1.000, SparsityRatio 0.125
4000 activations: MSE is 1.00 of the root of number times squared error, squared error by hand 7.1, MSE 169
4000 activations: share of active entries by hand 1.000, Sparsity 1.000, SparsityRatio 0.125
16000 activations: MSE is 1.00 of the root of number times squared error, squared error by hand 7.1, MSE 338
16000 activations: share of active entries by hand 1.000, Sparsity 1.000, SparsityRatio 0.125" ] || {
  echo "this is not what was seen before"
  exit 1
}
