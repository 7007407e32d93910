#!/usr/bin/env bash
# torchmetrics 1.9.0: BinaryAUROC, updated batch by batch with the logits of a probe, which it takes in place of probabilities.
# The AUROC is about the order of the values alone. Does it depend on the batches?
#
# Expected: no.
# Seen (2026-11-29): yes. A batch with a value outside [0, 1] is put through a sigmoid, one without is not, and both are then
# ordered together. Logits of a weak probe that ranks all texts right have the AUROC 0 where the data set is in the order of its
# classes (positive logits .2 to .4 stay, negative ones become .4 to .45); 2,000 logits of a usual probe have .868 in batches of
# 10 and more, .850 in pairs and .828 one by one. BinaryAveragePrecision and BinaryCalibrationError do the same. Nothing warns.
# What follows: give it logits.sigmoid(), or all logits at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from torchmetrics.classification import BinaryAUROC


def auroc(logits, labels, batch_size):
    metric = BinaryAUROC()
    for batch in zip(logits.split(batch_size), labels.split(batch_size)):
        metric.update(*batch)
    return f"{metric.compute():.3f}"


logits = torch.cat([torch.linspace(-0.4, -0.2, 100), torch.linspace(0.2, 0.4, 100)])
labels = torch.arange(2).repeat_interleave(100)
print(f"AUROC, weak probe, by class: at once {auroc(logits, labels, 200)}, in batches of 50 {auroc(logits, labels, 50)}")

torch.manual_seed(0)
labels = torch.randint(0, 2, (2000,))
logits = torch.randn(2000) + 1.5 * labels
told = ", ".join(f"{size} a batch {auroc(logits, labels, size)}" for size in (2000, 10, 2, 1))
print(f"AUROC, usual probe: {told}")
told = ", ".join(f"{size} a batch {auroc(logits.sigmoid(), labels, size)}" for size in (2000, 1))
print(f"AUROC, its probabilities: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^AUROC")
echo "$said"
[ "$said" = "AUROC, weak probe, by class: at once 1.000, in batches of 50 0.000
AUROC, usual probe: 2000 a batch 0.868, 10 a batch 0.868, 2 a batch 0.850, 1 a batch 0.828
AUROC, its probabilities: 2000 a batch 0.868, 1 a batch 0.868" ] || {
  echo "this is not what was seen before"
  exit 1
}
