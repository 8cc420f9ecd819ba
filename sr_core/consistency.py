"""Agreement with what was measured: the LR map that a result would have given, against the one that was.

A takes x to the LR image of the acquired matrix (``kspace.forward``). Corrections stay in the range
of A⁺, so they touch only what the acquisition could see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import kspace
from .grid import Shape
from .kspace import Part, Psf
from .maps import Mask, Volume

# Of a filter's weights, squared: less than that is not divided by (a Hamming window ends at 0.08² = 0.006).
_DAMPING = 0.05


@dataclass(frozen=True, eq=False)
class Measurement:
    """A measured map on the acquired matrix (slices, rows, columns).

    ``values`` before denoising; ``variance`` (σ² from CRLB, floored by the map's noise) in the square
    of their unit; ``trusted`` where they may pull: neither rejected nor inpainted, and inside the
    measured mask. ``hard`` replaces instead: for noise-free data.
    """

    values: Volume
    variance: Volume
    trusted: Mask
    psf: Psf | None = None
    hard: bool = False


def _at_acquired(volume: Volume, shape: Shape) -> Volume:
    """Linear interpolation of ``volume`` at the positions of a periodic grid of ``shape`` samples."""
    at = np.meshgrid(
        *[np.arange(n) * (m / n) for n, m in zip(shape, volume.shape, strict=True)], indexing="ij"
    )
    return np.asarray(ndimage.map_coordinates(volume, at, order=1, mode="grid-wrap"), dtype=np.float32)


def measurement(
    values: Volume,
    sigma: Volume,
    trusted: Mask,
    acquired: Shape,
    psf: Psf | None = None,
    hard: bool = False,
) -> Measurement:
    """The measurement behind an exported map.

    Where the exporter zero-filled (``acquired`` smaller than the export), values are cropped back to
    the acquired k-space; a sample is trusted if all exported voxels around it are. Raises ValueError
    if ``acquired`` is larger than the export.
    """
    if acquired == values.shape:
        return Measurement(values, np.square(sigma), trusted, psf, hard)
    return Measurement(
        kspace.forward(values, acquired),
        np.square(_at_acquired(sigma, acquired)),
        _at_acquired(trusted.astype(np.float32), acquired) > 0.999,
        psf,
        hard,
    )


def residual(x: Volume, m: Measurement, part: Part | None = None) -> Volume:
    """y − A x on the acquired matrix. With ``part``, ``x`` is that box of a volume zero elsewhere."""
    lr = m.values.shape
    seen = kspace.forward(x, (lr[0], lr[1], lr[2]), m.psf, part)
    return np.asarray(m.values - seen, dtype=np.float32)


def correction(x: Volume, m: Measurement, part: Part | None = None) -> Volume:
    """What brings ``x`` (float32, HR, or its ``part``) into agreement with ``m``.

    Minimises Σ wᵢ (A z − y)ᵢ² + Σ (A z − A x)ᵢ² / vᵢ over z = x + A⁺d, with wᵢ = 1/σᵢ² where trusted
    and 0 elsewhere; as A A⁺ = 1 the minimiser is dᵢ = vᵢ / (vᵢ + σᵢ²) · (y − A x)ᵢ. vᵢ, how far off x
    may be, is what the residual shows around voxel i (3 × 3 × 3) beyond noise: noise is not fitted, a
    lesion that x lost is brought back. An acquisition's filter is undone with damping, so that noise
    does not grow where it let little through; repeated corrections undo more. ``hard`` gives A z = y.
    """
    r = residual(x, m, part)
    if not m.hard:
        width = [3 if n >= 3 else 1 for n in r.shape]
        seen = m.trusted.astype(np.float32)
        share = np.maximum(ndimage.uniform_filter(seen, width, mode="constant"), 1e-6)
        excess = ndimage.uniform_filter(seen * (r**2 - m.variance), width, mode="constant") / share
        off = np.maximum(excess, 0.0)
        r = np.where(m.trusted, r * off / np.maximum(off + m.variance, np.finfo(np.float32).tiny), 0.0)
    whole = (x.shape[0], x.shape[1], x.shape[2])
    damping = 0.0 if m.hard else _DAMPING
    return np.asarray(kspace.pinv(r.astype(x.dtype), part or whole, m.psf, damping), dtype=x.dtype)


def correction_matrices(kind: str, lr: Shape, part: Part, m: Measurement) -> list[kspace.Array]:
    """The factors per axis of A ("forward") or of the A⁺ ("pinv") that ``correction`` applies, float32."""
    return kspace.factors(kind, lr, part, m.psf, "<f4", 0.0 if m.hard or kind == "forward" else _DAMPING)


def correct(x: Volume, m: Measurement) -> Volume:
    """``x`` (float32, HR) brought into agreement with ``m``: x + ``correction``."""
    return x + correction(x, m)


def feasible(x: Volume, brain: Mask) -> Volume:
    """``x`` made non-negative, and zero outside ``brain``."""
    return np.where(brain, np.maximum(x, 0.0), np.float32(0.0)).astype(np.float32)


def alternate(x: Volume, m: Measurement, brain: Mask, passes: int = 4) -> Volume:
    """``passes`` of ``correct`` and ``feasible`` in turn; feasibility has the last word."""
    part = Part.around(brain)
    inside = brain[part.box]
    box = feasible(x[part.box], inside)
    for _ in range(passes):
        box = feasible(box + correction(box, m, part), inside)
    out = np.zeros(x.shape, dtype=np.float32)
    out[part.box] = box
    return out


def null_space(x: Volume, acquired: Shape, psf: Psf | None = None) -> Volume:
    """|x − A⁺A x|: the part of each voxel that no measurement backs, in the map's unit."""
    shape = (x.shape[0], x.shape[1], x.shape[2])
    return np.asarray(np.abs(x - kspace.pinv(kspace.forward(x, acquired, psf), shape, psf)), dtype=np.float32)
