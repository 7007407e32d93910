"""The slow truth: a T-SAE training step in dense tensors and plain autograd.

Written from the formulas alone and sharing nothing with the package, to compare results with in the
tests and time with in `benchmarks/training_step.py`. Selection is a flat top-k over all B * F
entries, Adam is torch's default form. Shapes: B pairs, D model width, F latents.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class DenseTSAE(torch.nn.Module):
    def __init__(self, W_dec_FD: Tensor, group_sizes: list[int], k: int) -> None:
        super().__init__()
        self.W_enc = torch.nn.Parameter(W_dec_FD.T.clone())
        self.b_enc = torch.nn.Parameter(torch.zeros(len(W_dec_FD)))
        self.W_dec = torch.nn.Parameter(W_dec_FD.clone())
        self.b_dec = torch.nn.Parameter(torch.zeros(W_dec_FD.shape[1]))
        self.group_sizes, self.k = group_sizes, k

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        post_relu_BF = torch.relu((x_BD - self.b_dec) @ self.W_enc + self.b_enc)
        top = post_relu_BF.flatten().topk(self.k * len(x_BD), sorted=False)
        f = torch.zeros_like(post_relu_BF).flatten().scatter(0, top.indices, top.values)
        return f.view_as(post_relu_BF), post_relu_BF


class DenseStep:
    """`update(step, x)` as the trainer's, for the contrastive or L1 loss in either form."""

    def __init__(
        self,
        ae: DenseTSAE,
        *,
        lr: float,
        group_weights: list[float],
        temp_alpha: float,
        warmup_steps: int = 0,
        contrastive: bool = True,
        form: str = "code",
        temperature: float = 1.0,
        auxk_alpha: float = 1 / 32,
        dead_feature_threshold: int = 10_000_000,
    ) -> None:
        self.ae, self.lr, self.weights = ae, lr, torch.tensor(group_weights)
        self.temp_alpha, self.warmup_steps, self.contrastive = temp_alpha, warmup_steps, contrastive
        self.form, self.temperature, self.auxk_alpha = form, temperature, auxk_alpha
        self.dead_feature_threshold = dead_feature_threshold
        self.since_fired = torch.zeros(ae.W_dec.shape[0], dtype=torch.long)
        self.optimizer = torch.optim.Adam(ae.parameters(), lr=lr)

    def update(self, step: int, x_B2D: Tensor) -> float:
        ae, (x, earlier) = self.ae, x_B2D.unbind(1)
        f, post_relu = ae.encode(x)
        f_earlier, _ = ae.encode(earlier)

        losses, x_hat, start = [], ae.b_dec.expand_as(x), 0
        for size in ae.group_sizes:
            x_hat = x_hat + f[:, start : start + size] @ ae.W_dec[start : start + size]
            losses.append((x - x_hat).pow(2).sum(-1).mean())
            start += size
        stacked = torch.stack(losses)
        reconstruction = stacked.sum() if self.form == "paper" else (stacked * self.weights).mean()

        high = ae.group_sizes[0]
        z, z_earlier = f[:, :high], f_earlier[:, :high]
        if self.contrastive:
            if self.form == "paper":
                z, z_earlier = F.normalize(z, dim=-1, eps=1e-6), F.normalize(z_earlier, dim=-1, eps=1e-6)
            logits = z @ z_earlier.T / self.temperature
            own = torch.arange(len(x))
            temporal = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        else:
            distance = (z - z_earlier).abs().sum(-1)
            temporal = self.weights[0] * (F.cosine_similarity(x, earlier, dim=-1) * distance).mean()

        self.since_fired += len(x)
        self.since_fired[(f > 0).any(0)] = 0
        auxk = self._auxk((x - x_hat).detach(), post_relu)
        loss = reconstruction + self.auxk_alpha * auxk + self.temp_alpha * temporal
        loss.backward()

        unit = F.normalize(ae.W_dec.data, dim=1)
        ae.W_dec.grad -= (ae.W_dec.grad * unit).sum(1, keepdim=True) * unit
        torch.nn.utils.clip_grad_norm_(ae.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        ae.W_dec.data = F.normalize(ae.W_dec.data, dim=1)
        return loss.item()

    def _auxk(self, residual: Tensor, post_relu: Tensor) -> Tensor:
        dead = self.since_fired >= self.dead_feature_threshold
        if not dead.any():
            return torch.tensor(0.0)
        k_aux = min(residual.shape[1] // 2, int(dead.sum()))
        top = post_relu.masked_fill(~dead, -torch.inf).topk(k_aux, dim=-1, sorted=False)
        f_aux = torch.zeros_like(post_relu).scatter(-1, top.indices, top.values)
        missed = (residual - f_aux @ self.ae.W_dec).pow(2).sum(-1).mean()
        return missed / (residual - residual.mean(0)).pow(2).sum(-1).mean()
