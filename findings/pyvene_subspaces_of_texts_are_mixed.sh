#!/usr/bin/env bash
# pyvene 0.1.8 with transformers 4.56.2: an interchange of two dimensions of the residual stream in a batch of two texts, with
# subspaces=[[[0, 1], [5, 6]]]: dimensions 0 and 1 of the first text are to come from the source, 5 and 6 of the second.
#
# Expected: that, at each position of unit_locations.
# Seen (2026-11-29): at one position both texts get all four, 0, 1, 5 and 6. At two positions the first one gets 0 and 1 in both
# texts, the second one 5 and 6: the lists of texts are taken for those of positions. With three an error is raised. Texts that
# have the same subspace get it.
# What follows: give texts with other subspaces one by one; results of batches of them are of other interventions.
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
sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 30, "bos_token_id": 0, "eos_token_id": 0}
model = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
base, source = torch.randint(1, 30, (2, 6)), torch.randint(1, 30, (2, 6))
block, seen = model.transformer.h[1], {}
forward = block.forward


def recorded(x, *args, **kwargs):  # what the second layer gets
    seen["x"] = x.detach().clone()
    return forward(x, *args, **kwargs)


block.forward = recorded
with torch.no_grad():
    model(source)
    of_source = seen["x"]
    for positions in ([2], [1, 2], [1, 2, 3]):
        for subspaces in ([[0, 1], [0, 1]], [[0, 1], [5, 6]]):
            place = pyvene.RepresentationConfig(0, "block_output", "pos", len(positions))
            config = pyvene.IntervenableConfig([place], intervention_types=pyvene.VanillaIntervention)
            intervenable = pyvene.IntervenableModel(config, model=model)
            locations = {"sources->base": ([[positions] * 2], [[positions] * 2])}
            try:
                intervenable({"input_ids": base}, [{"input_ids": source}], locations, subspaces=[subspaces])
            except (IndexError, RuntimeError) as error:
                print(f"subspaces {subspaces} at positions {positions}: {type(error).__name__}")
                continue
            for i in range(2):
                same = (seen["x"][i] - of_source[i]).abs() < 1e-6
                got = ", ".join(f"at {p} {same[p].nonzero().flatten().tolist()}" for p in positions)
                print(f"subspaces {subspaces} at positions {positions}, text {i}: of the source {got}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^subspaces")
echo "$said"
[ "$said" = "subspaces [[0, 1], [0, 1]] at positions [2], text 0: of the source at 2 [0, 1]
subspaces [[0, 1], [0, 1]] at positions [2], text 1: of the source at 2 [0, 1]
subspaces [[0, 1], [5, 6]] at positions [2], text 0: of the source at 2 [0, 1, 5, 6]
subspaces [[0, 1], [5, 6]] at positions [2], text 1: of the source at 2 [0, 1, 5, 6]
subspaces [[0, 1], [0, 1]] at positions [1, 2], text 0: of the source at 1 [0, 1], at 2 [0, 1]
subspaces [[0, 1], [0, 1]] at positions [1, 2], text 1: of the source at 1 [0, 1], at 2 [0, 1]
subspaces [[0, 1], [5, 6]] at positions [1, 2], text 0: of the source at 1 [0, 1], at 2 [5, 6]
subspaces [[0, 1], [5, 6]] at positions [1, 2], text 1: of the source at 1 [0, 1], at 2 [5, 6]
subspaces [[0, 1], [0, 1]] at positions [1, 2, 3], text 0: of the source at 1 [0, 1], at 2 [0, 1], at 3 [0, 1]
subspaces [[0, 1], [0, 1]] at positions [1, 2, 3], text 1: of the source at 1 [0, 1], at 2 [0, 1], at 3 [0, 1]
subspaces [[0, 1], [5, 6]] at positions [1, 2, 3]: IndexError" ] || {
  echo "this is not what was seen before"
  exit 1
}
