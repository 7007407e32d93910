"""ActivationBuffer: upstream's call gives the activations of the texts, and ends with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dictionary_learning import ActivationBuffer
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.documents import DocumentStream


@pytest.fixture(scope="module")
def lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture(scope="module")
def texts(tiny_corpus: Path) -> list[str]:
    stream = DocumentStream.open(str(tiny_corpus), part="all", max_documents=15)
    return [document.text for document in stream]


def are_in(found_ND: Tensor, expected_ND: Tensor) -> bool:
    """Whether each row stands in `expected_ND`, up to the rounding of a batch of another shape."""
    exact = "donot_use_mm_for_euclid_dist"
    return bool((torch.cdist(found_ND, expected_ND, compute_mode=exact).min(dim=1).values < 1e-3).all())


def make_buffer(texts: list[str], model: Any, submodule: Any, **options: Any) -> ActivationBuffer:
    small = {
        "n_ctxs": 100,
        "ctx_len": 16,
        "refresh_batch_size": 8,
        "out_batch_size": 1,
        "log": lambda line: None,
    }
    return ActivationBuffer(iter(texts), model, submodule, **{**small, **options})


@pytest.fixture(scope="module")
def expected(lm: LanguageModel, texts: list[str]) -> Tensor:
    """All activations after layer 2, from the store."""
    store = ActivationStore(
        lm,
        2,
        lambda start: DocumentStream(iter([{"text": text} for text in texts])),
        context_length=16,
        lm_batch_size=8,
        memory_bytes=10**8,
        log=lambda line: None,
    )
    return torch.cat(list(store.tokens(1, epochs=1)))


def test_upstream_s_call_works_on_an_nnsight_model(
    lm: LanguageModel, texts: list[str], expected: Tensor
) -> None:
    model = lm.nnsight
    buffer = ActivationBuffer(
        iter(texts),
        model,
        model.model.layers[2],
        d_submodule=32,
        n_ctxs=100,
        ctx_len=16,
        refresh_batch_size=8,
        out_batch_size=50,
        io="out",
        device="cpu",
        remove_bos=True,
        add_special_tokens=True,
    )
    batches = list(buffer)
    assert all(batch.shape == (50, 32) for batch in batches)
    # 100 contexts of 16 tokens are in memory together, and what does not fill a batch of each filling is left
    assert are_in(torch.cat(batches), expected)
    assert len(expected) - sum(map(len, batches)) < 50 * (1 + len(expected) // 1500)
    upstream = {"d_submodule": 32, "io": "out", "n_ctxs": 100, "ctx_len": 16, "refresh_batch_size": 8}
    assert {**buffer.config, **upstream, "out_batch_size": 50, "device": "cpu"} == buffer.config


def test_a_module_and_a_number_name_the_same_layer(
    lm: LanguageModel, texts: list[str], expected: Tensor
) -> None:
    by_number = torch.cat(list(make_buffer(texts, lm, 2)))
    assert len(by_number) == len(expected)
    assert are_in(by_number, expected)
    assert are_in(expected, by_number)
    assert torch.equal(torch.cat(list(make_buffer(texts, lm, lm.layers[2]))), by_number)
    assert torch.equal(torch.cat(list(make_buffer(texts, lm, 3, io="in"))), by_number)


def test_pairs_are_given_when_asked_for(lm: LanguageModel, texts: list[str]) -> None:
    batch = next(make_buffer(texts, lm, 2, out_batch_size=20, temporal=True, mode="random", max_offset=4))
    assert batch.shape == (20, 2, 32)


def test_the_buffer_ends_with_the_texts_and_says_so_once(lm: LanguageModel, texts: list[str]) -> None:
    lines: list[str] = []
    buffer = make_buffer(texts, lm, 2, out_batch_size=100, log=lines.append)
    n_tokens = sum(map(len, buffer))
    assert n_tokens > 0
    assert next(buffer, None) is None
    assert [line for line in lines if "ended" in line] == [
        f"the texts have ended: the buffer gave {n_tokens:,} tokens."
    ]


def test_an_endless_iterator_is_read_only_as_far_as_needed(lm: LanguageModel, texts: list[str]) -> None:
    n_read = 0

    def endless() -> Any:
        nonlocal n_read
        while True:
            for text in texts:
                n_read += 1
                yield text * 20

    next(ActivationBuffer(endless(), lm, 2, n_ctxs=10, ctx_len=16, out_batch_size=50, log=lambda line: None))
    assert n_read < 200


def test_special_tokens_stay_unless_they_are_removed(lm: LanguageModel) -> None:
    texts = ["one two three<|endoftext|>four five six"] * 2
    n_kept = sum(map(len, make_buffer(texts, lm, 2)))
    n_removed = sum(map(len, make_buffer(texts, lm, 2, remove_bos=True)))
    assert n_kept == n_removed + 2


def test_text_batch_gives_the_next_texts(lm: LanguageModel, texts: list[str]) -> None:
    buffer = make_buffer(texts, lm, 2)
    assert buffer.text_batch() == texts[:8]
    assert buffer.text_batch(3) == texts[8:11]
    assert buffer.text_batch(100) == texts[11:]
    with pytest.raises(StopIteration):
        buffer.text_batch()


@pytest.mark.parametrize(
    ("submodule", "options", "sentence"),
    [
        (2, {"d_submodule": 64}, "d_submodule is 64, but .* width 32"),
        (2, {"io": "in_and_out"}, "io 'in_and_out' of layer 2"),
        (0, {"io": "in"}, "io 'in' of layer 0"),
        (9, {}, "layer 9"),
        (torch.nn.Linear(1, 1), {}, "Linear is no decoder layer"),
    ],
)
def test_wrong_options_are_told(
    lm: LanguageModel, submodule: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_buffer(["a text"], lm, submodule, **options)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("The Senate met.", "one text is given where several are wanted: put 'The Senate met.' into a list"),
        ([{"text": "The Senate met."}], r"of type dict, .* give \(record\[\"text\"\] for record in data\)"),
        ([b"The Senate met."], "of type bytes, and texts are strings"),
    ],
)
def test_data_that_are_no_texts_are_told(lm: LanguageModel, data: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        next(ActivationBuffer(data, lm, 2, log=lambda line: None))


def test_sizes_may_be_whole_floats_and_a_missing_device_is_told(
    lm: LanguageModel, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert next(make_buffer(texts, lm, 2, ctx_len=16.0, out_batch_size=4.0)).shape == (4, lm.d_model)
    with pytest.raises(UserError, match=r"ctx_len is 16\.5, and must be a whole number"):
        make_buffer(texts, lm, 2, ctx_len=16.5)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="cuda does not exist on this machine"):
        make_buffer(texts, lm, 2, device="cuda")
