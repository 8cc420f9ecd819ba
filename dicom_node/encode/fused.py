"""Colour series: a map over anatomy, slice by slice, as people look at it (PS3.3 A.8.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node import codes
from sr_core import AnatomicalImage, Grid, Mask, Unit

from .capture import secondary_capture, set_pixels
from .encoded import EncodedObject
from .headers import file_meta, identify, series_uid
from .overlay import Legend, Overlay, grey, letters
from .planes import ParentSeries, Planes, Reference, planes_of, reference_to
from .production import FUSED_SERIES, MapToEncode, Production, display_window
from .references import Nearby, map_sources, source_item

WARNING = "AI super-resolved - not for primary diagnosis"

_MARGIN = 6  # voxels around the brain
_WANTED = 360  # pixels along the longer side of a picture
_LARGEST_SCALE = 4
_UNITS = {Unit.RATIO: "ratio", Unit.ARBITRARY: "arbitrary units", Unit.MMOL_PER_KG: "mmol/kg wet weight"}


def fused_series(
    production: Production,
    m: MapToEncode,
    place: int,
    anatomy: AnatomicalImage | None,
    parent: ParentSeries,
) -> Iterator[EncodedObject]:
    """``m`` over ``anatomy`` in colour, one picture per slice with brain in it, slices ascending.

    Cut to the brain and enlarged by whole voxels; position, orientation and spacing are those of the
    pixels, so that viewers keep it in step with other series. Hatched: not measured or repaired;
    outlined: the lesion found in this map.
    """
    result, role = production.result, f"SC fused {m.name}"
    box, scale = _part(result.brain)
    planes = _pixel_planes(result.grid, box, scale)
    _, top = display_window(m.values, result.brain)
    lesion = next((x for x in result.lesion if x.source == m.name), None)
    outlined = np.zeros(result.grid.shape, dtype=bool) if lesion is None else lesion.mask
    row, column = letters(result.grid.row_direction), letters(result.grid.column_direction)
    overlay = Overlay(
        Legend(m.label, (0.0, top), unit_words(m.unit), _lines(production, m)),
        (box[1].stop - box[1].start, box[2].stop - box[2].start),
        scale,
        row,
        column,
    )
    greys = None if anatomy is None else _greys(anatomy, result.brain)
    words = production.derivation(f"{m.label} map in colour", f"Colours from 0 to {top:g}.")
    base = secondary_capture(production, words)
    base.Modality = "MR"
    base.ImageOrientationPatient = list(planes.orientation)
    base.PixelSpacing = list(planes.pixel_spacing)
    base.SliceThickness = base.SpacingBetweenSlices = planes.slice_spacing
    base.PatientOrientation = [row, column]
    base.DerivationCodeSequence = [codes.item(codes.METABOLITE_MAPS_FROM_SPECTROSCOPY)]

    uid = series_uid(production, role)
    number = production.series_number(FUSED_SERIES + place)
    tail = f"{m.label} colour" if anatomy is None else f"{m.label} on {anatomy.contrast} colour"
    nearby = Nearby(map_sources(m.name, production.source), result.grid.normal)
    reach_mm = production.source.acquisition.grid.spacing_mm[0]
    for instance, k in enumerate(range(box[0].start, box[0].stop), start=1):
        at = (k, box[1], box[2])
        picture = overlay.plane(
            m.values[at],
            result.brain[at],
            None if greys is None else greys[at],
            result.quality.not_measured[at],
            outlined[at],
        )
        d = Dataset()
        d.update(base)
        identify(d, production, role, series_uid=uid, instance=instance, number=number, tail=tail)
        d.ImagePositionPatient = list(planes.positions[k])
        d.SliceLocation = f"{np.dot(result.grid.to_patient((k, 0, 0)), result.grid.normal):.6f}"
        d.SourceImageSequence = [
            source_item(parent.references[k], codes.SOURCE_IMAGE, same_place=False),
            *(
                source_item(reference_to(h), codes.SOURCE_IMAGE, same_place=False)
                for h in nearby.within(result.grid.to_patient((k, 0, 0)), reach_mm)
            ),
        ]
        set_pixels(d, picture)
        d.file_meta = file_meta(d)
        yield EncodedObject(d, "SC", f"{role.replace(' ', '_')}_{instance:04d}")


def picture_of(production: Production, m: MapToEncode, k: int) -> Reference:
    """The picture of ``m`` in slice ``k``, which has brain in it."""
    box, _ = _part(production.result.brain)
    role = f"SC fused {m.name}"
    return Reference(
        SecondaryCaptureImageStorage,
        production.uid(f"instance {role}", str(k - box[0].start + 1)),
        series_uid(production, role),
        production.study_uid,
    )


def unit_words(unit: Unit) -> str:
    """``unit`` as people write it."""
    return _UNITS.get(unit, str(unit))


def _lines(production: Production, m: MapToEncode) -> list[str]:
    first, second = WARNING.split(" - ")
    lines = ["hatched: not measured", "or repaired"]
    lesion = next((x for x in production.result.lesion if x.source == m.name), None)
    if lesion is not None and lesion.mask.any():
        lines.append(f"outline: above {lesion.threshold:.3g}")
    return [*lines, "", first, second, *_wrapped(production.software_versions[:2])]


def _wrapped(lines: list[str], width: int = 26) -> list[str]:
    return [line[:width] for line in lines]


def _part(brain: Mask) -> tuple[tuple[slice, slice, slice], int]:
    """Slices with brain, rows and columns around it; and the enlargement that makes it legible."""
    if not brain.any():
        brain = np.ones_like(brain)
    ranges = []
    for axis in range(3):
        there = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = _MARGIN if axis else 0
        ranges.append(
            slice(max(int(there[0]) - margin, 0), min(int(there[-1]) + 1 + margin, brain.shape[axis]))
        )
    longer = max(r.stop - r.start for r in ranges[1:])
    scale = min(max(math.ceil(_WANTED / longer) - 1, 1), _LARGEST_SCALE)
    return (ranges[0], ranges[1], ranges[2]), scale


def _pixel_planes(grid: Grid, box: tuple[slice, slice, slice], scale: int) -> Planes:
    """Planes of the enlarged pixels: the first pixel's centre lies towards the first voxel's corner."""
    first = (0.0, *(b.start - 0.5 + 0.5 / scale for b in box[1:]))
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_patient(first)
    affine[:3, 1:3] /= scale
    shape = (grid.shape[0], *((b.stop - b.start) * scale for b in box[1:]))
    return planes_of(Grid((shape[0], shape[1], shape[2]), affine, grid.frame_of_reference), "")


def _greys(anatomy: AnatomicalImage, brain: Mask) -> np.ndarray:
    inside = anatomy.values[brain] if brain.any() else anatomy.values.ravel()
    low, high = (float(x) for x in np.percentile(inside, (0.5, 99.5)))
    return grey(anatomy.values, (min(low, 0.3 * high), high))
