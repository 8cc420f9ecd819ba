"""Geometry from tags: the only place where image position and orientation become an affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import UnsuitableGeometry
from dicom_node.series import value_of
from sr_core import Affine

Vector = NDArray[np.float64]

_ORTHONORMAL = 1e-3  # of a direction's length or of the cosine between two
_SAME_DIRECTION = 1e-3  # sine of the angle between slices, and between the stack's axis and the normal
_SAME_MM = 0.01  # what decimal strings may round away
_SAME_SHARE = 0.01  # ... or this share of the distance of slices


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one image plane lies (PS3.3 C.7.6.2): patient LPS mm, centre of the first voxel.

    ``row_direction`` runs along increasing column index, ``column_direction`` along increasing row
    index. ``spacing_mm`` is (between rows, between columns) as in Pixel Spacing. ``between_slices_mm``
    and ``thickness_mm`` are what the header states, None if it does not.
    """

    position: Vector
    row_direction: Vector
    column_direction: Vector
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    between_slices_mm: float | None = None
    thickness_mm: float | None = None


def plane_of(header: Dataset, groups: Sequence[Dataset], what: str) -> Plane:
    """The plane of a classic instance (no ``groups``), or of a frame by its functional groups.

    ``groups`` are the frame's own and the shared functional groups, in that order. Raises
    UnsuitableGeometry naming the attribute that is missing or not a number.
    """
    position = _numbers(header, groups, "PlanePositionSequence", "ImagePositionPatient", 3, what)
    orientation = _numbers(header, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6, what)
    spacing = _numbers(header, groups, "PixelMeasuresSequence", "PixelSpacing", 2, what)
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    return Plane(
        position=position,
        row_direction=orientation[:3],
        column_direction=orientation[3:],
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        shape=(rows, columns),
        between_slices_mm=_length(header, groups, "SpacingBetweenSlices"),
        thickness_mm=_length(header, groups, "SliceThickness"),
    )


def ascending(planes: Sequence[Plane]) -> list[int]:
    """Indices of ``planes`` in order of position along row direction × column direction."""
    normal = np.cross(planes[0].row_direction, planes[0].column_direction)
    return sorted(range(len(planes)), key=lambda i: float(planes[i].position @ normal))


def affine_from_planes(planes: Sequence[Plane], what: str = "series") -> Affine:
    """(slice, row, column) at voxel centres to patient LPS, in mm (PS3.3 C.7.6.2.1.1).

    Planes may come in any order; slices ascend along row direction × column direction. One plane
    alone takes its slice distance from the header. ``what`` names the series in messages.
    Raises UnsuitableGeometry if one is missing, doubled, tilted, shifted or of another size, or if
    slices are unevenly spaced, naming the gap in mm.
    """
    first = planes[0]
    _check_plane(first, what)
    for plane in planes[1:]:
        _check_alike(plane, first, what)
    row = first.row_direction / np.linalg.norm(first.row_direction)
    column = first.column_direction / np.linalg.norm(first.column_direction)
    normal = np.cross(row, column)
    order = ascending(planes)
    lowest = planes[order[0]].position
    if len(planes) == 1:
        slice_axis = normal * _stated_distance(first, what)
    else:
        heights = np.array([planes[i].position @ normal for i in order])
        _check_even(heights, first, what)
        slice_axis = (planes[order[-1]].position - lowest) / (len(planes) - 1)
        _check_straight(np.array([planes[i].position for i in order]), slice_axis, normal, what)
    affine = np.eye(4)
    affine[:3, 0] = slice_axis
    affine[:3, 1] = column * first.spacing_mm[0]
    affine[:3, 2] = row * first.spacing_mm[1]
    affine[:3, 3] = lowest
    return affine


def _numbers(
    header: Dataset, groups: Sequence[Dataset], sequence: str, keyword: str, count: int, what: str
) -> Vector:
    value = _find(header, groups, sequence, keyword)
    try:
        numbers = np.array([float(v) for v in value], dtype=np.float64)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UnsuitableGeometry(f"{what}: a slice has no usable {keyword}; its place is unknown")
    return numbers


def _length(header: Dataset, groups: Sequence[Dataset], keyword: str) -> float | None:
    value = _find(header, groups, "PixelMeasuresSequence", keyword)
    try:
        return abs(float(str(value)))
    except ValueError:
        return None


def _find(header: Dataset, groups: Sequence[Dataset], sequence: str, keyword: str) -> object:
    for group in groups:
        for item in group.get(sequence) or ():
            if value_of(item, keyword) is not None:
                return value_of(item, keyword)
    return value_of(header, keyword)


def _check_plane(plane: Plane, what: str) -> None:
    r, c = plane.row_direction, plane.column_direction
    off = max(abs(float(x)) for x in (np.linalg.norm(r) - 1, np.linalg.norm(c) - 1, r @ c))
    if off > _ORTHONORMAL:
        raise UnsuitableGeometry(
            f"{what}: Image Orientation (Patient) is not two perpendicular unit vectors (off by {off:.4f})"
        )
    if min(plane.shape) < 1 or min(plane.spacing_mm) <= 0:
        raise UnsuitableGeometry(
            f"{what}: {plane.shape[0]} × {plane.shape[1]} pixels of {plane.spacing_mm} mm are no image"
        )


def _check_alike(plane: Plane, first: Plane, what: str) -> None:
    normal = np.cross(first.row_direction, first.column_direction)
    at = f"the slice at {plane.position @ normal:.1f} mm"
    if plane.shape != first.shape:
        raise UnsuitableGeometry(
            f"{what}: grids are mixed: {at} has {plane.shape[0]} × {plane.shape[1]} pixels, "
            f"others {first.shape[0]} × {first.shape[1]}"
        )
    if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=0, atol=1e-4 * max(first.spacing_mm)):
        raise UnsuitableGeometry(
            f"{what}: grids are mixed: {at} has pixels of {plane.spacing_mm} mm, others {first.spacing_mm} mm"
        )
    turn: float = max(
        float(np.linalg.norm(np.cross(a, b)))
        for a, b in (
            (plane.row_direction, first.row_direction),
            (plane.column_direction, first.column_direction),
        )
    )
    flipped = plane.row_direction @ first.row_direction < 0
    if turn > _SAME_DIRECTION or flipped or plane.column_direction @ first.column_direction < 0:
        angle = 180.0 if flipped else np.degrees(np.arcsin(min(1.0, turn)))
        raise UnsuitableGeometry(f"{what}: {at} is tilted by {angle:.1f}° against the others")


def _check_even(heights: Vector, first: Plane, what: str) -> None:
    gaps = np.diff(heights)
    apart = float(np.median(gaps))
    for i in np.flatnonzero(gaps <= max(_SAME_MM, _SAME_SHARE * apart)):
        raise UnsuitableGeometry(f"{what}: two slices lie at the same place, {heights[i]:.1f} mm")
    stated = first.between_slices_mm
    if stated and len(gaps) == 1 and gaps[0] > 1.5 * stated:
        apart = stated
    for i in np.flatnonzero(np.abs(gaps - apart) > max(_SAME_MM, _SAME_SHARE * apart)):
        gap, between = float(gaps[i]), f"between {heights[i]:.1f} mm and {heights[i + 1]:.1f} mm"
        missing = round(gap / apart) - 1
        if missing >= 1 and abs(gap / apart - 1 - missing) < 0.05:
            which = "a slice is" if missing == 1 else f"{missing} slices are"
            raise UnsuitableGeometry(
                f"{what}: {which} missing {between}: "
                f"gap of {gap:.1f} mm where slices are {apart:.1f} mm apart"
            )
        raise UnsuitableGeometry(
            f"{what}: slices are unevenly spaced: {gap:.2f} mm {between}, others {apart:.2f} mm apart"
        )
    if stated and apart > 1.5 * stated and abs(apart / stated - round(apart / stated)) < 0.05:
        raise UnsuitableGeometry(
            f"{what}: slices are missing throughout: gaps of {apart:.1f} mm where the header says slices are "
            f"{stated:.1f} mm apart"
        )


def _check_straight(positions: Vector, slice_axis: Vector, normal: Vector, what: str) -> None:
    lean = float(np.linalg.norm(np.cross(slice_axis / np.linalg.norm(slice_axis), normal)))
    if lean > _SAME_DIRECTION:
        angle = np.degrees(np.arcsin(min(1.0, lean)))
        raise UnsuitableGeometry(f"{what}: the stack of slices is sheared: it leans by {angle:.1f}°")
    straight = positions[0] + np.arange(len(positions))[:, None] * slice_axis
    off = np.linalg.norm(positions - straight, axis=1)
    worst = int(off.argmax())
    if off[worst] > max(2 * _SAME_MM, 2 * _SAME_SHARE * float(np.linalg.norm(slice_axis))):
        at = positions[worst] @ normal
        raise UnsuitableGeometry(
            f"{what}: the slice at {at:.1f} mm is shifted by {off[worst]:.2f} mm against the others"
        )


def _stated_distance(plane: Plane, what: str) -> float:
    distance = plane.between_slices_mm or plane.thickness_mm
    if not distance:
        raise UnsuitableGeometry(f"{what}: a single slice that states no thickness")
    return distance
