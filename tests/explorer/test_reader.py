"""Texts read by the explorer, with tokenizers of every kind: all of the text comes back, with its codes."""

from types import SimpleNamespace

import pytest
import torch
from tokenizer_kinds import FOREIGN, KINDS, tiny_lm

from dictionary_learning.language_model import LanguageModel, Place
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from temporal_saes.explorer.about import Latents
from temporal_saes.explorer.reader import Reader
from temporal_saes.explorer.turns import Turns

LAYER = 1


def reader(
    lm: LanguageModel, dictionary: BatchTopKSAE, context_length: int = 64, add_bos: bool = True
) -> Reader:
    subject = SimpleNamespace(
        place=Place(LAYER), max_norm_ratio=10.0, add_bos=add_bos, context_length=context_length
    )
    return Reader(lm, dictionary, subject, Latents(lm, dictionary, {}, None), Turns())


def dictionary_of(lm: LanguageModel) -> BatchTopKSAE:
    made = BatchTopKSAE(lm.d_model, 30, k=8, seed=0)
    made.threshold.fill_(0.02)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("add_bos", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["The comet circles a moon.\nA judge.", *FOREIGN])
def test_a_text_has_its_codes_whatever_the_tokenizer_adds(kind: str, text: str, add_bos: bool) -> None:
    lm = tiny_lm(kind)
    dictionary = dictionary_of(lm)
    _, context, whole = reader(lm, dictionary, add_bos=add_bos).read(text)
    units = context["context"]["units"]
    assert "".join(unit[0] for unit in units).strip() == text
    found = lm.encode([text], dictionary, LAYER, add_bos=add_bos)
    # what the tokenizer adds in front and behind is no text
    is_text = [i for i, token in enumerate(found.tokens_BL[0].tolist()) if token not in lm.special_ids]
    assert sum(unit[1] for unit in units) == len(is_text)
    at = 0
    for _, n, is_read, codes in units:
        f_F = found.codes_BLF[0, is_text[at : at + n]].amax(0)
        at += n
        assert is_read == 1
        told_F = torch.zeros(30)
        for latent, value in codes:
            told_F[latent] = value
        torch.testing.assert_close(told_F, f_F, atol=1e-4 * float(found.codes_BLF.max()), rtol=1e-3)
    assert whole["whole"]["usable"] == len(is_text)


def test_every_context_has_its_bos(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm("bos_zero")
    read: list[list[int]] = []
    record = lm.record

    def keeping(tokens_BL: torch.Tensor, mask_BL: torch.Tensor, place: Place) -> torch.Tensor:
        read.extend(row[mask].tolist() for row, mask in zip(tokens_BL, mask_BL, strict=True))
        return record(tokens_BL, mask_BL, place)

    made = reader(lm, dictionary_of(lm), context_length=6)
    monkeypatch.setattr(lm, "record", keeping)
    first, *contexts, _ = made.read("The comet circles a moon, and a judge overrules the verdict.")
    assert [row[0] for row in read] == [lm.bos_id] * len(contexts)
    assert [len(row) for row in read][:-1] == [6] * (len(contexts) - 1)
    assert sum(len(row) - 1 for row in read) == first["text"]["tokens"]
    assert [one["context"]["start"] for one in contexts] == [5 * i for i in range(len(contexts))]
