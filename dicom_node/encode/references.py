"""Which instances a result was made from, and how objects say so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.source import SourceStudy
from sr_core import Metabolite, Ratio

from .planes import Reference

# What a map is computed from where it was not measured itself.
_PARTS: Mapping[str, tuple[str, ...]] = {
    Ratio.HGG: (Metabolite.HG2, Metabolite.GLN, Metabolite.GLU),
    Ratio.TCN: (Metabolite.TCHO, Metabolite.TNAA),
    Metabolite.TNAA: (Metabolite.NAA, Metabolite.NAAG),
    Metabolite.TCHO: (Metabolite.GPC, Metabolite.PCH),
    Metabolite.TCR: (Metabolite.CR, Metabolite.PCR),
    Metabolite.GLX: (Metabolite.GLU, Metabolite.GLN),
}

# Cosine between normals above which two stacks of planes count as parallel.
_PARALLEL = 0.99


def map_sources(name: str, source: SourceStudy) -> tuple[Dataset, ...]:
    """Headers of the maps that the map ``name`` was made from; all maps' if none bears its name."""
    return _measured(name, source.map_headers) or all_map_sources(source)


def all_map_sources(source: SourceStudy) -> tuple[Dataset, ...]:
    """Headers of all metabolite maps."""
    return unique(h for headers in source.map_headers.values() for h in headers)


def anatomy_sources(contrast: str, source: SourceStudy) -> tuple[Dataset, ...]:
    """Headers of the anatomical images of ``contrast``; empty if there are none."""
    return tuple(source.anatomy_headers.get(contrast, ()))


def _measured(name: str, headers: Mapping[str, tuple[Dataset, ...]]) -> tuple[Dataset, ...]:
    if name in headers:
        return tuple(headers[name])
    return unique(h for part in _PARTS.get(name, ()) for h in _measured(part, headers))


def unique(headers: Iterable[Dataset]) -> tuple[Dataset, ...]:
    """``headers`` without repetitions of an instance, in order."""
    return tuple({str(h.SOPInstanceUID): h for h in headers}.values())


class Nearby:
    """Which of ``headers`` have a plane near a point, along ``normal``.

    Instances without one plane of their own (multi-frame), and planes not parallel to ours, all count.
    """

    def __init__(self, headers: Sequence[Dataset], normal: NDArray[np.float64]) -> None:
        self._headers = headers
        self._normal = normal
        self._along = np.array([_along(h, normal) for h in headers])

    def within(self, point_mm: NDArray[np.float64], reach_mm: float) -> list[Dataset]:
        """Those whose plane passes within ``reach_mm`` of ``point_mm``."""
        far = np.abs(self._along - float(point_mm @ self._normal)) > reach_mm  # False for NaN
        return [h for h, away in zip(self._headers, far, strict=True) if not away]


def _along(header: Dataset, normal: NDArray[np.float64]) -> float:
    """Position of the header's plane along ``normal`` in mm; NaN if it has none that is parallel."""
    if "ImagePositionPatient" not in header or "ImageOrientationPatient" not in header:
        return math.nan
    iop = np.asarray(header.ImageOrientationPatient, dtype=np.float64)
    if abs(np.dot(np.cross(iop[:3], iop[3:]), normal)) < _PARALLEL:
        return math.nan
    return float(np.asarray(header.ImagePositionPatient, dtype=np.float64) @ normal)


def source_item(reference: Reference, purpose: Code, same_place: bool) -> Dataset:
    """An item of Source Image Sequence (PS3.3 C.12.4.1, C.7.6.16.2.6)."""
    d = instance_item(reference)
    if reference.frame is not None:
        d.ReferencedFrameNumber = reference.frame
    d.PurposeOfReferenceCodeSequence = [codes.item(purpose)]
    d.SpatialLocationsPreserved = "YES" if same_place else "NO"
    return d


def add_common_references(d: Dataset, references: Iterable[Reference], study_uid: str) -> None:
    """Common Instance Reference module (PS3.3 C.12.2): every instance that ``d`` refers to, by series.

    Series keep the order of ``references``: viewers take the first one as the volume to lay over.
    Instances of other studies go where the standard wants them.
    """
    by_study: dict[str, dict[str, dict[str, Reference]]] = {study_uid: {}}
    for r in references:
        by_study.setdefault(r.study, {}).setdefault(r.series, {}).setdefault(r.sop_instance, r)
    own = by_study.pop(study_uid)
    if own:
        d.ReferencedSeriesSequence = series_items(own)
    others = []
    for uid, series in by_study.items():
        other = Dataset()
        other.StudyInstanceUID = uid
        other.ReferencedSeriesSequence = series_items(series)
        others.append(other)
    if others:
        d.StudiesContainingOtherReferencedInstancesSequence = others


def series_items(series: Mapping[str, Mapping[str, Reference]]) -> list[Dataset]:
    """Items of Referenced Series Sequence: ``series`` by UID, their instances by UID."""
    items = []
    for uid, instances in series.items():
        d = Dataset()
        d.SeriesInstanceUID = uid
        d.ReferencedInstanceSequence = [instance_item(r) for r in instances.values()]
        items.append(d)
    return items


def instance_item(reference: Reference) -> Dataset:
    """SOP Instance Reference Macro (PS3.3 table 10-11)."""
    d = Dataset()
    d.ReferencedSOPClassUID = reference.sop_class
    d.ReferencedSOPInstanceUID = reference.sop_instance
    return d
