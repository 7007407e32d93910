#!/usr/bin/env bash
# sae-bench 0.6.0: core.run_evals of one SAE that gives back half of each activation, on activations without a mean, which are read
# at five scales; and of the same 64 texts, read in one batch or in batches of 8 or 1. How good is the reconstruction?
#
# Expected: an explained variance of 1 - .5^2 = .75 at each scale, and an mse that does not depend on batches.
# Seen (2026-11-29): explained_variance is .75 at a scale of .1, falls to -3.9 at 3.9, and is 1.05 at 10: what is subtracted
# from the mean of |x|^2 is not |mean of x|^2 but the square of the mean of all x_d^2, which has another unit. mse is divided by
# the tokens of a batch, and then averaged over them: 8 times as many texts in a batch give an eighth. explained_variance_legacy
# and cossim do not change.
# What follows: neither number is to be compared over models, layers or batch sizes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
# without what the core evaluation does not use
"$folder/venv/bin/python" -m pip install --quiet --no-deps sae-bench==0.6.0
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6 tabulate==0.10.0
cat >"$folder/look.py" <<'PYTHON'
import torch
from sae_bench.custom_saes.relu_sae import ReluSAE
from sae_bench.evals.core.eval_config import CoreEvalConfig
from sae_bench.evals.core.main import run_evals
from transformer_lens import HookedTransformer, HookedTransformerConfig

torch.manual_seed(0)
width, n_texts, n_tokens, vocabulary = 16, 64, 32, 4096
sizes = {"n_layers": 1, "d_model": width, "d_head": 8, "n_heads": 2, "n_ctx": n_tokens, "d_vocab": vocabulary}
model = HookedTransformer(HookedTransformerConfig(**sizes, act_fn="gelu", device="cpu"))
place = "blocks.0.hook_resid_pre"
sae = ReluSAE(width, 2 * width, "tiny", 0, torch.device("cpu"), torch.float32, hook_name=place)
with torch.no_grad():
    identity = torch.eye(width)
    sae.W_enc.copy_(torch.cat([identity, -identity], dim=1))
    sae.W_dec.copy_(0.5 * torch.cat([identity, -identity]))
embeddings = torch.randn(vocabulary // 2, width)
embeddings = torch.cat([embeddings, -embeddings])  # a mean of zero
texts = torch.randperm(vocabulary)[: n_texts * n_tokens].reshape(n_texts, n_tokens)


class Store:
    context_size = n_tokens

    def __init__(self):
        self.read = 0

    def get_batch_tokens(self, batch_size):
        self.read += batch_size
        return texts[self.read - batch_size : self.read]


def evaluated(scale, batch_size):
    with torch.no_grad():
        model.W_E.copy_(scale * embeddings)
        model.W_pos.zero_()
    config = CoreEvalConfig(
        model_name="tiny",
        batch_size_prompts=batch_size,
        n_eval_sparsity_variance_batches=n_texts // batch_size,
        compute_variance_metrics=True,
        compute_featurewise_density_statistics=True,
    )
    return run_evals(sae, Store(), model, config)[0]["reconstruction_quality"]


for scale in (0.1, 1, 2, 3.9, 10):
    found = evaluated(scale, n_texts)
    told = ", ".join(f"{name} {found[name]:.2f}" for name in ("explained_variance", "explained_variance_legacy", "cossim"))
    print(f"half of each activation, scale {scale}: {told}")
for batch_size in (64, 8, 1):
    print(f"half of each activation, batches of {batch_size}: mse {evaluated(1, batch_size)['mse']:.5f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^half")
echo "$said"
[ "$said" = "half of each activation, scale 0.1: explained_variance 0.75, explained_variance_legacy 0.75, cossim 1.00
half of each activation, scale 1: explained_variance 0.73, explained_variance_legacy 0.75, cossim 1.00
half of each activation, scale 2: explained_variance 0.67, explained_variance_legacy 0.75, cossim 1.00
half of each activation, scale 3.9: explained_variance -3.90, explained_variance_legacy 0.75, cossim 1.00
half of each activation, scale 10: explained_variance 1.05, explained_variance_legacy 0.75, cossim 1.00
half of each activation, batches of 64: mse 0.00195
half of each activation, batches of 8: mse 0.01560
half of each activation, batches of 1: mse 0.12478" ] || {
  echo "this is not what was seen before"
  exit 1
}
