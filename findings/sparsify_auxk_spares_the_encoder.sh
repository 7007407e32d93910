#!/usr/bin/env bash
# eai-sparsify 1.3.3: auxk_alpha adds the AuxK loss, in which dead latents predict what is left over, and multi_topk a loss of
# 4k latents. Which weights do these losses train?
#
# Expected: encoder and decoder of the latents in them, as automatic differentiation of the same forward pass does: a dead
# latent gets alive by its encoder.
# Seen (2026-11-29): the decoder alone. The encoder has a backward pass of its own, which uses the gradient of the k chosen
# activations and drops that of pre_acts, of which both losses are made. A step along AuxK alone moves no weight of the
# encoder; with the same forward pass and PyTorch's gradient it does.
# What follows: auxk_alpha and multi_topk change rows of the decoder that the encoder does not choose; a share of dead latents
# with and without them says little about the two methods.
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
from sparsify import SparseCoder, SparseCoderConfig, sparse_coder
from torch.nn import functional

torch.set_num_threads(1)
width, latents, k = 32, 256, 4


def plain_encoder(x, weight, bias, k, activation):
    """What the library's encoder computes forward, without a backward pass of its own."""
    pre_acts = functional.relu(functional.linear(x, weight, bias))
    return sparse_coder.EncoderOutput(*pre_acts.topk(k, dim=-1, sorted=False), pre_acts)


of_library = sparse_coder.fused_encoder
for gradient, encoder in (("of the library", of_library), ("of PyTorch", plain_encoder)):
    sparse_coder.fused_encoder = encoder
    for loss in ("fvu", "auxk_loss", "multi_topk_fvu"):
        torch.manual_seed(0)
        sae = SparseCoder(width, SparseCoderConfig(num_latents=latents, k=k, multi_topk=loss == "multi_topk_fvu"))
        x = torch.randn(512, width)
        dead = torch.arange(latents) < latents // 2
        before = {name: weight.detach().clone() for name, weight in sae.named_parameters()}
        optimizer = torch.optim.SGD(sae.parameters(), lr=1.0)
        getattr(sae(x, dead_mask=dead), loss).backward()
        optimizer.step()
        moved = ", ".join(
            f"{name} {'moves' if not torch.equal(weight, before[name]) else 'stays'}"
            for name, weight in sae.named_parameters()
            if name in ("encoder.weight", "W_dec")
        )
        print(f"gradient {gradient}, {loss}: {moved}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^gradient" | sort)
echo "$said"
[ "$said" = "gradient of PyTorch, auxk_loss: W_dec moves, encoder.weight moves
gradient of PyTorch, fvu: W_dec moves, encoder.weight moves
gradient of PyTorch, multi_topk_fvu: W_dec moves, encoder.weight moves
gradient of the library, auxk_loss: W_dec moves, encoder.weight stays
gradient of the library, fvu: W_dec moves, encoder.weight moves
gradient of the library, multi_topk_fvu: W_dec moves, encoder.weight stays" ] || {
  echo "this is not what was seen before"
  exit 1
}
