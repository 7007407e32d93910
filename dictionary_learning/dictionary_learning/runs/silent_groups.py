"""A warning where a group of latents falls silent."""

from collections import Counter
from collections.abc import Mapping

from dictionary_learning.command.progress import say

SILENT_SHARE = 0.05  # of k: a group with less than this on for SILENT_LOGS logs in a row is reported
SILENT_LOGS = 3


class SilentGroups:
    """Warns once about each group of latents that stays almost without activations."""

    def __init__(self, trainer: str, k: float) -> None:
        self.trainer, self.k = trainer, k
        self._logs: Counter[str] = Counter()
        self._reported: set[str] = set()

    def watch(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if not name.startswith("l0_group_") or name in self._reported:
                continue
            self._logs[name] = self._logs[name] + 1 if value < SILENT_SHARE * self.k else 0
            if self._logs[name] == SILENT_LOGS:
                self._reported.add(name)
                say(
                    f"warning: group {name.removeprefix('l0_group_')} of {self.trainer} has fallen silent "
                    f"(L0 {value:.2g} where k is {self.k:g}): a lower --temp_alpha or other "
                    "--group_fractions may help."
                )
