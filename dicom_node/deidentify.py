"""De-identification on the way in: the Basic Application Level Confidentiality Profile (PS3.15 E.1-1), keyed.

Which attribute is removed, emptied or replaced is read from dicom-anonymizer's table of the profile; it is
applied at every level of sequences. With the options "Retain Longitudinal Temporal Information with
Modified Dates" and, by a heuristic, "Clean Descriptors". Private attributes go. What is new depends on what
it replaces and on a site's key alone: the same patient, study and instance always become the same ones.

What it does not do: pixels are not looked at (burned-in text, faces), and names in descriptions are found
only if the same data set names them elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from dicomanonymizer import simpledicomanonymizer as profile
from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import UID

from .errors import BadConfiguration

_TABLE = "dicomfields_2026c"
_STANDARD_UIDS = "1.2.840.10008."
_LEAST_KEY = 32  # bytes
_MOST_DAYS = 3650
# What identification reads: kept, with what names a person taken out (PS3.15 E.3.6).
_DESCRIPTORS = frozenset(
    (
        "SeriesDescription",
        "ProtocolName",
        "SequenceName",
        "ImageComments",
        "DerivationDescription",
        "ContentLabel",
        "ContentDescription",
        "LUTLabel",
        "LUTExplanation",
        "MetaboliteMapDescription",
    )
)
_NAMING = ("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "AccessionNumber", "StudyID")
_NAMING_TOO = ("ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName", "PatientBirthDate")
_LONG_NUMBER = re.compile(r"\d{6,}")
_META_KEPT = frozenset((0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x0012, 0x0013))
_METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)

Action = Callable[[Dataset, Any], None]


class Pseudonyms:
    """Consistent replacements under one site's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> Pseudonyms:
        """Raises BadConfiguration if the key is missing, short, or may be read by everyone."""
        try:
            key = path.read_bytes().strip()
            open_to_all = path.stat().st_mode & 0o007
        except OSError as e:
            raise BadConfiguration(f"intake.deidentify_key_file {path} cannot be read: {e.strerror}") from e
        if len(key) < _LEAST_KEY:
            raise BadConfiguration(
                f"intake.deidentify_key_file {path} holds fewer than {_LEAST_KEY} bytes: make one with "
                f"openssl rand -hex 32 > {path}"
            )
        if open_to_all:
            raise BadConfiguration(
                f"intake.deidentify_key_file {path} may be read by everyone: chmod 600 {path}"
            )
        return cls(key)

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self._key, "\0".join(parts).encode(), hashlib.sha256)

    def uid(self, uid: str) -> str:
        """A UID for a UID; those that DICOM itself registers stay."""
        if not uid or uid.startswith(_STANDARD_UIDS):
            return uid
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def patient(self, patient_id: str, issuer: str) -> str:
        """A Patient ID for a Patient ID; "" stays."""
        return f"P{self._digest('patient', issuer, patient_id).hex()[:16].upper()}" if patient_id else ""

    def days(self, patient_id: str, issuer: str) -> int:
        """By how many days all dates of a patient move: back, by up to ten years."""
        return -1 - int.from_bytes(self._digest("days", issuer, patient_id)[:4], "big") % _MOST_DAYS


def de_identify(d: Dataset, pseudonyms: Pseudonyms) -> None:
    """Change ``d`` and its file meta information in place."""
    patient, issuer = str(d.get("PatientID", "")), str(d.get("IssuerOfPatientID", ""))
    work = _Work(pseudonyms, pseudonyms.days(patient, issuer), _naming(d))
    work.level(d)
    meta = d.file_meta
    meta.MediaStorageSOPInstanceUID = UID(pseudonyms.uid(str(meta.MediaStorageSOPInstanceUID)))
    for tag in [e.tag for e in meta if e.tag.element not in _META_KEPT]:  # AE titles, private information
        del meta[tag]
    if hasattr(d, "preamble"):
        d.preamble = bytes(128)
    d.PatientID = pseudonyms.patient(patient, issuer)
    d.PatientName = d.PatientID
    d.PatientIdentityRemoved = "YES"
    d.DeidentificationMethod = "PS3.15 basic profile, keyed pseudonyms"
    d.DeidentificationMethodCodeSequence = Items([_code(*c) for c in _METHODS])
    d.LongitudinalTemporalInformationModified = "MODIFIED"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _naming(d: Dataset) -> frozenset[str]:
    """Words of the data set that name people, or what leads to them; lower case, three letters and more."""
    said = " ".join(str(d.get(k, "")) for k in (*_NAMING, *_NAMING_TOO))
    return frozenset(w for w in re.split(r"[\W_]+", said.lower()) if len(w) > 2)


class _Work:
    """One data set's de-identification, at every level of it."""

    def __init__(self, pseudonyms: Pseudonyms, days: int, naming: frozenset[str]) -> None:
        self._pseudonyms, self._days, self._naming = pseudonyms, days, naming

    def level(self, d: Dataset) -> None:
        """All elements of ``d``; sequences that stay are gone into."""
        for tag in list(d.keys()):
            if tag.is_private or tag.group >> 8 in (0x50, 0x60) or tag.element == 0x0000:  # curves, overlays
                del d[tag]
                continue
            self._element(d, d[tag], _action(tag))

    def _element(self, d: Dataset, element: DataElement, action: Action | None) -> None:
        keyword, vr = element.keyword, element.VR
        if vr == "UI":
            element.value = self._uids(element.value)
        elif keyword in _DESCRIPTORS:
            element.value = self._cleaned(str(element.value or ""))
        elif keyword == "PatientBirthDate":
            element.value = ""
        elif vr in ("DA", "DT"):
            element.value = self._moved(element.value)
        elif vr == "SQ" and action in (None, profile.delete_or_empty_or_replace_UID, profile.keep):
            for item in element.value or ():
                self.level(item)
        elif vr == "TM":
            return  # with its date modified, a time of day tells nobody
        elif vr == "PN":
            element.value = ""
        elif action is profile.delete or (action is not None and vr in ("SQ", "UN", "OB", "OW", "OF", "OD")):
            del d[element.tag]
        elif action is not None:
            try:
                profile.empty_element(element)
            except NotImplementedError:  # of a kind that the profile does not expect there
                del d[element.tag]

    def _uids(self, value: Any) -> Any:
        if isinstance(value, (list, MultiValue)):
            return [self._pseudonyms.uid(str(v)) for v in value]
        return self._pseudonyms.uid(str(value or ""))

    def _cleaned(self, text: str) -> str:
        kept = [w for w in re.split(r"(\W+|_)", text) if w.lower() not in self._naming]
        return _LONG_NUMBER.sub("", "".join(kept)).strip()

    def _moved(self, value: Any) -> Any:
        if isinstance(value, (list, MultiValue)):
            return [self._moved(v) for v in value]
        text = str(value or "")
        try:
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8])) + timedelta(self._days)
        except (ValueError, OverflowError):
            return ""  # a year alone, or no date
        return f"{day:%Y%m%d}{text[8:]}"


@cache
def _actions() -> tuple[Mapping[tuple[int, int], Action], tuple[tuple[tuple[int, ...], Action], ...]]:
    """The profile's action by tag, and by (group, element, masks) for repeating groups."""
    every = profile.initialize_actions(_TABLE)
    single = {t: a for t, a in every.items() if len(t) == 2}
    return single, tuple((t, a) for t, a in every.items() if len(t) > 2)


def _action(tag: BaseTag) -> Action | None:
    single, ranges = _actions()
    found = single.get((tag.group, tag.element))
    if found is not None:
        return found
    for (group, element, group_mask, element_mask), action in ranges:
        if (
            tag.group & group_mask == group & group_mask
            and tag.element & element_mask == element & element_mask
        ):
            return action
    return None
