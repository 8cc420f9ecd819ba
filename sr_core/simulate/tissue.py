"""Where grey matter, white matter and CSF are: from a label map or from the ICBM152 template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core.grid import Affine, Grid, Shape
from sr_core.maps import Volume

# 256 × 256 × 176 mm: the field of view of the paper's very-high-resolution maps (Methods, "Training
# Data Simulation"), and the matrices it is cropped to in k-space.
VHR_SHAPE: Shape = (176, 256, 256)
LR_SHAPE: Shape = (32, 46, 46)
FACTOR: Shape = (4, 4, 4)
HR_SHAPE: Shape = (LR_SHAPE[0] * 4, LR_SHAPE[1] * 4, LR_SHAPE[2] * 4)
FRAME_OF_REFERENCE = "SIMULATED"

# FreeSurfer label values.
GREY = (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 28, 60)
WHITE = (2, 41, 7, 46, 16, 85)
FLUID = (4, 43, 5, 44, 14, 15, 30, 62, 72)
PARTIAL_VOLUME_MM = 0.5


@dataclass(frozen=True, eq=False)
class TissueModel:
    """Fractions of grey matter, white matter and CSF (0 to 1, sum ≤ 1) on a 1 mm grid of VHR_SHAPE.

    ``t1`` is a real brain-extracted T1-weighted image of the same anatomy, 0 to 1, if there is one.
    Raises ValueError for a volume off the grid.
    """

    gm: Volume
    wm: Volume
    csf: Volume
    grid: Grid
    name: str
    t1: Volume | None = None

    def __post_init__(self) -> None:
        for what, values in (("gm", self.gm), ("wm", self.wm), ("csf", self.csf), ("t1", self.t1)):
            if values is not None and values.shape != self.grid.shape:
                raise ValueError(f"{what} of shape {values.shape} is off its grid of {self.grid.shape}")

    @property
    def parenchyma(self) -> Volume:
        """Grey plus white matter."""
        return self.gm + self.wm

    @property
    def brain(self) -> Volume:
        """All that lies inside the skull."""
        return self.gm + self.wm + self.csf


def from_labels(labels: NDArray[np.integer], affine_ras: Affine, name: str) -> TissueModel:
    """Tissue from a FreeSurfer label map of 1 mm voxels, ``labels`` (i, j, k) with its NIfTI affine.

    Labels of the head outside the brain (≥ 500) are dropped. Edges get a little partial volume.
    Raises ValueError if the voxels are not 1 mm or hold no grey or white matter.
    """
    labels, affine = _to_slice_row_column(labels, affine_ras)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(spacing - 1).max() > 0.02:
        raise ValueError(f"a label map has 1 mm voxels; {name} has {np.round(spacing, 3).tolist()} mm")
    if not np.isin(labels, GREY).any() or not np.isin(labels, WHITE).any():
        raise ValueError(f"{name} holds no FreeSurfer labels of grey and white matter")
    corner, grid = _box_around(np.isin(labels, GREY), affine)
    gm, wm, csf = (
        ndimage.gaussian_filter(
            _placed(np.isin(labels, values).astype(np.float32), corner), PARTIAL_VOLUME_MM, truncate=3
        )
        for values in (GREY, WHITE, FLUID)
    )
    return TissueModel(gm, wm, csf, grid, name)


def read_labels(path: Path) -> TissueModel:
    """``from_labels`` of a NIfTI file; the anatomy is named after the file."""
    import nibabel

    image = nibabel.load(path)
    labels = np.asanyarray(image.dataobj).astype(np.int32)
    return from_labels(labels, np.asarray(image.affine, dtype=np.float64), path.name.split(".")[0])


def from_icbm152() -> TissueModel:
    """The ICBM152 2009a template (1 mm T1, grey and white matter) that the nilearn package ships.

    Raises RuntimeError saying what to install if nilearn is absent.
    """
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as e:
        raise RuntimeError("the ICBM152 template comes with nilearn: pip install 'mrsi-sr-node[demo]'") from e
    image = load_mni152_template(resolution=1)
    t1, affine = _to_slice_row_column(image.get_fdata(dtype=np.float32), np.asarray(image.affine))
    gm, wm = (
        _to_slice_row_column(load(resolution=1).get_fdata(dtype=np.float32), np.asarray(image.affine))[0]
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    csf = np.clip(1.0 - gm - wm, 0, 1) * (t1 > 0)
    corner, grid = _box_around(gm > 0.5, affine)
    placed = [_placed(v, corner) for v in (gm, wm, csf, t1)]
    return TissueModel(placed[0], placed[1], placed[2], grid, "icbm152", placed[3])


def _to_slice_row_column(values: NDArray[Any], affine_ras: Affine) -> tuple[NDArray[Any], Affine]:
    """A NIfTI array to (slice, row, column) with slices to the head, rows to the back, columns to the left.

    Returns the array and its LPS affine.
    """
    import nibabel

    to_lps = nibabel.orientations.axcodes2ornt(("S", "P", "L"), labels=(("L", "R"), ("P", "A"), ("I", "S")))
    turn = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine_ras), to_lps)
    turned = nibabel.orientations.apply_orientation(values, turn)
    affine = affine_ras @ nibabel.orientations.inv_ornt_aff(turn, values.shape)
    return turned, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _box_around(grey: NDArray[np.bool_], affine: Affine) -> tuple[NDArray[np.int64], Grid]:
    """The VHR box centred on the bounding box of grey matter: its corner's index, and its grid."""
    where = np.argwhere(grey)
    centre = (where.min(axis=0) + where.max(axis=0)) / 2
    corner = np.rint(centre - (np.array(VHR_SHAPE) - 1) / 2).astype(np.int64)
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ corner + affine[:3, 3]
    return corner, Grid(VHR_SHAPE, moved, FRAME_OF_REFERENCE)


def _placed(values: NDArray[np.generic], corner: NDArray[np.int64]) -> Volume:
    """``values`` cut to, and padded with zero to, the VHR box whose first voxel is ``corner``."""
    box = np.zeros(VHR_SHAPE, dtype=np.float32)
    low = np.maximum(corner, 0)
    high = np.minimum(corner + VHR_SHAPE, values.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
    box[target] = values[source]
    return box
