"""One T-SAE training step by several processes against one, and what they tell each other.

    python benchmarks/processes.py                  # 1 and 2 processes, one thread each
    python benchmarks/processes.py --processes 1 2 4 --dict_size 4608
    python benchmarks/processes.py --batch_size 8192 --steps 3 --repeats 1     # what is sent at a large batch

The global batch and the losses are the same whatever the number of processes is. Writes
benchmarks/results/processes_<latents>_<pairs>.json, with --return_memory in one of its own.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from machine import machine_facts
from training_step import D, toy_pairs, trainer

from dictionary_learning import distributed
from dictionary_learning.command.memory import keep_freed_memory

WARM = 2


def _train(rank: int, size: int, folder: str, arguments: argparse.Namespace) -> None:
    if not arguments.return_memory:
        keep_freed_memory()  # as every command does; its switch for large pages is inherited from `main`
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    whole = torch.load(f"{folder}/pairs.pt", mmap=True, weights_only=True)
    x = whole[distributed.share(len(whole))].clone()
    ours = trainer(arguments.dict_size, arguments.encoder_dtype, 200)
    seconds, losses = [], []
    for step in range(WARM + arguments.steps):
        if step == WARM:
            distributed.traffic.clear()
        dist.barrier()
        began = time.perf_counter()
        losses.append(ours.update(step, x))
        seconds.append(time.perf_counter() - began)
    sent = {name: n / arguments.steps for name, n in distributed.traffic.items()}
    if rank == 0:
        found = {"seconds": statistics.median(seconds[WARM:]), "losses": losses, "bytes_a_step": sent}
        Path(f"{folder}/found.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def measure(size: int, pairs: torch.Tensor, arguments: argparse.Namespace) -> dict:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(pairs, f"{folder}/pairs.pt")
        processes = [
            context.Process(target=_train, args=(rank, size, folder, arguments)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return json.loads(Path(f"{folder}/found.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dict_size", type=int, default=16_384)
    parser.add_argument("--batch_size", type=int, default=2048)
    parser.add_argument("--encoder_dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help=f"that are timed, after {WARM}")
    parser.add_argument(
        "--return_memory", action="store_true", help="give freed memory back, unlike commands"
    )
    arguments = parser.parse_args()
    if not arguments.return_memory:
        keep_freed_memory()
    pairs = toy_pairs(-(-arguments.batch_size // 2048)).flatten(0, 1)[: arguments.batch_size].clone()
    best: dict[int, dict] = {}
    for _ in range(arguments.repeats):
        for size in arguments.processes:
            found = measure(size, pairs, arguments)
            if size not in best or found["seconds"] < best[size]["seconds"]:
                best[size] = found
    alone = best[arguments.processes[0]]
    print(
        f"T-SAE step, D {D}, {arguments.dict_size:,} latents, {arguments.batch_size:,} pairs, one thread each"
    )
    print(
        f"{'processes':>9} {'s a step':>9} {'times':>6} {'beside the gradients':>21} {'loss differs by':>16}"
    )
    rows = []
    for size, found in best.items():
        beside = sum(n for name, n in found["bytes_a_step"].items() if name != "gradients")
        difference = max(abs(a - b) / abs(a) for a, b in zip(alone["losses"], found["losses"], strict=True))
        times = alone["seconds"] / found["seconds"]
        print(
            f"{size:>9} {found['seconds']:>9.3f} {times:>6.2f} {beside / 1e6:>18.2f} MB {difference:>16.1e}"
        )
        rows.append(
            {
                **{"processes": size, "seconds": found["seconds"], "times": times},
                **{"bytes_a_step": found["bytes_a_step"], "bytes_beside_gradients": beside},
                "loss_difference": difference,
            }
        )
    result = {"setting": vars(arguments) | {"activation_dim": D}, "rows": rows, "machine": machine_facts()}
    name = (
        f"processes_{arguments.dict_size}_{arguments.batch_size}{'_returned' * arguments.return_memory}.json"
    )
    path = Path(__file__).parent / "results" / name
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
