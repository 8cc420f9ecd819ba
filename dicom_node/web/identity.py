"""Whose study it is, as a header in the spool says it. The store keeps no name, and neither does this."""

from __future__ import annotations

from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset

from .desk import Desk

_KEYWORDS = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "AccessionNumber",
    "InstitutionName",
)
_LONGEST = 200


@dataclass(frozen=True)
class Identity:
    """Text as the header has it; empty where it says nothing."""

    name: str
    birth_date: str
    sex: str
    study_date: str
    description: str
    accession: str
    institution: str


def identity_of(desk: Desk, case: str) -> Identity | None:
    """None if no file of the case is kept any more, or its header cannot be read."""
    path = desk.store.a_file_of(case)
    if path is None:
        return None
    try:
        d = pydicom.dcmread(desk.spool.path(path), stop_before_pixels=True, specific_tags=list(_KEYWORDS))
        return Identity(
            _name(d),
            _text(d, "PatientBirthDate"),
            _text(d, "PatientSex"),
            _text(d, "StudyDate"),
            _text(d, "StudyDescription"),
            _text(d, "AccessionNumber"),
            _text(d, "InstitutionName"),
        )
    except Exception:  # pydicom raises many kinds on broken bytes; a page without a name is still a page
        return None


def _text(d: Dataset, keyword: str) -> str:
    value = d.get(keyword)
    return "" if value is None else " ".join(str(value).split())[:_LONGEST]


def _name(d: Dataset) -> str:
    """Family and given names as people write them; other scripts beside (PS3.5 6.2.1)."""
    name = _text(d, "PatientName")
    groups = [", ".join(part for part in group.split("^") if part) for group in name.split("=")]
    return " · ".join(g for g in groups if g)
