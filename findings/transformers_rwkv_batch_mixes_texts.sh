#!/usr/bin/env bash
# transformers 5.23.0: RWKV writes on behind three prompts of the same length, greedily. Are they the words that each gets
# alone?
#
# Expected: yes; no padding is in the way, and other models do.
# Seen (2026-11-29): without a cache it is. With use_cache=True, the default, not one of the three is: from the second pass
# on the hidden states of a batch of 3 are [3, 3, width] where [3, 1, width] goes in, since the state of the batch is
# broadcast against its positions, so that each text is continued from the states of the others. Nothing warns.
# What follows: generate with RWKV one text at a time, or with use_cache=False; results of batches are not those texts'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 torch==2.13.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from transformers import RwkvConfig, RwkvForCausalLM

torch.set_num_threads(1)
torch.manual_seed(0)
sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32}
model = RwkvForCausalLM(RwkvConfig(**sizes, intermediate_size=64, context_length=32)).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
prompts = torch.randint(3, 64, (3, 6))


def written(some, use_cache):
    more = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return model.generate(some, use_cache=use_cache, **more)[:, prompts.shape[1] :]


alone = torch.cat([written(prompt[None], True) for prompt in prompts])
for use_cache in (False, True):
    same = (written(prompts, use_cache) == alone).all(1).sum()
    print(f"use_cache {use_cache}: {same} of {len(prompts)} texts of a batch go on as they do alone")
with torch.no_grad():
    state = model(prompts, use_cache=True).state
    hidden = model(prompts[:, :1], state=state, output_hidden_states=True).hidden_states[-1]
print(f"hidden states of a token behind each go on as they do in the shape {list(hidden.shape)}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "go on as they do")
echo "$said"
[ "$said" = "use_cache False: 3 of 3 texts of a batch go on as they do alone
use_cache True: 0 of 3 texts of a batch go on as they do alone
hidden states of a token behind each go on as they do in the shape [3, 3, 32]" ] || {
  echo "this is not what was seen before"
  exit 1
}
