"""What a map can be asked; the flags of `experiments/tsne.py`."""

import importlib.util
from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ComparedOptions

METHODS = ("tsne", "umap", "pca")
METHOD_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
MAX_POINTS = 10_000  # the distances of all pairs are in memory: 400 MB
COLOURINGS = {"pos": "Part of speech", "domain": "Domain", "sequence": "Sequence"}


@dataclass(frozen=True)
class MapOptions(ComparedOptions):
    """What a map can be asked."""

    n_points: int = option(1500, "tokens on the map", group="map")
    tokens_a_text: int = option(25, "tokens of each text", group="map")
    method: str = option(
        "tsne", "how two dimensions are made; umap needs umap-learn", group="map", choices=METHODS
    )
    perplexity: float = option(30.0, "tsne: about how many neighbours a point has", group="map")
    umap_neighbours: int = option(15, "umap: neighbours of a point", group="map")
    colourings: tuple[str, ...] = option(
        tuple(COLOURINGS), "which labels", group="labels", choices=tuple(COLOURINGS)
    )
    neighbours: int = option(10, "nearest neighbours whose class is compared", group="labels")
    permutations: int = option(100, "times the labels are dealt out anew, for chance", group="labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "neighbours", "permutations")
        self.check_least(2, "umap_neighbours", "tokens_a_text")
        if self.n_points < 2 * self.tokens_a_text:
            raise UserError(
                f"--n_points {self.n_points} with {self.tokens_a_text} tokens of each text are less than two "
                f"texts: give --n_points {2 * self.tokens_a_text} or more, or a smaller --tokens_a_text."
            )
        if self.n_points > MAX_POINTS:
            raise UserError(
                f"--n_points {self.n_points:,} is too many for the distances of all pairs: give at most "
                f"{MAX_POINTS:,}."
            )
        check_method(self.method, self.perplexity, self.n_points)


def check_method(method: str, perplexity: float, n_points: int) -> None:
    """For as much as can be seen before there is a point.

    Raises:
        UserError: the method is unknown or not installed, or the perplexity does not fit the points.
    """
    if method not in METHODS:
        raise UserError(f"--method {method} is unknown: choose {', '.join(METHODS)}.")
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise UserError(
            "--method umap needs the package umap-learn, which is not installed: pip install umap-learn, or "
            "choose --method tsne or pca."
        )
    if method == "tsne" and not 1 <= perplexity < n_points:
        raise UserError(
            f"--perplexity {perplexity:g} does not fit {n_points:,} points: give at least 1 and less than "
            f"the number of points (5 to 50 is usual)."
        )
