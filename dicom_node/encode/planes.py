"""Planes of a grid, as the strings that go into every object: written once, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import MRImageStorage
from pydicom.valuerep import format_number_as_ds

from sr_core import Grid

# Directions and positions below these are numerical dust of an affine; as decimal strings they
# would read "-1e-17" and differ from the "0.0" of the neighbouring object.
_DIRECTION_DIGITS = 12
POSITION_DIGITS = 9
# Voxels by which a written plane may miss its grid and still be that plane.
_SAME_PLANE = 0.05


@dataclass(frozen=True)
class Reference:
    """One referenced instance, or one frame (1-based) of it, with the series and study it lies in."""

    sop_class: str
    sop_instance: str
    series: str
    study: str
    frame: int | None = None


@dataclass(frozen=True)
class Planes:
    """The planes of a grid as decimal strings (VR DS, 16 characters), ascending along row × column.

    Viewers compare orientations exactly: each object gets these very strings, never its own rounding.
    """

    rows: int
    columns: int
    orientation: tuple[str, ...]
    positions: tuple[tuple[str, ...], ...]
    pixel_spacing: tuple[str, str]
    slice_spacing: str
    frame_of_reference: str


@dataclass(frozen=True)
class ParentSeries:
    """The image series that a Parametric Map or Segmentation lies on: one reference per plane."""

    planes: Planes
    references: tuple[Reference, ...]

    @cached_property
    def skeletons(self) -> list[Dataset]:
        """One data set per plane with geometry and no patient, for highdicom to build frames on.

        Made once for all maps: highdicom only reads them.
        """
        return [
            _skeleton(self.planes, position, reference, number)
            for number, (position, reference) in enumerate(
                zip(self.planes.positions, self.references, strict=True), start=1
            )
        ]


def planes_of(grid: Grid, frame_of_reference: str) -> Planes:
    """``grid`` as planes (PS3.3 C.7.6.2.1.1): Pixel Spacing is (between rows, between columns) in mm."""
    directions = [*grid.row_direction, *grid.column_direction]
    corners = grid.to_patient([(k, 0, 0) for k in range(grid.shape[0])])
    slice_mm, row_mm, column_mm = grid.spacing_mm
    return Planes(
        rows=grid.shape[1],
        columns=grid.shape[2],
        orientation=decimal_strings(directions, _DIRECTION_DIGITS),
        positions=tuple(decimal_strings(corner, POSITION_DIGITS) for corner in corners),
        pixel_spacing=(_decimal_string(row_mm), _decimal_string(column_mm)),
        slice_spacing=_decimal_string(slice_mm),
        frame_of_reference=frame_of_reference,
    )


def parent_series(headers: Sequence[Dataset], grid: Grid) -> ParentSeries | None:
    """The series of ``headers`` (classic or multi-frame) as it is written, plane k on slice k of ``grid``.

    Its own decimal strings are kept. None if its planes are not exactly those of ``grid``.
    """
    slice_mm = _decimal_string(grid.spacing_mm[0])
    found: dict[int, tuple[tuple[str, ...], Reference]] = {}
    orientation: tuple[str, ...] = ()
    spacing: tuple[str, ...] = ()
    for header in headers:
        for plane in _planes_written(header):
            index = grid.to_index([float(x) for x in plane.position])
            k = round(float(index[0]))
            if np.abs(index - (k, 0, 0)).max() > _SAME_PLANE or k in found or not 0 <= k < grid.shape[0]:
                return None
            found[k] = (plane.position, plane.reference)
            orientation, spacing = plane.orientation, plane.spacing
    if len(found) != grid.shape[0]:
        return None
    planes = Planes(
        rows=grid.shape[1],
        columns=grid.shape[2],
        orientation=orientation,
        positions=tuple(found[k][0] for k in range(len(found))),
        pixel_spacing=(spacing[0], spacing[1]),
        slice_spacing=slice_mm,
        frame_of_reference=grid.frame_of_reference,
    )
    return ParentSeries(planes, tuple(found[k][1] for k in range(len(found))))


@dataclass(frozen=True)
class _PlaneWritten:
    position: tuple[str, ...]
    orientation: tuple[str, ...]
    spacing: tuple[str, ...]
    reference: Reference


def _planes_written(header: Dataset) -> Iterator[_PlaneWritten]:
    """The planes of a classic instance, or of every frame of a multi-frame one."""
    whole = reference_to(header)
    if "PerFrameFunctionalGroupsSequence" not in header:
        yield _PlaneWritten(
            strings(header.ImagePositionPatient),
            strings(header.ImageOrientationPatient),
            strings(header.PixelSpacing),
            whole,
        )
        return
    shared = header.SharedFunctionalGroupsSequence[0]
    for number, frame in enumerate(header.PerFrameFunctionalGroupsSequence, start=1):
        orientation = (frame if "PlaneOrientationSequence" in frame else shared).PlaneOrientationSequence[0]
        measures = (frame if "PixelMeasuresSequence" in frame else shared).PixelMeasuresSequence[0]
        yield _PlaneWritten(
            position_of(frame),
            strings(orientation.ImageOrientationPatient),
            strings(measures.PixelSpacing),
            replace(whole, frame=number),
        )


def reference_to(header: Dataset) -> Reference:
    """A reference to the whole instance of ``header``."""
    return Reference(
        str(header.SOPClassUID),
        str(header.SOPInstanceUID),
        str(header.SeriesInstanceUID),
        str(header.StudyInstanceUID),
    )


Position = tuple[str, ...]  # Image Position (Patient) as written


def position_of(frame: Dataset) -> Position:
    """Where the plane of ``frame`` (an item of Per-Frame Functional Groups Sequence) lies."""
    return strings(frame.PlanePositionSequence[0].ImagePositionPatient)


def floats_of(written: Iterable[object]) -> NDArray[np.float64]:
    """Decimal strings (VR DS) as numbers."""
    return np.array([float(str(x)) for x in written])


def normal_of(orientation: Iterable[object]) -> NDArray[np.float64]:
    """Row × column of an Image Orientation (Patient): along it planes ascend."""
    cosines = floats_of(orientation)
    return np.asarray(np.cross(cosines[:3], cosines[3:]))


def strings(values: Sequence[object]) -> tuple[str, ...]:
    """Decimal strings of a data set as they are written."""
    return tuple(str(v) for v in values)


def decimal_strings(values: Iterable[float], digits: int) -> tuple[str, ...]:
    """``values`` rounded to ``digits`` behind the point, as they are written (VR DS)."""
    return tuple(_decimal_string(round(float(v), digits) + 0.0) for v in values)


def _decimal_string(value: float) -> str:
    return str(format_number_as_ds(float(value)))


def _skeleton(planes: Planes, position: tuple[str, ...], reference: Reference, number: int) -> Dataset:
    d = Dataset()
    d.SOPClassUID = MRImageStorage
    d.SOPInstanceUID = f"2.25.{number}"
    d.SeriesInstanceUID = "2.25.1"
    d.StudyInstanceUID = reference.study
    d.FrameOfReferenceUID = planes.frame_of_reference
    d.Modality = "MR"
    d.Rows, d.Columns = planes.rows, planes.columns
    d.ImageOrientationPatient = list(planes.orientation)
    d.ImagePositionPatient = list(position)
    d.PixelSpacing = list(planes.pixel_spacing)
    d.SliceThickness = d.SpacingBetweenSlices = planes.slice_spacing
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ):
        setattr(d, keyword, "")
    return d
