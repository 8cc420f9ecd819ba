"""An acquisition as MR series such as sites export: one classic series, or one enhanced object, per map."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_node.codes import quantity, unit
from dicom_node.uids import result_uid
from sr_core import Acquisition, Contrast, Grid, Metabolite

from .enhanced import enhanced_groups

_HIGHEST = 60000
_PADDING = 65535
_LARMOR_MHZ_PER_T = 42.577478


@dataclass(frozen=True)
class Identity:
    """Who the simulated patient is, and the scanner's field in T. Text may be in any script."""

    patient_id: str = "SIMULATED"
    patient_name: str = "Simulated^Glioma"
    study_date: str = "20260105"
    accession_number: str = "SIM0001"
    field_t: float = 3.0
    study: str = ""  # tells studies of equal content apart


@dataclass(frozen=True, eq=False)
class SeriesPlan:
    """One series to be written: real ``values`` on ``grid``, what they are, and header attributes."""

    number: int
    description: str
    values: NDArray[np.generic]
    grid: Grid
    attributes: dict[str, Any]
    label: str = ""
    unit: tuple[str, str] | None = None
    metabolite: Metabolite | None = None


SOMEONE = Identity()


def datasets(
    acquisition: Acquisition,
    identity: Identity = SOMEONE,
    form: Literal["classic", "enhanced"] = "classic",
) -> Iterator[FileDataset]:
    """Every instance of the study, ready to be saved; anatomy is classic in both forms.

    UIDs depend on content and identity alone. NaN is written as Pixel Padding Value; stored values
    are 16-bit, with a round slope (Real World Value Mapping and Rescale).
    """
    fingerprint = _fingerprint(acquisition, identity)
    study = _study(identity, fingerprint)
    for plan in _plans(acquisition):
        base = Dataset()
        base.update(study)
        base.FrameOfReferenceUID = _frame_uid(plan.grid.frame_of_reference, fingerprint)
        base.SeriesInstanceUID = result_uid("simulated series", fingerprint, plan.description)
        base.SeriesNumber = plan.number
        base.SeriesDescription = plan.description
        base.SeriesTime = base.AcquisitionTime = base.ContentTime = f"{10 + plan.number // 100:02d}0000"
        base.SeriesDate = base.AcquisitionDate = base.ContentDate = identity.study_date
        for keyword, value in plan.attributes.items():
            setattr(base, keyword, value)
        if form == "enhanced" and plan.unit is not None:
            yield _enhanced(plan, base, fingerprint, acquisition)
        else:
            yield from _classic(plan, base, fingerprint, acquisition)


def _plans(acquisition: Acquisition) -> Iterator[SeriesPlan]:
    anatomy = {
        Contrast.T1: (2, "MPRAGE", {"EchoTime": "2.98", "InversionTime": "900", "RepetitionTime": "2300"}),
        Contrast.FLAIR: (
            3,
            "T2 FLAIR SPACE dark-fluid",
            {"EchoTime": "388", "InversionTime": "1800", "RepetitionTime": "5000"},
        ),
    }
    for image in acquisition.anatomy:
        number, description, timing = anatomy[image.contrast]
        sequence = {
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "ScanningSequence": ["GR", "IR"] if image.contrast is Contrast.T1 else ["SE", "IR"],
            "EchoTrainLength": 1,
        }
        yield SeriesPlan(number, description, image.values, image.grid, {**sequence, **timing})
    grid = acquisition.grid
    for i, m in enumerate(acquisition.maps):
        coded = unit(m.unit)
        yield SeriesPlan(
            101 + i,
            f"LCM {m.metabolite} conc",
            m.values,
            grid,
            dict(_MAP),
            str(m.metabolite),
            (coded.value, coded.meaning),
            m.metabolite,
        )
    for i, m in enumerate(acquisition.maps):
        if m.crlb_percent is not None:
            name = f"LCM {m.metabolite} CRLB"
            label = f"{m.metabolite} CRLB"
            yield SeriesPlan(
                201 + i, name, m.crlb_percent, grid, dict(_MAP), label, ("%", "percent"), m.metabolite
            )
    if acquisition.snr is not None:
        yield SeriesPlan(301, "LCM SNR", acquisition.snr, grid, dict(_MAP), "SNR", ("{ratio}", "ratio"))
    if acquisition.linewidth_ppm is not None:
        ppm = ("[ppm]", "parts per million")
        yield SeriesPlan(302, "LCM FWHM", acquisition.linewidth_ppm, grid, dict(_MAP), "FWHM", ppm)


_MAP: dict[str, Any] = {
    "ImageType": ["DERIVED", "PRIMARY", "OTHER"],
    "ScanningSequence": "RM",
    "EchoTime": "1.3",
    "RepetitionTime": "450",
    "EchoTrainLength": 1,
    "DerivationDescription": "Metabolite map from spectroscopy, fitted by LCModel (simulated)",
}


def _study(identity: Identity, fingerprint: str) -> Dataset:
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.PatientID, d.PatientName = identity.patient_id, identity.patient_name
    d.PatientBirthDate, d.PatientSex = "19700101", "O"
    d.StudyInstanceUID = result_uid("simulated study", fingerprint)
    d.StudyDate, d.StudyTime = identity.study_date, "100000"
    d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = "1", identity.accession_number, ""
    d.StudyDescription = "Brain MRSI (simulated)"
    d.Modality = "MR"
    d.Manufacturer, d.ManufacturerModelName = "Simulated", "Simulated scanner"
    d.DeviceSerialNumber, d.SoftwareVersions = "0", "1"
    d.PositionReferenceIndicator = ""
    d.PatientPosition = "HFS"
    d.BodyPartExamined = "BRAIN"
    d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "NONE", "", "3D"
    d.MagneticFieldStrength = format_number_as_ds(identity.field_t)
    d.ImagingFrequency = format_number_as_ds(round(identity.field_t * _LARMOR_MHZ_PER_T, 4))
    d.ImagedNucleus = "1H"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.BurnedInAnnotation = "NO"
    return d


def _classic(
    plan: SeriesPlan, base: Dataset, fingerprint: str, acquisition: Acquisition
) -> Iterator[FileDataset]:
    stored, slope, intercept = _stored(plan)
    spacing = plan.grid.spacing_mm
    base.Rows, base.Columns = plan.grid.shape[1:]
    base.PixelSpacing = [format_number_as_ds(s) for s in spacing[1:]]
    base.SliceThickness = base.SpacingBetweenSlices = format_number_as_ds(spacing[0])
    base.ImageOrientationPatient = orientation(plan.grid)
    if plan.unit is not None:
        base.RescaleSlope, base.RescaleIntercept = (format_number_as_ds(v) for v in (slope, intercept))
        base.RescaleType = "US"
        base.RealWorldValueMappingSequence = [real_world(plan, slope, intercept)]
        if acquisition.acquired_matrix is not None:
            _, rows, columns = acquisition.acquired_matrix
            base.AcquisitionMatrix = [rows, 0, 0, columns]
            base.InPlanePhaseEncodingDirection = "ROW"
    if (stored == _PADDING).any():
        base.PixelPaddingValue = _PADDING
    for k in range(plan.grid.shape[0]):
        uid = result_uid("simulated instance", fingerprint, plan.description, str(k))
        d = _file(MRImageStorage, uid, base)
        d.InstanceNumber = k + 1
        d.ImagePositionPatient = position(plan.grid, k)
        d.PixelData = stored[k].tobytes()
        yield d


def _enhanced(plan: SeriesPlan, base: Dataset, fingerprint: str, acquisition: Acquisition) -> FileDataset:
    """Enhanced MR Image with Metabolite Map functional groups (PS3.3 A.36.2, C.8.13.5.14)."""
    stored, slope, intercept = _stored(plan)
    classic_only = (
        "ScanningSequence SequenceVariant ScanOptions EchoTime RepetitionTime EchoTrainLength ImagedNucleus "
        "ImagingFrequency AcquisitionDate AcquisitionTime MRAcquisitionType"
    )
    for keyword in classic_only.split():
        if keyword in base:
            delattr(base, keyword)
    d = _file(EnhancedMRImageStorage, result_uid("simulated instance", fingerprint, plan.description), base)
    d.InstanceNumber = 1
    d.Rows, d.Columns = plan.grid.shape[1:]
    if (stored == _PADDING).any():
        d.PixelPaddingValue = _PADDING
    name = "" if plan.metabolite is None else str(plan.metabolite)
    code = quantity(plan.metabolite) if plan.metabolite is not None and plan.label == name else None
    enhanced_groups(
        d,
        plan.grid,
        positions=[position(plan.grid, k) for k in range(plan.grid.shape[0])],
        orientation=orientation(plan.grid),
        label=plan.label,
        code=code,
        mapping=real_world(plan, slope, intercept),
        transformation=(slope, intercept),
        acquired_matrix=acquisition.acquired_matrix,
    )
    d.PixelData = stored.tobytes()
    return d


def _file(sop_class: str, uid: str, base: Dataset) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    d.update(base)
    d.SOPClassUID, d.SOPInstanceUID = UID(sop_class), UID(uid)
    return d


def _stored(plan: SeriesPlan) -> tuple[NDArray[np.uint16], float, float]:
    """Stored values with slope and intercept; anatomy is scaled to 12 bits and says nothing of it."""
    values = np.asarray(plan.values, dtype=np.float64)
    known = np.isfinite(values)
    low = min(0.0, float(values[known].min())) if known.any() else 0.0
    high = float(values[known].max()) if known.any() else 1.0
    if plan.unit is None:
        slope, intercept = (high - low or 1.0) / 4000, low
    else:
        least = (high - low or 1.0) / _HIGHEST
        decade = 10.0 ** np.floor(np.log10(least))
        slope = next(decade * step for step in (1, 2, 5, 10) if decade * step >= least)
        intercept = -float(np.ceil(-low / slope) * slope)
    stored = np.full(values.shape, _PADDING, dtype=np.uint16)
    stored[known] = np.round((values[known] - intercept) / slope).astype(np.uint16)
    return stored, float(slope), intercept


def real_world(plan: SeriesPlan, slope: float, intercept: float) -> Dataset:
    """Real World Value Mapping item (PS3.3 C.7.6.16.2.11.1)."""
    item, units = Dataset(), Dataset()
    value, meaning = plan.unit or ("1", "no units")
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = value, "UCUM", meaning
    item.LUTLabel, item.LUTExplanation = plan.label, plan.description
    item.MeasurementUnitsCodeSequence = Sequence([units])
    item.add_new("RealWorldValueFirstValueMapped", "US", 0)
    item.add_new("RealWorldValueLastValueMapped", "US", _PADDING)
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    return item


def position(grid: Grid, k: int) -> list[str]:
    """Image Position (Patient) of slice ``k``."""
    return [format_number_as_ds(float(x)) for x in grid.to_patient((k, 0, 0)) + 0.0]


def orientation(grid: Grid) -> list[str]:
    """Image Orientation (Patient)."""
    return [
        format_number_as_ds(float(x)) for x in (*(grid.row_direction + 0.0), *(grid.column_direction + 0.0))
    ]


def _frame_uid(frame_of_reference: str, fingerprint: str) -> str:
    """The grid's Frame of Reference if it is a UID, else one made from its name."""
    if frame_of_reference and all(c.isdigit() or c == "." for c in frame_of_reference):
        return frame_of_reference
    return result_uid("frame of reference", fingerprint, frame_of_reference)


def _fingerprint(acquisition: Acquisition, identity: Identity) -> str:
    digest = hashlib.sha256(repr(identity).encode())
    parts = [(m.values, m.grid) for m in acquisition.maps] + [(a.values, a.grid) for a in acquisition.anatomy]
    for values, grid in parts:
        digest.update(np.ascontiguousarray(values).tobytes() + grid.affine.tobytes())
    return digest.hexdigest()
