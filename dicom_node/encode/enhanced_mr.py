"""Another form of a derived MR series: one Enhanced MR Image with all of its slices (PS3.3 A.36.2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage

from dicom_node import codes
from dicom_node.errors import BadObject
from dicom_node.uids import result_uid

from .defect import Defect, demand
from .forms import own_copy
from .headers import file_meta
from .planes import floats_of, normal_of, position_of, strings

# What is said once for all frames, and what a frame says of itself, is no attribute of the whole here.
_MOVED = (
    "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "SliceLocation", "WindowCenter", "WindowWidth", "RealWorldValueMappingSequence",
    "SourceImageSequence", "DerivationDescription", "DerivationCodeSequence",
)  # fmt: skip
# Of an acquisition, which a derived image has none of (C.8.13.1).
_NOT_OURS = (
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "EchoTrainLength", "MagneticFieldStrength", "ImagedNucleus", "AcquisitionDate", "AcquisitionTime",
)  # fmt: skip
_FRAME_TYPE = ["DERIVED", "PRIMARY", "METABOLITE_MAP", "NONE"]


def as_enhanced_mr(slices: Sequence[Dataset], relative: Dataset | None = None) -> Dataset:
    """The derived MR series ``slices`` of one map, ascending, as one Enhanced MR Image, frame by frame.

    Stored values, window and what they mean are those of the slices. UIDs follow from those of the series.
    ``relative`` is an object by whose Common Instance References the series of the slices' sources are known;
    without it frames name no sources. Raises BadObject if it does not show what the slices show.
    """
    first = slices[0]
    whole = Dataset()
    whole.update({element.tag: element for element in first if element.keyword != "PixelData"})
    out = own_copy(whole, EnhancedMRImageStorage, "enhanced")
    for keyword in (*_MOVED, *_NOT_OURS):
        out.pop(keyword, None)
    out.SOPInstanceUID = result_uid("form enhanced MR", str(first.SeriesInstanceUID))
    out.file_meta = file_meta(out)
    out.InstanceNumber = 1
    out.NumberOfFrames = len(slices)
    out.ImageType = _FRAME_TYPE
    _type(out)
    out.AcquisitionContextSequence = []
    out.LossyImageCompression = "00"
    out.PresentationLUTShape = "IDENTITY"
    out.ApplicableSafetyStandardAgency = "IEC"
    _dimension(out)
    evidence = _evidence(slices, relative)
    if evidence:
        out.SourceImageEvidenceSequence = evidence
    out.SharedFunctionalGroupsSequence = [_shared(first)]
    out.PerFrameFunctionalGroupsSequence = [
        _frame(d, n, sources=bool(evidence)) for n, d in enumerate(slices, start=1)
    ]
    out.PixelData = b"".join(d.PixelData for d in slices)
    out["PixelData"].VR = "OW"
    try:
        check_enhanced_mr(out, slices)
    except Defect as defect:
        raise BadObject(f"Enhanced MR: {defect}") from None
    return out


def check_enhanced_mr(d: Dataset, slices: Sequence[Dataset]) -> None:
    """Raises Defect unless each frame of ``d`` has its slice's pixels, in its place, with its meaning."""
    frames = len(d.PerFrameFunctionalGroupsSequence)
    demand(int(d.NumberOfFrames) == frames == len(slices), f"{frames} frames of {len(slices)} slices")
    shared = d.SharedFunctionalGroupsSequence[0]
    measures, orientation = shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0]
    size = d.Rows * d.Columns * 2
    demand(len(d.PixelData) == size * len(slices), "pixels do not fill the frames")
    for n, (frame, s) in enumerate(zip(d.PerFrameFunctionalGroupsSequence, slices, strict=True)):
        same = (
            s.SeriesInstanceUID == slices[0].SeriesInstanceUID
            and position_of(frame) == strings(s.ImagePositionPatient)
            and strings(orientation.ImageOrientationPatient) == strings(s.ImageOrientationPatient)
            and strings(measures.PixelSpacing) == strings(s.PixelSpacing)
        )
        demand(same, f"frame {n + 1} lies elsewhere than its slice")
        demand(d.PixelData[n * size : (n + 1) * size] == s.PixelData, f"frame {n + 1} has other pixels")
        demand(
            shared.RealWorldValueMappingSequence == s.RealWorldValueMappingSequence,
            f"frame {n + 1} means other values",
        )
    normal = normal_of(slices[0].ImageOrientationPatient)
    heights = [float(floats_of(s.ImagePositionPatient) @ normal) for s in slices]
    demand(bool((np.diff(heights) > 0).all()), "frames do not ascend along row × column")


def _type(d: Dataset) -> None:
    """MR Image Description Macro (C.8.13.3)."""
    d.PixelPresentation = "MONOCHROME"
    d.VolumetricProperties = "VOLUME"
    d.VolumeBasedCalculationTechnique = "NONE"
    d.ComplexImageComponent = "MAGNITUDE"
    d.AcquisitionContrast = "UNKNOWN"


def _dimension(d: Dataset) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = result_uid("dimensions", str(d.SOPInstanceUID))
    d.DimensionOrganizationSequence = [organization]
    index = copy.deepcopy(organization)
    index.DimensionIndexPointer = Tag("InStackPositionNumber")
    index.FunctionalGroupPointer = Tag("FrameContentSequence")
    d.DimensionIndexSequence = [index]


def _shared(s: Dataset) -> Dataset:
    """Functional groups that all frames have in common, after the slice ``s``."""
    measures, orientation, window, values, kind, anatomy, metabolite = (Dataset() for _ in range(7))
    for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        measures.add(copy.deepcopy(s[keyword]))
    orientation.add(copy.deepcopy(s["ImageOrientationPatient"]))
    window.WindowCenter, window.WindowWidth = s.WindowCenter, s.WindowWidth
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "0", "1", "US"  # as stored, as classic
    kind.FrameType = _FRAME_TYPE
    _type(kind)
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [codes.item(codes.BRAIN)]
    metabolite.MetaboliteMapDescription = s.RealWorldValueMappingSequence[0].LUTLabel
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [orientation]
    groups.FrameVOILUTSequence = [window]
    groups.PixelValueTransformationSequence = [values]
    groups.RealWorldValueMappingSequence = copy.deepcopy(s.RealWorldValueMappingSequence)
    groups.MRImageFrameTypeSequence = [kind]
    groups.FrameAnatomySequence = [anatomy]
    groups.MRMetaboliteMapSequence = [metabolite]
    return groups


def _evidence(slices: Sequence[Dataset], relative: Dataset | None) -> list[Dataset]:
    """Studies and series of all that the slices name as sources (C.8.13.2); none if one is not known."""
    if relative is None:
        return []
    named = {str(i.ReferencedSOPInstanceUID): i for s in slices for i in s.get("SourceImageSequence", ())}
    other = relative.get("StudiesContainingOtherReferencedInstancesSequence", ())
    found: list[Dataset] = []
    for study in (relative, *other):
        series_there = []
        for series in study.get("ReferencedSeriesSequence", ()):
            mine = [
                i
                for i in series.ReferencedInstanceSequence
                if named.pop(str(i.ReferencedSOPInstanceUID), None)
            ]
            if mine:
                item = Dataset()
                item.SeriesInstanceUID = series.SeriesInstanceUID
                item.ReferencedSOPSequence = copy.deepcopy(mine)
                series_there.append(item)
        if series_there:
            item = Dataset()
            item.StudyInstanceUID = study.StudyInstanceUID
            item.ReferencedSeriesSequence = series_there
            found.append(item)
    return [] if named else found


def _frame(s: Dataset, number: int, *, sources: bool) -> Dataset:
    content, place, derivation, groups = Dataset(), Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", number
    content.DimensionIndexValues = [number]
    place.ImagePositionPatient = list(s.ImagePositionPatient)
    derivation.DerivationDescription = s.DerivationDescription
    derivation.DerivationCodeSequence = copy.deepcopy(s.DerivationCodeSequence)
    groups.FrameContentSequence = [content]
    groups.PlanePositionSequence = [place]
    if sources and s.get("SourceImageSequence"):
        derivation.SourceImageSequence = copy.deepcopy(s.SourceImageSequence)
        groups.DerivationImageSequence = [derivation]
    return groups
