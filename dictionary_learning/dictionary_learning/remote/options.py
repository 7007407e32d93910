"""What is kept on this machine of large files at a URL."""

from dataclasses import dataclass

from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.options import Checked, option


@dataclass(frozen=True)
class LocalCacheOptions(Checked):
    """For a command that reads the shards of an activation cache.

    Raises:
        UserError: a value that is no amount of memory.
    """

    local_cache: str = option(
        "50GB",
        "disk for the shards of --activations at a URL, in the cache folder; the least recently used go",
        group="activations",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_bytes(self.local_cache)
