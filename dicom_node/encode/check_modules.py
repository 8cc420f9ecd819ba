"""What the gate demands of each object by itself: modules, form of values, encoding, identity, references."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from dicom_node.rungs import LABEL_MAP
from dicom_node.source import SourceStudy

from .defect import demand
from .encoded import EncodedObject
from .headers import VERBATIM
from .predecessors import predecessors_of

# Type 1 attributes of the modules of each IOD (PS3.3 A.4, A.75, A.51, A.8.1, A.35, A.39.1), besides those
# that all share.
_TYPE_1: Mapping[str, tuple[str, ...]] = {
    "MR": (
        "ScanningSequence", "SequenceVariant", "ImageOrientationPatient", "ImagePositionPatient",
        "PixelSpacing", "BitsStored", "HighBit", "PixelData",
    ),
    "Enhanced MR": (
        "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "DimensionOrganizationSequence", "DimensionIndexSequence", "PixelPresentation",
        "VolumetricProperties", "VolumeBasedCalculationTechnique", "BurnedInAnnotation",
        "PresentationLUTShape", "LossyImageCompression", "ContentQualification", "PixelData", "BitsStored",
        "HighBit",
    ),
    "PM": (
        "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "ContentLabel", "DimensionOrganizationSequence", "DimensionIndexSequence",
        "PresentationLUTShape", "LossyImageCompression", "RecognizableVisualFeatures",
        "BurnedInAnnotation",
    ),
    "SEG": (
        "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        "ContentLabel", "DimensionOrganizationSequence", "DimensionIndexSequence",
        "SegmentSequence", "SegmentationType", "LossyImageCompression", "PixelData", "BitsStored", "HighBit",
    ),
    "SC": ("ConversionType", "PlanarConfiguration", "PixelRepresentation", "HighBit", "PixelData"),
    "SR": (
        "CompletionFlag", "VerificationFlag", "ValueType", "ConceptNameCodeSequence", "ContinuityOfContent",
        "ContentSequence",
    ),
    "KO": (
        "ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
    "PR": ("ContentLabel", "PresentationCreationDate", "PresentationCreationTime"),
    "REG": ("RegistrationSequence", "ContentLabel", "ReferencedSeriesSequence"),
}  # fmt: skip
_TYPE_2: Mapping[str, tuple[str, ...]] = {
    "MR": (
        "ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength", "RepetitionTime",
        "SliceThickness",
    ),
    "Enhanced MR": ("AcquisitionContextSequence",),
    "PM": ("ContentDescription", "ContentCreatorName"),
    "SEG": ("ContentDescription", "ContentCreatorName"),
    "SC": ("PatientOrientation",),
    "SR": ("ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence"),
    "KO": ("ReferencedPerformedProcedureStepSequence",),
    "PR": ("ContentDescription", "ContentCreatorName"),
    "REG": ("ContentDescription", "ContentCreatorName"),
}  # fmt: skip
# Functional groups that must be there, for all frames or for each (PS3.3 A.75.4, A.51.5, A.36.2.4).
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Enhanced MR": (
        "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "FrameContentSequence",
        "FrameAnatomySequence", "PixelValueTransformationSequence", "FrameVOILUTSequence",
        "RealWorldValueMappingSequence", "MRImageFrameTypeSequence", "MRMetaboliteMapSequence",
    ),
    "PM": (
        "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "FrameContentSequence",
        "DerivationImageSequence", "FrameAnatomySequence", "PixelValueTransformationSequence",
        "FrameVOILUTSequence", "RealWorldValueMappingSequence", "ParametricMapFrameTypeSequence",
    ),
    "SEG": (
        "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "FrameContentSequence",
        "DerivationImageSequence", "SegmentIdentificationSequence",
    ),
}  # fmt: skip
_LABEL_MAP_GROUPS = tuple(g for g in _GROUPS["SEG"] if g != "SegmentIdentificationSequence")
# Carried on as they stand, whatever they are: their form is the source's to answer for.
THE_SOURCES = frozenset(
    {*VERBATIM, "ContributingEquipmentSequence", "PatientPosition", "PositionReferenceIndicator"}
)
# Never in our objects, for what a viewer would do with it.
_TRAPS: Mapping[str, Mapping[str, str]] = {
    "MR": {
        "RescaleSlope": "no attribute of the MR IOD: some viewers would scale twice",
        "NumberOfFrames": "a classic MR image is one frame",
    },
    "PM": {
        "RedPaletteColorLookupTableDescriptor": "a palette needs what viewers do not read",
    },
    "SEG": {"MaximumFractionalValue": "fractional segments are refused by viewers"},
}


def check_modules(obj: EncodedObject) -> None:
    """Raises Defect if ``obj`` lacks what its IOD demands, or has what its viewers stumble over."""
    d = obj.dataset
    what = "Enhanced MR" if d.SOPClassUID == EnhancedMRImageStorage else obj.kind
    for keyword in _TYPE_1.get(what, ()):
        demand(keyword in d and d[keyword].value not in (None, ""), f"{keyword} has no value")
    for keyword in _TYPE_2.get(what, ()):
        demand(keyword in d, f"{keyword} is missing")
    for keyword, why in _TRAPS.get(what, {}).items():
        demand(keyword not in d, f"{keyword}: {why}")
    if obj.kind == "PM":
        pixels, other = ("FloatPixelData", "PixelData")[:: 1 if d.BitsAllocated == 32 else -1]
        demand(pixels in d, f"{pixels} has no value")
        demand(other not in d, f"{other}: the values are {d.BitsAllocated} bit")
    if what in _GROUPS:
        _check_groups(d, _LABEL_MAP_GROUPS if d.SOPClassUID == LABEL_MAP else _GROUPS[what])
    demand(d.file_meta.MediaStorageSOPClassUID == d.SOPClassUID, "file meta names another SOP class")
    demand(d.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian, "not in Explicit VR Little Endian")
    _check_values(d)


def _check_groups(d: Dataset, groups: tuple[str, ...]) -> None:
    """Each group is for all frames or for every one, never both, and never empty."""
    shared = d.SharedFunctionalGroupsSequence[0]
    for keyword in groups:
        frames = [keyword in f for f in d.PerFrameFunctionalGroupsSequence]
        demand(keyword in shared or all(frames), f"{keyword} is missing")
        demand(not (keyword in shared and any(frames)), f"{keyword} is both for all frames and for one")
        items = [shared] if keyword in shared else d.PerFrameFunctionalGroupsSequence
        demand(all(len(i[keyword].value or ()) > 0 for i in items), f"{keyword} is empty")


def _check_values(d: Dataset) -> None:
    """Every value of our own has the form of its VR (PS3.5 6.2); the source's are the source's."""
    for element in _elements(d):
        demand(not element.tag.is_private, f"a private attribute, {element.tag}")
        if element.VR in ("OB", "OW", "OF", "OB or OW", "SQ"):
            continue
        values = element.value if element.VM > 1 else [element.value] if element.VM else []
        for value in values:
            try:
                validate_value(element.VR, str(value) if element.VR in ("DS", "IS") else value, RAISE)
            except ValueError:
                demand(False, f"{element.keyword} is no {element.VR}")


def _elements(d: Dataset) -> Iterator[DataElement]:
    for element in d:
        if element.keyword in THE_SOURCES:
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def check_identity(d: Dataset, source: SourceStudy) -> None:
    """Patient and study are the source's, value for value. Raises Defect, which names no value."""
    for keyword in VERBATIM:
        if keyword in source.header:
            demand(keyword in d, f"{keyword} of the source is missing")
            demand(d[keyword].value == source.header[keyword].value, f"{keyword} is not that of the source")
        else:
            demand(keyword not in d or not d[keyword].value, f"{keyword} has a value that the source has not")


def check_references(d: Dataset, known: Collection[str]) -> None:
    """What ``d`` is derived from is an object of ours before it or an instance of the source (``known``).

    Besides, it may name the earlier result that it supersedes.
    """
    superseded = predecessors_of(d)
    for uid in _derived_from(d):
        demand(
            UID(uid).is_valid and (uid in known or uid in superseded),
            f"it refers to {uid}, which is not there",
        )


def source_uids(source: SourceStudy) -> frozenset[str]:
    """SOP Instance UIDs of what came in."""
    headers = (*source.map_headers.values(), *source.anatomy_headers.values())
    return frozenset(str(h.SOPInstanceUID) for series in headers for h in series)


def _derived_from(d: Dataset) -> Iterator[str]:
    for item in d.get("SourceImageSequence", ()):
        yield str(item.ReferencedSOPInstanceUID)
    for series in d.get("ReferencedSeriesSequence", ()):
        for item in series.get("ReferencedInstanceSequence") or series.ReferencedImageSequence:
            yield str(item.ReferencedSOPInstanceUID)
    for frame in d.get("PerFrameFunctionalGroupsSequence", ()):
        for derivation in frame.get("DerivationImageSequence", ()):
            for item in derivation.SourceImageSequence:
                yield str(item.ReferencedSOPInstanceUID)
