"""How much of an activation do earlier ones like it tell? The idea behind the start of a TemporalSAE.

    python benchmarks/recall.py --activations runs/demo/activations

Every token is predicted by the average of the earlier tokens of its context, weighted by the softmax of
sharpness times their cosine with it, around the mean of all tokens; as in a TemporalSAE the prediction is
scaled to fit. Nothing is trained. Writes benchmarks/results/recall.json.
"""

import argparse
import json
from pathlib import Path

import torch
from machine import machine_facts

from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.command import cli
from dictionary_learning.dictionaries.context_mean import recalled

RESULTS = Path(__file__).parent / "results"
SHARPNESS = (0, 2, 4, 6, 8, 10, 12, 16, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activations", type=Path, required=True, help="cache with a part 'eval'")
    parser.add_argument("--max_tokens", type=int, default=20_000)
    args = parser.parse_args()
    store = ActivationCache.open(args.activations).store("eval", max_tokens=args.max_tokens)
    batches = [Sequences.of(contexts.x_NLD.float(), contexts.mask_NL) for contexts in store.contexts(16)]
    mean_D = torch.cat([batch.x_TD for batch in batches]).mean(0)
    explained = {}
    for sharpness in SHARPNESS:
        left = total = 0.0
        for batch in batches:
            x_NLD = batch.padded() - mean_D
            x_TD, guess_TD = batch.tokens(x_NLD), batch.tokens(recalled(x_NLD, sharpness))
            scale_T1 = (x_TD * guess_TD).sum(1, keepdim=True) / (
                guess_TD.square().sum(1, keepdim=True) + 1e-9
            )
            left += float((x_TD - scale_T1 * guess_TD).square().sum())
            total += float(x_TD.square().sum())
        explained[sharpness] = round(1 - left / total, 4)
        print(f"sharpness {sharpness:2}: {explained[sharpness]:.3f} of the variance")
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": machine_facts(), "tokens": sum(map(len, batches)), "variance_explained": explained}
    (RESULTS / "recall.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
