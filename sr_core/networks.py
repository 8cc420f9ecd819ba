"""The U-Net generator (Li et al. 2022, "Unet and GAN architectures"; decisions/0005)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """A 2D U-Net that corrects an initial super-resolved plane.

    Input (batch, planes, rows, columns): the plane to correct in the middle, ``neighbours`` planes on
    each side of it; and σ (batch,) of the noise, both in units of the map's LR 99.9th percentile.
    Output (batch, 1, rows, columns): the plane plus a learned residual. The last convolution starts at
    zero, so an untrained network returns its input. PReLU, strided convolutions down and transposed ones
    up, no normalisation layers. Rows and columns are multiples of ``stride``.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 96, 192), neighbours: int = 1) -> None:
        super().__init__()
        if len(channels) < 2 or neighbours < 0:
            raise ValueError("a U-Net has at least two levels and no negative number of neighbours")
        self.neighbours = neighbours
        self.stride = 2 ** (len(channels) - 1)
        planes = 2 * neighbours + 1
        self.entry = _block(planes + 1, channels[0])
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 2, stride=2), nn.PReLU(b), _block(b, b)) for a, b in pairs
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(_block(2 * a, a) for a, _ in reversed(pairs))
        self.exit = nn.Conv2d(channels[0], 1, 1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(cast(Tensor, self.exit.bias))

    def forward(self, planes: Tensor, sigma: Tensor) -> Tensor:
        """See the class."""
        noise = sigma.to(planes.dtype).view(-1, 1, 1, 1).expand(-1, 1, *planes.shape[2:])
        x = self.entry(torch.cat([planes, noise], dim=1))
        seen = [x]
        for down in self.down:
            x = down(x)
            seen.append(x)
        seen.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), seen.pop()], dim=1))
        middle = planes[:, self.neighbours : self.neighbours + 1]
        # The sum in float32: under bfloat16 autocast it would cost 8 dB of the plane itself.
        corrected: Tensor = middle.float() + self.exit(x).float()
        return corrected


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.PReLU(outputs),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.PReLU(outputs),
    )
