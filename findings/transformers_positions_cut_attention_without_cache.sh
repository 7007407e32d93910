#!/usr/bin/env bash
# transformers 5.23.0: what does a model do with the positions of its tokens? One text goes through Llama, GPT-2 and GPT-NeoX (tiny,
# random) with position_ids that leave out some, begin again, or are all 0; with and without use_cache, and with an attention mask of
# ones, which masks nothing.
#
# Expected: the same logits in all three cases.
# Seen (2026-11-29): with use_cache=False and no mask, tokens see nothing before the last place where positions do not go up by one:
# such position_ids are taken for several texts in one row. With all positions 0 each token sees itself alone. With the cache (the
# default), or with a mask of ones, each sees all earlier ones. Nothing is said; positions that only start later change nothing.
# What follows: pass attention_mask with position_ids, or an ablation of positions is one of attention.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
import transformers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

print("transformers", transformers.__version__)
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
special = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 50}
models = {
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(**sizes, **special)),
    "GPT-2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, **special)),
    "GPT-NeoX": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, **special)),
}
positions = {
    "0 to 7": [0, 1, 2, 3, 4, 5, 6, 7],
    "5 to 12": [5, 6, 7, 8, 9, 10, 11, 12],
    "0 to 3, 10 to 13": [0, 1, 2, 3, 10, 11, 12, 13],
    "0 to 3 twice": [0, 1, 2, 3, 0, 1, 2, 3],
    "all 0": [0] * 8,
}
for name, make in models.items():
    torch.manual_seed(0)
    model = make().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(5)  # random weights as small as they are made hardly attend
    ids = torch.randint(1, 50, (1, 8))
    for told, places in positions.items():
        args = {"input_ids": ids, "position_ids": torch.tensor([places])}
        with torch.no_grad():
            masked = model(**args, use_cache=False, attention_mask=torch.ones_like(ids)).logits
            cached = model(**args, use_cache=True).logits
            plain = model(**args, use_cache=False).logits
            changed = ids.clone()
            changed[0, 0] = 1 + ids[0, 0] % 49  # another first token: which of the later ones see it?
            seen = model(**{**args, "input_ids": changed}, use_cache=False).logits
        equal = "as with a mask of ones" if torch.allclose(cached, masked, atol=1e-4) else "other logits"
        differing = "as with a mask of ones" if torch.allclose(plain, masked, atol=1e-4) else "other logits"
        last = int(((seen - plain).abs().amax(-1)[0] > 1e-4).nonzero().max())
        print(f"{name}, positions {told}: cache {equal}; none {differing}, the first token is seen up to token {last}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings")
echo "$said"
[ "$said" = "transformers 5.23.0
Llama, positions 0 to 7: cache as with a mask of ones; none as with a mask of ones, the first token is seen up to token 7
Llama, positions 5 to 12: cache as with a mask of ones; none as with a mask of ones, the first token is seen up to token 7
Llama, positions 0 to 3, 10 to 13: cache as with a mask of ones; none other logits, the first token is seen up to token 3
Llama, positions 0 to 3 twice: cache as with a mask of ones; none other logits, the first token is seen up to token 3
Llama, positions all 0: cache as with a mask of ones; none other logits, the first token is seen up to token 0
GPT-2, positions 0 to 7: cache as with a mask of ones; none as with a mask of ones, the first token is seen up to token 7
GPT-2, positions 5 to 12: cache as with a mask of ones; none as with a mask of ones, the first token is seen up to token 7
GPT-2, positions 0 to 3, 10 to 13: cache as with a mask of ones; none other logits, the first token is seen up to token 3
GPT-2, positions 0 to 3 twice: cache as with a mask of ones; none other logits, the first token is seen up to token 3
GPT-2, positions all 0: cache as with a mask of ones; none other logits, the first token is seen up to token 0
GPT-NeoX, positions 0 to 7: cache as with a mask of ones; none as with a mask of ones, the first token is seen up to token 7
GPT-NeoX, positions 5 to 12: cache as with a mask of ones; none as with a mask of ones, the first token is seen up to token 7
GPT-NeoX, positions 0 to 3, 10 to 13: cache as with a mask of ones; none other logits, the first token is seen up to token 3
GPT-NeoX, positions 0 to 3 twice: cache as with a mask of ones; none other logits, the first token is seen up to token 3
GPT-NeoX, positions all 0: cache as with a mask of ones; none other logits, the first token is seen up to token 0" ] || {
  echo "this is not what was seen before"
  exit 1
}
