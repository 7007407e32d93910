#!/usr/bin/env bash
# sae-probes 0.4.2: run_sae_evals is given one SAE after another of the same place in a model. What does it do with the
# second one?
#
# Expected: probe it, beside the first one's results or in place of them; or say that they are in its way.
# Seen (2026-11-28): nothing. The name of the file of results has the data set, the hook, the penalty and the language
# model in it, and nothing of the SAE. The second call prints "Skipping", returns as if all was well, and the file holds
# the figures of the first SAE.
# What follows: give each SAE a results_path of its own, or two dictionaries (and two seeds of one) score the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet sae-probes==0.4.2 sae-lens==6.54.12 transformer-lens==3.9.0 torch==2.13.0
cat >"$folder/look.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from sae_lens import SAE
from sae_probes import run_sae_evals
from sae_probes.utils_data import get_yvals

folder = Path(sys.argv[1])
name, hook = "95_toxic_is", "blocks.0.hook_resid_post"
cache = folder / "model_activations_gpt2"
cache.mkdir()
torch.set_num_threads(1)
torch.manual_seed(0)
# in place of GPT-2's, so that no model is loaded
torch.save(torch.randn(len(get_yvals(name)), 8), cache / f"{name}_{hook}.pt")


def evaluate(n_latents):
    sae = SAE.from_dict({"architecture": "standard", "d_in": 8, "d_sae": n_latents})
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_()
    run_sae_evals(
        sae=sae,
        model_name="gpt2",
        hook_name=hook,
        reg_type="l2",
        setting="normal",
        ks=[n_latents],
        datasets=[name],
        model_cache_path=folder,
        results_path=folder / "results",
        device="cpu",
    )
    (file,) = (folder / "results").rglob("*.json")
    return json.loads(file.read_text())[0]["k"]


print("seen: after an SAE of 16 latents, the results are of", evaluate(16))
print("seen: after an SAE of 32 latents, the results are of", evaluate(32))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder" 2>/dev/null)
echo "$said"
[ "$(echo "$said" | grep -c "^Skipping dataset 95_toxic_is")" = 1 ] && [ "$(echo "$said" | grep "^seen")" = \
  "seen: after an SAE of 16 latents, the results are of 16
seen: after an SAE of 32 latents, the results are of 16" ] || {
  echo "this is not what was seen before"
  exit 1
}
