"""Generator and discriminator (Li et al. 2022, "Unet and GAN architectures"; decisions/0005)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """A 2D U-Net that corrects a slab of an initial super-resolved map, plane by plane side by side.

    A slab is ``planes`` axial planes, seen with ``context`` planes on each side of it; of every one of
    ``images`` anatomical images it sees the slab with ``image_context`` planes on each side. As one LR
    plane is four SR planes, a slab of four costs a fourth of four single planes.

    Inputs: ``stack`` (batch, planes + 2 context, rows, columns) and ``sigma`` (batch,), its noise, both
    in units of the map's LR 99.9th percentile; ``images`` (batch, images × (planes + 2 image_context),
    rows, columns), standardised, zero where there is none. Output (batch, planes, rows, columns): the
    slab plus a learned residual. The last convolution starts at zero, so an untrained network returns
    its input. PReLU, strided convolutions down and transposed ones up, no normalisation layers. Rows
    and columns are multiples of ``stride``. Raises ValueError for fewer than two levels or no plane.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 256),
        planes: int = 4,
        context: int = 4,
        images: int = 0,
        image_context: int = 1,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or planes < 1 or min(context, images, image_context) < 0:
            raise ValueError(
                "a U-Net has two levels or more, a plane or more, and no negative number of others"
            )
        self.planes, self.context = planes, context
        self.images, self.image_context = images, image_context
        self.stride = 2 ** (len(channels) - 1)
        inputs = planes + 2 * context + images * (planes + 2 * image_context)
        self.entry = _block(inputs + 1, channels[0])
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 2, stride=2), nn.PReLU(b), _block(b, b)) for a, b in pairs
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(_block(2 * a, a) for a, _ in reversed(pairs))
        self.exit = nn.Conv2d(channels[0], planes, 1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(cast(Tensor, self.exit.bias))

    def forward(self, stack: Tensor, sigma: Tensor, images: Tensor | None = None) -> Tensor:
        """See the class. Raises ValueError if images are missing, or given to a network without."""
        if (images is not None) != bool(self.images):
            raise ValueError(f"this network takes {self.images} anatomical images")
        noise = sigma.to(stack.dtype).view(-1, 1, 1, 1).expand(-1, 1, *stack.shape[2:])
        x = self.entry(torch.cat([stack, noise] if images is None else [stack, noise, images], dim=1))
        seen = [x]
        for down in self.down:
            x = down(x)
            seen.append(x)
        seen.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), seen.pop()], dim=1))
        slab = stack[:, self.context : self.context + self.planes]
        # The sum in float32: under bfloat16 autocast it would cost 8 dB of the plane itself.
        corrected: Tensor = slab.float() + self.exit(x).float()
        return corrected


class Discriminator(nn.Module):
    """Tells true planes from generated ones: eight 3 × 3 convolutions, 64 to 512 kernels, two dense layers.

    Strided where kernels double (Li et al. 2022, after Ledig et al., CVPR 2017). Input (batch, 1, size,
    size), output (batch,): logits, for the sigmoid is part of the loss. Dense layers fix the size.
    """

    def __init__(self, size: int, base: int = 64, dense: int = 1024) -> None:
        super().__init__()
        if size % 16:
            raise ValueError(f"a discriminator sees crops whose side is a multiple of 16, not {size}")
        widths = [base, base, 2 * base, 2 * base, 4 * base, 4 * base, 8 * base, 8 * base]
        layers: list[nn.Module] = []
        before = 1
        for n, width in enumerate(widths):
            layers.append(nn.Conv2d(before, width, 3, stride=1 + n % 2, padding=1, bias=n == 0))
            if n:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            before = width
        self.features = nn.Sequential(*layers)
        self.decide = nn.Sequential(
            nn.Flatten(),
            nn.Linear(8 * base * (size // 16) ** 2, dense),
            nn.LeakyReLU(0.2),
            nn.Linear(dense, 1),
        )

    def forward(self, planes: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.decide(self.features(planes))
        return logits.squeeze(1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.PReLU(outputs),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.PReLU(outputs),
    )
