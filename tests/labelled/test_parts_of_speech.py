import json
import subprocess
import sys

import pytest

from temporal_saes.labelled import parts_of_speech
from temporal_saes.labelled.parts_of_speech import MARGIN, Word, align, tag_tokens, tag_words


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Where tags are kept, each test's own; nothing is in memory."""
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))
    monkeypatch.setattr(parts_of_speech, "_remembered", {})
    return tmp_path / "parts_of_speech"


@pytest.fixture
def asked(monkeypatch):
    """The texts that were tagged, a list a call."""
    tagger, calls = parts_of_speech._tagger(), []

    class Counting:
        def pipe(self, texts, **options):
            calls.append(texts)
            return tagger.pipe(texts, **options)

    monkeypatch.setattr(parts_of_speech, "_tagger", Counting)
    return calls


def words_of(text: str, *tagged: tuple[str, str]) -> list[Word]:
    """Words with their tags, found one after another in the text."""
    words, start = [], 0
    for word, tag in tagged:
        start = text.index(word, start)
        words.append(Word(start, start + len(word), tag))
        start += len(word)
    return words


def test_a_leading_space_in_the_offsets_does_not_matter():
    text = "red cats"
    words = words_of(text, ("red", "ADJ"), ("cats", "NOUN"))
    assert align(words, text, [(0, 3), (3, 8)]) == ["ADJ", "NOUN"]


def test_every_piece_of_a_word_gets_the_tag_of_the_word():
    text = "unbelievable cats"
    words = words_of(text, ("unbelievable", "ADJ"), ("cats", "NOUN"))
    # un|believ|able| cat|s
    assert align(words, text, [(0, 2), (2, 8), (8, 12), (12, 16), (16, 17)]) == ["ADJ"] * 3 + ["NOUN"] * 2


def test_a_doubled_space_that_is_a_token_of_its_own_has_no_tag():
    text = "red  cats"
    words = words_of(text, ("red", "ADJ"), ("cats", "NOUN"))
    # red| |" cats"
    assert align(words, text, [(0, 3), (3, 4), (4, 9)]) == ["ADJ", None, "NOUN"]


def test_the_byte_tokens_of_an_emoji_share_its_tag():
    text = "ok 🙂."
    words = words_of(text, ("ok", "INTJ"), ("🙂", "SYM"), (".", "PUNCT"))
    # the four bytes of the emoji come as three tokens with the same span, the first with the space
    spans = [(0, 2), (2, 4), (3, 4), (3, 4), (4, 5)]
    assert align(words, text, spans) == ["INTJ", "SYM", "SYM", "SYM", "PUNCT"]


def test_special_tokens_have_no_tag():
    text = "cats"
    assert align(words_of(text, ("cats", "NOUN")), text, [(0, 0), (0, 4), (0, 0)]) == [None, "NOUN", None]


def test_most_shared_characters_win_and_the_earlier_word_wins_a_tie():
    text = "it's done"
    words = words_of(text, ("it", "PRON"), ("'s", "AUX"), ("done", "VERB"))
    # "it's" shares two characters with each word; "'s don" two with "'s" and three with "done"
    assert align(words, text, [(0, 4)]) == ["PRON"]
    assert align(words, text, [(2, 8)]) == ["VERB"]
    # white space is not shared: " d" is one character of "done"
    assert align(words, text, [(3, 6)]) == ["AUX"]


def test_a_token_outside_every_word_has_no_tag():
    assert align([], "cats", [(0, 4)]) == [None]


def test_the_whole_sentence_decides_the_tag():
    texts = ["They can run fast.", "She opened a can of soup."]
    spans = [[(5, 8)], [(13, 16)]]
    assert [text[slice(*span[0])] for text, span in zip(texts, spans, strict=True)] == ["can", "can"]
    assert list(tag_tokens(texts, spans)) == [["AUX"], ["NOUN"]]
    assert list(tag_tokens(texts, spans, [[], [0]])) == [[], ["NOUN"]]


def test_words_carry_their_characters_and_white_space_is_no_word():
    text = "Dogs  bark.\n\nLoudly"
    words = next(tag_words([text]))
    assert [text[word.start : word.end] for word in words] == ["Dogs", "bark", ".", "Loudly"]


def test_a_text_is_tagged_only_a_little_past_its_last_token(monkeypatch):
    seen = []

    def tag(texts):
        for text in texts:
            seen.append(len(text))
            yield []

    monkeypatch.setattr("temporal_saes.labelled.parts_of_speech.tag_words", tag)
    assert list(tag_tokens(["x" * 10_000, ""], [[(0, 4), (4, 7)], []])) == [[None, None], []]
    assert seen == [7 + MARGIN, 0]


def test_spacy_is_not_imported_before_the_first_text():
    code = "import sys, temporal_saes.labelled.parts_of_speech; sys.exit('spacy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_a_text_is_tagged_once_and_its_words_are_the_same_again(monkeypatch, asked):
    monkeypatch.setattr(parts_of_speech, "MOST_REMEMBERED", 3)
    texts = ["Dogs bark.", "Cats sleep.", "Dogs bark."]
    words = list(tag_words(texts))
    assert asked == [["Dogs bark.", "Cats sleep."]]
    assert words[0] == words[2] != words[1]
    assert list(tag_words(["Cats sleep.", "It rains."])) == [words[1], *tag_words(["It rains."])]
    assert asked[1:] == [["It rains."]]
    # no more than three are remembered, those that were asked last
    list(tag_words(["One.", "Two."]))
    assert set(parts_of_speech._remembered) == {"It rains.", "One.", "Two."}
    assert list(tag_words(texts)) == words


def test_another_process_finds_the_tags_and_no_text_among_them(asked, kept, monkeypatch):
    texts = ["Dogs bark at zebras.", ""]
    words = list(tag_words(texts))
    (file,) = kept.glob("*.json")
    assert "zebras" not in file.read_text()
    parts_of_speech._remembered.clear()  # as in another process
    assert list(tag_words(texts)) == words
    assert len(asked) == 1
    parts_of_speech._remembered.clear()
    version = parts_of_speech.metadata.version
    monkeypatch.setattr(parts_of_speech.metadata, "version", lambda name: f"{version(name)}.1")
    assert list(tag_words(texts)) == words
    assert len(asked) == 2  # another version of the tagger may tag otherwise


@pytest.mark.parametrize(
    "content", ["", "[]", "[[[0, 4]]]", '[[["a", 4, "NOUN"]]]', '[[[0, 400, "NOUN"]]]', "7", "[[[0, 4, 5]]]"]
)
def test_a_file_of_tags_that_is_not_what_was_written_is_made_again(content, asked, kept):
    words = list(tag_words(["Dogs bark."]))
    (file,) = kept.glob("*.json")
    file.write_text(content)
    parts_of_speech._remembered.clear()
    assert list(tag_words(["Dogs bark."])) == words
    assert len(asked) == 2
    assert json.loads(file.read_text()) == [[list(word) for word in words[0]]]


def test_where_nothing_can_be_kept_texts_are_tagged_all_the_same(asked, kept):
    kept.write_text("a file where the folder would be")
    for _ in range(2):
        assert [word.end for word in next(tag_words(["Dogs bark."]))] == [4, 9, 10]
        parts_of_speech._remembered.clear()
    assert len(asked) == 2
