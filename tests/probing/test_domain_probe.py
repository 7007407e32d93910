"""The verdict of a probe on which class a text is of."""

import numpy as np
import pytest

from dictionary_learning.errors import UserError
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing.domain_probe import of_frequent_classes, train_domain_probe


def clouds(n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """n points of each of three classes, far apart, on scales that differ by a million."""
    generator = np.random.default_rng(seed)
    labels = [label for label in ("law", "sky", "oven") for _ in range(n)]
    centre = {"law": (4, 0), "sky": (0, 4), "oven": (-4, -4)}
    x = np.array([centre[label] for label in labels]) + generator.normal(size=(3 * n, 2))
    return np.column_stack([x[:, 0], x[:, 1] * 1e6, np.ones(3 * n)]), labels


def test_a_probe_knows_new_points_of_classes_that_are_apart():
    probe = train_domain_probe(*clouds(40))
    assert probe.classes == ["law", "oven", "sky"]
    assert probe.accuracy > 0.9
    assert (probe.n_train, probe.n_test) == (96, 24)
    x_MD, labels = clouds(20, seed=1)
    p_MC = probe(x_MD)
    np.testing.assert_allclose(p_MC.sum(1), 1)
    right = [probe.classes[best] == label for best, label in zip(p_MC.argmax(1), labels, strict=True)]
    assert np.mean(right) > 0.9


def test_it_is_tested_on_points_that_it_did_not_learn():
    generator = np.random.default_rng(0)
    x_ND = generator.normal(size=(200, 150))
    probe = train_domain_probe(x_ND, ["ab"[i] for i in generator.integers(2, size=200)])
    assert probe.accuracy < 0.75  # chance is a half; learnt by heart it would be 1


def test_nothing_to_judge_is_no_verdict():
    assert train_domain_probe(*clouds(10))(np.zeros((0, 3))).shape == (0, 3)


def test_classes_of_a_few_texts_are_left_out_and_told_where_the_others_suffice(capsys):
    texts = [
        LabelledText(f"{i}", label, "", "", i)
        for label, n in (("a", 5), ("b", 6), ("c", 4))
        for i in range(n)
    ]
    assert of_frequent_classes(texts) == texts[:11]
    assert "left out, with fewer than 5 texts, which no probe can learn: c (4)." in capsys.readouterr().err
    assert of_frequent_classes(texts[:11]) == texts[:11]
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"fewer than two classes have 5 texts.* at least 10, if"):
        of_frequent_classes(texts[5:][:6] + texts[11:])


def test_a_class_of_a_few_texts_is_told():
    x, labels = clouds(10)
    with pytest.raises(UserError, match="'rare' has 4 texts"):
        train_domain_probe(np.vstack([x, x[:4]]), [*labels, *["rare"] * 4])
