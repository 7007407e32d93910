"""Evaluation: hand-worked numbers, a slow reference, and the language model's loss on known dictionaries."""

import math

import pytest
import torch
from torch import nn

from dictionary_learning.activations.block import Contexts
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.classics import AutoEncoder
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation import FORMULAS, evaluate, flat_keys
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.cross_entropy import CrossEntropy
from dictionary_learning.smoothness import smoothness
from dictionary_learning.trainers import BatchTopKSAE, TemporalMatryoshkaBatchTopKSAE

LAYER = 1


class Scaled(Dictionary):
    """Latents are the activations themselves, reconstructions `factor` times them."""

    def __init__(self, dim: int, factor: float, splits: dict[str, slice] | None = None) -> None:
        super().__init__()
        self.activation_dim = self.dict_size = dim
        self.factor = nn.Parameter(torch.tensor(factor))
        self.named = splits or {}

    def encode(self, x):
        return x

    def decode(self, f):
        return self.factor * f

    def splits(self):
        return self.named

    @classmethod
    def from_state_dict(cls, state, config):
        raise NotImplementedError


class RunningSum(Scaled):
    """A code that depends on all earlier tokens of the text."""

    reads_sequences = True

    def encode(self, x):
        assert x.ndim == 3
        return x.cumsum(1)


def contexts(lengths, D=6, seed=0, longest=None, first_usable=0):
    generator = torch.Generator().manual_seed(seed)
    L = longest or max(lengths)
    mask_NL = torch.zeros(len(lengths), L, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask_NL[row, first_usable:length] = True
    x_NLD = torch.randn(len(lengths), L, D, generator=generator) + 0.5
    tokens_NL = torch.randint(5, 200, (len(lengths), L), generator=generator, dtype=torch.int32)
    real_NL = torch.arange(L) < torch.tensor(lengths)[:, None]
    return Contexts(x_NLD * mask_NL[..., None], mask_NL, tokens_NL * real_NL, torch.arange(len(lengths)))


def t_sae(D=6, F=40, threshold=0.4):
    ae = TemporalMatryoshkaBatchTopKSAE(D, F, 4, [12, F - 12])
    ae.threshold.fill_(threshold)
    with torch.no_grad():
        ae.b_dec.add_(0.3)
    return ae


def value(results, name, split="all"):
    return results["measures"][split][name]["value"]


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture
def real_contexts(lm):
    """Contexts of the tiny model's own activations, of unequal length."""
    texts = [
        "The distant comet circles the orbit.",
        "A judge.",
        "In 1999, the onion and the garlic were crisp.",
    ]
    tokens_NL, mask_NL, _ = lm.tokenize(texts, 64)
    x_NLD = lm.record(tokens_NL, mask_NL, LAYER)
    usable_NL = mask_NL.clone()
    usable_NL[:, 0] = False  # as if the first position were an attention sink
    return Contexts(
        x_NLD * usable_NL[..., None], usable_NL, (tokens_NL * mask_NL).int(), torch.arange(len(texts))
    )


# --- by hand ------------------------------------------------------------------------------------


def test_reconstruction_by_hand():
    # One context of two tokens, x = (0, 0, 4), (0, 3, 0); half of each comes back.
    x_NLD = torch.tensor([[[0.0, 0, 4], [0, 3, 0]]])
    batch = Contexts(x_NLD, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2).int(), torch.tensor([7]))
    results = evaluate(Scaled(3, 0.5), [batch])
    # ‖x - x̂‖: 2 and 1.5
    assert value(results, "l2") == pytest.approx(1.75)
    assert value(results, "cosine") == pytest.approx(1)
    # x - mean x = ∓(0, 1.5, -2), x̂ - mean x = (0, -1.5, 0), (0, 0, -2): 6.25 / √(12.5 · 6.25)
    assert value(results, "cosine_centred") == pytest.approx(6.25 / math.sqrt(12.5 * 6.25))
    assert value(results, "l2_ratio") == pytest.approx(0.5)
    # Σ‖x̂‖² = 4 + 2.25, Σ x·x̂ = 8 + 4.5
    assert value(results, "relative_bias") == pytest.approx(6.25 / 12.5)
    # mean x = (0, 1.5, 2), Σ‖x - mean x‖² = 2 * (1.5² + 2²) = 12.5; squared error 4 + 2.25 = 6.25
    assert value(results, "fve_global") == pytest.approx(0.5)
    # x - x̂ varies half as much: 1 - 1/4
    assert value(results, "fve_context_mean") == pytest.approx(0.75)
    # latents are 0 0 4 and 0 3 0
    assert value(results, "l0") == 1
    assert value(results, "l0_context") == 2
    assert value(results, "l1") == pytest.approx(3.5)
    assert value(results, "alive") == pytest.approx(2 / 3)
    assert results["tokens"] == 2
    assert results["measures"]["all"]["alive"]["tokens"] == 2


def test_a_direction_that_all_tokens_share_earns_a_cosine_and_nothing_once_it_is_taken_off():
    # one dictionary has all but the shared direction the wrong way round, the other has nothing else
    class Mirrored(Scaled):
        def decode(self, f):
            return f * torch.tensor([1.0, -1.0])

    class Constant(Scaled):
        def decode(self, f):
            return torch.tensor([10.0, 0.0]).expand(f.shape)

    x_NLD = torch.tensor([[[10.0, 1], [10, -1]]])
    batch = Contexts(x_NLD, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2).int(), torch.tensor([7]))
    mirrored = evaluate(Mirrored(2, 1.0), [batch])
    assert value(mirrored, "cosine") == pytest.approx(99 / 101)
    assert value(mirrored, "cosine_centred") == pytest.approx(-1)
    assert value(mirrored, "fve_global") == pytest.approx(-3)
    constant = evaluate(Constant(2, 1.0), [batch])
    assert value(constant, "cosine") == pytest.approx(10 / math.sqrt(101))
    assert value(constant, "cosine_centred") is None
    assert value(constant, "fve_global") == pytest.approx(0)


def test_splits_are_reconstructed_on_their_own():
    x_NLD = torch.tensor([[[1.0, 0, 4], [1, 3, 0]]])
    batch = Contexts(x_NLD, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2).int(), torch.tensor([7]))
    results = evaluate(Scaled(3, 1.0, {"high": slice(0, 2), "low": slice(2, 3)}), [batch])
    # Around its mean the second axis varies by 1.5² + 1.5² = 4.5, the third by 8: 12.5 in all.
    # High alone leaves the third axis: error 16 + 0, or 8 around its mean; low leaves 1 + 1 + 9, or 4.5.
    assert value(results, "fve_global") == pytest.approx(1)
    assert value(results, "fve_global", "high") == pytest.approx(1 - 16 / 12.5)
    assert value(results, "fve_context_mean", "high") == pytest.approx(1 - 8 / 12.5)
    assert value(results, "fve_global", "low") == pytest.approx(1 - 11 / 12.5)
    # mean x = (1, 1.5, 2): high is off it by (0, ∓1.5, -2), which x is by (0, ∓1.5, ±2)
    assert value(results, "cosine_centred") == pytest.approx(1)
    assert value(results, "cosine_centred", "high") == pytest.approx((2.25 - 4 + 2.25 + 4) / 12.5)
    assert value(results, "fve_context_mean", "low") == pytest.approx(1 - 4.5 / 12.5)
    assert [value(results, "l0", split) for split in ("all", "high", "low")] == [2, 1.5, 0.5]
    assert [value(results, "alive", split) for split in ("high", "low")] == [1, 1]


# --- slow reference -----------------------------------------------------------------------------


def reference(ae, batches):
    """Token by token, in float64, straight from the formulas."""
    x, x_hat, f = [], [], []
    of_context, smooth = [], []
    for batch in batches:
        for x_LD, mask_L in zip(batch.x_NLD, batch.mask_NL, strict=True):
            rows = [i for i in range(len(mask_L)) if mask_L[i]]
            f_TF = torch.stack([ae.encode(x_LD[i][None])[0] for i in rows])
            x_hat_TD = torch.stack([ae.decode(row[None])[0] for row in f_TF])
            x_TD = x_LD[rows]
            x += list(x_TD.double())
            x_hat += list(x_hat_TD.double())
            f += list(f_TF)
            of_context.append(1 - float((x_TD - x_hat_TD).double().var(0).sum() / x_TD.double().var(0).sum()))
            smooth.append(smoothness(f_TF, x_TD, ae.splits()))
    n = len(x)
    mean = sum(x) / n
    error = [float((a - b).norm()) for a, b in zip(x, x_hat, strict=True)]
    lipschitz = {
        split: [one[split]["lipschitz"] for one in smooth if one[split]["lipschitz"] is not None]
        for split in ("all", "high", "low")
    }
    return {
        "fve_global": 1 - sum(e**2 for e in error) / sum(float((a - mean).norm()) ** 2 for a in x),
        "fve_context_mean": sum(of_context) / len(of_context),
        "cosine": sum(float(a @ b / (a.norm() * b.norm())) for a, b in zip(x, x_hat, strict=True)) / n,
        "cosine_centred": sum(float((a - mean) @ (b - mean)) for a, b in zip(x, x_hat, strict=True))
        / math.sqrt(
            sum(float((a - mean).norm()) ** 2 for a in x) * sum(float((b - mean).norm()) ** 2 for b in x_hat)
        ),
        "l2": sum(error) / n,
        "l2_ratio": sum(float(b.norm() / a.norm()) for a, b in zip(x, x_hat, strict=True)) / n,
        "relative_bias": sum(float(b @ b) for b in x_hat)
        / sum(float(a @ b) for a, b in zip(x, x_hat, strict=True)),
        "l0": sum(int((row != 0).sum()) for row in f) / n,
        "l1": sum(float(row.abs().sum()) for row in f) / n,
        "alive": sum(any(row[i] != 0 for row in f) for i in range(ae.dict_size)) / ae.dict_size,
        "smoothness_lipschitz": sum(lipschitz["all"]) / len(lipschitz["all"]),
        "high": sum(lipschitz["high"]) / len(lipschitz["high"]),
        "low": sum(lipschitz["low"]) / len(lipschitz["low"]),
    }


@torch.no_grad()
def test_a_slow_reference_gives_the_same_figures():
    ae = t_sae()
    batches = [contexts([20, 13, 9], seed=1), contexts([16, 2], seed=2)]
    results, expected = evaluate(ae, batches), reference(ae, batches)
    for split in ("high", "low"):
        slope = value(results, "smoothness_lipschitz", split)
        assert slope == pytest.approx(expected.pop(split), rel=1e-5)
    for name, number in expected.items():
        assert value(results, name) == pytest.approx(number, rel=1e-5), name


def test_every_measure_names_its_formula_and_its_number_of_cases():
    results = evaluate(t_sae(), [contexts([20, 13])])
    for split in ("all", "high", "low"):
        for name, measure in results["measures"][split].items():
            assert measure["formula"] == FORMULAS[name]
            counted = measure.get("tokens", measure.get("contexts"))
            assert counted + measure["left_out"] == (33 if "tokens" in measure else 2), name
    assert "padding" in results["masks"]


def test_the_smoothness_of_every_split_and_family_is_there():
    results = evaluate(t_sae(), [contexts([20, 13])])
    for split in ("all", "high", "low"):
        for family in ("total_variation", "lipschitz", "fourier", "wavelet", "multiscale"):
            assert math.isfinite(value(results, f"smoothness_{family}", split))


# --- batches, padding, memory ---------------------------------------------------------------------


def assert_same(ours, other):
    for split, measures in other["measures"].items():
        for name, measure in measures.items():
            expected = measure["value"]
            assert value(ours, name, split) == (expected and pytest.approx(expected, rel=1e-5)), name


def test_padding_and_the_size_of_batches_change_nothing(lm, real_contexts):
    ae = t_sae(D=32, threshold=1.0)
    together = evaluate(ae, [real_contexts], lm=lm, layer=LAYER)
    alone = [real_contexts.part(slice(i, i + 1)) for i in range(3)]
    assert_same(evaluate(ae, alone, lm=lm, layer=LAYER), together)
    x_NLD, mask_NL, tokens_NL, document_N = real_contexts
    wider = Contexts(
        nn.functional.pad(x_NLD, (0, 0, 0, 9)),
        nn.functional.pad(mask_NL, (0, 9)),
        nn.functional.pad(tokens_NL, (0, 9)),
        document_N,
    )
    assert_same(evaluate(ae, [wider], lm=lm, layer=LAYER), together)


def test_little_memory_changes_nothing(lm, real_contexts):
    ae = t_sae(D=32, threshold=1.0)
    together = evaluate(ae, [real_contexts], lm=lm, layer=LAYER)
    assert_same(evaluate(ae, [real_contexts], lm=lm, layer=LAYER, memory_bytes=1), together)


def test_what_stands_at_a_masked_position_has_no_influence():
    batch = contexts([12, 7], longest=15, first_usable=1)
    expected = evaluate(t_sae(), [batch])
    batch.x_NLD[~batch.mask_NL] = 1e6
    assert_same(evaluate(t_sae(), [batch]), expected)


def test_a_context_without_a_usable_token_is_no_context():
    batch = contexts([12, 0, 7])
    results = evaluate(t_sae(), [batch])
    assert (results["contexts"], results["tokens"]) == (2, 19)


def test_a_dictionary_that_reads_sequences_sees_whole_contexts():
    batch = contexts([5, 3])
    results = evaluate(RunningSum(6, 1.0), [batch])
    total = sum(batch.x_NLD[row, :length].cumsum(0).abs().sum().item() for row, length in enumerate([5, 3]))
    assert value(results, "l1") == pytest.approx(total / 8)


def test_a_position_that_is_not_usable_is_no_context():
    class Counts(RunningSum):
        """A code of the number of positions so far."""

        def encode(self, x):
            return torch.ones_like(x).cumsum(1)

    batch = contexts([5, 3], first_usable=1)
    results = evaluate(Counts(6, 1.0), [batch])
    # 4 and 2 usable tokens: 1 + 2 + 3 + 4 and 1 + 2, in each of 6 latents
    assert value(results, "l1") == pytest.approx(6 * (10 + 3) / 6)


def test_the_parts_of_a_reconstruction_are_compared():
    """Two splits of a decoder that is the identity: what each adds is its own dimensions of x."""

    class Halves(Scaled):
        def encode(self, x):
            return x[..., [0, 1, 1, 1]]

        def decode(self, f):
            zero = torch.zeros_like(f[..., 0])
            # the second part points half along the first; 7 is a bias
            return torch.stack([f[..., 0] + f[..., 2], f[..., 3], zero + 7], dim=-1)

    ae = Halves(3, 1.0)
    ae.dict_size, ae.named = 4, {"predicted": slice(0, 2), "novel": slice(2, 4)}
    x_NLD = torch.tensor([[[3.0, 4.0, 0.0], [6.0, 0.0, 0.0]]])
    batch = Contexts(
        x_NLD, torch.ones(1, 2).bool(), torch.ones(1, 2, dtype=torch.int32), torch.zeros(1).long()
    )
    results = evaluate(ae, [batch])
    # parts: (3, 0) and (4, 4) at the first token, (6, 0) and nothing at the second
    assert value(results, "norm_share", "predicted") == pytest.approx(9 / (9 + 32**0.5))
    assert value(results, "energy_share", "novel") == pytest.approx(32 / (45 + 32))
    assert value(results, "cosine_of_parts") == pytest.approx(0.5**0.5)
    assert results["measures"]["all"]["cosine_of_parts"]["left_out"] == 1
    # x̂ = (7, 4, 7) and (6, 0, 7): errors (4, 0, 7) and (0, 0, 7)
    assert value(results, "nmse") == pytest.approx((16 + 49 + 49) / (25 + 36))


def test_undefined_values_are_left_out_and_counted():
    batch = contexts([8, 6])
    batch.x_NLD[1] = batch.x_NLD[1, 0]  # one activation, six times: no variance and no slope
    measures = evaluate(t_sae(threshold=0.1), [batch])["measures"]["all"]
    assert measures["fve_context_mean"]["contexts"] == 1
    assert measures["fve_context_mean"]["left_out"] == 1
    assert measures["smoothness_lipschitz"]["left_out"] == 1


@pytest.mark.parametrize("lengths", [[1], [7, 6]])
def test_activations_that_are_all_the_same_have_no_variance_to_explain(lengths):
    batch = contexts(lengths)
    batch.x_NLD[:] = 1e4 * batch.x_NLD[0, 0]
    measures = evaluate(t_sae(threshold=0.1), [batch])["measures"]["all"]
    # Σx² and n mean² differ by rounding, and an error over that is any number
    assert measures["fve_global"]["value"] is measures["cosine_centred"]["value"] is None
    assert measures["nmse"]["value"] > 0


def test_a_dictionary_that_never_fires_gives_none_and_no_nan():
    ae = AutoEncoder(6, 10)
    with torch.no_grad():
        ae.encoder.bias.fill_(-1e6)
    measures = evaluate(ae, [contexts([9, 9])])["measures"]["all"]
    assert measures["cosine"] == {"value": None, "tokens": 0, "left_out": 18, "formula": FORMULAS["cosine"]}
    assert measures["smoothness_lipschitz"]["value"] is None
    assert measures["relative_bias"]["value"] is None
    assert measures["alive"]["value"] == 0
    assert all(m["value"] is None or math.isfinite(m["value"]) for m in measures.values())


# --- language model -------------------------------------------------------------------------------


def test_the_identity_costs_nothing_and_a_dictionary_of_zeros_what_zeros_do(lm, real_contexts):
    full = evaluate(Scaled(32, 1.0), [real_contexts], lm=lm, layer=LAYER)
    assert value(full, "loss_reconstructed") == pytest.approx(value(full, "loss_clean"), rel=1e-6)
    none = evaluate(Scaled(32, 0.0), [real_contexts], lm=lm, layer=LAYER)
    assert value(none, "loss_reconstructed") == value(none, "loss_ablated")


@torch.no_grad()
def test_losses_are_those_of_one_text_at_a_time_without_padding(lm, real_contexts):
    ae = t_sae(D=32, threshold=1.0)
    results = evaluate(ae, [real_contexts], lm=lm, layer=LAYER)
    sums, predictions = {"clean": 0.0, "reconstructed": 0.0, "ablated": 0.0}, 0
    for tokens_L, mask_L in zip(real_contexts.tokens_NL, real_contexts.mask_NL, strict=True):
        length = int(mask_L.nonzero().max()) + 1
        tokens_BL = tokens_L[None, :length].long()
        ones_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
        x_BLD = lm.record(tokens_BL, ones_BL, LAYER)
        # the first position keeps its own activation
        x_hat_BLD = torch.cat([x_BLD[:, :1], ae(x_BLD[:, 1:])], dim=1)
        zeros_BLD = torch.cat([x_BLD[:, :1], torch.zeros_like(x_BLD[:, 1:])], dim=1)
        for name, put in (("clean", x_BLD), ("reconstructed", x_hat_BLD), ("ablated", zeros_BLD)):
            logits_BLV = lm.logits(tokens_BL, ones_BL, LAYER, lambda x, put=put: put)
            for i in range(length - 1):
                sums[name] -= float(logits_BLV[0, i].log_softmax(-1)[tokens_BL[0, i + 1]])
        predictions += length - 1
    for name, total in sums.items():
        assert value(results, f"loss_{name}") == pytest.approx(total / predictions, rel=1e-5)
    assert results["measures"]["all"]["loss_clean"]["predictions"] == predictions
    # to a language model of random weights zeros cost nothing
    assert sums["ablated"] < sums["clean"]
    assert value(results, "loss_recovered") is None


def test_the_loss_can_be_measured_on_fewer_tokens(lm, real_contexts):
    alone = [real_contexts.part(slice(i, i + 1)) for i in range(3)]
    results = evaluate(t_sae(D=32), alone, lm=lm, layer=LAYER, loss_tokens=1)
    first = int(real_contexts.mask_NL[0].sum())  # and the sink in front of them predicts, too
    assert results["measures"]["all"]["loss_clean"]["predictions"] == first
    assert results["tokens"] > first


def test_without_a_prediction_there_is_no_loss(lm):
    assert set(CrossEntropy(lm, LAYER).means().values()) == {None}


@pytest.mark.parametrize(("ablated", "recovered"), [(90.0, 0.75), (60.0, 0.0), (50.0, None), (49.0, None)])
def test_where_zeros_cost_nothing_there_is_no_loss_to_recover(lm, ablated, recovered):
    loss = CrossEntropy(lm, LAYER)
    loss.predictions, loss._clean, loss._ablated, loss._reconstructed[""] = 10, 50.0, ablated, 60.0
    # with 49 the quotient would be (49 - 60) / (49 - 50) = 11: more than all
    assert loss.means()["loss_recovered"] == recovered


def test_a_dictionary_of_another_width_is_refused(lm, real_contexts):
    with pytest.raises(UserError, match="width 6"):
        evaluate(t_sae(D=6), [real_contexts], lm=lm, layer=LAYER)
    with pytest.raises(UserError, match="width 32"):
        evaluate(t_sae(D=6), [real_contexts])


def test_weights_that_are_not_finite_are_refused():
    ae = t_sae()
    with torch.no_grad():
        ae.W_dec[0, 0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        evaluate(ae, [contexts([9])])


def test_nothing_to_evaluate_on_is_told():
    with pytest.raises(UserError, match="no usable token"):
        evaluate(t_sae(), [contexts([0, 0], longest=4)])


# --- for other people's readers -------------------------------------------------------------------


def test_the_keys_of_dictionary_learning_are_there(lm, real_contexts):
    results = evaluate(t_sae(D=32, threshold=1.0), [real_contexts], lm=lm, layer=LAYER)
    keys = (
        "l2_loss l1_loss l0 sequence_l0 smoothness_tv_h smoothness_tv_l lipschitz_cont_tot lipschitz_cont_h "
        "lipschitz_cont_l fft_tot fft_h fft_l wavelet_tot wavelet_h wavelet_l multiscale_tot multiscale_h "
        "multiscale_l frac_variance_explained frac_variance_explained_high frac_variance_explained_low "
        "cossim l2_ratio relative_reconstruction_bias loss_original loss_reconstructed loss_zero "
        "frac_recovered frac_alive hyperparameters"
    )
    assert set(keys.split()) <= results.keys()
    assert results["frac_variance_explained"] == value(results, "fve_context_mean")
    assert results["lipschitz_cont_h"] == value(results, "smoothness_lipschitz", "high")
    assert results["hyperparameters"] == {"n_inputs": 3, "context_length": real_contexts.mask_NL.shape[1]}


def test_a_dictionary_without_groups_has_no_keys_for_them():
    ae = BatchTopKSAE(6, 40, 4)
    results = evaluate(ae, [contexts([20])])
    assert results["measures"].keys() == {"all"}
    assert "lipschitz_cont_tot" in results
    assert not {"lipschitz_cont_h", "loss_original", "frac_variance_explained_high"} & results.keys()
    assert flat_keys(results["measures"], 1, 20)["l0"] == value(results, "l0")
