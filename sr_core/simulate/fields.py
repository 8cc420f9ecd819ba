"""Smooth random fields: the irregularity of lesions, texture, bias fields and field inhomogeneity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sr_core import kspace
from sr_core.grid import Shape
from sr_core.maps import Volume


def smooth_field(rng: np.random.Generator, shape: Shape, scale_voxels: float) -> Volume:
    """A Gaussian random field of ``shape``, zero mean, unit SD, correlated over about ``scale_voxels``.

    White noise on knots ``scale_voxels`` apart, joined by uniform cubic B-splines along each axis.
    """
    basis = [_spline_basis(n, scale_voxels) for n in shape]
    knots = rng.standard_normal([b.shape[1] for b in basis]).astype(np.float32)
    field = kspace.apply_axes(knots, basis)
    field -= field.mean()
    spread = float(field.std())
    return np.asarray(field / spread if spread > 0 else field, dtype=np.float32)


def _spline_basis(n: int, spacing: float) -> NDArray[np.float32]:
    """(n, knots) weights of the cubic B-spline that lies on each of ``n`` samples."""
    x = np.arange(n) / spacing
    first = np.floor(x).astype(int)
    t = x - first
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    basis = np.zeros((n, int(first.max()) + 4), dtype=np.float32)
    for k, w in enumerate(weights):
        basis[np.arange(n), first + k] = w
    return basis
