"""The controls of a predicted part: means of the corpus and of earlier tokens, by hand."""

import math

import pytest
import torch
from every_dictionary import normal

from dictionary_learning.dictionaries.context_mean import ContextMean, recalled
from dictionary_learning.errors import UserError

D = 3
ZERO_D = torch.zeros(D)


def parts(control: ContextMean, x_BLD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    f_BLF = control.encode(x_BLD)
    return f_BLF[..., :D], f_BLF[..., D:]


def test_the_running_mean_is_that_of_the_earlier_tokens_alone() -> None:
    x_BLD = torch.tensor([[[1.0, 0, 0], [3, 0, 0], [0, 6, 0], [9, 9, 9]]])
    predicted_BLD, novel_BLD = parts(ContextMean(ZERO_D, "running_mean"), x_BLD)
    expected = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [4 / 3, 2, 0]]])
    torch.testing.assert_close(predicted_BLD, expected)
    torch.testing.assert_close(novel_BLD, x_BLD - expected)


def test_recall_weighs_earlier_tokens_by_their_cosine_with_the_token() -> None:
    # the third token points as the first one does: cosines 1 and 0, so weights e² and 1
    x_BLD = torch.tensor([[[1.0, 0, 0], [0, 5, 0], [2, 0, 0]]])
    weight = math.exp(2) / (math.exp(2) + 1)
    expected = torch.tensor([weight, 5 * (1 - weight), 0])
    torch.testing.assert_close(recalled(x_BLD, 2.0)[0, 2], expected)
    torch.testing.assert_close(recalled(x_BLD, 0.0)[0, 2], torch.tensor([0.5, 2.5, 0]))


def test_recall_reads_directions_only_so_that_it_does_not_depend_on_the_scale() -> None:
    x_BLD = normal(2, 9, D)
    torch.testing.assert_close(recalled(1024 * x_BLD, 8.0), 1024 * recalled(x_BLD, 8.0))


def test_the_corpus_mean_says_the_same_of_every_token() -> None:
    mean_D = torch.tensor([1.0, 2, 3])
    predicted_BLD, novel_BLD = parts(ContextMean(ZERO_D, "corpus_mean", constant_D=mean_D), normal(2, 4, D))
    assert bool((predicted_BLD == mean_D).all())
    torch.testing.assert_close(predicted_BLD + novel_BLD, normal(2, 4, D))


@pytest.mark.parametrize("kind", ["corpus_mean", "running_mean", "recall"])
@pytest.mark.parametrize("fits_length", [False, True])
def test_the_parts_and_the_bias_sum_to_the_activation_and_see_no_later_token(
    kind: str, fits_length: bool
) -> None:
    x_BLD, b_D = normal(3, 7, D), normal(D, seed=1)
    control = ContextMean(b_D, kind, constant_D=normal(D, seed=2), sharpness=3, fits_length=fits_length)
    f_BLF = control.encode(x_BLD)
    torch.testing.assert_close(control.decode(f_BLF), x_BLD)
    directions_FD = control.decoder_directions()
    torch.testing.assert_close(f_BLF @ directions_FD + control.b, x_BLD)
    torch.testing.assert_close(control.encode(x_BLD[:, :5]), f_BLF[:, :5])


def test_a_fitted_length_leaves_the_rest_at_right_angles() -> None:
    predicted_BLD, novel_BLD = parts(ContextMean(ZERO_D, "running_mean", fits_length=True), normal(3, 7, D))
    dot_BL = (predicted_BLD * novel_BLD).sum(-1)
    torch.testing.assert_close(dot_BL, torch.zeros_like(dot_BL), rtol=0, atol=1e-4)


def test_scaled_for_other_activations_it_says_the_same() -> None:
    x_BLD = normal(2, 6, D)
    control = ContextMean(normal(D, seed=1), "recall", sharpness=4)
    before_BLF = control.encode(x_BLD)
    control.scale_biases(7.0)
    torch.testing.assert_close(control.encode(7 * x_BLD), 7 * before_BLF)


def test_it_comes_back_from_its_tensors_and_not_without_its_kind() -> None:
    control = ContextMean(normal(D), "recall", sharpness=4, fits_length=True)
    again = ContextMean.from_state_dict(control.state_dict(), control.architecture)
    torch.testing.assert_close(again.encode(normal(2, 6, D)), control.encode(normal(2, 6, D)))
    with pytest.raises(UserError, match="does not say which control"):
        ContextMean.from_state_dict(control.state_dict(), {})


def test_single_tokens_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="reads whole texts"):
        ContextMean(ZERO_D, "recall").encode(normal(4, D))
    with pytest.raises(UserError, match="there is no control 'median'"):
        ContextMean(ZERO_D, "median")
