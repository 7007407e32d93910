import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_saes.sequences.switching import (
    Switch,
    activity,
    boundaries,
    choose,
    flicker,
    passage_information,
    score,
    shifts,
    shuffled_flicker,
    shuffled_information,
    switches,
)


def column(text: str) -> np.ndarray:
    """On and off of one latent from a drawing: `..##`."""
    return np.array([[letter == "#"] for letter in text])


def passages(*lengths: int) -> np.ndarray:
    return np.repeat(np.arange(len(lengths)), lengths)


# --- on and off ---


def test_a_latent_is_on_above_zero_or_above_half_of_its_range():
    f_TF = np.array([[0.0, 5.0, -3.0], [1.0, 6.0, 1.0], [4.0, 9.0, 0.0], [2.0, 5.0, 1.0]])
    assert activity(f_TF, "firing").T.tolist() == [
        [False, True, True, True],
        [True] * 4,
        [False, True, False, True],
    ]
    # middles: 2, 7, -1; a value in the middle is not above it
    assert activity(f_TF, "half").T.tolist() == [
        [False, False, True, False],
        [False, False, True, False],
        [False, True, True, True],
    ]
    assert not activity(np.full((3, 1), 2.0), "half").any()


# --- information ---


def test_a_latent_that_is_on_in_one_of_two_equal_passages_tells_one_bit():
    assert passage_information(column("....####"), passages(4, 4)) == pytest.approx([1])
    assert passage_information(column("####...."), passages(4, 4)) == pytest.approx([1])


def test_a_latent_that_is_always_the_same_tells_nothing():
    for drawing in ("........", "########", "#.#.#.#."):
        assert passage_information(column(drawing), passages(4, 4)) == pytest.approx([0], abs=1e-12)


def test_information_of_a_table_worked_by_hand():
    # on at 3 of the first 4 tokens and at 1 of the last 4: every margin is 4 of 8
    # 2 * (3/8 log2(8*3/16) + 1/8 log2(8*1/16)) = 2 * (3/8 log2 1.5 - 1/8) = .1887
    expected = 2 * (3 / 8 * math.log2(1.5) - 1 / 8)
    assert passage_information(column("###.#..."), passages(4, 4)) == pytest.approx([expected])


def test_one_of_three_passages_is_told_by_the_entropy_of_being_on():
    # on exactly in a passage of 2 of 6 tokens: being on has the entropy H(1/3)
    expected = -(1 / 3 * math.log2(1 / 3) + 2 / 3 * math.log2(2 / 3))
    assert passage_information(column("..##.."), passages(2, 2, 2)) == pytest.approx([expected])


@pytest.mark.parametrize(("drawing", "lengths"), [("##...", (2, 3)), ("#.##..", (3, 1, 2)), ("....", (2, 2))])
def test_shuffled_information_is_the_mean_over_all_orders(drawing, lengths):
    on_T1, passage_T = column(drawing), passages(*lengths)
    orders = itertools.permutations(range(len(drawing)))
    slow = np.mean([passage_information(on_T1[list(order)], passage_T)[0] for order in orders])
    assert shuffled_information(on_T1, passage_T) == pytest.approx([slow])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=6, max_size=30))
def test_information_is_within_its_bounds(tokens):
    on_T1 = np.array([[on] for on, _ in tokens])
    passage_T = np.sort([passage for _, passage in tokens])
    _, passage_T = np.unique(passage_T, return_inverse=True)
    bits = passage_information(on_T1, passage_T)[0]
    assert -1e-12 <= bits <= 1 + 1e-12
    assert -1e-12 <= shuffled_information(on_T1, passage_T)[0] <= 1 + 1e-12


def test_shifts_keep_the_sizes_and_move_the_boundaries_round_the_end():
    moved_ST = shifts(passages(2, 2))
    assert moved_ST.tolist() == [[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0]]
    assert len(shifts(passages(60, 60), most=10)) == 10
    # on over ##..: shifts by 1 and 3 tell nothing, the one by 2 puts the boundary back
    assert passage_information(column("##.."), moved_ST)[:, 0] == pytest.approx([0, 1, 0], abs=1e-12)


# --- switching ---


def test_boundaries_are_where_a_passage_begins():
    assert boundaries(passages(2, 3, 1)) == [2, 5]
    assert boundaries(passages(4)) == []


@pytest.mark.parametrize(
    ("drawing", "delay"),
    [
        ("....####", 0),
        ("####....", 0),
        ("......##", 2),  # two tokens late
        ("#####...", 1),
        ("..######", -2),  # early
        ("....#.##", 0),  # one token off inside is no change
        (".#..####", 0),
        (".....##.", 1),  # on from 5 on is wrong at the last token only
    ],
)
def test_the_delay_is_that_of_the_best_single_step(drawing, delay):
    assert switches(column(drawing), passages(4, 4)) == [Switch(0, 4, delay)]


def test_of_equally_good_steps_the_nearest_to_the_boundary_counts():
    # .#.# | #### : a step at 3 or at 1 is wrong at one token or one; 3 is nearer
    assert switches(column(".#.#####"), passages(4, 4)) == [Switch(0, 4, -1)]
    # a step at 3 and one at 5 are as near and as good: the later one counts
    assert switches(column("...#.###"), passages(4, 4)) == [Switch(0, 4, 1)]


def test_a_latent_that_hardly_changes_does_not_switch():
    assert switches(column("########"), passages(4, 4)) == []
    assert switches(column(".#...##."), passages(4, 4)) == []  # from 1/4 to 2/4
    # on in the middle passage alone: two boundaries
    found = switches(column("...###..."), passages(3, 3, 3))
    assert [(switch.boundary, switch.delay) for switch in found] == [(3, 0), (6, 0)]


def test_flicker_counts_changes_inside_passages_only():
    # pairs inside: 3 + 3; the change at the boundary does not count
    assert flicker(column("....####"), passages(4, 4)) == pytest.approx([0])
    assert flicker(column(".#.#.###"), passages(4, 4)) == pytest.approx([4 / 6])


@pytest.mark.parametrize(("drawing", "lengths"), [("#..##", (3, 2)), ("#.#..#", (4, 2)), ("######", (3, 3))])
def test_shuffled_flicker_is_the_mean_over_orders_within_passages(drawing, lengths):
    on_T1, passage_T = column(drawing), passages(*lengths)
    parts = [itertools.permutations(np.flatnonzero(passage_T == p)) for p in range(len(lengths))]
    orders = [np.concatenate(order) for order in itertools.product(*parts)]
    slow = np.mean([flicker(on_T1[order], passage_T)[0] for order in orders])
    assert shuffled_flicker(on_T1, passage_T) == pytest.approx([slow])


# --- which latents ---

F_TF = np.array(
    [
        [5, 1, 0, 0, 0],
        [5, 3, 0, 0, 0],
        [5, 0, 1, 0, 3],
        [5, 0, 1, 0, 0],
    ],
    dtype=np.float64,
)


def test_the_mean_rule_takes_the_strongest_and_nothing_that_is_never_on():
    assert choose(F_TF, passages(2, 2), "mean", 2) == [0, 1]
    assert choose(F_TF, passages(2, 2), "mean", 5) == [0, 1, 4, 2]


def test_the_contrast_rule_takes_turns_between_passages():
    # excess of the first passage: 0, 2, -1, 0, -1.5; of the second the negative
    assert choose(F_TF, passages(2, 2), "contrast", 2) == [1, 4]
    assert choose(F_TF, passages(2, 2), "contrast", 5) == [1, 4, 2]


def test_a_latent_is_chosen_once():
    # with three passages latent 0 exceeds in the first two, and is best in both
    f_TF = np.array([[4.0, 1, 0], [4, 0, 0], [0, 0, 1]])
    assert choose(f_TF, passages(1, 1, 1), "contrast", 3) == [0, 2, 1]


def test_choosing_by_contrast_is_the_same_with_many_latents():
    generator = np.random.default_rng(0)
    f_TF = generator.random((20, 500))
    passage_T = passages(7, 6, 7)
    excess = [f_TF[passage_T == p].mean(0) - f_TF[passage_T != p].mean(0) for p in range(3)]
    slow: list[int] = []
    while len(slow) < 9:
        for one in excess:
            slow.append(next(i for i in np.argsort(-one).tolist() if i not in slow))
    assert choose(f_TF, passage_T, "contrast", 9) == slow


# --- a text ---


def test_a_latent_that_is_on_in_one_passage_scores_best():
    f_TF = np.hstack([column("..........##########"), column("#.#.#.#.#.#.#.#.#.#.")]).astype(float)
    passage_T = passages(10, 10)
    steady, nervous = (score(f_TF, passage_T, [latent]) for latent in (0, 1))
    assert steady.information == pytest.approx(1)
    assert (steady.switches, steady.delay, steady.distance) == (1, 0, 0)
    assert (steady.flicker, steady.relative_flicker) == (0, None)  # in any order it would be as steady
    assert nervous.information == pytest.approx(0)
    assert (nervous.switches, nervous.delay) == (0, None)
    assert nervous.flicker == pytest.approx(1)
    # 2 k (n - k) / n = 5 changes in 9 pairs by luck
    assert nervous.relative_flicker == pytest.approx(9 / 5)
    assert nervous.on_share == 0.5
    assert steady.shifted is not None
    assert 0 < steady.shifted < 1
    assert steady.above_shifted == pytest.approx(1 - steady.shifted)


def test_a_choice_by_contrast_is_made_again_for_shifted_passages():
    generator = np.random.default_rng(0)
    f_TF = np.maximum(generator.standard_normal((40, 300)), 0)
    passage_T = passages(20, 20)
    chosen = choose(f_TF, passage_T, "contrast", 4)
    naive = score(f_TF, passage_T, chosen)
    honest = score(f_TF, passage_T, chosen, rule="contrast", n=4)
    # the best of 300 random latents tell something about any two halves
    assert naive.shifted < honest.shifted
    assert honest.above_shifted == pytest.approx(0, abs=0.03)
    assert naive.above_shifted > 0.05


def test_without_a_latent_there_are_no_scores():
    empty = score(np.zeros((4, 3)), passages(2, 2), [])
    assert empty.n_latents == 0
    assert set(empty[:-1]) == {None}
