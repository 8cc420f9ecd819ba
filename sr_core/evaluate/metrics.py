"""Agreement of a super-resolved map with the truth, inside a mask. ``data_range`` is always written out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sr_core.maps import Mask, Volume

# Wang et al., IEEE TIP 13:600 (2004): Gaussian window σ = 1.5, K₁ = .01, K₂ = .03.
_SSIM_SIGMA, _SSIM_REACH = 1.5, 5
_K1, _K2 = 0.01, 0.03


def psnr(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB inside ``mask``; infinite where both agree exactly.

    Raises ValueError for an empty mask or a data range that is not positive.
    """
    error = _errors(x, truth, mask)
    if data_range <= 0:
        raise ValueError(f"a data range is positive, not {data_range}")
    mse = float(np.mean(error**2))
    return float("inf") if mse == 0 else float(10 * np.log10(data_range**2 / mse))


def nrmse(x: Volume, truth: Volume, mask: Mask) -> float:
    """Root mean square error inside ``mask`` over the root mean square of the truth there.

    Raises ValueError for an empty mask, or a truth that is zero all over it.
    """
    error = _errors(x, truth, mask)
    power = float(np.mean(truth[mask].astype(np.float64) ** 2))
    if power == 0:
        raise ValueError("a relative error needs a truth that is not zero everywhere")
    return float(np.sqrt(np.mean(error**2) / power))


def ssim(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """Structural similarity of axial planes (slice, row, column), mean over the voxels of ``mask``.

    Gaussian window of σ 1.5, 11 × 11, population covariance. Raises as ``psnr``.
    """
    _errors(x, truth, mask)
    if data_range <= 0:
        raise ValueError(f"a data range is positive, not {data_range}")
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    a, b = (v[planes].astype(np.float64) for v in (x, truth))

    def smooth(
        v: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        out: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = ndimage.gaussian_filter(
            v, (0, _SSIM_SIGMA, _SSIM_SIGMA), radius=(0, _SSIM_REACH, _SSIM_REACH)
        )
        return out

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((top / below)[mask[planes]].mean())


def _errors(x: Volume, truth: Volume, mask: Mask) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if not mask.any():
        raise ValueError("a figure of merit needs at least one voxel")
    return x[mask].astype(np.float64) - truth[mask]
