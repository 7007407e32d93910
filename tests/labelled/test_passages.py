import numpy as np
import pytest
from conftest import corpus_records

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.passages import (
    Passage,
    draw_joined,
    fits,
    join,
    passage_tokens,
    passages_of_files,
    sentences,
    shuffled,
)


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def texts(n: int = 60) -> list[LabelledText]:
    return [
        LabelledText(record["text"], record["domain"], record["title"], "tests", i)
        for i, record in enumerate(corpus_records(n))
    ]


def passage(text: str) -> Passage:
    return Passage(text, "", "", "")


def draw(lm, n=5, **changes):
    return draw_joined(texts(), lm, n, **{"n_passages": 3, "context_length": 120, "seed": 0, **changes})


# --- joining ---


def test_passages_stand_in_a_row_and_their_starts_are_known():
    joined = join([passage("One two."), passage("Three."), passage("Four.")])
    assert joined.text == "One two. Three. Four."
    assert joined.starts == [0, 9, 16]


def test_passages_without_spaces_between_sentences_have_none_between_them(tmp_path):
    """A space nowhere else would be a boundary that is seen without reading."""
    (tmp_path / "a.txt").write_text("月が出た。星も出た。", encoding="utf-8")
    (tmp_path / "b.txt").write_text("鍋を洗う。\n火を消す。", encoding="utf-8")
    (tmp_path / "c.txt").write_text("雨。風。", encoding="utf-8")
    joined = join(passages_of_files([tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]))
    assert joined.text == "月が出た。星も出た。 鍋を洗う。\n火を消す。雨。風。"
    assert joined.starts == [0, 11, 22]
    with pytest.raises(UserError, match="--word_order shuffled needs spaces between words, and a has none"):
        shuffled(joined, [0])


def test_a_boundary_is_the_first_token_with_a_letter_of_the_passage():
    joined = join([passage("One two."), passage("Three.")])
    # tokens: One| two|.| Three|. where " Three" covers the separator, too
    offsets = [(0, 3), (3, 7), (7, 8), (8, 14), (14, 15)]
    assert joined.boundaries(offsets) == [3]
    assert joined.passage_of(offsets).tolist() == [0, 0, 0, 1, 1]
    # a tokenizer that has the separator as a token of its own: it is nobody's beginning
    assert joined.boundaries([(0, 3), (3, 7), (7, 8), (8, 9), (9, 15)]) == [4]


def test_added_tokens_in_front_shift_the_boundaries():
    joined = join([passage("One two."), passage("Three.")])
    assert joined.boundaries([(0, 0), (0, 8), (8, 14), (14, 15)]) == [2]


def test_a_passage_that_was_cut_off_has_no_boundary():
    joined = join([passage("One two."), passage("Three."), passage("Four.")])
    offsets = [(0, 8), (8, 15)]
    assert joined.boundaries(offsets) == [1]
    assert joined.passage_of(offsets).tolist() == [0, 1]


def test_sentences_end_at_a_stop_before_a_capital():
    text = 'Rain fell. It was 3.5 mm, i.e. little! "Was it?" she said. (No.) 12 days'
    found = [text[slice(*span)] for span in sentences(text)]
    assert found == ["Rain fell.", "It was 3.5 mm, i.e. little!", '"Was it?" she said.', "(No.)", "12 days"]
    assert sentences("no stop") == [(0, 7)]
    assert sentences("One.\n\nTwo. ") == [(0, 4), (6, 10)]


@pytest.mark.parametrize(
    "expected",
    [
        ["月が出た。", "「星も？」", "昨日、3.5キロ歩いた！", "終わり。"],
        ["चाँद निकला।", "तारे भी निकले।", "क्या?", "हाँ।"],
        ["طلع القمر.", "هل طلعت النجوم؟", "نعم.", "«لا»."],
        ["Он пришёл.", "«Это я!»", "Зачем… спросил он."],
        ["Es schneit, z.B. hier.", "Über Nacht?", "Ja."],
        ["¿Quién?", "¡Él!", "Él no."],
        ["אני כאן.", "איפה?", "שם."],
    ],
)
def test_sentences_are_found_in_other_scripts(expected):
    gap = "" if expected[0].endswith("。") else " "
    text = gap.join(expected)
    assert [text[slice(*span)] for span in sentences(text)] == expected


def test_the_starts_of_sentences_include_the_boundaries():
    joined = join([passage("A b. C d."), passage("E. F g.")])
    offsets = [(i, i + 1) for i in range(len(joined.text))]
    starts = joined.sentence_starts(offsets)
    assert [joined.text[i] for i in starts] == ["C", "E", "F"]
    assert set(joined.boundaries(offsets)) <= set(starts)


# --- files ---


def test_files_are_passages_in_the_order_given(tmp_path):
    (tmp_path / "b.txt").write_text("  First.\n")
    (tmp_path / "a.txt").write_text("Second.")
    found = passages_of_files([tmp_path / "b.txt", tmp_path / "a.txt"])
    assert [one.text for one in found] == ["First.", "Second."]
    assert [one.title for one in found] == ["b", "a"]


def test_a_file_that_gives_no_passage_is_told(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bytes.txt").write_bytes(b"\x89PNG")
    for name, sentence in (
        ("none.txt", "none.txt cannot be read .*: check the path"),
        ("empty.txt", "is empty"),
        ("bytes.txt", "bytes.txt is not UTF-8"),
    ):
        with pytest.raises(UserError, match=sentence):
            passages_of_files([tmp_path / name])


# --- drawing ---


def test_drawn_passages_are_whole_sentences_of_different_documents_and_classes(lm):
    by_title = {text.title: " ".join(text.text.split()) for text in texts()}
    used = []
    for joined in draw(lm, 6):
        assert len({one.label for one in joined.passages}) == 3
        for one in joined.passages:
            document = by_title[one.title]
            spans = sentences(document)
            starts, ends = {start for start, _ in spans}, {end for _, end in spans}
            at = document.index(one.text)
            assert at in starts
            assert at + len(one.text) in ends
            assert len(sentences(one.text)) >= 2
        used += [one.title for one in joined.passages]
    assert len(set(used)) == len(used)


def test_drawn_passages_fit_the_context_and_no_two_texts_have_the_same_boundaries(lm):
    longest, shortest = passage_tokens(120, 3)
    assert (longest, shortest) == (38, 19)
    places = []
    for joined in draw(lm, 8):
        offsets = lm.tokenize([joined.text], 120, offsets=True).offsets[0]
        assert offsets[-1][1] == len(joined.text)
        lengths = np.bincount(joined.passage_of(offsets))
        assert ((lengths >= shortest - 1) & (lengths <= longest + 1)).all()
        places.append(tuple(joined.boundaries(offsets)))
    assert len(set(places)) > 4


def test_the_draw_depends_on_the_seed_alone_and_a_larger_one_begins_with_the_smaller(lm):
    some = draw(lm, 3)
    assert draw(lm, 6)[:3] == some
    assert draw(lm, 3, seed=1) != some
    shuffled = draw_joined(texts()[::-1], lm, 3, n_passages=3, context_length=120)
    assert shuffled == some


def test_a_text_fits_or_does_not(lm):
    (joined,) = draw(lm, 1)
    n_tokens = len(lm.tokenize([joined.text], 512, offsets=True).offsets[0])
    assert fits(joined, lm, n_tokens)
    assert not fits(joined, lm, n_tokens - 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"n": 100},
            r"the data give \d+ joined texts of 3 passages of whole sentences with 19 to 38 tokens each",
        ),
        ({"n_passages": 4, "context_length": 200}, "the data have 3: give a smaller --n_passages"),
        ({"n_passages": 1}, "no boundary"),
        ({"n_passages": 3, "context_length": 51}, "shorter than 8 tokens.*--context_length 52"),
    ],
)
def test_what_cannot_be_drawn_is_told(lm, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        draw(lm, **changes)


def test_the_smallest_context_that_is_named_is_enough(lm):
    assert passage_tokens(52, 3)[1] == 8
