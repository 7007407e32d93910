"""The novel code of a TemporalSAE: which activations of what the context left are kept.

Shapes: B texts, L positions, T tokens, W atoms, K atoms kept.
"""

import torch
from torch import Tensor

from dictionary_learning.dictionaries.sparse import SparseCode, batch_topk
from dictionary_learning.errors import UserError


def select(pre: Tensor, kind: str, k: int, threshold: Tensor | None = None) -> Tensor:
    """The activations [..., W] that are kept, zeros elsewhere.

    Args:
        pre: relu activations [..., W].
        kind: `topk` keeps k of each token, `batchtopk` k a token on average, `relu` all of them.
        threshold: for `batchtopk`, keep what exceeds it instead.
    """
    if kind == "relu":
        return pre
    if kind == "topk":
        top = pre.topk(k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    if threshold is not None:
        return pre * (pre > threshold.to(pre.dtype))
    flat = pre.flatten()
    kept = batch_topk(flat.detach(), k * (flat.numel() // pre.shape[-1]))
    return torch.zeros_like(flat).index_put((kept,), flat[kept]).view_as(pre)


def top_entries(pre_TW: Tensor, k: int) -> SparseCode:
    """The k largest activations of each token as entries, without those that are zero."""
    col_TK = pre_TW.detach().topk(k, dim=1, sorted=False).indices.sort(dim=1).values
    value_TK = pre_TW.gather(1, col_TK)
    row_TK = torch.arange(len(pre_TW), device=pre_TW.device).unsqueeze(1).expand_as(col_TK)
    is_on_TK = value_TK > 0
    return SparseCode(value_TK[is_on_TK], row_TK[is_on_TK], col_TK[is_on_TK], *pre_TW.shape)


def check_k(inf_k: int, kind: str, width: int) -> None:
    """Refuse another number of kept atoms than that of training, where it means nothing.

    Raises:
        UserError: `kind` keeps no fixed number, or there are not so many atoms.
    """
    if kind not in ("topk", "batchtopk"):
        raise UserError(f"inf_k {inf_k} means nothing where sae_diff_type is {kind}: leave it out.")
    if not 0 < inf_k <= width:
        raise UserError(f"inf_k is {inf_k}, and must be between 1 and the {width} atoms.")
