#!/usr/bin/env bash
# sae-lens 6.54.12 with transformer-lens 3.9.0: HookedSAETransformer.add_sae(transcoder) puts what a transcoder predicts in the
# place of an MLP's output. A SkipTranscoder predicts the same and adds W_skip x. Is that what the model gets?
#
# Expected: the model gets transcoder(x), as by a hook that calls it.
# Seen (2026-11-29): the model gets it without W_skip x, whose part here is larger than the rest: the attached transcoder is
# run by encode() and decode(), and the skip connection is added in forward() alone. JumpReLUSkipTranscoder is the same.
# Nothing warns; with use_error_term the logits are right, as the missing part goes into the error.
# What follows: a replacement model of skip transcoders needs hooks of one's own that call transcoder(x); errors of attached ones
# count what the skip connection explains.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from sae_lens import HookedSAETransformer
from sae_lens.saes import transcoder as transcoders
from sae_lens.saes.sae import SAEMetadata
from transformer_lens import HookedTransformerConfig

torch.set_num_threads(1)
torch.manual_seed(0)
width = 16
sizes = {"n_layers": 2, "d_model": width, "d_head": 8, "n_heads": 2, "n_ctx": 32, "d_vocab": 11}
model = HookedSAETransformer(HookedTransformerConfig(**sizes, act_fn="gelu", initializer_range=0.5))
tokens = torch.randint(0, 11, (4, 8))
place, predicted = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"

for name in ("Transcoder", "JumpReLUTranscoder", "SkipTranscoder", "JumpReLUSkipTranscoder"):
    config = getattr(transcoders, f"{name}Config")(
        d_in=width,
        d_out=width,
        d_sae=32,
        apply_b_dec_to_input=False,
        dtype="float32",
        device="cpu",
        metadata=SAEMetadata(hook_name=place, hook_name_out=predicted),
    )
    transcoder = getattr(transcoders, name)(config)
    with torch.no_grad():
        for parameter in transcoder.parameters():
            parameter.normal_(0, 0.3)
        x = model.run_with_cache(tokens)[1][place]
        by_hook = model.run_with_hooks(tokens, fwd_hooks=[(predicted, lambda _, hook: transcoder(x))])
        attached, cache = model.run_with_cache_with_saes(tokens, saes=[transcoder])
        missing = transcoder(x) - cache[f"{predicted}.hook_sae_output"]
        told = "as by a hook" if torch.allclose(attached, by_hook, atol=1e-4) else "others"
        if missing.abs().max() > 1e-4 and torch.allclose(missing, x @ transcoder.W_skip.T, atol=1e-4):
            told += ", W_skip x is missing"
    print(f"logits with {name} attached: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^logits")
echo "$said"
[ "$said" = "logits with Transcoder attached: as by a hook
logits with JumpReLUTranscoder attached: as by a hook
logits with SkipTranscoder attached: others, W_skip x is missing
logits with JumpReLUSkipTranscoder attached: others, W_skip x is missing" ] || {
  echo "this is not what was seen before"
  exit 1
}
