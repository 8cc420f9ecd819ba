"""Attributes that every object carries: patient and study verbatim, our equipment, the scanner's name."""

from __future__ import annotations

import copy

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node import codes
from dicom_node.arrival import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

from .planes import Reference
from .production import Production, long_string

# Patient, General Study, Patient Study and Clinical Trial modules (PS3.3 C.7.1, C.7.2): what these
# say is the source's to say, and is carried on as it stands, in the source's character set.
VERBATIM = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "QualityControlSubject",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingService",
    "ReferencedStudySequence",
    "ProcedureCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "PatientSexNeutered",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "PatientState",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "InstitutionName",
)

# Type 2: present in every object, empty where the source has none.
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)

# General Equipment of the source, kept as Contributing Equipment (PS3.3 C.12.1.1.5).
_EQUIPMENT = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)


def common_header(production: Production) -> Dataset:
    """Patient, study, series date, equipment and SOP Common attributes; no UID of its own."""
    source, rules = production.source.header, production.rules
    d = Dataset()
    for keyword in VERBATIM:
        if keyword in source:
            d.add(copy.deepcopy(source[keyword]))
    for keyword in MAY_BE_EMPTY:
        if keyword not in d:
            setattr(d, keyword, "")

    date, time = production.made_at.strftime("%Y%m%d"), production.made_at.strftime("%H%M%S.%f")
    d.SeriesDate = d.ContentDate = d.InstanceCreationDate = date
    d.SeriesTime = d.ContentTime = d.InstanceCreationTime = time
    d.BodyPartExamined = "BRAIN"

    d.Manufacturer = long_string(rules.manufacturer)
    d.ManufacturerModelName = long_string(rules.model_name)
    d.DeviceSerialNumber = long_string(rules.device_serial)
    d.SoftwareVersions = production.software_versions
    d.ContributingEquipmentSequence = _contributing_equipment(source)
    if not d.ContributingEquipmentSequence:
        del d.ContributingEquipmentSequence

    d.ContentQualification = rules.content_qualification
    d.CodingSchemeIdentificationSequence = list(codes.schemes())
    d.FrameOfReferenceUID = production.planes.frame_of_reference
    d.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "") or ""
    d.BurnedInAnnotation = "NO"
    d.RecognizableVisualFeatures = "NO"
    return d


# Reports and registrations have no room for these (PS3.3 A.35, A.39.1), and reports none for a place.
_OF_IMAGES = ("ContentQualification", "BurnedInAnnotation", "RecognizableVisualFeatures")
_OF_PLACES = ("FrameOfReferenceUID", "PositionReferenceIndicator", "BodyPartExamined")


def document_header(production: Production, *, placed: bool = False) -> Dataset:
    """``common_header`` without what only images have; if ``placed``, it lies in the Frame of Reference."""
    d = common_header(production)
    for keyword in _OF_IMAGES if placed else (*_OF_IMAGES, *_OF_PLACES):
        del d[keyword]
    return d


def identify(
    d: Dataset, production: Production, role: str, *, series_uid: str, instance: int, number: int, tail: str
) -> None:
    """Series and instance identity of ``d``: its SOP Instance UID is derived from ``role``."""
    d.SOPInstanceUID = production.uid(f"instance {role}", str(instance))
    d.SeriesInstanceUID = series_uid
    d.SeriesNumber = number
    d.InstanceNumber = instance
    d.SeriesDescription = production.description(tail)


def identify_single(d: Dataset, production: Production, role: str, number: int, tail: str) -> None:
    """``identify`` for the one instance of its series, with File Meta Information."""
    identify(
        d,
        production,
        role,
        series_uid=series_uid(production, role),
        instance=1,
        number=production.series_number(number),
        tail=tail,
    )
    d.file_meta = file_meta(d)


def series_uid(production: Production, role: str) -> str:
    """The Series Instance UID of ``role``."""
    return production.uid(f"series {role}")


def reference_of(production: Production, role: str, sop_class: str) -> Reference:
    """A reference to our own object of ``role``, made or still to be made: its one instance."""
    return Reference(
        sop_class,
        production.uid(f"instance {role}", "1"),
        series_uid(production, role),
        production.study_uid,
    )


def file_meta(d: Dataset) -> FileMetaDataset:
    """File Meta Information for ``d``, Explicit VR Little Endian (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = d.SOPClassUID
    meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return meta


def _contributing_equipment(source: Dataset) -> list[Dataset]:
    """The source's own list, and the equipment that made the source (purpose: acquisition)."""
    items: list[Dataset] = [copy.deepcopy(i) for i in source.get("ContributingEquipmentSequence", None) or []]
    if source.get("Manufacturer"):
        scanner = Dataset()
        for keyword in _EQUIPMENT:
            if source.get(keyword):
                scanner.add(copy.deepcopy(source[keyword]))
        scanner.PurposeOfReferenceCodeSequence = [codes.item(codes.ACQUISITION_EQUIPMENT)]
        items.append(scanner)
    return items
