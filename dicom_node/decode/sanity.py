"""Can this be a metabolite map, of one patient, and with which k-space matrix was it measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from dicom_node.config import SiteRule
from dicom_node.errors import UnsuitableInput
from dicom_node.series import text_of, value_of
from sr_core import Grid, Shape, Unit

from .stack import Stack, frame_groups

_FEWEST_PIXELS = 8
_FINEST_MM = 1.9  # 2 mm and what headers round it to
_COARSEST_MM = 20.0
_THICKEST_SLAB_MM = 40.0
_UNITS = {
    "mmol/kg{WetWeight}": Unit.MMOL_PER_KG,
    "mmol/kg": Unit.MMOL_PER_KG,
    "umol/g": Unit.MMOL_PER_KG,
    "mmol/L": Unit.MMOL_PER_L,
    "mmol/l": Unit.MMOL_PER_L,
    "umol/ml": Unit.MMOL_PER_L,
    "umol/mL": Unit.MMOL_PER_L,
    "mM": Unit.MMOL_PER_L,
    "[arb'U]": Unit.ARBITRARY,
    "1": Unit.ARBITRARY,
}


def unit_of(stated: str | None, name: str, warnings: list[str]) -> Unit:
    """A map's unit from its UCUM code; arbitrary if none or another is stated."""
    if not stated:
        return Unit.ARBITRARY
    if stated not in _UNITS:
        warnings.append(f"{name}: unit {stated!r} is none of concentration; taken as arbitrary")
    return _UNITS.get(stated, Unit.ARBITRARY)


def check_map(stack: Stack, metabolite: str) -> str | None:
    """Why a volume cannot be a metabolite map, in words; None if it can.

    At least 8 × 8 voxels in the plane and one slice, 2–20 mm apart, not constant. All zero is a
    measurement for 2HG alone: not detected anywhere.
    """
    slices, rows, columns = stack.shape
    if min(rows, columns) < _FEWEST_PIXELS:
        return f"{rows} × {columns} voxels in the plane: at least 8 × 8 are needed"
    spacing = np.linalg.norm(stack.affine[:3, :3], axis=0)
    coarsest = (_THICKEST_SLAB_MM if slices == 1 else _COARSEST_MM, _COARSEST_MM, _COARSEST_MM)
    for size, limit in zip(spacing, coarsest, strict=True):
        if not _FINEST_MM <= size <= limit:
            return f"voxels of {size:.1f} mm: spectroscopic maps have 2 to {limit:.0f} mm"
    measured = stack.values[np.isfinite(stack.values)]
    if not measured.size:
        return "it holds no value"
    if measured.min() == measured.max() and not (metabolite == "2HG" and measured[0] == 0):
        return f"all its values are {measured[0]:g}"
    return None


def check_one_patient(headers: Sequence[Dataset]) -> None:
    """Raises UnsuitableInput if headers name more than one patient. Who they are is not said.

    By Patient ID; names are spelled in many ways. Where an ID is missing, names and stated birth dates
    must agree, for there is nothing else to go by.
    """
    patients = {text_of(h, "PatientID") or text_of(h, "PatientName") for h in headers}
    if len(patients) > 1:
        raise UnsuitableInput(
            f"the series belong to {len(patients)} different patients by Patient ID or name"
        )
    if all(text_of(h, "PatientID") for h in headers):
        return
    born = {text_of(h, "PatientBirthDate") for h in headers} - {""}
    if len(born) > 1:
        raise UnsuitableInput(
            f"the series have no Patient ID and {len(born)} birth dates: they belong to different patients"
        )


def differing(grid: Grid, other: Grid) -> str:
    """In words, how one grid differs from another."""

    def size(g: Grid) -> str:
        spacing = " × ".join(f"{s:.2f}" for s in g.spacing_mm)
        return f"{' × '.join(str(n) for n in g.shape)} voxels of {spacing} mm"

    if size(grid) != size(other):
        return f"{size(grid)}, and not {size(other)}"
    if grid.frame_of_reference != other.frame_of_reference:
        return "another Frame of Reference"
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    apart = np.linalg.norm(grid.to_patient(corners) - other.to_patient(corners), axis=1)
    return f"{apart.max():.2f} mm apart at the farthest corner"


def acquired_matrix(
    stack: Stack, site: SiteRule | None, exported: Shape, warnings: list[str]
) -> Shape | None:
    """The measured k-space matrix (slices, rows, columns): site rule, else header, else None.

    The header's is believed if it fits into what was exported; slices count as measured unless the
    header says how many phase-encoding steps went through the slab.
    """
    if site is not None and site.acquired_matrix == "as_exported":
        return exported
    found = (
        site.acquired_matrix
        if site is not None and isinstance(site.acquired_matrix, tuple)
        else _from_header(stack.headers[0], exported[0])
    )
    if found is None:
        return None
    if any(n > of for n, of in zip(found, exported, strict=True)):
        stated, given = (" × ".join(str(n) for n in s) for s in (found, exported))
        warnings.append(
            f"an acquired matrix of {stated} does not fit into the exported {given} and is not believed"
        )
        return None
    return found


def _from_header(header: Dataset, slices: int) -> Shape | None:
    """Acquisition Matrix (0018,1310), or MR FOV/Geometry of an enhanced instance (PS3.3 C.8.13.5.3)."""
    matrix = [int(n) for n in value_of(header, "AcquisitionMatrix") or ()]
    if len(matrix) == 4:  # frequency rows, frequency columns, phase rows, phase columns
        rows, columns = matrix[0] or matrix[2], matrix[1] or matrix[3]
        return (slices, rows, columns) if rows and columns else None
    for group in frame_groups(header, 0):
        for item in group.get("MRFOVGeometrySequence") or ():
            frequency = int(item.get("MRAcquisitionFrequencyEncodingSteps") or 0)
            phase = int(item.get("MRAcquisitionPhaseEncodingStepsInPlane") or 0)
            through = int(item.get("MRAcquisitionPhaseEncodingStepsOutOfPlane") or 0) or slices
            along_columns = text_of(item, "InPlanePhaseEncodingDirection") == "COLUMN"
            rows, columns = (phase, frequency) if along_columns else (frequency, phase)
            return (through, rows, columns) if rows and columns else None
    return None
