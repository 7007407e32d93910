"""Tokens/s from text to the activation store, against the bare model on the same padded batches.

    python benchmarks/text_to_store.py

The store's time covers all it does with texts in memory: tokenising, cutting, padding, the language model,
masks and norms, writing. The bare model is a plain forward pass through the layers up to the recorded one, on
the very batches that the store made. Rounds of the two alternate; the medians are compared, and the fewest
seconds of the processor, which other work on the machine lengthens less than those of the clock.
"""

import json
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine_facts
from torch import Tensor

from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.documents import Document, DocumentStream


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--model", default="demo", help="language model")
    flags.add_argument("--dataset", default="demo", help="texts")
    flags.add_argument("--layer", type=int, default=15, help="layer whose activations are stored")
    flags.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="of the language model")
    flags.add_argument("--tokens", type=int, default=16_384, help="tokens a round")
    flags.add_argument("--context_length", type=int, default=256, help="tokens a context")
    flags.add_argument("--lm_batch_size", type=int, default=8, help="contexts a batch")
    flags.add_argument("--rounds", type=int, default=5, help="rounds of each of the two")
    flags.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "text_to_store.json")
    return flags


class Recorder(LanguageModel):
    """A language model that keeps the batches it was given."""

    batches: list[tuple[Tensor, Tensor]]

    def record_several(self, tokens_BL: Tensor, mask_BL: Tensor, layers: Sequence[Any]) -> list[Tensor]:
        self.batches.append((tokens_BL, mask_BL))
        return super().record_several(tokens_BL, mask_BL, layers)


def fill(lm: Recorder, documents: list[Document], flags: Namespace) -> ActivationStore:
    """A store that holds the activations of the documents."""
    lm.batches = []

    def stream(start: int) -> DocumentStream:
        records: Iterator[dict[str, str]] = ({"text": document.text} for document in documents[start:])
        return DocumentStream(records, start=start)

    store = ActivationStore(
        lm,
        flags.layer,
        stream,
        context_length=flags.context_length,
        lm_batch_size=flags.lm_batch_size,
        memory_bytes=10**10,
        max_tokens=flags.tokens,
        log=lambda line: None,
    )
    next(store.contexts(1))
    return store


@torch.no_grad()
def run_bare(lm: Recorder) -> None:
    for tokens_BL, mask_BL in lm.batches:
        lm.model.base_model(input_ids=tokens_BL, attention_mask=mask_BL.long(), use_cache=False)


def measure(dtype: str, documents: list[Document], flags: Namespace) -> dict[str, float | int | str]:
    """Medians over the rounds, in tokens that are not padding a second."""
    lm = Recorder.load(flags.model, dtype=dtype)
    lm.truncate(flags.layer)
    n_tokens = fill(lm, documents, flags).statistics.n_positions
    run_bare(lm)
    of_store, of_bare, store_cpu, bare_cpu = [], [], [], []
    for _ in range(flags.rounds):
        began, began_cpu = time.perf_counter(), time.process_time()
        fill(lm, documents, flags)
        between, between_cpu = time.perf_counter(), time.process_time()
        run_bare(lm)
        of_store.append(between - began)
        store_cpu.append(between_cpu - began_cpu)
        of_bare.append(time.perf_counter() - between)
        bare_cpu.append(time.process_time() - between_cpu)
    store, bare = statistics.median(of_store), statistics.median(of_bare)
    n_padded = sum(tokens_BL.numel() for tokens_BL, _ in lm.batches)
    return {
        "dtype": dtype,
        "tokens": n_tokens,
        "padding_share": round(1 - n_tokens / n_padded, 4),
        "store_tokens_per_second": round(n_tokens / store),
        "bare_tokens_per_second": round(n_tokens / bare),
        "ratio": round(bare / store, 3),
        "ratio_of_the_fastest_rounds": round(min(of_bare) / min(of_store), 3),
        "ratio_of_fewest_processor_seconds": round(min(bare_cpu) / min(store_cpu), 3),
    }


def main(argv: list[str] | None = None) -> None:
    flags = parser().parse_args(argv)
    documents: list[Document] = []
    n_characters = 0
    for document in DocumentStream.open(flags.dataset, part="all"):
        documents.append(document)
        n_characters += len(document.text)
        if n_characters > 8 * flags.tokens:
            break
    results = []
    for dtype in flags.dtypes:
        results.append(measure(dtype, documents, flags))
        print(results[-1])
    options = {name: value for name, value in vars(flags).items() if name != "out"}
    record = {"options": options, "machine": machine_facts(), "results": results}
    flags.out.parent.mkdir(exist_ok=True)
    flags.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
