"""What every dictionary is.

Shapes: B tokens, L positions, D model width, F latents.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from dictionary_learning.command.devices import with_own_defaults
from dictionary_learning.dictionaries import loader
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.dictionaries.tiles import entries_of
from dictionary_learning.dictionaries.weights_file import read_checkpoint
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.text_codes import check_width as check_width

WEIGHTS_SUFFIXES = (".pt", ".pth", ".bin")
UNSET_THRESHOLD = -1.0
"""Of inference, where none was set: below every code, which is never negative."""


class Dictionary(nn.Module, ABC):
    """A sparse dictionary over activations: `encode` to latents, `decode` back.

    A dictionary loaded from disk works on raw activations: the factor by which training scaled
    them is folded into the weights when they are saved (`scale_biases`).
    """

    activation_dim: int
    dict_size: int
    reads_sequences: bool = False
    """Whether a code depends on earlier tokens, so that `encode` has to see whole texts [B, L, D]."""
    place: Place | None = None
    """The output of a decoder layer that it was trained on, as far as what it was loaded from says."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        with_own_defaults(cls, "__init__")
        if "encode" in cls.__dict__ and "encode_entries" not in cls.__dict__:
            # what a parent knows of the entries of its own codes does not hold for these
            cls.encode_entries = Dictionary.encode_entries  # type: ignore[method-assign]

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Activations [..., D] to latents [..., F]."""

    @abstractmethod
    def decode(self, f: Tensor) -> Tensor:
        """Latents [..., F] to reconstructed activations [..., D]."""

    def encode_entries(self, x_BD: Tensor) -> SparseCode:
        """The entries of `encode(x_BD)` that are not zero, of tokens [B, D] without a text around them."""
        assert not self.reads_sequences, "these codes depend on the earlier tokens of a text"
        return entries_of(self.encode, x_BD, self.dict_size)

    def forward(self, x: Tensor, output_features: bool = False) -> Any:
        """Reconstruct [..., D]; with `output_features` return `(x_hat, f)`."""
        f = self.encode(x)
        x_hat = self.decode(f)
        return (x_hat, f) if output_features else x_hat

    def taken(self, x: Tensor, weight: Tensor) -> Tensor:
        """Activations [..., D] in the dtype of the weights: a model's own may be a shorter one.

        Raises:
            UserError: they are of another width.
        """
        if x.shape[-1:] != (self.activation_dim,):
            width = x.shape[-1] if x.ndim else "none"
            raise UserError(
                f"{type(self).__name__} takes activations of width {self.activation_dim}, and these have "
                f"width {width}: choose the model and layer that it was trained on."
            )
        return x.to(weight.dtype)

    def splits(self) -> dict[str, slice]:
        """Named parts of the latents, such as `{"high": ..., "low": ...}`; empty without parts."""
        return {}

    def decoder_directions(self) -> Tensor:
        """The vector [F, D] that each latent adds to the reconstruction."""
        raise NotImplementedError(f"{type(self).__name__} has no single decoder direction a latent")

    def scale_biases(self, scale: float) -> None:
        """Turn a dictionary for activations x into the same one for activations `scale * x`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be rescaled")

    @classmethod
    @abstractmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        """Rebuild from the tensors of `ae.pt`; sizes come from the shapes, the rest from `config`."""

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        *,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
        trainable: bool = False,
        **config: Any,
    ) -> Self:
        """Load a dictionary of this class, without running pickled code; it works on raw activations.

        Args:
            path: an `ae.pt`, any folder that `load_dictionary` takes, or such a folder on the Hugging Face
                hub, as `user/repository` or `user/repository/folder`.
            device: the CPU when None.
            dtype: of the weights; float32, or as in the file, when None.
            revision: branch, tag or commit on the hub.
            trainable: let its parameters take gradients.
            config: what an `ae.pt` alone does not say, such as `k`; a folder says it itself.

        Raises:
            UserError: nothing is there, it is damaged, it is another architecture, or an option says
                nothing to it.
        """
        if Path(path).is_file() or Path(path).suffix in WEIGHTS_SUFFIXES:
            checkpoint = read_checkpoint(path)
            options = _Read(config)
            dictionary = cls.from_state_dict(checkpoint.weights, options)
            if unread := config.keys() - options.read:
                raise UserError(
                    f"{cls.__name__}.from_pretrained has no use for {', '.join(sorted(unread))} where it "
                    f"reads {path}: leave it out."
                )
            if checkpoint.norm_factor is not None:
                dictionary.scale_biases(checkpoint.norm_factor)
            return dictionary.to(device or "cpu", dtype).eval().requires_grad_(trainable)
        dictionary, _ = loader.load(
            path, device or "cpu", revision=revision, trainable=trainable, overrides=config
        )
        dictionary = dictionary.to(dtype=dtype)
        if not isinstance(dictionary, cls):
            raise UserError(
                f"{path} holds a {type(dictionary).__name__}, not a {cls.__name__}: load it with "
                f"{type(dictionary).__name__}.from_pretrained, or with load_dictionary."
            )
        return dictionary


class _Read(dict[str, Any]):
    """Options that know which of them somebody asked for."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


def chunk_slice(dictionary: Dictionary, chunk: int) -> slice:
    """The latents that `--chunk` asks for: 0 the first named split, 1 the rest, 2 all.

    A dictionary without splits is all one group, so 0 and 2 are the same there.

    Raises:
        UserError: chunk 1 of a dictionary without splits, or another number than 0, 1, 2.
    """
    splits = list(dictionary.splits().values())
    if chunk not in (0, 1, 2):
        raise UserError(
            f"chunk {chunk} does not exist: 0 is the high-level split, 1 the rest, 2 all latents."
        )
    if chunk == 2 or (chunk == 0 and not splits):
        return slice(0, dictionary.dict_size)
    if not splits:
        raise UserError(f"chunk 1 needs groups, and {type(dictionary).__name__} has none: use chunk 2.")
    return splits[0] if chunk == 0 else slice(splits[0].stop, dictionary.dict_size)


def state_sizes(
    name: str, state: dict[str, Tensor], shapes: dict[str, str], config: dict[str, Any]
) -> dict[str, int]:
    """The sizes of the axes in `state`, once its keys and shapes are known to fit.

    Args:
        name: the dictionary class, for the message.
        shapes: one letter an axis for every key, such as `{"W_enc": "DF", "b_dec": "D", "k": ""}`; a 1 is an
            axis of size 1.
        config: `activation_dim` and `dict_size` in it must agree with D and F.

    Raises:
        UserError: a key is missing or unexpected, or an axis has two sizes.
    """
    for problem, keys in (("lacks", shapes.keys() - state.keys()), ("has", state.keys() - shapes.keys())):
        if keys:
            raise UserError(
                f"these weights are not of a {name}, which has the keys {_few(shapes)}: the file {problem} "
                f"{_few(sorted(keys))}; load it with the class that its config.json names."
            )
    given = (("D", "activation_dim"), ("F", "dict_size"))
    sizes = {"1": 1} | {axis: config[key] for axis, key in given if config.get(key)}
    for key, axes in shapes.items():
        if state[key].ndim == len(axes):
            sizes = {**dict(zip(axes, state[key].shape, strict=True)), **sizes}
    for key, axes in shapes.items():
        shape, expected = list(state[key].shape), [sizes.get(axis) for axis in axes]
        if shape != expected:
            raise UserError(
                f"{key} of this {name} has shape {shape}, where the other tensors and config.json "
                f"ask for {expected}: the weights and the config.json beside them do not belong together."
            )
    return sizes


def _few(names: Iterable[str], at_most: int = 8) -> str:
    """Names for a sentence."""
    names = list(names)
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "")
