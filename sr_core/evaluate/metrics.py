"""Agreement of a super-resolved map with the truth, inside a mask. ``data_range`` is always written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core.maps import Mask, Volume

# Wang et al., IEEE TIP 13:600 (2004): Gaussian window σ = 1.5, K₁ = .01, K₂ = .03.
_SSIM_SIGMA, _SSIM_REACH = 1.5, 5
_K1, _K2 = 0.01, 0.03
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_GMSD_C = 170 / 255**2

Planes = NDArray[np.float64]


def psnr(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB inside ``mask``; infinite where both agree exactly.

    Raises ValueError for an empty mask or a data range that is not positive.
    """
    error = errors(x, truth, mask)
    if data_range <= 0:
        raise ValueError(f"a data range is positive, not {data_range}")
    mse = float(np.mean(error**2))
    return float("inf") if mse == 0 else float(10 * np.log10(data_range**2 / mse))


def nrmse(x: Volume, truth: Volume, mask: Mask) -> float:
    """Root mean square error inside ``mask`` over the root mean square of the truth there.

    Raises ValueError for an empty mask, or a truth that is zero all over it.
    """
    error = errors(x, truth, mask)
    power = float(np.mean(truth[mask].astype(np.float64) ** 2))
    if power == 0:
        raise ValueError("a relative error needs a truth that is not zero everywhere")
    return float(np.sqrt(np.mean(error**2) / power))


def ssim(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """Structural similarity of axial planes (slice, row, column), mean over the voxels of ``mask``.

    Gaussian window of σ 1.5, 11 × 11, population covariance; windows may reach beyond the mask.
    Raises as ``psnr``.
    """
    a, b, inside = in_planes(x, truth, mask, data_range)
    return float(ssim_map(a, b, data_range)[inside].mean())


def ssim_map(x: Planes, truth: Planes, data_range: float) -> Planes:
    """SSIM at every voxel of planes (plane, row, column): what ``ssim`` is the mean of."""
    luminance, structure = _similarity(x, truth, data_range)
    return luminance * structure


def ms_ssim(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """Multi-scale structural similarity (Wang et al., Asilomar 2003) of axial planes within ``mask``.

    Π over scales of the mean of contrast × structure over the mask's voxels, and of luminance at the
    last, each to its published weight; a negative mean counts as 0. Between scales planes are averaged
    in blocks of 2 × 2, the mask by majority. Five scales, fewer (their weights raised in proportion)
    where the window of 11 would be larger than the plane or no voxel is left. Raises as ``psnr``.
    """
    a, b, inside = in_planes(x, truth, mask, data_range)
    scales: list[tuple[float, float]] = []
    for _ in _MS_SSIM_WEIGHTS:
        if scales and (min(a.shape[1:]) < 2 * _SSIM_REACH + 1 or not inside.any()):
            break
        luminance, structure = _similarity(a, b, data_range)
        scales.append((float((luminance * structure)[inside].mean()), float(structure[inside].mean())))
        a, b = blocks(a, 2), blocks(b, 2)
        inside = blocks(inside.astype(np.float64), 2) >= 0.5
    weights = np.array(_MS_SSIM_WEIGHTS[: len(scales)])
    weights *= sum(_MS_SSIM_WEIGHTS) / weights.sum()
    means = [structure for _, structure in scales[:-1]] + [scales[-1][0]]
    return float(np.prod(np.maximum(means, 0.0) ** weights))


def gmsd(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """Gradient magnitude similarity deviation (Xue et al., IEEE TIP 23:684, 2014); 0 is perfect.

    Axial planes averaged in blocks of 2 × 2, Prewitt gradients, constant 170 on a range of 255; the SD
    of the similarity is taken over all voxels of ``mask`` at once. Raises as ``psnr``.
    """
    a, b, inside = in_planes(x, truth, mask, data_range)
    inside = blocks(inside.astype(np.float64), 2) >= 0.5
    ga, gb = (gradient(blocks(v, 2) / data_range, (1 / 3, 1 / 3, 1 / 3)) for v in (a, b))
    similarity = (2 * ga * gb + _GMSD_C) / (ga**2 + gb**2 + _GMSD_C)
    return float(similarity[inside].std()) if inside.any() else 0.0


def blocks(planes: Planes, size: int) -> Planes:
    """Means over ``size`` × ``size`` blocks of each plane (plane, row, column); a part of one is dropped."""
    n, rows, columns = planes.shape[0], planes.shape[1] // size, planes.shape[2] // size
    cut = planes[:, : rows * size, : columns * size]
    return np.asarray(cut.reshape(n, rows, size, columns, size).mean(axis=(2, 4)))


def gradient(planes: Planes, across: Sequence[float]) -> Planes:
    """Gradient magnitude of each plane: central differences, summed ``across`` by these weights; 0 around."""
    size = 0.0
    for along in (1, 2):
        g = ndimage.convolve1d(planes, [1.0, 0.0, -1.0], axis=along, mode="constant")
        size = size + ndimage.convolve1d(g, across, axis=3 - along, mode="constant") ** 2
    return np.asarray(np.sqrt(size))


def in_planes(x: Volume, truth: Volume, mask: Mask, data_range: float) -> tuple[Planes, Planes, Mask]:
    """Both volumes and the mask, of the planes that the mask touches."""
    errors(x, truth, mask)
    if data_range <= 0:
        raise ValueError(f"a data range is positive, not {data_range}")
    planes = planes_of(mask)
    return x[planes].astype(np.float64), truth[planes].astype(np.float64), mask[planes]


def planes_of(mask: Mask) -> NDArray[np.intp]:
    """Indices of the planes that ``mask`` touches."""
    return np.flatnonzero(mask.any(axis=(1, 2)))


def _similarity(a: Planes, b: Planes, data_range: float) -> tuple[Planes, Planes]:
    """SSIM's two factors per voxel: luminance, and contrast × structure."""

    def smooth(v: Planes) -> Planes:
        reach = (0, _SSIM_REACH, _SSIM_REACH)
        return np.asarray(ndimage.gaussian_filter(v, (0, _SSIM_SIGMA, _SSIM_SIGMA), radius=reach))

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)


def errors(x: Volume, truth: Volume, mask: Mask) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """x − truth at the voxels of ``mask``. Raises ValueError for an empty mask."""
    if not mask.any():
        raise ValueError("a figure of merit needs at least one voxel")
    return x[mask].astype(np.float64) - truth[mask]
