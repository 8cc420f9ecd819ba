"""NIfTI volumes (RAS) <-> our grids (LPS; slice, row, column): the one border where the sign changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from sr_core import Affine, Grid, Volume

from .errors import UnsuitableGeometry, UnsuitableInput

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TO_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


def read(path: Path, frame_of_reference: str, name: str) -> tuple[Volume, Grid]:
    """A 3D volume on a grid: slices are the last stored axis, flipped if that makes it right-handed.

    Values are scaled as the file says, float32. Every value keeps its position in space.
    Raises UnsuitableInput if it is no 3D NIfTI volume, UnsuitableGeometry if the file states no
    position (sform and qform codes 0) or its axes are sheared.
    """
    try:
        image: Any = nibabel.load(path)
        stored = np.asarray(image.dataobj, dtype=np.float32)
    except Exception as e:  # nibabel, gzip and zlib each raise their own: the file is broken
        raise UnsuitableInput(f"{name}: {path.name} is no readable NIfTI file: {e}") from e
    header = image.header
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3:
        raise UnsuitableInput(f"{name}: {path.name} has {stored.ndim} dimensions, a map or image has 3")
    if "sform_code" in header and not (int(header["sform_code"]) or int(header["qform_code"])):
        raise UnsuitableGeometry(f"{name}: {path.name} states no position (sform and qform codes are 0)")
    return place(stored, affine_mm(image), frame_of_reference, f"{name}: {path.name}")


def affine_mm(image: Any) -> Affine:
    """A nibabel image's affine: stored (i, j, k) to patient RAS in mm, whatever unit the file is in."""
    header = image.header
    ras = np.array(image.affine, dtype=np.float64)
    ras[:3] *= _TO_MM[header.get_xyzt_units()[0]] if hasattr(header, "get_xyzt_units") else 1.0
    return ras


def from_lps(affine: Affine) -> Affine:
    """Our (slice, row, column) to LPS as a NIfTI file states it: (column, row, slice) to RAS."""
    return np.asarray(_LPS @ affine[:, [2, 1, 0, 3]])


def place(stored: Volume, ras: Affine, frame_of_reference: str, what: str) -> tuple[Volume, Grid]:
    """Values by stored (i, j, k), with their affine to RAS in mm, on one of our grids.

    Raises UnsuitableGeometry if the axes are sheared, naming ``what``.
    """
    lps = _LPS @ ras
    values = stored.transpose(2, 1, 0)
    affine = lps[:, [2, 1, 0, 3]].copy()
    along_slices, along_rows, along_columns = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    if np.cross(along_columns, along_rows) @ along_slices < 0:
        values = values[::-1]
        affine[:3, 3] += along_slices * (values.shape[0] - 1)
        affine[:3, 0] = -along_slices
    try:
        grid = Grid((values.shape[0], values.shape[1], values.shape[2]), affine, frame_of_reference)
    except ValueError as e:
        raise UnsuitableGeometry(f"{what} cannot be placed: {e}") from e
    return np.ascontiguousarray(values), grid


def image_of(values: NDArray[np.generic], grid: Grid) -> Any:
    """(slice, row, column) values as a NIfTI image; bool becomes uint8, all else float32."""
    ras = from_lps(grid.affine)
    kind = np.uint8 if values.dtype in (np.bool_, np.uint8) else np.float32
    data = values.astype(kind).transpose(2, 1, 0)
    image: Any = nibabel.Nifti1Image(data, ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(ras, code=1)
    image.set_qform(ras, code=1)
    return image


def write(path: Path, values: NDArray[np.generic], grid: Grid) -> Path:
    """Write (slice, row, column) values as NIfTI; bool becomes uint8, all else float32."""
    nibabel.save(image_of(values, grid), path)
    return path
