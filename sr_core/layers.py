"""Data consistency as a differentiable layer: what ``consistency.correct`` is to arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .consistency import Measurement, correction_matrices
from .kspace import Part
from .maps import Mask


class DataConsistency(nn.Module):
    """x → feasible(x + A⁺ d): agreement with a measured map, then no negatives and nothing outside the brain.

    ``part``: the box of the SR volume that x is, ``inside`` the brain in it; d as in
    ``consistency.correction``, exact where the measurement is ``hard``. Input and output (slices, rows,
    columns) of the box, float32.
    """

    def __init__(self, measured: Measurement, part: Part, inside: Mask) -> None:
        super().__init__()
        lr = measured.values.shape
        shape = (lr[0], lr[1], lr[2])
        self.hard = measured.hard
        for kind in ("forward", "pinv"):
            for axis, matrix in enumerate(correction_matrices(kind, shape, part, measured)):
                self.register_buffer(f"{kind}_{axis}", torch.from_numpy(np.array(matrix, np.float32)))
        self.register_buffer("values", torch.from_numpy(np.array(measured.values, np.float32)))
        self.register_buffer("variance", torch.from_numpy(np.array(measured.variance, np.float32)))
        self.register_buffer("trusted", torch.from_numpy(np.array(measured.trusted, np.float32)))
        self.register_buffer("inside", torch.from_numpy(np.array(inside, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        values, variance, trusted = (self.get_buffer(name) for name in ("values", "variance", "trusted"))
        r = values - self._through("forward", x)
        if not self.hard:
            share = _around(trusted).clamp_min(1e-6)
            off = (_around(trusted * (r**2 - variance)) / share).clamp_min(0)
            r = trusted * r * off / (off + variance).clamp_min(torch.finfo(torch.float32).tiny)
        agreed: Tensor = (x + self._through("pinv", r)).clamp_min(0) * self.get_buffer("inside")
        return agreed

    def _through(self, kind: str, v: Tensor) -> Tensor:
        first, middle, last = (self.get_buffer(f"{kind}_{axis}") for axis in range(3))
        if first.shape[0] > first.shape[1]:  # enlarging: the slices last, while the volume is small
            wide: Tensor = torch.tensordot(first, (middle @ v) @ last.T, dims=1)
            return wide
        narrow: Tensor = middle @ (torch.tensordot(first, v, dims=1) @ last.T)
        return narrow


def _around(v: Tensor) -> Tensor:
    """The mean over 3 × 3 × 3 voxels, with zeros beyond the edge; over one along an axis of fewer than 3."""
    width = [3 if n >= 3 else 1 for n in v.shape]
    reach = [w // 2 for w in width]
    return nn.functional.avg_pool3d(v[None, None], width, stride=1, padding=reach)[0, 0]
