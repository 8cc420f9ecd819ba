"""What any archive can be asked, DICOM or DICOMweb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydicom import Dataset

STUDY_KEYS = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "StudyDate", "ModalitiesInStudy")
SERIES_KEYS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "ManufacturerModelName",
    "NumberOfSeriesRelatedInstances",
)

# A Part 10 file with its SOP Class and SOP Instance UID -> the status that its sender gets.
Accept = Callable[[bytes, str, str], int]


class Pacs(Protocol):
    """Raises TemporaryError if the clock may help, Refused if a person must."""

    def studies(self, **keys: str) -> list[Dataset]:
        """Studies that match ``keys``, with the attributes of STUDY_KEYS as far as known."""

    def series(self, study_uid: str) -> list[Dataset]:
        """Series of a study, with the attributes of SERIES_KEYS as far as known."""

    def retrieve(self, study_uid: str, series_uid: str) -> None:
        """Have one series sent here."""
