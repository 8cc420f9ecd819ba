"""Figures of merit. ``data_range`` is always given: nothing is normalised in secret."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sr_core.maps import Mask, Volume


def psnr(x: Volume, truth: Volume, where: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB over the voxels of ``where``. Infinite if equal."""
    error = float(np.mean((x.astype(np.float64) - truth)[where] ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(data_range**2 / error))


def nrmse(x: Volume, truth: Volume, where: Mask) -> float:
    """Root mean square error over the root mean square of the truth, both over ``where``."""
    t = truth[where].astype(np.float64)
    return float(np.sqrt(np.mean((x[where] - t) ** 2) / np.mean(t**2)))


def ssim(x: Volume, truth: Volume, where: Mask, data_range: float) -> float:
    """Mean over ``where`` of the structural similarity of each plane (axis 0): Gaussian window of σ 1.5
    voxels truncated at 5, K₁ = 0.01, K₂ = 0.03 (Wang et al. 2004).
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    a, b = x.astype(np.float64), truth.astype(np.float64)

    def smooth(
        v: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.asarray(ndimage.gaussian_filter(v, (0, 1.5, 1.5), truncate=3.5))

    ma, mb = smooth(a), smooth(b)
    va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
    local = ((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float(local[where].mean())


def dice(a: Mask, b: Mask) -> float:
    """Overlap of two masks: 1 if equal, also if both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total
