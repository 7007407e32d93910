"""Examples and co-activation of all latents over a long corpus: time and memory, without a language model.

    python benchmarks/latent_examples.py
    python benchmarks/latent_examples.py --latents 4608 --tokens 100000

Codes are random: k latents a token, the common ones as frequent as in a power law, in contexts of 128. What
it takes to make them is measured first and subtracted. The result goes to benchmarks/results/.
"""

import json
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine import machine_facts
from scipy import sparse

from dictionary_learning.command import cli
from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from temporal_saes.latents.coactivation import Coactivation
from temporal_saes.latents.codes import CHUNK_TOKENS, CodesOfContexts
from temporal_saes.latents.collector import collect

CONTEXT = 128


@dataclass(frozen=True)
class Options:
    """How much there is to go over."""

    latents: int = option(16_384, "latents of the dictionary")
    tokens: int = option(1_000_000, "tokens of the corpus")
    k: int = option(20, "latents that are active at a token")


def random_codes(options: Options) -> Iterator[CodesOfContexts]:
    """Chunks of contexts of 128 tokens."""
    generator = np.random.default_rng(0)
    share_F = 1 / np.arange(1, options.latents + 1) ** 0.7
    below_F = np.cumsum(share_F / share_F.sum())
    for _ in range(0, options.tokens, CHUNK_TOKENS):
        drawn = np.searchsorted(below_F, generator.random(CHUNK_TOKENS * options.k))
        column_N = np.minimum(drawn, options.latents - 1)
        row_N = np.repeat(np.arange(CHUNK_TOKENS), options.k)
        values_N = generator.exponential(1, len(row_N)).astype(np.float32)
        codes_TF = sparse.csr_array((values_N, (row_N, column_N)), shape=(CHUNK_TOKENS, options.latents))
        codes_TF.sum_duplicates()
        yield CodesOfContexts(
            generator.integers(0, 50_000, CHUNK_TOKENS).astype(np.int32),
            np.ones(CHUNK_TOKENS, dtype=bool),
            np.arange(0, CHUNK_TOKENS + 1, CONTEXT),
            codes_TF,
            np.arange(CHUNK_TOKENS // CONTEXT),
        )


def main(argv: list[str] | None = None) -> None:
    """Measure, print and save."""
    made = Parser(description=__doc__)
    add_options(made, Options)
    options = build(Options, vars(made.parse_args(argv)))

    began = time.perf_counter()
    n_chunks = sum(1 for _ in random_codes(options))
    making = time.perf_counter() - began

    began = time.perf_counter()
    collect(
        random_codes(options),
        options.latents,
        n_top=12,
        per_quantile=3,
        n_weighted=0,
        window=CONTEXT,
        context_length=CONTEXT,
    )
    collecting = time.perf_counter() - began - making
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    began = time.perf_counter()
    together = Coactivation(options.latents)
    for codes in random_codes(options):
        together.add(codes.codes_TF)
    together.nearest(8)
    pairing = time.perf_counter() - began - making

    result = {
        **asdict(options),
        "tokens": n_chunks * CHUNK_TOKENS,
        "examples_s": round(collecting, 1),
        "coactivation_s": round(pairing, 1),
        "examples_peak_gb": round(peak / 1e6, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "machine": machine_facts(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    save_text(Path(__file__).parent / "results" / "latent_examples.json", text + "\n")


if __name__ == "__main__":
    cli.run(main)
