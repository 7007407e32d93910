#!/usr/bin/env bash
# sae-lens 6.54.12: SAEs with normalize_activations constant_norm_rescale or layer_norm scale each token before the encoder
# and back behind the decoder. What does decode() do with codes of an earlier encode(), or with the same codes twice?
#
# Expected: the same as right after their encode(); or decode() asks for the scale.
# Seen (2026-11-28): the SAE keeps the scale of the last encode() and gives it to the next decode(), once. Codes of one
# batch that are decoded after another batch was encoded come out in that one's scale (here 13 times too large),
# without a word where both have the same shape; decoding a second time is an AttributeError.
# What follows: with such an SAE decode each batch before the next is encoded, once; codes that were changed or kept,
# as in steering, need the scale of their own tokens.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-lens==6.54.12 torch==2.13.0 transformer-lens==3.9.0 \
  transformers==5.23.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

for mode in ("none", "constant_norm_rescale", "layer_norm"):
    torch.manual_seed(0)
    sae = StandardSAE(
        StandardSAEConfig(d_in=16, d_sae=64, normalize_activations=mode, device="cpu", dtype="float32")
    )
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_(0, 0.3)
        small, large = torch.randn(4, 16), 10 * torch.randn(4, 16)
        codes = sae.encode(small)
        at_once = sae.decode(codes)
        codes = sae.encode(small)
        sae.encode(large)
        later = sae.decode(codes)
        try:
            again = "the same" if torch.equal(sae.decode(codes), later) else "another"
        except AttributeError:
            again = "AttributeError"
    print(f"{mode}: later / at once {float(later.norm() / at_once.norm()):.0f}, a second time: {again}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "later / at once")
echo "$said"
[ "$said" = "none: later / at once 1, a second time: the same
constant_norm_rescale: later / at once 13, a second time: AttributeError
layer_norm: later / at once 13, a second time: AttributeError" ] || {
  echo "this is not what was seen before"
  exit 1
}
