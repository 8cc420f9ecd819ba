"""From a measured map to one that may be super-resolved: quality, repair, denoising, all on the LR grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import kspace
from .consistency import Measurement, measurement
from .denoise import nlm
from .grid import Shape
from .inpaint import inpaint
from .maps import Acquisition, MapQuality, Mask, MetaboliteMap, Volume
from .metabolites import BY_ABSOLUTE_CRLB
from .quality import screen
from .settings import Settings


@dataclass(frozen=True, eq=False)
class Prepared:
    """A map ready for super-resolution, on the LR grid, in its unit.

    ``filled``: repaired, not denoised. ``values``: denoised too. ``scale``: their 99.9th percentile
    inside the brain, 0 if nothing is there. ``sigma``: SD per voxel. ``usable``: share of brain
    voxels that were measured well.
    """

    source: MetaboliteMap
    values: Volume
    filled: Volume
    sigma: Volume
    scale: float
    usable: float
    quality: MapQuality
    measured: Measurement | None


def scale_of(values: Volume, brain: Mask) -> float:
    """The 99.9th percentile inside ``brain``: what a network's input is divided by. 0 if not positive."""
    return max(float(np.percentile(values[brain], 99.9)), 0.0) if brain.any() else 0.0


def prepare(
    m: MetaboliteMap, acquisition: Acquisition, brain: Mask, settings: Settings, acquired: Shape | None
) -> Prepared | None:
    """Quality control, repair and denoising of one map; None if no brain voxel of it is usable.

    Outside ``brain`` values that pass the limits are kept, for interpolation only, capped to what
    the brain shows; the others are 0. ``acquired`` is the k-space matrix for data consistency, None
    for none.
    """
    seen = screen(m, acquisition, brain, settings)
    known = seen.trusted & brain
    if not known.any():
        return None
    smooth = m.metabolite not in BY_ABSOLUTE_CRLB
    filled = inpaint(seen.values, known, seen.repair, seen.noise, smooth)
    ceiling = float(np.percentile(filled[brain], 99.9))
    beyond = np.where(seen.trusted, np.minimum(seen.values, ceiling), 0.0)
    filled = np.where(brain, filled, beyond).astype(np.float32)
    repaired = seen.repair & ~known
    sigma = np.where(repaired, 2.0 * seen.sigma, seen.sigma).astype(np.float32)
    values = nlm(filled, sigma, brain) if settings.denoise else filled
    measured = None
    if acquired is not None:
        psf = kspace.hamming_psf(acquired) if acquisition.psf == "hamming" else None
        measured = measurement(filled, seen.sigma, known, acquired, psf, settings.consistency == "hard")
    return Prepared(
        source=m,
        values=values,
        filled=filled,
        sigma=sigma,
        scale=scale_of(values, brain),
        usable=float(known.sum() / brain.sum()),
        quality=MapQuality(m.metabolite, seen.rejected, repaired, seen.reason, seen.reasons),
        measured=measured,
    )
