"""Sums over tokens that stay where the activations are until they are read."""

from torch import Tensor

from dictionary_learning import distributed


class Sums:
    """Named sums in float64.

    They are read once, at the end: each value that the host reads makes a GPU wait.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            value = value.double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def over_processes(self) -> None:
        """Turn them into the sums over all processes."""
        self._sums = distributed.total_by_name(self._sums)

    def __getitem__(self, name: str) -> float:
        """The sum of what was added under a name; 0 of nothing."""
        return float(self._sums[name]) if name in self._sums else 0.0

    def vector(self, name: str) -> Tensor:
        """A sum of vectors, on the CPU."""
        return self._sums[name].cpu()


def double(tensor: Tensor) -> Tensor:
    """float64, on the CPU where the device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
