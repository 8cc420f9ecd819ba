"""Storage Commitment as SCP (PS3.4 Annex J): a peer asks whether we keep its instances; we read them again.

The request is in the store before it is answered with Success. The report goes out on the peer's own
association if it is still open then, else on a new one to the address of its [[peer]] entry, and again
after a restart, until the peer has taken it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, cast

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import encode

from . import commitment, log
from .association import associate, requestor
from .commitment import CLASS_CONFLICT, NO_SUCH_INSTANCE, PROCESSING_FAILURE, Reference, Report
from .config import NodeRules, PeerRules
from .errors import NodeError, NotDicom, PeerUnreachable, Refused, TemporaryError
from .spool import Spool, sha256_of
from .store import LONGEST_PUT_OFF_S, Item, Request, Store

_LOG = log.get("safekeeping")

# The peer's own association is tried first; its answer goes on a new one after this.
_STAY_S = 20.0

# Requests whose files are read at one time; further ones wait, or are answered on a new association.
_READERS = 2

_FIRST_S = 30.0
_GIVE_UP_S = 7 * 86400.0
_POLL_S = 5.0

# Statuses of N-ACTION (PS3.7 10.1.4.1.10)
_SUCCESS, _NO_SUCH_ACTION, _INVALID_ARGUMENT, _NO_SUCH_OBJECT = 0x0000, 0x0123, 0x0115, 0x0112
_OUT_OF_RESOURCES = 0x0213


class Safekeeper:
    """Takes requests for storage commitment and answers them from the bytes on disk."""

    def __init__(self, node: NodeRules, peers: Sequence[PeerRules], spool: Spool, store: Store) -> None:
        self._node = node
        self._peers = {p.ae_title: p for p in peers}
        self._spool = spool
        self._store = store
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="commitment")

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        """The status for a peer's N-ACTION. Success means: it will be answered, even after a restart."""
        caller = str(event.assoc.requestor.ae_title)
        if cast(N_ACTION, event.request).RequestedSOPInstanceUID != commitment.INSTANCE:
            return _NO_SUCH_OBJECT, None
        if event.action_type != commitment.REQUEST:
            return _NO_SUCH_ACTION, None
        try:
            uid, references = commitment.read_request(event.action_information)
            items = [(r.sop_class_uid, r.sop_uid) for r in references]
            self._store.request_commitment(caller, uid, items, self._store.clock() + _STAY_S)
        except NotDicom as problem:
            _LOG.warning("commitment.refused", caller=caller, reason=str(problem))
            return _INVALID_ARGUMENT, None
        except TemporaryError as problem:
            _LOG.warning("commitment.refused", caller=caller, reason=str(problem))
            return _OUT_OF_RESOURCES, None
        except Exception as bug:
            _LOG.error("commitment.failed", caller=caller, **log.place_of(bug))
            return PROCESSING_FAILURE, None
        _LOG.info("commitment.requested", caller=caller, transaction=uid, instances=len(items))
        if caller not in self._peers:
            _LOG.warning("commitment.no_peer", caller=caller, reason=_no_peer(caller))
        outbox = _Outbox.of(event.assoc)
        where = outbox, event.context.context_id, outbox.expect_response()
        self._readers.submit(self._answer_here, caller, uid, *where)
        return _SUCCESS, None

    def answer_due(self) -> None:
        """Send every answer that is due on a new association to its peer."""
        for request in self._store.commitments_due():
            try:
                self._answer_there(request)
            except NodeError as problem:
                self._put_off(request, str(problem))
            except Exception as bug:  # whatever a peer's answer breaks: those behind it get theirs
                where = log.place_of(bug)
                _LOG.error("commitment.failed", caller=request.peer, **where)
                self._put_off(request, f"an error inside the node ({type(bug).__name__})")
            else:
                self._store.commitment_given(request.peer, request.transaction_uid)
                _LOG.info("commitment.given", caller=request.peer, transaction=request.transaction_uid)

    def run(self, stop: threading.Event) -> None:
        """Send due answers until ``stop`` is set."""
        while not stop.wait(_POLL_S):
            try:
                self.answer_due()
            except Exception as problem:  # database away, or a bug: the answers stay due
                _LOG.error("commitment.failed", caller="", **log.place_of(problem))

    def report(self, peer: str, transaction_uid: str) -> Report:
        """What we have of a request: kept is only what reads back to the sha256 it arrived with."""
        kept: list[Reference] = []
        failed: list[tuple[Reference, int]] = []
        for item in self._store.commitment_items(peer, transaction_uid):
            reference = Reference(item.sop_class_uid, item.sop_uid)
            reason = self._reason(item)
            if reason is None:
                kept.append(reference)
            else:
                failed.append((reference, reason))
        return Report(transaction_uid, tuple(kept), tuple(failed))

    def _reason(self, item: Item) -> int | None:
        if item.path is None:
            return NO_SUCH_INSTANCE
        if item.own_class_uid != item.sop_class_uid:
            return CLASS_CONFLICT
        try:
            same = sha256_of(self._spool.path(item.path)) == item.sha256
        except FileNotFoundError:
            same = False
        except OSError as e:
            _LOG.error("instance.unreadable", uid=item.sop_uid, reason=e.strerror)
            return PROCESSING_FAILURE
        if not same:
            _LOG.error(
                "instance.damaged", uid=item.sop_uid, reason="the spool's file is not what was received"
            )
            return NO_SUCH_INSTANCE
        return None

    def _answer_here(
        self, peer: str, uid: str, outbox: _Outbox, context_id: int, responded: threading.Event
    ) -> None:
        """On the peer's own association, without waiting: the peer may release it at any moment."""
        try:
            if outbox.is_open:
                report = self.report(peer, uid)
                outbox.send(report, context_id, responded, lambda: self._given_here(peer, uid))
        except Exception as bug:  # the answer stays due, on a new association
            _LOG.error("commitment.failed", caller=peer, **log.place_of(bug))

    def _given_here(self, peer: str, uid: str) -> None:
        self._store.commitment_given(peer, uid)
        _LOG.info("commitment.given", caller=peer, transaction=uid)

    def _answer_there(self, request: Request) -> None:
        peer = self._peers.get(request.peer)
        if peer is None:
            raise PeerUnreachable(_no_peer(request.peer))
        answer = self.report(request.peer, request.transaction_uid)
        ae = requestor(self._node)
        syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        ae.add_requested_context(commitment.PUSH_MODEL, syntaxes)
        # We associate, and are the SCP all the same (PS3.4 J.3.3, PS3.7 D.3.3.4).
        roles = [build_role(commitment.PUSH_MODEL, scu_role=False, scp_role=True)]
        with associate(ae, peer, request.peer, roles=roles) as association:
            try:
                status, _ = association.send_n_event_report(
                    commitment.report(answer), answer.event_type, commitment.PUSH_MODEL, commitment.INSTANCE
                )
            except (RuntimeError, ValueError) as e:  # gone meanwhile; or it will not have us as SCP
                raise PeerUnreachable(f"{request.peer} did not let us report as SCP") from e
            if "Status" not in status:
                raise PeerUnreachable(f"{request.peer} did not answer our report")
            if status.Status != 0x0000:
                raise Refused(f"{request.peer} answered our report with status {int(status.Status):04X}")

    def _put_off(self, request: Request, reason: str) -> None:
        now = self._store.clock()
        pause_s = min(LONGEST_PUT_OFF_S, _FIRST_S * 2.0 ** min(request.tries, 20))
        over = now - request.asked_at > _GIVE_UP_S
        self._store.commitment_waits(request, reason, None if over else now + pause_s)
        event = "commitment.given_up" if over else "commitment.waits"
        _LOG.warning(event, caller=request.peer, transaction=request.transaction_uid, reason=reason)


def _no_peer(caller: str) -> str:
    return (
        f"no [[peer]] with ae_title {caller!r} is configured: its request for storage commitment can be "
        "answered only on the association that it came on"
    )


_message_ids = itertools.cycle(range(1, 0xFFFF))


class _Outbox:
    """Sends N-EVENT-REPORTs on an association that serves requests meanwhile. One for each association.

    pynetdicom's own send_n_event_report pauses the association until the response has come; a peer that
    releases at once would wait for its time-out. Here the message goes out between others, and the
    response is seen as it passes.
    """

    def __init__(self, association: Any) -> None:
        self._association = association
        self._responded = threading.Event()
        self._lock = threading.Lock()
        self._taken: dict[int, Callable[[], None]] = {}  # by Message ID
        self._send = association.dimse.send_msg
        association.dimse.send_msg = self._one_at_a_time
        association.bind(evt.EVT_DIMSE_RECV, self._received)

    @classmethod
    def of(cls, association: Any) -> _Outbox:
        """The association's; called by the thread that serves it."""
        if association.outbox is None:
            association.outbox = cls(association)
        outbox: _Outbox = association.outbox
        return outbox

    def expect_response(self) -> threading.Event:
        """Set once the N-ACTION that is being served has its response."""
        self._responded = threading.Event()
        return self._responded

    @property
    def is_open(self) -> bool:
        return bool(self._association.is_established)

    def send(
        self, answer: Report, context_id: int, responded: threading.Event, taken: Callable[[], None]
    ) -> None:
        """After the response to N-ACTION; ``taken`` is called once the peer has answered with Success."""
        if not responded.wait(10.0) or not self.is_open:
            return
        syntax = next(
            c.transfer_syntax[0] for c in self._association.accepted_contexts if c.context_id == context_id
        )
        message = N_EVENT_REPORT()
        message.MessageID = next(_message_ids)
        self._taken[message.MessageID] = taken
        message.AffectedSOPClassUID = commitment.PUSH_MODEL
        message.AffectedSOPInstanceUID = commitment.INSTANCE
        message.EventTypeID = answer.event_type
        information = encode(
            commitment.report(answer), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )
        message.EventInformation = BytesIO(information or b"")
        self._one_at_a_time(message, context_id)

    def _one_at_a_time(self, message: Any, context_id: int) -> None:
        with self._lock:  # two messages must not mix their fragments
            self._send(message, context_id)
        if isinstance(message, N_ACTION):
            self._responded.set()

    def _received(self, event: evt.Event) -> None:
        command = event.message.command_set
        taken = self._taken.pop(command.get("MessageIDBeingRespondedTo"), None)
        if taken is not None and command.get("Status") == 0x0000:
            taken()
