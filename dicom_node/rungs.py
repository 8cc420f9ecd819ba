"""Forms in which an object may be sent, as rungs of a ladder that leads down from the best one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID, ParametricMapStorage

LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")  # newer than the dictionary of pydicom 3.0


@dataclass(frozen=True, order=True)
class Rung:
    """A form of an object: its SOP class and, where one class has several, which (``variant``).

    As what a destination refuses, no variant means every form of the class.
    """

    sop_class_uid: str
    variant: str = ""

    def __str__(self) -> str:
        name = class_name(self.sop_class_uid).removesuffix(" Storage")
        return f"{self.variant} {name}" if self.variant else name

    @property
    def whole_class(self) -> Rung:
        return Rung(self.sop_class_uid)


FLOAT_MAP = Rung(ParametricMapStorage, "32-bit float")


def class_name(uid: str) -> str:
    """The standard's name of a SOP class (PS3.6 A)."""
    return "Label Map Segmentation Storage" if uid == LABEL_MAP else UID(uid).name


def rung_of(header: Dataset) -> Rung:
    """The form of the object with ``header`` (pixels are not looked at)."""
    sop_class = str(header.SOPClassUID)
    if sop_class != ParametricMapStorage:
        return Rung(sop_class)
    return Rung(sop_class, "16-bit" if header.BitsAllocated == 16 else f"{header.BitsAllocated}-bit float")


def refused_rung(rung: Rung, status: int | None) -> Rung | None:
    """What a refusal with ``status`` says the destination does not take; None if it is not about the form.

    No status: the presentation context was refused, and with it all forms of the class.
    """
    if of_the_class(status):
        return rung.whole_class
    return rung if _of_the_object(status) else None


def of_the_class(status: int | None) -> bool:
    """Whether a refusal is about every object of its SOP class: by context, or as one not supported."""
    return status is None or status == 0x0122


def known_refusal(rung: Rung, refused: Mapping[Rung, str]) -> str | None:
    """The words with which a destination is known to refuse ``rung``; None if it is not."""
    return refused.get(rung.whole_class, refused.get(rung))


def _of_the_object(status: int | None) -> bool:
    """It cannot be kept as it is (PS3.4 B.2.3, PS3.7 Annex C), whoever sends it and however often."""
    return status is not None and (
        0xA900 <= status <= 0xA9FF
        or 0xC000 <= status <= 0xCFFF
        or status in (0x0105, 0x0106, 0x0117, 0x0119, 0x0120, 0x0121)
    )
