"""What every trainer is, and the pieces that several of them use.

Under several processes each has its rows of the batch, and `update` and `metrics` are called in all of them:
means, counts and selections are those of the whole batch (`distributed`), and so is every number returned.

Shapes: B tokens of this process, D model width, F latents.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dictionary_learning import distributed
from dictionary_learning.command.devices import find_device, with_own_defaults
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.sparse import on_cpu
from dictionary_learning.errors import UserError

CHUNK = 256  # rows at a time on a CPU, so that what is at work stays in the processor's cache


class Trainer(ABC):
    """Trains one dictionary on batches of activations; owns optimiser, counters and nothing else.

    `update` changes state; `metrics` reports the last update and changes nothing. The learning
    rate is a function of the step alone, so that no scheduler needs to be saved.
    """

    ae: Dictionary
    dictionary_class: ClassVar[type[Dictionary]]
    """What it trains."""
    optimizer: torch.optim.Optimizer
    is_begun: bool = False
    """Whether its weights are those of another dictionary, so that the first batch sets none of them."""

    def __init_subclass__(cls) -> None:
        with_own_defaults(cls, "__init__", "_step", "metrics", "calibrate", "load_state_dict")

    def __init__(
        self,
        steps: int,
        layer: int | None,
        lm_name: str | None,
        seed: int | None,
        device: str | torch.device | None,
        wandb_name: str,
        submodule_name: str | None,
        dict_class: type[Dictionary] | None = None,
    ) -> None:
        """
        Args:
            dict_class: the trainer's own dictionary, as the dictionary_learning library's calls name it.

        Raises:
            UserError: it is another class, or a count is no whole number.
        """
        if dict_class not in (None, self.dictionary_class):
            raise UserError(
                f"dict_class is {getattr(dict_class, '__name__', dict_class)}, and a {type(self).__name__} "
                f"trains a {self.dictionary_class.__name__}: leave it out."
            )
        self.steps = whole_number("steps", steps)
        self.layer = layer
        self.lm_name = lm_name
        # A run without a recorded seed cannot be repeated, so "none" is drawn, not left open.
        self.seed = torch.seed() % 2**31 if seed is None else whole_number("seed", seed)
        self.device = find_device(device)
        self.wandb_name = wandb_name
        self.submodule_name = submodule_name
        self._metrics: dict[str, Tensor | float] = {}
        self._watch = Watch(self.device)

    @torch.enable_grad()
    def update(self, step: int, x: Any) -> float:
        """One optimiser step on the batch `x`; returns the loss before it.

        Raises:
            UserError: wrong shape; the batch, the loss or its gradient is not finite (the weights stay as
                they were).
        """
        self._watch.begin(step, reads=True)
        return float(self._step(step, x))

    @torch.enable_grad()
    def advance(self, step: int, x: Any) -> None:
        """One optimiser step without its loss, so that the host does not wait for a device.

        What is not finite there is told by `check` or the next `update`; the weights stay as they were.
        """
        if self.reads_freely:
            self.update(step, x)
            return
        self._watch.begin(step, reads=False)
        self._step(step, x)

    @property
    def reads_freely(self) -> bool:
        """Whether the host sees values at once: on a CPU, or where processes have to agree on them anyway."""
        return self.device.type == "cpu" or distributed.size() > 1

    def check(self) -> None:
        """Wait for the steps so far.

        Raises:
            UserError: something in them was not finite; names the first step.
        """
        self._watch.check()

    @abstractmethod
    def _step(self, step: int, x: Any) -> Tensor:
        """The step itself; returns the loss before it, detached."""

    def metrics(self) -> dict[str, float]:
        """Terms of the loss and health of the latents at the last update; empty before the first."""
        return {name: float(value) for name, value in self._metrics.items()}

    @property
    def needs_calibration(self) -> bool:
        """Whether batches have to be read for `calibrate`."""
        return type(self).calibrate is not Trainer.calibrate

    def calibrate(self, batches: Iterable[Tensor]) -> dict[str, float] | None:
        """Fit what inference needs with the final weights; None for a dictionary that needs nothing."""
        return None

    @property
    def config(self) -> dict[str, Any]:
        """Every option that made this trainer, as `config.json` records it."""
        return {
            "trainer_class": type(self).__name__,
            "dict_class": type(self.ae).__name__,
            "steps": self.steps,
            "activation_dim": self.ae.activation_dim,
            "dict_size": self.ae.dict_size,
            "seed": self.seed,
            "device": str(self.device),
            "layer": self.layer,
            "lm_name": self.lm_name,
            "wandb_name": self.wandb_name,
            "submodule_name": self.submodule_name,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What training found out that no option said; `config.json` records it, too."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that a later `load_state_dict` needs to go on as if never interrupted."""
        return {"ae": self.ae.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ae.load_state_dict(state["ae"])
        self.optimizer.load_state_dict(state["optimizer"])
        _lay_out_moments(self.optimizer)

    def _see_batch(self, n_tokens: int, x: Tensor) -> None:
        """Count the tokens of all processes' batches, and see to it that their activations `x` are finite."""
        n_tokens, batch_sum = distributed.total_numbers(n_tokens, x.sum(dtype=torch.float32))
        self._watch.see("batch", batch_sum)
        self._n_tokens = int(n_tokens)

    def _clipped_step(self, max_norm: float) -> None:
        """Move the weights along their gradients, which together are made no longer than `max_norm`.

        The fused optimiser divides by `grad_scale` on its way, which saves a pass over all gradients.
        """
        norms = torch._foreach_norm([p.grad for p in self.ae.parameters() if p.grad is not None])
        norm = torch.linalg.vector_norm(torch.stack(norms))
        try:
            self._watch.see("gradient", norm)
        except UserError:
            self.optimizer.zero_grad()
            raise
        optimizer: Any = self.optimizer
        optimizer.found_inf = self._watch.found_inf
        optimizer.grad_scale = _scale_to(max_norm, norm) if math.isfinite(max_norm) else None
        with in_memory_order(self.optimizer):
            optimizer.step()
        self.optimizer.zero_grad()

    def _set_learning_rate(self, lr: float, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * factor


def _scale_to(max_norm: float, norm: Tensor) -> Tensor:
    """What gradients of such a norm are divided by, so that it is `max_norm` at most."""
    scale = norm.clamp_min(max_norm)
    return scale if max_norm == 1 else scale / max_norm


def whole_number(name: str, value: Any) -> int:
    """A count as an int, also where it is written as a float, such as 4.0.

    Raises:
        UserError: it is no whole number.
    """
    try:
        number = int(value)
        is_whole = number == value and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError):
        number, is_whole = 0, False
    if not is_whole:
        raise UserError(f"{name} is {value!r}, and must be a whole number.")
    return number


class Watch:
    """Sees to it that batches, losses and gradients are finite.

    BatchTopK would drop a NaN of a batch without a trace. Where the host reads values each number is checked
    at once. On a device they stay, with those of the steps before: no weight moves from the first step on
    that has one which is not finite, and the host learns of it when it asks.
    """

    SENTENCES: ClassVar[dict[str, str]] = {
        "batch": "the batch of step {step} holds NaN or infinite activations: try the language model in "
        "float32, or another layer.",
        "loss": "the loss is {value} at step {step}: try a smaller lr, or weaker penalties.",
        "gradient": "the gradient's norm is {value} at step {step}: try a smaller lr, or weaker penalties.",
    }

    KEPT: ClassVar[int] = 4096
    """Steps whose numbers a device keeps; then the host asks by itself."""

    def __init__(self, device: torch.device) -> None:
        self._numbers_S3 = torch.zeros(self.KEPT, len(self.SENTENCES), device=device)
        self._found_inf, self._one = torch.zeros((), device=device), torch.ones((), device=device)
        self._steps: list[int] = []  # those that the rows are of
        self._step, self._reads, self._seen = 0, True, dict[str, Tensor]()

    def begin(self, step: int, reads: bool) -> None:
        """A step begins.

        Args:
            reads: whether the host reads each number.
        """
        if (reads and not self._reads) or len(self._steps) == self.KEPT:
            self.check()
        self._step, self._reads = step, reads
        self._seen.clear()

    def see(self, name: str, number: Tensor | float) -> None:
        """
        Args:
            number: a sum over all processes, so that all of them stop or none.

        Raises:
            UserError: names the step and the remedy, if values are read and this one is not finite.
        """
        if not self._reads:
            self._seen[name] = torch.as_tensor(number).detach()
            return
        if not math.isfinite(value := float(number)):
            raise UserError(self.SENTENCES[name].format(step=self._step, value=value))

    @property
    def found_inf(self) -> Tensor | None:
        """1 where the optimiser has to leave the weights alone, as its fused forms understand it."""
        if self._reads:
            return None
        numbers_3 = self._numbers_S3[len(self._steps)]
        torch.stack([self._seen[name] for name in self.SENTENCES], out=numbers_3)
        self._steps.append(self._step)
        # 1 once a number is not finite, and never 0 again
        torch._amp_foreach_non_finite_check_and_unscale_([numbers_3], self._found_inf, self._one)
        return self._found_inf

    def check(self) -> None:
        """
        Raises:
            UserError: something was not finite in the steps that nothing was read of.
        """
        for step, numbers in zip(self._steps, self._numbers_S3[: len(self._steps)].tolist(), strict=True):
            for name, number in zip(self.SENTENCES, numbers, strict=True):
                if not math.isfinite(number):
                    raise UserError(self.SENTENCES[name].format(step=step, value="not finite"))
        self._steps.clear()


class DeadLatents:
    """Counts the tokens since each latent last fired."""

    LOOK_AHEAD: ClassVar[int] = 100
    """Steps for which a device is asked at once how many latents may be dead."""

    def __init__(self, dict_size: int, device: torch.device) -> None:
        self.tokens_since_fired_F = torch.zeros(dict_size, dtype=torch.int64, device=device)
        self._batch, self._known_for, self._most = 0, 0, 0

    def count(self, fired_F: Tensor, n_tokens: int) -> None:
        """Add a batch of `n_tokens` in all processes.

        Args:
            fired_F: mask of the latents that fired in this process's rows.
        """
        self.tokens_since_fired_F += n_tokens
        self.tokens_since_fired_F.masked_fill_(distributed.anywhere(fired_F), 0)
        self._batch = n_tokens
        self._known_for -= n_tokens

    def dead(self, threshold: int) -> Tensor:
        """Mask [F] of latents that have been silent for at least `threshold` tokens."""
        return self.tokens_since_fired_F >= threshold

    def at_most(self, threshold: int) -> int:
        """How many latents are dead, at most: their number on a CPU, and on a device one for some steps.

        A latent can only die when enough tokens pass, so the host need not ask at every step.
        """
        ahead = 0 if self.tokens_since_fired_F.device.type == "cpu" else self.LOOK_AHEAD * self._batch
        if ahead == 0 or self._known_for < 0:
            self._most = int((self.tokens_since_fired_F + ahead >= threshold).sum())
            self._known_for = ahead
        return self._most

    def forget(self) -> None:
        """The counts were set from outside."""
        self._known_for = -1


def default_learning_rate(dict_size: int) -> float:
    """2e-4 at 16k latents, falling with the square root of the size (Gao et al. 2024, figure 3)."""
    return 2e-4 / math.sqrt(dict_size / 2**14)


def learning_rate_factor(step: int, steps: int, warmup_steps: int, decay_start: int | None = None) -> float:
    """Linear from 0 at step 0 over the warm-up, then 1, then linear to 0 from `decay_start` to `steps`."""
    if step < warmup_steps:
        return step / warmup_steps
    if decay_start is not None and step >= decay_start:
        return (steps - step) / (steps - decay_start)
    return 1.0


def check_decay_start(decay_start: int | None, warmup_steps: int, steps: int) -> None:
    """Refuse a decay that does not lie between the warm-up and the end with a sentence."""
    if decay_start is not None and not warmup_steps <= decay_start < steps:
        raise UserError(
            f"decay_start is {decay_start}, and must lie between warmup_steps ({warmup_steps}) "
            f"and steps ({steps})."
        )


def adam(parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
    """Adam in its fused form: a sixth of the time of the default form."""
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)


@contextmanager
def in_memory_order(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it matrices that are stored by columns are their transposes, with gradients and moments.

    Of what does not lie in order the fused Adam makes copies: seven times the time, and the memory of one.
    """
    turned = [
        parameter
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.ndim == 2 and not parameter.is_contiguous() and parameter.T.is_contiguous()
    ]
    _transpose(optimizer, turned)
    try:
        yield
    finally:
        _transpose(optimizer, turned)


def _transpose(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        gradient, parameter.grad = parameter.grad, None
        parameter.data = parameter.data.T
        parameter.grad = None if gradient is None else gradient.T
        state = optimizer.state[parameter]
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state:
                state[moment] = state[moment].T


def _lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Store moments as their parameters: torch 2.13 takes both as they lie, fused, whatever the strides."""
    for parameter, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


@torch.no_grad()
def batch_mean(x_BD: Tensor, n_tokens: int) -> Tensor:
    """The mean [D] of the rows of all processes, of which there are `n_tokens`."""
    return distributed.total(x_BD.sum(0)) / n_tokens


@torch.no_grad()
def batch_variance(x_BD: Tensor, n_tokens: int) -> Tensor:
    """The summed squared distance of the rows of all processes from their mean."""
    return distributed.total((x_BD - batch_mean(x_BD, n_tokens)).square().sum())


def smallest_positive(values_N: Tensor) -> Tensor:
    """The smallest positive one of all processes' values; infinite where there is none."""
    positive_N = values_N.masked_fill(values_N <= 0, math.inf)
    here = positive_N.min() if len(positive_N) else positive_N.new_tensor(math.inf)
    return distributed.smallest(here)


def follow_average(average: Tensor, value: Tensor, beta: float) -> None:
    """Move a running average, which is negative while unset, towards a value, in place.

    An infinite value changes nothing.
    """
    value = torch.where(value < math.inf, value, average)
    torch.where(average < 0, value, average.lerp(value, 1 - beta), out=average)


@torch.no_grad()
def geometric_median(x_BD: Tensor, max_rounds: int = 100, tolerance: float = 1e-5) -> Tensor:
    """The point [D] with the least sum of distances to `x_BD`, by Weiszfeld's rounds from the mean."""
    guess = batch_mean(x_BD, distributed.total_count(len(x_BD)))
    for _ in range(max_rounds):
        previous = guess
        weights_B = 1 / torch.linalg.vector_norm(x_BD - guess, dim=1).clamp_min(1e-12)
        guess = distributed.total(weights_B @ x_BD) / distributed.total(weights_B.sum())
        if torch.linalg.vector_norm(guess - previous) < tolerance:
            break
    return guess


@torch.no_grad()
def remove_parallel_gradient(weight_FD: Tensor, grad_FD: Tensor) -> None:
    """Take from each row of the gradient, in place, its component along the row of the weight.

    A step along it would only change the row's norm, which is set back to 1 after every step.
    """
    rows = CHUNK if on_cpu(weight_FD) else len(weight_FD)
    for weight_CD, grad_CD in zip(weight_FD.split(rows), grad_FD.split(rows), strict=True):
        square_C, dot_C = (torch.linalg.vecdot(of_CD, weight_CD) for of_CD in (weight_CD, grad_CD))
        grad_CD.addcmul_(weight_CD, (dot_C / square_C.clamp_min(1e-24))[:, None], value=-1)


@torch.no_grad()
def unit_norm_rows_(weight_FD: Tensor) -> None:
    """Scale each row to norm 1, in place."""
    weight_FD.div_(torch.linalg.vector_norm(weight_FD, dim=1, keepdim=True).clamp_min(1e-12))
