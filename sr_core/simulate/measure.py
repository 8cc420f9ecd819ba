"""The measurement: k-space crop, noise, and what spectral fitting says about its own quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core import kspace
from sr_core.grid import Shape
from sr_core.kspace import Psf
from sr_core.maps import Mask, Volume

from .fields import smooth_field

Reach = tuple[NDArray[Any], NDArray[Any]]

NOT_DETECTED_PERCENT = 999.0  # LCModel's largest CRLB: the fit found none
TYPICAL_LINEWIDTH_PPM = 0.045
TYPICAL_SNR = 19.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """One metabolite as a fit exports it: value (0 where not detected), CRLB in %, its σ where typical."""

    values: Volume
    crlb_percent: Volume
    noise_sigma: float


def kspace_noise(rng: np.random.Generator, shape: Shape, psf: Psf | None = None) -> Volume:
    """The real image of complex white Gaussian noise in k-space, SD 1 in the image.

    With ``psf`` the noise passes through the acquisition's filter; its SD is 1 behind it.
    """
    k = rng.standard_normal((2, *shape))
    image = np.fft.ifftn(k[0] + 1j * k[1], norm="ortho").real
    if psf is not None:
        image = kspace.forward(image, shape, psf)
        image /= image.std()
    return np.asarray(image, dtype=np.float32)


def linewidth_map(
    rng: np.random.Generator, brain: Mask, spacing_mm: tuple[float, float, float], reach: Reach
) -> Volume:
    """FWHM in ppm inside ``brain`` (slices to the head, rows to the back): about 0.045, broader where
    air is near – above the frontal sinus and the ear canals – and towards the skull base.

    ``reach``: first and last index of the brain along each axis, which may lie beyond the grid.
    """
    low, high = reach
    grids = np.indices(brain.shape, dtype=np.float32)
    z, y, x = ((g - a) / max(b - a, 1) for g, a, b in zip(grids, low, high, strict=True))
    size_mm = (high - low) * np.asarray(spacing_mm)

    def near(cz: float, cy: float, cx: float, reach_mm: float) -> Volume:
        d = ((z - cz) * size_mm[0]) ** 2 + ((y - cy) * size_mm[1]) ** 2 + ((x - cx) * size_mm[2]) ** 2
        return np.asarray(np.exp(-d / (2 * reach_mm**2)), dtype=np.float32)

    air = 1.6 * near(0.22, 0.08, 0.5, 18) + near(0.12, 0.45, 0.08, 14) + near(0.12, 0.45, 0.92, 14)
    base = 0.7 * np.exp(-np.clip(z, 0, None) / 0.12)
    unrest = np.exp(0.12 * smooth_field(rng, brain.shape, 3.0))
    return np.asarray(TYPICAL_LINEWIDTH_PPM * unrest * (1 + air + base) * brain, dtype=np.float32)


def snr_map(signal: Volume, linewidth_ppm: Volume, brain: Mask, typical_snr: float) -> Volume:
    """LCModel's S/N (whole number): peak height over noise, so signal over linewidth; its median is given."""
    height = np.divide(signal, linewidth_ppm, out=np.zeros_like(signal), where=brain)
    typical = float(np.median(height[brain]))
    return np.asarray(np.rint(typical_snr * height / typical) * brain, dtype=np.float32)


def fit(clean: Volume, noise: Volume, sigma: float, linewidth_ppm: Volume | None, measured: Mask) -> Fitted:
    """``clean`` plus ``noise`` (SD 1) of typical SD ``sigma``, as a non-negative fit reports it.

    A broader line is fitted less surely: σ grows with √linewidth (None: σ is the same everywhere).
    CRLB is 100 σ / value in whole %, at least 1; what lies below its σ counts as not detected: value 0,
    CRLB 999 %. Without noise (``sigma`` 0) every value is exact and detected, Gibbs' negatives too.
    Values and CRLB are 0 where not ``measured``.
    """
    if sigma == 0:
        return Fitted(np.asarray(clean * measured, dtype=np.float32), measured.astype(np.float32), sigma)
    broad = np.ones_like(clean)
    if linewidth_ppm is not None:
        broad = np.sqrt(np.divide(linewidth_ppm, TYPICAL_LINEWIDTH_PPM, where=measured, out=broad))
    local = sigma * broad
    values = (clean + noise * local) * measured
    detected = measured & (values > local) & (values > 0)
    percent = np.divide(100 * local, values, out=np.full_like(clean, NOT_DETECTED_PERCENT), where=detected)
    crlb = np.where(detected, np.maximum(np.rint(percent), 1), NOT_DETECTED_PERCENT) * measured
    return Fitted(np.asarray(values * detected, dtype=np.float32), np.asarray(crlb, dtype=np.float32), sigma)


@dataclass(frozen=True, eq=False)
class Artefacts:
    """What goes wrong in real studies. ``missing``: voxels that were never fitted. ``rim``: share of
    lipid signal (0 to about 1) that leaks into voxels at the edge of the brain."""

    missing: Mask
    rim: Volume


def draw_artefacts(rng: np.random.Generator, brain: Mask) -> Artefacts:
    """About 1 % of brain voxels missing in small clumps, and a patchy lipid rim one voxel wide."""
    clumps = smooth_field(rng, brain.shape, 2.0)
    missing = brain & (clumps > np.quantile(clumps[brain], 0.99))
    edge = brain & ~ndimage.binary_erosion(brain, border_value=1)  # the end of a slab is no rim
    patches = np.clip(smooth_field(rng, brain.shape, 6.0) - 0.8, 0, 1)
    return Artefacts(missing, np.asarray(edge * patches, dtype=np.float32))


def spoil(
    fitted: Fitted, artefacts: Artefacts, lipid_share: float, brain: Mask, rng: np.random.Generator
) -> Fitted:
    """``fitted`` with missing voxels (value NaN, CRLB 999 %), lipid at the rim, and a few spikes.

    Lipid adds ``lipid_share`` × the median where the rim is strongest and makes CRLB four times as
    large; spikes (two voxels in a thousand) are three to six times too high with an honest-looking CRLB.
    """
    typical = float(np.median(fitted.values[brain]))
    values = fitted.values + lipid_share * typical * artefacts.rim
    crlb = np.where(
        fitted.crlb_percent < NOT_DETECTED_PERCENT, fitted.crlb_percent * (1 + 3 * artefacts.rim), 0
    )
    crlb = np.where(fitted.crlb_percent < NOT_DETECTED_PERCENT, np.rint(crlb), fitted.crlb_percent)
    spikes = brain & (rng.random(brain.shape) < 0.002)
    values = np.where(spikes, values * rng.uniform(3, 6, size=brain.shape), values)
    values = np.where(artefacts.missing, np.nan, values)
    crlb = np.where(artefacts.missing, NOT_DETECTED_PERCENT, crlb)
    return Fitted(
        np.asarray(values, dtype=np.float32), np.asarray(crlb, dtype=np.float32), fitted.noise_sigma
    )
