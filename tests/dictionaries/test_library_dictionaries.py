"""What the dictionary_learning library holds its dictionaries to, for ours.

Shapes: D model width, F latents.
"""

import pytest
import torch

from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder

CLASSES = pytest.mark.parametrize("cls", [AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder])


def randomised(cls: type, D: int, F: int) -> torch.nn.Module:
    made = cls(activation_dim=D, dict_size=F)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


@CLASSES
def test_to_reconstruct_is_to_encode_and_decode(cls: type) -> None:
    made = randomised(cls, 8, 6)
    x = torch.randn(4, 8)
    f = made.encode(x)
    torch.testing.assert_close(made(x), made.decode(f))
    x_hat, given = made(x, output_features=True)
    torch.testing.assert_close(given, f)
    torch.testing.assert_close(x_hat, made.decode(f))


@CLASSES
@pytest.mark.parametrize("lead", [(3,), (2, 3), ()])
def test_shapes_are_those_of_the_activations_and_of_the_latents(cls: type, lead: tuple[int, ...]) -> None:
    made = randomised(cls, 4, 5)
    x = torch.randn(*lead, 4)
    x_hat, f = made(x, output_features=True)
    assert (x_hat.shape, f.shape) == ((*lead, 4), (*lead, 5))
    assert made(x).shape == made.decode(made.encode(x)).shape == (*lead, 4)


@torch.no_grad()
def test_an_identity_drops_what_is_negative() -> None:
    x = torch.tensor([[2.0, -1.0]])
    plain = AutoEncoder(activation_dim=2, dict_size=2)
    gated = GatedAutoEncoder(activation_dim=2, dict_size=2)
    for made in (plain, gated):
        for parameter in made.parameters():
            parameter.copy_(torch.eye(2) if parameter.ndim == 2 else torch.zeros(2))
        assert made.encode(x).tolist() == [[2.0, 0.0]]
        assert made(x).tolist() == [[2.0, 0.0]]


@torch.no_grad()
def test_a_decoder_of_norm_1_reconstructs_as_before() -> None:
    made = randomised(AutoEncoder, 4, 3)
    norm_F = made.decoder.weight.norm(dim=0).clone()
    x = torch.randn(20, 4)
    before, f = made(x, output_features=True)
    made.normalize_decoder()
    torch.testing.assert_close(made.decoder.weight.norm(dim=0), torch.ones(3))
    after, f_after = made(x, output_features=True)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(f_after, f * norm_F)
    weights = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.normalize_decoder()  # a second time changes nothing
    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(tensor, weights[name])


@torch.no_grad()
def test_a_decoder_row_of_zeros_stays_one() -> None:
    made = randomised(AutoEncoder, 4, 3)
    made.decoder.weight[:, 1] = 0
    x = torch.randn(20, 4)
    before = made(x)
    made.normalize_decoder()
    assert made.decoder.weight.norm(dim=0).tolist() == pytest.approx([1, 0, 1])
    torch.testing.assert_close(made(x), before)


@torch.no_grad()
def test_scaled_biases_are_the_biases_times_the_scale() -> None:
    made = randomised(AutoEncoder, 4, 3)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.scale_biases(2.0)
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name] * (2.0 if "bias" in name else 1.0))
