"""First weights of a run that are those of another dictionary.

    beginning = Beginning(dictionary, "runs/batch_top_k", density_F=None)
    beginning.check("temporal", dict_size=4608, d_model=576)
    beginning.set(trainer, scaling, source)

BatchTopK, TopK, Matryoshka and Temporal SAEs are one family: each can begin with the weights of another, with
the same number of latents. All other architectures begin with their own kind.

Groups: a dictionary with the same groups keeps its order. Otherwise latents are ordered by density, the one
that is active at most tokens first, so that the first group, which has to reconstruct by itself, gets those
that are active most. Densities are those in the dictionary's files, or measured on the first batches.

Decoder rows get norm 1 and the encoder their norms, which leaves reconstructions as they are; the threshold
does not go with the norms, and stays only where they were 1. What depends on activations is put into the
units of training (`scaling`). Dead counters, the optimiser and the steps start anew.

Shapes: B tokens, D model width, F latents.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, Dictionary
from dictionary_learning.dictionaries.classics import AutoEncoder, JumpReluAutoEncoder
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.architectures import ARCHITECTURES, BATCH_TOP_K_FAMILY
from dictionary_learning.trainers.threshold import ThresholdDictionary

if TYPE_CHECKING:
    from dictionary_learning.runs.scaling import Scaling
    from dictionary_learning.runs.source import Source

DENSITY_TOKENS, DENSITY_BATCHES = 32_768, 16  # a density is measured on whichever is less
_ROWS = 1024  # tokens that are encoded at a time
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Beginning:
    """A dictionary to begin with.

    Attributes:
        dictionary: on the CPU; works on raw activations.
        name: where it is, for messages.
        models: names of the language model that it was trained on; empty where its files name none.
        layer, site: what it was trained on, as far as its files say.
        density_F: share of the tokens at which each latent is active; None where its files do not say.
        facts: recorded in config.yaml.
    """

    dictionary: Dictionary
    name: str
    models: frozenset[str] = frozenset()
    layer: int | None = None
    site: str | None = None
    density_F: Tensor | None = None
    facts: dict[str, Any] | None = None

    @property
    def norm_factor(self) -> float | None:
        """By which activations have to be divided for these weights; None where any factor will do."""
        if isinstance(self.dictionary, TemporalSAE):
            return 1 / float(self.dictionary.scaling_factor)
        return None

    def check(self, options: Any) -> None:
        """Refuse what cannot begin with it; nothing slow happens.

        Raises:
            UserError: another family, number of latents, language model, layer or site; what would make the
                start pointless.
        """
        self._check_family(options)
        self._check_place(options)
        n = self.dictionary.width if isinstance(self.dictionary, TemporalSAE) else self.dictionary.dict_size
        asked = options.latents(self.dictionary.activation_dim)
        if asked != n:
            raise UserError(
                f"--init_from {self.name} has {n:,} latents, and {asked:,} are asked for: give "
                f"--dict_size {n}."
            )
        if len(options.seeds) > 1:
            raise UserError(
                f"--seeds asks for {len(options.seeds)} dictionaries, and all would begin with the weights "
                f"of --init_from {self.name} and see the same batches: give one seed."
            )

    def check_width(self, d_model: int) -> None:
        """Refuse activations of another width."""
        if d_model != self.dictionary.activation_dim:
            raise UserError(
                f"--init_from {self.name} takes activations of width {self.dictionary.activation_dim}, and "
                f"these have width {d_model}: give the --model and --layer that it was trained on."
            )

    def groups(self, group_sizes: list[int]) -> str:
        """The rule by which latents come into groups of these sizes, for the record."""
        if not self._is_reordered(group_sizes):
            return "as they are"
        return "by density, " + (
            "from its files" if self.density_F is not None else "measured on the first batches"
        )

    def set(self, trainer: Any, scaling: "Scaling", source: "Source") -> None:
        """Put the weights into a trainer, before its first step."""
        ae, device = trainer.ae, next(trainer.ae.parameters()).device
        given = copy.deepcopy(self.dictionary).to(device)
        if isinstance(given, ThresholdDictionary):
            order_F = self._order(ae, given, scaling, source)
            _set_weights(ae, given, order_F, 1 / scaling.known_factor)
        else:
            _load_weights(ae, given, 1 / scaling.known_factor)
        trainer.is_begun = True

    def _check_family(self, options: Any) -> None:
        kind, arch = type(self.dictionary).__name__, options.arch
        if arch in BATCH_TOP_K_FAMILY:
            if not isinstance(self.dictionary, ThresholdDictionary):
                raise UserError(
                    f"--init_from {self.name} is a {kind}, and --arch {arch} can begin with a BatchTopK, "
                    "TopK, Matryoshka or Temporal SAE: choose another dictionary, or another --arch."
                )
            return
        own = ARCHITECTURES[arch].trainer_class().dictionary_class
        if type(self.dictionary) is not own:
            raise UserError(
                f"--init_from {self.name} is a {kind}, and --arch {arch} can begin with a {own.__name__} "
                "alone: choose another dictionary, or another --arch."
            )
        if isinstance(self.dictionary, TemporalSAE):
            self._check_attention(options)

    def _check_attention(self, options: Any) -> None:
        assert isinstance(self.dictionary, TemporalSAE)
        architecture = self.dictionary.architecture
        for name in ("n_heads", "n_attn_layers", "bottleneck_factor", "value_rank", "tied_weights"):
            own, asked = architecture[name], getattr(options, name)
            if name == "value_rank":
                own, asked = own or self.dictionary.width, asked or self.dictionary.width
            if own != asked:
                flag = f"--{name} {own}" if name != "tied_weights" else "--no_tied_weights"
                raise UserError(
                    f"--init_from {self.name} has {name} {own}, and this run asks for {asked}: give {flag}."
                )
        if not options.normalize:
            raise UserError(
                f"--init_from {self.name} scales its activations by itself, as training does: leave "
                "--no_normalize out."
            )

    def _check_place(self, options: Any) -> None:
        def last(name: str) -> str:
            return name.rstrip("/").rpartition("/")[2].lower()

        if self.models and last(options.model) not in map(last, self.models):
            model = sorted(self.models)[0]
            raise UserError(
                f"--init_from {self.name} is of the language model {model}, and this run reads "
                f"{options.model}: give --model {model}, or another dictionary."
            )
        for flag, own, asked in (("layer", self.layer, options.layer), ("site", self.site, options.site)):
            if own is not None and own != asked:
                raise UserError(
                    f"--init_from {self.name} is of {flag} {own}, and this run reads {flag} {asked}: give "
                    f"--{flag} {own}, or another dictionary."
                )

    def _is_reordered(self, group_sizes: list[int]) -> bool:
        own = getattr(self.dictionary, "group_sizes", None)
        return len(group_sizes) > 1 and (own is None or own.tolist() != group_sizes)

    def _order(
        self, ae: ThresholdDictionary, given: ThresholdDictionary, scaling: "Scaling", source: "Source"
    ) -> Tensor:
        """The latents [F] of the given dictionary in the order in which the trained one has them."""
        device = next(given.parameters()).device
        sizes = getattr(ae, "group_sizes", None)
        if sizes is None or not self._is_reordered(sizes.tolist()):
            return torch.arange(ae.dict_size, device=device)
        density_F = self.density_F
        if density_F is None:
            density_F = measure_density(given, source, scaling)
        return density_F.to(device).argsort(descending=True, stable=True)


@torch.no_grad()
def measure_density(dictionary: ThresholdDictionary, source: "Source", scaling: "Scaling") -> Tensor:
    """The share [F] of tokens of the first batches at which each latent is active; they stay to be read.

    Without an inference threshold a code is that of BatchTopK over its tokens.
    """
    from dictionary_learning.runs.scaling import activations

    device = next(dictionary.parameters()).device
    count_F = torch.zeros(dictionary.dict_size, dtype=torch.float64)
    n_tokens = 0
    for batch in source.look_ahead(DENSITY_TOKENS, DENSITY_BATCHES):
        x_BD = activations(batch).reshape(-1, dictionary.activation_dim)
        for some_BD in x_BD.to(device, torch.float32).split(_ROWS):
            f_BF = dictionary.encode(some_BD, use_threshold=bool(dictionary.threshold >= 0))
            count_F += (f_BF != 0).sum(0).double().cpu()
        n_tokens += len(x_BD)
    count_F = distributed.total(count_F)
    n_tokens = distributed.total_count(n_tokens)
    say(f"latents are ordered by density, measured on {n_tokens:,} tokens.")
    return count_F / max(n_tokens, 1)


@torch.no_grad()
def _set_weights(ae: ThresholdDictionary, given: ThresholdDictionary, order_F: Tensor, scale: float) -> None:
    """The given weights in this order, for activations times `scale`, with decoder rows of norm 1."""
    given.scale_biases(scale)
    own, new = ae.weights(), given.weights()
    norm_F = torch.linalg.vector_norm(new.W_dec_FD, dim=1).clamp_min(1e-12)
    is_unit = bool(((norm_F - 1).abs() <= _NORM_TOLERANCE).all())
    if is_unit:
        norm_F = torch.ones_like(norm_F)
    own.W_enc_DF.copy_((new.W_enc_DF * norm_F)[:, order_F])
    own.b_enc_F.copy_((new.b_enc_F * norm_F)[order_F])
    own.W_dec_FD.copy_((new.W_dec_FD / norm_F[:, None])[order_F])
    own.b_dec_D.copy_(new.b_dec_D)
    ae.threshold.copy_(given.threshold if is_unit else torch.tensor(UNSET_THRESHOLD))


@torch.no_grad()
def _load_weights(ae: Dictionary, given: Dictionary, scale: float) -> None:
    """The given weights as they are, for activations times `scale`, into a dictionary of the same kind."""
    if isinstance(given, TemporalSAE):
        # training divides activations by the factor that it multiplies them with
        state = {name: tensor for name, tensor in given.state_dict().items() if name != "scaling_factor"}
        ae.load_state_dict(
            {**ae.state_dict(), **{name: state[name] for name in state if name in ae.state_dict()}}
        )
        return
    given.scale_biases(scale)
    if isinstance(given, AutoEncoder):
        given.normalize_decoder()
    if isinstance(given, JumpReluAutoEncoder) and given.apply_b_dec_to_input:
        given.b_enc.sub_(given.b_dec @ given.W_enc)  # (x - b_dec) W_enc = x W_enc - b_dec W_enc
    ae.load_state_dict(given.state_dict())
