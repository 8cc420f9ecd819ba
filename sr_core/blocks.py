"""Means over the window of each LR voxel on the SR grid, and their spreading back.

HR sample ``f·i`` lies on LR sample ``i``, so the window of LR voxel i is centred there: for an even
factor f it reaches f/2 to either side and the two ends count half, for an odd one it is the f
samples around. Windows of neighbours share their ends, and every HR sample is covered once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .grid import Shape
from .kspace import Array, apply_axes
from .maps import Volume


@lru_cache(maxsize=32)
def _cover(n: int, factor: int) -> Array:
    """(n·factor × n): what share of each HR sample belongs to each LR voxel; rows sum to 1."""
    at = np.arange(n * factor)
    cover = np.zeros((at.size, n))
    half = factor // 2
    low = (at + half) // factor
    if factor % 2:
        np.add.at(cover, (at, np.clip(low, 0, n - 1)), 1.0)
    else:
        shared = (at + half) % factor == 0
        np.add.at(cover, (at, np.clip(low, 0, n - 1)), np.where(shared, 0.5, 1.0))
        np.add.at(cover, (at[shared], np.clip(low[shared] - 1, 0, n - 1)), 0.5)
    cover.setflags(write=False)
    return cover


def block_mean(hr: Volume, factor: Shape) -> Volume:
    """Mean of ``hr`` (slice, row, column) over each LR voxel's window. Raises ValueError off the factor."""
    if any(n % f for n, f in zip(hr.shape, factor, strict=True)):
        raise ValueError(f"{hr.shape} samples are not blocks of {factor}")
    covers = [_cover(n // f, f) for n, f in zip(hr.shape, factor, strict=True)]
    means = [np.ascontiguousarray((c / c.sum(axis=0)).T, dtype=np.float32) for c in covers]
    return np.asarray(apply_axes(np.ascontiguousarray(hr, dtype=np.float32), means), dtype=np.float32)


def block_spread(lr: Volume, factor: Shape) -> Volume:
    """Each LR value on its window; where two share a sample, their mean."""
    covers = [_cover(n, f).astype(np.float32) for n, f in zip(lr.shape, factor, strict=True)]
    return np.asarray(apply_axes(np.ascontiguousarray(lr, dtype=np.float32), covers), dtype=np.float32)
