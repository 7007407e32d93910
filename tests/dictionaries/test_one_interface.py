"""What every dictionary that is loaded takes and refuses, whichever class it is of.

Shapes: B texts, L positions, D 6 model width, F 12 latents.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from every_dictionary import KINDS, D, F, make, normal

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.classics import AutoEncoder
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE


def activations(dictionary: Dictionary) -> torch.Tensor:
    # far from a mean square of 1, as activations are: what rounds them to fewer bits then shows
    return 40 * normal(2, 5, D, seed=3) if dictionary.reads_sequences else normal(2, 5, D, seed=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_activations_of_any_dtype_have_the_codes_of_the_same_numbers_in_float32(
    kind: str, dtype: torch.dtype
) -> None:
    dictionary = make(kind)
    x_BLD = activations(dictionary).to(dtype)
    expected_BLF = dictionary.encode(x_BLD.float())
    assert expected_BLF.count_nonzero() > 0
    assert torch.equal(dictionary.encode(x_BLD), expected_BLF)
    if not dictionary.reads_sequences:
        entries = dictionary.encode_entries(x_BLD.flatten(0, 1))
        assert torch.equal(entries.dense(), dictionary.encode_entries(x_BLD.flatten(0, 1).float()).dense())


@pytest.mark.parametrize("kind", KINDS)
def test_a_dictionary_in_a_shorter_dtype_takes_activations_in_a_longer_one(kind: str) -> None:
    dictionary = make(kind).to(torch.bfloat16)
    x_BLD = activations(dictionary)
    x_hat_BLD, _ = dictionary(x_BLD, output_features=True)
    assert x_hat_BLD.dtype == torch.bfloat16
    assert torch.equal(dictionary.encode(x_BLD), dictionary.encode(x_BLD.bfloat16()))


@pytest.mark.parametrize("kind", KINDS)
def test_activations_of_another_width_are_one_sentence(kind: str) -> None:
    dictionary = make(kind)
    with pytest.raises(UserError, match=f"takes activations of width {D}, and these have width {D + 1}: "):
        dictionary.encode(torch.zeros(2, 5, D + 1))


def saved(dictionary: Dictionary, folder: Path) -> Path:
    torch.save(dictionary.state_dict(), folder / "ae.pt")
    return folder / "ae.pt"


@pytest.mark.parametrize("kind", ["tsae", "batchtopk", "topk", "relu", "relu_new", "gated", "jumprelu"])
@pytest.mark.parametrize("option", [{"normalise": True}, {"layer": 3}, {"banana": 1}])
def test_an_option_that_is_not_used_is_refused(kind: str, option: dict[str, Any], tmp_path: Path) -> None:
    dictionary = make(kind)
    with pytest.raises(UserError, match=f"from_pretrained has no use for {next(iter(option))} "):
        type(dictionary).from_pretrained(saved(dictionary, tmp_path), **option)


def test_from_pretrained_takes_what_the_librarys_takes(tmp_path: Path) -> None:
    path = saved(make("batchtopk"), tmp_path)
    loaded = BatchTopKSAE.from_pretrained(path, k=3, device="cpu", dtype=torch.bfloat16)
    assert (loaded.b_dec.dtype, int(loaded.k), loaded.training) == (torch.bfloat16, 3, False)
    with pytest.raises(UserError, match="k is 5 in the config, and 3 in the weights"):
        BatchTopKSAE.from_pretrained(path, k=5)
    without_k = {name: tensor for name, tensor in loaded.state_dict().items() if name != "k"}
    torch.save(without_k, path)
    assert int(BatchTopKSAE.from_pretrained(path, k=5).k) == 5


def test_the_librarys_normalisation_of_an_autoencoder_can_be_asked_for(tmp_path: Path) -> None:
    dictionary = make("relu")
    with torch.no_grad():
        dictionary.decoder.weight.mul_(torch.linspace(0.5, 2, F))
    path, x = saved(dictionary, tmp_path), normal(5, D)
    as_it_is, of_norm_1 = (AutoEncoder.from_pretrained(path, normalize_decoder=n) for n in (False, True))
    assert torch.equal(as_it_is.encode(x), dictionary.encode(x))
    norm_F = dictionary.decoder.weight.norm(dim=0)
    torch.testing.assert_close(of_norm_1.encode(x), dictionary.encode(x) * norm_F)
    torch.testing.assert_close(of_norm_1(x), dictionary(x))


def test_groups_of_another_config_are_told(tmp_path: Path) -> None:
    path = saved(make("matryoshka"), tmp_path)
    assert MatryoshkaBatchTopKSAE.from_pretrained(path, group_sizes=[3, 4, 5]).group_ends == [3, 7, 12]
    with pytest.raises(UserError, match=r"group_sizes are \[6, 6\] in the config, and \[3, 4, 5\] in the w"):
        MatryoshkaBatchTopKSAE.from_pretrained(path, group_sizes=[6, 6])


def test_a_batchtopk_temporal_sae_from_a_file_infers_with_its_threshold(tmp_path: Path) -> None:
    made = TemporalSAE(D, F, 2, sae_diff_type="batchtopk", kval_topk=3)
    made.expected_min_act.fill_(0.1)
    options = {"n_heads": 2, "sae_diff_type": "batchtopk", "kval_topk": 3}
    loaded = TemporalSAE.from_pretrained(saved(made, tmp_path), raw_activations=True, **options)
    x_BLD = 40 * normal(2, 5, D)
    assert torch.equal(loaded.encode(x_BLD), made.eval().encode(x_BLD))
    assert not torch.equal(loaded.encode(x_BLD), made.train().encode(x_BLD))
