"""The same training in one process and in several, for the tests beside it.

    python tests/distributed/worlds.py OUTPUT W [CASE ...]

W processes (gloo, forked, meeting in a file) run every case on their rows of the same batches; the first one
saves what came of it in OUTPUT. Not a test by itself: a module's fixture runs it once for each W.
"""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dictionary_learning import distributed
from dictionary_learning.activations.block import TextPairs
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.trainers.architectures import ARCHITECTURES
from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate

STEPS = 50 if os.environ.get("COLD") else 12  # all of them in the long run, `scripts/torture.sh`
B, D, LATENTS = 24, 12, 48
MEASURED = (0, 5, 10, STEPS - 1)
WITHOUT_CODES = 5  # the step whose first process has none
COMMON: dict[str, Any] = {"steps": STEPS, "activation_dim": D, "seed": 0, "device": "cpu", "warmup_steps": 5}
TOPK = {"dict_size": LATENTS, "k": 4, "lr": 1e-3, "threshold_start_step": 5, "auxk_alpha": 0.1}
ATTENTION = {"width": LATENTS, "k": 4, "n_heads": 2, "bottleneck_factor": 4, "lr": 1e-3}


def temporal(**options: Any) -> dict[str, Any]:
    return {"arch": "temporal", "unit": "pairs", **TOPK, **options}


CASES: dict[str, dict[str, Any]] = {
    "temporal_paper": temporal(form="paper", temperature=0.1, temp_alpha=1.0),
    "temporal_code": temporal(form="code", temp_alpha=0.1),
    "temporal_bfloat16": temporal(form="paper", temperature=0.1, encoder_dtype="bfloat16"),
    "temporal_l1": temporal(contrastive=False),
    "temporal_runs": temporal(form="paper", temperature=0.1, run_length=3) | {"unit": "runs"},
    "temporal_texts": temporal(form="paper", temperature=0.1, negatives="other_texts") | {"unit": "of_texts"},
    "matryoshka": {"arch": "matryoshka", **TOPK, "group_fractions": (0.25, 0.25, 0.5)},
    "batch_top_k": {"arch": "batch_top_k", **TOPK},
    "batch_top_k_annealed": {"arch": "batch_top_k", **TOPK, "k_anneal_steps": 10},
    "top_k": {"arch": "top_k", **TOPK},
    "standard": {"arch": "standard", "dict_size": LATENTS, "lr": 1e-3, "resample_steps": 8},
    "april": {"arch": StandardTrainerAprilUpdate, "dict_size": LATENTS, "lr": 1e-3},
    "gated": {"arch": "gated", "dict_size": LATENTS, "lr": 1e-3},
    "jumprelu": {"arch": "jumprelu", "dict_size": LATENTS, "lr": 1e-3, "target_l0": 5.0, "bandwidth": 0.1},
    "jumprelu_l0": {
        "arch": "jumprelu",
        "dict_size": LATENTS,
        "lr": 5e-4,
        "target_l0": None,
        "bandwidth": 0.1,
    },
    "attention_topk": {"arch": "attention", "unit": "texts", **ATTENTION},
    "attention_recall": {"arch": "attention", "unit": "texts", **ATTENTION, "start": "recall", "lr": 1e-2},
    "attention_recall_low_rank": {
        **{"arch": "attention", "unit": "texts", **ATTENTION, "start": "recall", "lr": 1e-2},
        "value_rank": 16,
    },
    "attention_batchtopk": {
        **{"arch": "attention", "unit": "texts", **ATTENTION},
        **{"sae_diff_type": "batchtopk", "threshold_start_step": 5},
    },
    "attention_relu": {
        **{"arch": "attention", "unit": "texts", **ATTENTION, "sae_diff_type": "relu", "gamma_reg": 0.1},
    },
}


def batches(unit: str) -> list[Any]:
    """The global batches: the last one is smaller, and one has rows without any code at its beginning."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(LATENTS, D, generator=generator), dim=1)
    found: list[Any] = []
    for step in range(STEPS):
        n = 14 if step == STEPS - 1 else B
        n_tokens = {"pairs": 2, "of_texts": 2, "runs": 4, "texts": 5, "tokens": 1}[unit]
        on = torch.rand(n, 1, LATENTS, generator=generator) < 0.05  # shared by the tokens of a text
        code = on * torch.rand(n, n_tokens, LATENTS, generator=generator)
        x = code @ directions + 0.05 * torch.randn(n, n_tokens, D, generator=generator)
        if step == WITHOUT_CODES:
            x[: n // 4] = 0.0
        if unit == "texts":
            length_N = torch.randint(1, n_tokens + 1, (n,), generator=generator)
            mask = torch.arange(n_tokens) < length_N[:, None]
            found.append(Sequences.of(x, mask))
        elif unit == "of_texts":
            found.append(TextPairs(x, torch.randint(5, (n,), generator=generator)))
        else:
            found.append(x[:, 0] if unit == "tokens" else x)
    return found


def rows(batch: Any) -> Any:
    if isinstance(batch, Sequences):
        return batch.texts(distributed.share(len(batch.length_N)))
    return batch[distributed.share(len(batch))]


def train(name: str) -> dict[str, Any]:
    """What a case's training leaves, step by step and at the end."""
    options = dict(CASES[name])
    arch, unit = options.pop("arch"), options.pop("unit", "tokens")
    cls = ARCHITECTURES[arch].trainer_class() if isinstance(arch, str) else arch
    torch.manual_seed(0)
    trainer = cls(**COMMON, **options)
    trainer.dead_feature_threshold = 48
    data = batches(unit)
    losses, metrics, thresholds = [], [], []
    for step, batch in enumerate(data):
        losses.append(trainer.update(step, rows(batch)))
        thresholds.append(float(getattr(trainer.ae, "threshold", torch.zeros(1)).sum()))
        if step in MEASURED:
            metrics.append(trainer.metrics())
    first = {n: t.clone() for n, t in trainer.ae.state_dict().items()}
    calibrated = trainer.calibrate(rows(batch) for batch in data[:5])
    return {
        "weights": first,
        "losses": torch.tensor(losses),
        "metrics": [{n: torch.tensor(v) for n, v in m.items()} for m in metrics],
        "thresholds": torch.tensor(thresholds),
        "calibrated": {n: torch.tensor(v) for n, v in (calibrated or {}).items()},
        "fired": trainer.dead_latents.tokens_since_fired_F,
    }


def _process(rank: int, size: int, meeting: str, output: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    results = {name: train(name) for name in names}
    if rank == 0:
        torch.save(results, output)
    dist.barrier()
    dist.destroy_process_group()


def main(output: str, size: int, names: list[str]) -> None:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        processes = [
            context.Process(target=_process, args=(rank, size, meeting, output, names))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(CASES))
