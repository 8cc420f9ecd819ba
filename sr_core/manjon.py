"""Upsampling of a map by its own self-similarity, without any guide, after Manjón et al. 2010.

Manjón JV, Coupé P, Buades A, Fonov V, Collins DL, Robles M: "Non-local MRI upsampling", Medical Image
Analysis 14:784–792, 2010. Where the paper leaves a detail open, it was settled by running the
``-nlm-upsample`` of Convert3D (c3d) on made-up volumes and comparing voxels.

y is the measured map, x the one sought, f the factor per axis, m_j(x) the mean of x over the voxels that
make up LR voxel j.

1. Intensities are brought to 0 … 256: y ← 256 (y − min y) / (max y − min y), undone at the end.
2. x⁰ = cubic spline through y at the HR positions (mirrored borders), then corrected as in 5.
3. σ(i) = SD of x⁰ over 3×3×3 voxels (n − 1), averaged over 3×3×3. The strength is h = σ, then σ/2, then
   σ/4.
4. x ← Σ_j w_ij x_j / Σ_j w_ij over the 7×7×7 window, with patches P of 3×3×3 voxels, means μ over them and

       d_ij = mean over P of (x(i + p) − x(j + p))²
       w_ij = exp(−max(d_ij / 2h² − 1, 0)),   w_ii = 1,
       w_ij = 0   if |μ_i − μ_j| > 0.6 h   or   h < 1

   where h is that of the first voxel of a pair in scan order (slice, row, column), for both of them.
   Neighbours beyond the border do not count; patches are mirrored there.
5. x ← x + B (y − m(x)): every LR voxel keeps its mean.
6. 4 and 5 are repeated until the mean change d of a pass is no longer below 1/1.2 of the pass before;
   then with the next strength. It ends after the last one, or as soon as d ≤ 0.001.

Two conventions of where HR voxels lie:

* "edges": both grids share the outer edges of their voxels, as resizers and c3d have it. LR voxel j is
  the block of f voxels f·j … f·j + f − 1; HR positions are (i + ½)/f − ½; B repeats a correction over
  its block.
* "first" (ours, deploy/docs/decisions/0001-grid-convention.md): HR sample f·j lies on LR sample j. The
  mean is over the window of width f centred there, the outermost voxels by half for even f:
  [½, 1, 1, 1, ½] / 4 for f = 4; windows share the outer ones, mirrored at the border. B spreads a
  correction by the same weights, which add up to 1 at every HR voxel; as neighbours share voxels it
  first solves for the corrections that leave every mean exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Shape
from .kspace import apply_axes
from .maps import Volume
from .nlm import Kernel, Levels, bounding_box, box, nlm_pass

Centres = Literal["first", "edges"]

_RANGE = 256.0
_STRENGTHS = (1.0, 0.5, 0.25)
_LEAST_STRENGTH = 1.0
_SETTLED = 1.2
_DONE = 0.001
_MEANS_APART = 0.6
_WINDOW, _PATCH = 3, 1
_BORDER = {"first": "mirror", "edges": "reflect"}  # about the centre, or the edge, of the last voxel


def manjon(lr: Volume, factor: Shape, centres: Centres = "first") -> Volume:
    """``lr`` (slice, row, column; finite, any unit) enlarged by ``factor`` per axis, in its unit.

    Constant volumes stay what they are. Raises ValueError for a volume that is not finite or has not
    three axes, a factor < 1, or an unknown convention.
    """
    if lr.ndim != 3 or len(factor) != 3 or min(factor) < 1:
        raise ValueError(f"a volume of three axes is enlarged by whole factors ≥ 1, not {lr.ndim}, {factor}")
    if centres not in ("first", "edges"):
        raise ValueError(f"HR voxels lie by 'first' centres or by 'edges', not {centres!r}")
    if not np.isfinite(lr).all():
        raise ValueError("only finite values can be upsampled")
    least, most = float(lr.min()), float(lr.max())
    span = most - least
    grid = [_axis(n, f, centres) for n, f in zip(lr.shape, factor, strict=True)]
    if span <= 0:
        return np.full([a.spline.shape[0] for a in grid], least, dtype=np.float32)
    y = ((lr - least) * (_RANGE / span)).astype(np.float32)

    def corrected(x: Volume) -> Volume:
        missing = y - apply_axes(x, [a.mean for a in grid])
        return np.asarray(x + apply_axes(missing, [a.spread for a in grid]))

    x = corrected(apply_axes(y, [a.spline for a in grid]))
    x = _settled(x, _local_sd(x), corrected)
    return np.asarray(x * np.float32(span / _RANGE) + np.float32(least), dtype=np.float32)


def _settled(x: Volume, sd: Volume, corrected: Callable[[Volume], Volume]) -> Volume:
    """Passes at every strength until they no longer change much."""
    for strength in _STRENGTHS:
        h = strength * sd
        h[h < _LEAST_STRENGTH] = 0.0
        before = np.inf
        while True:
            new = corrected(_averaged(x, h))
            change = float(np.abs(new - x).mean(dtype=np.float64))
            x = new
            if change <= _DONE:
                return x
            if before < _SETTLED * change:
                break
            before = change
    return x


def _averaged(x: Volume, h: Volume) -> Volume:
    """Step 4, around the voxels with a strength; the others do not change."""
    if not h.any():
        return x
    reach = np.minimum(_WINDOW, np.array(x.shape) - 1)
    at = bounding_box(h > 0, margin=_WINDOW + 2 * _PATCH)
    part = np.ascontiguousarray(x[at])
    kernel = Kernel(
        (int(reach[0]), int(reach[1]), int(reach[2])), box(_PATCH), h=2**0.5, onset=1.0, boundary="inside"
    )
    levels = Levels(h[at], ndimage.uniform_filter(part, 2 * _PATCH + 1), _MEANS_APART)
    out = x.copy()
    out[at] = nlm_pass(part, part, kernel, levels=levels)
    return out


def _local_sd(x: Volume) -> Volume:
    """Step 3: σ, smoothed."""
    wide = x.astype(np.float64)
    mean = ndimage.uniform_filter(wide, 3)
    variance = (ndimage.uniform_filter(wide**2, 3) - mean**2) * (27 / 26)
    return np.asarray(ndimage.uniform_filter(np.sqrt(np.maximum(variance, 0)), 3), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Axis:
    """Matrices of one axis: ``spline`` and ``spread`` (HR × LR), ``mean`` (LR × HR); mean · spread = 1."""

    spline: NDArray[np.float32]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]


@lru_cache(maxsize=64)
def _axis(n: int, factor: int, centres: Centres) -> _Axis:
    fine = np.arange(n * factor)
    if centres == "edges":
        at = (fine + 0.5) / factor - 0.5
        share = np.equal.outer(fine // factor, np.arange(n)).astype(np.float64)
        mean = share.T / factor
    else:
        at = fine / factor
        mean, share = np.zeros((n, n * factor)), np.zeros((n * factor, n))
        for step in range(-(factor // 2), factor // 2 + 1):
            part = 0.5 if 2 * abs(step) == factor else 1.0
            j = np.arange(n)
            np.add.at(mean, (j, np.abs(j * factor + step)), part / factor)
        nearest = at[:, None] + np.array([-1e-9, 1e-9])  # the same LR voxel twice, or two by half
        np.add.at(share, (fine[:, None], np.clip(np.rint(nearest).astype(int), 0, n - 1)), 0.5)
    splines = [ndimage.map_coordinates(e, at[None], order=3, mode=_BORDER[centres]) for e in np.eye(n)]
    spread = share @ np.linalg.inv(mean @ share)
    return _Axis(
        *(np.ascontiguousarray(m, dtype=np.float32) for m in (np.stack(splines, axis=1), mean, spread))
    )
