"""Storage commitment as SCU (PS3.4 Annex J): asking a destination, and taking its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node import commitment, log
from dicom_node.association import NothingAccepted, associate, requestor
from dicom_node.config import DicomDestination, NodeRules
from dicom_node.errors import NotDicom, PeerBusy, PeerUnreachable, Refused
from dicom_node.store import CommitmentStore, Sendable

from .statuses import Verdict, in_words, verdict

_LOG = log.get("dispatch")

_POLL_S = 0.2

# Statuses of N-EVENT-REPORT (PS3.7 10.1.1.1.8)
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_INVALID_ARGUMENT = 0x0115


def take_report(event: evt.Event, store: CommitmentStore) -> int:
    """The status for a destination's N-EVENT-REPORT, on whichever association it came.

    Success means that the answer is in the store: the delivery that waits for it goes on.
    """
    caller = event.assoc.requestor.ae_title if event.assoc.is_acceptor else event.assoc.acceptor.ae_title
    try:
        report = commitment.read_report(event.event_information)
        kept = [r.sop_uid for r in report.kept]
        known = store.commitment_answered(report.transaction_uid, kept, report.missing)
    except NotDicom as problem:
        _LOG.warning("commitment.unreadable", caller=caller, reason=str(problem))
        return _INVALID_ARGUMENT
    except Exception as bug:  # a bug of ours must not end the association; the peer may report again
        _LOG.error("commitment.failed", caller=caller, **log.place_of(bug))
        return _PROCESSING_FAILURE
    uid = report.transaction_uid
    if not known:
        _LOG.warning("commitment.unknown", caller=caller, transaction=uid)
        return _INVALID_ARGUMENT
    _LOG.info(
        "commitment.reported", caller=caller, transaction=uid, kept=len(kept), failed=len(report.failed)
    )
    return _SUCCESS


def ask(
    destination: DicomDestination,
    files: Sequence[Sendable],
    transaction_uid: str,
    node: NodeRules,
    on_report: Callable[[evt.Event], int],
    answered: Callable[[], bool],
) -> None:
    """N-ACTION for ``files``; then the answer is waited for on this association, for a short while.

    ``on_report`` takes an N-EVENT-REPORT that comes here; most destinations send it to our listener on
    an association of their own, which ``answered`` tells. Returns whether or not the answer has come.
    Raises PeerUnreachable or PeerBusy if the question can be put later, Refused if it will never be
    taken.
    """
    ae = requestor(node)
    ae.add_requested_context(commitment.PUSH_MODEL, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    question = commitment.request(
        transaction_uid, [commitment.Reference(f.sop_class_uid, f.sop_uid) for f in files]
    )

    def report(event: evt.Event) -> tuple[int, None]:
        return on_report(event), None

    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, report)]
    name = destination.name
    try:
        _ask(ae, destination, question, handlers, answered)
    except NothingAccepted:
        raise Refused(
            f"{name} does not offer Storage Commitment: have it turned on there, or set proof to "
            '"query" or "none"'
        ) from None


def _ask(
    ae: AE,
    destination: DicomDestination,
    question: Dataset,
    handlers: list[Any],
    answered: Callable[[], bool],
) -> None:
    name = destination.name
    with associate(ae, destination, name, handlers=handlers) as association:
        try:
            answer, _ = association.send_n_action(
                question, commitment.REQUEST, commitment.PUSH_MODEL, commitment.INSTANCE
            )
        except RuntimeError as e:
            raise PeerUnreachable(f"{name} ended the association before storage commitment") from e
        if "Status" not in answer:
            raise PeerUnreachable(f"{name} did not answer a request for storage commitment in time")
        status = int(answer.Status)
        if verdict(status) is Verdict.LATER:
            raise PeerBusy(f"{name} cannot take a request for storage commitment now: {in_words(status)}")
        if verdict(status) is Verdict.NEVER:
            raise Refused(f"{name} does not take our request for storage commitment: {in_words(status)}")
        until = time.monotonic() + destination.proving.stay_s
        while not answered() and association.is_established and time.monotonic() < until:
            time.sleep(_POLL_S)
