#!/usr/bin/env bash
# torch 2.13.0 on CPU: a dictionary is cut down to its first 64 of 128 latents, nn.Parameter(encoder[:, :64]), and trained with
# fused=True. Does it train as without?
#
# Expected: yes, but for rounding; fused is said to be an implementation, a faster one. Or an error.
# Seen (2026-11-28): no. Adam, AdamW, SGD and Adagrad run over the memory of the parameter as if it were contiguous, with
# the gradients in another order: the loss grows (Adam: from 61 to over 1,000, where it falls to .002 without), and the 64
# latents that were cut off, which share the memory, are changed. Nothing warns. With a copy of the slice all is well; so is
# a transposed parameter, whose gradient autograd lays out alike, as long as no contiguous gradient is assigned to it.
# What follows: .contiguous() each parameter that is a view before fused=True, or assert that it is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.3.5
cat >"$folder/train.py" <<'PYTHON'
import torch

torch.set_num_threads(1)
RATES = {torch.optim.Adam: 0.01, torch.optim.AdamW: 0.01, torch.optim.SGD: 1.0, torch.optim.Adagrad: 0.05}


def train(optimizer, cut, fused):
    """What the loss becomes, and whether what was cut off is as it was."""
    torch.manual_seed(0)
    whole, x, goal = torch.randn(32, 128), torch.randn(256, 32), torch.randn(32, 64)
    cut_off = whole[:, 64:].clone()
    encoder = torch.nn.Parameter(cut(whole[:, :64]))
    steps = optimizer([encoder], lr=RATES[optimizer], fused=fused)
    losses = []
    for _ in range(1000):
        steps.zero_grad()
        loss = (x @ (encoder - goal)).square().mean()
        losses.append(float(loss))
        loss.backward()
        steps.step()
    told = "falls below a tenth" if losses[-1] < losses[0] / 10 else "does not fall"
    return f"the loss {told}, what was cut off is {'as it was' if whole[:, 64:].equal(cut_off) else 'changed'}"


for optimizer in RATES:
    for cut in (torch.Tensor.detach, torch.clone):
        for fused in (False, True):
            kind = "slice" if cut is torch.Tensor.detach else "copy"
            print(f"{optimizer.__name__}, {kind}, fused={fused}: {train(optimizer, cut, fused)}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/train.py")
echo "$said"
expected=$(for optimizer in Adam AdamW SGD Adagrad; do
  echo "$optimizer, slice, fused=False: the loss falls below a tenth, what was cut off is as it was"
  echo "$optimizer, slice, fused=True: the loss does not fall, what was cut off is changed"
  echo "$optimizer, copy, fused=False: the loss falls below a tenth, what was cut off is as it was"
  echo "$optimizer, copy, fused=True: the loss falls below a tenth, what was cut off is as it was"
done)
[ "$said" = "$expected" ] || {
  echo "this is not what was seen before"
  exit 1
}
