"""The papers' claims on a model of this machine: learning curves, and a verdict with an interval for each.

    python benchmarks/claims.py                                      # SmolLM2, a working day of two cores
    python benchmarks/claims.py --budgets 300000 --minutes 60        # the shortest ones, an hour at a time
    python benchmarks/claims.py --config demo-gemma --max_tokens 1000000

T-SAE, the same without its temporal term, Matryoshka, BatchTopK, TopK and TemporalSAE are trained from one
cache at several lengths, with the same seeds; thresholds are set so that all have the same L0 on the held-out
texts; then they are evaluated and probed. What is finished is not done again: stop it at any time, or with
--minutes, and run it again. What follows `--` goes to the commands that record the language model, such as
`-- --layer 8`.

Writes benchmarks/results/claims_<config>.json and .md, and docs/figures/claims_<config>.png.
"""

import json
import sys
import time
from argparse import Namespace
from pathlib import Path

from machine import machine_facts

from dictionary_learning.command import cli
from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser, read_preset
from dictionary_learning.command.progress import say
from temporal_saes.claims import curves, readings, report
from temporal_saes.claims.experiments import EXPERIMENTS
from temporal_saes.claims.methods import BUDGETS, METHODS
from temporal_saes.claims.pieces import Plan, pieces

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[1] / "docs" / "figures"


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--config", default="demo", help="preset of the model and the texts")
    flags.add_argument("--runs", type=Path, help="folder of the work (default: runs/claims-<config>)")
    flags.add_argument("--methods", nargs="+", default=list(METHODS), help=f"among {', '.join(METHODS)}")
    flags.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="pairs or tokens")
    flags.add_argument("--seeds", type=int, default=3, help="number of seeds")
    flags.add_argument("--k", type=int, default=20, help="latents a token, for all")
    flags.add_argument(
        "--dict_size", type=int, help="latents, but of the TemporalSAE (default: the preset's)"
    )
    flags.add_argument("--max_tokens", type=int, default=3_000_000, help="distinct training tokens")
    flags.add_argument(
        "--document_tokens",
        type=int,
        default=1_000_000,
        help="of one document; fewer where --max_tokens would be filled by a few long ones",
    )
    flags.add_argument("--eval_tokens", type=int, default=30_000, help="held-out tokens")
    flags.add_argument("--experiments", nargs="*", default=list(EXPERIMENTS), help="beside the evaluation")
    flags.add_argument("--n_train", type=int, default=1500, help="training examples of a probe")
    flags.add_argument("--n_test", type=int, default=500, help="test examples of a probe")
    flags.add_argument("--repeats", type=int, default=5, help="random splits of a probe")
    flags.add_argument("--minutes", type=float, help="begin nothing new after so many; run it again to go on")
    flags.add_argument("--out", type=Path, help="path of all results without a suffix")
    return flags


def plan_of(args: Namespace, extra: list[str]) -> Plan:
    preset = read_preset(args.config)
    sizes = ["--n_train", str(args.n_train), "--n_test", str(args.n_test), "--k", "1", "5", "20"]
    sizes += ["--repeats", str(args.repeats)]
    return Plan(
        runs=args.runs or Path("runs") / f"claims-{args.config}",
        config=args.config,
        dataset=extra[extra.index("--dataset") + 1] if "--dataset" in extra else preset["dataset"],
        methods=tuple(args.methods),
        budgets=tuple(args.budgets),
        seeds=args.seeds,
        k=args.k,
        max_tokens=args.max_tokens,
        eval_tokens=args.eval_tokens,
        document_tokens=args.document_tokens,
        context_length=preset["context_length"],
        dict_size=args.dict_size,
        narrow_latents=preset["attention"]["dict_size"],
        experiments=tuple(args.experiments),
        extra=tuple(extra),
        probe_flags=tuple(sizes),
    )


def work(plan: Plan, minutes: float | None) -> None:
    """Do what is missing, until the time is over."""
    start = time.monotonic()
    n_done = n_pieces = 0
    for piece in pieces(plan):
        n_pieces += 1
        if piece.is_done(plan.runs):
            n_done += 1
        elif minutes is None or time.monotonic() - start < 60 * minutes:
            say(f"claims: {n_done} pieces done; now {piece.name}")
            piece.run(plan.runs)
            n_done += 1
    say(
        f"claims: {n_done} of {n_pieces} pieces are done"
        + ("" if n_done == n_pieces else "; run it again to go on")
    )


def main(argv: list[str] | None = None) -> None:
    given = sys.argv[1:] if argv is None else argv
    at = given.index("--") if "--" in given else len(given)
    args = parser().parse_args(given[:at])
    plan = plan_of(args, given[at + 1 :])
    work(plan, args.minutes)
    found = readings.read(plan.runs)
    claims = report.judged(found, readings.read_of_texts(plan.runs))
    name = f"claims_{args.config.replace('-', '_')}"
    out = args.out or RESULTS / name
    asked = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    settings = asked | {"extra": given[at + 1 :]}
    values = [
        {"method": m, "budget": budget, "chunk": chunk, "measure": measure, "by_seed": values}
        for (m, budget, chunk, measure), values in sorted(found.items())
    ]
    content = {"machine": machine_facts(), "settings": settings, "claims": claims, "values": values}
    save_text(out.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
    save_text(out.with_suffix(".md"), report.markdown(claims))
    curves.draw(found, args.out or FIGURES / name)
    print(report.markdown(claims))


if __name__ == "__main__":
    cli.run(main)
