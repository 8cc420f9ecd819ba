"""What two voxels of the anatomical image are compared by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core.maps import Mask, Volume

_LOG_SIGMA = 1.5  # voxels: the Laplacian's reach, a cortical ribbon's half width


def guide_features(guides: Sequence[Volume], brain: Mask, log: bool = False) -> NDArray[np.float32]:
    """(k · guides, slice, row, column): k features of every contrast, one after the other.

    Intensity, smoothed intensity (Gaussian, σ = 1 voxel), gradient magnitude (at the same scale), local
    SD (3 × 3 × 3), and with ``log`` the Laplacian of Gaussian, whose sign tells a ridge from a valley.
    Each contrast is first put over its 2nd to 98th percentile range inside ``brain``, so that what is
    similar needs no unit.
    """
    return np.concatenate([_of_one(g, brain, log) for g in guides])


def _of_one(guide: Volume, brain: Mask, log: bool) -> NDArray[np.float32]:
    low, high = np.percentile(guide[brain], [2, 98])
    g = ((guide - low) / max(float(high - low), np.finfo(np.float32).tiny)).astype(np.float32)
    g = np.clip(g, -0.5, 1.5)
    smooth = ndimage.gaussian_filter(g, 1.0, mode="nearest")
    slope = ndimage.gaussian_gradient_magnitude(g, 1.0, mode="nearest")
    mean = ndimage.uniform_filter(g, 3, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(g**2, 3, mode="nearest") - mean**2, 0.0))
    features = [g, smooth, slope, spread]
    if log:
        features.append(ndimage.gaussian_laplace(g, _LOG_SIGMA, mode="nearest"))
    return np.stack(features).astype(np.float32)
