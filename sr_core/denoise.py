"""How noisy a map is, and non-local means on the LR grid.

Quantified maps carry Gaussian noise, not Rician: nothing is corrected for a bias.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from .maps import Mask, Volume

_SD_PER_MAD = 1.4826  # of a Gaussian
_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])
_ENOUGH = 30  # voxels for a robust estimate

# Patches that differ by noise alone have distance 1; the fall-off beyond is a reading of "NLMD".
_SOFTNESS = 0.5


def noise_sd(values: Volume, mask: Mask) -> float:
    """Robust noise SD of ``values`` inside ``mask``, in the map's unit.

    MAD of the second difference along all axes at once (after Immerkær, CVIU 64:300, 1996), which
    is blind to what is smooth along any one axis. Voxels whose neighbourhood leaves the mask do not
    count. 0 if fewer than 30 voxels are left.
    """
    wide = [n >= 3 for n in values.shape]
    residual = np.where(mask, values, 0.0).astype(np.float64)
    gain = 1.0
    for axis, usable in enumerate(wide):
        if usable:
            residual = ndimage.convolve1d(residual, _SECOND_DIFFERENCE, axis=axis, mode="nearest")
            gain *= float(np.linalg.norm(_SECOND_DIFFERENCE))
    inner = ndimage.binary_erosion(mask, np.ones([3 if usable else 1 for usable in wide]))
    r = residual[inner]
    if r.size < _ENOUGH:
        return 0.0
    return float(_SD_PER_MAD * np.median(np.abs(r - np.median(r))) / gain)


def _half_window(radius: tuple[int, ...]) -> list[tuple[int, ...]]:
    """One of each pair ±offset, the centre left out."""
    return [o for o in product(*(range(-r, r + 1) for r in radius)) if o > (0,) * len(radius)]


def _overlap(shape: tuple[int, ...], offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels that have a neighbour at ``offset``, and those neighbours."""
    here = tuple(slice(max(0, -o), min(n, n - o)) for n, o in zip(shape, offset, strict=True))
    there = tuple(slice(max(0, o), min(n, n + o)) for n, o in zip(shape, offset, strict=True))
    return here, there


def bounding_box(mask: Mask, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box around ``mask``, widened by ``margin`` voxels. Raises ValueError if empty."""
    if not mask.any():
        raise ValueError("an empty mask has no bounding box")
    box = []
    for axis in range(mask.ndim):
        at = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(0, int(at[0]) - margin), min(mask.shape[axis], int(at[-1]) + 1 + margin)))
    return tuple(box)


def nlm(values: Volume, sigma: Volume, mask: Mask, search: int = 3, patch: int = 1) -> Volume:
    """Non-local means inside ``mask``, adapted to each voxel's noise SD ``sigma`` (> 0 in the mask).

    Windows of (2·search + 1)³ voxels, patches of (2·patch + 1)³, both cut at the mask. The distance
    of two patches is their mean squared difference over the sum of their variances: 1 if noise
    alone parts them. Neighbours count by similarity and by the inverse of their variance; the
    voxel itself by the best of them. Voxels outside the mask are returned as they came.
    """
    if not mask.any():
        return np.array(values, dtype=np.float32)
    box = bounding_box(mask, margin=patch)
    v = np.where(mask, values, 0.0).astype(np.float32)[box]
    m = mask[box].astype(np.float32)
    variance = np.where(mask, np.square(sigma, dtype=np.float32), 0.0).astype(np.float32)[box]
    precision = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
    width = [2 * patch + 1 if n >= 3 else 1 for n in v.shape]
    radius = tuple(min(search, n - 1) for n in v.shape)
    total, weight = precision * v, precision.copy()
    for offset in _half_window(radius):
        p, q = _overlap(v.shape, offset)
        both = m[p] * m[q]
        noise = variance[p] + variance[q]
        apart = np.divide((v[p] - v[q]) ** 2 * both, noise, out=np.zeros_like(noise), where=noise > 0)
        share = ndimage.uniform_filter(both, width, mode="constant")
        distance = ndimage.uniform_filter(apart, width, mode="constant") / np.maximum(share, 1e-6)
        w = np.exp(-np.maximum(distance - 1.0, 0.0) / _SOFTNESS) * both
        wq, wp = w * precision[q], w * precision[p]
        total[p] += wq * v[q]
        weight[p] += wq
        total[q] += wp * v[p]
        weight[q] += wp
    out = np.array(values, dtype=np.float32)
    inside = mask[box]
    out[box][inside] = (total[inside] / np.maximum(weight[inside], np.finfo(np.float32).tiny)).astype(
        np.float32
    )
    return out
