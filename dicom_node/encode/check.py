"""The gate: no object of ours leaves without passing. It reads objects as a stranger would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID, MRImageStorage

from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import Mask, SuperResolved

from .check_documents import (
    check_evidence,
    check_presentation,
    check_registration,
    check_report,
    check_selection,
)
from .check_modules import check_identity, check_modules, check_references, source_uids
from .check_pictures import check_capture
from .defect import Defect, demand
from .encoded import EncodedObject
from .headers import MAY_BE_EMPTY
from .parametric_map import doubt_label
from .planes import Position, floats_of, normal_of, parent_series, position_of, strings
from .quality_maps import Measured, measured
from .segment_frames import binary_frames
from .viewers import in_reading_order, lowest_plane

# Type 1 and type 2 attributes of the modules that all IODs share (PS3.3 C.7, C.12.1).
_MUST_HAVE_VALUE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
_CONTENT_MUST_HAVE_VALUE = ("ContentDate", "ContentTime")
_IMAGES_MUST_HAVE_VALUE = (
    "ContentQualification",
    "BodyPartExamined",
    "ImageType",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
_SAME_IN_ALL = ("StudyInstanceUID", "PatientID", "PatientName")
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
# Kinds that are no images.
_DOCUMENTS = ("SR", "REG", "KO", "PR")


@dataclass
class _Series:
    """An MR series seen so far: geometry as written, positions in order of arrival."""

    geometry: tuple[object, ...]
    positions: list[tuple[str, ...]] = field(default_factory=list)
    instances: list[str] = field(default_factory=list)


def check(
    objects: Sequence[EncodedObject], result: SuperResolved | None = None, source: SourceStudy | None = None
) -> None:
    """All of ``objects`` through the gate; with ``result``, stored values are compared with its values;
    with ``source``, identity and references with it.

    Raises BadObject naming the first bad object and its defect.
    """
    for _ in checked(objects, result, source):
        pass


def checked(
    objects: Iterable[EncodedObject], result: SuperResolved | None = None, source: SourceStudy | None = None
) -> Iterator[EncodedObject]:
    """``objects``, each handed on once it has passed. Raises BadObject as ``check``."""
    gate = _Gate(result, source)
    for obj in objects:
        gate.admit(obj)
        yield obj


def check_lesser(objects: Sequence[EncodedObject]) -> None:
    """One lesser form through the gate: by itself, for what it refers to has left before.

    Raises BadObject naming the first bad object and its defect.
    """
    if all(o.dataset.SOPClassUID == MRImageStorage for o in objects):
        check(objects)
    for o in objects:
        try:
            check_modules(o)
            if o.kind in ("SR", "KO"):
                check_evidence(o.dataset)
        except Defect as defect:
            raise BadObject(f"{o.name}: {defect}") from None
        except (AttributeError, IndexError, KeyError) as missing:
            raise BadObject(f"{o.name}: incomplete, {missing}") from missing


class _Gate:
    def __init__(self, result: SuperResolved | None, source: SourceStudy | None = None) -> None:
        self._source = source
        self._source_uids = source_uids(source) if source is not None else frozenset()
        self._values: dict[str, NDArray[np.float32]] = {}
        self._measured = {} if source is None else {m.label: m for m in measured(source.acquisition)}
        self._result = result
        if result is not None:
            self._values.update({str(m.metabolite): m.values for m in result.maps})
            self._values.update({str(r.ratio): r.values for r in result.ratios})
            self._values.update({doubt_label(u): u.values for u in result.uncertainty})
        self._seen: set[str] = set()
        self._names: set[str] = set()
        self._first: Dataset | None = None
        self._series: dict[str, _Series] = {}
        self._single: set[str] = set()
        self._registered: set[str] = set()

    def admit(self, obj: EncodedObject) -> None:
        """Raises BadObject if ``obj`` must not leave."""
        d = obj.dataset
        try:
            self._check_header(obj)
            if obj.kind == "MR":
                self._check_mr(d)
            elif obj.kind == "PM":
                self._check_parametric_map(d)
            elif obj.kind == "SEG":
                self._check_segmentation(d)
            elif obj.kind == "SC":
                self._check_picture(d)
            elif obj.kind == "REG":
                self._registered |= check_registration(
                    d, () if self._result is None else self._result.motions
                )
            elif obj.kind == "KO":
                check_selection(d, self._seen)
            elif obj.kind == "PR":
                check_presentation(d, self._seen)
            else:
                check_report(d, self._seen, self._values, self._masks())
            check_modules(obj)
            if self._source is not None:
                check_identity(d, self._source)
                check_references(d, self._seen | self._source_uids)
        except Defect as defect:
            raise BadObject(f"{obj.name}: {defect}") from None
        except (AttributeError, IndexError, KeyError) as missing:
            raise BadObject(f"{obj.name}: incomplete, {missing}") from missing

    def _check_header(self, obj: EncodedObject) -> None:
        d = obj.dataset
        wanted = _MUST_HAVE_VALUE if obj.kind in _DOCUMENTS else _MUST_HAVE_VALUE + _IMAGES_MUST_HAVE_VALUE
        if obj.kind != "PR":
            wanted = (*wanted, *_CONTENT_MUST_HAVE_VALUE)
        if obj.kind not in ("SR", "KO", "SC", "PR") or "ImagePositionPatient" in d:
            wanted = (*wanted, "FrameOfReferenceUID")
        for keyword in wanted:
            demand(keyword in d and d[keyword].value not in (None, ""), f"{keyword} has no value")
        for keyword in MAY_BE_EMPTY:
            demand(keyword in d, f"{keyword} is missing")
        for keyword in (k for k in _UIDS if k in d):
            demand(UID(str(d[keyword].value)).is_valid, f"{keyword} is no UID: {d[keyword].value}")
        demand(d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID, "file meta names another instance")
        demand(str(d.SOPInstanceUID) not in self._seen, f"instance {d.SOPInstanceUID} occurs twice")
        demand(obj.name not in self._names, "another object has this name")
        self._seen.add(str(d.SOPInstanceUID))
        self._names.add(obj.name)
        if self._first is None:
            self._first = d
        for keyword in _SAME_IN_ALL:
            demand(d[keyword].value == self._first[keyword].value, f"{keyword} differs between objects")
        if "FrameOfReferenceUID" in d:
            demand("PositionReferenceIndicator" in d, "PositionReferenceIndicator is missing")
            known = obj.kind == "SEG" and str(d.FrameOfReferenceUID) in self._registered
            same = d.FrameOfReferenceUID == self._first.FrameOfReferenceUID
            demand(same or known, "FrameOfReferenceUID differs between objects, and is registered to none")

    def _check_mr(self, d: Dataset) -> None:
        demand(d.Modality == "MR", f"Modality is {d.Modality}, not MR")
        demand(str(d.BitsStored) == "16" and d.PixelRepresentation == 0, "not 16 bit without sign")
        series, first = self._follow(d), next(iter(self._series.values()))
        if series is not first:
            there = first.positions[len(series.positions) - 1 :][:1]
            same = first.geometry == series.geometry and there == series.positions[-1:]
            demand(same, "geometry differs from the MR series before")
        stored = np.frombuffer(d.PixelData, "<u2")
        demand(stored.size == d.Rows * d.Columns, f"{stored.size} pixels in {d.Rows} × {d.Columns}")
        if "RealWorldValueMappingSequence" in d:
            self._check_mr_values(d, stored.reshape(d.Rows, d.Columns), len(series.positions) - 1)

    def _check_picture(self, d: Dataset) -> None:
        check_capture(d)
        if "ImagePositionPatient" in d:
            self._follow(d)

    def _follow(self, d: Dataset) -> _Series:
        """The series of ``d``, which must go on where the slice before ended."""
        uid, position = str(d.SeriesInstanceUID), strings(d.ImagePositionPatient)
        geometry = _mr_geometry(d)
        series = self._series.setdefault(uid, _Series(geometry))
        demand(series.geometry == geometry, "geometry differs from the slice before")
        if series.positions:
            normal = normal_of(d.ImageOrientationPatient)
            step = float(np.dot(floats_of(position) - floats_of(series.positions[-1]), normal))
            demand(step > 0, f"slices do not ascend: {step:.4f} mm from the slice before")
        series.positions.append(position)
        series.instances.append(str(d.SOPInstanceUID))
        demand(int(d.InstanceNumber) == len(series.positions), "instance numbers do not follow the slices")
        return series

    def _check_mr_values(self, d: Dataset, stored: NDArray[np.uint16], k: int) -> None:
        mapping = d.RealWorldValueMappingSequence[0]
        values = self._values.get(mapping.LUTLabel)
        if values is None:
            return
        slope = float(mapping.RealWorldValueSlope)
        wanted = np.clip(values[k], 0, None).astype(np.float64)
        apart = float(np.abs(stored * slope + float(mapping.RealWorldValueIntercept) - wanted).max())
        demand(apart <= slope / 2 * (1 + 1e-6), f"a value is off by {apart:g}, over half a step of {slope:g}")

    def _check_parametric_map(self, d: Dataset) -> None:
        demand(d.Modality == "MR", f"Modality is {d.Modality}, not MR")
        demand(str(d.SeriesInstanceUID) not in self._single, "two Parametric Maps in one series")
        self._single.add(str(d.SeriesInstanceUID))
        shared = d.SharedFunctionalGroupsSequence[0]
        demand("FrameAnatomySequence" in shared, "no Frame Anatomy: readers crash without")
        positions = [position_of(f) for f in d.PerFrameFunctionalGroupsSequence]
        normal = normal_of(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
        heights = np.array([floats_of(p) for p in positions]) @ normal
        demand(bool((np.diff(heights) > 0).all()), "frames do not ascend along row × column")
        demand(int(d.NumberOfFrames) == len(positions), f"{len(positions)} planes, {d.NumberOfFrames} frames")
        mapping = shared.RealWorldValueMappingSequence[0]
        quality = self._measured.get(mapping.LUTLabel)
        if quality is None:
            wanted = self._values.get(mapping.LUTLabel)
            self._check_planes(d, positions)
        else:
            wanted = quality.values
            self._check_measured_planes(d, positions, quality)
        values = np.frombuffer(d.FloatPixelData, "<f4")
        demand(values.size == len(positions) * d.Rows * d.Columns, "pixels do not fill the frames")
        demand(bool(np.isfinite(values).all()), "values that are not finite")
        demand(mapping.RealWorldValueSlope == 1 and mapping.RealWorldValueIntercept == 0, "values are scaled")
        if wanted is not None:
            demand(
                np.array_equal(values, wanted.ravel()), f"values are not those of the {mapping.LUTLabel} map"
            )

    def _check_planes(self, d: Dataset, positions: Sequence[tuple[str, ...]]) -> None:
        """They are those of the series of ours that ``d`` lies on."""
        parent = self._parent(d)
        demand(_multiframe_geometry(d) == parent.geometry, "geometry differs from the referenced series")
        demand(positions == parent.positions, "frames are not the planes of the referenced series")
        for frame, instance in zip(d.PerFrameFunctionalGroupsSequence, parent.instances, strict=True):
            source = frame.DerivationImageSequence[0].SourceImageSequence[0]
            demand(source.ReferencedSOPInstanceUID == instance, "a frame refers to another plane")

    def _check_measured_planes(self, d: Dataset, positions: Sequence[Position], quality: Measured) -> None:
        """They are those on which ``quality`` was measured, as its source wrote them."""
        assert self._source is not None
        headers = self._source.map_headers.get(quality.of, ())
        parent = parent_series(headers, self._source.acquisition.grid)
        demand(parent is not None, "measured quality of a map that did not come as DICOM")
        assert parent is not None
        planes = parent.planes
        written = (
            planes.rows,
            planes.columns,
            planes.orientation,
            planes.pixel_spacing,
            planes.slice_spacing,
        )
        demand(_multiframe_geometry(d) == written, "geometry differs from the measured map's")
        demand(tuple(positions) == planes.positions, "frames are not the planes that were measured")

    def _parent(self, d: Dataset) -> _Series:
        demand("ReferencedSeriesSequence" in d, "no Referenced Series: viewers do not show it")
        uid = str(d.ReferencedSeriesSequence[0].SeriesInstanceUID)
        demand(uid in self._series, "the first referenced series is none of the MR series before it")
        return self._series[uid]

    def _check_segmentation(self, d: Dataset) -> None:
        demand(d.Modality == "SEG" and d.SegmentationType == "BINARY", "not a BINARY segmentation")
        numbers = [int(s.SegmentNumber) for s in d.SegmentSequence]
        demand(numbers == list(range(1, len(numbers) + 1)), f"segments are numbered {numbers}")
        frames = d.PerFrameFunctionalGroupsSequence
        demand(len(frames) > 0 and int(d.NumberOfFrames) == len(frames), "no frame")
        masks = binary_frames(d)
        for frame in frames:
            number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            demand(number in numbers, f"a frame of segment {number}, which is not described")
            demand(
                len(frame.DerivationImageSequence[0].SourceImageSequence) == 1, "a frame without its plane"
            )
        first = d.get("ReferencedSeriesSequence", [])[:1]
        parent = self._series.get(str(first[0].SeriesInstanceUID)) if first else None
        if parent is not None:
            self._check_segmentation_on_grid(d, masks, parent)

    def _check_segmentation_on_grid(self, d: Dataset, masks: NDArray[np.bool_], parent: _Series) -> None:
        demand(_multiframe_geometry(d) == parent.geometry, "geometry differs from the referenced series")
        planes = {p: k for k, p in enumerate(parent.positions)}
        volumes = np.zeros((len(d.SegmentSequence), len(planes), d.Rows, d.Columns), dtype=bool)
        for frame, mask in zip(d.PerFrameFunctionalGroupsSequence, masks, strict=True):
            k = planes.get(position_of(frame))
            demand(k is not None, "a frame lies on no plane of the referenced series")
            volumes[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1, k] = mask
        demand(bool(volumes.any(axis=(1, 2, 3)).all()), "a segment is empty")
        lowest = [lowest_plane(v) for v in volumes]
        demand(
            lowest == sorted(lowest, reverse=True),
            "a segment comes after one that reaches lower: viewers lose it",
        )
        if self._result is None:
            return
        wanted = self._masks()
        demand(len(wanted) == len(volumes), f"{len(volumes)} segments, {len(wanted)} masks")
        for number, (written, mask) in enumerate(zip(volumes, wanted, strict=True), start=1):
            demand(np.array_equal(written, mask), f"segment {number} is not its mask")

    def _masks(self) -> list[Mask]:
        """What the segments must show, in their order; empty without a result to compare with."""
        if self._result is None:
            return []
        masks = [x.mask for x in self._result.lesion] + [self._result.quality.not_measured]
        return in_reading_order(masks, lambda m: m)


def _mr_geometry(d: Dataset) -> tuple[object, ...]:
    return (
        int(d.Rows),
        int(d.Columns),
        strings(d.ImageOrientationPatient),
        strings(d.PixelSpacing),
        str(d.SpacingBetweenSlices),
    )


def _multiframe_geometry(d: Dataset) -> tuple[object, ...]:
    shared = d.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    return (
        int(d.Rows),
        int(d.Columns),
        strings(shared.PlaneOrientationSequence[0].ImageOrientationPatient),
        strings(measures.PixelSpacing),
        str(measures.SpacingBetweenSlices),
    )
