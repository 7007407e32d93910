"""The dictionary that a run begins with (`--init_from`), from whatever lies at a path.

    beginning = load_beginning("runs/batch_top_k")

Whatever `load_dictionary` reads will do. Densities are read from a SAELens folder's sparsity.safetensors.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.remote.file_system import told

if TYPE_CHECKING:
    from torch import Tensor

    from dictionary_learning.runs.beginning import Beginning

SPARSITY = "sparsity.safetensors"  # log10 of the share of tokens at which each latent is active


def load_beginning(path: str) -> "Beginning":
    """The dictionary at a path, a URL or a name on the hub, with what its files say of it.

    Raises:
        UserError: as `load_dictionary`.
    """
    from dictionary_learning.exchange.loading import load_dictionary, trainer_folder, weights_sha256
    from dictionary_learning.language_model.places import Place
    from dictionary_learning.runs.beginning import Beginning

    folder = trainer_folder(path)
    dictionary, config = load_dictionary(folder, "cpu")
    place = Place.of_run(config)
    output = None if place is None else place.output
    return Beginning(
        dictionary=dictionary,
        name=told(path),
        models=_models(config),
        layer=None if output is None else output.layer,
        site=None if output is None else output.site,
        density_F=_density(folder, dictionary.dict_size),
        facts={
            "path": told(path),
            "dict_class": type(dictionary).__name__,
            "weights_sha256": weights_sha256(folder),
        },
    )


def _models(config: dict[str, Any]) -> frozenset[str]:
    """The names of the language model: its own, the one that everybody knows, and ours for the demo's."""
    from dictionary_learning.exchange.names import PUBLIC_NAMES, model_name

    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    own = trainer.get("lm_name") or buffer.get("model")
    if own is None:
        return frozenset()
    public = model_name({"lm_name": own}) or own
    aliases = {
        ours for ours, known in PUBLIC_NAMES.items() if known.rpartition("/")[2] == public.rpartition("/")[2]
    }
    return frozenset({own, public, *aliases})


def _density(folder: Path, dict_size: int) -> "Tensor | None":
    """What a SAELens folder says; None where it says nothing, or not of all latents."""
    from dictionary_learning.dictionaries.weights_file import read_safetensors

    path = folder / SPARSITY
    if not path.is_file():
        return None
    found = read_safetensors(path).get("sparsity")
    return 10 ** found.double() if found is not None and found.shape == (dict_size,) else None
