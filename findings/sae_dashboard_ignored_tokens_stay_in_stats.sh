#!/usr/bin/env bash
# sae-dashboard 0.8.0: SaeVisRunner with ignore_tokens={BOS} for a latent that is active at BOS, most strongly there, and at a
# twentieth of all other tokens.
#
# Expected: statistics of the tokens that are left, a density of .05 and the largest activation among them, in all places.
# Seen (2026-11-29): the histogram and the examples are of them, with a density of 4.88 %, not 5.04, as ignored tokens count as
# inactive; feature_stats, whose quantiles rank latents of a prompt, is of all tokens, with a density of .08 and BOS's activation
# as the largest. By its source correlations with neurons and latents are of all tokens, too.
# What follows: for models with a large activation at BOS take density and maximum from the histogram and the examples.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 sae-lens==6.54.12 transformer-lens==3.9.0 transformers==5.23.0 \
  numpy==2.4.6 matplotlib==3.11.2 dataclasses-json==0.6.7 eindex-callum==0.1.2
# its own pins are older than sae-lens asks for
"$folder/venv/bin/python" -m pip install --quiet --no-deps sae-dashboard==0.8.0
cat >"$folder/look.py" <<'PYTHON'
import torch
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import HookedSAETransformer, StandardSAE, StandardSAEConfig
from transformer_lens import HookedTransformerConfig

HOOK, BOS = "blocks.0.hook_resid_post", 0
torch.manual_seed(0)
config = HookedTransformerConfig(
    n_layers=1, d_model=16, n_ctx=32, d_head=8, n_heads=2, d_vocab=50, d_mlp=32, act_fn="relu", device="cpu"
)
model = HookedSAETransformer(config)
sae = StandardSAE(StandardSAEConfig(d_in=16, d_sae=8, device="cpu"))
sae.cfg.metadata.hook_name, sae.cfg.metadata.hook_head_index = HOOK, None
tokens = torch.randint(1, 50, (64, 32))
tokens[:, 0] = BOS
with torch.no_grad():
    activations = model.run_with_cache(tokens)[1][HOOK]
    sae.W_enc[:, 0] = activations[:, 0].mean(0)
    sae.b_enc[0] = -torch.quantile(activations[:, 1:] @ sae.W_enc[:, 0], 0.95)
    sae.fold_W_dec_norm()
    codes = sae.encode(activations)[..., 0]
shown = SaeVisRunner(SaeVisConfig(hook_point=HOOK, features=[0], ignore_tokens={BOS})).run(sae, model, tokens)
for name, some in (("without BOS", codes[:, 1:]), ("with BOS", codes)):
    print(f"latent by hand {name}: density {(some > 0).float().mean():.4f}, largest {some.max():.3f}")
title = shown.feature_data_dict[0].acts_histogram_data.title.split("DENSITY = ")[1]
print(f"latent in the histogram: density {title}")
stats = shown.feature_stats
print(f"latent in feature_stats: density {stats.frac_nonzero[0]:.4f}, largest {stats.max[0]:.3f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^latent")
echo "$said"
[ "$said" = "latent by hand without BOS: density 0.0504, largest 1.293
latent by hand with BOS: density 0.0801, largest 2.876
latent in the histogram: density 4.883%
latent in feature_stats: density 0.0801, largest 2.876" ] || {
  echo "this is not what was seen before"
  exit 1
}
