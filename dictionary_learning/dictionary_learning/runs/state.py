"""How far a run has come."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dictionary_learning.runs.source import Batch


@dataclass
class State:
    """What changes from step to step, beside the trainers' own state."""

    done: int = 0  # steps
    tokens: int = 0
    position: Mapping[str, Any] | None = None  # among the batches, behind the last step
    is_of_documents: bool = False  # each of several processes has a position of its own
    last_batch: Batch | None = None  # of this session
    seconds_before: float = 0.0  # of the sessions before this one
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Of all sessions."""
        return self.seconds_before + time.monotonic() - self.began
