"""The last form of a Parametric Map, for a peer that takes none: its values as a derived MR series."""

from __future__ import annotations

import copy

import numpy as np
from pydicom import Dataset
from pydicom.uid import MRImageStorage

from dicom_node import codes
from dicom_node.errors import BadObject
from dicom_node.uids import result_uid
from sr_core import Unit

from .derived_mr import become_classic, decimal_scale, ratio_scale, scale_words, stored_values
from .forms import map_integers
from .headers import MAY_BE_EMPTY, VERBATIM, file_meta
from .planes import floats_of, normal_of
from .production import long_string, short_text

# What slices say as their map does, besides patient and study.
_AS_THE_MAP = (
    "SeriesDate",
    "ContentDate",
    "InstanceCreationDate",
    "SeriesTime",
    "ContentTime",
    "InstanceCreationTime",
    "SeriesNumber",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ContributingEquipmentSequence",
    "ContentQualification",
    "CodingSchemeIdentificationSequence",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "DerivationCodeSequence",
    "SourceImageSequence",
    "ReferencedImageSequence",
    "Rows",
    "Columns",
)


def as_mr_series(d: Dataset) -> list[Dataset]:
    """The float Parametric Map ``d`` as a classic MR series, slice by slice in the order of its frames.

    As ``derived_mr_series`` makes one, stored value = value × the factor that the description names; UIDs
    follow from those of ``d``. Raises BadObject if values are not finite.
    """
    values = np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns)
    if not np.isfinite(values).all():
        raise BadObject("derived MR series: values that are not finite")
    shared = d.SharedFunctionalGroupsSequence[0]
    unit = shared.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].get("CodeValue")
    highest = float(values.max())
    scale = ratio_scale(highest) if unit == codes.unit(Unit.RATIO).value else decimal_scale(highest)
    stored = stored_values(values, scale)
    base = _base(d, scale, below_zero=bool((values < 0).any()))
    slices = []
    for number, frame in enumerate(d.PerFrameFunctionalGroupsSequence, start=1):
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        image = Dataset()
        image.update(base)
        image.SOPInstanceUID = result_uid("form derived MR", str(d.SOPInstanceUID), str(number))
        image.InstanceNumber = number
        image.ImagePositionPatient = list(position)
        image.SliceLocation = f"{_along(position, base.ImageOrientationPatient):.6f}"
        image.PixelData = stored[number - 1].tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta = file_meta(image)
        slices.append(image)
    return slices


def _base(d: Dataset, scale: float, below_zero: bool) -> Dataset:
    """What all slices share."""
    shared = d.SharedFunctionalGroupsSequence[0]
    out = Dataset()
    for keyword in (*VERBATIM, *MAY_BE_EMPTY, *_AS_THE_MAP):
        if keyword in d:
            out.add(copy.deepcopy(d[keyword]))
    become_classic(out)
    out.PatientPosition = ""
    out.SOPClassUID = MRImageStorage
    out.SeriesInstanceUID = result_uid("form derived MR", str(d.SeriesInstanceUID))
    out.ImageOrientationPatient = list(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
    for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        out.add(copy.deepcopy(shared.PixelMeasuresSequence[0][keyword]))
    mapping = copy.deepcopy(shared.RealWorldValueMappingSequence[0])
    map_integers(mapping, 1.0 / scale)
    out.RealWorldValueMappingSequence = [mapping]
    window = shared.FrameVOILUTSequence[0]
    out.WindowCenter = f"{float(window.WindowCenter) * scale:.6g}"
    out.WindowWidth = f"{max(float(window.WindowWidth) * scale, 1.0):.6g}"
    tail = f" {scale_words(scale)}"
    title = long_string(str(d.SeriesDescription)).removesuffix(" PM")
    out.SeriesDescription = title[: 64 - len(tail)].rstrip() + tail
    said = f"Stored value = {title} x {scale:g}. " + (
        "Negative values are stored as 0. " if below_zero else ""
    )
    out.DerivationDescription = short_text(said + str(d.get("DerivationDescription", "")))
    return out


def _along(position: list[float], orientation: list[float]) -> float:
    """Of a plane, along its own normal, in mm."""
    return float(floats_of(position) @ normal_of(orientation))
