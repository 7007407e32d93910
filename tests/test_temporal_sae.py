"""TemporalSAE against the released method's numbers, and what must hold for any weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dictionary_learning.errors import UserError
from dictionary_learning.temporal_sae import TemporalSAE

ORACLE = Path(__file__).parent / "oracles" / "attention_topk_tied"


@pytest.fixture(scope="module")
def released() -> TemporalSAE:
    state = torch.load(ORACLE / "latest_ckpt.pt", weights_only=True)["sae"]
    config = {"n_heads": 4, "sae_diff_type": "topk", "kval_topk": 8, "bottleneck_factor": 4}
    return TemporalSAE.from_state_dict(state, config).eval()


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_every_output_is_the_released_methods(released: TemporalSAE) -> None:
    expected = load_file(ORACLE / "expected.safetensors")
    x = expected.pop("x")
    x_hat, parts = released(x, return_graph=True)
    for name, theirs in expected.items():
        assert_close((parts | {"x_hat": x_hat})[name], theirs)
    assert released(x)[1]["attn_graphs"] is None


def test_every_gradient_is_the_released_methods(released: TemporalSAE) -> None:
    expected = load_file(ORACLE / "expected_grad.safetensors")
    x = load_file(ORACLE / "expected.safetensors")["x"]
    x_hat, _ = released(x)
    loss = (x - x_hat).square().sum() / x.shape[:2].numel()
    released.zero_grad()
    loss.backward()
    assert_close(loss, expected["loss"])
    for name, parameter in released.named_parameters():
        assert parameter.grad is not None
        if name.endswith("k_ctx.bias"):
            # it adds the same to all scores of a query, so softmax hides it: 0 but for rounding
            assert parameter.grad.norm() < 1e-6 * parameter.norm()
            continue
        assert_close(parameter.grad, expected[f"grad.{name}"])


def test_each_question_has_the_same_answer_alone(released: TemporalSAE) -> None:
    x = load_file(ORACLE / "expected.safetensors")["x"]
    x_hat, parts = released(x)
    f = released.encode(x)
    assert f.shape == (3, 17, released.dict_size) == (3, 17, 256)
    torch.testing.assert_close(f[..., released.splits()["predicted"]], parts["pred_codes"])
    torch.testing.assert_close(f[..., released.splits()["novel"]], parts["novel_codes"])
    torch.testing.assert_close(released.predicted_codes(x), parts["pred_codes"])
    torch.testing.assert_close(released.novel_codes(x), parts["novel_codes"])
    torch.testing.assert_close(released.reconstruct(x), x_hat)
    torch.testing.assert_close(released.decode(f), x_hat)
    torch.testing.assert_close(released(x, output_features=False), x_hat)
    torch.testing.assert_close(released(x, output_features=True)[1], f)
    torch.testing.assert_close(f @ released.decoder_directions() + released.b, x_hat)


def test_single_tokens_are_refused_with_a_sentence(released: TemporalSAE) -> None:
    with pytest.raises(UserError, match=r"whole texts.*\[17, 32\].*all tokens of a text together"):
        released.encode(torch.zeros(17, 32))
    with pytest.raises(UserError, match="width 32, and these have width 31"):
        released.encode(torch.zeros(1, 17, 31))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"n_heads": 5}, "5 attention heads do not divide the 24 atoms"),
        ({"n_heads": 4, "bottleneck_factor": 4}, "keys of width 24 / 4"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"kval_topk": 25}, "kval_topk is 25"),
        ({"sae_diff_type": "gated"}, "choose one of topk, batchtopk, relu, nullify"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(sizes: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        TemporalSAE(6, 24, **({"n_heads": 2, "kval_topk": 3} | sizes))
