"""The TemporalSAE's trainer: what it minimises, what it reports, and what it sees of a text."""

import copy
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import reference_tfa
import torch

from dictionary_learning.activations.block import Contexts
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries import products
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.trainers import BatchTopKTrainer, TemporalAttentionTrainer
from dictionary_learning.trainers.temporal_attention import cosine_factor
from dictionary_learning.training import trainSAE
from dictionary_learning.utils import load_dictionary

D, W, K = 6, 24, 3
STEPS = 24
KINDS = ["topk", "batchtopk", "relu", "nullify"]


def trainer(**options: Any) -> TemporalAttentionTrainer:
    sizes: dict[str, Any] = {"activation_dim": D, "width": W, "k": K, "n_heads": 2, "bottleneck_factor": 2}
    return TemporalAttentionTrainer(**{"steps": 30, "seed": 0, "device": "cpu", **sizes, **options})


def walks(n: int, length: int, seed: int = 0) -> torch.Tensor:
    """Texts of unit norm whose tokens drift: what comes is like what was."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(n, length, D, generator=generator)
    return torch.nn.functional.normalize(steps.cumsum(1) + 0.3, dim=-1)


def contexts(seed: int = 0) -> Contexts:
    """Two texts of 5 and 3 usable tokens in 7 positions, with a sink in front and a hole."""
    mask_NL = torch.tensor([[0, 1, 1, 1, 0, 1, 1], [0, 1, 1, 1, 0, 0, 0]]).bool()
    x_NLD = walks(2, 7, seed) * mask_NL[..., None]
    return Contexts(x_NLD, mask_NL, torch.zeros(2, 7, dtype=torch.int32), torch.arange(2))


# --- the loss and its gradient ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tied", "value_rank"), [(True, None), (False, None), (True, 8)])
def test_the_sparse_loss_and_its_gradient_are_the_dense_ones(
    kind: str, tied: bool, value_rank: int | None
) -> None:
    sizes = {"n_attn_layers": 2, "n_heads": 4, "value_rank": value_rank}
    ours = trainer(sae_diff_type=kind, tied_weights=tied, gamma_reg=0.1, **sizes)
    plain = copy.deepcopy(ours.ae).train()
    batch = contexts()
    texts = Sequences.of(batch.x_NLD, batch.mask_NL)
    x_hat, parts = plain(texts.padded())
    if kind == "batchtopk":
        # the plain one selects over the padding, too: over the 8 tokens alone it is this
        residual_TD = texts.tokens(plain.predict(plain.centred(texts.padded())).residual_BLD)
        novel_TW = plain.novel(residual_TD)
        x_hat_TD = texts.tokens(parts["pred_recons"]) + novel_TW @ plain.D + plain.b
        assert (novel_TW > 0).sum() == 8 * K
    else:
        novel_TW, x_hat_TD = texts.tokens(parts["novel_codes"]), texts.tokens(x_hat)
    expected = (x_hat_TD - texts.x_TD).square().sum() / 8
    if kind == "relu":
        expected = expected + 0.1 * novel_TW.norm(dim=1).mean()
    expected.backward()

    ours._see_batch(len(texts), texts.x_TD)
    loss, _ = ours._loss(texts)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for (name, p), q in zip(ours.ae.named_parameters(), plain.parameters(), strict=True):
        assert p.grad is not None, name
        if not name.endswith("k_ctx.bias"):  # 0 but for rounding
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("library", [products.DEFAULT, products.ONEDNN])
def test_losses_are_those_of_the_released_form(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == products.ONEDNN and not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch without oneDNN")
    monkeypatch.setattr(products, "_library", library)
    monkeypatch.setattr(products, "FROM_PRODUCTS", 0)
    one = trainer(steps=20, warmup_steps=5, width=64, n_heads=4, k=5)
    plain = reference_tfa.WholeBatches(one.ae.state_dict(), 4, 5)
    released = reference_tfa.WholeBatchStep(plain, lr=1e-3, steps=20, warmup_steps=5)
    batches = [walks(8, 16, seed) for seed in range(4)]
    ours = [one.update(step, batches[step % 4]) for step in range(20)]
    assert ours == pytest.approx([released.update(step, batches[step % 4]) for step in range(20)], rel=1e-5)
    assert ours[16] < 0.99 * ours[0]  # of the same batch: there was something to agree on


def test_losses_of_a_low_rank_are_those_of_the_released_form_with_fewer_values() -> None:
    one = trainer(steps=20, warmup_steps=5, width=64, n_heads=4, k=5, value_rank=8)
    assert one.config["value_rank"] == 8
    plain = reference_tfa.WholeBatches(one.ae.state_dict(), 4, 5)
    released = reference_tfa.WholeBatchStep(plain, lr=1e-3, steps=20, warmup_steps=5)
    batches = [walks(8, 16, seed) for seed in range(4)]
    ours = [one.update(step, batches[step % 4]) for step in range(20)]
    assert ours == pytest.approx([released.update(step, batches[step % 4]) for step in range(20)], rel=1e-5)


def test_a_run_goes_on_by_the_library_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_library", products.ONEDNN)
    one = trainer()
    state = one.state_dict()
    assert one.facts["dense_product"] == products.ONEDNN
    monkeypatch.setattr(products, "_library", None)
    monkeypatch.setattr(products, "_timed_library", lambda *sizes: products.DEFAULT)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    other = trainer()
    other.load_state_dict(state)
    assert products.library() == products.ONEDNN
    monkeypatch.setattr(products, "_library", None)
    del state["dense_product"]  # as an earlier version saved it
    other.load_state_dict(state)
    assert products.library() == products.DEFAULT


def test_a_sink_a_hole_and_padding_are_not_seen() -> None:
    """Contexts with a mask, the same tokens packed, and each text alone are the same batch."""
    batch = contexts()
    packed = Sequences.of(batch.x_NLD, batch.mask_NL)
    spoiled = batch._replace(x_NLD=batch.x_NLD.masked_fill(~batch.mask_NL[..., None], 1e4))
    losses = []
    for x in (batch, packed, spoiled):
        one = trainer()
        losses.append([one.update(i, x) for i in range(3)])
    assert losses[0] == losses[1] == losses[2]
    first, second = packed.padded()
    alone = [trainer().update(0, text[None]) for text in (first[:5], second[:3])]
    assert losses[0][0] == pytest.approx((5 * alone[0] + 3 * alone[1]) / 8, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_to_predict_what_drifts(kind: str) -> None:
    steps = 150
    one = trainer(steps=steps, sae_diff_type=kind, warmup_steps=10, threshold_start_step=100)
    x = walks(16, 12)
    losses = [one.update(i, x) for i in range(steps)]
    assert losses[-1] < 0.5 * losses[0]
    assert one.metrics()["nmse_predicted"] < 0.8
    if kind == "batchtopk":
        assert float(one.ae.expected_min_act) > 0


def test_the_learning_rate_rises_and_falls_as_told() -> None:
    # 4 steps up, then half a cosine over steps 4 to 13, whose middle lies between 8 and 9
    factors = [cosine_factor(step, 14, 4, 0.5) for step in range(14)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[13] == 0.5
    assert factors[8] + factors[9] == pytest.approx(1.5)
    assert cosine_factor(0, 1, 0, 0.9) == 1.0


def test_autocast_trains_in_bfloat16_and_keeps_float32_weights() -> None:
    one = trainer(encoder_dtype="bfloat16")
    full = trainer()
    x = walks(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [one.update(i, x) for i in range(3)]
    assert losses == pytest.approx([full.update(i, x) for i in range(3)], rel=0.05)
    assert {p.dtype for p in one.ae.parameters()} == {torch.float32}


# --- what it reports ---


def test_metrics_say_what_each_part_explains() -> None:
    one = trainer(lr=0.0)
    x = walks(5, 9)
    one.update(0, x)
    got = one.metrics()
    with torch.no_grad():
        x_hat, parts = one.ae(x)
    p, n, b = parts["pred_recons"], parts["novel_recons"], one.ae.b.detach()
    energy, variance = x.square().sum(), (x - x.mean((0, 1))).square().sum()
    for part, recon in (("", x_hat), ("_predicted", p + b), ("_novel", n + b)):
        assert got[f"nmse{part}"] == pytest.approx(float((x - recon).square().sum() / energy), rel=1e-4)
        assert got[f"fve{part}"] == pytest.approx(float(1 - (x - recon).square().sum() / variance), abs=1e-4)
    share = p.norm(dim=-1).sum() / (p.norm(dim=-1).sum() + n.norm(dim=-1).sum())
    assert got["norm_share_predicted"] == pytest.approx(float(share), rel=1e-4)
    share = p.square().sum() / (p.square().sum() + n.square().sum())
    assert got["energy_share_predicted"] == pytest.approx(float(share), rel=1e-4)
    # the first token of a text has no context: nothing is predicted, and no cosine is counted
    assert float(p[:, 0].abs().max()) == 0
    cosine = torch.nn.functional.cosine_similarity(p[:, 1:], n[:, 1:], dim=-1).mean()
    assert got["cosine_of_parts"] == pytest.approx(float(cosine), abs=1e-4)
    assert got["l0"] == pytest.approx(float((parts["novel_codes"] > 0).sum() / 45))
    assert got["density_novel"] == pytest.approx(got["l0"] / W)
    assert got["l0_predicted"] == pytest.approx(float((parts["pred_codes"] != 0).sum() / 45))
    assert got["density_predicted"] == pytest.approx(got["l0_predicted"] / W)
    before = copy.deepcopy(one.state_dict())
    assert one.metrics() == got
    after = one.state_dict()
    assert after.pop("dense_product") == before.pop("dense_product")
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_the_reported_error_leaves_the_regulariser_out() -> None:
    with_it, without = trainer(sae_diff_type="relu", gamma_reg=5.0), trainer(sae_diff_type="relu")
    losses = with_it.update(0, walks(3, 5)), without.update(0, walks(3, 5))
    assert losses[0] > 1.01 * losses[1]
    assert with_it.metrics()["nmse"] == without.metrics()["nmse"]


def test_latents_are_dead_when_they_have_been_silent_for_long() -> None:
    one = trainer()
    one.dead_feature_threshold = 20
    one.update(0, walks(2, 5))
    assert one.metrics()["dead_share"] == one.metrics()["dead_share_predicted"] == 0
    one.update(1, walks(2, 5))
    ae_codes = one.dead_latents.tokens_since_fired_F
    assert len(ae_codes) == 2 * W
    assert one.metrics()["dead_share"] == pytest.approx(float((ae_codes[W:] >= 20).float().mean()))


def test_the_threshold_is_set_where_k_are_left() -> None:
    one = trainer(sae_diff_type="batchtopk")
    batches = [walks(4, 6, seed) for seed in range(3)]
    facts = one.calibrate(batches)
    assert facts is not None
    assert facts["calibration_tokens"] == 72
    assert facts["calibration_l0"] == pytest.approx(K)
    one.ae.eval()
    codes = torch.cat([one.ae.novel_codes(x) for x in batches])
    assert (codes > 0).sum() == 72 * K
    assert one.ae.expected_min_act.dtype == torch.float32
    assert trainer().calibrate(batches) is None


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (torch.zeros(9, D), r"whole texts .*store.sequences"),
        (torch.zeros(2, 9, D + 1), "width 6, and got width 7"),
        (torch.full((2, 9, D), torch.nan), "NaN or infinite"),
    ],
)
def test_batches_that_cannot_be_trained_on_are_told(x: torch.Tensor, sentence: str) -> None:
    one = trainer()
    before = copy.deepcopy(one.ae.state_dict())
    with pytest.raises(UserError, match=sentence):
        one.update(0, x)
    torch.testing.assert_close(one.ae.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e30, torch.nan])
def test_a_training_that_has_diverged_is_told_whatever_novel_codes_are(kind: str, size: float) -> None:
    one = trainer(sae_diff_type=kind)
    with torch.no_grad():
        one.ae.D.fill_(size)
    before = copy.deepcopy(one.ae.state_dict())
    with pytest.raises(UserError, match=r"is (inf|nan) at step 3.* smaller lr"):
        one.update(3, walks(2, 9))
    torch.testing.assert_close(one.ae.state_dict(), before, rtol=0, atol=0, equal_nan=True)


# --- in the training loop ---


class Batches:
    """Contexts of varying lengths that can be rewound, far from unit norm."""

    scale: ClassVar = 50.0

    def __init__(self) -> None:
        self.n = 0

    def __iter__(self) -> "Iterator[Contexts]":
        return self

    def __next__(self) -> Contexts:
        self.n += 1
        batch = contexts(self.n)
        return batch._replace(x_NLD=batch.x_NLD * self.scale)

    def state_dict(self) -> dict[str, int]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.n = state["n"]


def configs() -> list[dict[str, Any]]:
    sizes = {"activation_dim": D, "steps": STEPS, "seed": 0, "device": "cpu", "k": K}
    tfa = {"trainer": TemporalAttentionTrainer, **sizes, "width": W, "n_heads": 2, "bottleneck_factor": 2}
    return [
        tfa | {"sae_diff_type": "batchtopk", "threshold_start_step": 2, "warmup_steps": 3},
        {"trainer": BatchTopKTrainer, **sizes, "dict_size": W, "warmup_steps": 3},
    ]


def run(folder: Path, data: Any, **options: Any) -> None:
    trainSAE(
        data,
        configs(),
        STEPS,
        save_dir=folder,
        log_steps=8,
        normalize_activations=True,
        calibration_tokens=40,
        **options,
    )


def test_a_run_on_texts_saves_a_dictionary_of_raw_activations(tmp_path: Path) -> None:
    run(tmp_path / "run", Batches())
    records = RunFolder(tmp_path / "run").read_metrics()
    assert [record["tokens"] for record in records] == [
        8,
        64,
        128,
        192,
    ]  # 8 usable tokens a batch; the first step is always told
    dictionary, config = load_dictionary(tmp_path / "run" / "trainer_0", "cpu")
    norm = config["trainer"]["norm_factor"]
    assert norm == pytest.approx(50)
    assert float(dictionary.state_dict()["scaling_factor"]) == pytest.approx(1 / 50)
    # the saved one on raw activations is the trained one on scaled ones
    x = walks(2, 7, seed=99)
    raw_hat, raw_f = dictionary(50 * x, output_features=True)
    dictionary.scale_biases(1 / 50)
    x_hat, f = dictionary(x, output_features=True)
    torch.testing.assert_close(raw_hat, 50 * x_hat)
    torch.testing.assert_close(raw_f, f)
    # the other trainer has seen the same tokens one by one
    assert type(load_dictionary(tmp_path / "run" / "trainer_1", "cpu")[0]).__name__ == "BatchTopKSAE"


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "whole", Batches())

    class Stops(Batches):
        def __next__(self) -> Contexts:
            if self.n == 20:  # 16 batches are read ahead for the norm
                signal.raise_signal(signal.SIGTERM)
            return super().__next__()

    data = Stops()
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", data, backup_steps=2)
    done = json.loads((tmp_path / "cut" / "trainer_0" / "config.json").read_text())["trainer"]["steps_done"]
    assert 0 < done < STEPS
    run(tmp_path / "cut", Batches(), resume=True)
    for i in range(2):
        whole, cut = (load_weights(tmp_path / name / f"trainer_{i}" / "ae.pt") for name in ("whole", "cut"))
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[name], cut[name]) for name in whole)
