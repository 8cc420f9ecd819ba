"""What a storage status means for an object (PS3.4 B.2.3, PS3.7 Annex C): taken, later, or never. Pure."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What the destination's answer asks of us."""

    TAKEN = "taken"
    LATER = "later"  # for a reason that may pass
    NEVER = "never"  # not this object in this form


DUPLICATE = 0x0111

_WORDS = {
    0x0000: "Success",
    0x0001: "Warning",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "stored, attribute list error",
    0x0110: "processing failure",
    DUPLICATE: "it has this object already",
    0x0112: "no such object instance",
    0x0115: "invalid argument value",
    0x0116: "stored, attribute value out of range",
    0x0117: "invalid object instance",
    0x0118: "no such SOP class",
    0x0119: "class and instance disagree",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "it does not support the SOP class",
    0x0124: "we are not authorised there",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "out of resources",
    0xB000: "stored, some elements were coerced",
    0xB006: "stored, some elements were discarded",
    0xB007: "stored, data set does not match the SOP class",
}


def verdict(status: int) -> Verdict:
    """Of a C-STORE status, or of a Failure Reason of STOW-RS, which uses the same codes."""
    if status in (0x0000, 0x0001, DUPLICATE, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return Verdict.TAKEN
    if status in (0x0110, 0x0213) or 0xA700 <= status <= 0xA7FF:
        return Verdict.LATER
    return Verdict.NEVER


def in_words(status: int) -> str:
    """A status for a person, with its code."""
    if 0xA700 <= status <= 0xA7FF:
        words = "out of resources"
    elif 0xA900 <= status <= 0xA9FF:
        words = "data set does not match the SOP class"
    elif 0xC000 <= status <= 0xCFFF:
        words = "it cannot understand the object"
    else:
        words = _WORDS.get(status, "stored with a warning" if status & 0xF000 == 0xB000 else "failure")
    return f"{words} (status {status:04X})"
