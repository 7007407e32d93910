"""One device, whole: every trainer against the CPU, and the speed of each part beside the plan's.

    python benchmarks/gpu.py                      # on the GPU of this machine, in under 8 minutes
    python benchmarks/gpu.py --small              # the same at sizes of seconds, on a CPU as well

First every trainer does the same steps on the device in float32, on the CPU in float32 and on the CPU with
its weights in float64 (in float32 where it computes in nothing else, as those that select latents do). The
losses are compared, since a latent at the very edge of a selection may fall on either side. A device is right
where it is not much further from the reference than the CPU's float32 is. Then steps, harvest, drawing
and evaluation are timed, each beside the seconds that `--plan` reckons for it (an H100 of assumed speed on
CUDA, this CPU otherwise): their ratio is the share of the roofline.

Writes benchmarks/results/gpu_<device>.json and .md, and ends with code 1 where a trainer is wrong.
"""

import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from distributed import worlds
from machine import machine_facts
from plan_check import LAYER, LENGTH, N_LAYERS, make_model, make_texts, store_of

from dictionary_learning.activations.block import BEGINNING
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.command import cli
from dictionary_learning.command.devices import find_device
from dictionary_learning.command.files import save_text
from dictionary_learning.command.options import Parser
from dictionary_learning.command.progress import say
from dictionary_learning.evaluation.measures import evaluate
from dictionary_learning.jobs.costs import Sizes, plan
from dictionary_learning.jobs.machines import H100, Machine, this_cpu
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.sizes import read_sizes
from dictionary_learning.trainers.architectures import ARCHITECTURES

RESULTS = Path(__file__).parent / "results"
FURTHER = 10.0  # times as far from float64 as the CPU's float32 may a device be
ROUNDING = 3e-5  # of a loss, where the CPU happens to be exact
BF16 = 2e-2  # of a loss, where a product is computed in bfloat16


class Size(NamedTuple):
    """A training step's size: D model width, F latents, B pairs or tokens, k latents a token."""

    name: str
    D: int
    F: int
    B: int
    k: int


LARGE = (
    Size("Pythia-160m", 768, 16_384, 8192, 20),
    Size("Gemma-2-2b", 2304, 16_384, 8192, 20),
    Size("Llama-3.1-8B", 4096, 32_768, 8192, 20),
)
SMALL = (Size("small", 64, 512, 256, 8),)
TIMED = {
    "T-SAE, float32": ("temporal", {"form": "paper", "temperature": 0.1}),
    "T-SAE, float32 without TF32": ("temporal", {"form": "paper", "temperature": 0.1, "tf32": False}),
    "T-SAE, bf16 product": ("temporal", {"form": "paper", "temperature": 0.1, "encoder_dtype": "bfloat16"}),
    "Matryoshka, bf16 product": ("matryoshka", {"group_fractions": (0.2, 0.8), "encoder_dtype": "bfloat16"}),
    "BatchTopK, bf16 product": ("batch_top_k", {"encoder_dtype": "bfloat16"}),
    "TopK": ("top_k", {}),
}


def parser() -> Parser:
    flags = Parser(description=__doc__)
    flags.add_argument("--device", help="cuda, cuda:1, mps or cpu; the best there is when left out")
    flags.add_argument("--small", action="store_true", help="sizes of seconds")
    flags.add_argument("--check_steps", type=int, default=12, help="steps of each trainer's check")
    flags.add_argument("--out", type=Path, help="path of the results without a suffix")
    return flags


# --- are the numbers right ---


def losses(name: str, device: str, dtype: torch.dtype, n_steps: int) -> list[float]:
    """The losses of a case's first steps."""
    options = dict(worlds.CASES[name])
    arch, unit = options.pop("arch"), options.pop("unit", "tokens")
    cls = ARCHITECTURES[arch].trainer_class() if isinstance(arch, str) else arch
    torch.manual_seed(0)
    trainer = cls(**worlds.COMMON | {"device": device}, **options)
    trainer.ae.to(dtype)  # in place: the optimiser's parameters are the same
    trainer.dead_feature_threshold = 48
    batches = worlds.batches(unit)[:n_steps]
    return [trainer.update(step, batch.to(device, dtype)) for step, batch in enumerate(batches)]


def check(name: str, device: str, n_steps: int) -> dict[str, Any]:
    """How far the device and the CPU are from the reference, as the largest share of a loss."""
    reference = "float64"
    try:
        exact = losses(name, "cpu", torch.float64, n_steps)
    except RuntimeError:  # it computes in float32 alone
        reference = "float32"
        exact = losses(name, "cpu", torch.float32, n_steps)
    off = {
        where: max(abs(one / true - 1) for one, true in zip(found, exact, strict=True))
        for where, found in (
            ("device", losses(name, device, torch.float32, n_steps)),
            ("cpu", losses(name, "cpu", torch.float32, n_steps)),
        )
    }
    allowed = BF16 if "bfloat16" in name else max(FURTHER * off["cpu"], ROUNDING)
    return {
        "trainer": name,
        "reference": reference,
        **off,
        "allowed": allowed,
        "right": off["device"] <= allowed,
    }


# --- how fast it is ---


def seconds_of(work: Callable[[], object], device: torch.device, least: float) -> float:
    """Seconds of one call, the median of as many as fit into `least` seconds, at least three."""
    found: list[float] = []
    while sum(found) < least or len(found) < 3:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def sizes_of(size: Size, arch: str) -> Sizes:
    """What the plan needs of one step; the language model's part is not asked."""
    return Sizes(
        n_layers=1,
        n_read_layers=1,
        layer_parameters=1,
        vocab_size=1,
        d_model=size.D,
        arch=arch,
        unit="pairs" if arch == "temporal" else "tokens",
        n_latents=size.F,
        batch_size=size.B,
        k=size.k,
        processes=1,
        context_length=LENGTH,
        steps=1,
        tokens=1,
        distinct_tokens=1,
        memory=1,
    )


def time_steps(size: Size, device: torch.device, machine: Machine, least: float) -> list[dict[str, Any]]:
    rows = []
    for title, (arch, options) in TIMED.items():
        trainer = ARCHITECTURES[arch].trainer_class()(
            steps=1000,
            activation_dim=size.D,
            dict_size=size.F,
            k=size.k,
            seed=0,
            device=str(device),
            warmup_steps=1,
            **options,
        )
        shape = (size.B, 2, size.D) if arch == "temporal" else (size.B, size.D)
        generator = torch.Generator().manual_seed(0)
        batch = torch.randn(*shape, generator=generator).to(device)
        for step in range(3):
            trainer.update(step, batch)
        seconds = seconds_of(lambda trainer=trainer, batch=batch: trainer.update(5, batch), device, least)  # type: ignore[misc]
        dtype = str(options.get("encoder_dtype", "float32"))
        planned = plan(replace(sizes_of(size, arch), encoder_dtype=dtype), machine)["one step"].seconds
        rows.append(
            {
                "part": f"step, {title}",
                "size": size.name,
                "seconds": seconds,
                "planned": planned,
                "rate": size.B / seconds,
                "unit": "pairs/s" if arch == "temporal" else "tokens/s",
            }
        )
        del trainer
    return rows


def time_model(
    width: int, n_texts: int, device: torch.device, machine: Machine, least: float
) -> list[dict[str, Any]]:
    """Harvest, drawing of pairs, and evaluation with a random Llama of that width."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_model(width, root / "lm")
        make_texts(n_texts, root / "texts.jsonl")
        dtype = "bfloat16" if device.type == "cuda" else "float32"
        lm = LanguageModel.load(str(root / "lm"), device=device, dtype=dtype)

        def store() -> ActivationStore:
            return store_of(lm, root / "texts.jsonl", lm_batch_size=32)

        n_tokens = store().block(BEGINNING).statistics.n_positions
        about = read_sizes(str(root / "lm"))
        n_latents, batch = 8 * width, 1024
        sizes = replace(
            sizes_of(Size("", width, n_latents, batch, 8), "temporal"),
            n_layers=N_LAYERS,
            n_read_layers=LAYER + 1,
            layer_parameters=about.layer_parameters,
            vocab_size=about.vocab_size,
            tokens=n_tokens,
            distinct_tokens=n_tokens,
            memory=2**28,
            lm_dtype=dtype,
            eval_tokens=n_tokens,
            loss_tokens=n_tokens,
            lm_batch_size=32,
        )
        planned = plan(sizes, machine)
        ae = (
            ARCHITECTURES["temporal"]
            .trainer_class()(
                steps=10,
                activation_dim=width,
                dict_size=n_latents,
                k=8,
                seed=0,
                device=str(device),
                warmup_steps=1,
            )
            .ae
        )
        filled = store()
        pairs = filled.pairs(batch)
        found = {
            "harvest": (seconds_of(lambda: store().block(BEGINNING), device, least), n_tokens, "tokens/s"),
            "drawing pairs": (seconds_of(lambda: next(pairs), device, least), batch, "pairs/s"),
            "evaluation": (
                seconds_of(
                    lambda: evaluate(ae, filled.contexts(16), lm=lm, layer=LAYER, loss_tokens=n_tokens),
                    device,
                    least,
                ),
                n_tokens,
                "tokens/s",
            ),
        }
        return [
            {
                "part": part,
                "size": f"Llama of width {width}",
                "seconds": seconds,
                "planned": planned[part].seconds if part in planned else None,
                "rate": n / seconds,
                "unit": unit,
            }
            for part, (seconds, n, unit) in found.items()
        ]


# --- the whole ---


def markdown(checks: list[dict[str, Any]], rows: list[dict[str, Any]], machine: Machine) -> str:
    lines = [
        "| trainer | reference | device, off by | CPU, off by | allowed | |",
        "|---|---|---|---|---|---|",
    ]
    for row in checks:
        said = "right" if row["right"] else "WRONG"
        lines.append(
            f"| {row['trainer']} | {row['reference']} | {row['device']:.1e} | {row['cpu']:.1e} | "
            f"{row['allowed']:.1e} | {said} |"
        )
    lines += [
        "",
        f"| part | size | measured | plan ({machine.name}) | share | rate |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        planned, seconds = row["planned"], row["seconds"]
        share = "–" if planned is None else f"{planned / seconds:.2f}"
        told = "–" if planned is None else f"{1e3 * planned:.2f} ms"
        lines.append(
            f"| {row['part']} | {row['size']} | {1e3 * seconds:.2f} ms | {told} | {share} | "
            f"{row['rate']:,.0f} {row['unit']} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    args: Namespace = parser().parse_args(argv)
    device = find_device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    least, widths = (0.05, (64,)) if args.small else (2.0, (256, 1024))
    began = time.monotonic()
    checks = []
    for case in worlds.CASES:
        checks.append(check(case, str(device), args.check_steps))
        say(f"{case}: {'right' if checks[-1]['right'] else 'WRONG'} ({checks[-1]['device']:.1e})")
    rows: list[dict[str, Any]] = []
    machine = H100
    for size in SMALL if args.small else LARGE:
        if device.type != "cuda":
            machine = this_cpu(size.D, size.F, "float32")
        rows += time_steps(size, device, machine, least)
        say(f"steps at the size of {size.name}: done after {time.monotonic() - began:.0f} s")
    for width in widths:
        if device.type != "cuda":
            machine = this_cpu(width, 8 * width, "float32")
        rows += time_model(width, 8 if args.small else 64, device, machine, least)
    table = markdown(checks, rows, machine)
    out = args.out or RESULTS / f"gpu_{device.type}"
    facts = {**machine_facts(), "device": name, "seconds": round(time.monotonic() - began)}
    content = {"machine": facts, "checks": checks, "rows": rows}
    save_text(out.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
    save_text(out.with_suffix(".md"), table)
    print(table)
    if not all(row["right"] for row in checks):
        raise SystemExit(1)


if __name__ == "__main__":
    cli.run(main)
