"""Storage Commitment Push Model (PS3.4 Annex J): its data sets as values, both ways. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import UID

from .errors import NotDicom

PUSH_MODEL = UID("1.2.840.10008.1.20.1")
INSTANCE = UID("1.2.840.10008.1.20.1.1")  # the well-known one
REQUEST = 1  # Action Type ID
ALL_KEPT = 1  # Event Type IDs
SOME_FAILED = 2

# Failure Reasons (PS3.3 C.14.1.1)
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_CONFLICT = 0x0119

_WORDS = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_INSTANCE: "no such object",
    CLASS_CONFLICT: "it has the object under another SOP class",
    0x0122: "it keeps no objects of this SOP class",
    0x0131: "our transaction UID is in use",
    0x0213: "out of resources",
}

# These say nothing of the object: the same question may be answered otherwise later.
_ASK_AGAIN = frozenset({PROCESSING_FAILURE, 0x0131, 0x0213})

_MOST = 100_000  # references in one request; more are no study's


@dataclass(frozen=True)
class Reference:
    """An instance by class and UID."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True)
class Report:
    """The answer: what is kept, and what is not with the Failure Reason."""

    transaction_uid: str
    kept: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...] = field(default=())

    @property
    def event_type(self) -> int:
        return SOME_FAILED if self.failed else ALL_KEPT

    @property
    def missing(self) -> dict[str, str]:
        """SOP Instance UIDs that have to be sent again, each with the reason in words."""
        return {r.sop_uid: reason_in_words(why) for r, why in self.failed if why not in _ASK_AGAIN}


def reason_in_words(reason: int) -> str:
    """A Failure Reason for a person, with its code."""
    return f"{_WORDS.get(reason, 'failure')} ({reason:04X})"


def request(transaction_uid: str, references: Collection[Reference]) -> Dataset:
    """The Action Information of N-ACTION (PS3.4 J.3.2.1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_item(r) for r in references]
    return ds


def read_request(ds: Dataset) -> tuple[str, tuple[Reference, ...]]:
    """Transaction UID and references of an Action Information. Raises NotDicom."""
    transaction_uid = _uid(ds, "TransactionUID")
    references = tuple(_reference(item) for item in _items(ds, "ReferencedSOPSequence"))
    if not references:
        raise NotDicom("a request for storage commitment that names no instance")
    return transaction_uid, references


def report(answer: Report) -> Dataset:
    """The Event Information of N-EVENT-REPORT (PS3.4 J.3.3.1)."""
    ds = Dataset()
    ds.TransactionUID = answer.transaction_uid
    if answer.kept:
        ds.ReferencedSOPSequence = [_item(r) for r in answer.kept]
    if answer.failed:
        ds.FailedSOPSequence = [_item(r, why) for r, why in answer.failed]
    return ds


def read_report(ds: Dataset) -> Report:
    """Raises NotDicom for an Event Information that is none."""
    failed = tuple(
        (_reference(item), int(item.get("FailureReason", PROCESSING_FAILURE)))
        for item in _items(ds, "FailedSOPSequence")
    )
    kept = tuple(_reference(item) for item in _items(ds, "ReferencedSOPSequence"))
    return Report(_uid(ds, "TransactionUID"), kept, failed)


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def _reference(item: Dataset) -> Reference:
    return Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _items(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    items: Sequence[Dataset] = ds.get(keyword) or ()
    if len(items) > _MOST:
        raise NotDicom(f"storage commitment of {len(items)} instances in one request; {_MOST} are the most")
    return items


def _uid(ds: Dataset, keyword: str) -> str:
    uid = UID(str(ds.get(keyword) or ""))
    if not uid or len(uid) > 64 or not set(uid) <= set("0123456789."):
        raise NotDicom(f"storage commitment: {keyword} is missing or no UID")
    return str(uid)
