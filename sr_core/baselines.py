"""Interpolations on the aligned grid, where HR sample ``f·i`` is LR sample ``i``."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .grid import Shape
from .kspace import Array, apply_axes, zero_fill


def _keys(t: Array) -> Array:
    """Keys' cubic convolution kernel, a = −½ (IEEE Trans. ASSP 29:1153, 1981)."""
    t = np.abs(t)
    near = 1.5 * t**3 - 2.5 * t**2 + 1.0
    far = -0.5 * t**3 + 2.5 * t**2 - 4.0 * t + 2.0
    return np.where(t <= 1.0, near, np.where(t < 2.0, far, 0.0))


def _hat(t: Array) -> Array:
    return np.maximum(1.0 - np.abs(t), 0.0)


_KERNELS: dict[str, Callable[[Array], Array]] = {"keys": _keys, "hat": _hat}


@lru_cache(maxsize=64)
def _matrix(kernel: str, n: int, factor: int, dtype: str) -> Array:
    """(n·factor × n) interpolation matrix; samples beyond the edge are the edge's."""
    at = np.arange(n * factor) / factor
    matrix = np.zeros((n * factor, n))
    for reach in range(-1, 3):
        source = np.floor(at).astype(int) + reach
        np.add.at(matrix, (np.arange(n * factor), np.clip(source, 0, n - 1)), _KERNELS[kernel](at - source))
    matrix = matrix.astype(dtype)
    matrix.setflags(write=False)
    return matrix


def _interpolate(kernel: str, lr: Array, factor: Shape) -> Array:
    if lr.ndim != 3 or min(factor) < 1:
        raise ValueError(f"a volume of three axes is enlarged by whole factors ≥ 1, not {lr.ndim}, {factor}")
    lr = np.ascontiguousarray(lr, dtype=np.float64 if lr.dtype == np.float64 else np.float32)
    return apply_axes(
        lr, [_matrix(kernel, n, f, lr.dtype.str) for n, f in zip(lr.shape, factor, strict=True)]
    )


def bicubic(lr: Array, factor: Shape) -> Array:
    """Keys' cubic convolution (a = −½) along all three axes, interpolating, edges clamped.

    ``lr`` (slice, row, column) finite; the result is ``factor`` times larger per axis and has
    ``lr[i]`` at ``factor·i``. Raises ValueError for factors < 1.
    """
    return _interpolate("keys", lr, factor)


def trilinear(lr: Array, factor: Shape) -> Array:
    """Linear interpolation, as ``bicubic``: for masks and noise levels, which must not overshoot."""
    return _interpolate("hat", lr, factor)


def nearest(lr: Array, factor: Shape) -> Array:
    """Each HR voxel takes the LR voxel whose centre is nearest: for labels, dtype kept."""
    index = [
        np.minimum((np.arange(n * f) + f // 2) // f, n - 1) for n, f in zip(lr.shape, factor, strict=True)
    ]
    return lr[np.ix_(*index)]


def zerofill(lr: Array, factor: Shape) -> Array:
    """Zero-filled k-space (sinc interpolation); ``lr[i]`` at ``factor·i``, rings at edges."""
    n, f = lr.shape, factor
    return zero_fill(lr, (n[0] * f[0], n[1] * f[1], n[2] * f[2]))
