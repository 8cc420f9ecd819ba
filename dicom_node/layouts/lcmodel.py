"""LCModel's tables of many voxels, and a geometry that says where the voxels lie.

<case>/[one folder/]<name>_sl<slice>_<row>-<column>.table     one file a voxel, or
<case>/[one folder/]<name>[_sl<slice>].csv                    many voxels in a file
<case>/template.nii[.gz]          any volume on the spectroscopy's grid (NIfTI-MRS too), or
<case>/template_geometry/         a DICOM series on it

LCModel counts slice, row and column from 1 in the order in which it was given the voxels and knows no
millimetres. We take column, row and slice as the first, second and third stored axis of the template (of
a DICOM series: along rows, along columns, ascending along their normal); ``lcmodel_axes`` in case.toml says
otherwise. Voxels without a table have no value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom import Dataset

from dicom_node import ras
from dicom_node.decode.planes import Plane, affine_from_planes, plane_of
from dicom_node.errors import UnsuitableGeometry, UnsuitableInput
from dicom_node.names import canonical
from sr_core import Affine, Grid, Shape, Volume

from .files import add_anatomy, niftis, stem
from .lcmodel_tables import Index, Voxel, read_voxels, tables
from .study import NOT_DETECTED_PERCENT, Content, Item, begin

NAME = "LCModel tables"
_TEMPLATE = "template"
_GEOMETRY = "template_geometry"


def root_of(folder: Path) -> Path | None:
    """The folder with the tables: ``folder`` itself, or the one folder in it that has any."""
    if tables(folder):
        return folder
    found = [p for p in sorted(folder.iterdir()) if p.is_dir() and tables(p)] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def content_of(folder: Path, root: Path) -> Content:
    """The case in ``folder``, its tables in ``root``. Raises UnsuitableInput in words."""
    content = begin(folder)
    voxels = _voxels(root)
    shape, ras_affine, placed_by = _geometry(folder)
    place = _places(content, shape, placed_by)
    where = {index: place(index) for index in voxels}
    content.notes.append(f"{len(voxels)} of {int(np.prod(shape))} voxels have a table of LCModel")
    name = root.name if root != folder else "LCModel"

    def item(of: Callable[[Voxel], float | None], reason: str, what: str) -> Item:
        def read(frame_of_reference: str, title: str) -> tuple[Volume, Grid]:
            stored = np.full(shape, np.nan, dtype=np.float32)
            for index, voxel in voxels.items():
                value = of(voxel)
                stored[where[index]] = np.nan if value is None else value
            return ras.place(stored, ras_affine, frame_of_reference, title)

        return Item(f"{name}: {what}", reason, read)

    for spelt in dict.fromkeys(n for v in voxels.values() for n in v.concentrations):
        metabolite = canonical(spelt)
        if metabolite is None:
            content.ignored[f"{name}: {spelt}"] = "no metabolite this node knows"
        elif metabolite in content.maps:
            content.ignored[f"{name}: {spelt}"] = f"{content.maps[metabolite].file} is already {metabolite}"
        else:
            reason = f"named “{spelt}” in {len(voxels)} tables"
            content.maps[metabolite] = item(lambda v, n=spelt: _part(v, n, 0), reason, spelt)  # type: ignore[misc]
            content.crlb[metabolite] = item(lambda v, n=spelt: _part(v, n, 1), reason, f"{spelt} %SD")  # type: ignore[misc]
    if any(v.snr is not None for v in voxels.values()):
        content.quality["snr"] = item(lambda v: v.snr, "S/N of the tables", "S/N")
    if any(v.fwhm_ppm is not None for v in voxels.values()):
        content.quality["linewidth"] = item(lambda v: v.fwhm_ppm, "FWHM of the tables", "FWHM")
    for around in dict.fromkeys((folder, root)):
        add_anatomy(content, around, frozenset(p for p in niftis(around) if stem(p) == _TEMPLATE))
    return content


def _part(voxel: Voxel, name: str, which: int) -> float:
    """Concentration or SD; LCModel leaves out of its table what it did not find in a voxel."""
    return voxel.concentrations.get(name, (0.0, NOT_DETECTED_PERCENT))[which]


def _voxels(root: Path) -> dict[Index, Voxel]:
    """Every voxel once. A table beside a CSV of the same voxel knows more, and wins."""
    found: dict[Index, tuple[Voxel, Path]] = {}
    for path in sorted(tables(root), key=lambda p: (p.suffix.lower() == ".csv", p.name)):
        for index, voxel in read_voxels(path):
            known = found.get(index)
            if known is None:
                found[index] = (voxel, path)
            elif known[1].suffix.lower() == path.suffix.lower():
                words = f"{known[1].name} and {path.name} are both of slice, row, column {index}: keep one"
                raise UnsuitableInput(words)
    if not found:
        raise UnsuitableInput(f"{root.name} holds tables of LCModel without a voxel in them")
    return {index: voxel for index, (voxel, _) in found.items()}


def _geometry(folder: Path) -> tuple[Shape, Affine, str]:
    """Stored shape (i, j, k) and RAS affine of the template, and what it is called."""
    path = next((p for p in niftis(folder) if stem(p) == _TEMPLATE), None)
    if path is not None:
        image: Any = nibabel.load(path)
        size = (*image.shape[:3], 1, 1)[:3]
        if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
            raise UnsuitableGeometry(f"{path.name} states no position (sform and qform codes are 0)")
        return (int(size[0]), int(size[1]), int(size[2])), ras.affine_mm(image), path.name
    planes = _planes(folder / _GEOMETRY)
    if not planes:
        raise UnsuitableGeometry(
            "LCModel's tables do not say where their voxels lie: put a volume on the spectroscopy's grid "
            f"beside them as {_TEMPLATE}.nii.gz (the NIfTI-MRS file will do), or a DICOM series on it into "
            f"{_GEOMETRY}/"
        )
    affine = affine_from_planes(planes, _GEOMETRY)
    rows, columns = planes[0].shape
    return (columns, rows, len(planes)), ras.from_lps(affine), f"{_GEOMETRY}/"


def _planes(folder: Path) -> list[Plane]:
    found: list[Plane] = []
    series = set()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, OSError, EOFError):
            continue
        series.add(str(header.get("SeriesInstanceUID", "")))
        found += [plane_of(header, groups, path.name) for groups in _groups(header)]
    if len(series) > 1:
        raise UnsuitableGeometry(f"{_GEOMETRY}/ holds {len(series)} series: leave the one on the maps' grid")
    return found


def _groups(header: Dataset) -> list[list[Dataset]]:
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())
    frames = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    return [[f, *shared] for f in frames] or [shared]


def _places(content: Content, shape: Shape, placed_by: str) -> Callable[[Index], Shape]:
    """LCModel's (slice, row, column), from 1, to the stored (i, j, k) of the template, from 0."""
    stated = content.stated.lcmodel_axes
    axes = ["ijk".index(a[-1]) for a in stated]
    if sorted(axes) != [0, 1, 2]:
        raise UnsuitableInput(f"case.toml: lcmodel_axes {list(stated)} does not name each of i, j and k once")

    @cache
    def place(index: Index) -> Shape:
        at = [0, 0, 0]
        for what, number, axis, said in zip(("slice", "row", "column"), index, axes, stated, strict=True):
            if not 1 <= number <= shape[axis]:
                raise UnsuitableGeometry(
                    f"LCModel counts to {what} {number}, and {placed_by} has {shape[axis]} along that axis: "
                    "it is not the spectroscopy's grid, or lcmodel_axes in case.toml must say how voxels are "
                    "counted"
                )
            at[axis] = shape[axis] - number if said.startswith("-") else number - 1
        return (at[0], at[1], at[2])

    return place
