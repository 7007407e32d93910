#!/usr/bin/env bash
# torch 2.13.0: F.mse_loss of a reconstruction and its activations that are DTensors, sharded by rows over two processes, and
# its gradient. Do both say what they say of plain tensors?
#
# Expected: yes: how a DTensor lies over processes changes where a result is computed, not the result.
# Seen (2026-11-29): over even shards (4 rows) the loss is right, and its gradient is twice the right one, as each process divides
# by the number of its own elements; over uneven shards (5 rows) the loss is the mean of the processes' means, and the gradient
# is up to two and a half times the right one. So also huber_loss and binary_cross_entropy. l1_loss and the mean written out are
# right in both. Nothing warns.
# What follows: Adam alone hides the factor, but beside a penalty the reconstruction of a sparse autoencoder counts by the
# number of processes; write (x_hat - x).pow(2).mean() instead, or reduction="sum" and divide.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

LOSSES = {
    "mse_loss": F.mse_loss,
    "huber_loss": F.huber_loss,
    "binary_cross_entropy": F.binary_cross_entropy,
    "l1_loss": F.l1_loss,
    "mse_loss, summed": lambda x_hat, x: F.mse_loss(x_hat, x, reduction="sum"),
    "mean written out": lambda x_hat, x: (x_hat - x).pow(2).mean(),
}


def look(rank, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    for n_rows in (4, 5):
        x_hat, x = torch.rand(2, n_rows, 3)
        for name, loss in LOSSES.items():
            plain = x_hat.clone().requires_grad_()
            plain_loss = loss(plain, x)
            plain_loss.backward()
            told = []
            for gathered in (False, True):
                sharded = distribute_tensor(x_hat, mesh, [Shard(0)]).requires_grad_()
                sharded_loss = loss(sharded, distribute_tensor(x, mesh, [Shard(0)]))
                told_loss = sharded_loss.full_tensor()
                (told_loss if gathered else sharded_loss).backward()
                ratios = (sharded.grad.full_tensor() / plain.grad).flatten()
                right = torch.allclose(told_loss, plain_loss)
                told.append(f"loss {'right' if right else 'wrong'}, gradient x {ratios[0]:.2f} to {ratios[-1]:.2f}")
            if rank == 0:
                print(f"{n_rows} rows, {name}: {told[0] if told[0] == told[1] else told}")
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(look, args=(sys.argv[1],), nprocs=2)
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder/store" 2>"$folder/warnings" | grep "rows,")
echo "$said"
[ "$said" = "4 rows, mse_loss: loss right, gradient x 2.00 to 2.00
4 rows, huber_loss: loss right, gradient x 2.00 to 2.00
4 rows, binary_cross_entropy: loss right, gradient x 2.00 to 2.00
4 rows, l1_loss: loss right, gradient x 1.00 to 1.00
4 rows, mse_loss, summed: loss right, gradient x 1.00 to 1.00
4 rows, mean written out: loss right, gradient x 1.00 to 1.00
5 rows, mse_loss: loss wrong, gradient x 1.67 to 2.50
5 rows, huber_loss: loss wrong, gradient x 1.67 to 2.50
5 rows, binary_cross_entropy: loss wrong, gradient x 1.67 to 2.50
5 rows, l1_loss: loss right, gradient x 1.00 to 1.00
5 rows, mse_loss, summed: loss right, gradient x 1.00 to 1.00
5 rows, mean written out: loss right, gradient x 1.00 to 1.00" ] || {
  echo "this is not what was seen before"
  exit 1
}
