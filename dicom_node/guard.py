"""In front of the DIMSE server: deadlines, size caps and connection limits that pynetdicom leaves open.

A connection waits in the lobby until its association request is whole; only then does it get threads.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]
from pynetdicom.transport import AddressInformation, AssociationSocket, ThreadedAssociationServer

from . import log
from .arrival import SpoolingDIMSE
from .callers import ANYONE, Callers, Unwelcome
from .commitment import PUSH_MODEL
from .config import Caller, NodeRules
from .errors import OutOfSpace
from .lobby import LONGEST_REQUEST, Asked, Lobby, Rejection
from .reactor import WakefulAssociation
from .spool import Arriving
from .tls import Credentials

_LOG = log.get("guard")

_HEADER = struct.Struct(">BxI")  # PDU type, reserved, length (PS3.8 9.3.1)
_PDU_TYPES = range(0x01, 0x08)
_P_DATA = 0x04
_LONGEST_COMMAND = 64 * 1024
_LONGEST_IDENTIFIER = 16 * 1024**2  # a data set that is held in memory: any but a C-STORE's
# Some senders do not count the item headers when they fill a PDU.
_GRACE = 1024
_COLLECT_EVERY_S = 60.0
_TELLING = (PUSH_MODEL, ModalityPerformedProcedureStep)  # not offered to callers that may not store

NOT_WELCOME = Rejection(1, 1, 3)  # permanent: calling AE title not recognized
CONGESTED = Rejection(2, 3, 1)  # transient: temporary congestion
NO_PLACE = Rejection(2, 3, 2)  # transient: local limit exceeded


@dataclass(frozen=True)
class Limits:
    """What one peer may ask of us. Times in seconds, sizes in bytes."""

    request_s: float  # from connecting to a whole A-ASSOCIATE-RQ, a TLS handshake included
    pdu_s: float  # from the first byte of a later PDU to its last
    pdu_bytes: int
    message_bytes: int
    associations: int
    associations_per_address: int
    waiting: int = 512  # connections that have not asked for an association yet
    waiting_per_address: int = 64

    @classmethod
    def of(cls, rules: NodeRules) -> Limits:
        """The limits of a configuration."""
        return cls(
            request_s=rules.acse_timeout_s,
            pdu_s=rules.network_timeout_s,
            pdu_bytes=rules.max_pdu_bytes,
            message_bytes=rules.max_dataset_bytes,
            associations=rules.max_associations,
            associations_per_address=min(rules.max_associations_per_address, rules.max_associations),
        )


@dataclass(frozen=True)
class Door:
    """What every port of a node shares: limits, places, callers, and where data sets go."""

    limits: Limits
    callers: Callers
    places: Places
    open_file: Callable[[], Arriving]
    require_space: Callable[[], None]  # raises OutOfSpace


class Places:
    """Associations that run, in all and per address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, address: str) -> str:
        """Take a place; or why there is none, in words."""
        with self._lock:
            if self._taken.total() >= self._limits.associations:
                return "node.max_associations are open already"
            if self._taken[address] >= self._limits.associations_per_address:
                return "node.max_associations_per_address are open from this address already"
            self._taken[address] += 1
        return ""

    def give_back(self, address: str) -> None:
        """The association of ``address`` has ended."""
        with self._lock:
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]


class GuardedAssociation(WakefulAssociation):
    """An association that knows which rule admitted its caller, and keeps data sets in the spool."""

    caller: Caller = ANYONE
    dimse: SpoolingDIMSE
    outbox: Any = None  # safekeeping.py's

    def __init__(self, ae: AE, open_file: Callable[[], Arriving]) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        queue = self.dimse.msg_queue
        self.dimse = SpoolingDIMSE(self, open_file)
        self.dimse.msg_queue = queue


class _Cut(ConnectionAbortedError):
    """The peer broke a limit; the upper layer ends the association as if the connection was lost."""


class GuardedSocket(AssociationSocket):
    """Reads whole PDUs of bounded size before a deadline, or cuts the connection and says why.

    ``first``: the association request, which the lobby has read.
    """

    def __init__(
        self, association: GuardedAssociation, client_socket: socket.socket, limits: Limits, first: bytes
    ) -> None:
        super().__init__(association, client_socket=client_socket)
        self._association = association
        self._limits = limits
        self._first = memoryview(first)
        self._in_body = False
        self._deadline = 0.0
        client_socket.settimeout(limits.pdu_s)  # for sending: a peer that never reads blocks nobody

    @property
    def ready(self) -> bool:
        """Whether to read on; sleeps until there is something to do (reactor.py)."""
        if self.socket is None or not self._is_connected:
            time.sleep(0.001)
            return False
        try:
            return bool(self._first) or bool(self._association.dul.wait_for(self.socket))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """pynetdicom asks twice for each PDU: six bytes of header, then the body that they announce."""
        if self._first:
            part, self._first = self._first[:nr_bytes], self._first[nr_bytes:]
            return bytearray(part)
        if self._in_body:
            self._in_body = False
            return self._read(nr_bytes)
        self._deadline = time.monotonic() + self._limits.pdu_s
        header = self._read(nr_bytes)
        if len(header) == _HEADER.size:
            pdu_type, length = _HEADER.unpack(header)
            self._judge(pdu_type, length)
            self._in_body = pdu_type in _PDU_TYPES
        return header

    def send_at_once(self, pdu: bytes) -> bool:
        """Send a short PDU without waiting; False if that cannot be: nothing was sent. See WakefulDUL's."""
        if self.socket is None or isinstance(self.socket, ssl.SSLSocket):  # no two threads share that
            return False
        try:
            sent = os.write(self.socket.fileno(), pdu)
        except OSError:  # the peer does not read, or is gone
            return False
        if sent < len(pdu):
            self.event_queue.put("Evt17")  # transport connection closed
            self._association.dul.wake()
        return True

    def close(self) -> None:
        """As pynetdicom's."""
        with self._association.dul.sending:  # who sends at once must not find the number of another's socket
            super().close()

    def _judge(self, pdu_type: int, length: int) -> None:
        if pdu_type != _P_DATA:
            if length > LONGEST_REQUEST and pdu_type in _PDU_TYPES:
                self._cut(f"a PDU of type {pdu_type:02X}H announces {length} bytes")
            return
        if length > self._limits.pdu_bytes + _GRACE:
            self._cut(f"a P-DATA-TF PDU announces {length} bytes; {self._limits.pdu_bytes} were agreed")
        dimse = self._association.dimse
        if dimse.command_bytes > _LONGEST_COMMAND:
            self._cut(f"a command set of more than {dimse.command_bytes} bytes")
        received = dimse.arriving + length
        if received > self._limits.message_bytes:
            self._cut(f"a data set of more than {self._limits.message_bytes} bytes (node.max_dataset_bytes)")
        if received > _LONGEST_IDENTIFIER and not dimse.storing:
            self._cut(f"a data set of more than {_LONGEST_IDENTIFIER} bytes that is not to be stored")

    def _read(self, nr_bytes: int) -> bytearray:
        """``nr_bytes``, or fewer if the peer closed. Raises OSError past the deadline."""
        assert self.socket is not None
        buffer = bytearray(nr_bytes)
        got = 0
        try:
            while got < nr_bytes:
                left_s = self._deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self.socket.settimeout(left_s)
                count = self.socket.recv_into(memoryview(buffer)[got:])
                if count == 0:
                    return buffer[:got]
                got += count
        except TimeoutError:
            self._cut("the peer stopped in the middle of a PDU")
        self.socket.settimeout(self._limits.pdu_s)
        return buffer

    def _cut(self, reason: str) -> None:
        peer = self.assoc.requestor
        _LOG.warning("connection.cut", address=peer.address, caller=peer.ae_title, reason=reason)
        raise _Cut(reason)


class GuardedServer(ThreadedAssociationServer):
    """One port. ``credentials`` make it speak TLS."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        evt_handlers: list[Any],
        door: Door,
        credentials: Credentials | None = None,
    ) -> None:
        self._door = door
        self._credentials = credentials
        self._requests: set[socket.socket] = set()
        self._collected = time.monotonic()
        super().__init__(ae, address, ae.ae_title, contexts, None, evt_handlers)
        self._lobby = Lobby(
            self._decide,
            door.limits.request_s,
            door.limits.waiting_per_address,
            door.limits.waiting,
            None if credentials is None else lambda: credentials.context,
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection was accepted: it waits until it has asked for an association."""
        # Without it, every small response waits for the peer's delayed acknowledgement (40 ms).
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._lobby.admit(request, client_address[0])

    def _decide(self, peer: socket.socket, asked: Asked) -> Rejection | None:
        """Runs in the lobby's thread."""
        try:
            caller = self._door.callers.admit(asked.calling, asked.address, asked.certificate)
            self._door.require_space()
        except Unwelcome as why:
            return self._refuse(asked, NOT_WELCOME, str(why))
        except OutOfSpace as why:
            return self._refuse(asked, CONGESTED, str(why))
        if why_not := self._door.places.take(asked.address):
            return self._refuse(asked, NO_PLACE, why_not)
        thread = threading.Thread(target=self._host, args=(peer, asked, caller), daemon=True)
        try:
            thread.start()
        except RuntimeError as e:  # the system has none left
            self._door.places.give_back(asked.address)
            return self._refuse(asked, CONGESTED, str(e))
        return None

    def _refuse(self, asked: Asked, rejection: Rejection, reason: str) -> Rejection:
        _LOG.info(
            "association.rejected",
            caller=asked.calling,
            address=asked.address,
            called=asked.called,
            reason=reason,
        )
        return rejection

    def _host(self, peer: socket.socket, asked: Asked, caller: Caller) -> None:
        """One association from its request to its end."""
        self._requests.add(peer)
        association = None
        try:
            association = self._associate(peer, asked, caller)
            association.start()
            association.join()
            association.dul.join(self._door.limits.pdu_s)
        except Exception as bug:
            _LOG.error("connection.failed", address=asked.address, **log.place_of(bug))
        finally:
            if association is not None:
                association.dimse.close()
                association.dul.close()
            self.shutdown_request(peer)
            self._requests.discard(peer)
            self._door.places.give_back(asked.address)

    def _associate(self, peer: socket.socket, asked: Asked, caller: Caller) -> GuardedAssociation:
        """As pynetdicom's RequestHandler does it, without copying every context for every caller."""
        association = GuardedAssociation(self.ae, self._door.open_file)
        association._server = self
        association.name = f"AcceptorThread@{datetime.now(UTC):%Y%m%d%H%M%S}"
        association.caller = caller
        association.set_socket(GuardedSocket(association, peer, self._door.limits, asked.pdu))
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.ae_title
        acceptor.address_info = AddressInformation.from_tuple(self.server_address)
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = [
            c for c in self.contexts if caller.store or c.abstract_syntax not in _TELLING
        ]
        association.requestor.address_info = AddressInformation.from_tuple(peer.getpeername())
        for event, bound in self._handlers.items():
            handlers: Any = bound
            if not event.is_intervention:
                for handler, arguments in handlers:
                    association.bind(event, handler, arguments)
            elif handlers:
                association.bind(event, *handlers)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": peer.getpeername()})
        return association

    def service_actions(self) -> None:
        """Called many times a second while serving."""
        if self._credentials is not None:
            self._credentials.look()
        if time.monotonic() - self._collected > _COLLECT_EVERY_S:
            self._collected = time.monotonic()
            gc.collect()  # ended associations are cycles

    def shutdown(self) -> None:
        """Accept nothing more; associations that run go on."""
        super().shutdown()
        self._lobby.stop()

    def hang_up(self) -> None:
        """Close every connection that is still open, without a word."""
        for request in list(self._requests):
            self.shutdown_request(request)
