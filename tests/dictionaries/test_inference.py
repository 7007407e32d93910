"""A TemporalSAE over many texts: the same numbers as at once, in less memory, and only what is asked for."""

import pytest
import torch

from dictionary_learning.dictionaries import inference
from dictionary_learning.dictionaries.inference import Analysis, analyse
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.temporal_sizes import NOVEL_KINDS
from dictionary_learning.errors import UserError

D, W, K = 6, 24, 3
SMALL = 1  # byte: one text at a time


@pytest.fixture
def x_BPD() -> torch.Tensor:
    return 3 * torch.randn(5, 7, D, generator=torch.Generator().manual_seed(1))


def sae(kind: str = "topk", value_rank: int | None = None) -> TemporalSAE:
    made = TemporalSAE(
        D, W, 2, sae_diff_type=kind, kval_topk=K, bottleneck_factor=2, value_rank=value_rank
    ).eval()
    with torch.no_grad():
        for parameter in made.attn_layers.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter)))
            )
        if kind == "batchtopk":
            made.expected_min_act.fill_(0.05)
    made.scale_biases(2.0)
    return made


def dense(code: object) -> torch.Tensor:
    return code.dense().view(5, 7, W) if isinstance(code, SparseCode) else code  # type: ignore[return-value]


@pytest.mark.parametrize("kind", NOVEL_KINDS)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("memory_bytes", "value_rank"), [(SMALL, None), (2**28, None), (SMALL, 4)])
def test_batches_give_what_all_at_once_gives(
    x_BPD: torch.Tensor, kind: str, sparse: bool, memory_bytes: int, value_rank: int | None
) -> None:
    ae = sae(kind, value_rank)
    found = analyse(ae, x_BPD, Analysis._fields, sparse=sparse, memory_bytes=memory_bytes, progress=False)
    x_hat, parts = ae(x_BPD)
    expected = Analysis(
        parts["pred_codes"], parts["novel_codes"], parts["pred_recons"], parts["novel_recons"], x_hat
    )
    assert (
        isinstance(found.novel_codes, SparseCode) == isinstance(found.predicted_codes, SparseCode) == sparse
    )
    for name in Analysis._fields:
        torch.testing.assert_close(dense(getattr(found, name)), getattr(expected, name).detach(), msg=name)


@pytest.mark.parametrize("name", Analysis._fields)
def test_each_result_comes_alone_when_it_is_asked_for_alone(x_BPD: torch.Tensor, name: str) -> None:
    everything = analyse(sae(), x_BPD, Analysis._fields, progress=False)
    alone = analyse(sae(), x_BPD, [name], memory_bytes=SMALL, progress=False)
    torch.testing.assert_close(getattr(alone, name), getattr(everything, name))
    assert [value is None for value in alone].count(False) == 1


def test_what_is_not_asked_for_is_not_computed(x_BPD: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("computed without being asked for")

    ae = sae()
    monkeypatch.setattr(TemporalSAE, "novel_entries", refuse)
    monkeypatch.setattr(TemporalSAE, "novel", refuse)
    analyse(ae, x_BPD, ["predicted_recons"], progress=False)
    monkeypatch.setattr(inference.SparseCode, "dense", refuse)
    analyse(ae, x_BPD, ["predicted_codes"], sparse=True, progress=False)


def test_positions_that_are_not_usable_are_no_context_and_zero(x_BPD: torch.Tensor) -> None:
    mask_BP = torch.ones(5, 7, dtype=torch.bool)
    mask_BP[0, 0] = mask_BP[1, 3] = False
    mask_BP[2, 4:] = False
    mask_BP[3] = False
    ae = sae()
    for sparse in (False, True):
        found = analyse(
            ae,
            x_BPD,
            ["novel_codes", "x_hat"],
            mask_BP=mask_BP,
            sparse=sparse,
            memory_bytes=SMALL,
            progress=False,
        )
        for i in range(5):
            codes = dense(found.novel_codes)[i]
            assert found.x_hat is not None
            assert not codes[~mask_BP[i]].any()
            assert not found.x_hat[i][~mask_BP[i]].any()
            if mask_BP[i].any():
                alone = x_BPD[i : i + 1, mask_BP[i]]
                torch.testing.assert_close(codes[mask_BP[i]], ae.novel_codes(alone)[0].detach())
                torch.testing.assert_close(found.x_hat[i][mask_BP[i]], ae.reconstruct(alone)[0].detach())


def test_mistakes_are_one_sentence(x_BPD: torch.Tensor) -> None:
    with pytest.raises(UserError, match="codes cannot be asked for: choose among predicted_codes"):
        analyse(sae(), x_BPD, ["codes"])
    with pytest.raises(UserError, match="nothing cannot be asked for"):
        analyse(sae(), x_BPD, [])
    with pytest.raises(UserError, match=r"shape \[7, 6\]: give all tokens of a text together"):
        analyse(sae(), x_BPD[0], ["x_hat"])
    with pytest.raises(UserError, match="width 6, and these have width 5"):
        analyse(sae(), x_BPD[..., :5], ["x_hat"])
    with pytest.raises(UserError, match="no usable token"):
        analyse(sae(), x_BPD, ["x_hat"], mask_BP=torch.zeros(5, 7, dtype=torch.bool), progress=False)
