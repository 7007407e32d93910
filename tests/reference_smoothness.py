"""The smoothness measures as plain loops over steps, scales and levels: the slow truth.

Each measure of each split is computed on its own from the dense f [T, F'] of that split, one step of
time after the other, straight from its definition.
"""

import torch
from torch import Tensor


def active(f_TF: Tensor) -> Tensor:
    total_F = torch.zeros(f_TF.shape[1], dtype=f_TF.dtype)
    for t in range(len(f_TF)):
        total_F += f_TF[t]
    return total_F != 0


def total_variation(f_TF: Tensor) -> float:
    total = 0.0
    for t in range(1, len(f_TF)):
        total += (f_TF[t] - f_TF[t - 1]).abs().sum().item()
    return total


def lipschitz(f_TF: Tensor, x_TD: Tensor) -> float:
    largest_F = torch.zeros(f_TF.shape[1], dtype=f_TF.dtype)
    for t in range(1, len(f_TF)):
        slope_F = (f_TF[t] - f_TF[t - 1]).abs() / torch.linalg.vector_norm(x_TD[t] - x_TD[t - 1])
        largest_F = torch.maximum(largest_F, slope_F)
    return largest_F[active(f_TF)].mean().item()


def fourier(f_TF: Tensor) -> float:
    spectrum_KF = torch.fft.rfft(f_TF, dim=0)
    middle = int(0.5 * len(spectrum_KF))
    high_F, low_F = torch.zeros(f_TF.shape[1]), torch.zeros(f_TF.shape[1])
    for k in range(len(spectrum_KF)):
        power_F = spectrum_KF[k].abs() ** 2
        if k < middle:
            low_F = low_F + power_F
        else:
            high_F = high_F + power_F
    return (high_F / (low_F + 1e-10))[active(f_TF)].mean().item()


def wavelet(f_TF: Tensor) -> float:
    approximation, detail_energy = [f_TF[t] for t in range(len(f_TF))], 0.0
    on_F = active(f_TF)
    for _ in range(3):
        coarser = []
        for i in range(0, len(approximation) - 1, 2):
            coarser.append((approximation[i] + approximation[i + 1]) / 2)
            detail_F = (approximation[i] - approximation[i + 1]) / 2
            detail_energy += detail_F[on_F].square().sum().item()
        approximation = coarser
    energy = sum(step_F[on_F].square().sum().item() for step_F in approximation)
    return detail_energy / (energy + 1e-10)


def multiscale(f_TF: Tensor) -> float:
    on_F = active(f_TF)
    variances = []
    for scale in (1, 2, 4, 8):
        if scale >= len(f_TF):
            continue
        differences = []
        for t in range(len(f_TF) - scale):
            differences.append(f_TF[t + scale] - f_TF[t])
        variances.append(torch.stack(differences).var(dim=0)[on_F].mean().item())
    return variances[0] / (variances[-1] + 1e-10)


def smoothness(
    f_TF: Tensor, x_TD: Tensor, splits: dict[str, slice] | None = None
) -> dict[str, dict[str, float]]:
    """The same result as `dictionary_learning.smoothness.smoothness`, with NaN where that has None."""
    result = {}
    for name, part in {"all": slice(None), **(splits or {})}.items():
        f = f_TF[:, part]
        result[name] = {
            "total_variation": total_variation(f),
            "lipschitz": lipschitz(f, x_TD),
            "fourier": fourier(f),
            "wavelet": wavelet(f),
            "multiscale": multiscale(f),
        }
    return result
