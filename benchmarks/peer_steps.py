"""The steps of one trainer, each taken when it is asked for: what `peers.py` starts, a process a trainer.

    python benchmarks/peer_steps.py '{"who": "SAELens", "method": "BatchTopK", ...}'

It runs in an environment of the peer's own and imports nothing of this project but for `ours`, an earlier
build of it and the plain forms of the released code. A line read is the number of a step; a line written says
what it took.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

JOB = json.loads(sys.argv[1])
if JOB["who"] in ("ours", "ours, bfloat16"):
    from dictionary_learning.command.memory import keep_freed_memory

    keep_freed_memory()  # as every command of this project does, before PyTorch is imported

import torch  # noqa: E402

Update = Callable[[int, torch.Tensor], float]
GROUP_FRACTIONS = [0.2, 0.8]
LR, WARMUP, TEMP_ALPHA = 3e-4, 100, 0.1
TEXTS_LR, TEXTS_WARMUP, HEADS, BOTTLENECK = 1e-3, 200, 4, 8


def main() -> None:
    job = JOB
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints goes the way of its warnings
    batches = torch.load(job["batches"], weights_only=True)
    update = MAKERS[job["who"]](job)
    for line in sys.stdin:
        step = int(line)
        batch = batches[step % len(batches)]
        wall, processor = time.perf_counter(), time.thread_time()
        loss = update(step, batch)
        took = {"processor": time.thread_time() - processor, "wall": time.perf_counter() - wall}
        print(json.dumps({"loss": loss, **took}), file=out, flush=True)


def ours(job: dict[str, Any]) -> Update:
    from dictionary_learning import trainers

    if job["method"] == "TemporalSAE":
        return _our_texts(job).update
    names = {"T-SAE": "TemporalMatryoshkaBatchTopK", "Matryoshka": "MatryoshkaBatchTopK"}
    trainer = getattr(trainers, f"{names.get(job['method'], job['method'])}Trainer")
    return trainer(**_options(job)).update


def _options(job: dict[str, Any]) -> dict[str, Any]:
    """What the trainers of this project and of dictionary_learning are given."""
    options = {
        "steps": job["steps"],
        "activation_dim": job["d_model"],
        "dict_size": job["size"],
        "k": job["k"],
        "lr": LR,
        "warmup_steps": WARMUP,
        "layer": 0,
        "lm_name": "none",
        "seed": 0,
        "device": "cpu",
    }
    if job["method"] in ("T-SAE", "Matryoshka"):
        options |= {"group_fractions": GROUP_FRACTIONS, "group_weights": GROUP_FRACTIONS}
    if job["method"] == "T-SAE":
        options["temp_alpha"] = TEMP_ALPHA
    if job["who"].endswith("bfloat16"):
        options["encoder_dtype"] = "bfloat16"
    return options


def _our_texts(job: dict[str, Any]) -> Any:
    from dictionary_learning.trainers import TemporalAttentionTrainer

    return TemporalAttentionTrainer(
        steps=job["steps"],
        activation_dim=job["d_model"],
        width=job["size"],
        k=job["k"],
        n_heads=HEADS,
        bottleneck_factor=BOTTLENECK,
        lr=TEXTS_LR,
        warmup_steps=TEXTS_WARMUP,
        seed=0,
        device="cpu",
    )


def ours_in_bfloat16(job: dict[str, Any]) -> Update:
    update = ours(job)
    if job["method"] != "TemporalSAE":
        return update

    def under_autocast(step: int, x: torch.Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            return update(step, x)

    return under_autocast


def released(job: dict[str, Any]) -> Update:
    """The plain dense forms that the tests compare with, from the same weights as ours."""
    if job["method"] == "TemporalSAE":
        from reference_tfa import WholeBatches, WholeBatchStep

        sae = WholeBatches(_our_texts(job).ae.state_dict(), HEADS, job["k"])
        return WholeBatchStep(sae, lr=TEXTS_LR, steps=job["steps"], warmup_steps=TEXTS_WARMUP).update
    from reference_tsae import DenseStep, DenseTSAE

    from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKTrainer

    twin = TemporalMatryoshkaBatchTopKTrainer(**_options(job))
    ae = DenseTSAE(twin.ae.W_dec.detach(), twin.group_sizes, job["k"])
    plain = DenseStep(ae, lr=LR, group_weights=GROUP_FRACTIONS, temp_alpha=TEMP_ALPHA, warmup_steps=WARMUP)

    def update(step: int, x: torch.Tensor) -> float:
        if step == 0:  # the geometric median, which the plain form leaves to others
            twin.update(0, x)
            ae.b_dec.data.copy_(twin.ae.b_dec.data)
        return plain.update(step, x)

    return update


def dictionary_learning(job: dict[str, Any]) -> Update:
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    trainer = {
        "Matryoshka": matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer,
        "BatchTopK": batch_top_k.BatchTopKTrainer,
        "TopK": top_k.TopKTrainer,
    }[job["method"]](**_options(job))
    return lambda step, x: float(trainer.update(step, x))


def saelens(job: dict[str, Any]) -> Update:
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes import batchtopk_sae, matryoshka_batchtopk_sae
    from sae_lens.training.sae_trainer import SAETrainer

    sizes = {"d_in": job["d_model"], "d_sae": job["size"], "k": job["k"], "device": "cpu", "dtype": "float32"}
    if job["method"] == "Matryoshka":
        widths = [int(GROUP_FRACTIONS[0] * job["size"]), job["size"]]
        cfg: Any = matryoshka_batchtopk_sae.MatryoshkaBatchTopKTrainingSAEConfig(
            **sizes, matryoshka_widths=widths
        )
        sae: Any = matryoshka_batchtopk_sae.MatryoshkaBatchTopKTrainingSAE(cfg)
    else:
        sae = batchtopk_sae.BatchTopKTrainingSAE(batchtopk_sae.BatchTopKTrainingSAEConfig(**sizes))
    n_rows = job["rows"]
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=job["steps"] * n_rows,
            train_batch_size_samples=n_rows,
            lr=LR,
            lr_end=LR / 10,
            lr_warm_up_steps=WARMUP,
        ),
        sae,
        iter([]),
    )

    def update(step: int, x: torch.Tensor) -> float:
        output = trainer.step(x)
        trainer.n_training_steps += 1
        return float(output.loss)

    return update


def sparsify(job: dict[str, Any]) -> Update:
    """The body of its training loop for one SAE on activations that are there, with its default optimiser."""
    from schedulefree import ScheduleFreeWrapper
    from sparsify.config import SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
    from sparsify.sparse_coder import SparseCoder

    sae = SparseCoder(job["d_model"], SparseCoderConfig(num_latents=job["size"], k=job["k"]), "cpu")
    optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), lr=LR), momentum=0.95)
    optimizer.train()
    since_fired = torch.zeros(job["size"], dtype=torch.long)

    def update(step: int, x: torch.Tensor) -> float:
        sae.set_decoder_norm_to_unit_norm()
        out = sae(x=x, total_variance=(x - x.mean(0)).pow(2).sum())
        fired = torch.zeros(job["size"], dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        loss = float(out.fvu.detach())
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            since_fired.add_(len(x))
            since_fired[fired] = 0
        return loss

    return update


MAKERS: dict[str, Callable[[dict[str, Any]], Update]] = {
    "ours": ours,
    "ours, bfloat16": ours_in_bfloat16,
    "earlier": ours,
    "earlier, bfloat16": ours_in_bfloat16,
    "released form": released,
    "dictionary_learning": dictionary_learning,
    "SAELens": saelens,
    "sparsify": sparsify,
}


if __name__ == "__main__":
    main()
