#!/usr/bin/env bash
# torch-cka 0.21: CKA(model1, model2) takes all layers by default; export() gives the matrix and the names of its rows. Two
# networks differ in their last layer alone. Which layer does the result name?
#
# Expected: "4", the last linear layer, and the whole network, whose name is "".
# Seen (2026-11-29): "3", the ReLU before it, and "4"; the whole network is said to be the same. Rows are in the order in
# which modules finish, names in that of named_modules(), where a module stands before its parts: each name stands at the
# layer behind it, and the whole network's at the first one. plot_results() labels the heatmap by the same names.
# What follows: give model1_layers and model2_layers, without modules that hold others; then the names are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch-cka==0.21 torch==2.13.0 numpy==2.4.6 matplotlib==3.11.2 tqdm==4.70.1
cat >"$folder/look.py" <<'PYTHON'
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_cka import CKA

torch.set_num_threads(1)
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
other = copy.deepcopy(network)
with torch.no_grad():
    other[4].weight.copy_(torch.randn(4, 16))
data = DataLoader(TensorDataset(torch.randn(512, 8)), batch_size=64)
leaves = ["0", "1", "2", "3", "4"]
for given, layers in (("no", {}), ("five", {"model1_layers": leaves, "model2_layers": leaves})):
    cka = CKA(copy.deepcopy(network), copy.deepcopy(other), "network", "other", **layers)
    cka.compare(data)
    found = cka.export()
    similarities = found["CKA"].diagonal().tolist()
    differ = [name for name, similarity in zip(found["model1_layers"], similarities) if similarity < 0.99]
    print(f"{given} layers given: of {found['model1_layers']} these differ: {differ}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "layers given")
echo "$said"
[ "$said" = "no layers given: of ['', '0', '1', '2', '3', '4'] these differ: ['3', '4']
five layers given: of ['0', '1', '2', '3', '4'] these differ: ['4']" ] || {
  echo "this is not what was seen before"
  exit 1
}
