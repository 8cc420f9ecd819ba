"""Notes about results: the one that rejects them (IOCM), and the one that says why there are none.

Both are SR documents of a few items, and carry patient and study attributes of one instance of the study.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import (
    AdvancedBlendingPresentationStateStorage,
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    KeyObjectSelectionDocumentStorage,
    PseudoColorSoftcopyPresentationStateStorage,
    SpatialRegistrationStorage,
)

from dicom_node import codes
from dicom_node.config import OutputRules
from dicom_node.uids import result_uid

from .headers import MAY_BE_EMPTY, file_meta
from .planes import reference_to
from .production import long_string, plain
from .references import instance_item

NOTE_SERIES = 901

REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")

_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
_OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
_PERSON, _DEVICE = Code("121006", "DCM", "Person"), Code("121007", "DCM", "Device")
_PERSON_NAME = Code("121008", "DCM", "Person Observer Name")
_DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
_DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
_NO_RESULT = Code("NORESULT", "99MRSISR", "No super-resolved result")
_REASON = Code("NORESULTREASON", "99MRSISR", "Why there is no result")

# Documents and the like; whatever else we make is an image to those who refer to it.
_NO_IMAGE = {
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    BasicTextSRStorage,
    KeyObjectSelectionDocumentStorage,
    SpatialRegistrationStorage,
    PseudoColorSoftcopyPresentationStateStorage,
    AdvancedBlendingPresentationStateStorage,
}

# General Study (PS3.3 C.7.2.1), beside everything of the patient's own group.
_STUDY = (
    "SpecificCharacterSet",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
)
_UNICODE = {"ISO_IR 192", "GB18030"}


def rejection_note(
    objects: Sequence[Dataset], title: Code, by: str, because: str, rules: OutputRules, *identity: str
) -> Dataset:
    """A Key Object Selection that rejects ``objects``, headers of one study (PS3.3 A.35.4, PS3.16 TID 2010).

    As IHE's Imaging Object Change Management asks: ``title`` says why they are rejected, and every one of
    them is evidence. ``identity`` gives the note's UIDs.
    """
    d = _document(objects[0], KeyObjectSelectionDocumentStorage, "KO", rules, identity)
    d.SeriesDescription = long_string(f"{rules.model_name} results withdrawn")
    d.CurrentRequestedProcedureEvidenceSequence = [_evidence(objects)]
    d.ConceptNameCodeSequence = [codes.item(title)]
    d.ContentTemplateSequence = [_template("2010")]
    said = _text(because, d)
    d.ContentSequence = [
        _coded("HAS OBS CONTEXT", _OBSERVER_TYPE, _PERSON),
        _valued("HAS OBS CONTEXT", "PNAME", _PERSON_NAME, PersonName=_text(by, d)[:64]),
        _valued("CONTAINS", "TEXT", _DESCRIPTION, TextValue=said),
        *(_reference(o) for o in objects),
    ]
    return d


def reason_report(header: Dataset, words: str, rules: OutputRules, *identity: str) -> Dataset:
    """A Basic Text SR (PS3.3 A.35.1) that says why the study of ``header`` has no result."""
    d = _document(header, BasicTextSRStorage, "SR", rules, identity)
    d.SeriesDescription = long_string(f"{rules.model_name} no result")
    d.CompletionFlag, d.VerificationFlag, d.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "FINAL"
    d.PerformedProcedureCodeSequence = []
    d.ConceptNameCodeSequence = [codes.item(_NO_RESULT)]
    d.CodingSchemeIdentificationSequence = list(codes.schemes())
    d.ContentSequence = [
        _coded("HAS OBS CONTEXT", _OBSERVER_TYPE, _DEVICE),
        _valued("HAS OBS CONTEXT", "UIDREF", _DEVICE_UID, UID=result_uid("device", rules.device_serial)),
        _valued("HAS OBS CONTEXT", "TEXT", _DEVICE_NAME, TextValue=_text(rules.model_name, d)),
        _valued("CONTAINS", "TEXT", _REASON, TextValue=_text(words, d)),
    ]
    return d


def _document(
    source: Dataset, sop_class: str, modality: str, rules: OutputRules, identity: Iterable[str]
) -> Dataset:
    d = Dataset()
    for element in source.group_dataset(0x0010):
        d.add(copy.deepcopy(element))
    for keyword in _STUDY:
        if keyword in source:
            d.add(copy.deepcopy(source[keyword]))
    for keyword in MAY_BE_EMPTY:
        if keyword not in d:
            setattr(d, keyword, "")
    now = datetime.now()
    d.SOPClassUID = sop_class
    d.SOPInstanceUID = result_uid("note", *identity)
    d.SeriesInstanceUID = result_uid("series of a note", *identity)
    d.Modality = modality
    d.SeriesNumber, d.InstanceNumber = rules.base_series + NOTE_SERIES, 1
    d.SeriesDate = d.ContentDate = d.InstanceCreationDate = now.strftime("%Y%m%d")
    d.SeriesTime = d.ContentTime = d.InstanceCreationTime = now.strftime("%H%M%S")
    d.Manufacturer = long_string(rules.manufacturer)
    d.ManufacturerModelName = long_string(rules.model_name)
    d.DeviceSerialNumber = long_string(rules.device_serial)
    d.SoftwareVersions = long_string(rules.manufacturer)
    d.ReferencedPerformedProcedureStepSequence = []
    d.ValueType, d.ContinuityOfContent = "CONTAINER", "SEPARATE"
    d.file_meta = file_meta(d)
    return d


def _evidence(objects: Sequence[Dataset]) -> Dataset:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    by_series: dict[str, list[Dataset]] = {}
    for o in objects:
        by_series.setdefault(str(o.SeriesInstanceUID), []).append(o)
    study = Dataset()
    study.StudyInstanceUID = objects[0].StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for uid, instances in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = [instance_item(reference_to(o)) for o in instances]
        study.ReferencedSeriesSequence.append(series)
    return study


def _reference(o: Dataset) -> Dataset:
    d = Dataset()
    d.RelationshipType = "CONTAINS"
    d.ValueType = "COMPOSITE" if o.SOPClassUID in _NO_IMAGE else "IMAGE"
    d.ReferencedSOPSequence = [instance_item(reference_to(o))]
    return d


def _template(number: str) -> Dataset:
    d = Dataset()
    d.MappingResource, d.TemplateIdentifier = "DCMR", number
    return d


def _coded(relationship: str, name: Code, value: Code) -> Dataset:
    return _valued(relationship, "CODE", name, ConceptCodeSequence=[codes.item(value)])


def _valued(relationship: str, value_type: str, name: Code, **value: object) -> Dataset:
    d = Dataset()
    d.RelationshipType, d.ValueType = relationship, value_type
    d.ConceptNameCodeSequence = [codes.item(name)]
    for keyword, v in value.items():
        setattr(d, keyword, v)
    return d


def _text(words: str, d: Dataset) -> str:
    """``words`` in the document's own character set."""
    return words if d.get("SpecificCharacterSet") in _UNICODE else plain(words)
