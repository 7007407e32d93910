#!/usr/bin/env bash
# steering-vectors 0.12.2: SteeringVector.apply(model, min_token_index=n) steers from token n on ("The minimum token index to
# apply the patch to"). A model continues a prompt of n tokens; does the vector act on what is generated?
#
# Expected: on every generated token, whether keys and values are cached or not: the cache does not change a greedy text.
# Seen (2026-11-28): with use_cache, the default of generate, on none: the text is that of the model without the vector. With
# the cache each step is a forward pass of one token, which has the index 0 there. With use_cache=False the generated tokens
# are steered. With min_token_index=n-1 the last token of the prompt is steered and nothing behind it. Nothing warns.
# What follows: "steering has no effect" may mean that nothing was steered; steer all tokens, or generate
# with use_cache=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet steering-vectors==0.12.2 torch==2.13.0 transformers==4.57.1 \
  numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from steering_vectors import SteeringVector
from transformers import GPT2Config, GPT2LMHeadModel

torch.set_num_threads(1)
torch.manual_seed(0)
sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 50, "n_positions": 64}
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=1, initializer_range=0.5)).eval()
prompt = torch.tensor([[5, 6, 7, 8, 9]])
vector = SteeringVector({0: 20 * torch.randn(16)})


def generate(use_cache):
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 1}
    return model.generate(prompt, use_cache=use_cache, **settings)[0, prompt.shape[1] :].tolist()


plain = generate(use_cache=True)
assert plain == generate(use_cache=False)
for first in (0, prompt.shape[1]):
    for use_cache in (True, False):
        with vector.apply(model, min_token_index=first):
            text = generate(use_cache)
        told = "as without the vector" if text == plain else "another text"
        print(f"prompt of 5 tokens, min_token_index {first}, use_cache {use_cache}: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^prompt of")
echo "$said"
[ "$said" = "prompt of 5 tokens, min_token_index 0, use_cache True: another text
prompt of 5 tokens, min_token_index 0, use_cache False: another text
prompt of 5 tokens, min_token_index 5, use_cache True: as without the vector
prompt of 5 tokens, min_token_index 5, use_cache False: another text" ] || {
  echo "this is not what was seen before"
  exit 1
}
