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


class WholeBatches(torch.nn.Module):
    """The same with tied weights and `topk` on texts [B, L, D], dense and in the order of the released code.

    Both codes are decoded together, and each again without a gradient.
    """

    def __init__(self, state: dict[str, Tensor], n_heads: int, k: int) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterDict(
            {
                name.replace(".", "/"): torch.nn.Parameter(tensor.clone())
                for name, tensor in state.items()
                if name != "scaling_factor"
            }
        )
        self.n_heads, self.k = n_heads, k
        self.n_layers = len({name.split(".")[1] for name in state if name.startswith("attn_layers.")})

    def forward(self, x_BLD: Tensor, graph: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        atoms_WD, b_1D = self.weights["D"], self.weights["b"]
        lam = 1 / (4 * atoms_WD.shape[1])
        x = x_BLD - b_1D
        predicted = torch.zeros(*x.shape[:2], len(atoms_WD))
        graphs = []
        for i in range(self.n_layers):
            z = torch.relu((lam * x) @ atoms_WD.T)
            context = torch.cat([torch.zeros_like(z[:, :1]), z[:, :-1]], dim=1)
            q, key, value = (
                self._linear(i, name, of).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
                for name, of in (("q_target", z), ("k_ctx", context), ("v_ctx", context))
            )
            if graph:
                scores = q @ key.transpose(-1, -2) / math.sqrt(q.shape[-1])
                future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
                graphs.append(scores.masked_fill(future, -math.inf).softmax(-1))
            said = torch.nn.functional.scaled_dot_product_attention(q, key, value, is_causal=True)
            p = torch.relu(self._linear(i, "c_proj", said.transpose(1, 2).flatten(2)))
            direction = p @ atoms_WD
            norm = direction.norm(dim=-1, keepdim=True) + EPS
            strength = (direction * x).sum(-1, keepdim=True) / norm**2
            predicted = predicted + strength * p
            x = x - strength * direction
        activation = torch.relu((lam * x) @ atoms_WD.T)
        kept = torch.zeros_like(activation).scatter(-1, activation.topk(self.k, dim=-1).indices, 1)
        novel = activation * kept
        x_hat = (novel + predicted) @ atoms_WD + b_1D
        with torch.no_grad():
            parts = {"pred_recons": predicted @ atoms_WD, "novel_recons": novel @ atoms_WD}
        return x_hat, {
            "pred_codes": predicted,
            "novel_codes": novel,
            **parts,
            **({"attn_graphs": torch.stack(graphs, dim=1)} if graph else {}),
        }

    def _linear(self, layer: int, name: str, x: Tensor) -> Tensor:
        weight, bias = (self.weights[f"attn_layers/{layer}/{name}/{part}"] for part in ("weight", "bias"))
        return torch.nn.functional.linear(x, weight, bias)


class WholeBatchStep:
    """`update(step, x)` as the trainer's, with torch's default AdamW and clipping."""

    def __init__(self, sae: WholeBatches, *, lr: float, steps: int, warmup_steps: int, lr_floor: float = 0.9):
        self.sae, self.lr, self.steps = sae, lr, steps
        self.warmup_steps, self.lr_floor = warmup_steps, lr_floor
        self.optimizer = torch.optim.AdamW(sae.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=1e-4)

    def update(self, step: int, x_BLD: Tensor) -> float:
        x_hat, _ = self.sae(x_BLD)
        loss = (x_BLD - x_hat).pow(2).sum() / x_BLD.shape[:2].numel()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * self._factor(step)
        self.optimizer.step()
        return float(loss.detach())

    def _factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps))
        return self.lr_floor + (1 - self.lr_floor) * (1 + math.cos(math.pi * done)) / 2
