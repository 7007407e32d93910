"""How long a person waits at the explorer: for a text, a long one, beside others, and for what is written.

    OMP_NUM_THREADS=2 python benchmarks/explorer.py

The demo's model in bfloat16, layer 15, and a T-SAE of 4,608 latents and k 20 with random weights (times do
not depend on what a dictionary has learnt). The server runs in a process of its own and is asked through
sockets; each question is asked ROUNDS times, and the median is told. Writes benchmarks/results/explorer.json.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from machine import machine_facts

from dictionary_learning.command.files import save_text
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKSAE

ROOT = Path(__file__).parents[1]
ROUNDS = 5
WORDS = (ROOT / "README.md").read_text("utf-8").split()


def save_dictionary(folder: Path) -> None:
    """A run with random weights."""
    torch.manual_seed(0)
    sae = TemporalMatryoshkaBatchTopKSAE(576, 4608, 20, [921, 3687])
    sae.threshold.fill_(2.5 * 170 / 576**0.5)  # about 20 of random latents exceed it at a norm of 170
    trainer = folder / "trainer_0"
    trainer.mkdir(parents=True)
    config = {
        "trainer": {
            "dict_class": "TemporalMatryoshkaBatchTopKSAE",
            "activation_dim": 576,
            "dict_size": 4608,
            "k": 20,
            "group_sizes": [921, 3687],
            "layer": 15,
            "lm_name": "demo",
        },
        "buffer": {"context_length": 128, "max_norm_ratio": 10.0, "lm_dtype": "bfloat16"},
    }
    (trainer / "config.json").write_text(json.dumps(config))
    torch.save(sae.state_dict(), trainer / "ae.pt")


def ask(address: str, path: str, body: dict[str, Any]) -> dict[str, float]:
    """Seconds until each kind of event came first, and until the end."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=600)
    began = time.perf_counter()
    connection.request(
        "POST", f"{parts.path}api/{path}", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    seconds: dict[str, float] = {}
    for line in answer:
        event = json.loads(line)
        assert "error" not in event, event
        for kind in event:
            seconds.setdefault(kind, time.perf_counter() - began)
        if "text" in event:
            seconds["n_tokens"] = event["text"]["tokens"]
        if "texts" in event:
            seconds["n_written"] = event["tokens"]
    seconds["end"] = time.perf_counter() - began
    connection.close()
    return seconds


def text_of(address: str, n_tokens: int) -> str:
    """So many tokens, or a few more, of the README."""
    n_words = n_tokens
    while True:
        text = " ".join((WORDS * (n_words // len(WORDS) + 1))[: n_words // 2])
        if ask(address, "read", {"text": text})["n_tokens"] >= n_tokens:
            return text
        n_words += max(10, n_tokens // 10)


def together(address: str, asked: list[tuple[str, dict[str, Any]]]) -> list[dict[str, float]]:
    """The same of several people who ask at the same time."""
    found: list[dict[str, float]] = [{} for _ in asked]

    def one(i: int) -> None:
        found[i] = ask(address, *asked[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def measure(address: str) -> dict[str, Any]:
    short, long = text_of(address, 200), text_of(address, 5000)
    wish = {"prompt": "The Senate met in the morning and", "tokens": 60, "strengths": {"5": 60.0}}
    asked = {
        "200 tokens": [("read", {"text": short})],
        "5,000 tokens": [("read", {"text": long})],
        "two people, 200 tokens each": [("read", {"text": short})] * 2,
        "60 tokens written, plain and steered": [("write", wish)],
        "200 tokens, beside somebody who is written for": [("read", {"text": short}), ("write", wish)],
    }
    results: dict[str, Any] = {}
    for name, questions in asked.items():
        rounds = [together(address, questions)[0] for _ in range(ROUNDS)]
        first = "texts" if questions[0][0] == "write" else "context"
        results[name] = {
            "tokens": rounds[0].get("n_tokens", rounds[0].get("n_written")),
            "first_seconds": round(statistics.median(one[first] for one in rounds), 2),
            "whole_seconds": round(statistics.median(one["end"] for one in rounds), 2),
        }
        print(name, results[name])
    return results


def main() -> None:
    """Measure, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        save_dictionary(Path(folder) / "runs" / "random")
        words = ["--checkpoints_path", str(Path(folder) / "runs"), "--run_name", "random", "--port", "0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "temporal_saes", "explore", *words, "--device", "cpu"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            results = measure(address)
        finally:
            process.terminate()
            process.wait()
    result = {
        "machine": {**machine_facts(), "server_threads": os.environ.get("OMP_NUM_THREADS")},
        "load_average_at_the_end": round(os.getloadavg()[0], 1),
        "rounds": ROUNDS,
        "results": results,
    }
    save_text(ROOT / "benchmarks" / "results" / "explorer.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
