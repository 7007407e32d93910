"""How long a shell waits for `--help`: the command `temporal-saes`, its sub-commands, and the scripts.

    python benchmarks/startup.py

Each is started in a process of its own, in turns, ROUNDS times; the median is told, beside `python -c pass`.
Writes benchmarks/results/startup.json.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import machine_facts

from dictionary_learning.command.files import save_text

ROOT = Path(__file__).parents[1]
ROUNDS = 7
CORE = ROOT / "dictionary_learning" / "dictionary_learning"
ENTRY_POINTS = ("train_temporal", "train_baseline", "train_attention", "eval_temporal")
SCRIPTS = [
    *(CORE / f"{name}.py" for name in ENTRY_POINTS),
    *sorted((ROOT / "src" / "experiments").glob("*.py")),
]


def commands() -> dict[str, list[str]]:
    """What is started, by name."""
    from temporal_saes.__main__ import ALL

    python = [sys.executable]
    started = {"python -c pass": [*python, "-c", "pass"]}
    started["temporal-saes --help"] = [*python, "-m", "temporal_saes", "--help"]
    for name in ALL:
        started[f"temporal-saes {name} --help"] = [*python, "-m", "temporal_saes", name, "--help"]
    for path in SCRIPTS:
        started[f"python {path.relative_to(ROOT)} --help"] = [*python, str(path), "--help"]
    return started


def main() -> None:
    """Time all of them and write the table."""
    started = commands()
    seconds: dict[str, list[float]] = {name: [] for name in started}
    for _ in range(ROUNDS):
        for name, words in started.items():
            begin = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: round(statistics.median(of), 3) for name, of in seconds.items()}
    for name, median in medians.items():
        print(f"{median:6.3f} s  {name}")
    result = {"machine": machine_facts(), "rounds": ROUNDS, "median_seconds": medians}
    save_text(ROOT / "benchmarks" / "results" / "startup.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
