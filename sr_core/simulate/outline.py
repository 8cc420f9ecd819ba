"""Outlines of real lesions: shapes that no ellipsoid has, scaled to any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core.maps import Mask, Volume

# Staircases of 1 mm masks are smoothed over this before they are enlarged.
SMOOTHED_MM = 0.7
# As far beyond its border as the distance to an enlarged outline is known; it is at least that farther out.
REACH_MM = 30.0


@dataclass(frozen=True, eq=False)
class RealOutline:
    """One connected lesion, (slice, row, column) at 1 mm, and where it comes from.

    Raises ValueError for a mask without three axes or without a voxel.
    """

    mask: Mask
    name: str

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or not self.mask.any():
            raise ValueError(f"an outline is a mask with three axes and a lesion in it; {self.name} is not")
        self.mask.setflags(write=False)

    @property
    def radius_mm(self) -> float:
        """Of the ball of the same volume."""
        return ball_radius(int(self.mask.sum()))

    def level_set(
        self, box: tuple[slice, ...], centre: NDArray[np.float64], radius_mm: float, turn: NDArray[np.float64]
    ) -> Volume:
        """Distance to the border in mm, positive inside, of the lesion scaled to ``radius_mm``.

        On the voxels (1 mm) of ``box``, about ``centre``; ``turn`` (3 × 3) takes their directions to the
        mask's.
        """
        scale = radius_mm / self.radius_mm
        margin = int(np.ceil(REACH_MM / scale)) + 1
        mask = np.pad(self.mask, margin)
        inner, outer = (ndimage.distance_transform_edt(v) for v in (mask, ~mask))
        # Voxel centres lie half a voxel off the border between them.
        distance = ndimage.gaussian_filter(np.where(mask, inner - 0.5, 0.5 - outer), SMOOTHED_MM)
        middle = ndimage.center_of_mass(mask)
        there = np.empty((3, *(b.stop - b.start for b in box)), dtype=np.float32)
        for axis, (c, row) in enumerate(zip(middle, turn / scale, strict=True)):
            steps = (w * (np.arange(b.start, b.stop) - o) for w, b, o in zip(row, box, centre, strict=True))
            z, y, x = (s.astype(np.float32) for s in steps)
            there[axis] = z[:, None, None] + y[:, None] + (x + np.float32(c))
        found = ndimage.map_coordinates(distance.astype(np.float32), there, order=1, mode="nearest")
        return np.asarray(scale * found, dtype=np.float32)


def ball_radius(voxels: float) -> float:
    """Radius in mm of the ball with as many 1 mm voxels."""
    return float((3 * voxels / (4 * np.pi)) ** (1 / 3))


def read_outlines(path: Path, smallest_ml: float = 1.0) -> tuple[RealOutline, ...]:
    """Every connected lesion of at least ``smallest_ml`` in a NIfTI mask of 1 mm voxels, largest first.

    In the mask's own orientation: outlines are turned at random when drawn. Raises ValueError if the
    voxels are not 1 mm.
    """
    import nibabel

    image = nibabel.load(path)
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.abs(spacing - 1).max() > 0.02:
        raise ValueError(f"a lesion mask has 1 mm voxels; {path.name} has {np.round(spacing, 3).tolist()} mm")
    labels, _ = ndimage.label(np.asanyarray(image.dataobj) > 0, np.ones((3, 3, 3)))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        mask = labels[box] == number
        if mask.sum() >= 1000 * smallest_ml:
            found.append(RealOutline(mask, f"{path.name.split('.')[0]} {number}"))
    return tuple(sorted(found, key=lambda o: -o.radius_mm))
