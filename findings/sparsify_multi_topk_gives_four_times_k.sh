#!/usr/bin/env bash
# eai-sparsify 1.3.3: SparseCoderConfig(multi_topk=True) adds a second loss, that of a reconstruction by 4k latents. What does
# forward() give back, and does the second loss know of the skip connection of a transcoder?
#
# Expected: k activations and indices ("of the top-k latents"), and the reconstruction that fvu is of; a transcoder whose skip
# connection is exact has both losses 0.
# Seen (2026-11-29): activations, indices and reconstruction of 4k latents; only fvu is of k. Training end to end (loss_fn "ce"
# and "kl") puts this sae_out into the model, so it trains 4k latents, and the trainer counts all 4k as having fired.
# The reconstruction by 4k leaves out the skip connection: with an exact one fvu is 0 and multi_topk_fvu 1.
# What follows: with multi_topk take codes from encode(), which gives k, and decode those.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 \
  numpy==2.4.6
# without triton, which a CPU does not need
"$folder/venv/bin/python" -m pip install --quiet --no-deps eai-sparsify==1.3.3
"$folder/venv/bin/python" -m pip install --quiet simple-parsing==0.1.9 schedulefree==1.4.1 natsort==8.4.0 einops==0.8.2
cat >"$folder/look.py" <<'PYTHON'
import torch
from sparsify import SparseCoder, SparseCoderConfig

torch.set_num_threads(1)
width, k = 16, 4
torch.manual_seed(0)
x = torch.randn(64, width)
for multi_topk in (False, True):
    torch.manual_seed(0)
    sae = SparseCoder(width, SparseCoderConfig(num_latents=64, k=k, multi_topk=multi_topk))
    with torch.no_grad():
        out = sae(x)
        fvu = float((x - out.sae_out).pow(2).sum() / (x - x.mean(0)).pow(2).sum())
        encoded = sae.encode(x).top_acts.shape[1]
    n_latents = out.latent_indices.shape[1]
    told = "is" if abs(fvu - float(out.fvu)) < 1e-5 else "is not"
    print(f"multi_topk {multi_topk}, k {k}: encode gives {encoded}, forward {n_latents}; sae_out {told} what fvu is of")

sae = SparseCoder(
    width, SparseCoderConfig(num_latents=64, k=k, multi_topk=True, skip_connection=True, transcode=True)
)  # its decoder starts at zero
with torch.no_grad():
    sae.W_skip.copy_(torch.eye(width))
    out = sae(x, x)
print(f"multi_topk and an exact skip connection: fvu {float(out.fvu):.1f}, multi_topk_fvu {float(out.multi_topk_fvu):.1f}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^multi_topk")
echo "$said"
[ "$said" = "multi_topk False, k 4: encode gives 4, forward 4; sae_out is what fvu is of
multi_topk True, k 4: encode gives 4, forward 16; sae_out is not what fvu is of
multi_topk and an exact skip connection: fvu 0.0, multi_topk_fvu 1.0" ] || {
  echo "this is not what was seen before"
  exit 1
}
