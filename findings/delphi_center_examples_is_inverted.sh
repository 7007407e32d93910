#!/usr/bin/env bash
# eai-delphi 0.1.3: ConstructorConfig.center_examples says "If True, the examples will be centered on the latent
# activation". Which examples does a latent get, and with which activations?
#
# Expected: with True windows around the strongest activation, every token with its own activation; with False the
# windows into which contexts are cut.
# Seen (2026-11-28): the other way round. True, the default, gives the cut windows, so that a latent that is active at
# the first token of a window is shown without what came before it. And where windows are centred (False), tokens from
# the window before lose their activations: the latent below is active at tokens 15, 16, 21 and 22 of a context, and
# the example around 21 shows 15 and 16 as silent. They get the activations of another window where one would fit.
# What follows: explainers and scorers see examples that are cut at fixed places; give overlapping contexts, or read
# the activations of a centred example anew.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
# without vllm, which the examples do not use
"$folder/venv/bin/python" -m pip install --quiet --no-deps eai-delphi==0.1.3
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 datasets==5.2.0 accelerate==1.15.0 \
  faiss-cpu==1.15.1 sentence-transformers==6.2.0 asyncer==0.0.18 jaxtyping==0.3.11 simple-parsing==0.1.9 \
  orjson==3.13.0 blobfile==3.3.0 fire==0.7.1
cat >"$folder/look.py" <<'PYTHON'
import torch
from delphi.config import ConstructorConfig
from delphi.latents.constructors import constructor
from delphi.latents.latents import ActivationData, Latent, LatentRecord

tokens = torch.arange(40).reshape(1, 40)  # one context, whose tokens are their positions; windows of ten
active = {15: 1.0, 16: 2.0, 21: 5.0, 22: 4.0}
places = torch.tensor([[0, position, 0] for position in active])


class Tokenizer:
    def batch_decode(self, ids):
        return [str(int(i)) for i in ids]


for center in (True, False):
    config = ConstructorConfig(example_ctx_len=10, min_examples=1, n_non_activating=1, center_examples=center)
    data = ActivationData(places, torch.tensor(list(active.values())))
    record = constructor(LatentRecord(Latent("layer", 0)), data, config, tokens, Tokenizer())
    first = record.examples[0]
    shown = {int(token): float(value) for token, value in zip(first.tokens, first.activations) if value}
    print(f"center_examples={center}: tokens {int(first.tokens[0])} to {int(first.tokens[-1])}, active {shown}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py")
echo "$said"
[ "$said" = "center_examples=True: tokens 20 to 29, active {21: 5.0, 22: 4.0}
center_examples=False: tokens 13 to 22, active {21: 5.0, 22: 4.0}" ] || {
  echo "this is not what was seen before"
  exit 1
}
