"""T-SAE, Matryoshka and BatchTopK at one budget on the demo's texts: quality, smoothness, probes.

    python benchmarks/three_methods.py

SmolLM2 layer 15, 4,608 latents, k 20, three seeds, 1.5 million pairs (750 steps of 2,048): the language
model runs once over the training texts, every method trains on those activations, and all are evaluated
on the same held-out documents and probed on the same labelled extracts. What is finished is not done
again. Takes about an hour on two cores. Writes benchmarks/results/three_methods.json and .md.
"""

import argparse
import json
import sys
from pathlib import Path

from trained_runs import evaluate_all, folders, train_missing, write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from dictionary_learning.command import cli
from experiments import probing

METHODS = {"temporal": "T-SAE", "matryoshka": "Matryoshka", "batch_top_k": "BatchTopK"}
PROBE_K = 10
EVALUATION = "three_methods_eval.json"


def probe_all(runs: Path, n_train: int, n_test: int) -> None:
    """Probe the high-level split, the rest and the whole of each dictionary."""
    sizes = ["--n_train", str(n_train), "--n_test", str(n_test), "--k", str(PROBE_K), "--repeats", "5"]
    for path in folders(runs, METHODS):
        for chunk in chunks(path):
            if not probing_path(path, chunk).exists():
                where = ["--run_name", path.parent.name, "--trainer", path.name.split("_")[1]]
                where += ["--output_dir", str(probing_path(path, chunk).parent), "--chunk", str(chunk)]
                probing.main([*where, "--checkpoints_path", str(runs), *sizes])
    if not list(runs.glob("baseline_model/probing/*.json")):
        place = ["--model", "demo", "--layer", "15", "--context_length", "128"]
        probing.main(["--run_name", "baseline_model", "--checkpoints_path", str(runs), *place, *sizes])


def chunks(trainer: Path) -> tuple[int, ...]:
    """What is probed: the whole and the high-level split; the low-level one of the first seed alone."""
    if trainer.parent.name == "batch_top_k":
        return (2,)
    return (0, 1, 2) if trainer.name == "trainer_0" else (0, 2)


def probing_path(trainer: Path, chunk: int) -> Path:
    folder = trainer / f"probing_{chunk}"
    return next(iter(folder.glob("*.json")), folder / "missing.json")


def collect(runs: Path) -> dict:
    """{method: {measure: [one value a seed]}}"""
    table: dict[str, dict[str, list[float]]] = {}
    for path in folders(runs, METHODS):
        rows = table.setdefault(METHODS[path.parent.name], {})
        measures = json.loads((path / EVALUATION).read_text())["measures"]
        whole = measures["all"]
        values = {
            "FVE, mean of contexts": whole["fve_context_mean"]["value"],
            "FVE, global": whole["fve_global"]["value"],
            "cosine": whole["cosine"]["value"],
            "L0, held out": whole["l0"]["value"],
            "alive": whole["alive"]["value"],
            "cross-entropy recovered": whole["loss_recovered"]["value"],
            "smoothness, all": whole["smoothness_lipschitz"]["value"],
        }
        for split in ("high", "low"):
            if split in measures:
                values[f"smoothness, {split}"] = measures[split]["smoothness_lipschitz"]["value"]
                values[f"L0, {split}"] = measures[split]["l0"]["value"]
        for chunk in chunks(path):
            tasks = json.loads(probing_path(path, chunk).read_text())["tasks"]
            for task, result in tasks.items():
                name = f"{task}, {('high', 'low', 'all')[chunk]} latents"
                values[name] = result["accuracy"][0]["mean"]
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    for path in runs.glob("baseline_model/probing/*.json"):
        tasks = json.loads(path.read_text())["tasks"]
        table["dense activations"] = {
            f"{task}, all latents": [result["accuracy"][0]["mean"]] for task, result in tasks.items()
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/three_methods"), help="folder of the runs")
    parser.add_argument("--max_tokens", type=int, default=750_000, help="training tokens read once")
    parser.add_argument("--steps", type=int, default=750, help="steps of 2,048 pairs")
    parser.add_argument("--eval_tokens", type=int, default=30_000, help="held-out tokens")
    parser.add_argument("--loss_tokens", type=int, default=4_000, help="of them, for the cross-entropy")
    parser.add_argument("--n_train", type=int, default=1500, help="training examples of a probe")
    parser.add_argument("--n_test", type=int, default=500, help="test examples of a probe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    flags = {
        "max_tokens": args.max_tokens,
        "document_tokens": 1_000_000,  # whole documents
        "steps": args.steps,
        "decay_start": args.steps * 4 // 5,
        "seeds": tuple(args.seeds),
        "memory": "4GB",
        "calibration_tokens": 65_536,
        "encoder_dtype": "float32",
        "activations": str(args.runs / "activations"),
    }
    train_missing(args.runs, dict.fromkeys(METHODS, flags))
    evaluate_all(folders(args.runs, METHODS), EVALUATION, args.eval_tokens, args.loss_tokens)
    probe_all(args.runs, args.n_train, args.n_test)
    table = collect(args.runs)
    write_results("three_methods", args, table, probe_k=PROBE_K)


if __name__ == "__main__":
    cli.run(main)
