"""The store: masks, pairs, batches as a function of their position, blocks, memory.

Most tests use a language model whose activations tell where they come from; the last ones a real tiny one.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dictionary_learning.activations import block as block_module
from dictionary_learning.activations import contexts as contexts_module
from dictionary_learning.activations.live_store import ActivationStore, bytes_per_token
from dictionary_learning.command import memory as memory_module
from dictionary_learning.command.memory import format_bytes, parse_bytes
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place
from dictionary_learning.texts.documents import DocumentStream, document_id

BOS, MARK, SINK, NAN = "\x01", "\x02", "\x03", "\x04"
WIDTH = 3


class CharacterTokenizer:
    """A character is a token, its code point the id."""

    eos_token_id, bos_token_id = ord(MARK), None

    def __init__(self, bos_id: int | None) -> None:
        self.bos_id = bos_id

    def __call__(self, texts: list[str], **kwargs: Any) -> dict[str, list[list[int]]]:
        bos = [] if self.bos_id is None else [self.bos_id]
        return {"input_ids": [bos + [ord(character) for character in text] for text in texts]}

    def __len__(self) -> int:
        return 0x110000

    def convert_ids_to_tokens(self, number: int) -> str:
        return chr(number)

    def decode(self, numbers: list[int], **kwargs: Any) -> str:
        return "".join(map(chr, numbers))


class TellingLM:
    """A character is a token; its activation is (character, position in the context, 100)."""

    name = "telling"
    d_model = WIDTH
    device = torch.device("cpu")
    special_ids = frozenset({0, ord(BOS), ord(MARK)})

    def __init__(self, adds_bos: bool = False, max_positions: int | None = None) -> None:
        self.bos_id = ord(BOS) if adds_bos else None
        self.tokenizer = CharacterTokenizer(self.bos_id)
        self.max_positions = max_positions
        self.batches: list[tuple[int, int]] = []  # shapes of the batches seen

    def text_mask(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return mask & ~torch.isin(tokens, torch.tensor(sorted(self.special_ids)))

    def check_place(self, place: int | Place) -> Place:
        return place if isinstance(place, Place) else Place(place)

    def record_several(self, tokens_BL: Tensor, mask_BL: Tensor, layers: Sequence[Place]) -> list[Tensor]:
        self.batches.append(tuple(tokens_BL.shape))
        position_BL = torch.arange(tokens_BL.shape[1]).expand_as(tokens_BL)
        x_BLD = torch.stack([tokens_BL, position_BL, torch.full_like(tokens_BL, 100)], dim=-1).float()
        x_BLD[~mask_BL] = 1e9  # whoever reads padding is found out
        x_BLD[tokens_BL == ord(SINK)] *= 1e4
        x_BLD[tokens_BL == ord(NAN)] = float("nan")
        return [x_BLD for _ in layers]


class LoudLM(TellingLM):
    """Some characters have activations of a high norm."""

    def __init__(self, *loud: str) -> None:
        super().__init__()
        self.loud = torch.tensor([ord(character) for character in loud])

    def record_several(self, tokens_BL: Tensor, mask_BL: Tensor, layers: Sequence[Place]) -> list[Tensor]:
        (x_BLD,) = super().record_several(tokens_BL, mask_BL, layers)
        x_BLD[torch.isin(tokens_BL, self.loud)] *= 1e4
        return [x_BLD]


def document(number: int, length: int) -> str:
    """A text of `length` characters that are in no other document."""
    return "".join(chr(1000 + 100 * number + place) for place in range(length))


def streams(texts: list[str]) -> Callable[[int], DocumentStream]:
    return lambda start: DocumentStream(iter([{"text": text} for text in texts[start:]]), start=start)


def make_store(texts: list[str], lm: Any = None, rows: int | None = None, **options: Any) -> ActivationStore:
    """A store over texts; `rows` is how many positions fit into a block."""
    options = {"context_length": 8, "lm_batch_size": 3, "log": lambda line: None, **options}
    lm = lm or TellingLM()
    store = ActivationStore(lm, 0, streams(texts), memory_bytes=10**7, **options)
    if rows is not None:
        store.capacity = rows
    return store


LENGTHS = (5, 1, 20, 8, 2, 9, 13)
TEXTS = [document(number, length) for number, length in enumerate(LENGTHS)]


def expected_contexts(texts: list[str], length: int = 8) -> list[str]:
    """Slow reference: the contexts of the texts, those of one character left out."""
    cut = [text[start : start + length] for text in texts for start in range(0, len(text), length)]
    return [context for context in cut if len(context) > 1]


def characters(x: Tensor) -> list[Any]:
    """The characters that activations came from."""
    return (
        [[chr(int(c)) for c in row] for row in x[..., 0]] if x.ndim == 3 else [chr(int(c)) for c in x[..., 0]]
    )


# --- what is in the store ---


def test_every_context_of_every_document_is_there_in_order() -> None:
    [contexts] = make_store(TEXTS).contexts(100)
    found = [
        "".join(chr(c) for c in tokens[mask])
        for tokens, mask in zip(contexts.tokens_NL, contexts.mask_NL, strict=True)
    ]
    # 20 characters are contexts of 8, 8 and 4; the document of one character has no pair and is left out
    assert found == expected_contexts(TEXTS)
    assert [len(context) for context in found] == [5, 8, 8, 4, 8, 2, 8, 8, 5]
    owner = {character: document_id(text) for text in TEXTS for character in text}
    assert contexts.document_N.tolist() == [owner[context[0]] for context in found]
    assert contexts.x_NLD[contexts.mask_NL][:, 0].tolist() == [ord(c) for c in "".join(found)]
    assert contexts.x_NLD[~contexts.mask_NL].eq(0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_an_ordered_pass_is_the_same_in_batches_of_any_size(batch_size: int) -> None:
    found = [
        tokens[mask].tolist()
        for contexts in make_store(TEXTS).contexts(batch_size)
        for tokens, mask in zip(contexts.tokens_NL, contexts.mask_NL, strict=True)
    ]
    assert found == [[ord(c) for c in context] for context in expected_contexts(TEXTS)]


@pytest.mark.parametrize("adds_bos", [False, True])
def test_every_context_starts_with_the_bos_that_the_tokenizer_adds(adds_bos: bool) -> None:
    lm = TellingLM(adds_bos)
    [contexts] = make_store([document(0, 10)], lm, context_length=6).contexts(10)
    tokens = ["".join(map(chr, row[row != 0])) for row in contexts.tokens_NL]
    text = document(0, 10)
    assert tokens == ([BOS + text[:5], BOS + text[5:]] if adds_bos else [text[:6], text[6:]])
    # BOS is the first position and not usable
    assert contexts.mask_NL[:, 0].tolist() == [not adds_bos] * 2
    assert contexts.mask_NL.sum() == 10
    assert make_store([text], lm, context_length=6, add_bos=False).statistics.n_positions == 10


def test_special_tokens_are_masked_by_id_wherever_they_stand() -> None:
    text = f"{MARK}ab{MARK}cde"
    [contexts] = make_store([text]).contexts(1)
    assert contexts.mask_NL.tolist() == [[False, True, True, False, True, True, True]]
    assert contexts.x_NLD[0, 0].eq(0).all()
    assert contexts.tokens_NL[0, 0] == ord(MARK)
    pairs = characters(next(make_store([text]).pairs(3)))
    # a|mark and c|mark are no pairs
    assert sorted(pairs) == [["b", "a"], ["d", "c"], ["e", "d"]]
    [contexts] = make_store([text], drop_special=False).contexts(1)
    assert contexts.mask_NL.all()


def test_an_attention_sink_is_dropped_and_its_share_is_told() -> None:
    texts = [SINK + document(number, 7) for number in range(4)]
    lines: list[str] = []
    store = make_store(texts, log=lines.append)
    seen = characters(torch.cat(list(store.tokens(4, epochs=1))))
    assert sorted(seen) == sorted("".join(text[1:] for text in texts))
    assert store.statistics.dropped == {"special": 0.0, "high_norm": 4 / 32, "alone": 0.0}
    assert "high norm 12.50%" in lines[-1]
    kept = make_store(texts, max_norm_ratio=None)
    assert kept.statistics.n_tokens == 32


def test_the_tokens_that_the_norm_filter_drops_are_told_by_name() -> None:
    lines: list[str] = []
    texts = [SINK + document(number, 7) for number in range(4)]
    store = make_store([*texts, "\t" + document(5, 7)], LoudLM(SINK, "\t"), log=lines.append)
    statistics = store.statistics
    assert statistics.high_norm_ids == {ord(SINK): 4, ord("\t"): 1}
    assert "high norm most often '\\x03' 4, '\\t' 1; median norm" in lines[-1]
    assert statistics.record(store.lm.tokenizer)["high_norm_tokens"] == {SINK: 4, "\t": 1}
    assert statistics.record()["high_norm_tokens"] == {"[3]": 4, "[9]": 1}
    assert json.loads(json.dumps(statistics.record())) == statistics.record()


def test_the_counts_of_dropped_tokens_are_of_all_blocks_and_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = "ABCDEFGH"
    # A once, B twice and so on, each in front of a document of its own
    texts = [letter + document(0, 7) for n, letter in enumerate(letters, 1) for _ in range(n)]
    whole, cut = make_store(texts, LoudLM(*letters)), make_store(texts, LoudLM(*letters), rows=40)
    list(cut.contexts(9))
    right = {ord(letter): n for n, letter in reversed(list(enumerate(letters, 1)))}
    assert list(whole.statistics.high_norm_ids.items()) == list(right.items())
    assert cut.statistics.high_norm_ids == right
    monkeypatch.setattr(block_module, "N_COUNTED", 3)
    some = make_store(texts, LoudLM(*letters)).statistics
    assert some.high_norm_ids == {ord("H"): 8, ord("G"): 7, ord("F"): 6}
    assert some.n_high_norm == 36


def test_without_a_dropped_token_nothing_is_said_of_them() -> None:
    lines: list[str] = []
    assert make_store(TEXTS, log=lines.append).statistics.high_norm_ids == {}
    assert "most often" not in lines[-1]


def test_documents_too_short_for_a_pair_are_counted() -> None:
    with pytest.warns(UserWarning, match="2 documents have fewer than 2 tokens of text"):
        list(make_store([*TEXTS, MARK + "a" + MARK]).contexts(9))


def test_a_token_left_alone_in_its_context_is_dropped() -> None:
    store = make_store([SINK + "a", document(0, 8), document(1, 8)])
    assert store.statistics.n_alone == 1
    assert store.statistics.n_contexts == 2
    assert len(next(store.contexts(10)).x_NLD) == 2


def test_the_norms_are_those_of_usable_tokens() -> None:
    store = make_store([MARK + "ab" + SINK])
    # (97, 1, 100) and (98, 2, 100): 9409 + 1 + 10000 and 9604 + 4 + 10000
    assert store.statistics.mean_square_norm == pytest.approx((19_410 + 19_608) / 2)
    # the median of those two and the sink is the larger of the two
    assert store.statistics.median_norm == pytest.approx(19_608**0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_are_float32_whatever_is_stored(dtype: torch.dtype) -> None:
    x_BD = next(make_store(TEXTS, dtype=dtype).tokens(10))
    assert x_BD.dtype == torch.float32
    assert x_BD[:, 2].eq(100).all()


def test_alike_lengths_share_a_batch_of_the_language_model() -> None:
    lm = TellingLM()
    store = make_store([document(n, length) for n, length in enumerate([2, 8, 3, 8, 2, 8, 2, 8])], lm)
    store.statistics  # noqa: B018
    # 3 * 8 padded tokens a batch: three of length 8, then one of 8 with 3 and 2, then what is left
    assert lm.batches == [(3, 8), (3, 8), (2, 2)]


def test_a_very_long_text_is_cut_between_words_before_it_is_tokenised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contexts_module, "_PIECE_CHARACTERS", 20)
    text = "seven words make this text rather long indeed"
    lm = TellingLM(adds_bos=True)
    seen: list[str] = []
    tokenizer = lm.tokenizer
    lm.tokenizer = lambda texts, **kwargs: seen.extend(texts) or tokenizer(texts)  # type: ignore[method-assign,func-returns-value]
    [contexts] = make_store([text], lm).contexts(100)
    assert seen == ["seven words make", " this text rather", " long indeed"]
    assert set(contexts.document_N.tolist()) == {document_id(text)}
    assert "".join(chr(c) for c in contexts.tokens_NL[contexts.mask_NL]) == text


# --- views ---


def test_every_usable_token_is_given_once_an_epoch() -> None:
    store = make_store(TEXTS)
    n = sum(map(len, expected_contexts(TEXTS)))  # 56
    batches = store.tokens(7)
    for epoch in range(3):
        assert batches.epoch == epoch
        seen = [c for x in islice(batches, n // 7) for c in characters(x)]
        assert sorted(seen) == sorted("".join(expected_contexts(TEXTS)))


def all_pairs(texts: list[str], reach: int) -> list[list[tuple[str, str]]]:
    """Slow reference: for each token with an earlier one, all the pairs it may be in."""
    options = []
    for context in expected_contexts(texts):
        for place, current in enumerate(context):
            earlier = [
                (current, context[e])
                for e in range(max(0, place - reach), place)
                if context[e] not in (MARK, SINK)
            ]
            if current not in (MARK, SINK) and earlier:
                options.append(earlier)
    return options


MARKED = ["abc" + MARK + "defg" + "hijk", MARK + SINK + "lmno", "pq" + MARK + "r"]


@pytest.mark.parametrize(
    ("mode", "max_offset", "reach"), [("previous", None, 1), ("random", None, 99), ("random", 3, 3)]
)
def test_every_token_with_an_earlier_one_is_in_one_pair_of_its_context(
    mode: str, max_offset: int | None, reach: int
) -> None:
    options = all_pairs(TEXTS + MARKED, reach)
    batches = make_store(TEXTS + MARKED).pairs(1, mode=mode, max_offset=max_offset, epochs=1)
    pairs = {pair[0]: tuple(pair) for x in batches for pair in characters(x)}
    assert len(pairs) == len(options)
    for possible in options:
        assert pairs[possible[0][0]] in possible


@given(
    texts=st.lists(
        st.text(alphabet=st.sampled_from([MARK, SINK, *"abcde"]), min_size=1, max_size=30), min_size=1
    ),
    mode=st.sampled_from(["previous", "random"]),
    max_offset=st.none() | st.integers(1, 10),
)
@settings(max_examples=40)
def test_both_ends_of_a_pair_are_usable_and_in_one_context(
    texts: list[str], mode: str, max_offset: int | None
) -> None:
    # distinct characters, so that a pair tells where it is from; ordinary ones keep the median ordinary
    texts = [document(99, 99)] + [
        "".join(c if c in (MARK, SINK) else chr(2000 + 100 * d + p) for p, c in enumerate(text))
        for d, text in enumerate(texts)
    ]
    store = make_store(texts)
    mode_options = {"max_offset": max_offset} if mode == "random" else {}
    pairs = [tuple(p) for x in store.pairs(1, mode=mode, epochs=1, **mode_options) for p in characters(x)]
    options = all_pairs(texts, 1 if mode == "previous" else max_offset or 99)
    assert {pair[0] for pair in pairs} == {possible[0][0] for possible in options}
    assert set(pairs) <= {pair for possible in options for pair in possible}


@pytest.mark.parametrize("run_length", [2, 3, 4])
def test_runs_are_adjacent_tokens_and_no_pair_is_in_two(run_length: int) -> None:
    store = make_store(TEXTS + MARKED)
    possible = {pair for options in all_pairs(TEXTS + MARKED, 1) for pair in options}
    batches = store.pairs(run_length, run_length=run_length, epochs=1)
    runs = [run for x in batches for run in characters(x)]
    pairs = [pair for run in runs for pair in pairwise(run)]  # the latest token first
    assert {len(run) for run in runs} == {run_length + 1}
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= possible
    # a stretch of n tokens gives as many runs as fit
    stretches = [list(group) for group in stretches_of(possible)]
    assert len(runs) == sum(len(stretch) // run_length for stretch in stretches)


def stretches_of(pairs: set[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Pairs, each of which begins where another ends, one behind another."""
    current_of = {earlier: (current, earlier) for current, earlier in pairs}
    beginnings = set(current_of) - {current for current, _ in pairs}
    found = []
    for earlier in beginnings:
        stretch = []
        while earlier in current_of:
            stretch.append(current_of[earlier])
            earlier = current_of[earlier][0]
        found.append(stretch)
    return found


def test_what_is_left_over_by_runs_is_another_pair_in_another_epoch() -> None:
    store = make_store([document(0, 6)])  # five pairs, of which one is left over
    possible = {pair for options in all_pairs([document(0, 6)], 1) for pair in options}
    batches = store.pairs(4, run_length=2, epochs=20)
    seen = [{pair for run in characters(x) for pair in pairwise(run)} for x in batches]
    assert {len(pairs) for pairs in seen} == {4}
    assert set().union(*seen) == possible


def test_runs_that_do_not_fill_a_batch_or_are_of_random_pairs_are_refused() -> None:
    store = make_store(TEXTS)
    for words in ({"run_length": 3}, {"run_length": 2, "mode": "random"}, {"run_length": 0}):
        with pytest.raises(UserError, match=f"runs of {words['run_length']}"):
            store.pairs(4, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("run_length", [1, 2])
def test_a_pair_says_which_document_it_is_of(run_length: int) -> None:
    texts = [document(number, 20) for number in range(3)]  # contexts of 8: several a document
    store = make_store(texts)
    found = store.pairs(2 * run_length, run_length=run_length, with_texts=True, epochs=1)
    without = store.pairs(2 * run_length, run_length=run_length, epochs=1)
    id_of = {character: document_id(text) for text in texts for character in text}
    n = 0
    for batch, x in zip(found, without, strict=True):
        assert torch.equal(batch.x_BLD, x)
        n += len(batch)
        assert [id_of[run[0]] for run in characters(x)] == batch.text_B.tolist()
    assert n >= 20


@pytest.mark.parametrize(("most", "run_length"), [(1, 1), (2, 1), (3, 1), (2, 2), (5, 2)])
def test_a_batch_has_no_more_pairs_of_a_text_than_asked_for(most: int, run_length: int) -> None:
    texts = [document(number, 6 + 3 * number) for number in range(7)]
    store = make_store(texts)
    seen: set[str] = set()
    for seed in range(40):
        options = {"run_length": run_length, "pairs_per_text": most, "epochs": 1, "seed": seed}
        batches = store.pairs(4, with_texts=True, **options)
        assert batches.config["pairs_per_text"] == most // run_length * run_length
        given = []
        for batch in batches:
            assert Counter(batch.text_B.tolist()).most_common(1)[0][1] * run_length <= most
            assert len(batch) == 4 // run_length
            given += [str(run) for run in characters(batch.x_BLD)]
        assert len(set(given)) == len(given) > 0
        seen.update(given)
    if run_length == 1:  # no pair is left out for good
        assert len(seen) == sum(map(len, all_pairs(texts, 1)))


def test_a_batch_that_too_few_texts_fill_is_told() -> None:
    store = make_store([document(number, 20) for number in range(3)])
    with pytest.raises(
        UserError, match=r"4 with at most 1 of one text cannot .* \d+ pairs of 3 texts in its last block;"
    ):
        next(store.pairs(4, pairs_per_text=1))
    with pytest.raises(UserError, match="leaves no room for a run of 2 pairs"):
        store.pairs(4, pairs_per_text=1, run_length=2)


def test_an_earlier_token_of_the_sentence_is_of_the_sentence() -> None:
    text = "ab. cde! fg"  # contexts of 8: what is left of the third sentence begins the second one
    store = make_store([text], lm=TellingLM())
    drawn = Counter(
        tuple(pair)
        for x in islice(store.pairs(4, mode="sentence", tokenizer=TellingLM().tokenizer), 400)
        for pair in characters(x)
    )
    # the blank behind a full stop is the sentence's
    of_first, of_second, of_third = "ab. ", "cde!", " fg"
    expected = {
        (later, earlier)
        for sentence in (of_first, of_second, of_third)
        for place, later in enumerate(sentence)
        for earlier in sentence[:place]
    }
    assert set(drawn) == expected
    close = store.pairs(4, mode="sentence", max_offset=1, tokenizer=TellingLM().tokenizer, epochs=1)
    assert all(later + earlier in "ab. cde! fg"[::-1] for x in close for later, earlier in characters(x))


def test_a_random_pair_joins_no_two_texts_that_one_record_has() -> None:
    packed = ["abc" + MARK + "def" + MARK + MARK + "g", MARK + "hij" + "klmnop"]
    drawn = {
        tuple(pair)
        for x in islice(make_store(packed).pairs(3, mode="random", tokenizer=TellingLM().tokenizer), 400)
        for pair in characters(x)
    }
    # contexts of 8: the second record's end behind "n"
    expected = {(b, a) for text in ("abc", "def", "hijklmn", "op") for a, b in combinations(text, 2)}
    assert drawn == expected
    # of a conversation, in which the mark ends turns, nobody gives the tokenizer
    across = {
        tuple(pair) for x in islice(make_store(packed).pairs(3, mode="random"), 400) for pair in characters(x)
    }
    assert across > drawn
    assert ("d", "a") in across


@given(
    texts=st.lists(st.text(alphabet=st.sampled_from([MARK, SINK, *"abc"]), min_size=1, max_size=30)),
    max_offset=st.none() | st.integers(1, 10),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_no_end_of_text_lies_between_the_two_of_a_random_pair(
    texts: list[str], max_offset: int | None, seed: int
) -> None:
    texts = [document(99, 99)] + [
        "".join(c if c in (MARK, SINK) else chr(2000 + 100 * d + p) for p, c in enumerate(text))
        for d, text in enumerate(texts)
    ]
    whole = "\n".join(texts)
    words = {"mode": "random", "max_offset": max_offset, "seed": seed, "epochs": 1}
    batches = make_store(texts).pairs(1, tokenizer=TellingLM().tokenizer, **words)
    for current, earlier in (pair for x in batches for pair in characters(x)):
        assert whole.index(earlier) < whole.index(current)
        assert MARK not in whole[whole.index(earlier) : whole.index(current)]


def test_the_random_earlier_token_is_uniform_over_the_past() -> None:
    text = document(0, 8)
    store = make_store([text])
    # One epoch draws one pair for each of the 7 later positions; 4,000 epochs, a fixed seed.
    drawn = Counter(
        tuple(p) for x in islice(store.pairs(7, mode="random", seed=3), 4000) for p in characters(x)
    )
    for place in range(1, 8):
        counts = [drawn[text[place], text[e]] for e in range(place)]
        assert sum(counts) == 4000
        chi_square = sum((n - 4000 / place) ** 2 / (4000 / place) for n in counts)
        # .999 quantiles of chi-square with 0 to 6 degrees of freedom
        assert chi_square <= [0, 10.8, 13.8, 16.3, 18.5, 20.5, 22.5][place - 1]


def test_each_epoch_draws_anew_and_each_seed_draws_otherwise() -> None:
    batches = make_store(TEXTS).pairs(40, mode="random")
    first, second = next(batches), next(batches)
    assert not torch.equal(first, second)
    assert not torch.equal(first, next(make_store(TEXTS).pairs(40, mode="random", seed=1)))
    assert torch.equal(first, next(make_store(TEXTS).pairs(40, mode="random")))


def test_sequences_give_whole_contexts_in_another_order_each_epoch() -> None:
    batches = make_store(TEXTS).sequences(3)
    orders = []
    for _ in range(2):
        seen = [
            "".join(chr(c) for c in tokens[mask])
            for contexts in islice(batches, 3)
            for tokens, mask in zip(contexts.tokens_NL, contexts.mask_NL, strict=True)
        ]
        assert sorted(seen) == sorted(expected_contexts(TEXTS))
        orders.append(seen)
    assert orders[0] != orders[1]


# --- blocks and positions ---


@given(rows=st.integers(8, 60), batch_size=st.integers(1, 4))
@settings(max_examples=30)
def test_blocks_hold_together_what_one_big_block_holds(rows: int, batch_size: int) -> None:
    whole = characters(torch.cat(list(make_store(TEXTS).tokens(1, epochs=1))))
    parts = characters(torch.cat(list(make_store(TEXTS, rows=rows).tokens(1, epochs=1))))
    assert sorted(parts) == sorted(whole)
    ordered = [
        tokens[mask].tolist()
        for contexts in make_store(TEXTS, rows=rows).contexts(batch_size)
        for tokens, mask in zip(contexts.tokens_NL, contexts.mask_NL, strict=True)
    ]
    assert ordered == [[ord(c) for c in context] for context in expected_contexts(TEXTS)]


def test_a_block_never_holds_more_than_was_asked_for() -> None:
    store = make_store(TEXTS, rows=10)
    sizes = {}
    for _ in store.tokens(1, epochs=1):
        assert store._block is not None
        sizes[store._block.start] = len(store._block.tokens_T)
    # contexts of 5, 8, 8, 4, 8, 2, 8, 8, 5 in blocks of at most 10
    assert list(sizes.values()) == [5, 8, 8, 4, 10, 8, 8, 5]


def test_a_corpus_that_fits_goes_through_the_language_model_once() -> None:
    lm = TellingLM()
    batches = make_store(TEXTS, lm).pairs(10)
    next(batches)
    n = len(lm.batches)
    list(islice(batches, 50))
    assert batches.epoch == 12  # 47 pairs: 4 batches an epoch, 51 batches
    assert len(lm.batches) == n


def test_a_stream_is_opened_once_an_epoch_and_not_once_a_block() -> None:
    opened: list[int] = []
    store = make_store(TEXTS, rows=10)
    open_stream = store._open_stream
    store._open_stream = lambda start: opened.append(start) or open_stream(start)  # type: ignore[func-returns-value]
    list(store.tokens(1, epochs=3))
    assert opened == [0, 0, 0]


VIEWS: dict[str, Callable[[ActivationStore], Any]] = {
    "tokens": lambda store: store.tokens(2, seed=5),
    "previous": lambda store: store.pairs(2, seed=5),
    "random": lambda store: store.pairs(2, mode="random", seed=5),
    "sequences": lambda store: store.sequences(1, seed=5),
}


def same(a: Any, b: Any) -> bool:
    return all(map(torch.equal, a, b)) if isinstance(a, tuple) else torch.equal(a, b)


@given(view=st.sampled_from(sorted(VIEWS)), rows=st.integers(8, 70), n_before=st.integers(0, 60))
@settings(max_examples=40)
def test_batches_go_on_from_any_position_exactly(view: str, rows: int, n_before: int) -> None:
    batches = VIEWS[view](make_store(TEXTS, rows=rows))
    list(islice(batches, n_before))
    state = json.loads(json.dumps(batches.state_dict()))
    expected = list(islice(batches, 20))
    resumed = VIEWS[view](make_store(TEXTS, rows=rows))
    resumed.load_state_dict(state)
    assert all(map(same, islice(resumed, 20), expected))
    assert resumed.state_dict() == batches.state_dict()
    # on the same store, too, which has another block in memory by now
    batches.load_state_dict(state)
    assert all(map(same, islice(batches, 20), expected))


def test_a_resumed_run_reads_no_block_before_its_own() -> None:
    batches = make_store(TEXTS, rows=10).tokens(2)
    # blocks of 5, 8, 8, 4, ... tokens: 2 + 4 + 4 batches, and the state is at the edge of the fourth block
    list(islice(batches, 10))
    state = batches.state_dict()
    assert (state["block"], state["batch"], state["start"]) == (3, 0, [2, 2, 21])
    lm = TellingLM()
    resumed = make_store(TEXTS, lm, rows=10).tokens(2)
    resumed.load_state_dict(state)
    next(resumed)
    assert lm.batches == [(1, 4)]


def test_two_readers_of_one_store_do_not_disturb_each_other() -> None:
    alone = list(islice(make_store(TEXTS, rows=10).pairs(2), 60))
    store = make_store(TEXTS, rows=10)
    other = store.contexts(1)
    both = []
    for x in islice(store.pairs(2), 60):
        both.append(x)
        contexts = next(other, None)
        if contexts is None:
            other = store.contexts(1)
        else:
            tokens = contexts.x_NLD[contexts.mask_NL][:, 0]
            assert tokens.tolist() == contexts.tokens_NL[contexts.mask_NL].tolist()
    assert all(map(torch.equal, alone, both))


def test_a_corpus_that_changed_is_noticed_on_resuming() -> None:
    batches = make_store(TEXTS).tokens(2)
    next(batches)
    resumed = make_store(["another text", *TEXTS]).tokens(2)
    resumed.load_state_dict(batches.state_dict())
    with pytest.raises(UserError, match="the corpus has changed"):
        next(resumed)


@pytest.mark.parametrize(
    ("max_tokens", "lengths"), [(5, [5]), (21, [5, 8, 8]), (24, [5, 8, 8]), (25, [5, 8, 8, 4])]
)
@pytest.mark.parametrize("rows", [10, 1000])
def test_max_tokens_uses_the_beginning_of_the_corpus_in_every_epoch(
    max_tokens: int, lengths: list[int], rows: int
) -> None:
    store = make_store(TEXTS, rows=rows, max_tokens=max_tokens)
    for _ in range(2):
        assert [int(n) for c in store.contexts(1) for n in c.mask_NL.sum(1)] == lengths


@pytest.mark.parametrize(
    ("document_tokens", "lengths"),
    [
        (2, [5, 8, 8, 2, 8, 8]),
        (8, [5, 8, 8, 2, 8, 8]),
        (16, [5, 8, 8, 8, 2, 8, 8, 5]),
        (1000, [5, 8, 8, 4, 8, 2, 8, 8, 5]),
    ],
)
@pytest.mark.parametrize("rows", [10, 1000])
def test_of_a_long_document_only_some_contexts_are_used(
    document_tokens: int, lengths: list[int], rows: int
) -> None:
    # documents of 5, 1, 20, 8, 2, 9 and 13 tokens; a document gives its first context in any case, and the
    # one token that is left of 9 is no context
    store = make_store(TEXTS, rows=rows, document_tokens=document_tokens)
    assert [int(n) for c in store.contexts(1) for n in c.mask_NL.sum(1)] == lengths


def test_the_contexts_of_a_long_document_are_spread_evenly() -> None:
    # 40 tokens are five contexts of 8; of the two that are wanted, the second begins behind half of them
    text = document(0, 40)
    [contexts] = make_store([text], document_tokens=16).contexts(10)
    assert ["".join(map(chr, row)) for row in contexts.tokens_NL] == [text[0:8], text[16:24]]


def test_the_statistics_count_each_block_once() -> None:
    whole = make_store(TEXTS + MARKED).statistics
    store = make_store(TEXTS + MARKED, rows=12)
    list(store.tokens(1, epochs=2))
    parts = store.statistics
    for name in ("n_contexts", "n_positions", "n_tokens", "n_special", "n_high_norm", "n_alone"):
        assert getattr(parts, name) == getattr(whole, name)
    assert parts.mean_square_norm == pytest.approx(whole.mean_square_norm)


def test_new_epochs_are_told() -> None:
    lines: list[str] = []
    batches = make_store(TEXTS, log=lines.append).tokens(56)
    for _ in range(5):
        next(batches)
    told = [line for line in lines if "epoch" in line]
    assert told == [
        "the corpus has been read once: epoch 2 begins.",
        "the corpus has been read 2 times: epoch 3 begins.",
        "the corpus has been read 4 times: epoch 5 begins.",
    ]


def test_the_config_records_every_option() -> None:
    store = make_store(TEXTS, max_tokens=50, document_tokens=40)
    config = store.pairs(4, mode="random", max_offset=3, seed=7).config
    assert config == {
        "d_submodule": 3,
        "layer": 0,
        "site": "resid",
        "io": "out",
        "ctx_len": 8,
        "refresh_batch_size": 3,
        "out_batch_size": 4,
        "device": "cpu",
        "memory_bytes": 10**7,
        "dtype": "float32",
        "max_norm_ratio": 10.0,
        "max_tokens": 50,
        "document_tokens": 40,
        "drop_special": True,
        "add_bos": True,
        "bos": False,
        "seed": 7,
        "pair_mode": "random",
        "max_offset": 3,
    }
    json.dumps(config)


# --- memory ---


def test_memory_is_told_before_it_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    store = make_store(TEXTS, log=lines.append)
    empty = torch.empty

    def allocate(*size: int, **kwargs: Any) -> Tensor:
        if size == (56, WIDTH):
            # 56 positions of 3 float32 and 113 bytes beside
            assert lines == ["activation store: 7 KB for 56 tokens of width 3 float32"]
            lines.append("allocated")
        return empty(*size, **kwargs)

    monkeypatch.setattr(torch, "empty", allocate)
    next(store.tokens(1))
    assert lines[1] == "allocated"


def test_a_small_corpus_takes_no_more_memory_than_it_needs() -> None:
    store = make_store(TEXTS)
    next(store.tokens(1))
    assert store._buffers[0].shape == (56, WIDTH)
    large = make_store(TEXTS, rows=20)
    list(large.tokens(1, epochs=2))
    assert large._buffers[0].shape == (20, WIDTH)


def test_more_memory_than_there_is_is_refused_before_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "available_memory", lambda device: 4_000)
    lm = TellingLM()
    with pytest.raises(UserError, match=r"more than the 4 KB .* ask for less than 10 MB with --memory"):
        next(make_store(TEXTS, lm).tokens(1))
    assert not lm.batches
    # A block that fits is read, though the whole corpus does not fit.
    next(make_store(TEXTS, lm, rows=30).tokens(1))


@pytest.mark.parametrize(
    ("amount", "n_bytes"),
    [
        ("4GB", 4 * 10**9),
        ("512 MiB", 2**29),
        ("1.5k", 1500),
        ("2gib", 2**31),
        ("7", 7),
        (4096, 4096),
        ("1TB", 10**12),
    ],
)
def test_amounts_of_memory_are_read_in_all_spellings(amount: str | int, n_bytes: int) -> None:
    assert parse_bytes(amount) == n_bytes


@pytest.mark.parametrize("amount", ["", "much", "-4GB", "4 PB", "0GB", "1e9"])
def test_what_is_no_amount_of_memory_is_told(amount: str) -> None:
    with pytest.raises(UserError, match="no amount of memory"):
        parse_bytes(amount)


@given(st.floats(1, 9e14))
def test_an_amount_that_was_written_can_be_read(n_bytes: float) -> None:
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.005, abs=1)


# --- wrong inputs ---


def test_nan_activations_stop_and_name_batch_and_document() -> None:
    texts = [document(0, 20), document(1, 4) + NAN, document(2, 3)]
    with pytest.raises(UserError, match=r"layer 0 of telling .* batch 1 .* document behind record 1:"):
        next(make_store(texts, lm_batch_size=2).tokens(1))


def test_a_corpus_without_a_pair_is_an_error() -> None:
    with pytest.raises(UserError, match="no context of at least 2 tokens"):
        next(make_store(["a", "b"]).tokens(1))


@pytest.mark.parametrize("rows", [50, 1000])
def test_a_batch_that_can_never_be_filled_is_an_error(rows: int) -> None:
    with pytest.raises(UserError, match=r"a batch of 48 cannot be filled: the corpus gives \d+ pairs"):
        next(make_store(TEXTS, rows=rows).pairs(48))  # 56 tokens in 9 contexts are 47 pairs


def test_a_batch_larger_than_a_block_is_told_before_anything_is_read() -> None:
    with pytest.raises(UserError, match=r"2,048 usable tokens is larger than the 50 tokens .* --memory"):
        make_store(TEXTS, rows=50).tokens(2048)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"context_length": 1}, "context of 1"),
        ({"context_length": 33}, "telling cannot read contexts of 33 tokens: give at most 32"),
        ({"lm_batch_size": 0}, "batch of 0"),
        ({"dtype": torch.float16}, "torch.float16"),
        ({"max_norm_ratio": 0.5}, "max_norm_ratio 0.5"),
        ({"max_tokens": 1}, "max_tokens 1"),
        ({"memory_bytes": 500}, "500 B hold 4 tokens of width 3, less than one context of 8"),
    ],
)
def test_wrong_options_are_told_before_anything_is_read(options: dict[str, Any], sentence: str) -> None:
    options = {"context_length": 8, "lm_batch_size": 3, "memory_bytes": 10**6, **options}
    lm: Any = TellingLM(max_positions=32)
    with pytest.raises(UserError, match=sentence):
        ActivationStore(lm, 0, streams(TEXTS), **options)


def test_wrong_views_are_told() -> None:
    store = make_store(TEXTS)
    with pytest.raises(UserError, match="no 'next' pairs: choose one of previous, random"):
        store.pairs(4, mode="next")
    with pytest.raises(UserError, match="max_offset 3 is for random pairs"):
        store.pairs(4, max_offset=3)
    with pytest.raises(UserError, match="max_offset 0"):
        store.pairs(4, mode="random", max_offset=0)
    with pytest.raises(UserError, match="batch of 0"):
        store.tokens(0)


# --- a real language model ---


@pytest.fixture(scope="module")
def lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def lm_store(lm: LanguageModel, corpus: Path, **options: Any) -> ActivationStore:
    options = {"context_length": 32, "lm_batch_size": 4, "memory_bytes": 10**7, **options}
    return ActivationStore(
        lm,
        2,
        lambda start: DocumentStream.open(str(corpus), part="all", start=start, max_documents=20),
        log=lambda line: None,
        **options,
    )


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("bos", [False, True])
def test_activations_are_those_of_each_context_alone(
    lm: LanguageModel, tiny_corpus: Path, padding_side: str, bos: bool
) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(
        [document.text for document in DocumentStream.open(str(tiny_corpus), part="all")],
        bos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.padding_side = padding_side
    if bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    wrapped = LanguageModel.wrap(lm.model, tokenizer)
    assert wrapped.bos_id == (0 if bos else None)
    store = lm_store(wrapped, tiny_corpus)
    found = list(store.contexts(1))
    i = 0
    for text in DocumentStream.open(str(tiny_corpus), part="all", max_documents=20):
        ids = tokenizer(text.text, add_special_tokens=False)["input_ids"]
        room = 31 if bos else 32
        for start in range(0, len(ids), room):
            chunk = ids[start : start + room]
            if len(chunk) < 2:
                continue
            tokens = torch.tensor([[0, *chunk] if bos else chunk])
            with torch.no_grad():
                # hidden_states[0] is the embedding, so layer 2 is number 3
                x_LD = lm.model(tokens, output_hidden_states=True).hidden_states[3][0]
            contexts = found[i]
            i += 1
            assert contexts.tokens_NL.tolist() == tokens.tolist()
            assert contexts.document_N.item() == text.id
            assert contexts.mask_NL[0].tolist() == [not bos] + [True] * (tokens.shape[1] - 1)
            usable_L = contexts.mask_NL[0]
            torch.testing.assert_close(contexts.x_NLD[0][usable_L], x_LD[usable_L], rtol=1e-4, atol=1e-4)
    assert i == len(found)


def test_a_resumed_run_on_a_language_model_sees_the_same_bits(lm: LanguageModel, tiny_corpus: Path) -> None:
    memory = 700 * bytes_per_token(32)
    batches = lm_store(lm, tiny_corpus, memory_bytes=memory).pairs(64, mode="random")
    states, seen = [], []
    for _ in range(80):
        states.append(batches.state_dict())
        seen.append(next(batches))
    assert batches.epoch >= 1
    assert max(state["block"] for state in states) >= 2
    for place in (3, 20, 41, 70):
        resumed = lm_store(lm, tiny_corpus, memory_bytes=memory).pairs(64, mode="random")
        resumed.load_state_dict(states[place])
        for expected in seen[place : place + 10]:
            assert torch.equal(next(resumed), expected)


def test_batches_can_be_used_in_autograd(lm: LanguageModel, tiny_corpus: Path) -> None:
    x_BD = next(lm_store(lm, tiny_corpus).tokens(8))
    weight = torch.ones(32, requires_grad=True)
    (x_BD @ weight).sum().backward()
    assert torch.allclose(weight.grad, x_BD.sum(0))
