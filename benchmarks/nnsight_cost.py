"""Recording a layer with a plain hook against nnsight, on the same weights and the same tokens.

    python benchmarks/nnsight_cost.py
    python benchmarks/nnsight_cost.py --model tiny      # without the demo's model

Both stop after the middle layer. Their calls alternate; the cost is the median of the differences
within a round. A tiny random model shows the cost of the call itself. Writes
benchmarks/results/nnsight_cost.json.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine_facts
from torch import Tensor

from dictionary_learning.command import cli
from dictionary_learning.command.options import Parser
from dictionary_learning.language_model import LanguageModel

RESULT = Path(__file__).parent / "results" / "nnsight_cost.json"
# texts, tokens a text, rounds
SIZES = [(1, 16, 40), (1, 128, 20), (8, 128, 8), (8, 256, 5)]


def tiny_model() -> LanguageModel:
    """A random Llama of 4 layers and width 64, whose own work takes next to no time."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    return LanguageModel(LlamaForCausalLM(config), PreTrainedTokenizerFast(tokenizer_object=words), "tiny")


@torch.no_grad()
def record_with_nnsight(lm: LanguageModel, tokens_BL: Tensor, mask_BL: Tensor, layer: int) -> Tensor:
    module = lm.nnsight.get(f"{lm.layers_path}.{layer}")
    encoding = {"input_ids": tokens_BL, "attention_mask": mask_BL.long()}
    with lm.nnsight.trace(encoding, use_cache=False) as tracer:
        output = module.output.save()
        tracer.stop()
    return output


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def compare(lm: LanguageModel, texts: int, length: int, rounds: int) -> dict[str, Any]:
    layer = lm.n_layers // 2
    generator = torch.Generator().manual_seed(0)
    tokens_BL = torch.randint(lm.vocab_size, (texts, length), generator=generator)
    mask_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    runs: dict[str, Callable[[], Tensor]] = {
        "hook": lambda: lm.record(tokens_BL, mask_BL, layer),
        "nnsight": lambda: record_with_nnsight(lm, tokens_BL, mask_BL, layer),
        "whole pass": lambda: lm.logits(tokens_BL, mask_BL),
    }
    equal = torch.equal(runs["hook"](), runs["nnsight"]())
    times = [{name: milliseconds(run) for name, run in runs.items()} for _ in range(rounds)]
    row: dict[str, Any] = {
        "model": lm.name,
        "texts": texts,
        "tokens": length,
        "layer": layer,
        "rounds": rounds,
    }
    row |= {f"{name.replace(' ', '_')}_ms": statistics.median(time[name] for time in times) for name in runs}
    row["cost_ms"] = statistics.median(time["nnsight"] - time["hook"] for time in times)
    row["cost_share"] = row["cost_ms"] / row["hook_ms"]
    row["equal_bits"] = equal
    return row


def line(row: dict[str, Any]) -> str:
    size = f"{row['texts']} x {row['tokens']}"
    times = "".join(f"{row[name]:>9.2f} ms" for name in ("hook_ms", "nnsight_ms", "cost_ms"))
    equal = "yes" if row["equal_bits"] else "NO"
    return (
        f"{row['model']:8}{size:>15}{times}{row['cost_share']:>7.1%}{row['whole_pass_ms']:>11.2f} ms  {equal}"
    )


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--model", default="demo", help="hub id, folder, demo, or tiny for the tiny one only")
    flags.add_argument("--dtype", default="float32", help="of the model (default: float32)")
    return flags


def main(argv: list[str] | None = None) -> None:
    options = parser().parse_args(argv)
    models = [tiny_model()]
    if options.model != "tiny":
        models.append(LanguageModel.load(options.model, dtype=options.dtype))
    print("model    texts x tokens        hook     nnsight        cost          whole pass  equal")
    rows = []
    for lm in models:
        for size in SIZES:
            row = compare(lm, *size)
            rows.append(row)
            print(line(row))
    import nnsight
    import transformers

    versions = {"nnsight": nnsight.__version__, "transformers": transformers.__version__}
    result = {"options": vars(options), "machine": {**machine_facts(), **versions}, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    cli.run(main)
