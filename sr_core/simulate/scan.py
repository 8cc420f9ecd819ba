"""The field of view of a simulated study: from the 1 mm volume to its truth and to its measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sr_core import kspace
from sr_core.grid import Grid, Shape
from sr_core.kspace import Psf
from sr_core.maps import Mask, Volume
from sr_core.nlm import bounding_box

from .lesion import LesionModel
from .tissue import FRAME_OF_REFERENCE, LR_SHAPE, TissueModel

# Slices of a slab are this thick, mm, or as thin as it takes to stay within the head's field of view.
SLICE_MM = 10.0
# Height above the brain's lower end, as a share of its own, at which a slab is centred without a lesion.
SLAB_AT = 0.62
# Shares below this make no difference to where something lies.
NOTHING = 1e-5


def measured_grid(tissue: TissueModel, matrix: Shape = LR_SHAPE) -> Grid:
    """The LR grid of ``matrix`` over the field of view of ``tissue``, with the same first voxel centre."""
    affine = tissue.grid.affine.copy()
    affine[:3, :3] *= np.array(tissue.grid.shape) / np.array(matrix)
    return Grid(matrix, affine, FRAME_OF_REFERENCE)


@dataclass(frozen=True, eq=False)
class Scan:
    """What is measured (``lr``), and by which ``factor`` the truth is finer.

    Slices are lines of k-space, or, with ``slices`` (n × 1 mm slices), means over the slices of a slab.
    """

    lr: Grid
    factor: Shape
    slices: Volume | None = None

    @classmethod
    def of(cls, tissue: TissueModel, matrix: Shape, factor: Shape, lesion: LesionModel | None) -> Scan:
        """Over the whole head; with a factor of 1 along slices, a slab through the middle of the lesion.

        Raises ValueError if the truth would be finer than the 1 mm volume.
        """
        truth = tuple(n * f for n, f in zip(matrix, factor, strict=True))
        if any(n > there for n, there in zip(truth, tissue.grid.shape, strict=True)):
            raise ValueError(f"a truth of {truth} is finer than the simulated head of {tissue.grid.shape}")
        if factor[0] > 1:
            return cls(measured_grid(tissue, matrix), factor)
        n, there = matrix[0], tissue.grid.shape[0]
        thick = min(SLICE_MM, there / n)
        if lesion is None:
            brain = bounding_box(tissue.brain > 0.5)[0]
            middle = brain.start + SLAB_AT * (brain.stop - 1 - brain.start)
        else:
            middle = float(tissue.grid.to_index(lesion.centre_mm)[0])
        lowest = float(np.clip(np.rint(middle + 0.5 - n * thick / 2), 0, there - n * thick))
        edges = lowest + thick * np.arange(n + 1)
        below = np.arange(there)
        overlap = np.minimum(edges[1:, None], below + 1) - np.maximum(edges[:-1, None], below)
        affine = measured_grid(tissue, matrix).affine.copy()
        step = tissue.grid.affine[:3, 0]
        affine[:3, 0] = thick * step
        affine[:3, 3] += (lowest + thick / 2 - 0.5) * step
        slices = np.asarray(np.maximum(overlap, 0) / thick, dtype=np.float32)
        return cls(Grid(matrix, affine, FRAME_OF_REFERENCE), factor, slices)

    @property
    def grid(self) -> Grid:
        """The SR grid, on which the truth lies."""
        return self.lr.refined(self.factor)

    def truth(self, volume: Volume) -> Volume:
        """A VHR ``volume`` on the SR grid: its k-space cropped (ground truth of the first type)."""
        if self.slices is not None:
            volume = np.tensordot(self.slices, volume, axes=1)
        return kspace.forward(volume, self.grid.shape)

    def is_mostly(self, share: Volume, least: float = 0.5) -> Mask:
        """Where on the SR grid more than ``least`` of a voxel is what ``share`` on the VHR grid is of."""
        there = share > NOTHING
        if not there.any():
            return np.zeros(self.grid.shape, dtype=bool)
        if self.slices is not None:
            return np.asarray(self.truth(share) > least)
        part = kspace.Part.around(there)
        return np.asarray(kspace.forward(share[part.box], self.grid.shape, part=part) > least)

    def measured(self, truth: Volume, psf: Psf | None = None) -> Volume:
        """The LR map of ``truth``, without noise."""
        return kspace.forward(truth, self.lr.shape, psf)
