"""What training minimises. Images are (batch, planes, rows, columns) in units of the LR 99.9th percentile."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Wang et al., Asilomar 2003: as many of the five scales as a crop allows, weights raised in proportion.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA, _REACH = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def data_loss(
    predicted: Tensor,
    truth: Tensor,
    inside: Tensor,
    l1: float = 0.0,
    ms_ssim: float = 0.0,
) -> Tensor:
    """Mean squared error (Li et al. 2022, eq. 3 with λ = 0, mean over pixels), weighted by ``inside``.

    ``inside`` is 0 outside the brain. Plus ``l1`` × mean |error| and ``ms_ssim`` × (1 − MS-SSIM), data
    range 1.
    """
    root = inside.sqrt()
    predicted, truth = predicted * root, truth * root
    loss = nn.functional.mse_loss(predicted, truth)
    if l1 > 0:
        loss = loss + l1 * nn.functional.l1_loss(predicted, truth)
    if ms_ssim > 0:
        loss = loss + ms_ssim * (1 - ms_ssim_of(predicted, truth))
    return loss


def generator_loss(logits_of_generated: Tensor) -> Tensor:
    """−log D(G), the non-saturating form of eq. 3's second term (the paper's log(−D) is not defined)."""
    return nn.functional.softplus(-logits_of_generated).mean()


def discriminator_loss(logits_of_true: Tensor, logits_of_generated: Tensor) -> Tensor:
    """−log D(truth) − log(1 − D(generated)) (eq. 2), mean of both."""
    real = nn.functional.softplus(-logits_of_true).mean()
    return (real + nn.functional.softplus(logits_of_generated).mean()) / 2


def ms_ssim_of(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity of planes, data range 1, mean over all of them.

    Gaussian window of σ 1.5, without padding. Raises ValueError if a plane is smaller than the window.
    """
    a, b = (t.reshape(-1, 1, *t.shape[2:]) for t in (a, b))
    if min(a.shape[2:]) <= 2 * _REACH:
        raise ValueError(f"MS-SSIM needs planes larger than {2 * _REACH}, not {tuple(a.shape[2:])}")
    parts: list[Tensor] = []
    while True:
        luminance, structure = _similarity(a, b)
        last = len(parts) + 1 == len(_SCALE_WEIGHTS) or min(a.shape[2:]) // 2 <= 2 * _REACH
        parts.append((luminance * structure if last else structure).mean(dim=(1, 2, 3)))
        if last:
            break
        a, b = nn.functional.avg_pool2d(a, 2), nn.functional.avg_pool2d(b, 2)
    weights = torch.tensor(_SCALE_WEIGHTS[: len(parts)], dtype=a.dtype, device=a.device)
    weights = weights / weights.sum()
    return torch.prod(torch.stack(parts).clamp_min(1e-4) ** weights[:, None], dim=0).mean()


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    at = torch.arange(-_REACH, _REACH + 1, dtype=a.dtype, device=a.device)
    window = torch.exp(-(at**2) / (2 * _SIGMA**2))
    window = window / window.sum()

    def smooth(t: Tensor) -> Tensor:
        t = nn.functional.conv2d(t, window.view(1, 1, -1, 1))
        return nn.functional.conv2d(t, window.view(1, 1, 1, -1))

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance, (2 * covariance + _C2) / (var_a + var_b + _C2)
