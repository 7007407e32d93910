"""A training step of every method: this project's, the peers', and the released code's form, in one run.

    git worktree add ../before 2e8e410
    OMP_NUM_THREADS=1 python benchmarks/peers.py --environments ../peers --earlier ../before

Each peer is installed from PyPI into an environment of its own, with this environment's torch: all run the
same build. Every trainer is a process with one thread and takes its step when it is its turn, so that other
work on the machine hits all alike; what counts is the least processor time of a step. Ours begins as its
commands do, with freed memory kept; an earlier build as its own did. The activations are the made-up ones of
`two_builds.py`, or of a cache: `--activations runs/demo/activations`. T-SAE and TemporalSAE have no package:
the form of the released code is written again in the tests (`reference_tsae.py`, `reference_tfa.py`),
from the same first weights. Where the processor has no products of bfloat16, steps in it are left out.

Writes benchmarks/results/peers.json and peers.md, which `scripts/tables.py` puts into docs/training-step.md.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import Others, machine_facts
from two_builds import (
    PAIRS,
    SIZES,
    TEXTS,
    TEXTS_SHAPE,
    TEXTS_SIZES,
    B,
    D,
    K,
    recorded_pairs,
    toy_pairs,
    toy_texts,
)

from dictionary_learning.command import cli
from dictionary_learning.command.devices import multiplies
from dictionary_learning.command.options import Parser
from dictionary_learning.errors import UserError

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("peer_steps.py")
PLANNED_STEPS = 1000  # of the run whose first steps these are: schedules have to fit
SAME_LOSS = 1e-4  # the largest relative difference between ours and what must be its equal, in a few steps
EQUALS = {"earlier": "the earlier build", "released form": "the released form"}


class Peer(NamedTuple):
    """A package to compare with."""

    requirement: str
    module: str


PEERS = {
    "dictionary_learning": Peer("dictionary_learning==0.1.0", "dictionary_learning"),
    "SAELens": Peer("sae-lens==6.54.12", "sae_lens"),
    "sparsify": Peer("eai-sparsify==1.3.3", "sparsify"),
}
EARLIER = ("earlier", "earlier, bfloat16")  # the same trainers, of another checkout
OWN = ("ours", "ours, bfloat16", "released form")
METHODS = {
    PAIRS: OWN,
    "Matryoshka": ("ours", "ours, bfloat16", "dictionary_learning", "SAELens"),
    "BatchTopK": ("ours", "ours, bfloat16", "dictionary_learning", "SAELens"),
    "TopK": ("ours", "ours, bfloat16", "dictionary_learning", "sparsify"),
    TEXTS: OWN,
}


class Sizes(NamedTuple):
    """What is trained on what."""

    d_model: int
    rows: int
    k: int
    latents: tuple[int, ...]
    atoms: tuple[int, ...]
    texts: tuple[int, int]


FULL = Sizes(D, B, K, SIZES, TEXTS_SIZES, TEXTS_SHAPE)
SMALL = Sizes(16, 64, 4, (128,), (64,), (2, 16))


def python_of(who: str, environments: Path) -> Path:
    """The interpreter of a peer's environment, which is made where it is not there."""
    folder = environments / PEERS[who].requirement.replace("==", "-")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    finished = folder / "finished"
    if not finished.exists():
        print(f"set-up: {PEERS[who].requirement} into {folder}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        site = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        # what is here need not be fetched again; what the peer pins comes first
        here = str(Path(torch.__file__).parents[1])
        (site / "zz_of_this_project.pth").write_text(f"{here}\n", encoding="utf-8")
        constraint = folder / "constraints.txt"
        constraint.write_text(f"torch=={torch.__version__.split('+')[0]}\n", encoding="utf-8")
        install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(constraint)]
        if subprocess.run([*install, PEERS[who].requirement], env=environment(who)).returncode:
            raise UserError(
                f"{PEERS[who].requirement} could not be installed into {folder}: is PyPI within reach?"
            )
        # PyPI's torchvision fits PyPI's torch alone, and breaks imports where that is another build
        if subprocess.run([str(python), "-c", "import torchvision"], capture_output=True).returncode:
            subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"])
        finished.touch()
    return python


def environment(who: str, earlier: Path | None = None) -> dict[str, str]:
    """Variables of a trainer's process: one thread, and no module of this project for a peer."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    variables.pop("PYTHONPATH", None)
    root = ROOT if who in OWN else earlier if who in EARLIER else None
    if root is not None:
        folders = (root / "dictionary_learning", root / "src", root / "tests")
        variables["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    return variables


class Stepper:
    """A trainer in a process of its own that waits for its turn."""

    def __init__(self, who: str, python: Path, job: dict[str, Any], earlier: Path | None) -> None:
        self.who = who
        self.took: list[dict[str, float]] = []
        # a pipe that nobody reads would fill
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [str(python), str(WORKER), json.dumps({**job, "who": who})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment(who, earlier),
        )

    def step(self, number: int) -> None:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._said.seek(0)
            said = self._said.read().strip().splitlines() or ["it said nothing"]
            raise UserError(f"{self.who} failed at step {number}: {said[-1]}")
        self.took.append(json.loads(answer))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def least(self, clock: str) -> float:
        """Seconds; the first step makes room, and ours times its kernels in it."""
        return min(took[clock] for took in self.took[1:])


def compare(
    method: str,
    size: int,
    pythons: dict[str, Path],
    sizes: Sizes,
    steps: int,
    batches: Path,
    earlier: Path | None,
) -> dict:
    job = {
        "method": method,
        "size": size,
        "d_model": sizes.d_model,
        "rows": sizes.rows,
        "k": sizes.k,
        "steps": PLANNED_STEPS,
        "batches": str(batches),
    }
    others = Others()
    steppers = [
        Stepper(who, pythons[who], job, earlier) for who in (*METHODS[method], *EARLIER) if who in pythons
    ]
    try:
        for number in range(steps):
            for stepper in steppers:
                stepper.step(number)
    finally:
        for stepper in steppers:
            stepper.close()
    row: dict[str, Any] = {"method": method, "size": size, "steps": steps, "trainers": {}}
    for stepper in steppers:
        row["trainers"][stepper.who] = {
            "seconds": stepper.least("processor"),
            "wall_seconds": stepper.least("wall"),
            "last_loss": stepper.took[-1]["loss"],
        }
    row["cores_busy"] = others.cores()
    by_name = {stepper.who: [took["loss"] for took in stepper.took] for stepper in steppers}
    row["largest_relative_difference_of_losses"] = {}
    for other, name in EQUALS.items():
        if other in by_name:
            pairs = zip(by_name["ours"], by_name[other], strict=True)
            worst = max(abs(one / that - 1) for one, that in pairs)
            row["largest_relative_difference_of_losses"][other] = worst
            if not worst < SAME_LOSS:
                raise UserError(f"the losses of {method} are not those of {name}: {by_name}")
    return row


def table(rows: list[dict[str, Any]], titles: dict[str, str]) -> str:
    """Seconds a step, and how many times ours that is; an earlier build's in bfloat16, times ours in that."""
    timed = {who for row in rows for who in row["trainers"]}
    own = [who for who in OWN[:2] if who in timed]
    present = [who for who in (*EARLIER, "released form", *PEERS) if who in timed]
    names = [titles.get(who, who) for who in (*own, *present)]
    lines = [f"| a step, s | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for row in rows:
        seconds = {who: of["seconds"] for who, of in row["trainers"].items()}
        cells = [f"{seconds[who]:.3f}" if who in seconds else "" for who in own]
        for who in present:
            ours = seconds["ours, bfloat16" if who == EARLIER[1] else "ours"]
            cells.append(f"{seconds[who]:.3f} ({seconds[who] / ours:.2f}x)" if who in seconds else "")
        lines.append(f"| {row['method']}, {row['size']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parser() -> Parser:
    parser = Parser(
        prog="peers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--environments",
        type=Path,
        help="folder that keeps the peers' environments (default: a temporary one)",
    )
    parser.add_argument(
        "--earlier", type=Path, help="checkout of another revision of this project, to compare with as well"
    )
    parser.add_argument(
        "--activations", type=Path, help="cache to read pairs and tokens from, of the width of the steps, 576"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(default: all)")
    parser.add_argument("--steps", type=int, default=8, help="steps each, at least 2 (default: 8)")
    parser.add_argument(
        "--small",
        action="store_true",
        help="sizes of a second, with those peers that this environment has (with --environments: all): "
        "shows that it works, measures nothing",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "peers.json")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = parser().parse_args(argv)
    if options.steps < 2:
        raise UserError(f"--steps is {options.steps}, and must be at least 2: the first one makes room.")
    with tempfile.TemporaryDirectory() as temporary:
        run(options, Path(temporary))


def revision_of(checkout: Path) -> str:
    """The commit of a checkout, as short as git makes it. Raises UserError where there is none."""
    if not (checkout / "dictionary_learning" / "dictionary_learning").is_dir():
        raise UserError(
            f"--earlier {checkout} is no checkout of this project: make one with git worktree add."
        )
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "earlier"


def run(options: argparse.Namespace, temporary: Path) -> None:
    sizes = SMALL if options.small else FULL
    wanted = {who for method in options.methods for who in METHODS[method]}
    pythons = dict.fromkeys(OWN, Path(sys.executable))
    for who in sorted(wanted - set(OWN)):
        if options.environments or not options.small:
            pythons[who] = python_of(who, (options.environments or temporary).expanduser().resolve())
        elif who != "dictionary_learning" and importlib.util.find_spec(PEERS[who].module):
            pythons[who] = Path(sys.executable)
    titles = {who: f"{who} {PEERS[who].requirement.split('==')[1]}" for who in pythons if who in PEERS}
    if options.earlier:
        options.earlier = options.earlier.expanduser().resolve()
        revision = revision_of(options.earlier)
        titles |= {who: who.replace("earlier", revision) for who in EARLIER}
        pythons |= dict.fromkeys(EARLIER, Path(sys.executable))
    if not options.small and not multiplies("bfloat16"):
        pythons = {who: python for who, python in pythons.items() if "bfloat16" not in who}
        print("this processor has no products of bfloat16: steps in it are left out", flush=True)
    batches = {
        "pairs": temporary / "pairs.pt",
        "tokens": temporary / "tokens.pt",
        "texts": temporary / "texts.pt",
    }
    if options.activations:
        pairs = recorded_pairs(options.activations, 4, sizes.rows)
    else:
        pairs = toy_pairs(4, sizes.rows, sizes.d_model)
    torch.save(pairs, batches["pairs"])
    torch.save(pairs[:, :, 0].contiguous(), batches["tokens"])
    torch.save(toy_texts(4, sizes.texts, sizes.d_model), batches["texts"])
    result: dict[str, Any] = {
        "measured": "least processor seconds of a step, one thread, all trainers in turn",
        "machine": {**machine_facts(), "threads": 1},
        "activations": "recorded" if options.activations else "made up",
        "sizes": sizes._asdict(),
        "titles": titles,
        "version": importlib.metadata.version("temporal-saes"),
        "rows": [],
    }
    for i in range(len(sizes.latents)):  # the smaller ones of all methods first
        for method in options.methods:
            kind = {PAIRS: "pairs", TEXTS: "texts"}.get(method, "tokens")
            size = (sizes.atoms if kind == "texts" else sizes.latents)[i]
            row = compare(method, size, pythons, sizes, options.steps, batches[kind], options.earlier)
            took = {who: round(of["seconds"], 4) for who, of in row["trainers"].items()}
            print(f"{method} {size}: {took}", flush=True)
            result["rows"].append(row)
            result["rows"].sort(key=lambda row: list(METHODS).index(row["method"]))
            write(result, options.output)  # a row may be minutes of work
    print(f"written: {options.output} and {options.output.with_suffix('.md')}")


def write(result: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(result["rows"], result["titles"]), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
