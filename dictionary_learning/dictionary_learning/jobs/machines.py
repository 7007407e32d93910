"""How fast a machine is, in a few numbers: what `costs` divides by.

The H100's are assumed, none is measured. "this CPU" is timed at the call, on products of about the sizes that
are asked for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from dictionary_learning.command.devices import multiplies, times_as_long
from dictionary_learning.command.progress import n_of


@dataclass(frozen=True)
class Machine:
    """What one process has of a machine.

    Attributes:
        lm_flops: operations a second of the language model's forward pass.
        float32_flops, bfloat16_flops: of one large product.
        screen_flops: of the product in which a selection looks for what it keeps, in whatever number format
            is quickest; 0 where that is one of the above.
        memory: bytes a second, read and written by operations on every number of a tensor.
        gather: bytes a second, of rows that are gathered and added.
        network: bytes a second that a process sends and receives.
        disk: bytes a second.
        call: seconds that an operation takes however small it is.
        source: where the numbers come from, for the reader.
    """

    name: str
    lm_flops: float
    float32_flops: float
    bfloat16_flops: float
    memory: float
    gather: float
    network: float
    disk: float
    call: float
    source: str
    screen_flops: float = 0.0

    def flops(self, dtype: str) -> float:
        """Operations a second of a large product."""
        return self.float32_flops if dtype == "float32" else self.bfloat16_flops

    def search_flops(self, dtype: str) -> float:
        """Operations a second of the product from which entries are selected."""
        return max(self.flops(dtype), self.screen_flops)

    def lm(self, dtype: str) -> float:
        """Operations a second of the language model, which is no faster than a product."""
        return min(self.lm_flops, self.flops(dtype))


H100 = Machine(
    name="H100",
    lm_flops=450e12,
    float32_flops=300e12,
    bfloat16_flops=650e12,
    memory=2.5e12,
    gather=2.5e12,
    network=50e9,
    disk=2e9,
    call=5e-6,
    source="assumed, not measured: one H100 SXM a process with 450 TFLOP/s in the language model, 650 in "
    "products of bfloat16 and 300 of TF32, 2.5 TB/s of memory, 50 GB/s of network, 2 GB/s of disk, "
    "5 us a call",
)


def this_cpu(d_model: int, n_latents: int, lm_dtype: str) -> Machine:
    """This CPU with torch's present number of threads, timed for about two seconds.

    Args:
        d_model, n_latents: sizes of the products; larger ones are timed at 1,024 and 8,192.
        lm_dtype: in which the language model runs.
    """
    import torch
    import torch.nn.functional as F

    from dictionary_learning.selection.quickest import screens_for

    n_rows, width, n_latents = 512, min(d_model, 1024), min(n_latents, 8192)
    x, weight = torch.randn(n_rows, width), torch.randn(n_latents, width)
    out = torch.empty(n_rows, n_latents)
    n_product = 2.0 * n_rows * width * n_latents
    rates = {"float32_flops": n_product / _seconds(lambda: torch.mm(x, weight.T, out=out))}
    if multiplies("bfloat16"):
        low = [tensor.bfloat16() for tensor in (x, weight, out)]
        rates["bfloat16_flops"] = n_product / _seconds(lambda: torch.mm(low[0], low[1].T, out=low[2]))
    else:  # a product of that size would take many seconds
        rates["bfloat16_flops"] = rates["float32_flops"] / times_as_long("bfloat16")
    screen = screens_for(weight, torch.zeros(n_latents), torch.float32)[0]
    screen.set_weights(weight, torch.zeros(n_latents))
    rates["screen_flops"] = n_product / _seconds(lambda: screen.multiply(x))
    longer, one = torch.rand(2**21), torch.zeros(1)
    # what the passes of a step are: a mask, an exponential, a sum (5 + 8 + 8 bytes a number)
    mask, result = torch.empty(len(longer), dtype=torch.bool), torch.empty_like(longer)

    def passes() -> None:
        torch.gt(longer, 0.5, out=mask)
        torch.exp(longer, out=result)
        torch.add(longer, 1.0, out=result)

    rates["memory"] = 21 * len(longer) / _seconds(passes)
    rates["call"] = _seconds(lambda: [one + 1.0 for _ in range(100)]) / 100
    rows = torch.randint(n_latents, (n_rows * 20,))
    bags, shares = torch.arange(0, len(rows), 20), torch.rand(len(rows))
    gathered = lambda: F.embedding_bag(rows, weight, bags, mode="sum", per_sample_weights=shares)  # noqa: E731
    rates["gather"] = 4.0 * width * len(rows) / _seconds(gathered)
    quick_dtype = lm_dtype if multiplies(lm_dtype) else "float32"
    rates["lm_flops"] = _lm_flops(max(64, width // 64 * 64), quick_dtype)
    if quick_dtype != lm_dtype:
        rates["lm_flops"] /= times_as_long(lm_dtype)
    n_threads = torch.get_num_threads()
    return Machine(
        name="this CPU",
        network=1e9,
        disk=1e9,
        source=f"timed just now on {n_of(n_threads, 'thread')}: "
        f"{rates['lm_flops'] / 1e9:.0f} GFLOP/s in the language model, {rates['float32_flops'] / 1e9:.0f} in "
        f"products of float32, {rates['bfloat16_flops'] / 1e9:.0f} of bfloat16 and "
        f"{rates['screen_flops'] / 1e9:.0f} of {screen.name} that look for what is kept, "
        f"{rates['memory'] / 1e9:.1f} GB/s of memory, {rates['gather'] / 1e9:.1f} gathered; assumed: 1 GB/s "
        "of network and of disk",
        **rates,
    )


def _lm_flops(width: int, lm_dtype: str) -> float:
    """Of the forward pass of a Llama of that width, with a batch of contexts."""
    import torch

    from dictionary_learning.language_model.sizes import random_llama

    n_texts, length, n_layers = 8, 128, 2
    model = random_llama(width, n_layers, getattr(torch, lm_dtype))
    n_parameters = sum(weight.numel() for weight in model.layers.parameters())
    tokens = torch.zeros(n_texts, length, dtype=torch.int64)
    with torch.inference_mode():
        seconds = _seconds(lambda: model(tokens))
    return n_texts * length * (2.0 * n_parameters + n_layers * 4.0 * length * width) / seconds


def _seconds(work: Callable[[], object], limit: float = 0.4) -> float:
    """The least time of several calls. On one thread it is this process's own, whoever else is at work."""
    import torch

    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    work()
    least, until = float("inf"), time.perf_counter() + limit
    while time.perf_counter() < until or least == float("inf"):
        began = clock()
        work()
        least = min(least, clock() - began)
    return max(least, 1e-9)
