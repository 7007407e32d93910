"""An activation cache written by several processes against one, a core and a thread each.

    python benchmarks/parallel_harvest.py                  # 1 and 2 processes, the demo's language model
    python benchmarks/parallel_harvest.py --processes 1 2 4 --tokens 200000

Rounds of each number alternate, and the median is told: of the seconds in which shards are written, and of
the whole command with its imports, the model's loading and the tokenising of all texts beforehand, which only
the first process does. The shards' checksums are compared. Writes benchmarks/results/parallel_harvest.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import Others, machine_facts

CONTEXT = 128


def worker(report: Path, flags: list[str]) -> None:
    """One process of a command: writes the cache, and the first one how long that took."""
    rank = int(os.environ.get("RANK") or 0)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})

    from dictionary_learning import cache_activations
    from dictionary_learning.activations import cache_writer

    write, seconds = cache_writer.write, []

    def timed(*arguments: Any) -> None:
        began = time.perf_counter()
        write(*arguments)
        seconds.append(time.perf_counter() - began)

    cache_writer.write = timed
    cache_activations.main(flags)
    if rank == 0:
        report.write_text(json.dumps(seconds[0]))


def measure(n: int, flags: list[str], folder: Path) -> dict[str, Any]:
    """One cache by `n` processes."""
    cache, report = folder / "cache", folder / "seconds.json"
    start = [sys.executable]
    if n > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    began = time.perf_counter()
    subprocess.run(
        [*start, __file__, "--report", str(report), *flags, "--activations", str(cache)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    whole = time.perf_counter() - began
    shards = json.loads((cache / "index.json").read_text())["parts"]["train"]["shards"]
    return {
        "writing": json.loads(report.read_text()),
        "whole": whole,
        "tokens": sum(shard["n_positions"] for shard in shards),
        "sha256": [shard["sha256"] for shard in shards],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--lm_dtype", default="bfloat16")
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--memory", default="50MB", help="of a shard")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    names = ("model", "dataset", "layer", "lm_dtype", "memory")
    flags = [word for name in names for word in (f"--{name}", str(getattr(arguments, name)))]
    flags += ["--max_tokens", str(arguments.tokens), "--context_length", str(CONTEXT), "--device", "cpu"]
    flags += ["--lm_batch_size", "16", "--document_tokens", "1024"]
    found: dict[int, list[dict[str, Any]]] = {n: [] for n in arguments.processes}
    others = Others()
    for _ in range(arguments.rounds):
        for n in arguments.processes:
            with tempfile.TemporaryDirectory() as folder:
                found[n].append(measure(n, flags, Path(folder)))
                print(n, found[n][-1]["writing"], found[n][-1]["whole"], file=sys.stderr)
    busy = others.cores()
    alone = arguments.processes[0]

    def median(n: int, what: str) -> float:
        return statistics.median(one[what] for one in found[n])

    tokens, checksums = found[alone][0]["tokens"], found[alone][0]["sha256"]
    print(f"{tokens:,} tokens in {len(checksums)} shards, a core each; {busy} cores busy beside")
    print(
        f"{'processes':>9} {'writing s':>9} {'tokens/s':>9} {'times':>6} {'command s':>9} {'times':>6} bytes"
    )
    rows = []
    for n in arguments.processes:
        writing, whole = median(n, "writing"), median(n, "whole")
        same = all(one["sha256"] == checksums for one in found[n])
        times = median(alone, "writing") / writing
        times_whole = median(alone, "whole") / whole
        speed = tokens / writing
        print(
            f"{n:>9} {writing:>9.1f} {speed:>9,.0f} {times:>6.2f} {whole:>9.1f} {times_whole:>6.2f}"
            f" {'the same' if same else 'OTHERS'}"
        )
        rows.append(
            {
                **{"processes": n, "writing_seconds": writing, "times": times},
                **{"command_seconds": whole, "times_of_command": times_whole, "same_bytes": same},
                "rounds": [{name: one[name] for name in ("writing", "whole")} for one in found[n]],
            }
        )
    result = {
        "setting": vars(arguments) | {"context_length": CONTEXT, "counted_tokens": tokens},
        "rows": rows,
        "busy_cores_of_others": busy,
        "machine": machine_facts(),
    }
    path = Path(__file__).parent / "results" / "parallel_harvest.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    if "--report" in sys.argv:
        worker(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
