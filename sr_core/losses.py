"""What training minimises."""

from __future__ import annotations

from torch import Tensor, nn


def data_loss(predicted: Tensor, truth: Tensor, l1: float = 0.0) -> Tensor:
    """Mean squared error (Li et al. 2022, eq. 3 with λ = 0, mean over pixels), plus ``l1`` × mean |error|."""
    loss = nn.functional.mse_loss(predicted, truth)
    if l1 > 0:
        loss = loss + l1 * nn.functional.l1_loss(predicted, truth)
    return loss
