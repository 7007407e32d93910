"""The usable tokens of texts, packed and padded."""

import torch

from dictionary_learning.activations.sequences import Sequences


def test_what_is_not_usable_is_left_out_and_the_rest_moves_up() -> None:
    # a sink in front of the first text, a special token inside the second, nothing usable in the third
    x_NLD = torch.arange(12.0).view(3, 4, 1)
    mask_NL = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    texts = Sequences.of(x_NLD, mask_NL)
    assert texts.x_TD.flatten().tolist() == [1, 2, 3, 4, 6]
    assert texts.length_N.tolist() == [3, 2]
    assert len(texts) == 5
    assert texts.padded().squeeze(-1).tolist() == [[1, 2, 3], [4, 6, 0]]
    assert torch.equal(texts.tokens(texts.padded()), texts.x_TD)
    assert torch.equal(texts.tokens(texts.padded()), x_NLD[mask_NL])


def test_texts_of_one_length_need_no_padding() -> None:
    x_NLD = torch.randn(3, 4, 2)
    texts = Sequences.of(x_NLD)
    assert texts.is_full
    assert torch.equal(texts.padded(), x_NLD)
    assert torch.equal(texts.tokens(x_NLD), x_NLD.flatten(0, 1))
    assert torch.equal((texts / 2.0).padded(), x_NLD / 2)
    assert texts.to(torch.device("cpu"), torch.float64).x_TD.dtype == torch.float64
