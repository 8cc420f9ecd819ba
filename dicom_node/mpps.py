"""Modality Performed Procedure Step SCP (PS3.4 F.7): what the scanner says it has made, kept as evidence.

A step may come from the scanner itself or be forwarded by a RIS; the instances it names, and its study, need
not be known here yet. Of its attributes only status, studies and references are kept, nothing of the patient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pydicom import Dataset
from pynetdicom import evt

from . import log
from .errors import TemporaryError
from .evidence import StepStatus
from .series import text_of
from .store import Store

_LOG = log.get("mpps")

SUCCESS = 0x0000
INVALID_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
RESOURCE_LIMITATION = 0x0213
NO_LONGER_UPDATED = 0xA710  # the Error ID that goes with PROCESSING_FAILURE (PS3.4 F.7.2.2.2)

_UID = re.compile(r"[0-9.]{1,64}")
_REFERENCES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")

Answer = tuple[Dataset, Dataset | None]
KnownAs = Callable[[str, str], str]


def _as_said(uid: str, _: str) -> str:
    return uid


class _Refused(Exception):
    def __init__(self, status: int, words: str, error_id: int | None = None) -> None:
        super().__init__(words)
        self.answer = _status(status, words, error_id)


def handlers(store: Store, taken: Collection[str], known_as: KnownAs = _as_said) -> list[Any]:
    """What an association server binds. Of other SOP classes than ``taken`` nothing will ever come.

    ``known_as(UID, calling AE title)``: under which UID what a caller names is kept here.
    """
    return [
        (evt.EVT_N_CREATE, on_n_create, [store, frozenset(map(str, taken)), known_as]),
        (evt.EVT_N_SET, on_n_set, [store, frozenset(map(str, taken)), known_as]),
    ]


def on_n_create(
    event: evt.Event, store: Store, taken: frozenset[str], known_as: KnownAs = _as_said
) -> Answer:
    """A step begins. The same SOP Instance again changes nothing and is a duplicate (0111H)."""
    return _guarded(event, lambda: _create(event, store, taken, known_as))


def on_n_set(event: evt.Event, store: Store, taken: frozenset[str], known_as: KnownAs = _as_said) -> Answer:
    """A step goes on or ends. A final one may no longer be updated (0110H, Error ID A710H)."""
    return _guarded(event, lambda: _set(event, store, taken, known_as))


def _guarded(event: evt.Event, act: Any) -> Answer:
    try:
        act()
        return _status(SUCCESS), None
    except _Refused as refusal:
        answer, reason = refusal.answer, str(refusal)
    except TemporaryError as problem:
        answer, reason = _status(RESOURCE_LIMITATION, "out of resources: send again later"), str(problem)
    except Exception as bug:  # must not end the association; its message may quote the data set
        _LOG.error("step.failed", caller=event.assoc.requestor.ae_title, **log.place_of(bug))
        return _status(PROCESSING_FAILURE, "internal error, see the node's log"), None
    _LOG.warning("step.refused", caller=event.assoc.requestor.ae_title, reason=reason)
    return answer, None


def _create(event: evt.Event, store: Store, taken: frozenset[str], known_as: KnownAs) -> None:
    source = event.assoc.requestor.ae_title
    uid, said = _instance_uid(event, "AffectedSOPInstanceUID"), event.attribute_list
    if "PerformedProcedureStepStatus" not in said:
        raise _Refused(MISSING_ATTRIBUTE, "Performed Procedure Step Status is missing")
    if text_of(said, "PerformedProcedureStepStatus") != StepStatus.IN_PROGRESS:
        raise _Refused(INVALID_VALUE, "a step begins with the status IN PROGRESS")
    studies = {
        known_as(study, source)
        for item in said.get("ScheduledStepAttributesSequence") or ()
        if _UID.fullmatch(study := text_of(item, "StudyInstanceUID"))
    }
    if not store.create_step(uid, source, studies, _known(_named(said, taken), source, known_as)):
        raise _Refused(DUPLICATE, "this step is known already")
    _LOG.info("step.created", step=uid, source=source, studies=sorted(studies))


def _set(event: evt.Event, store: Store, taken: frozenset[str], known_as: KnownAs) -> None:
    source = event.assoc.requestor.ae_title
    uid, said = _instance_uid(event, "RequestedSOPInstanceUID"), event.modification_list
    try:
        status = StepStatus(text_of(said, "PerformedProcedureStepStatus") or StepStatus.IN_PROGRESS)
    except ValueError:
        raise _Refused(INVALID_VALUE, "not a Performed Procedure Step Status") from None
    named = None
    if "PerformedSeriesSequence" in said:
        named = _known(_named(said, taken), source, known_as)
    before = store.update_step(uid, status, _why_discontinued(said), named)
    if before is None:
        raise _Refused(NO_SUCH_INSTANCE, "no such step was created here")
    if before is not StepStatus.IN_PROGRESS:
        words = "Performed Procedure Step Object may no longer be updated"
        raise _Refused(PROCESSING_FAILURE, words, NO_LONGER_UPDATED)
    _LOG.info("step.updated", step=uid, status=status, named=None if named is None else len(named))


def _instance_uid(event: evt.Event, keyword: str) -> str:
    uid = str(getattr(event.request, keyword) or "")
    if not _UID.fullmatch(uid):
        raise _Refused(INVALID_INSTANCE, "the request names no SOP Instance UID")
    return uid


def _named(said: Dataset, taken: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(SOP Instance UID, Series Instance UID) of every reference that may come here."""
    for series in said.get("PerformedSeriesSequence") or ():
        uid = text_of(series, "SeriesInstanceUID")
        for keyword in _REFERENCES:
            for item in series.get(keyword) or ():
                sop_class, sop = (
                    text_of(item, "ReferencedSOPClassUID"),
                    text_of(item, "ReferencedSOPInstanceUID"),
                )
                if _UID.fullmatch(sop) and _UID.fullmatch(uid) and (not sop_class or sop_class in taken):
                    yield sop, uid


def _known(named: Iterator[tuple[str, str]], source: str, known_as: KnownAs) -> dict[str, str]:
    return {known_as(sop, source): known_as(series, source) for sop, series in named}


def _why_discontinued(said: Dataset) -> str:
    for code in said.get("PerformedProcedureStepDiscontinuationReasonCodeSequence") or ():
        return text_of(code, "CodeMeaning")[:64]
    return ""


def _status(status: int, words: str = "", error_id: int | None = None) -> Dataset:
    answer = Dataset()
    answer.Status = status
    if words:
        answer.ErrorComment = words[:64]
    if error_id is not None:
        answer.ErrorID = error_id
    return answer
