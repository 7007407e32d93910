#!/usr/bin/env bash
# sae-lens 6.54.12 with eai-sparsify 1.3.3: SAELens has sparsify_disk_loader, and one for the hub, for folders of sparsify. A TopK
# SAE with a bias is saved by sparsify's save_to_disk and read so. Are its codes those of sparsify?
#
# Expected: yes, up to rounding.
# Seen (2026-11-29): it is not read at all: the loader transposes W_dec, which has the same orientation in both, and takes
# num_latents 0, sparsify's default that stands for expansion_factor, for a size. Where sizes are given by hand the config
# that it makes says that b_dec is not subtracted from the input (apply_b_dec_to_input is the contrary of normalize_decoder),
# which sparsify always does: more than a third of the latents are others then.
# What follows: make the SAE by hand, as below, which gives sparsify's codes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6 eai-sparsify==1.3.3
cat >"$folder/look.py" <<'PYTHON'
import tempfile

import torch
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import get_sparsify_config_from_disk, sparsify_disk_loader
from sparsify import SparseCoder, SparseCoderConfig

torch.manual_seed(0)
width, latents, k = 16, 64, 4
x = torch.randn(512, width)


def saved(folder, **options):
    """A random SAE of sparsify's, and its codes."""
    sae = SparseCoder(width, SparseCoderConfig(k=k, **options))
    with torch.no_grad():
        sae.b_dec.normal_()
        sae.encoder.bias.normal_(std=0.1)
        encoded = sae.encode(x)
    sae.save_to_disk(folder)
    return sae, torch.zeros(len(x), latents).scatter(1, encoded.top_indices, encoded.top_acts)


with tempfile.TemporaryDirectory() as folder:
    for name, options in {
        "num_latents": {"num_latents": latents},
        "expansion_factor": {"expansion_factor": latents // width},
    }.items():
        place = f"{folder}/{name}/layers.3"
        sae, codes = saved(place, **options)
        try:
            SAE.load_from_disk(place, converter=sparsify_disk_loader, dtype="float32")
            print(f"loaded with {name}")
        except RuntimeError as error:
            print(f"loaded with {name}: no,", "size mismatch for W_dec" if "size mismatch for W_dec" in str(error) else error)
    place = f"{folder}/num_latents/layers.3"
    sae, codes = saved(place, num_latents=latents)
    said = get_sparsify_config_from_disk(place)["apply_b_dec_to_input"]
for name, subtracts in {"as the loader's config says": said, "with b_dec subtracted": True}.items():
    by_hand = SAE.from_dict({"architecture": "topk", "d_in": width, "d_sae": latents, "k": k, "apply_b_dec_to_input": subtracts})
    with torch.no_grad():
        by_hand.W_enc.copy_(sae.encoder.weight.T)
        by_hand.b_enc.copy_(sae.encoder.bias)
        by_hand.W_dec.copy_(sae.W_dec)
        by_hand.b_dec.copy_(sae.b_dec)
        found = by_hand.encode(x)
    shared = float(((found > 0) & (codes > 0)).sum() / (codes > 0).sum())
    print(f"latents shared, by hand {name}: {'all' if shared > 0.999 else 'under two thirds' if shared < 2 / 3 else shared}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep -E "^(loaded|latents)")
echo "$said"
[ "$said" = "loaded with num_latents: no, size mismatch for W_dec
loaded with expansion_factor: no, size mismatch for W_dec
latents shared, by hand as the loader's config says: under two thirds
latents shared, by hand with b_dec subtracted: all" ] || {
  echo "this is not what was seen before"
  exit 1
}
