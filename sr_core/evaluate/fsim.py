"""Feature similarity of images (Zhang et al., IEEE TIP 20:2378, 2011): phase congruency and gradients."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from sr_core.maps import Mask, Volume

from .metrics import Planes, blocks, gradient, in_planes

# The paper's constants, for intensities of 0 to 255.
_T1, _T2 = 0.85, 160.0
_SCHARR = (3 / 16, 10 / 16, 3 / 16)
# Phase congruency as the authors' program computes it (Kovesi, Videre 1(3), 1999): log-Gabor filters of
# four wavelengths, each twice the last, in four orientations.
_SCALES, _ORIENTATIONS = 4, 4
_SHORTEST, _RATIO = 6.0, 2.0
_BANDWIDTH = 0.55
_ANGLE_SD = np.pi / _ORIENTATIONS / 1.2
_CUTOFF, _ORDER = 0.45, 15
_NOISE_SDS, _NOISE_SHRINK = 2.0, 1.7
_EPS = float(np.finfo(np.float64).eps)


def fsim(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """FSIM of axial planes (slice, row, column), ``data_range`` put to 255; 1 is perfect.

    Similarity is weighted by the larger phase congruency of both and summed over the voxels of
    ``mask`` of all planes; filters see whole planes. Planes are averaged in blocks of
    round(smaller side / 256), at least 1. Raises as ``metrics.psnr``.
    """
    a, b, inside = in_planes(x, truth, mask, data_range)
    size = max(1, round(min(a.shape[1:]) / 256))
    top = below = 0.0
    for plane, other, where in zip(a, b, inside, strict=True):
        pair = blocks(np.stack([plane, other]) * (255 / data_range), size)
        within = blocks(where[None].astype(np.float64), size)[0] >= 0.5
        p, q = phase_congruency(pair)
        g, h = gradient(pair, _SCHARR)
        weight = np.maximum(p, q)[within]
        alike = (2 * p * q + _T1) / (p**2 + q**2 + _T1) * (2 * g * h + _T2) / (g**2 + h**2 + _T2)
        top += float((alike[within] * weight).sum())
        below += float(weight.sum())
    return top / below if below > 0 else 1.0


@lru_cache(maxsize=4)
def _filters(rows: int, columns: int) -> NDArray[np.float64]:
    """(orientation, scale, row, column) log-Gabor transfer functions, zero frequency first."""
    axes = [(np.arange(n) - n // 2) / (n - n % 2) for n in (rows, columns)]
    fx, fy = np.meshgrid(*[fft.ifftshift(a) for a in axes], indexing="ij")
    radius = np.hypot(fx, fy)
    lowpass = 1 / (1 + (radius / _CUTOFF) ** (2 * _ORDER))
    radius[0, 0] = 1.0
    angle = np.arctan2(-fy, fx)
    wavelengths = _SHORTEST * _RATIO ** np.arange(_SCALES)[:, None, None]
    radial = np.exp(-(np.log(radius * wavelengths) ** 2) / (2 * np.log(_BANDWIDTH) ** 2)) * lowpass
    radial[:, 0, 0] = 0.0
    turned = angle - np.pi * np.arange(_ORIENTATIONS)[:, None, None] / _ORIENTATIONS
    apart = np.abs(np.arctan2(np.sin(turned), np.cos(turned)))
    return np.asarray(np.exp(-(apart**2) / (2 * _ANGLE_SD**2))[:, None] * radial)


def phase_congruency(planes: Planes) -> Planes:
    """Phase congruency (0 to 1) of each plane (plane, row, column): where frequencies are in step.

    The noise threshold comes from the median response at the shortest wavelength over the whole plane.
    """
    bank = _filters(*planes.shape[1:])
    pixels = planes.shape[1] * planes.shape[2]
    spectrum = fft.fft2(planes)
    energy_of_all = np.full(planes.shape, _EPS)
    amplitude_of_all = np.full(planes.shape, _EPS)
    for filters in bank:
        response = fft.ifft2(spectrum[:, None] * filters)
        amplitude = np.abs(response)
        whole = response.sum(axis=1)
        mean = whole / (np.abs(whole) + _EPS)
        in_step = response * mean.conj()[:, None]
        energy = (in_step.real - np.abs(in_step.imag)).sum(axis=1)

        power = np.median(amplitude[:, 0].reshape(len(planes), -1) ** 2, axis=1) / np.log(2)
        power /= (filters[0] ** 2).sum()
        kernels = fft.ifft2(filters).real * np.sqrt(pixels)
        overlap = np.einsum("sij,tij->st", kernels, kernels)
        noise = power * 2 * (np.trace(overlap) + 2 * np.triu(overlap, 1).sum())
        tau = np.sqrt(noise / 2)
        threshold = tau * (np.sqrt(np.pi / 2) + _NOISE_SDS * np.sqrt(2 - np.pi / 2)) / _NOISE_SHRINK
        energy_of_all += np.maximum(energy - threshold[:, None, None], 0.0)
        amplitude_of_all += amplitude.sum(axis=1)
    return np.asarray(energy_of_all / amplitude_of_all)
