"""What a series is, as one room tells the next: its role, the reason, and the instances of each quantity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydicom import Dataset
from pydicom.multival import MultiValue

from .config import IdentifyRules, SiteRule

QualityKind = Literal["crlb", "snr", "linewidth"]


class Role(StrEnum):
    """What a series is to us. ``OTHER`` is refused or not needed; its reason says why."""

    METABOLITE_MAP = "metabolite_map"
    QUALITY_MAP = "quality_map"
    T1 = "t1"
    FLAIR = "flair"
    SPECTRA = "spectra"
    OURS = "ours"
    OTHER = "other"


@dataclass(frozen=True)
class Part:
    """The instances, or the frames of one instance, that hold one quantity.

    ``frames`` counts from 0 within the one instance of ``sop_uids``; None means every frame.
    ``metabolite`` is None for anatomy and for quality maps; a quality map of one metabolite names it
    in ``of``. ``unit`` is UCUM as header or site rule states it ("absolute": a CRLB in the unit of
    its map); None if nothing states it.
    """

    sop_uids: tuple[str, ...]
    frames: tuple[int, ...] | None = None
    metabolite: str | None = None
    quality: QualityKind | None = None
    of: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class IdentifiedSeries:
    """One series, its role, and the reason in words for a radiographer. ``parts`` is empty if unused."""

    uid: str
    study_uid: str
    description: str
    role: Role
    reason: str
    parts: tuple[Part, ...] = ()


def value_of(header: Dataset, keyword: str) -> Any:
    """An attribute's value; None if it is absent, or is not what its value representation demands."""
    try:
        return header.get(keyword)
    except Exception:  # whatever pydicom raises over an untrusted value ("1.5" as an integer string)
        return None


def text_of(header: Dataset, keyword: str) -> str:
    """An attribute as one line of text, "" if absent or empty."""
    value = value_of(header, keyword)
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    try:
        return " ".join(str(v) for v in value).strip()
    except TypeError:
        return str(value).strip()


def site_rule(header: Dataset, rules: IdentifyRules) -> SiteRule | None:
    """The first site rule whose every ``match`` pattern is found in its attribute of ``header``."""
    for site in rules.sites:
        if all(re.search(pattern, text_of(header, keyword)) for keyword, pattern in site.match.items()):
            return site
    return None


def numbers_of(header: Dataset, keyword: str) -> tuple[float, ...]:
    """An attribute's numbers; () if it is absent, empty or not of numbers, as in a broken header."""
    value = value_of(header, keyword)
    if value is None or value == "":
        return ()
    try:
        return tuple(float(v) for v in (value if isinstance(value, (list, MultiValue)) else [value]))
    except (TypeError, ValueError):
        return ()
