"""How well lists find windows: against pairs of windows, one by one."""

import numpy as np
import pytest
from scipy import sparse

from temporal_saes.naming.lists import Standing, aucs


def by_pairs(score_M: np.ndarray, has_M: np.ndarray) -> float:
    pairs = [(a > b) + (a == b) / 2 for a in score_M[has_M] for b in score_M[~has_M]]
    return float(np.mean(pairs))


def test_the_area_is_that_of_all_pairs_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    import temporal_saes.naming.lists as module

    generator = np.random.default_rng(0)
    in_MV = (generator.random((60, 9)) < 0.3).astype(np.int32)
    held_MF = (generator.random((60, 7)) < 0.4).astype(np.int32)
    standing = Standing({chr(97 + v): v for v in range(9)}, sparse.csr_array(in_MV))
    lists = [["a", "b", "c"], ["d"], ["a", "a", "e"], ["not there"], [], ["f", "g"], ["h"]]
    held_MF[:, 6] = 0
    held_MF[:4, 6] = 1  # too few windows
    expected = []
    for one, has_M in zip(lists, held_MF.T.astype(bool), strict=True):
        columns = sorted({ord(text) - 97 for text in one if len(text) == 1})
        expected.append(by_pairs(in_MV[:, columns].sum(1), has_M) if one else None)
    expected[6] = None
    assert aucs(standing, sparse.csr_array(held_MF), lists) == pytest.approx(expected)
    assert expected[3] == 0.5
    monkeypatch.setattr(module, "_BLOCK", 150)  # two latents at a time
    assert aucs(standing, sparse.csr_array(held_MF), lists) == pytest.approx(expected)
