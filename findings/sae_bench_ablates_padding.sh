#!/usr/bin/env bash
# sae-bench 0.6.0: SCR and TPP ablate latents in activations whose padding was set to zero, and give probes each text's mean over
# its tokens. One text of 4 tokens is padded to 4, 16 and 128; a latent is ablated that is active at none of the 4.
#
# Expected: the mean of the text as it is, however it is padded: nothing of it is ablated.
# Seen (2026-11-29): ablated_precomputed_activations encodes the zeros of the padding, too. The latent is active there, as biases
# have it, is ablated, and what that changes is added up with the tokens, and divided by the number of tokens alone: each token of
# padding moves the text by as much again. The choice of latents, in contrast, leaves padding out.
# What follows: effects of ablations in SCR and TPP hold an offset that grows with padding, where latents are active at zero.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
# without what these functions do not use
"$folder/venv/bin/python" -m pip install --quiet --no-deps sae-bench==0.6.0
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6 tabulate==0.10.0 scikit-learn==1.9.1
cat >"$folder/look.py" <<'PYTHON'
import torch
from sae_bench.custom_saes.relu_sae import ReluSAE
from sae_bench.evals.scr_and_tpp.main import ablated_precomputed_activations

torch.manual_seed(0)
width = 8
sae = ReluSAE(width, 2 * width, "tiny", 0, torch.device("cpu"), torch.float32)
b_dec = torch.zeros(width)
b_dec[0] = -1.0  # activations have a mean, as those of language models do
with torch.no_grad():
    identity = torch.eye(width)
    sae.W_enc.copy_(torch.cat([identity, -identity], dim=1))
    sae.W_dec.copy_(torch.cat([identity, -identity]))
    sae.b_dec.copy_(b_dec)
x = torch.randn(1, 4, width)
x[..., 0] = -2.0  # below the mean: latent 0, which is x_0 + 1 where that is positive, is not active
ablated = torch.zeros(2 * width, dtype=torch.bool)
ablated[0] = True
with torch.no_grad():
    print(f"text: latent 0 is {sae.encode(x)[..., 0].flatten().tolist()} in its tokens")
    print(f"text: latent 0 is {float(sae.encode(torch.zeros(1, width))[0, 0])} in padding")
    for length in (4, 16, 128):
        padded = torch.zeros(1, length, width)
        padded[:, :4] = x
        mean = ablated_precomputed_activations(padded, sae, ablated, sae_batch_size=1)
        moved = float((mean - x.mean(1)).norm())
        print(f"text: of norm {float(x.mean(1).norm()):.2f}, padded to {length}, is moved by {moved:.2f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^text")
echo "$said"
[ "$said" = "text: latent 0 is [0.0, 0.0, 0.0, 0.0] in its tokens
text: latent 0 is 1.0 in padding
text: of norm 2.54, padded to 4, is moved by 0.00
text: of norm 2.54, padded to 16, is moved by 3.00
text: of norm 2.54, padded to 128, is moved by 31.00" ] || {
  echo "this is not what was seen before"
  exit 1
}
