"""How to set a T-SAE: strength, temperature, earlier token, high-level share and k, one sweep.

    python benchmarks/settings.py --activations runs/demo/activations
    python benchmarks/settings.py --activations runs/demo/activations --steps 400 --dict_size 4608

Each option is changed by itself from a T-SAE of strength 1, temperature .1, the previous token, a fifth of
the latents high-level and k 20; strength and temperature also together. All members are trained by sweeps
(`train --sweep`) from one cache, evaluated on held-out texts and probed with five high-level latents a class.
At a small number of steps this says which way an option pulls, and not where it ends. What is finished is not
done again.

Writes benchmarks/results/settings.json and .md.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import machine_facts

from dictionary_learning.command import cli
from dictionary_learning.command.files import read_json, save_text
from dictionary_learning.errors import UserError

RESULTS = Path(__file__).parent / "results" / "settings"
GRIDS: tuple[dict[str, Any], ...] = (
    {"temp_alpha": 0.0},
    {"temp_alpha": [0.3, 1.0, 3.0], "temperature": [0.03, 0.1, 0.3]},
    {"pair_mode": "random"},
    {"group_fractions": [[0.1, 0.9], [0.5, 0.5]]},
    {"k": [10, 40]},
)
K = 5
MEASURES = ("FVE", "alive", "smoothness, high", "L0, high", "semantics", "syntax", "context")


def call(*words: str) -> None:
    """A command of temporal-saes in a process of its own."""
    if subprocess.run([sys.executable, "-m", "temporal_saes", *words]).returncode:
        raise UserError(f"stopped at {words[0]}: its own sentence stands above.")


def train(args: argparse.Namespace) -> list[str]:
    """Names of the members' runs, in the order of the grids."""
    runs: list[str] = []
    for number, grid in enumerate(GRIDS):
        name = f"settings-{number}"
        sweep = args.runs / f"{name}.yaml"
        values = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
        save_text(sweep, json.dumps(values | {"seeds": [args.seeds]}) + "\n")
        done = args.runs / name / "sweep.json"
        if not done.is_file():
            words = ["--config", args.config, "--activations", str(args.activations), "--sweep", str(sweep)]
            words += ["--checkpoints_path", str(args.runs), "--run_name", name, "--steps", str(args.steps)]
            words += [
                "--warmup_steps",
                str(max(1, args.steps // 8)),
                "--decay_start",
                str(args.steps * 4 // 5),
            ]
            words += ["--threshold_start_step", str(args.steps // 4), "--dict_size", str(args.dict_size)]
            call("train", *words, *(["--resume"] if (args.runs / name).is_dir() else []))
        runs += [Path(member["run"]).name for member in read_json(done)["members"] if not member["fault"]]
    return runs


def measure(args: argparse.Namespace, runs: list[str], seed: int) -> None:
    where = ["--checkpoints_path", str(args.runs), "--trainer", str(seed)]
    if not all((args.runs / run / f"trainer_{seed}" / "eval_results.json").is_file() for run in runs):
        texts = ["--activations", str(args.activations), "--max_tokens", str(args.eval_tokens)]
        call("eval", "--compare", *runs, *where, *texts, "--no_lm_loss")
    sizes = ["--n_train", str(args.n_train), "--n_test", str(args.n_test), "--k", str(K), "--repeats", "2"]
    call("probe", "--compare", *(f"{run}:0" for run in runs), *where, *sizes)


def row(args: argparse.Namespace, run: str) -> dict[str, Any]:
    """What was set, and each measure as a list over seeds."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for seed in args.seeds:
        trainer = args.runs / run / f"trainer_{seed}"
        measures = read_json(trainer / "eval_results.json")["measures"]
        for name, split, key in (
            ("FVE", "all", "fve_context_mean"),
            ("alive", "all", "alive"),
            ("smoothness, high", "high", "smoothness_lipschitz"),
            ("L0, high", "high", "l0"),
        ):
            found[name].append(measures[split][key]["value"])
        suffix = f"_trainer{seed}" if seed else ""
        tasks = read_json(args.runs / run / "probing" / f"demo_chunk0{suffix}.json")["tasks"]
        for task, told in tasks.items():
            found[task].append(told["accuracy"][0]["mean"])
        trained = read_json(trainer / "config.json")["trainer"]
    keys = ("temp_alpha", "temperature", "pair_mode", "group_fractions", "k")
    return {"set": {key: trained.get(key) for key in keys}, "found": found}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A row a member; means over seeds."""
    lines = [
        "| strength | temperature | earlier token | high-level share | k | " + " | ".join(MEASURES) + " |"
    ]
    lines.append("|---" * (5 + len(MEASURES)) + "|")
    for one in rows:
        made = one["set"]
        share = made["group_fractions"][0] if made["group_fractions"] else None
        cells = [
            str(x) for x in (made["temp_alpha"], made["temperature"], made["pair_mode"], share, made["k"])
        ]
        for name in MEASURES:
            cells.append(f"{statistics.mean(one['found'][name]):.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--activations", type=Path, required=True, help="cache with the parts train and eval")
    flags.add_argument("--config", default="demo")
    flags.add_argument("--runs", type=Path, default=Path("runs/settings"))
    flags.add_argument("--steps", type=int, default=100)
    flags.add_argument("--dict_size", type=int, default=1152)
    flags.add_argument("--seeds", type=int, nargs="+", default=[0])
    flags.add_argument("--eval_tokens", type=int, default=20_000)
    flags.add_argument("--n_train", type=int, default=1500)
    flags.add_argument("--n_test", type=int, default=500)
    flags.add_argument("--out", type=Path, default=RESULTS, help="path of the results without a suffix")
    args = flags.parse_args(argv)
    runs = train(args)
    for seed in args.seeds:
        measure(args, runs, seed)
    rows = [row(args, run) for run in runs]
    settings = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    save_text(
        args.out.with_suffix(".json"),
        json.dumps({"machine": machine_facts(), "settings": settings, "rows": rows}, indent=1) + "\n",
    )
    save_text(args.out.with_suffix(".md"), markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    cli.run(main)
