"""What the index of an activation cache says of its shards, and which caches lie in one folder."""

from dataclasses import dataclass

from dictionary_learning.activations.block import BlockStart
from dictionary_learning.remote.path import AnyPath, RemotePath

INDEX = "index.json"


@dataclass
class ShardEntry:
    """What the index says of a shard; the last five are None until it is written."""

    file: str
    start: BlockStart
    n_positions: int
    n_contexts: int
    texts_sha256: str
    """Of the tokens and document ids, to notice that a corpus has changed."""
    n_tokens: int | None = None
    """Usable ones, with the cache's own norm filter."""
    n_bytes: int | None = None
    sha256: str | None = None
    mtime_ns: int | None = None
    high_norm_tokens: dict[str, int] | None = None
    """What the cache's own norm filter leaves out most often; older caches do not know."""

    @property
    def written(self) -> tuple[str, int]:
        """Checksum and length of a shard that is written."""
        assert self.sha256 is not None
        assert self.n_bytes is not None
        return self.sha256, self.n_bytes


@dataclass
class Part:
    """The shards of one part of the corpus, in order."""

    max_tokens: int | None
    shards: list[ShardEntry]

    @property
    def n_written(self) -> int:
        return sum(shard.sha256 is not None for shard in self.shards)


def cache_of_layer(folder: AnyPath, layer: int) -> AnyPath:
    """The cache of one of the layers that were recorded together into a folder."""
    return folder / f"layer_{layer}"


def caches_of_layers(folder: AnyPath) -> list[AnyPath]:
    """The caches of layers that were recorded together into a folder, by their numbers."""
    if (folder / INDEX).exists():
        return []
    if isinstance(folder, RemotePath):
        names = [name.removesuffix(f"/{INDEX}") for name in folder.files() if name.endswith(f"/{INDEX}")]
    else:
        names = [path.name for path in folder.glob("layer_*") if (path / INDEX).is_file()]
    numbers = [int(name[6:]) for name in names if name.startswith("layer_") and name[6:].isdecimal()]
    return [cache_of_layer(folder, number) for number in sorted(numbers)]
