"""TemporalSAE against the released method's numbers, and what must hold for any weights."""

from pathlib import Path
from typing import Any

import pytest
import reference_tfa
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from dictionary_learning.dictionaries import attention
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.temporal_sizes import NOVEL_KINDS
from dictionary_learning.dictionaries.temporal_tensors import released_form
from dictionary_learning.errors import UserError

ORACLE = Path(__file__).parents[1] / "oracles" / "attention_topk_tied"


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
        ({"value_rank": 0}, "value_rank is 0, and must be between 1 and the 24 atoms"),
        ({"value_rank": 26}, "value_rank is 26, and must be between 1 and the 24 atoms: .* leave it out"),
        ({"value_rank": 7}, "2 attention heads do not divide value_rank 7: choose a multiple of 2"),
        ({"kval_topk": 25}, "kval_topk is 25"),
        ({"sae_diff_type": "gated"}, "choose one of topk, batchtopk, relu, nullify"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(sizes: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        TemporalSAE(6, 24, **({"n_heads": 2, "kval_topk": 3} | sizes))


# --- against the plain reference, and what must hold for any weights ---

D, W, K = 6, 24, 3


def random_sae(kind: str = "topk", *, seed: int = 0, spread: float = 1.0, **sizes: Any) -> TemporalSAE:
    """A dictionary whose every parameter is random, and whose attention is far from uniform."""
    sae = TemporalSAE(
        D, W, **({"n_heads": 2, "sae_diff_type": kind, "kval_topk": K, "bottleneck_factor": 2} | sizes)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            scale = {"D": 1.0, "E": 1.0, "b": 0.3}.get(name, 3.0 * spread)
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        if kind == "batchtopk":
            sae.expected_min_act.fill_(0.05)
    return sae.eval()


def texts(n: int = 2, length: int = 7, seed: int = 1) -> torch.Tensor:
    return 3 * torch.randn(n, length, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", NOVEL_KINDS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("n_attn_layers", "value_rank"), [(1, None), (3, None), (2, 4)])
def test_every_kind_is_what_the_formulas_say(
    kind: str, tied: bool, n_attn_layers: int, value_rank: int | None
) -> None:
    sae = random_sae(kind, tied_weights=tied, n_attn_layers=n_attn_layers, value_rank=value_rank)
    x = texts()
    x_hat, parts = sae(x)
    for i, x_LD in enumerate(x):
        state = {name: value.detach() for name, value in sae.state_dict().items()}
        predicted, novel, expected = reference_tfa.take_apart(state, x_LD, 2, kind, K, threshold=0.05)
        torch.testing.assert_close(parts["pred_codes"][i], predicted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(parts["novel_codes"][i], novel, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(x_hat[i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_attn_layers", [1, 2])
def test_the_released_form_on_whole_batches_is_the_same(n_attn_layers: int) -> None:
    sae = random_sae("topk", n_attn_layers=n_attn_layers)
    plain = reference_tfa.WholeBatches(sae.state_dict(), 2, K)
    x = texts()
    (x_hat, parts), (expected, of_plain) = sae(x, return_graph=True), plain(x, graph=True)
    torch.testing.assert_close(x_hat, expected, rtol=1e-4, atol=1e-4)
    for name, value in of_plain.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("tied", [True, False])
def test_activations_of_data_have_the_gradient_of_activations(tied: bool) -> None:
    gradients = []
    for name in ("activations", "activations_of_data"):
        sae = random_sae("topk", tied_weights=tied)
        z_BLW = getattr(sae, name)(sae.centred(texts()))
        (z_BLW * torch.linspace(-1, 1, z_BLW.numel()).view_as(z_BLW)).sum().backward()
        gradients.append([z_BLW, sae.b.grad, sae.D.grad if tied else sae.E.grad])
    for plain, short in zip(*gradients, strict=True):
        torch.testing.assert_close(short, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NOVEL_KINDS)
def test_a_later_token_changes_no_earlier_code(kind: str) -> None:
    sae = random_sae(kind, n_attn_layers=2)
    x = texts(1, 9)
    before = sae.encode(x)
    for t in range(9):
        changed = x.clone()
        changed[:, t:] = 100
        assert torch.equal(sae.encode(changed)[:, :t], before[:, :t])
        # right padding, whatever stands there, is the same as none
        torch.testing.assert_close(sae.encode(x[:, : t + 1]), before[:, : t + 1], rtol=1e-4, atol=1e-5)


def test_an_earlier_token_changes_later_predictions() -> None:
    sae = random_sae()
    x = texts(1, 6)
    changed = x.clone()
    changed[:, 2] += 5
    difference = (sae.predicted_codes(changed) - sae.predicted_codes(x)).abs().sum(-1)[0]
    assert (difference[:2] == 0).all()
    assert (difference[2:] > 1e-6).all()


@pytest.mark.parametrize("kind", NOVEL_KINDS)
def test_a_text_has_the_same_code_alone_as_in_a_batch(kind: str) -> None:
    sae = random_sae(kind)
    x = texts(4)
    together = sae.encode(x)
    for i in range(4):
        torch.testing.assert_close(sae.encode(x[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5)


@given(st.floats(1e-3, 1e3), st.sampled_from(NOVEL_KINDS), st.booleans())
def test_rescaling_is_exact(scale: float, kind: str, tied: bool) -> None:
    """The dictionary for `scale * x` gives the codes of x, and `scale` times its reconstruction."""
    sae, scaled = (random_sae(kind, tied_weights=tied) for _ in range(2))
    x = texts()
    scaled.scale_biases(scale)
    torch.testing.assert_close(scaled.encode(scale * x), sae.encode(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        scaled.reconstruct(scale * x) / scale, sae.reconstruct(x), rtol=1e-3, atol=1e-3
    )
    f = sae.encode(x)
    torch.testing.assert_close(scaled.decode(f) / scale, sae.decode(f), rtol=1e-3, atol=1e-3)
    _, parts = scaled(scale * x)
    torch.testing.assert_close(parts["pred_recons"] / scale, sae(x)[1]["pred_recons"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", NOVEL_KINDS)
def test_the_reconstruction_alone_and_the_sparse_code_are_the_dense_ones(kind: str) -> None:
    sae = random_sae(kind)
    x = texts()
    x_hat, parts = sae(x)
    torch.testing.assert_close(sae.reconstruct(x), x_hat)
    residual_TD = sae.predict(sae.centred(x)).residual_BLD.flatten(0, 1)
    code = sae.novel_entries(residual_TD)
    torch.testing.assert_close(code.dense(), parts["novel_codes"].flatten(0, 1))
    assert (code.values_N > 0).all()
    order = code.row_N * W + code.col_N
    assert (order.diff() > 0).all()


def test_the_prediction_takes_its_best_multiple() -> None:
    """What is left is orthogonal to what was predicted, so a prediction never hurts."""
    sae = random_sae(spread=0.3)
    x = texts()
    prediction = sae.predict(sae.centred(x))
    dot = (prediction.recons_BLD * prediction.residual_BLD).sum(-1)
    assert dot.abs().max() < 1e-2
    assert (prediction.residual_BLD.norm(dim=-1) <= sae.centred(x).norm(dim=-1) * (1 + 1e-5)).all()


def test_batchtopk_selects_over_all_tokens_in_training_and_by_its_threshold_in_inference() -> None:
    sae = random_sae("batchtopk")
    x = texts(2, 5)
    sae.train()
    in_training = sae.novel_codes(x).detach()
    assert (in_training > 0).sum() == 10 * K
    assert (sae.novel_codes(x, inf_k=1) > 0).sum() == 10
    # a threshold just below the smallest that was kept keeps the same
    sae.expected_min_act.fill_(float(in_training[in_training > 0].min()) * 0.9999)
    sae.eval()
    torch.testing.assert_close(sae.novel_codes(x), in_training)
    # one that was never set keeps the selection of training, and is not taken as "everything"
    sae.expected_min_act.fill_(-1)
    torch.testing.assert_close(sae.novel_codes(x), in_training)
    assert not sae.has_threshold


def test_inf_k_takes_the_place_of_k() -> None:
    sae = random_sae()
    x = texts()
    assert (sae.novel_codes(x, inf_k=5) > 0).sum(-1).max() == 5
    assert (sae(x, inf_k=2)[1]["novel_codes"] > 0).sum(-1).max() == 2
    torch.testing.assert_close(sae.reconstruct(x, inf_k=2), sae(x, inf_k=2)[0])
    with pytest.raises(UserError, match="inf_k is 25, and must be between 1 and the 24 atoms"):
        sae.novel_codes(x, inf_k=25)
    with pytest.raises(UserError, match="means nothing where sae_diff_type is relu"):
        random_sae("relu").novel_codes(x, inf_k=2)


def test_buffers_stay_float32_in_half_precision() -> None:
    sae = random_sae("batchtopk")
    sae.scaling_factor.fill_(0.0067)
    half = sae.to(torch.bfloat16)
    assert half.D.dtype == torch.bfloat16
    for name, value in (("scaling_factor", 0.0067), ("expected_min_act", 0.05)):
        buffer = half.get_buffer(name)
        assert buffer.dtype == torch.float32
        assert float(buffer) == pytest.approx(value, rel=1e-6)


def test_a_text_longer_than_in_training_works_and_is_told_once(recwarn: pytest.WarningsRecorder) -> None:
    sae = random_sae(context_length=5)
    sae.encode(texts(1, 5))
    assert not recwarn
    for _ in range(3):
        assert sae.encode(texts(1, 8)).shape == (1, 8, 2 * W)
    assert len(recwarn) == 1
    assert "8 tokens, and the TemporalSAE was trained on 5" in str(recwarn[0].message)


def test_blocks_of_queries_attend_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = random_sae(n_attn_layers=2)
    x = texts(2, 11)
    at_once = sae.encode(x)
    monkeypatch.setattr(attention, "QUERY_BLOCK", 4)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x), at_once.detach())


def test_a_new_dictionary_has_the_norms_it_starts_from() -> None:
    sae = TemporalSAE(40, 160, 4, kval_topk=8, bottleneck_factor=2, seed=3)
    layer = sae.attn_layers[0]
    # keys and queries: 80 / 4 = 20 a head; values: 160 / 4 = 40; the projection: 160
    for name, norm in (
        ("k_ctx", 20**-0.5),
        ("q_target", 20**-0.5),
        ("v_ctx", 40**-0.5),
        ("c_proj", 160**-0.5),
    ):
        rows = layer.get_submodule(name).weight.norm(dim=1)
        torch.testing.assert_close(rows, torch.full_like(rows, norm))
    assert float(sae.D.detach().std()) == pytest.approx(1, rel=0.05)
    assert float(sae.b.abs().max()) == 0
    same, other = (TemporalSAE(40, 160, 4, kval_topk=8, seed=seed).D for seed in (3, 4))
    assert torch.equal(same, sae.D)
    assert not torch.equal(other, sae.D)
    # nothing is predicted of the first token, whose context is empty
    assert float(sae.predicted_codes(torch.randn(2, 4, 40))[:, 0].abs().max()) == 0
    low = TemporalSAE(40, 160, 4, kval_topk=8, bottleneck_factor=2, value_rank=32).attn_layers[0]
    for name, norm, shape in (("v_ctx", 8**-0.5, (32, 160)), ("c_proj", 32**-0.5, (160, 32))):
        weight = low.get_submodule(name).weight
        assert weight.shape == shape
        torch.testing.assert_close(weight.norm(dim=1), torch.full((shape[0],), norm))


def test_values_as_wide_as_the_atoms_are_the_paper_s() -> None:
    full, said = (TemporalSAE(D, W, 2, kval_topk=K, value_rank=rank) for rank in (None, W))
    assert said.value_rank is full.value_rank is full.architecture["value_rank"] is None
    assert full.state_dict().keys() == said.state_dict().keys()
    assert all(torch.equal(tensor, said.state_dict()[name]) for name, tensor in full.state_dict().items())
    assert torch.equal(full.encode(texts()), said.encode(texts()))


def test_a_rank_is_read_from_the_weights_and_compared_with_the_config() -> None:
    sae = random_sae(value_rank=4)
    config = {"n_heads": 2, "sae_diff_type": "topk", "kval_topk": K}
    for said in ({}, {"value_rank": None}, {"value_rank": 4}):
        again = TemporalSAE.from_state_dict(sae.state_dict(), config | said)
        assert again.value_rank == 4
        assert torch.equal(again.encode(texts()), sae.encode(texts()))
    with pytest.raises(UserError, match=r"value_rank is 8 in the config .* and 4 in its weights"):
        TemporalSAE.from_state_dict(sae.state_dict(), config | {"value_rank": 8})


def test_a_low_rank_in_released_form_has_the_same_codes_in_code_that_knows_none() -> None:
    sae = random_sae(value_rank=4, n_attn_layers=2)
    state, architecture = released_form(sae.state_dict(), sae.architecture)
    assert "value_rank" not in architecture
    x = texts()
    (x_hat, parts), (expected, of_plain) = sae(x), reference_tfa.WholeBatches(state, 2, K)(x)
    torch.testing.assert_close(x_hat, expected, rtol=1e-4, atol=1e-4)
    for name, value in of_plain.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-4, msg=name)
    full = TemporalSAE.from_state_dict(state, architecture | {"sae_diff_type": "topk"})
    assert full.value_rank is None
    torch.testing.assert_close(full.eval().encode(x), sae.encode(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["topk", "relu", "nullify", "batchtopk"])
@pytest.mark.parametrize("pieces", [[40], [1] * 40, [7, 1, 20, 12]])
@pytest.mark.parametrize("value_rank", [None, 4])
def test_a_text_that_is_encoded_piece_by_piece_has_the_codes_of_the_whole(
    kind, pieces, value_rank, monkeypatch
):
    monkeypatch.setattr("dictionary_learning.dictionaries.attention.QUERY_BLOCK", 9)
    torch.manual_seed(0)
    k = None if kind in ("relu", "nullify") else 3
    sizes = {"n_attn_layers": 2, "bottleneck_factor": 2, "value_rank": value_rank}
    sae = TemporalSAE(8, 16, n_heads=2, sae_diff_type=kind, kval_topk=k, **sizes)
    with torch.no_grad():
        for layer in sae.layers:
            for linear in (layer.k_ctx, layer.v_ctx, layer.q_target, layer.c_proj):
                linear.bias.normal_()
        sae.b.normal_()
        if kind == "batchtopk":
            sae.expected_min_act.fill_(0.02)
    sae.eval()
    x_BLD = torch.randn(2, 40, 8)
    assert sae.goes_on
    parts, before = [], None
    for piece in x_BLD.split(pieces, dim=1):
        codes, before = sae.encode_on(piece, before)
        parts.append(codes)
    torch.testing.assert_close(torch.cat(parts, 1), sae.encode(x_BLD), atol=1e-5, rtol=1e-4)


def test_a_batch_that_selects_among_all_its_tokens_does_not_go_on():
    sae = TemporalSAE(8, 16, n_heads=2, sae_diff_type="batchtopk", kval_topk=3).eval()
    assert not sae.goes_on
    sae.expected_min_act.fill_(0.1)
    assert sae.goes_on
    assert not sae.train().goes_on
