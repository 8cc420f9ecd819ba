"""Another form of a BINARY Segmentation: Label Maps, one number in each voxel (PS3.3 C.8.20)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from dicom_node import codes
from dicom_node.errors import BadObject
from dicom_node.rungs import LABEL_MAP
from dicom_node.uids import result_uid
from sr_core import Mask

from .defect import Defect, demand
from .forms import own_copy
from .planes import POSITION_DIGITS, Position, decimal_strings, floats_of, normal_of, position_of
from .segment_frames import binary_masks, label_masks

_BLACK = [0, 32896, 32896]  # CIELab


def as_label_maps(d: Dataset) -> list[Dataset]:
    """The BINARY Segmentation ``d`` as Label Maps: one, and a further one for what overlaps with it.

    Each has the planes from the first to the last of ``d``, ascending, and segments under the numbers that
    they have in ``d``: who refers to segment 3 still means that one. UIDs follow from those of ``d``.
    Raises BadObject if together they do not show what ``d`` shows.
    """
    masks = binary_masks(d)
    layers = _layers(masks)
    made = [_label_map(d, masks, numbers, n, len(layers)) for n, numbers in enumerate(layers, start=1)]
    try:
        check_label_maps(made, d)
    except Defect as defect:
        raise BadObject(f"Label Map: {defect}") from None
    return made


def check_label_maps(made: Sequence[Dataset], whole: Dataset) -> None:
    """Raises Defect unless each segment of the BINARY ``whole`` is in one of ``made``, voxel by voxel."""
    wanted = binary_masks(whole)
    found = [(number, planes) for m in made for number, planes in label_masks(m).items()]
    numbers = [number for number, _ in found]
    demand(sorted(numbers) == sorted(wanted), f"segments {sorted(numbers)}, not {sorted(wanted)}")
    for number, planes in found:
        same = planes.keys() == wanted[number].keys() and all(
            np.array_equal(mask, wanted[number][position]) for position, mask in planes.items()
        )
        demand(same, f"segment {number} is not its mask")


def _layers(masks: Mapping[int, Mapping[Position, Mask]]) -> list[list[int]]:
    """Segment numbers, each in the first layer in which it overlaps with none."""
    layers: list[list[int]] = []
    for number, planes in masks.items():
        for layer in layers:
            if not any(_overlap(planes, masks[other]) for other in layer):
                layer.append(number)
                break
        else:
            layers.append([number])
    return layers


def _overlap(one: Mapping[Position, Mask], other: Mapping[Position, Mask]) -> bool:
    return any(bool((mask & other[position]).any()) for position, mask in one.items() if position in other)


def _label_map(
    d: Dataset, masks: Mapping[int, Mapping[Position, Mask]], numbers: Sequence[int], n: int, of: int
) -> Dataset:
    out = own_copy(d, LABEL_MAP, "label map" if of == 1 else f"label map {n} of {of}")
    frames = _frames(d)
    labels = np.zeros((len(frames), d.Rows, d.Columns), dtype=np.uint8)
    for plane, frame in zip(labels, frames, strict=True):
        for number in numbers:
            mask = masks[number].get(position_of(frame))
            if mask is not None:
                plane[mask] = number
    out.PixelData = labels.tobytes() + b"\0" * (labels.size % 2)
    out["PixelData"].VR = "OB"
    out.NumberOfFrames = len(frames)
    out.PerFrameFunctionalGroupsSequence = frames
    out.BitsAllocated = out.BitsStored = 8
    out.HighBit, out.PixelRepresentation = 7, 0
    out.add_new("PixelPaddingValue", "US", 0)
    out.PresentationLUTShape = "IDENTITY"
    out.SegmentationType, out.SegmentsOverlap = "LABELMAP", "NO"
    described = [s for s in out.SegmentSequence if int(s.SegmentNumber) in numbers]
    out.SegmentSequence = [_background(described[0]), *described]
    _count_planes(out)
    return out


def _frames(d: Dataset) -> list[Dataset]:
    """Functional groups of the planes of ``d``, whatever their segment, ascending along row × column.

    Those between the first and the last are all there: some readers take frames for a volume as they come.
    """
    found = {position_of(f): f for f in d.PerFrameFunctionalGroupsSequence}
    shared = d.SharedFunctionalGroupsSequence[0]
    normal = normal_of(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
    step = float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices)
    known = sorted(found, key=lambda p: float(np.dot(normal, floats_of(p))))
    frames = [found[known[0]]]
    for below, above in itertools.pairwise(known):
        apart = float(np.dot(normal, floats_of(above) - floats_of(below)))
        frames += _between(d, found[below], found[above], round(apart / step))
        frames.append(found[above])
    out = []
    for number, frame in enumerate(frames, start=1):
        again = copy.deepcopy(frame)
        again.pop("SegmentIdentificationSequence", None)
        again.FrameContentSequence[0].DimensionIndexValues = [number]
        out.append(again)
    return out


def _between(d: Dataset, below: Dataset, above: Dataset, steps: int) -> Iterator[Dataset]:
    """Planes of the series that ``d`` lies on, after ``below`` and before ``above``, ``steps`` planes on.

    None where ``d`` does not say what instances, or frames, those are.
    """
    ends = [f.DerivationImageSequence[0].SourceImageSequence[0] for f in (below, above)]
    there = _series_with(d, str(ends[0].ReferencedSOPInstanceUID))
    framed = "ReferencedFrameNumber" in ends[0]
    named = [str(e.ReferencedSOPInstanceUID) for e in ends]
    if not framed and not set(named) <= set(there):
        return
    at = [int(e.ReferencedFrameNumber) for e in ends] if framed else [there.index(uid) for uid in named]
    if abs(at[1] - at[0]) != steps:
        return
    first, last = (floats_of(position_of(f)) for f in (below, above))
    for k in range(1, steps):
        frame, place = copy.deepcopy(below), at[0] + (at[1] - at[0]) // steps * k
        position = decimal_strings(first + (last - first) * k / steps, POSITION_DIGITS)
        frame.PlanePositionSequence[0].ImagePositionPatient = list(position)
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        if framed:
            source.ReferencedFrameNumber = place
        else:
            source.ReferencedSOPInstanceUID = there[place]
        yield frame


def _series_with(d: Dataset, uid: str) -> list[str]:
    """Instances of the series with the instance ``uid``, of this study or another, that ``d`` refers to."""
    for study in (d, *d.get("StudiesContainingOtherReferencedInstancesSequence", ())):
        for series in study.get("ReferencedSeriesSequence", ()):
            uids = [str(i.ReferencedSOPInstanceUID) for i in series.ReferencedInstanceSequence]
            if uid in uids:
                return uids
    return []


def _count_planes(d: Dataset) -> None:
    """The one dimension of ``d`` is where its planes lie."""
    organization = result_uid("dimensions", str(d.SOPInstanceUID))
    d.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    place = Tag("ImagePositionPatient")
    d.DimensionIndexSequence = [i for i in d.DimensionIndexSequence if i.DimensionIndexPointer == place]
    for index in d.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization


def _background(segment: Dataset) -> Dataset:
    """Segment 0, made as ``segment`` was."""
    d = Dataset()
    d.SegmentNumber, d.SegmentLabel = 0, "Background"
    d.SegmentAlgorithmType = segment.SegmentAlgorithmType
    d.SegmentAlgorithmName = segment.SegmentAlgorithmName
    d.SegmentedPropertyCategoryCodeSequence = [codes.item(codes.BACKGROUND)]
    d.SegmentedPropertyTypeCodeSequence = [codes.item(codes.BACKGROUND)]
    d.RecommendedDisplayCIELabValue = _BLACK
    return d
