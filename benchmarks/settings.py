"""How to set a T-SAE's temporal term: each option changed by itself, every member trained from one cache.

    python benchmarks/settings.py --activations runs/claims-demo/activations
    python benchmarks/settings.py --activations runs/claims-demo/activations --steps 400 --dict_size 4608

The middle is a T-SAE of strength 1, temperature .1, the previous token, all other pairs as negatives, a fifth
of the latents high-level and k 20. Strength and temperature are also changed together. All members see pairs
of the same texts, are evaluated on held-out ones and probed with five high-level latents a class. At a small
number of steps this says which way an option pulls, and not where it ends. What is finished is not done
again; a stopped training goes on. What follows `--` goes to the probes, such as `-- --max_texts 1000`.

Writes benchmarks/results/settings.json and .md.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from machine import machine_facts

from dictionary_learning.command import cli
from dictionary_learning.command.files import read_json, save_text
from dictionary_learning.command.options import Parser
from temporal_saes.claims.pieces import Piece

RESULTS = Path(__file__).parent / "results" / "settings"
MIDDLE: dict[str, Any] = {
    "temp_alpha": 1.0,
    "temperature": 0.1,
    "pair_mode": "previous",
    "negatives": "all",
    "run_length": 1,
    "pairs_per_text": None,
    "group_fractions": (0.2, 0.8),
    "k": 20,
}
STRENGTHS, TEMPERATURES = (0.3, 1.0, 3.0), (0.03, 0.1, 0.3)
CHANGES: tuple[dict[str, Any], ...] = (
    *(
        {"temp_alpha": alpha, "temperature": temperature}
        for alpha, temperature in itertools.product(STRENGTHS, TEMPERATURES)
    ),
    {"temp_alpha": 0.0},
    {"pair_mode": "random"},
    {"pair_mode": "sentence"},
    {"negatives": "other_texts"},
    {"negatives": "other_texts", "run_length": 4},
    {"run_length": 4},
    {"group_fractions": (0.1, 0.9)},
    {"group_fractions": (0.5, 0.5)},
    {"k": 10},
    {"k": 40},
)
WORDS = {
    "temp_alpha": "strength {}",
    "temperature": "temperature {}",
    "pair_mode": "earlier token: {}",
    "negatives": "negatives of {}",
    "run_length": "runs of {}",
    "pairs_per_text": "at most {} pairs of a text",
    "group_fractions": "high-level share {}",
    "k": "k {}",
}
K = 5
MEASURES = ("FVE", "alive", "smoothness, high", "L0, high", "semantics", "syntax", "context")


class Member(NamedTuple):
    """A T-SAE of one setting, with all its seeds."""

    changed: dict[str, Any]
    """What differs from the middle."""

    @property
    def run(self) -> str:
        """The name of its run."""
        values = [f"{name}-{_shown(value)}" for name, value in self.changed.items()]
        return "-".join(["settings", *values]) if values else "settings-middle"

    @property
    def told(self) -> str:
        words = [WORDS[name].format(_shown(value)) for name, value in self.changed.items()]
        return ", ".join(words).replace("_", " ") or "the middle"

    @property
    def flags(self) -> list[str]:
        found: list[str] = []
        for name, value in (MIDDLE | self.changed).items():
            if value is not None:
                found += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
        return found


def members(pairs_per_text: int | None) -> list[Member]:
    """All of them, the middle first.

    Args:
        pairs_per_text: of one more member.
    """
    more = [{"pairs_per_text": pairs_per_text}] if pairs_per_text is not None else []
    changes = [{n: v for n, v in change.items() if v != MIDDLE[n]} for change in (*CHANGES, *more)]
    return [Member({}), *(Member(change) for change in changes if change)]


def pieces(args: argparse.Namespace, all_members: list[Member]) -> Iterator[Piece]:
    """The work, each a command that is done once."""
    texts = ["--activations", str(args.activations)]
    where = ["--checkpoints_path", str(args.runs)]
    steps = args.steps
    common = ["--config", args.config, *texts, *where, "--steps", str(steps)]
    common += ["--warmup_steps", str(max(1, steps // 8)), "--decay_start", str(steps * 4 // 5)]
    common += ["--threshold_start_step", str(steps // 4), "--dict_size", str(args.dict_size)]
    common += ["--calibration_tokens", "32768", "--seeds", *map(str, args.seeds)]
    for member in all_members:
        yield Piece(member.run, ("train", *common, "--run_name", member.run, *member.flags))
    runs = [member.run for member in all_members]
    for seed in args.seeds:
        of_seed = [*where, "--trainer", str(seed)]
        tokens = ["--max_tokens", str(args.eval_tokens), "--no_lm_loss"]
        yield Piece(f"settings-eval-{seed}", ("eval", "--compare", *runs, *of_seed, *texts, *tokens))
        sizes = ["--n_train", str(args.n_train), "--n_test", str(args.n_test), "--repeats", str(args.repeats)]
        sizes += ["--context_texts", str(args.context_texts), "--k", str(K)]
        chunks = [f"{run}:0" for run in runs]
        yield Piece(
            f"settings-probe-{seed}", ("probe", "--compare", *chunks, *of_seed, *sizes, *args.probe_flags)
        )


def row(args: argparse.Namespace, member: Member) -> dict[str, Any]:
    """What was set, and each measure as a list over seeds."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for seed in args.seeds:
        measures = read_json(args.runs / member.run / f"trainer_{seed}" / "eval_results.json")["measures"]
        for name, split, key in (
            ("FVE", "all", "fve_context_mean"),
            ("alive", "all", "alive"),
            ("smoothness, high", "high", "smoothness_lipschitz"),
            ("L0, high", "high", "l0"),
        ):
            found[name].append(measures[split][key]["value"])
        suffix = f"_trainer{seed}" if seed else ""
        (probed,) = (args.runs / member.run / "probing").glob(f"*_chunk0{suffix}.json")
        for task, told in read_json(probed)["tasks"].items():
            found[task].append(told["accuracy"][0]["mean"])
    return {"member": member.told, "set": MIDDLE | member.changed, "found": found}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A row a member; means over seeds, with the standard deviation where there are several."""
    lines = ["| changed | " + " | ".join(MEASURES) + " |", "|---" * (1 + len(MEASURES)) + "|"]
    for one in rows:
        cells = [one["member"]]
        for name in MEASURES:
            values = one["found"][name]
            digits = 2 if name.startswith("L0") else 3
            spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.{digits}f}{spread}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    """A value as one word; of the groups the share of the first."""
    return str(value[0] if isinstance(value, tuple) else value)


def main(argv: list[str] | None = None) -> None:
    flags = Parser(description=__doc__)
    flags.add_argument("--activations", type=Path, required=True, help="cache with the parts train and eval")
    flags.add_argument("--config", default="demo", help="preset of the trainings")
    flags.add_argument("--runs", type=Path, default=Path("runs/settings"), help="folder of the work")
    flags.add_argument("--steps", type=int, default=150, help="of each training")
    flags.add_argument("--dict_size", type=int, default=2304, help="latents")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the first weights")
    flags.add_argument("--pairs_per_text", type=int, help="of one more member: at most so many in a batch")
    flags.add_argument("--eval_tokens", type=int, default=10_000, help="held-out tokens")
    flags.add_argument("--n_train", type=int, default=1000, help="training examples of a probe")
    flags.add_argument("--n_test", type=int, default=500, help="test examples of a probe")
    flags.add_argument("--context_texts", type=int, default=80, help="texts that a probe tells apart")
    flags.add_argument("--repeats", type=int, default=3, help="random splits of a probe")
    flags.add_argument("--out", type=Path, default=RESULTS, help="path of the results without a suffix")
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    args = flags.parse_args(words[:end])
    args.probe_flags = words[end + 1 :]
    all_members = members(args.pairs_per_text)
    for piece in pieces(args, all_members):
        if not piece.is_done(args.runs):
            piece.run(args.runs)
    rows = [row(args, member) for member in all_members]
    settings = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    save_text(
        args.out.with_suffix(".json"),
        json.dumps({"machine": machine_facts(), "settings": settings, "rows": rows}, indent=1) + "\n",
    )
    save_text(args.out.with_suffix(".md"), markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    cli.run(main)
