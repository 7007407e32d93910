#!/usr/bin/env bash
# eai-delphi 0.1.3: sampler() gives a latent's examples for writing an explanation (record.train) and others for scoring it
# (record.test). How many of the latter are among the former?
#
# Expected: none, or as many as chance would have: both are said to be drawn from quantiles of the latent's examples.
# Seen (2026-11-29): with as many examples for testing as for training (40 and 40, or 50 and 50), all of them, in the same order:
# both are drawn from the same list with the same seed. With the defaults (40 and 50) 20 of 50 where a latent has 200 examples,
# the least that is explained, and still 10 of 50 with 10,000. With train_type="top" 10 and 1.
# What follows: detection and fuzzing scores are partly, with equal numbers wholly, of the examples that the explainer has seen;
# take what is in record.train out of record.examples before tests are drawn.
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
from delphi.config import SamplerConfig
from delphi.latents.latents import ActivatingExample, Latent, LatentRecord
from delphi.latents.samplers import sampler


class Tokenizer:
    def batch_decode(self, ids):
        return [str(int(i)) for i in ids]


def seen(n_examples, **settings):
    examples = [
        ActivatingExample(tokens=torch.tensor([i]), activations=torch.tensor([float(n_examples - i)]))
        for i in range(n_examples)
    ]
    record = LatentRecord(Latent("layer", 0), examples=examples)
    sampler(record, SamplerConfig(**settings), Tokenizer())
    train = {int(example.tokens) for example in record.train}
    return f"{sum(int(example.tokens) in train for example in record.test)} of {len(record.test)}"


for told, settings in {
    "the defaults": {},
    "40 and 40": {"n_examples_test": 40},
    "50 and 50": {"n_examples_train": 50},
    "the top for training": {"train_type": "top"},
}.items():
    counts = "; ".join(f"{n:,} examples: {seen(n, **settings)}" for n in (200, 1000, 10000))
    print(f"tests among training examples, {told}: {counts}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^tests")
echo "$said"
[ "$said" = "tests among training examples, the defaults: 200 examples: 20 of 50; 1,000 examples: 11 of 50; 10,000 examples: 10 of 50
tests among training examples, 40 and 40: 200 examples: 40 of 40; 1,000 examples: 40 of 40; 10,000 examples: 40 of 40
tests among training examples, 50 and 50: 200 examples: 50 of 50; 1,000 examples: 50 of 50; 10,000 examples: 50 of 50
tests among training examples, the top for training: 200 examples: 10 of 50; 1,000 examples: 3 of 50; 10,000 examples: 1 of 50" ] || {
  echo "this is not what was seen before"
  exit 1
}
