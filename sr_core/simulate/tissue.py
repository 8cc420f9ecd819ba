"""Where grey matter, white matter and CSF are: from a label map or from the ICBM152 template."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sr_core.grid import Affine, Grid, Shape
from sr_core.maps import Labels, Mask, Volume
from sr_core.metabolites import Contrast
from sr_core.nlm import bounding_box

from .warp import warped

# 256 × 256 × 176 mm: the field of view of the paper's very-high-resolution maps (Methods, "Training
# Data Simulation"), and the matrices it is cropped to in k-space.
VHR_SHAPE: Shape = (176, 256, 256)
LR_SHAPE: Shape = (32, 46, 46)
FACTOR: Shape = (4, 4, 4)
HR_SHAPE: Shape = (LR_SHAPE[0] * 4, LR_SHAPE[1] * 4, LR_SHAPE[2] * 4)
FRAME_OF_REFERENCE = "SIMULATED"

T = TypeVar("T", bound=np.generic)

# FreeSurfer label values.
GREY = (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 28, 60)
WHITE = (2, 41, 7, 46, 16, 85)
FLUID = (4, 43, 5, 44, 14, 15, 30, 62, 72)
# CSF outside the ventricles; of what fills the skull only this near the brain, as brain extraction keeps it.
OUTER_FLUID = 24
_SULCAL_MM = 3.0
PARTIAL_VOLUME_MM = 0.5


@dataclass(frozen=True, eq=False)
class RealLesion:
    """A tumour that real images show: its ``core``, the ``necrosis`` in it, and the ``whole`` with oedema.

    On the 1 mm grid of its tissue. Raises ValueError if the core is empty, or a part lies beyond its whole.
    """

    core: Mask
    necrosis: Mask
    whole: Mask

    def __post_init__(self) -> None:
        if not self.core.any():
            raise ValueError("a real lesion has a core")
        if (self.necrosis & ~self.core).any() or (self.core & ~self.whole).any():
            raise ValueError("necrosis lies in the core of a lesion, and the core in the whole")


@dataclass(frozen=True, eq=False)
class TissueModel:
    """Fractions of grey matter, white matter and CSF (0 to 1, sum ≤ 1) on a 1 mm grid of VHR_SHAPE.

    ``t1`` and ``flair`` are real brain-extracted images of the same anatomy, ≥ 0, where there are any;
    ``lesion`` is what they show that ``gm``, ``wm`` and ``csf`` do not: there they are what they would
    be without it. Raises ValueError for a volume off the grid.
    """

    gm: Volume
    wm: Volume
    csf: Volume
    grid: Grid
    name: str
    t1: Volume | None = None
    flair: Volume | None = None
    lesion: RealLesion | None = None

    def __post_init__(self) -> None:
        volumes: dict[str, NDArray[Any] | None] = {
            "gm": self.gm,
            "wm": self.wm,
            "csf": self.csf,
            "t1": self.t1,
            "flair": self.flair,
        }
        if self.lesion is not None:
            volumes["lesion"] = self.lesion.whole
        for what, values in volumes.items():
            if values is not None and values.shape != self.grid.shape:
                raise ValueError(f"{what} of shape {values.shape} is off its grid of {self.grid.shape}")

    def image_of(self, contrast: Contrast) -> Volume | None:
        """The real image of ``contrast``, or None."""
        return self.t1 if contrast is Contrast.T1 else self.flair

    @cached_property
    def parenchyma(self) -> Volume:
        """Grey plus white matter."""
        return self.gm + self.wm

    @cached_property
    def brain(self) -> Volume:
        """All that lies inside the skull."""
        return self.parenchyma + self.csf


def from_labels(
    labels: NDArray[np.integer], affine_ras: Affine, name: str, warp: np.random.Generator | None = None
) -> TissueModel:
    """Tissue from a FreeSurfer label map of 1 mm voxels, ``labels`` (i, j, k) with its NIfTI affine.

    Labels of the head outside the brain (≥ 500) are dropped. Edges get a little partial volume. With
    ``warp``, of a head of another shape (``warp.warped``). Raises ValueError if the voxels are not
    1 mm or hold no grey or white matter.
    """
    labels, affine = to_slice_row_column(labels, affine_ras)
    check_spacing(affine, name)
    class_of = np.zeros(max(int(labels.max()), *GREY, *WHITE, *FLUID) + 1, dtype=np.uint8)
    for number, values in enumerate((GREY, WHITE, FLUID), 1):
        class_of[list(values)] = number
    classes = class_of[np.maximum(labels, 0)]
    parenchyma = (classes == 1) | (classes == 2)
    near = ndimage.distance_transform_edt(~parenchyma) <= _SULCAL_MM
    classes[near & (labels == OUTER_FLUID)] = 3
    if not (classes == 1).any() or not (classes == 2).any():
        raise ValueError(f"{name} holds no FreeSurfer labels of grey and white matter")
    if warp is not None:
        classes, first = warped(classes, warp)
        affine = from_voxel(affine, first)
    return from_classes(classes, affine, name)


def from_classes(classes: Labels, affine: Affine, name: str, t1: Volume | None = None) -> TissueModel:
    """Tissue from ``classes`` (slice, row, column) with its LPS affine: 1 grey matter, 2 white matter, 3 CSF.

    Edges get a little partial volume. ``t1``: its real image.
    """
    corner, grid = box_around(classes == 1, affine)
    in_box = placed(classes, corner)
    gm, wm, csf = (with_partial_volume(in_box == number) for number in (1, 2, 3))
    return TissueModel(gm, wm, csf, grid, name, None if t1 is None else placed(t1, corner))


def read_labels(path: Path, warp: np.random.Generator | None = None) -> TissueModel:
    """``from_labels`` of a NIfTI file; the anatomy is named after the file."""
    import nibabel

    image = nibabel.load(path)
    labels = np.asanyarray(image.dataobj).astype(np.int32)
    return from_labels(labels, np.asarray(image.affine, dtype=np.float64), path.name.split(".")[0], warp)


def from_icbm152() -> TissueModel:
    """The ICBM152 2009a template (1 mm T1, grey and white matter) that the nilearn package ships.

    Raises RuntimeError saying what to install if nilearn is absent.
    """
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as e:
        raise RuntimeError("the ICBM152 template comes with nilearn: pip install 'mrsi-sr-node[demo]'") from e
    image = load_mni152_template(resolution=1)
    t1, affine = to_slice_row_column(image.get_fdata(dtype=np.float32), np.asarray(image.affine))
    gm, wm = (
        to_slice_row_column(load(resolution=1).get_fdata(dtype=np.float32), np.asarray(image.affine))[0]
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    csf = np.clip(1.0 - gm - wm, 0, 1) * (t1 > 0)
    corner, grid = box_around(gm > 0.5, affine)
    in_box = [placed(v, corner) for v in (gm, wm, csf, t1)]
    return TissueModel(in_box[0], in_box[1], in_box[2], grid, "icbm152", in_box[3])


def to_slice_row_column(values: NDArray[Any], affine_ras: Affine) -> tuple[NDArray[Any], Affine]:
    """A NIfTI array to (slice, row, column) with slices to the head, rows to the back, columns to the left.

    Returns the array and its LPS affine.
    """
    import nibabel

    to_lps = nibabel.orientations.axcodes2ornt(("S", "P", "L"), labels=(("L", "R"), ("P", "A"), ("I", "S")))
    turn = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine_ras), to_lps)
    turned = nibabel.orientations.apply_orientation(values, turn)
    affine = affine_ras @ nibabel.orientations.inv_ornt_aff(turn, values.shape)
    return turned, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def check_spacing(affine: Affine, name: str) -> None:
    """Raises ValueError, naming the subject, if voxels are not 1 mm."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(spacing - 1).max() > 0.02:
        raise ValueError(f"a head is made of 1 mm voxels; {name} has {np.round(spacing, 3).tolist()} mm")


def from_voxel(affine: Affine, first: NDArray[np.int64]) -> Affine:
    """The affine of an array that begins at voxel ``first`` of one with ``affine``."""
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return moved


def with_partial_volume(mask: Mask) -> Volume:
    """``mask`` as shares of voxels: blurred a little."""
    share = np.zeros(mask.shape, dtype=np.float32)
    if mask.any():
        box = bounding_box(mask, margin=2)  # as far as the filter reaches
        share[box] = ndimage.gaussian_filter(mask[box].astype(np.float32), PARTIAL_VOLUME_MM, truncate=3)
    return share


def box_around(grey: NDArray[np.bool_], affine: Affine) -> tuple[NDArray[np.int64], Grid]:
    """The VHR box centred on the bounding box of grey matter: its corner's index, and its grid."""
    where = np.argwhere(grey)
    centre = (where.min(axis=0) + where.max(axis=0)) / 2
    corner = np.rint(centre - (np.array(VHR_SHAPE) - 1) / 2).astype(np.int64)
    return corner, Grid(VHR_SHAPE, from_voxel(affine, corner), FRAME_OF_REFERENCE)


def placed(values: NDArray[T], corner: NDArray[np.int64]) -> NDArray[T]:
    """``values`` cut to, and padded with zero to, the VHR box whose first voxel is ``corner``."""
    box = np.zeros(VHR_SHAPE, dtype=values.dtype)
    low = np.maximum(corner, 0)
    high = np.minimum(corner + VHR_SHAPE, values.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    target = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
    box[target] = values[source]
    return box
