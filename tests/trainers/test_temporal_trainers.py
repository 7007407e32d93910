"""T-SAE, Matryoshka and BatchTopK trainers against the dense step, by hand, and through a resume."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference_tsae import DenseStep, DenseTSAE
from torch import nn

from dictionary_learning.activations.block import TextPairs
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.trainers import (
    BatchTopKSAE,
    BatchTopKTrainer,
    MatryoshkaBatchTopKSAE,
    MatryoshkaBatchTopKTrainer,
    TemporalMatryoshkaBatchTopKTrainer,
)
from dictionary_learning.trainers.losses import contrastive_loss, matryoshka_weights, temporal_l1_loss
from dictionary_learning.trainers.threshold import find_threshold
from dictionary_learning.trainers.trainer import adam, geometric_median, in_memory_order, learning_rate_factor

D, LATENTS, K, B = 12, 48, 4, 64


def pairs(n: int, seed: int = 0) -> torch.Tensor:
    """Pairs [n, B, 2, D] that share a direction."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, B, 1, D, generator=generator)
    return 3 * (shared + torch.randn(n, B, 2, D, generator=generator))


def temporal_trainer(**options):
    defaults = dict(
        steps=30,
        activation_dim=D,
        dict_size=LATENTS,
        k=K,
        lr=1e-3,
        warmup_steps=3,
        threshold_start_step=5,
        group_fractions=[0.25, 0.25, 0.5],
        group_weights=[0.5, 0.3, 0.2],
        temp_alpha=0.7,
        seed=0,
        device="cpu",
    )
    return TemporalMatryoshkaBatchTopKTrainer(**(defaults | options))


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("contrastive", [True, False])
@pytest.mark.parametrize("dead_after", [10_000_000, 2 * B])
def test_the_sparse_step_is_the_dense_step(form, contrastive, dead_after):
    ours = temporal_trainer(form=form, contrastive=contrastive, temperature=0.5)
    ours.dead_feature_threshold = dead_after
    ours.ae.b_enc.data[36:] = -6  # these seldom reach the top, and so die
    plain_ae = DenseTSAE(ours.ae.W_dec.detach(), ours.group_sizes, K)
    plain = DenseStep(
        plain_ae,
        lr=1e-3,
        group_weights=[0.5, 0.3, 0.2],
        temp_alpha=0.7,
        warmup_steps=3,
        contrastive=contrastive,
        form=form,
        temperature=0.5,
        dead_feature_threshold=dead_after,
    )
    plain_ae.b_enc.data.copy_(ours.ae.b_enc.data)
    batches = pairs(20)
    plain_ae.b_dec.data.copy_(geometric_median(batches[0, :, 0]))
    with_auxk = 0
    for step, batch in enumerate(batches):
        assert ours.update(step, batch) == pytest.approx(plain.update(step, batch), rel=1e-4)
        with_auxk += ours.metrics()["auxk"] > 0
    assert (with_auxk > 0) == (dead_after < 1000), "the case with dead latents must have some"
    torch.testing.assert_close(ours.ae.W_dec, plain_ae.W_dec, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.ae.W_enc, plain_ae.W_enc, rtol=1e-3, atol=1e-4)


def test_matryoshka_is_the_temporal_trainer_without_its_term():
    options = dict(
        steps=9, activation_dim=D, dict_size=LATENTS, k=K, lr=1e-3, warmup_steps=2, seed=3, device="cpu"
    )
    matryoshka = MatryoshkaBatchTopKTrainer(**options)
    temporal = TemporalMatryoshkaBatchTopKTrainer(**options, temp_alpha=0.0)
    for step, batch in enumerate(pairs(9)):
        assert matryoshka.update(step, batch[:, 0]) == pytest.approx(temporal.update(step, batch), rel=1e-5)


def test_batch_topk_is_matryoshka_with_one_group():
    options = dict(
        steps=9, activation_dim=D, dict_size=LATENTS, k=K, lr=1e-3, warmup_steps=2, seed=3, device="cpu"
    )
    single = BatchTopKTrainer(**options)
    grouped = MatryoshkaBatchTopKTrainer(**options, group_fractions=[1.0])
    for step, batch in enumerate(pairs(9)):
        assert single.update(step, batch[:, 0]) == pytest.approx(grouped.update(step, batch[:, 0]), rel=1e-6)
    torch.testing.assert_close(single.ae.decoder.weight.T, grouped.ae.W_dec)


def test_the_two_forms_of_the_matryoshka_loss_by_hand():
    losses_G = torch.tensor([4.0, 1.0])
    weights_G = {form: torch.tensor(matryoshka_weights([0.2, 0.8], form)) for form in ("paper", "code")}
    assert float(losses_G @ weights_G["paper"]) == 5.0
    # (0.2 * 4 + 0.8 * 1) / 2 = 0.8
    assert float(losses_G @ weights_G["code"]) == pytest.approx(0.8)


def code_of(dense: list[list[float]]) -> SparseCode:
    f_BF = torch.tensor(dense)
    row_N, col_N = f_BF.nonzero(as_tuple=True)
    return SparseCode(f_BF[row_N, col_N], row_N, col_N, *f_BF.shape)


def test_the_contrastive_loss_by_hand():
    # Own pairs meet with 2 * 1 = 2, other pairs with 0, in rows and in columns alike:
    # loss = log(e^2 + e^0) - 2. By cosine own pairs meet with 1: log(e + 1) - 1.
    z, z_earlier = code_of([[2.0, 0.0], [0.0, 2.0]]), code_of([[1.0, 0.0], [0.0, 1.0]])
    assert float(contrastive_loss(z, z_earlier, "code")) == pytest.approx(math.log(math.e**2 + 1) - 2)
    assert float(contrastive_loss(z, z_earlier, "paper")) == pytest.approx(math.log(math.e + 1) - 1)
    # At temperature 0.5 cosines count double: as the dot products above.
    assert float(contrastive_loss(z, z_earlier, "paper", 0.5)) == pytest.approx(math.log(math.e**2 + 1) - 2)


def masked_info_nce(z_BF, other_BF, group_B):
    """Symmetric InfoNCE in which pairs of one group are no negatives, dense and in float64."""
    logits_BB = z_BF @ other_BF.T
    B = len(logits_BB)
    is_left_out = (group_B[:, None] == group_B) & ~torch.eye(B, dtype=torch.bool)
    logits_BB = logits_BB.masked_fill(is_left_out, -math.inf)
    own_B = torch.arange(B)
    return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2


def compare_with_dense(form, largest, group_B, **options):
    """The contrastive loss and its gradient against the dense form, pairs of one group left out."""
    generator = torch.Generator().manual_seed(int(group_B.sum()))
    f = [
        torch.rand(24, 8, generator=generator) * (torch.rand(24, 8, generator=generator) < 0.5) for _ in "ab"
    ]
    codes = [SparseCode.of((largest * dense).requires_grad_()) for dense in f]
    for code in codes:
        code.values_N.retain_grad()
    loss = contrastive_loss(*codes, form, 0.5, **options)
    loss.backward()

    dense = [code.dense().detach().double().requires_grad_() for code in codes]
    if form == "paper":
        z, other = (x_BF / x_BF.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt() for x_BF in dense)
    else:
        z, other = dense
    expected = masked_info_nce(z / 0.5, other, group_B)
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for code, slow in zip(codes, dense, strict=True):
        at_entries = slow.grad[code.row_N, code.col_N].float()
        torch.testing.assert_close(code.values_N.grad, at_entries, rtol=1e-3, atol=2e-6)


forms = pytest.mark.parametrize("form", ["code", "paper"])
sizes = pytest.mark.parametrize("largest", [1.0, 8.0])  # with "code" 8 is too large for one exponential


@forms
@sizes
@pytest.mark.parametrize("run_length", [1, 2, 3, 4])
def test_pairs_of_one_run_are_no_negatives(form, run_length, largest):
    run_B = torch.arange(24) % (24 // run_length)
    compare_with_dense(form, largest, run_B, run_length=run_length)


TEXTS_OF_24 = {
    "few": torch.arange(24) ** 2 % 7,
    "one of a single pair": (torch.arange(24) > 0).long() * 2**62,
    "all different": torch.arange(24) - 2**62,
}


@forms
@sizes
@pytest.mark.parametrize("texts", TEXTS_OF_24)
def test_pairs_of_one_text_are_no_negatives(form, texts, largest):
    compare_with_dense(form, largest, TEXTS_OF_24[texts], text_B=TEXTS_OF_24[texts])


def test_runs_are_left_out_with_their_texts():
    text_B = torch.tensor([5, 5, 6, 7, 7, 8]).repeat(4)  # six runs of four pairs, position by position
    compare_with_dense("paper", 1.0, text_B, run_length=4, text_B=text_B)


def test_texts_that_all_differ_leave_the_loss_as_it_is():
    codes = [SparseCode.of(torch.rand(24, 8)) for _ in "ab"]
    without = contrastive_loss(*codes, "paper", 0.1)
    assert torch.equal(contrastive_loss(*codes, "paper", 0.1, text_B=TEXTS_OF_24["all different"]), without)


@sizes
def test_pairs_of_one_text_alone_have_no_loss_and_no_gradient(largest):
    codes = [SparseCode.of((largest * torch.rand(24, 8)).requires_grad_()) for _ in "ab"]
    for code in codes:
        code.values_N.retain_grad()
    loss = contrastive_loss(*codes, "code", text_B=torch.zeros(24, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert all(float(code.values_N.grad.abs().max()) < 1e-6 for code in codes)


def test_the_gradient_of_masked_negatives_is_that_of_finite_differences():
    text_B = torch.tensor([1, 1, 2, 3, 3, 3])
    one, other = (SparseCode.of(torch.rand(6, 4, dtype=torch.float64)) for _ in "ab")

    def loss(values_N, other_N):
        codes = (replace(one, values_N=values_N), replace(other, values_N=other_N))
        return contrastive_loss(*codes, "paper", 0.5, text_B=text_B)

    assert torch.autograd.gradcheck(
        loss, [code.values_N.clone().requires_grad_() for code in (one, other)], eps=1e-6, atol=1e-6
    )


def of_texts(batch, n_texts=8):
    return TextPairs(batch, torch.arange(len(batch)) % n_texts)


def test_a_trainer_that_leaves_texts_out_counts_negatives_and_takes_another_step():
    batches = pairs(3)
    trainer, plain = (temporal_trainer(form="paper", negatives=which) for which in ("other_texts", "all"))
    again = temporal_trainer(form="paper")
    for step, batch in enumerate(batches):
        # the same batches train both: who needs no texts passes over them
        losses = trainer.update(step, of_texts(batch)), plain.update(step, of_texts(batch))
        assert losses[1] == again.update(step, batch)
        assert losses[0] < losses[1]  # fewer negatives, the same weights in the first step
    assert trainer.metrics()["negatives"] == B - B / 8
    assert "negatives" not in plain.metrics()
    assert trainer.config["negatives"] == "other_texts"


def test_what_cannot_be_left_out_is_told():
    with pytest.raises(UserError, match="there are no negatives 'none': choose one of all, other_texts"):
        temporal_trainer(negatives="none")
    trainer, batch = temporal_trainer(negatives="other_texts"), pairs(1)[0]
    with pytest.raises(UserError, match="their texts have to be known"):
        trainer.update(0, batch)
    with pytest.raises(UserError, match="the first batch is of one text alone"):
        trainer.update(0, of_texts(batch, n_texts=1))
    trainer.update(0, of_texts(batch))
    assert math.isfinite(trainer.update(1, of_texts(batch, n_texts=1)))
    assert trainer.metrics()["temporal"] == pytest.approx(0, abs=1e-6)
    assert trainer.metrics()["negatives"] == 0


def test_a_run_of_two_pairs_by_hand():
    # Two runs of two pairs each, position by position: rows 0 and 2 are one run, rows 1 and 3 the other. All
    # codes are alike, so a row is as near to its own pair as to the two of the other run: log 3, not log 4.
    z = code_of([[1.0]] * 4)
    assert float(contrastive_loss(z, z, "paper", run_length=2)) == pytest.approx(math.log(3))
    assert float(contrastive_loss(z, z, "paper")) == pytest.approx(math.log(4))


def runs_and_their_pairs(n_runs, run_length):
    """Runs [n_runs, r + 1, D], latest token first, and the same as pairs [r * n_runs, 2, D]."""
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(n_runs, 1, D, generator=generator)
    runs = 3 * (shared + torch.randn(n_runs, run_length + 1, D, generator=generator))
    pairs = torch.stack([runs[:, :-1], runs[:, 1:]], dim=2)  # [run, position, 2, D]
    return runs, pairs.transpose(0, 1).flatten(0, 1)


@pytest.mark.parametrize("encoder_dtype", ["float32", "bfloat16"])
def test_a_run_has_the_codes_of_its_pairs(encoder_dtype):
    runs, pairs = runs_and_their_pairs(40, 4)
    ours = temporal_trainer(run_length=4, encoder_dtype=encoder_dtype)
    plain = temporal_trainer(encoder_dtype=encoder_dtype)
    codes = []
    for trainer, batch in ((ours, runs), (plain, pairs)):
        trainer._see_batch(len(pairs), batch)
        codes.append(trainer._encode(trainer._tokens_of(batch)))
    for code, of_pairs in zip(*codes, strict=True):
        torch.testing.assert_close(code.dense(), of_pairs.dense())


def test_a_step_on_runs_is_the_step_on_their_pairs_but_for_the_negatives():
    runs, pairs = runs_and_their_pairs(40, 4)
    ours, plain = temporal_trainer(run_length=4, contrastive=False), temporal_trainer(contrastive=False)
    for step in range(5):
        assert ours.update(step, runs) == pytest.approx(plain.update(step, pairs), rel=1e-5)
    for name, weight in plain.ae.state_dict().items():
        torch.testing.assert_close(ours.ae.state_dict()[name], weight, rtol=1e-4, atol=1e-5)


def test_a_trainer_of_runs_refuses_other_batches():
    trainer = temporal_trainer(run_length=4)
    with pytest.raises(UserError, match=r"runs of 4 pairs \[B, 5, \d+\]"):
        trainer.update(0, pairs(1)[0])


def test_silent_codes_have_a_contrastive_loss_of_log_b_and_finite_gradients():
    z = code_of([[0.0], [0.0], [0.0]])
    for form in ("code", "paper"):
        assert float(contrastive_loss(z, z, form)) == pytest.approx(math.log(3))


def test_the_l1_similarity_loss_by_hand():
    # Row 0: cosine 1 and codes |2-1| = 1; row 1: cosine 0, whatever the codes. Mean (1 + 0) / 2.
    x, x_earlier = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    z, z_earlier = code_of([[2.0], [5.0]]), code_of([[1.0], [1.0]])
    assert float(temporal_l1_loss(x, x_earlier, z, z_earlier, n_tokens=2)) == pytest.approx(0.5)


def test_the_learning_rate_warms_up_stays_and_decays():
    factors = [learning_rate_factor(s, steps=10, warmup_steps=4, decay_start=8) for s in range(10)]
    assert factors == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.5]
    assert learning_rate_factor(0, steps=10, warmup_steps=0) == 1


def test_the_geometric_median_ignores_an_outlier():
    # The median of a cross with one arm stretched to 1000 stays in the middle.
    x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [-1.0, 0.0], [1000.0, 0.0]])
    torch.testing.assert_close(geometric_median(x), torch.zeros(2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("moments_lie", ["as saved", "by rows"])
def test_a_resumed_trainer_goes_on_bit_for_bit(moments_lie):
    batches = pairs(16)
    whole, first = temporal_trainer(), temporal_trainer()
    for trainer in (whole, first):
        trainer.dead_feature_threshold = 3 * B
    losses = [whole.update(step, batch) for step, batch in enumerate(batches)]
    for step in range(7):
        first.update(step, batches[step])
    second = temporal_trainer(seed=99)
    second.dead_feature_threshold = 3 * B
    state = copy.deepcopy(first.state_dict())
    if moments_lie == "by rows":  # torch 2.13's fused Adam would take them for others (findings/)
        for moments in state["optimizer"]["state"].values():
            moments.update({name: moment.contiguous() for name, moment in moments.items()})
    second.load_state_dict(state)
    assert [second.update(step, batches[step]) for step in range(7, 16)] == losses[7:]
    for name, tensor in whole.ae.state_dict().items():
        assert torch.equal(tensor, second.ae.state_dict()[name]), name


def test_metrics_change_nothing_and_count_each_group():
    trainer = temporal_trainer()
    trainer.update(0, pairs(1)[0])
    before = copy.deepcopy(trainer.state_dict())
    metrics = trainer.metrics()
    assert trainer.metrics() == metrics
    assert torch.equal(before["tokens_since_fired"], trainer.num_tokens_since_fired)
    assert metrics["l0"] == pytest.approx(K)
    assert sum(metrics[f"l0_group_{g}"] for g in range(3)) == pytest.approx(K)
    assert metrics["loss"] == pytest.approx(
        metrics["reconstruction"] + metrics["auxk"] / 32 + 0.7 * metrics["temporal"], rel=1e-5
    )


def test_calibration_makes_inference_as_sparse_as_training():
    trainer = temporal_trainer()
    batches = pairs(30)
    for step, batch in enumerate(batches):
        trainer.update(step, batch)
    moving_average = float(trainer.ae.threshold)
    found = trainer.calibrate(batches)
    f = trainer.ae.encode(batches[:, :, 0].reshape(-1, D))
    assert float((f > 0).sum(1).float().mean()) == pytest.approx(K, rel=1e-3)
    assert found["threshold_moving_average"] == moving_average
    assert found["calibration_tokens"] == 30 * B


def test_a_sequence_batch_gives_the_codes_of_its_tokens():
    for ae in (BatchTopKSAE(D, LATENTS, K), MatryoshkaBatchTopKSAE(D, LATENTS, K, [12, 36])):
        ae.threshold.fill_(0.3)
        x_BLD = torch.randn(5, 7, D)
        for use_threshold in (True, False):
            flat = ae.encode(x_BLD.reshape(-1, D), use_threshold=use_threshold)
            assert torch.equal(ae.encode(x_BLD, use_threshold=use_threshold), flat.view(5, 7, LATENTS))
        assert int((ae.encode(x_BLD, use_threshold=False) > 0).sum()) == K * 35


def test_active_groups_cut_the_last_axis():
    ae = MatryoshkaBatchTopKSAE(D, LATENTS, K, [12, 12, 24])
    x_BLD = torch.randn(40, 3, D)
    whole = ae.encode(x_BLD)
    ae.active_groups = 2
    cut = ae.encode(x_BLD)
    assert torch.equal(cut[..., :24], whole[..., :24])
    assert not cut[..., 24:].any()


def test_scaled_biases_make_a_dictionary_for_scaled_activations():
    for ae in (BatchTopKSAE(D, LATENTS, K), MatryoshkaBatchTopKSAE(D, LATENTS, K, [12, 36])):
        x = torch.randn(50, D)
        ae.threshold.fill_(0.4)
        ae.weights().b_dec_D.data.normal_()
        ae.weights().b_enc_F.data.normal_()
        scaled = copy.deepcopy(ae)
        scaled.scale_biases(8.0)
        torch.testing.assert_close(scaled(8 * x), 8 * ae(x), rtol=1e-4, atol=1e-4)


def test_a_file_of_upstreams_shape_is_read_back():
    ae = MatryoshkaBatchTopKSAE(D, LATENTS, K, [12, 36])
    state = {name: tensor.clone() for name, tensor in ae.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "W_enc": (D, LATENTS),
        "b_enc": (LATENTS,),
        "W_dec": (LATENTS, D),
        "b_dec": (D,),
        "k": (),
        "threshold": (),
        "group_sizes": (2,),
    }
    again = MatryoshkaBatchTopKSAE.from_state_dict(state, {})
    assert again.splits() == {"high": slice(0, 12), "low": slice(12, 48)}
    assert torch.equal(again.W_enc, ae.W_enc)
    assert set(BatchTopKSAE(D, LATENTS, K).state_dict()) == {
        "encoder.weight",
        "encoder.bias",
        "decoder.weight",
        "b_dec",
        "k",
        "threshold",
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 100}, "k is 100"),
        ({"group_fractions": [0.2, 0.7]}, "sum to 0.9"),
        ({"group_fractions": [0.001, 0.999]}, "empty"),
        ({"group_weights": [1.0]}, "1 group weights for 3 groups"),
        ({"decay_start": 99}, "decay_start is 99"),
    ],
)
def test_options_that_cannot_work_are_refused_with_a_sentence(options, sentence):
    if "group_fractions" in options:
        options = options | {"group_weights": None}
    with pytest.raises(UserError, match=sentence):
        temporal_trainer(**options)


def test_a_bad_batch_is_named_and_leaves_the_weights_as_they_were():
    trainer = temporal_trainer()
    trainer.update(0, pairs(1)[0])
    before = copy.deepcopy(trainer.ae.state_dict())
    bad = pairs(1)[0]
    bad[3, 1, 2] = torch.nan
    with pytest.raises(UserError, match="step 1 holds NaN"):
        trainer.update(1, bad)
    with pytest.raises(UserError, match=r"pairs \[B, 2, 12\]"):
        trainer.update(1, bad[:, 0])
    for name, tensor in trainer.ae.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_default_run_does_not_depend_on_the_scale_of_the_activations(tmp_path):
    from dictionary_learning.jobs.request import new_options
    from dictionary_learning.jobs.train_command import trainer_config
    from dictionary_learning.training import trainSAE

    # The command line's own form, strength and temperature; only the sizes are a test's.
    options, _ = new_options(
        {"model": "demo", "dict_size": LATENTS, "k": K, "steps": 12, "warmup_steps": 2, "device": "cpu"},
        None,
        ["temporal"],
    )
    assert (options.form, options.temp_alpha, options.contrastive) == ("paper", 1.0, True)
    runs = []
    for scale in (1.0, 1e-3, 1e4):
        trained = trainSAE(
            [scale * batch for batch in pairs(24)],
            [trainer_config(options, D, seed=0)],
            steps=12,
            normalize_activations=True,
            device="cpu",
        )
        runs.append(trained.trainers[0])
    for other in runs[1:]:
        assert other.metrics() == pytest.approx(runs[0].metrics(), rel=1e-3)
        torch.testing.assert_close(other.ae.W_dec, runs[0].ae.W_dec, rtol=1e-3, atol=1e-4)


def test_the_threshold_of_a_target_l0_lies_between_the_last_value_kept_and_the_next():
    ae = BatchTopKSAE(2, 2, 1)
    with torch.no_grad():
        ae.encoder.weight.copy_(torch.eye(2))
    # codes 8 and 1; 4 and 2: one latent a token on average keeps 8 and 4, the next is 2
    found = find_threshold(ae, [torch.tensor([[8.0, 1.0]]), torch.tensor([[4.0, 2.0]])], 1)
    assert found == (3.0, 1.0, 2)
    assert float(ae.threshold) == -1
    assert find_threshold(ae, [torch.tensor([[8.0, -1.0]])], 1) is None


@pytest.mark.parametrize("grouped", [False, True])
def test_top_k_of_each_token_keeps_k_latents_of_every_token_whatever_the_threshold(grouped):
    ae = MatryoshkaBatchTopKSAE(6, 20, 3, [8, 12]) if grouped else BatchTopKSAE(6, 20, 3)
    ae.threshold.fill_(100.0)
    x_BLD = torch.randn(4, 5, 6)
    assert not ae.encode(x_BLD).any()
    ae.token_top_k = True
    f_BLF = ae.encode(x_BLD)
    assert (f_BLF != 0).sum(-1).unique().tolist() == [3]
    every_BLF = ae.before_selection(x_BLD)
    assert torch.equal(f_BLF.amax(-1), every_BLF.amax(-1))
    assert torch.equal(f_BLF.sort(-1).values[..., -3:], every_BLF.sort(-1).values[..., -3:])


def test_adam_on_matrices_that_lie_by_columns_is_adam_and_keeps_their_shapes():
    start, gradient = torch.randn(7, 5), torch.randn(7, 5)
    lies_by_columns, lies_by_rows = (nn.Parameter(x) for x in (start.T.contiguous().T, start.clone()))
    for parameter in (lies_by_columns, lies_by_rows):
        optimizer = adam([parameter], lr=0.1)
        for _ in range(3):
            parameter.grad = gradient.clone() if parameter is lies_by_rows else gradient.T.contiguous().T
            with in_memory_order(optimizer):
                optimizer.step()
        state = optimizer.state[parameter]
        assert {
            parameter.shape,
            parameter.grad.shape,
            *(state[m].shape for m in ("exp_avg", "exp_avg_sq")),
        } == {(7, 5)}
    torch.testing.assert_close(lies_by_columns, lies_by_rows)
    assert lies_by_columns.T.is_contiguous()
