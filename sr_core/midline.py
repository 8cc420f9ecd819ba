"""The plane between the two halves of a brain, so that a lesion can be held against the other side."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from .grid import Grid
from .maps import AnatomicalImage, Mask

Vector = NDArray[np.float64]

_SPACING_MM = 4.0
_SEARCHED_DEG = (-16.0, -8.0, 0.0, 8.0, 16.0)
_SEARCHED_MM = (-8.0, 0.0, 8.0)
_FARTHEST_DEG = 20.0  # from sagittal; no head lies farther turned or tilted in a coil
_BRIGHT = 1.25  # times the brain's median: white matter
_SEEN = 0.6  # share of the brain whose mirror image lies in the field of view
_WIDTH_MM = 90.0
_BOX = 0.85  # share of its bounding box that a mask without corners can fill
# Correlation of the halves: whole brains and boxes across the midline have 0.8 to 0.97, one half
# alone up to 0.56.
_SYMMETRY = 0.65


@dataclass(frozen=True, eq=False)
class Midline:
    """The mid-sagittal plane: a point in patient LPS mm, the unit normal towards the patient's left.

    ``symmetry`` is the correlation (at most 1) between the image and its mirror image.
    """

    point_mm: Vector
    normal: Vector
    symmetry: float

    def left(self, grid: Grid) -> Mask:
        """True for the voxels of ``grid`` whose centres lie on the patient's left of the plane."""
        along = grid.affine[:3, :3].T @ self.normal
        from_plane = float((grid.origin_mm - self.point_mm) @ self.normal)
        i, j, k = (a * np.arange(n) for a, n in zip(along, grid.shape, strict=True))
        return np.asarray(from_plane + i[:, None, None] + j[None, :, None] + k[None, None, :] > 0)


def _normal(yaw: float, roll: float) -> Vector:
    """The left–right axis (LPS +x is left), turned by ``yaw`` about z and ``roll`` about y, in degrees."""
    a, b = np.radians((yaw, roll))
    return np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)])


def find_midline(t1: AnatomicalImage | None, brain: Mask, grid: Grid) -> Midline | None:
    """The plane that ``t1`` (on ``grid``), or without one the outline of ``brain``, is most symmetric about.

    Two angles and an offset, searched on voxels of about 4 mm up to 16° and 8 mm around the sagittal
    plane through the brain's centre, then refined. Only the brain's points are looked at, and of those
    the ones whose mirror images lie in the field of view. None, the midline is not known: if the
    correlation of the image with its mirror image is below 0.65, if the plane is more than 20° from
    sagittal, or if there is only the outline of ``brain`` and it is no whole brain's.
    """
    if not brain.any() or (t1 is None and not _whole(brain, grid)):
        return None
    steps = [max(round(_SPACING_MM / s), 1) for s in grid.spacing_mm]
    every = tuple(slice(None, None, s) for s in steps)
    full = brain.astype(np.float32)
    if t1 is not None:
        high = _BRIGHT * float(np.median(t1.values[brain]))  # what is brighter shall not decide
        full = np.clip(t1.values / max(high, 1e-30), 0.0, 1.0)
    sigma = [0.5 * s if n > 1 else 0.0 for s, n in zip(steps, brain.shape, strict=True)]
    image = ndimage.gaussian_filter(full, sigma)[every]
    affine = grid.affine.copy()
    affine[:3, :3] *= steps
    a, b, c = image.shape
    coarse = Grid((a, b, c), affine, grid.frame_of_reference)
    at = np.argwhere(ndimage.binary_dilation(brain[every]))
    values = image[tuple(at.T)].astype(np.float64)
    points = coarse.to_patient(at)
    centre = points.mean(axis=0)
    edge = np.array(image.shape) - 0.5

    def asymmetry(plane: Vector) -> float:
        """1 − correlation of the image with its reflection about ``plane`` (degrees, degrees, mm)."""
        normal = _normal(plane[0], plane[1])
        across = (points - centre) @ normal - plane[2]
        reflected = coarse.to_index(points - 2.0 * across[:, None] * normal)
        seen = ((reflected >= -0.5) & (reflected <= edge)).all(axis=1)
        if seen.mean() < _SEEN:
            return 2.0
        here = values[seen]
        other = ndimage.map_coordinates(image, reflected[seen].T, order=1, mode="nearest")
        spread = float(here.std() * other.std())
        if not spread > 0:
            return 2.0
        return 1.0 - float(((here - here.mean()) * (other - other.mean())).mean()) / spread

    searched = [np.array(p) for p in product(_SEARCHED_DEG, _SEARCHED_DEG, _SEARCHED_MM)]
    first = sorted(searched, key=asymmetry)[:3]
    simplex = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4]], dtype=np.float64)
    found = [
        optimize.minimize(
            asymmetry,
            start,
            method="Nelder-Mead",
            options={"initial_simplex": start + simplex, "xatol": 0.05, "fatol": 1e-5, "maxfev": 200},
        )
        for start in first
    ]
    best = min(found, key=lambda f: float(f.fun))
    normal = _normal(best.x[0], best.x[1])
    symmetry = 1.0 - float(best.fun)
    if symmetry < _SYMMETRY or normal[0] < np.cos(np.radians(_FARTHEST_DEG)):
        return None
    return Midline(centre + best.x[2] * normal, normal, symmetry)


def _whole(brain: Mask, grid: Grid) -> bool:
    """Whether a mask can be a whole brain's: wide enough for two halves, and no box of excitation."""
    at = np.argwhere(brain)
    wide = np.ptp(grid.to_patient(at)[:, 0]) >= _WIDTH_MM
    box = np.prod(np.ptp(at, axis=0) + 1)
    return bool(wide and len(at) < _BOX * box)
