"""A start for short runs: attention that recalls the earlier tokens that are like the current one.

From random weights, the attention of a TemporalSAE needs many millions of tokens before what it predicts is
better than the mean activation. Where the queries and keys of alike codes are alike, and values pass through
unchanged, the predicted part is from the first step an average of earlier activations, weighted by how much
they resemble the current one. Training goes on from there.

Values that are narrower than the codes cannot pass unchanged. What passes then is the projection of the codes
to their leading directions, the closest to it that the rank allows: random ones in their place hardly recall
anything.

Shapes: D model width, W atoms, N width of queries and keys, V of values, T tokens of all texts.
"""

import torch

from dictionary_learning import distributed
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries.attention import ContextAttention
from dictionary_learning.dictionaries.prediction import predict
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.trainers.trainer import batch_mean

ITERATIONS = 4  # of the search for leading directions; more change nothing to speak of
SCALES = tuple(2.0**e for e in range(2, 15))  # of queries and keys; codes are about 1 / (4 D)


@torch.no_grad()
def start_bias_at_mean(ae: TemporalSAE, texts: Sequences) -> None:
    """Set `b` in place to the mean of this and the other processes' parts of the first batch."""
    ae.b.copy_(batch_mean(texts.x_TD, distributed.total_count(len(texts))))


@torch.no_grad()
def start_at_recall(ae: TemporalSAE, texts: Sequences, seed: int) -> float:
    """Set first weights in place: what `texts` say of recall and of how sharp it should be around `b`.

    Atoms are doubled: at norm 2 √D, what an atom reads from a direction of its own
    it writes back in full, since lam = 1 / (4 D). Of every attention layer, `v_ctx` and `c_proj` become the
    identity, or with a `value_rank` its best stand-in for the codes of `texts`, and `q_target` and `k_ctx`
    one random projection [N, W], at the scale of `SCALES` that predicts `texts` best.

    Args:
        texts: this process's part of the first batch, in the units of the weights.
        seed: of the projection, and of the search for leading directions.

    Returns:
        squared error of the predicted part over the squared norm, of `texts`, at the scales chosen.
    """
    # autocast keeps a cast copy of each weight, and would not see the scales that are tried
    with torch.autocast(ae.D.device.type, enabled=False):
        return _start_at_recall(ae, texts, seed)


def _start_at_recall(ae: TemporalSAE, texts: Sequences, seed: int) -> float:
    for atoms in (ae.D, *([] if ae.tied_weights else [ae.E])):
        atoms.mul_(2)
    generator = torch.Generator().manual_seed(seed)
    error = float("nan")
    for number, layer in enumerate(ae.layers):
        if ae.value_rank is None:
            for passes in (layer.v_ctx, layer.c_proj):
                torch.nn.init.eye_(passes.weight)
        else:
            directions_VW = leading_directions(_codes(ae, number, texts), ae.value_rank, generator)
            # turned at random, values are alike in size, in every head: otherwise most of them learn slowly
            turn_VV, _ = torch.linalg.qr(torch.randn(ae.value_rank, ae.value_rank, generator=generator))
            directions_VW = turn_VV.to(directions_VW) @ directions_VW
            layer.v_ctx.weight.copy_(directions_VW)
            layer.c_proj.weight.copy_(directions_VW.T)
        shape = layer.k_ctx.weight.shape
        projection_NW = torch.randn(shape, generator=generator).to(ae.D) / shape[0] ** 0.5
        errors = {}
        for scale in SCALES:
            _read_with(layer, projection_NW * scale)
            errors[scale] = _error(ae, texts)
        best = min(errors, key=errors.__getitem__)
        _read_with(layer, projection_NW * best)
        error = errors[best]
    return error


def leading_directions(z_TW: torch.Tensor, rank: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal directions [V, W] in which the rows of all processes are largest, by subspace iteration.

    Where the rows span fewer, the others are arbitrary.
    """
    basis_WV = torch.randn(z_TW.shape[1], rank, generator=generator).to(z_TW)
    for _ in range(ITERATIONS):
        basis_WV, _ = torch.linalg.qr(distributed.total(z_TW.T @ (z_TW @ basis_WV)))
    if not distributed.is_first():
        basis_WV.zero_()  # processes on unlike machines may have found other last digits
    distributed.fill_in(basis_WV)
    return basis_WV.T


def _codes(ae: TemporalSAE, number: int, texts: Sequences) -> torch.Tensor:
    """The codes [T, W] that attention layer `number` reads of `texts`."""
    left_BLD = ae.centred(texts.padded())
    if number:
        earlier = ae.layers[:number]
        left_BLD = predict(left_BLD, earlier, ae.activations, ae.D, codes=False, graphs=False).residual_BLD
    return texts.tokens(ae.activations(left_BLD))


def _read_with(layer: ContextAttention, projection_NW: torch.Tensor) -> None:
    for reads in (layer.q_target, layer.k_ctx):
        reads.weight.copy_(projection_NW)


def _error(ae: TemporalSAE, texts: Sequences) -> float:
    left_TD = texts.tokens(ae.predict(ae.centred(texts.padded())).residual_BLD)
    squares = torch.stack([left_TD.square().sum(), texts.x_TD.square().sum()])
    missed, whole = distributed.total(squares).tolist()
    return missed / whole
