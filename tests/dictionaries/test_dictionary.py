"""The one-layer dictionaries: their formulas, their tensors on disk, and what a wrong file says."""

import pytest
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.errors import UserError

D, F = 5, 8
SHAPES = {
    AutoEncoder: {"bias": (D,), "encoder.weight": (F, D), "encoder.bias": (F,), "decoder.weight": (D, F)},
    AutoEncoderNew: {
        "encoder.weight": (F, D),
        "encoder.bias": (F,),
        "decoder.weight": (D, F),
        "decoder.bias": (D,),
    },
    GatedAutoEncoder: {
        "decoder_bias": (D,),
        "encoder.weight": (F, D),
        "r_mag": (F,),
        "gate_bias": (F,),
        "mag_bias": (F,),
        "decoder.weight": (D, F),
    },
    JumpReluAutoEncoder: {
        "W_enc": (D, F),
        "b_enc": (F,),
        "W_dec": (F, D),
        "b_dec": (D,),
        "threshold": (F,),
    },
}
CLASSES = pytest.mark.parametrize("cls", SHAPES, ids=lambda cls: cls.__name__)


def state_of(cls: type[Dictionary]) -> dict[str, Tensor]:
    """Random tensors with the names and shapes of the file format; thresholds are positive."""
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES[cls].items()}
    if "threshold" in state:
        state["threshold"] = state["threshold"].abs()
    return state


def some_activations(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def by_the_formula(cls: type[Dictionary], s: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and reconstruction, one token and one latent at a time from the papers' formulas."""
    f, x_hat = torch.zeros(len(x), F), torch.zeros(len(x), D)
    for b, token in enumerate(x):
        for j in range(F):
            if cls is AutoEncoder:
                f[b, j] = max(0.0, float(s["encoder.weight"][j] @ (token - s["bias"]) + s["encoder.bias"][j]))
            elif cls is AutoEncoderNew:
                f[b, j] = max(0.0, float(s["encoder.weight"][j] @ token + s["encoder.bias"][j]))
            elif cls is GatedAutoEncoder:
                pi = float(s["encoder.weight"][j] @ (token - s["decoder_bias"]))
                magnitude = max(0.0, pi * float(s["r_mag"][j].exp()) + float(s["mag_bias"][j]))
                f[b, j] = magnitude if pi + float(s["gate_bias"][j]) > 0 else 0.0
            else:
                pre = float(token @ s["W_enc"][:, j] + s["b_enc"][j])
                f[b, j] = pre if pre > float(s["threshold"][j]) else 0.0
        bias = next(s[key] for key in ("bias", "decoder.bias", "decoder_bias", "b_dec") if key in s)
        W_dec_FD = s["W_dec"] if "W_dec" in s else s["decoder.weight"].T
        x_hat[b] = bias + sum(f[b, j] * W_dec_FD[j] for j in range(F))
    return f, x_hat


@CLASSES
def test_a_file_of_the_format_encodes_and_decodes_as_the_formula_says(cls, tmp_path):
    path = tmp_path / "ae.pt"
    torch.save(state_of(cls), path)
    dictionary = cls.from_state_dict(torch.load(path, weights_only=True), {})
    x_BD = some_activations(6, D)
    x_hat_BD, f_BF = dictionary(x_BD, output_features=True)
    f_slow_BF, x_hat_slow_BD = by_the_formula(cls, state_of(cls), x_BD)
    assert 0 < (f_BF > 0).sum() < f_BF.numel()
    torch.testing.assert_close(f_BF, f_slow_BF)
    torch.testing.assert_close(x_hat_BD, x_hat_slow_BD)
    torch.testing.assert_close(dictionary(x_BD), x_hat_BD)


@CLASSES
def test_the_saved_tensors_have_the_names_and_shapes_of_the_format(cls):
    saved = {key: tuple(tensor.shape) for key, tensor in cls(D, F).state_dict().items()}
    assert saved == SHAPES[cls]


@CLASSES
def test_state_dict_there_and_back_changes_nothing(cls):
    first = cls.from_state_dict(state_of(cls), {"activation_dim": D, "dict_size": F})
    again = cls.from_state_dict(first.state_dict(), {})
    assert (again.activation_dim, again.dict_size) == (D, F)
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in state_of(cls).items())


@CLASSES
def test_a_sequence_gives_the_codes_of_its_tokens(cls):
    dictionary = cls.from_state_dict(state_of(cls), {})
    x_BLD = some_activations(2, 3, D)
    f_BLF = dictionary.encode(x_BLD)
    torch.testing.assert_close(f_BLF.reshape(6, F), dictionary.encode(x_BLD.reshape(6, D)))
    assert dictionary.decode(f_BLF).shape == (2, 3, D)


@CLASSES
def test_scaled_biases_work_on_scaled_activations(cls):
    # trained on x / 4, so the file must work on x: biases times 4
    x_BD = some_activations(20, D) * 4
    trained, folded = (cls.from_state_dict(state_of(cls), {}) for _ in range(2))
    folded.scale_biases(4.0)
    torch.testing.assert_close(folded.encode(x_BD), trained.encode(x_BD / 4) * 4)
    torch.testing.assert_close(folded(x_BD), trained(x_BD / 4) * 4)


@CLASSES
def test_a_latent_adds_its_direction_to_the_reconstruction(cls):
    dictionary = cls.from_state_dict(state_of(cls), {})
    one_F = torch.zeros(F)
    one_F[3] = 2.0
    added_D = dictionary.decode(one_F) - dictionary.decode(torch.zeros(F))
    torch.testing.assert_close(added_D, 2 * dictionary.decoder_directions()[3])
    assert dictionary.decoder_directions().shape == (F, D)


@CLASSES
def test_a_new_dictionary_starts_tied_with_decoder_rows_of_one_norm(cls):
    dictionary = cls(D, F, seed=1)
    norms_F = dictionary.decoder_directions().norm(dim=-1)
    torch.testing.assert_close(norms_F, torch.full((F,), 0.1 if cls is AutoEncoderNew else 1.0))
    encoder_FD = dictionary.W_enc.T if cls is JumpReluAutoEncoder else dictionary.encoder.weight
    assert torch.equal(encoder_FD, dictionary.decoder_directions())
    assert torch.equal(cls(D, F, seed=1).decoder_directions(), dictionary.decoder_directions())
    assert not torch.equal(cls(D, F, seed=2).decoder_directions(), dictionary.decoder_directions())


def test_jumprelu_reads_raw_activations_and_its_threshold_is_strict():
    # one latent, W = 1, b_enc = 0, b_dec = 10, threshold 2: 1 -> 0, 2 -> 0, 3 -> 3; x_hat = f + 10
    state = {
        "W_enc": torch.ones(1, 1),
        "b_enc": torch.zeros(1),
        "W_dec": torch.ones(1, 1),
        "b_dec": torch.full((1,), 10.0),
        "threshold": torch.full((1,), 2.0),
    }
    dictionary = JumpReluAutoEncoder.from_state_dict(state, {})
    x_hat_BD, f_BF = dictionary(torch.tensor([[1.0], [2.0], [3.0]]), output_features=True)
    assert f_BF.flatten().tolist() == [0.0, 0.0, 3.0]
    assert x_hat_BD.flatten().tolist() == [10.0, 10.0, 13.0]


@CLASSES
def test_a_missing_key_is_named_with_the_class(cls):
    state = state_of(cls)
    key = sorted(state)[0]
    del state[key]
    with pytest.raises(UserError, match=f"(?s)not of a {cls.__name__}.*lacks {key}"):
        cls.from_state_dict(state, {})


@CLASSES
def test_an_unexpected_key_is_named_with_the_class(cls):
    with pytest.raises(UserError, match=f"not of a {cls.__name__}.*has group_sizes"):
        cls.from_state_dict({**state_of(cls), "group_sizes": torch.tensor([2, 6])}, {})


@CLASSES
@pytest.mark.parametrize("wrong", [torch.zeros(F, D + 1), torch.zeros(3)], ids=["width", "rank"])
def test_a_tensor_of_another_shape_is_named_with_its_shape(cls, wrong):
    state = state_of(cls)
    key = "W_dec" if "W_dec" in state else "encoder.weight"
    state[key] = wrong
    with pytest.raises(UserError, match=r"of this \w+ has shape \["):
        cls.from_state_dict(state, {})


@CLASSES
def test_weights_beside_a_config_of_another_width_are_refused(cls):
    with pytest.raises(UserError, match=rf"has shape .*ask for \[.*{D + 1}"):
        cls.from_state_dict(state_of(cls), {"activation_dim": D + 1, "dict_size": F})


class TwoGroups(AutoEncoder):
    def splits(self) -> dict[str, slice]:
        return {"high": slice(0, 2), "low": slice(2, F)}


def test_chunks_are_the_first_split_the_rest_and_all():
    assert [chunk_slice(TwoGroups(D, F), chunk) for chunk in (0, 1, 2)] == [
        slice(0, 2),
        slice(2, F),
        slice(0, F),
    ]


def test_a_dictionary_without_splits_has_one_chunk():
    assert chunk_slice(AutoEncoder(D, F), 0) == chunk_slice(AutoEncoder(D, F), 2) == slice(0, F)
    with pytest.raises(UserError, match="chunk 1 needs groups, and AutoEncoder has none"):
        chunk_slice(AutoEncoder(D, F), 1)


def test_an_unknown_chunk_is_refused():
    with pytest.raises(UserError, match="chunk 3 does not exist"):
        chunk_slice(TwoGroups(D, F), 3)
