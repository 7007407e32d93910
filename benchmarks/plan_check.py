"""What `--plan cpu` says against what is measured, at three small sizes, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/plan_check.py

A random Llama of each width reads random words; a T-SAE is trained on them and evaluated. Times are this
process's own (the least of several), so that others on the machine count little. Writes
benchmarks/results/plan_check.json.
"""

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import make_tokenizer
from machine import machine_facts

from dictionary_learning.activations.block import BEGINNING
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.cache_activations import main as write_cache
from dictionary_learning.evaluation.measures import evaluate_together
from dictionary_learning.jobs.costs import Sizes, evaluation, plan
from dictionary_learning.jobs.machines import this_cpu
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.sizes import read_sizes
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKTrainer

# width of the model, latents, pairs a step
SIZES = ((128, 1024, 512), (256, 2048, 512), (384, 4096, 1024))
N_LAYERS, LAYER, LENGTH, K = 6, 3, 128, 20


def least(repeats: int, work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def make_model(width: int, folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer([" ".join(f"w{i}" for i in range(200))], eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    heads = width // 64
    config = LlamaConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=N_LAYERS, vocab_size=8192,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=LENGTH,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def make_texts(n_documents: int, path: Path) -> None:
    draw = random.Random(0)
    texts = [" ".join(f"w{draw.randrange(200)}" for _ in range(LENGTH)) for _ in range(n_documents)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def store_of(lm: LanguageModel, texts: Path, lm_batch_size: int) -> ActivationStore:
    """The activations of all texts of a file, none of which is left out."""
    return ActivationStore(
        lm,
        LAYER,
        lambda start: DocumentStream.open(str(texts), start=start, part="all", eval_share=0),
        context_length=LENGTH,
        lm_batch_size=lm_batch_size,
        memory_bytes=2**28,
        max_norm_ratio=None,
        log=lambda line: None,
    )


def measure(width: int, n_latents: int, batch_size: int, folder: Path, repeats: int) -> dict[str, Any]:
    make_model(width, folder / "lm")
    make_texts(8192 // width, folder / "texts.jsonl")
    lm = LanguageModel.load(str(folder / "lm"), device="cpu", dtype="float32")

    def store() -> ActivationStore:
        return store_of(lm, folder / "texts.jsonl", lm_batch_size=8)

    read = store()
    block = read.block(BEGINNING)
    n_positions = block.statistics.n_positions
    trainer = TemporalMatryoshkaBatchTopKTrainer(
        steps=100, activation_dim=width, dict_size=n_latents, k=K, form="paper", temperature=0.1, seed=0,
        device="cpu", warmup_steps=0,
    )  # fmt: skip
    batches = read.pairs(batch_size)
    for step in range(3):
        trainer.update(step, next(batches))
    pairs = next(batches)
    trainer.calibrate([next(batches) for _ in range(4)])  # without it an evaluation finds dense codes

    def measured(n_dictionaries: int) -> None:
        dictionaries = {f"{i}": trainer.ae for i in range(n_dictionaries)}
        evaluate_together(
            dictionaries, store().numbered_contexts(16, unmasked=True), lm=lm, layer=LAYER,
            loss_tokens=n_positions,
        )  # fmt: skip

    seconds = {
        "harvest": least(repeats, lambda: store().block(BEGINNING)),
        "one step": least(3 * repeats, lambda: trainer.update(5, pairs)),
        "evaluation": least(repeats, lambda: measured(1)),
        "evaluation of 3": least(repeats, lambda: measured(3)),
    }
    words = f"--model {folder}/lm --layer {LAYER} --device cpu --context_length {LENGTH} --lm_batch_size 8"
    words += f" --dataset {folder}/texts.jsonl --eval_share 0 --memory 256MB"
    written: list[Path] = []

    def write() -> None:
        written.append(folder / f"cache{len(written)}")
        write_cache([*words.split(), "--activations", str(written[-1])])

    seconds["cache"] = least(repeats, write)
    n_bytes = sum(path.stat().st_size for path in written[0].glob("*.safetensors"))

    model = read_sizes(str(folder / "lm"))
    sizes = Sizes(
        n_layers=model.n_layers, n_read_layers=LAYER + 1, layer_parameters=model.layer_parameters,
        vocab_size=model.vocab_size, d_model=width, arch="temporal", unit="pairs", n_latents=n_latents,
        batch_size=batch_size, k=K, processes=1, context_length=LENGTH, steps=1, tokens=n_positions,
        distinct_tokens=n_positions, memory=2**28, lm_dtype="float32", lm_batch_size=8,
        eval_tokens=n_positions, loss_tokens=n_positions,
    )  # fmt: skip
    machine = this_cpu(width, n_latents, "float32")
    costs = plan(sizes, machine) | {"evaluation of 3": evaluation(sizes, machine, 3)}
    return {
        "sizes": dataclasses.asdict(sizes),
        "rates": {name: value for name, value in dataclasses.asdict(machine).items() if name != "source"},
        "seconds": {name: {"plan": costs[name].seconds, "measured": s} for name, s in seconds.items()},
        "cache_bytes": {"plan": costs["cache"].disk, "measured": n_bytes},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'D':>5}{'F':>7}{'B':>6}  {'':<12}{'plan':>10}{'measured':>10}{'plan / measured':>17}")
    for width, n_latents, batch_size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(width, n_latents, batch_size, Path(folder), arguments.repeats)
        rows.append(row)
        told = {name: (pair, 1e3, "ms") for name, pair in row["seconds"].items()}
        told["cache bytes"] = (row["cache_bytes"], 1e-6, "MB")
        for name, (pair, scale, unit) in told.items():
            planned, measured = pair["plan"], pair["measured"]
            print(
                f"{width:>5}{n_latents:>7}{batch_size:>6}  {name:<12}{planned * scale:>7.4g} {unit}"
                f"{measured * scale:>7.4g} {unit}{planned / measured:>17.2f}",
                flush=True,
            )
    path = Path(__file__).parent / "results" / "plan_check.json"
    path.write_text(json.dumps({"machine": machine_facts(), "rows": rows}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
