"""Facts of latents: neighbours, logits and smoothness against what they are by definition."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.smoothness import latents_lipschitz, smoothness
from temporal_saes.latents.facts import logit_effects, nearest_directions
from temporal_saes.latents.smoothness import LatentSmoothness
from temporal_saes.latents.tables import direct_logits
from temporal_saes.pages.text_latents import steadiness


def codes(seed: int, n_tokens: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    f_uF = torch.rand(n_tokens, 6, generator=generator) * (torch.rand(n_tokens, 6, generator=generator) < 0.5)
    f_uF[:, 4] = 0
    return f_uF, torch.randn(n_tokens, 5, generator=generator)


def test_the_smoothness_of_one_latent_is_that_of_a_split_of_it_alone() -> None:
    f_uF, x_uD = codes(0)
    numbers, values = latents_lipschitz(f_uF, x_uD)
    assert numbers.tolist() == [0, 1, 2, 3, 5]
    for latent, value in zip(numbers.tolist(), values.tolist(), strict=True):
        alone = smoothness(f_uF, x_uD, {"one": slice(latent, latent + 1)})["one"]["lipschitz"]
        assert value == pytest.approx(alone)
    x_uD[3] = x_uD[2]  # two equal activations: undefined
    assert len(latents_lipschitz(f_uF, x_uD)[0]) == 0
    assert len(latents_lipschitz(f_uF[:1], x_uD[:1])[0]) == 0


def test_smoothness_and_steadiness_are_taken_over_all_texts() -> None:
    first, second = codes(1), codes(2)
    measured = LatentSmoothness(6)
    for text in (first, second):
        measured.add(measured.measure(*text))
    both = [latents_lipschitz(*text)[1][0] for text in (first, second)]
    assert measured.lipschitz_F[0] == pytest.approx(np.mean(both))
    assert math.isnan(measured.lipschitz_F[4])
    assert math.isnan(measured.steadiness_F[4])
    # zeros between the texts: as if they were one with a gap
    joined = torch.cat([first[0], torch.zeros(1, 6), second[0]])
    for latent in (0, 1, 2, 3, 5):
        assert measured.steadiness_F[latent] == pytest.approx(
            steadiness(joined[:, [latent]].numpy()), rel=1e-5
        )


def test_a_code_below_zero_is_no_activation() -> None:
    measured = LatentSmoothness(1)
    text = torch.tensor([[-3.0], [2.0], [-1.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    measured.add(measured.measure(*text))
    assert measured.lipschitz_F.tolist() == [2.0]  # from 0 to 2 over a distance of 1
    assert measured.steadiness_F.tolist() == [0.0]


def test_nearest_directions_are_those_with_the_largest_cosine() -> None:
    directions = torch.tensor([[1.0, 0], [2, 2], [0, 3], [0, 0]])
    nearest = nearest_directions(directions, 2)
    assert nearest.indices_FK.tolist() == [[1, 2], [0, 2], [1, 0], [-1, -1]]
    half = math.sqrt(0.5)
    np.testing.assert_allclose(nearest.values_FK, [[half, 0], [half, half], [half, 0], [0, 0]], atol=1e-6)


def test_logits_are_ranked_and_counted_without_special_tokens(tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    raised, lowered, bars, ranges = logit_effects(lm, directions, 5)
    logits, counts = direct_logits(lm, directions)
    for row in range(3):
        told = {i: float(logits[row, i]) for i in counts.nonzero().flatten().tolist()}
        order = sorted(told, key=lambda i: -told[i])
        assert raised.indices_FK[row].tolist() == order[:5]
        assert lowered.indices_FK[row].tolist() == order[:-6:-1]
        np.testing.assert_allclose(raised.values_FK[row], [told[i] for i in order[:5]], rtol=1e-5)
        expected, _ = np.histogram(list(told.values()), bins=40)
        assert bars[row].sum() == len(told)
        assert np.abs(bars[row] - expected).sum() <= 4  # rounding at edges
        np.testing.assert_allclose(ranges[row], [told[order[-1]], told[order[0]]], rtol=1e-5)
    assert not counts[sorted(lm.special_ids)].any()
