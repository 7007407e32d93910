#!/usr/bin/env bash
# sae-lens 6.54.12 with transformer-lens 3.9.0: run_evals of a TemporalSAE whose forward returns its input exactly (the novel
# codes hold whatever the predicted ones leave). What are explained variance and loss?
#
# Expected: an explained variance of 1 and the loss of the model, as of any SAE that returns its input.
# Seen (2026-11-29): run_evals takes decode(encode(x)), which is the novel half: what attention over the earlier tokens predicts is
# missing from the reconstruction that is scored and put back into the model. Explained variance is .07. The log has a
# note of decode's for each batch, and L0 is that of the novel codes.
# What follows: score sae(x) by hand for a TemporalSAE; do not put its row beside other SAEs' in a table of run_evals.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 datasets==5.2.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from datasets import Dataset
from sae_lens import SAE
from sae_lens.evals import EvalConfig, run_evals
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.training.activations_store import ActivationsStore
from transformer_lens import HookedTransformer, HookedTransformerConfig

torch.set_num_threads(1)
torch.manual_seed(0)
length, width = 16, 8
config = HookedTransformerConfig(n_layers=1, d_model=width, d_head=4, n_heads=2, n_ctx=length, d_vocab=50, act_fn="gelu")
model = HookedTransformer(config)
texts = Dataset.from_dict({"tokens": [[n % 50] * length for n in range(200)]})  # the earlier tokens tell the next one
either_sign = torch.cat([torch.eye(width), -torch.eye(width)])  # latents that hold any vector, in [2 width, width]
place = {"hook_name": "blocks.0.hook_resid_post", "prepend_bos": False}
shape = {"d_in": width, "d_sae": 2 * width}


def temporal():
    more = {"n_heads": 2, "bottleneck_factor": 1, "tied_weights": False, "sae_diff_type": "relu"}
    sae = SAE.from_dict({"architecture": "temporal", **shape, **more})
    sae.W_dec.data = either_sign
    sae.W_enc.data = either_sign.T / sae.lam
    for linear in (sae.attn_layers[0].v_ctx, sae.attn_layers[0].c_proj):  # it predicts a mean of the earlier tokens
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    return sae


def standard():
    sae = SAE.from_dict({"architecture": "standard", **shape})
    sae.W_dec.data, sae.W_enc.data = either_sign, either_sign.T
    return sae


for sae in (standard(), temporal()):
    sae.cfg.metadata.hook_name, sae.cfg.metadata.prepend_bos = place.values()
    store = ActivationsStore.from_sae(model, sae, texts, context_size=length, streaming=False, store_batch_size_prompts=4)
    what = EvalConfig(
        n_eval_reconstruction_batches=4, n_eval_sparsity_variance_batches=4, compute_ce_loss=True, compute_variance_metrics=True
    )
    found, _ = run_evals(sae, store, model, ActivationScaler(), what, exclude_special_tokens=False)
    with torch.no_grad():
        _, cache = model.run_with_cache(store.get_batch_tokens(50))
        x = cache["blocks.0.hook_resid_post"]
        away = float((sae(x) - x).abs().max())
    explained = found["reconstruction_quality"]["explained_variance"]
    losses = found["model_performance_preservation"]
    moved = abs(losses["ce_loss_with_sae"] - losses["ce_loss_without_sae"])
    print(
        f"{sae.cfg.architecture()}: forward is {'exact' if away < 1e-5 else 'not exact'}, explained variance {explained:.2f}, "
        f"the loss {'moves' if moved > 1e-3 else 'stays'}"
    )
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep -E "^(standard|temporal)")
echo "$said"
[ "$said" = "standard: forward is exact, explained variance 1.00, the loss stays
temporal: forward is exact, explained variance 0.07, the loss moves" ] || {
  echo "this is not what was seen before"
  exit 1
}
