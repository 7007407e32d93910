#!/usr/bin/env bash
# torch 2.13.0: activations [texts, tokens, latents], padded, are seen as a jagged nested tensor by torch.nested.narrow, which copies
# nothing. Two texts have 2 and 3 tokens, all activations are 1; the padding behind them holds 100. What is their mean?
#
# Expected: 1, and 1 for the largest.
# Seen (2026-11-29): sum, mean and max over all elements (and amax, min, norm where given) are of the padding, too, as far as the
# last text goes: a mean of 38.125. So is that of anything computed from it, as (x * 2).sum(). A sum over the tokens alone raises
# an error that it is not supported, and unbind() gives the right texts; .contiguous() first makes all of them right.
# What follows: nested tensors of torch.nested.narrow need .contiguous() before anything is reduced.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch

print("torch", torch.__version__.split("+")[0])
lengths = torch.tensor([2, 3])
padded = torch.ones(2, 4, 3)
for text, length in zip(padded, lengths):
    text[length:] = 100
nested = torch.nested.narrow(padded, 1, torch.zeros(2, dtype=torch.long), lengths, layout=torch.jagged)
texts = torch.cat(list(nested.unbind()))
for name, tell in {
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(),
    "max": lambda x: x.max(),
    "sum of x * 2": lambda x: (x * 2).sum(),
}.items():
    of = {"text by text": texts, "narrowed": nested, "narrowed, contiguous": nested.contiguous()}
    print(f"{name}: " + "; ".join(f"{key} {float(tell(x)):g}" for key, x in of.items()))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings")
echo "$said"
[ "$said" = "torch 2.13.0
sum: text by text 15; narrowed 915; narrowed, contiguous 15
mean: text by text 1; narrowed 38.125; narrowed, contiguous 1
max: text by text 1; narrowed 100; narrowed, contiguous 1
sum of x * 2: text by text 30; narrowed 1830; narrowed, contiguous 30" ] || {
  echo "this is not what was seen before"
  exit 1
}
