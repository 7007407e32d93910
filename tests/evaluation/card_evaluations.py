"""Evaluations of every kind of dictionary on a card that is none, against those on the CPU; prints JSON.

Run in a process of its own (see `card_with_values`): python card_evaluations.py LANGUAGE_MODEL
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from card_with_values import Card, move, on_card

from dictionary_learning import trainers as t
from dictionary_learning.activations.block import Contexts
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.evaluation import evaluate
from dictionary_learning.language_model import LanguageModel

D, F = 32, 64
COMMON: dict[str, Any] = {"steps": 100, "activation_dim": D, "device": "cpu", "seed": 0}
SPARSE = COMMON | {"dict_size": F, "k": 4}
DENSE = COMMON | {"dict_size": F, "lr": 1e-3}
TFA = COMMON | {"width": F, "k": 4, "n_heads": 4}
CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "BatchTopK": (t.BatchTopKTrainer, SPARSE),
    "TopK": (t.TopKTrainer, SPARSE),
    "Matryoshka": (t.MatryoshkaBatchTopKTrainer, SPARSE),
    "T-SAE": (t.TemporalMatryoshkaBatchTopKTrainer, SPARSE),
    "Standard": (t.StandardTrainer, DENSE),
    "Standard, April update": (t.StandardTrainerAprilUpdate, DENSE),
    "Gated": (t.GatedSAETrainer, DENSE),
    "JumpReLU": (t.JumpReluTrainer, DENSE),
    "TFA, topk": (t.TemporalAttentionTrainer, TFA | {"sae_diff_type": "topk"}),
    "TFA, batchtopk": (t.TemporalAttentionTrainer, TFA | {"sae_diff_type": "batchtopk"}),
    "TFA, relu": (t.TemporalAttentionTrainer, TFA | {"sae_diff_type": "relu"}),
}


def contexts(seed: int) -> Contexts:
    """Three contexts of unequal length; the first begins with a position that is not usable."""
    generator = torch.Generator().manual_seed(seed)
    mask_NL = torch.arange(12) < torch.tensor([9, 12, 5])[:, None]
    mask_NL[0, 0] = False
    x_NLD = torch.randn(3, 12, D, generator=generator) + 0.3
    tokens_NL = torch.randint(5, 500, (3, 12), generator=generator, dtype=torch.int32)
    return Contexts(x_NLD * mask_NL[..., None], mask_NL, tokens_NL * mask_NL, torch.arange(3))


def dictionary(name: str) -> Dictionary:
    make, options = CASES[name]
    ae = make(**options).ae
    threshold = getattr(ae, "threshold", None)
    if threshold is not None and threshold.ndim == 0:
        threshold.fill_(0.4)  # as after training
    return ae


def measures(ae: Dictionary, batches: list[Contexts], **options: Any) -> Any:
    return evaluate(ae, batches, **options)["measures"]


def main() -> None:
    batches = [contexts(seed) for seed in range(4)]
    facts: dict[str, dict[str, Any]] = {}
    for name in CASES:
        ae = dictionary(name)
        here = measures(ae, batches)
        with Card() as card:
            move(ae)
            drains = []
            for n in (2, 4):
                card.drains = 0
                found = measures(ae, [Contexts(*map(on_card, batch)) for batch in batches[:n]])
                drains.append(card.drains)
            facts[name] = {
                "batches on the card": found == here,
                "batches on the CPU": measures(ae, batches) == here,
                "waits a batch": (drains[1] - drains[0]) / 2,
            }

    lm = LanguageModel.load(sys.argv[1], device="cpu")
    here = measures(dictionary("T-SAE"), batches, lm=lm, layer=1)
    with Card() as card:
        ae = dictionary("T-SAE")
        move(ae)
        facts["with a language model"] = {
            "on the CPU": measures(ae, batches, lm=lm, layer=1) == here,
        }
        try:
            ae(batches[0].x_NLD)
            facts["a batch that was left on the CPU"] = {"refused": "no"}
        except RuntimeError as error:
            facts["a batch that was left on the CPU"] = {"refused": str(error)}
        x = on_card(torch.arange(3.0))
        for what, read in {
            "a value": lambda: float(x[0]),
            "a number of entries": lambda: x.nonzero(),
            "a mask as an index": lambda: x[x > 1],
            "a copy": lambda: x.cpu(),
            "nothing": lambda: x + 1,
        }.items():
            card.drains = 0
            x + 1
            read()
            facts.setdefault("waits that are seen", {})[what] = card.drains
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
