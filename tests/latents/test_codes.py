"""Codes of contexts: entries found of many contexts at once say what whole codes of each say."""

import numpy as np
import pytest
import torch

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from temporal_saes.features import extract_features
from temporal_saes.latents.codes import codes_of_texts, join
from temporal_saes.reading import Reading
from temporal_saes.sparsity import reading_l0

LAYER, READING = 2, Reading(24, lm_batch_size=2, cache=False)
TEXTS = [
    "The distant comet circles the galaxy.",
    "",
    "A judge near the tribunal often overrules it.",
    "Onion",
]


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def dictionary() -> MatryoshkaBatchTopKSAE:
    torch.manual_seed(0)
    made = MatryoshkaBatchTopKSAE(32, 40, k=8, group_sizes=[10, 30])
    made.threshold.fill_(0.5)
    return made.requires_grad_(False)


class Seen:
    """Watches, so that codes are made whole."""

    def __init__(self):
        self.contexts = 0

    def measure(self, f_uF, x_uD):
        return ()

    def add(self, measured):
        self.contexts += 1


@pytest.mark.parametrize("columns", [slice(0, 10), slice(10, 40), slice(0, 40)])
def test_entries_of_many_contexts_are_the_codes_of_each(lm, columns):
    found, l0 = [], []
    for watch in (None, Seen()):
        with reading_l0() as counted:
            found.append(
                join(list(codes_of_texts(TEXTS, lm, LAYER, READING, dictionary(), columns, watch=watch)))
            )
        l0.append((counted.tokens, int(counted._active)))
    entries, whole = found
    assert watch.contexts == 3
    assert l0[0] == l0[1]
    for name in ("tokens_T", "usable_T", "start_C", "document_C"):
        np.testing.assert_array_equal(getattr(entries, name), getattr(whole, name))
    np.testing.assert_allclose(entries.codes_TF.toarray(), whole.codes_TF.toarray(), rtol=1e-4, atol=1e-5)
    assert 0 < entries.codes_TF.nnz < entries.codes_TF.shape[0] * entries.codes_TF.shape[1] / 2
    assert not entries.codes_TF.toarray()[~entries.usable_T].any()


def test_a_weight_that_is_no_number_is_told_although_it_exceeds_no_threshold(lm):
    broken = dictionary()
    broken.W_enc[3, 7] = torch.nan
    assert bool(torch.isfinite(broken.encode_entries(torch.randn(4, 32)).values_N).all())
    for read in (
        lambda: extract_features(TEXTS, lm, LAYER, READING, broken),
        lambda: list(codes_of_texts(TEXTS, lm, LAYER, READING, broken, slice(0, 40))),
    ):
        with pytest.raises(UserError, match="latents that are not finite"):
            read()
