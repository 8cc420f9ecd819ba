"""What a destination refused for good, object by object, and the error that tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.errors import Refused
from dicom_node.store import Sendable


@dataclass(frozen=True)
class Refusal:
    """One object that a destination will not take in this form; no status if its context was refused."""

    file: Sendable
    status: int | None
    words: str

    def __str__(self) -> str:
        return f"{self.file.name}: {self.words}"


class ObjectsRefused(Refused):
    """Some objects were refused for good; ``refusals`` says which, for whoever has another form of them."""

    def __init__(self, destination: str, refusals: Sequence[Refusal], advice: str = "") -> None:
        self.refusals = tuple(refusals)
        distinct = list(dict.fromkeys(str(r) for r in refusals))
        more = f", and {len(distinct) - 3} more" if len(distinct) > 3 else ""
        then = f". {advice[0].upper()}{advice[1:]}" if advice else ""
        super().__init__(f"{destination} did not take everything: {'; '.join(distinct[:3])}{more}{then}")
