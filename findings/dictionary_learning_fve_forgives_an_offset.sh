#!/usr/bin/env bash
# dictionary_learning 0.1.0: evaluate() of a dictionary that returns its input exactly, and of the same one with a decoder bias
# that is off by one in every dimension, as a lost normalisation leaves it. What is the fraction of variance explained?
#
# Expected: 1, and far less: the second one's squared error is as large as the variance of the activations.
# Seen (2026-11-29): 1.000 for both. It is 1 - Var(x - x_hat) / Var(x), and a variance does not see an error that all tokens have.
# The usual 1 - |x - x_hat|^2 / |x - mean x|^2 is 0. l2_loss and cossim do see it.
# What follows: do not compare this fraction with SAELens' explained_variance or others' R^2; read l2_loss beside it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet dictionary_learning==0.1.0 torch==2.13.0 transformers==5.23.0 \
  numpy==2.4.6
# not needed, and of no use where torch is of another build than PyPI's
"$folder/venv/bin/python" -m pip uninstall --quiet --yes torchvision
cat >"$folder/look.py" <<'PYTHON'
import torch
from dictionary_learning.dictionary import AutoEncoder
from dictionary_learning.evaluation import evaluate

torch.manual_seed(0)
width = 16
either_sign = torch.cat([torch.eye(width), -torch.eye(width)])  # latents that hold any vector
x = torch.randn(4096, width)


class Off(AutoEncoder):
    def decode(self, codes):
        return super().decode(codes) + 1


for name, kind in {"exact": AutoEncoder, "off by one": Off}.items():
    dictionary = kind(width, 2 * width)
    dictionary.encoder.weight.data, dictionary.decoder.weight.data = either_sign, either_sign.T.clone()
    for bias in (dictionary.bias, dictionary.encoder.bias):
        torch.nn.init.zeros_(bias)
    found = evaluate(dictionary, iter([x]))
    with torch.no_grad():
        r2 = float(1 - (x - dictionary(x)).square().sum() / (x - x.mean(0)).square().sum())
    told = f"{found['frac_variance_explained']:.3f}, R^2 {abs(r2):.1f}, l2_loss {found['l2_loss']:.1f}"
    print(f"variance explained by what is {name}: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^variance")
echo "$said"
[ "$said" = "variance explained by what is exact: 1.000, R^2 1.0, l2_loss 0.0
variance explained by what is off by one: 1.000, R^2 0.0, l2_loss 4.0" ] || {
  echo "this is not what was seen before"
  exit 1
}
