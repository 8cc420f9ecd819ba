"""What an archive gives back beside what it was given, attribute by attribute. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag

_PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}  # compared decoded, elsewhere
# What any archive may rewrite: group lengths, padding, and its own mark.
_NOBODY_MINDS = {"DataSetTrailingPadding", "RetrieveAETitle", "InstanceAvailability", "TimezoneOffsetFromUTC"}


class About(StrEnum):
    """What an attribute is about."""

    IDENTITY = "identity"
    GEOMETRY = "geometry"
    UNITS = "units"
    REFERENCES = "references"
    CONTENT = "content"
    CHARACTERS = "character set"
    OTHER = "other"


# The first of these words that occurs in the names along an attribute's path says what it is about.
_WORDS = (
    ("SpecificCharacterSet", About.CHARACTERS),
    ("RealWorldValue", About.UNITS),
    ("Rescale", About.UNITS),
    ("Source", About.REFERENCES),
    ("Referenced", About.REFERENCES),
    ("Evidence", About.REFERENCES),
    ("Predecessor", About.REFERENCES),
    ("ContentSequence", About.CONTENT),
    ("SegmentSequence", About.CONTENT),
    ("ImagePosition", About.GEOMETRY),
    ("ImageOrientation", About.GEOMETRY),
    ("PlanePosition", About.GEOMETRY),
    ("PlaneOrientation", About.GEOMETRY),
    ("PixelMeasures", About.GEOMETRY),
    ("Spacing", About.GEOMETRY),
    ("SliceThickness", About.GEOMETRY),
    ("FrameOfReferenceUID", About.GEOMETRY),
    ("Patient", About.IDENTITY),
    ("Accession", About.IDENTITY),
    ("StudyInstanceUID", About.IDENTITY),
    ("SeriesInstanceUID", About.IDENTITY),
    ("SOPInstanceUID", About.IDENTITY),
    ("SOPClassUID", About.IDENTITY),
    ("Issuer", About.IDENTITY),
)

# A change of these is one that a reader of the results would be misled by.
GRAVE = frozenset({About.IDENTITY, About.GEOMETRY, About.UNITS, About.REFERENCES, About.CONTENT})


@dataclass(frozen=True, order=True)
class Difference:
    """One attribute: ``what`` became of it ("dropped", "added", "changed"), without its values."""

    attribute: str
    what: str

    @property
    def about(self) -> About:
        return next((about for word, about in _WORDS if word in self.attribute), About.OTHER)

    @property
    def grave(self) -> bool:
        """An addition misleads nobody."""
        return self.what != "added" and self.about in GRAVE


def differences(sent: Dataset, back: Dataset, path: str = "") -> Iterator[Difference]:
    """Attributes of ``back`` that are not as they were ``sent``; texts as read, numbers as numbers."""
    for tag in sorted({*sent.keys(), *back.keys()}):
        if tag.element == 0 or tag.is_private or _name(tag) in _PIXELS | _NOBODY_MINDS:
            continue
        where = f"{path}.{_name(tag)}" if path else _name(tag)
        if tag not in back:
            yield Difference(where, "dropped")
        elif tag not in sent:
            yield Difference(where, "added")
        else:
            yield from _compared(sent[tag], back[tag], where)


def _compared(sent: DataElement, back: DataElement, where: str) -> Iterator[Difference]:
    if sent.VR != "SQ" or back.VR != "SQ":
        if _plain(sent) != _plain(back):
            yield Difference(where, "changed")
    elif len(sent.value) != len(back.value):
        yield Difference(where, "changed")
    else:
        for one, other in zip(sent.value, back.value, strict=True):
            yield from differences(one, other, where)


def _plain(element: DataElement) -> Any:
    value = element.value
    if element.is_empty:
        return ""
    values = list(value) if element.VM > 1 else [value]
    if element.VR in ("DS", "IS", "FD", "FL", "US", "SS", "UL", "SL"):
        return [float(v) for v in values]
    return [v if isinstance(v, bytes) else str(v).strip().rstrip("\0") for v in values]


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"
