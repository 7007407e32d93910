"""Batches of means over sentences, turns and documents, worked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import corpus_records
from tokenizer_kinds import FOREIGN, KINDS, tiny_lm, tokenizer_of

from dictionary_learning import cache_activations, eval_temporal, train_baseline, train_temporal
from dictionary_learning.activations.batches import MeanView, PairView, _of_about
from dictionary_learning.activations.block import BEGINNING, Block
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.token_text import Sentences
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.texts.spans import number_of, spans_of


class Letters:
    """A tokenizer of one-letter tokens: 1 is A, 2 is B, ...; 0 is a full stop with a blank."""

    def __len__(self) -> int:
        return 9

    def convert_ids_to_tokens(self, number: int) -> str:
        return ". " if number == 0 else chr(64 + number)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(self.convert_ids_to_tokens, ids))


def block(norm: list[float] | None = None) -> Block:
    """Two contexts: of "AB. CDE. F" with a BOS in front, and of "G" and "HA" with a mark between."""
    tokens_T = torch.tensor([8, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 8, 1], dtype=torch.int32)
    text_T = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1], dtype=torch.bool)
    start_C = torch.tensor([0, 9, 13])
    number_C = torch.arange(2)
    packed = PackedTokens(tokens_T, text_T, start_C, number_C, number_C, number_C)
    x_TD = torch.arange(13.0)[:, None] * torch.tensor([1.0, 2.0])
    norm_T = torch.tensor(norm) if norm else torch.ones(13)
    return Block.of(packed, x_TD, norm_T, 10.0, start=BEGINNING, next=None)


def means(view: MeanView, of: Block) -> list[float]:
    items = view.items(of, torch.Generator().manual_seed(0))
    found = view.take(of, items)
    assert torch.equal(found[:, 1], 2 * found[:, 0])
    return sorted(found[:, 0].tolist())


def test_means_are_over_the_usable_tokens_of_each_span() -> None:
    # rows 1 2 3 are AB. ; 4 5 6 7 are CDE. ; 8 is F ; 9 is G ; 11 12 are HA
    assert means(MeanView("sentence", Letters()), block()) == [2, 5.5, 8, 9, 11.5]
    assert means(MeanView("turn"), block()) == [4.5, 9, 11.5]
    assert means(MeanView("document"), block()) == pytest.approx([4.5, 32 / 3])


def test_a_sink_is_in_no_mean_and_cuts_no_span() -> None:
    norm = [1.0] * 13
    norm[5] = norm[8] = norm[9] = 99.0  # D; F, the only token of its sentence; G, of its turn
    assert means(MeanView("sentence", Letters()), block(norm)) == pytest.approx([2, 17 / 3, 11.5])
    assert means(MeanView("turn"), block(norm)) == pytest.approx([(1 + 2 + 3 + 4 + 6 + 7) / 6, 11.5])


def test_contexts_of_means_have_a_position_a_span() -> None:
    view, one = MeanView("sentence", Letters()), block()
    found = view.contexts(one, torch.tensor([0, 1]))
    assert found.mask_NL.tolist() == [[True, True, True], [True, True, False]]
    assert found.x_NLD[..., 0].tolist() == [[2, 5.5, 8], [9, 11.5, 0]]
    assert found.tokens_NL.tolist() == [[0, 0, 6], [7, 1, 0]]  # the last of each
    alone = view.contexts(one, torch.tensor([1]))
    assert alone.x_NLD[..., 0].tolist() == [[9, 11.5]]
    assert alone.document_N.tolist() == [1]


def test_every_span_is_given_once_an_epoch_in_another_order() -> None:
    view, one = MeanView("sentence", Letters()), block()
    orders = [view.items(one, torch.Generator().manual_seed(seed)).tolist() for seed in range(6)]
    assert len({str(order) for order in orders}) > 1
    assert all(sorted(order) == [[0, 3], [3, 7], [7, 8], [8, 9], [9, 11]] for order in orders)


def test_spans_are_averaged_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(s.start, s.stop) for s in _of_about(torch.tensor([3, 4, 9, 1, 1]), 7)] == [
        (0, 2),
        (2, 3),
        (3, 5),
    ]
    view = MeanView("sentence", Letters())
    whole = means(view, block())
    monkeypatch.setattr("dictionary_learning.activations.batches._ROWS_AT_A_TIME", 2)
    assert means(view, block()) == whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    ["The comet is faint. A judge? No.", "今日は雨です。傘はある？「ない。」", "वह गया। क्या?", *FOREIGN],
)
def test_tokens_alone_say_which_sentence_they_are_of(kind: str, text: str) -> None:
    """A character that several tokens share is all of theirs, as in the offsets of the text itself."""
    tokenizer = tokenizer_of(kind)
    encoded = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True)
    spans = spans_of("sentence", text)
    expected = [number_of(token, spans, text) for token in encoded["offset_mapping"][0]]
    assert Sentences(tokenizer)(encoded["input_ids"][0]) == expected


@pytest.mark.parametrize("pool", ["sentence", "document"])
def test_a_store_gives_the_means_of_its_own_contexts(pool: str) -> None:
    lm = tiny_lm("dummy_prefix")
    records = corpus_records(20)
    store = ActivationStore(
        lm,
        2,
        lambda start: DocumentStream(iter(records[start:]), start=start),
        context_length=40,
        lm_batch_size=4,
        memory_bytes=2**22,
        log=lambda line: None,
    )
    given = torch.cat([*store.means(1, pool, lm.tokenizer, epochs=1)])
    expected = []
    sentences = Sentences(lm.tokenizer)
    for batch in store.contexts(1):
        x_uD = batch.x_NLD[batch.mask_NL]
        ids = batch.tokens_NL[0, 1:].tolist()  # without the BOS
        numbers = torch.tensor([-1, *(sentences(ids) if pool == "sentence" else [0] * len(ids))])
        number_u = numbers[batch.mask_NL[0]]
        expected += [x_uD[number_u == n].mean(0) for n in number_u.unique()]
    expected_SD = torch.stack(expected)
    assert len(given) == len(expected_SD)
    order, expected_order = given[:, 0].argsort(stable=True), expected_SD[:, 0].argsort(stable=True)
    torch.testing.assert_close(given[order], expected_SD[expected_order], rtol=1e-5, atol=1e-5)


# --- runs ---

SIZES = [
    *("--dict_size", "64", "--k", "4", "--steps", "6", "--warmup_steps", "1"),
    *("--threshold_start_step", "1", "--calibration_tokens", "64"),
]


def model_flags(lm: Path, data: str | Path) -> list[str]:
    return [*("--model", str(lm), "--layer", "1", "--context_length", "48"), "--dataset", str(data)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in corpus_records(60)))
    return path


def test_a_run_on_means_is_the_same_with_a_cache_and_says_what_it_was_trained_on(
    tiny_lm_folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = model_flags(tiny_lm_folder, corpus)
    cache = ["--activations", str(tmp_path / "cache")]
    cache_activations.main([*data, *cache])
    where = ["--checkpoints_path", str(tmp_path / "runs")]
    more = ["--arch", "batch_top_k", *SIZES, "--batch_size", "32", "--pool", "sentence"]
    train_baseline.main([*data, *where, *more, "--run_name", "live"])
    train_baseline.main([*cache, *where, *more, "--run_name", "cached"])
    assert "6 steps of 32 sentences" in capsys.readouterr().err
    paths = [tmp_path / "runs" / name / "trainer_0/ae.pt" for name in ("live", "cached")]
    weights = [torch.load(path, weights_only=True) for path in paths]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert "pool: sentence" in (tmp_path / "runs/live/config.yaml").read_text()
    config = json.loads((tmp_path / "runs/live/trainer_0/config.json").read_text())
    assert config["buffer"]["pool"] == "sentence"
    eval_temporal.main([*where, "--run_name", "live", "--max_tokens", "300", "--no_lm_loss"])
    result = json.loads((tmp_path / "runs/live/trainer_0/eval_results.json").read_text())
    assert (result["trained_on"], result["setting"]["pool"]) == ("sentence", "sentence")
    said = "live: trained on means over sentences, and measured on"
    assert f"{said} means over sentences; what is counted as tokens are sentences" in capsys.readouterr().err
    on_tokens = [*where, "--run_name", "live", "--max_tokens", "300", "--pool", "token"]
    eval_temporal.main([*on_tokens, "--loss_tokens", "100", "--output_dir", str(tmp_path / "tokens")])
    other = json.loads((tmp_path / "tokens/live_eval_results_pool-token.json").read_text())
    assert other["setting"]["pool"] == "token"
    assert f"{said} single tokens" in capsys.readouterr().err
    assert other["tokens"] > 2 * result["tokens"]
    assert other["contexts"] == result["contexts"]
    assert "loss_recovered" in other["measures"]["all"]
    assert "loss_recovered" not in result["measures"]["all"]
    with pytest.raises(UserError, match=r"--pool document \(the run has sentence\)"):
        train_baseline.main([*where, "--run_name", "live", "--resume", "--pool", "document"])


def test_a_run_on_means_goes_on_where_it_stopped(tiny_lm_folder: Path, corpus: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    records = corpus_records(20)

    def store() -> ActivationStore:
        return ActivationStore(
            lm,
            1,
            lambda start: DocumentStream(iter(records[start:]), start=start),
            context_length=48,
            lm_batch_size=4,
            memory_bytes=2**17,  # several blocks
            log=lambda line: None,
        )

    whole = store().means(8, "sentence", lm.tokenizer)
    first = [next(whole) for _ in range(5)]
    state = whole.state_dict()
    following = [next(whole) for _ in range(30)]
    again = store().means(8, "sentence", lm.tokenizer)
    again.load_state_dict(state)
    assert all(torch.equal(one, next(again)) for one in following)
    assert len(first) == 5


def test_turns_of_a_chat_are_averaged_from_the_cache(chat_lm_folder: Path, tmp_path: Path) -> None:
    texts = [record["text"] for record in corpus_records(60)]
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": a[:40]}, {"role": "assistant", "content": b[:60]}]}
        for a, b in zip(texts[::2], texts[1::2], strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cache = ["--activations", str(tmp_path / "cache")]
    data = [
        *("--model", str(chat_lm_folder), "--layer", "1", "--context_length", "128"),
        "--dataset",
        str(path),
    ]
    cache_activations.main([*data, "--chat_template", *cache, "--eval_share", "0"])
    store = ActivationCache.open(tmp_path / "cache").store("train", log=lambda line: None)
    found = torch.cat([*store.means(1, "turn", epochs=1)])
    assert len(found) == 2 * len(rows)  # every turn is in one context
    run = ["--checkpoints_path", str(tmp_path / "runs"), "--run_name", "turns", "--arch", "top_k", *SIZES]
    train_baseline.main([*cache, *run, "--batch_size", "16", "--pool", "turn"])
    assert (tmp_path / "runs/turns/trainer_0/ae.pt").is_file()


@pytest.mark.parametrize(
    ("main", "more", "sentence"),
    [
        (
            train_temporal.main,
            [],
            "--pool is sentence, and a T-SAE's pairs and a TemporalSAE's sequences are of",
        ),
        (train_baseline.main, ["--plan"], "--plan cannot know how many tokens a sentence has"),
        (
            train_baseline.main,
            ["--pool", "turn"],
            "--pool is turn, and turns are those of chats: add --chat_t",
        ),
        (train_baseline.main, ["--batch_size", "9000"], "cannot be filled: the corpus gives .* spans"),
    ],
)
def test_where_means_make_no_sense_it_is_one_sentence(
    tiny_lm_folder: Path, corpus: Path, tmp_path: Path, main: Any, more: list[str], sentence: str
) -> None:
    words = [*model_flags(tiny_lm_folder, corpus), "--checkpoints_path", str(tmp_path / "runs"), *SIZES]
    with pytest.raises(UserError, match=sentence):
        main([*words, "--run_name", "means", "--batch_size", "32", "--pool", "sentence", *more])
    assert not (tmp_path / "runs" / "means").exists()


@pytest.mark.parametrize("view", [PairView, MeanView])
def test_sentences_are_not_found_without_a_tokenizer(view: type) -> None:
    with pytest.raises(
        UserError, match=r"says where sentences end: give the model's, tokenizer=lm\.tokenizer"
    ):
        view("sentence")
