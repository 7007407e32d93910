"""One seed: a world, its corpus, the dictionaries of all methods, and their scores.

Shapes: B texts, L tokens of one, T tokens of all, D width, F latents, N truths.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.context_mean import ContextMean
from dictionary_learning.evaluation.measures import evaluate
from temporal_saes.toy import recovery, separation
from temporal_saes.toy.methods import train
from temporal_saes.toy.options import ToyOptions
from temporal_saes.toy.result import NAMES
from temporal_saes.toy.store import ToyStore
from temporal_saes.toy.world import Drawn, World

EVAL_TEXTS = 16  # at a time
LAG = 4  # tokens, at which persistence tells slow latents from fast ones
SORTS = ("slow", "fast")


def study(options: ToyOptions, seed: int) -> dict[str, Any]:
    """The scores of every method in the world of one seed, and what is known of that."""
    world = World.of(options, seed)
    train_texts, eval_texts = world.draw(options.texts, [seed, 2]), world.draw(options.eval_texts, [seed, 3])
    truths_a_token = float(train_texts.on_BLN.sum(-1).float().mean())
    k = options.k or round(truths_a_token)
    config = {"toy_seed": seed, "ctx_len": options.length}
    store = ToyStore(train_texts.x_BLD, config)
    truth = _Truth(world, eval_texts)
    methods = {}
    for method in options.methods:
        say(f"seed {seed}: {NAMES[method]}")
        dictionary = train(method, store, options, k, seed).cpu()
        methods[method] = _quality(dictionary, eval_texts, config) | truth.scores(dictionary)
    centre_D = train_texts.x_BLD.mean((0, 1))
    return {
        "seed": seed,
        "k": k,
        "world": _facts(world, eval_texts) | {"truths_a_token": truths_a_token},
        "chance_mcc": recovery.chance_mcc(options.dict_size, truth.directions_ND, seed),
        "methods": methods,
        "controls": truth.controls(centre_D),
    }


class _Truth:
    """What is known of the texts that score; the first half of them chooses latents."""

    def __init__(self, world: World, texts: Drawn) -> None:
        self.directions_ND = world.directions_ND.double().numpy()
        self.is_slow_N = world.is_slow_N
        self.texts = texts
        self.on_TN = texts.on_BLN.flatten(0, 1).numpy()
        n_texts, length = texts.x_BLD.shape[:2]
        self.is_chosen_T = np.repeat(np.arange(n_texts) < n_texts // 2, length)

    @torch.no_grad()
    def scores(self, dictionary: Dictionary) -> dict[str, Any]:
        """All scores of a dictionary."""
        f_BLF = torch.cat([dictionary.encode(x_BLD) for x_BLD in self.texts.x_BLD.split(EVAL_TEXTS)])
        f_TF = f_BLF.flatten(0, 1).double().numpy()
        directions_FD = dictionary.decoder_directions().double().numpy()
        chosen_T, scored_T = self.is_chosen_T, ~self.is_chosen_T
        match = recovery.match(directions_FD, self.directions_ND, f_TF[chosen_T], self.on_TN[chosen_T])
        firing = recovery.firing(f_TF[scored_T], match.latent_N, self.on_TN[scored_T])
        per_truth = {"mcc": match.cosine_N} | {
            name: getattr(firing, f"{name}_N") for name in ("precision", "recall", "f1", "auc")
        }
        splits = dictionary.splits()
        parts = {name: f_TF[:, part] @ directions_FD[part] for name, part in splits.items()}
        parts["all"] = f_TF @ directions_FD
        persistence_F = separation.persistence(f_BLF.numpy(), min(LAG, f_BLF.shape[1] - 1))
        return {
            "recovery": {name: self._by_sort(values_N) for name, values_N in per_truth.items()},
            "placement": self._placement(match.latent_N, splits),
            "parts": self._in_parts(parts),
            "told_by_persistence": separation.told_by_persistence(
                persistence_F, match.latent_N, self.is_slow_N
            ),
        }

    def controls(self, centre_D: Tensor) -> dict[str, Any]:
        """The parts that need no learning: activations, and means of the earlier tokens around the mean."""
        x_BLD = self.texts.x_BLD
        found = {"activations": self._in_parts({"all": x_BLD.flatten(0, 1).numpy()})}
        for name, sharpness in (("running_mean", 0.0), ("recall", 8.0)):
            f_BLF = ContextMean(centre_D, "recall", sharpness=sharpness).encode(x_BLD)
            first, second = f_BLF.flatten(0, 1).detach().numpy().reshape(-1, 2, len(centre_D)).swapaxes(0, 1)
            found[name] = self._in_parts({"predicted": first, "novel": second})
        return found

    def _by_sort(self, values_N: np.ndarray) -> dict[str, float | None]:
        every_N = np.ones_like(self.is_slow_N)
        groups = {"all": every_N, "slow": self.is_slow_N, "fast": ~self.is_slow_N}
        return {name: separation.mean_of(values_N, group_N) for name, group_N in groups.items()}

    def _placement(self, latent_N: np.ndarray, splits: Mapping[str, slice]) -> dict[str, float | None] | None:
        first = next(iter(splits.values()), None)
        return None if first is None else separation.placement(latent_N, self.is_slow_N, first)

    def _in_parts(self, parts: dict[str, np.ndarray]) -> dict[str, Any]:
        return separation.in_parts(parts, self.on_TN, self.is_slow_N, self.is_chosen_T)


def _quality(dictionary: Dictionary, texts: Drawn, config: dict[str, Any]) -> dict[str, float | None]:
    """Reconstruction and sparsity; a TemporalSAE's predicted codes are not sparse, and not counted."""
    measures = evaluate(dictionary, ToyStore(texts.x_BLD, config).contexts(EVAL_TEXTS))["measures"]
    sparse = "novel" if "novel" in measures else "all"
    return {
        "fve": measures["all"]["fve_global"]["value"],
        "l0": measures[sparse]["l0"]["value"],
        "alive": measures["all"]["alive"]["value"],
    }


def _facts(world: World, texts: Drawn) -> dict[str, Any]:
    """What the truths are like: how many, how frequent, how persistent."""
    on_BLN = texts.on_BLN.numpy()
    lags = separation.lags(on_BLN.shape[1])
    rate_N = on_BLN.mean((0, 1))
    persistence = {lag: separation.persistence(on_BLN, lag) for lag in lags}
    groups = dict(zip(SORTS, (world.is_slow_N, ~world.is_slow_N), strict=True))
    return {
        "n": {name: int(group_N.sum()) for name, group_N in groups.items()},
        "rate": {
            name: [float(rate_N[group_N].min()), float(rate_N[group_N].max())]
            for name, group_N in groups.items()
        },
        "persistence": {
            name: {str(lag): float(values_N[group_N].mean()) for lag, values_N in persistence.items()}
            for name, group_N in groups.items()
        },
    }
