"""Feature similarity of images (Zhang et al., IEEE TIP 20:2378, 2011): phase congruency and gradients."""

from __future__ import annotations

from dataclasses import dataclass
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
_EPS = 1e-12
_AT_ONCE = 4  # planes: more of them, with their sixteen filters each, leave the cache


def fsim(x: Volume, truth: Volume, mask: Mask, data_range: float) -> float:
    """FSIM of axial planes (slice, row, column), ``data_range`` put to 255; 1 is perfect.

    Similarity is weighted by the larger phase congruency of both and summed over the voxels of
    ``mask`` of all planes; filters see whole planes. Raises as ``metrics.psnr``.
    """
    a, b, inside = in_planes(x, truth, mask, data_range)
    return similarity(features(a, data_range), features(b, data_range)).over(inside)


@dataclass(frozen=True, eq=False)
class Features:
    """Phase congruency and gradient magnitude of planes, averaged in blocks of ``size`` × ``size``."""

    congruency: Planes
    gradient: Planes
    size: int


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike two images are in each block, and how much that block counts."""

    alike: Planes
    weight: Planes
    size: int

    def over(self, mask: Mask) -> float:
        """FSIM over the voxels of ``mask`` (plane, row, column); 1 where nothing counts."""
        within = blocks(mask.astype(np.float32), self.size) >= 0.5
        weight = self.weight[within]
        below = float(weight.sum())
        return float((self.alike[within] * weight).sum()) / below if below > 0 else 1.0


def features(planes: Planes, data_range: float) -> Features:
    """Of planes (plane, row, column), in blocks of round(smaller side / 256), at least 1."""
    size = max(1, round(min(planes.shape[1:]) / 256))
    scaled = blocks(planes, size) * (255 / data_range)
    congruency = [phase_congruency(scaled[i : i + _AT_ONCE]) for i in range(0, len(scaled), _AT_ONCE)]
    return Features(np.concatenate(congruency), gradient(scaled, _SCHARR), size)


def similarity(x: Features, truth: Features) -> Similarity:
    """The two factors of FSIM, phase congruency's and gradient's, and the weight of each block."""
    p, q, g, h = x.congruency, truth.congruency, x.gradient, truth.gradient
    alike = (2 * p * q + _T1) / (p**2 + q**2 + _T1) * (2 * g * h + _T2) / (g**2 + h**2 + _T2)
    return Similarity(alike, np.maximum(p, q), x.size)


@lru_cache(maxsize=4)
def _filters(rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(orientation, scale, row, column) log-Gabor transfer functions, zero frequency first.

    And of each orientation the energy that noise of unit power at the shortest wavelength has.
    """
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
    bank = np.exp(-(apart**2) / (2 * _ANGLE_SD**2))[:, None] * radial
    noise = np.zeros(_ORIENTATIONS)
    for i, filters in enumerate(bank):
        kernels = fft.ifft2(filters).real * np.sqrt(rows * columns)
        overlap = np.einsum("sij,tij->st", kernels, kernels)
        noise[i] = 2 * (np.trace(overlap) + 2 * np.triu(overlap, 1).sum()) / (filters[0] ** 2).sum()
    return bank.astype(np.float32), noise


def phase_congruency(planes: Planes) -> Planes:
    """Phase congruency (0 to 1) of each plane (plane, row, column): where frequencies are in step.

    The noise threshold comes from the median response at the shortest wavelength over the whole plane.
    """
    bank, noise_energy = _filters(*planes.shape[1:])
    spectrum = fft.fft2(planes.astype(np.float32))
    energy_of_all = np.zeros(planes.shape)
    amplitude_of_all = np.full(planes.shape, _EPS)
    for filters, noise in zip(bank, noise_energy, strict=True):
        response = fft.ifft2(spectrum[:, None] * filters)
        amplitude = np.abs(response)
        whole = response.sum(axis=1)
        mean = whole / (np.abs(whole) + _EPS)
        in_step = response * mean.conj()[:, None]
        energy = (in_step.real - np.abs(in_step.imag)).sum(axis=1)

        power = np.median(amplitude[:, 0].reshape(len(planes), -1) ** 2, axis=1) / np.log(2)
        tau = np.sqrt(power * noise / 2)
        threshold = tau * (np.sqrt(np.pi / 2) + _NOISE_SDS * np.sqrt(2 - np.pi / 2)) / _NOISE_SHRINK
        energy_of_all += np.maximum(energy - threshold[:, None, None], 0.0)
        amplitude_of_all += amplitude.sum(axis=1)
    return np.asarray(energy_of_all / amplitude_of_all)
