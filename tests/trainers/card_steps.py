"""Whole steps of every trainer, and codes of what they train, on a card without values; prints JSON.

Run in a process of its own (see `fake_card`): python card_steps.py
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

sys.path.insert(0, str(Path(__file__).parents[1]))
from fake_card import CARD, Operations, away, fake_card, move

from dictionary_learning import trainers as t
from dictionary_learning.activations.block import TextPairs
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.trainers.trainer import DeadLatents, Watch

D, F, B, L = 32, 1024, 512, 8  # more rows than a CPU would take at a time
COMMON: dict[str, Any] = {"steps": 10_000, "activation_dim": D, "seed": 0, "device": "cpu"}
SPARSE = COMMON | {"dict_size": F, "k": 4}
DENSE = COMMON | {"dict_size": F, "lr": 1e-3}
TFA = COMMON | {"width": F, "k": 4, "n_heads": 4}
CASES: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[int, ...]]] = {
    "BatchTopK": (t.BatchTopKTrainer, SPARSE, (B, D)),
    "BatchTopK, bfloat16 product": (t.BatchTopKTrainer, SPARSE | {"encoder_dtype": "bfloat16"}, (B, D)),
    "TopK": (t.TopKTrainer, SPARSE, (B, D)),
    "TopK, bfloat16 product": (t.TopKTrainer, SPARSE | {"encoder_dtype": "bfloat16"}, (B, D)),
    "Matryoshka": (t.MatryoshkaBatchTopKTrainer, SPARSE, (B, D)),
    "T-SAE": (t.TemporalMatryoshkaBatchTopKTrainer, SPARSE, (B, 2, D)),
    "T-SAE, paper": (t.TemporalMatryoshkaBatchTopKTrainer, SPARSE | {"form": "paper"}, (B, 2, D)),
    "T-SAE, other texts": (
        t.TemporalMatryoshkaBatchTopKTrainer,
        SPARSE | {"form": "paper", "negatives": "other_texts"},
        (B, 2, D),
    ),
    "T-SAE, L1": (t.TemporalMatryoshkaBatchTopKTrainer, SPARSE | {"contrastive": False}, (B, 2, D)),
    "Standard": (t.StandardTrainer, DENSE, (B, D)),
    "Standard, April update": (t.StandardTrainerAprilUpdate, DENSE, (B, D)),
    "Gated": (t.GatedSAETrainer, DENSE, (B, D)),
    "JumpReLU": (t.JumpReluTrainer, DENSE, (B, D)),
    "TFA, topk": (t.TemporalAttentionTrainer, TFA | {"sae_diff_type": "topk"}, (B, L, D)),
    "TFA, low rank": (t.TemporalAttentionTrainer, TFA | {"value_rank": 64}, (B, L, D)),
    "TFA, batchtopk": (t.TemporalAttentionTrainer, TFA | {"sae_diff_type": "batchtopk"}, (B, L, D)),
    "TFA, relu": (t.TemporalAttentionTrainer, TFA | {"sae_diff_type": "relu"}, (B, L, D)),
}


# Lengths of texts are on the CPU, where they may be read; here they have no values either.
Sequences.is_full = True  # type: ignore[method-assign, assignment]


def on_card(trainer: Any) -> None:
    """Put a trainer that was made on the CPU on the card, as if it had been there for a while."""
    move(trainer.ae)
    trainer.device = CARD
    for group, moved in zip(trainer.optimizer.param_groups, _groups(trainer), strict=True):
        group["params"] = moved
    trainer.dead_latents = DeadLatents(trainer.ae.dict_size, CARD)
    trainer.dead_latents._known_for = 10**9  # it was asked a moment ago
    trainer._watch = Watch(CARD)
    if hasattr(trainer.ae, "_k_read"):
        trainer.ae._k_read = (trainer.ae.k, trainer.ae.k._version, trainer.k)
    if hasattr(trainer, "_weights_G"):
        trainer._weights_G = torch.empty(len(trainer.group_weights), device=CARD)


def _groups(trainer: Any) -> list[list[Any]]:
    parameters = list(trainer.ae.parameters())
    n_groups = len(trainer.optimizer.param_groups)
    return [parameters] if n_groups == 1 else [[parameter] for parameter in parameters]


def count(do: Callable[[], Any]) -> dict[str, Any]:
    """How many operations something needs, or what of it would make the host wait."""
    with Operations() as operations:
        try:
            do()
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            return {"reads": str(error)}
    return {"operations": operations.started}


def main() -> None:
    facts: dict[str, dict[str, Any]] = {}
    for name, (make, options, shape) in CASES.items():
        trainer = make(**options)
        with fake_card():
            on_card(trainer)
            x: Any = torch.empty(shape, device=CARD)
            if name.startswith("TFA"):
                x = Sequences(x.flatten(0, 1), torch.full((B,), L))
            if name.endswith("other texts"):
                x = TextPairs(x, torch.empty(B, dtype=torch.int64, device=CARD))
            first = count(
                lambda trainer=trainer, x=x: trainer.advance(2001, x)
            )  # makes the optimiser's state
            if "reads" in first:
                facts[name] = {"step": first}
                continue
            facts[name] = {"step": count(lambda trainer=trainer, x=x: trainer.advance(2002, x))}
            tokens = torch.empty((B, D) if len(shape) < 3 or shape[1] == 2 else shape, device=CARD)
            facts[name]["forward"] = count(lambda ae=trainer.ae, x=tokens: ae(x))
            trainer.dead_latents._known_for, trainer.dead_latents._most = 10**9, F // 2
            facts[name]["step with dead latents"] = count(
                lambda trainer=trainer, x=x: trainer.advance(2003, x)
            )
    trainer = t.BatchTopKTrainer(**SPARSE)
    with fake_card():
        on_card(trainer)
        facts["a step whose loss is read"] = {
            "step": count(lambda: trainer.update(2001, away(torch.empty(B, D))))
        }
        try:
            trainer.ae(torch.empty(B, D))
            facts["a batch that was left on the CPU"] = {"refused": "no"}
        except Exception as error:
            facts["a batch that was left on the CPU"] = {"refused": type(error).__name__}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
