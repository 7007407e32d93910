"""Temporal Feature Analysis written from its formulas, a position at a time: slow, plain, and without torch's
layers. What `TemporalSAE` computes at once must come out the same.

    x <- x - b
    for each attention layer:
        z_t = relu(lam x_t E);  c_t = z_{t-1}, c_0 = 0
        a_t = softmax over j <= t of <q(z_t), k(c_j)> / sqrt(head width), head by head
        p_t = relu(proj(sum_j a_tj v(c_j)));  s_t = <p_t D, x_t> / (|p_t D| + eps)^2
        predicted_t += s_t p_t;  x_t <- x_t - s_t p_t D
    novel_t = selection of relu(lam x_t E)
"""

import math

import torch
from torch import Tensor

EPS = 1e-6


def take_apart(
    state: dict[str, Tensor], x_LD: Tensor, n_heads: int, kind: str, k: int = 0, threshold: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted codes, novel codes [L, W] and the reconstruction [L, D] of one text."""
    atoms_WD = state["D"]
    encoder_DW = state.get("E", atoms_WD.T)
    lam = 1 / (4 * atoms_WD.shape[1])
    n_layers = len({name.split(".")[1] for name in state if name.startswith("attn_layers.")})
    residual = [x_D - state["b"].flatten() for x_D in x_LD]
    predicted = [torch.zeros(len(atoms_WD)) for _ in x_LD]
    for i in range(n_layers):
        weights = {
            name: state[f"attn_layers.{i}.{name}.weight"] for name in ("k_ctx", "q_target", "v_ctx", "c_proj")
        }
        biases = {name: state[f"attn_layers.{i}.{name}.bias"] for name in weights}
        z = [torch.relu(lam * (x_D @ encoder_DW)) for x_D in residual]
        context = [torch.zeros(len(atoms_WD)), *z[:-1]]
        for t in range(len(x_LD)):
            query = (weights["q_target"] @ z[t] + biases["q_target"]).view(n_heads, -1)
            keys = [(weights["k_ctx"] @ c + biases["k_ctx"]).view(n_heads, -1) for c in context[: t + 1]]
            values = [(weights["v_ctx"] @ c + biases["v_ctx"]).view(n_heads, -1) for c in context[: t + 1]]
            said = []
            for head in range(n_heads):
                scores = [float(query[head] @ key[head]) / math.sqrt(query.shape[1]) for key in keys]
                weight = [math.exp(score - max(scores)) for score in scores]
                total = sum(weight)
                said.append(sum(w / total * value[head] for w, value in zip(weight, values, strict=True)))
            p = torch.relu(weights["c_proj"] @ torch.cat(said) + biases["c_proj"])
            direction = p @ atoms_WD
            strength = float(direction @ residual[t]) / (float(direction.norm()) + EPS) ** 2
            predicted[t] = predicted[t] + strength * p
            residual[t] = residual[t] - strength * direction
    novel = [_select(torch.relu(lam * (x_D @ encoder_DW)), kind, k, threshold) for x_D in residual]
    x_hat = [(p + n) @ atoms_WD + state["b"].flatten() for p, n in zip(predicted, novel, strict=True)]
    return torch.stack(predicted), torch.stack(novel), torch.stack(x_hat)


def _select(activation: Tensor, kind: str, k: int, threshold: float) -> Tensor:
    if kind == "relu":
        return activation
    kept = torch.zeros_like(activation)
    if kind == "topk":
        for atom in sorted(range(len(activation)), key=lambda i: -float(activation[i]))[:k]:
            kept[atom] = activation[atom]
    elif kind == "batchtopk":
        for atom, value in enumerate(activation.tolist()):
            if value > threshold:
                kept[atom] = value
    else:
        assert kind == "nullify"
    return kept
