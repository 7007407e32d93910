#!/usr/bin/env bash
# torch 2.13.0: a checkpoint of step 0 is made with torch.distributed.checkpoint.state_dict.get_optimizer_state_dict (or
# get_state_dict), on one process, before anything is trained. Is the run that follows the one without that checkpoint?
#
# Expected: yes, as these functions get a state.
# Seen (2026-11-29): an optimizer without a state is made to take a step, with gradients of zero and a learning rate of zero. Adam
# and AdamW then count one step more, their bias correction takes the first real step for the second, and the first update is .74
# of what it is otherwise; later ones differ, too, and all of the training. SGD with momentum goes on as before.
# What follows: with a checkpoint before the first step a run is not the one without; save the model alone at step 0, or compare
# only runs that save at the same steps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, get_state_dict

print("torch", torch.__version__.split("+")[0])
readings = {
    "not read": lambda model, optimizer: None,
    "get_optimizer_state_dict": get_optimizer_state_dict,
    "get_state_dict": get_state_dict,
}
optimizers = {
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.0),
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}
for name, make in optimizers.items():
    for reading, read in readings.items():
        torch.manual_seed(0)
        model = torch.nn.Linear(8, 1, bias=False)
        optimizer = make(model.parameters())
        x = torch.randn(64, 8)
        read(model, optimizer)
        counted = sum(int(state["step"]) for state in optimizer.state.values() if "step" in state)
        updates = []
        for _ in range(5):
            before = model.weight.detach().clone()
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            updates.append(f"{float((model.weight - before).abs().mean()):.3f}")
        print(f"{name}, {reading}: {counted} steps taken before the first; mean updates {' '.join(updates)}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings")
echo "$said"
[ "$said" = "torch 2.13.0
Adam, not read: 0 steps taken before the first; mean updates 0.100 0.071 0.058 0.047 0.032
Adam, get_optimizer_state_dict: 1 steps taken before the first; mean updates 0.074 0.065 0.058 0.047 0.039
Adam, get_state_dict: 1 steps taken before the first; mean updates 0.074 0.065 0.058 0.047 0.039
AdamW, not read: 0 steps taken before the first; mean updates 0.100 0.071 0.058 0.047 0.032
AdamW, get_optimizer_state_dict: 1 steps taken before the first; mean updates 0.074 0.065 0.058 0.047 0.039
AdamW, get_state_dict: 1 steps taken before the first; mean updates 0.074 0.065 0.058 0.047 0.039
SGD with momentum, not read: 0 steps taken before the first; mean updates 0.037 0.061 0.068 0.058 0.038
SGD with momentum, get_optimizer_state_dict: 0 steps taken before the first; mean updates 0.037 0.061 0.068 0.058 0.038
SGD with momentum, get_state_dict: 0 steps taken before the first; mean updates 0.037 0.061 0.068 0.058 0.038" ] || {
  echo "this is not what was seen before"
  exit 1
}
