"""Where voxels lie: one grid type for maps, anatomy and results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]

# Two grids are the same if no voxel centre is farther apart than this: a hundredth of the smallest
# voxel we meet, and far above what DICOM's decimal strings round away.
SAME_POSITION_MM = 0.01


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels in patient space.

    ``shape`` is (slices, rows, columns). ``affine`` (4 × 4) takes (slice, row, column) voxel-centre
    indices to patient LPS in mm (PS3.3 C.7.6.2.1.1). Slices ascend along row direction × column
    direction, so the three axes (column index, row index, slice index) are right-handed.

    Raises ValueError if the shape is not positive, or the axes are not orthogonal and right-handed.
    """

    shape: Shape
    affine: Affine
    frame_of_reference: str

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"a grid's affine is 4 × 4 and finite, not of shape {affine.shape}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid has at least one voxel along each of three axes, not {self.shape}")
        axes = affine[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        if spacing.min() <= 0:
            raise ValueError("a grid's spacing is positive along every axis")
        unit = axes / spacing
        skew = np.abs(unit.T @ unit - np.eye(3)).max()
        if skew > 1e-3:
            raise ValueError(f"a grid's axes are orthogonal; these deviate by {skew:.4f} (cosine)")
        if np.dot(np.cross(unit[:, 2], unit[:, 1]), unit[:, 0]) < 0:
            raise ValueError("slices ascend along row direction × column direction; these descend")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) index, in mm."""
        s = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(s[0]), float(s[1]), float(s[2]))

    @property
    def origin_mm(self) -> NDArray[np.float64]:
        """Patient LPS position of the centre of voxel (0, 0, 0), in mm."""
        return np.asarray(self.affine[:3, 3])

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def row_direction(self) -> NDArray[np.float64]:
        """Unit vector along increasing column index: the first three of Image Orientation (Patient)."""
        return np.asarray(self.affine[:3, 2] / self.spacing_mm[2])

    @property
    def column_direction(self) -> NDArray[np.float64]:
        """Unit vector along increasing row index: the last three of Image Orientation (Patient)."""
        return np.asarray(self.affine[:3, 1] / self.spacing_mm[1])

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along increasing slice index = row direction × column direction."""
        return np.asarray(self.affine[:3, 0] / self.spacing_mm[0])

    def to_patient(self, indices: ArrayLike) -> NDArray[np.float64]:
        """(…, 3) of (slice, row, column) indices to (…, 3) patient LPS mm."""
        i = np.asarray(indices, dtype=np.float64)
        return np.asarray(i @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """(…, 3) patient LPS mm to (…, 3) fractional (slice, row, column) indices."""
        p = np.asarray(points_mm, dtype=np.float64)
        return np.asarray((p - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def refined(self, factor: Shape) -> Grid:
        """The super-resolved grid: spacing / factor per axis, the same first voxel centre.

        HR sample ``factor·i`` lies exactly on LR sample ``i``: the convention in which cropping
        k-space is exact (deploy/docs/decisions/0001-grid-convention.md).
        """
        if min(factor) < 1:
            raise ValueError(f"a grid is refined by whole factors ≥ 1, not {factor}")
        affine = self.affine.copy()
        affine[:3, :3] /= np.asarray(factor, dtype=np.float64)
        shape = (self.shape[0] * factor[0], self.shape[1] * factor[1], self.shape[2] * factor[2])
        return Grid(shape, affine, self.frame_of_reference)

    def same_as(self, other: Grid, tolerance_mm: float = SAME_POSITION_MM) -> bool:
        """Same shape, same Frame of Reference, and all corners within ``tolerance_mm``."""
        if self.shape != other.shape or self.frame_of_reference != other.frame_of_reference:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        apart = np.linalg.norm(self.to_patient(corners) - other.to_patient(corners), axis=1)
        return bool(apart.max() <= tolerance_mm)
