#!/usr/bin/env bash
# pyvene 0.1.8 with transformers 4.56.2: a forward hook records, or steers, a layer of a model. Then an IntervenableModel of the
# same model runs an intervention at another layer. Does the hook still run?
#
# Expected: yes; whoever makes an intervention removes his own hooks.
# Seen (2026-11-29): no, not in the intervention and not afterwards: before and after it all forward hooks and pre-hooks of all
# modules are taken off, the caller's among them, without a word. To make an IntervenableModel does nothing yet.
# What follows: register hooks anew after each intervention, or a model that is thought to be steered, or recorded, no longer is;
# inside an intervention there are no hooks but pyvene's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
# without the notebooks' widgets and plots
"$folder/venv/bin/python" -m pip install --quiet --no-deps pyvene==0.1.8
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==4.56.2 numpy==2.4.6 matplotlib==3.11.2
cat >"$folder/look.py" <<'PYTHON'
import pyvene
import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
sizes = {"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 30, "bos_token_id": 0, "eos_token_id": 0}
model = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
ids = torch.randint(1, 30, (2, 6))
ran = {"hook": 0, "pre-hook": 0}


def counted(kind):
    def count(*_):
        ran[kind] += 1

    return count


handle = model.transformer.h[2].register_forward_hook(counted("hook"))
model.transformer.h[2].register_forward_pre_hook(counted("pre-hook"))


def told(when, run):
    ran.update({"hook": 0, "pre-hook": 0})
    with torch.no_grad():
        run()
    print(f"runs of the hook {ran['hook']}, of the pre-hook {ran['pre-hook']}: {when}")


told("the model, before", lambda: model(ids))
config = pyvene.IntervenableConfig(
    [pyvene.RepresentationConfig(0, "block_output", "pos", 1)], intervention_types=pyvene.VanillaIntervention
)
intervenable = pyvene.IntervenableModel(config, model=model)
told("the model, with an IntervenableModel made", lambda: model(ids))
locations = {"sources->base": (2, 2)}
told("an intervention", lambda: intervenable({"input_ids": ids}, [{"input_ids": ids}], locations))
told("the model, after it", lambda: model(ids))
told("a second intervention", lambda: intervenable({"input_ids": ids}, [{"input_ids": ids}], locations))
handle.remove()
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^runs")
echo "$said"
[ "$said" = "runs of the hook 1, of the pre-hook 1: the model, before
runs of the hook 1, of the pre-hook 1: the model, with an IntervenableModel made
runs of the hook 0, of the pre-hook 0: an intervention
runs of the hook 0, of the pre-hook 0: the model, after it
runs of the hook 0, of the pre-hook 0: a second intervention" ] || {
  echo "this is not what was seen before"
  exit 1
}
