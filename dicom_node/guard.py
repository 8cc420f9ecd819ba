"""In front of the DIMSE server: deadlines, size caps and connection limits that pynetdicom leaves open."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import (
    AddressInformation,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from . import log
from .config import NodeRules

_LOG = log.get("guard")

_HEADER = struct.Struct(">BxI")  # PDU type, reserved, length (PS3.8 9.3.1)
_PDU_TYPES = range(0x01, 0x08)
_P_DATA = 0x04
_TLS_HANDSHAKE = 0x16
# 128 presentation contexts with two dozen transfer syntaxes each, and a user identity, fit in this.
_LONGEST_REQUEST = 256 * 1024
_LONGEST_COMMAND = 64 * 1024
# Some senders do not count the item headers when they fill a PDU.
_GRACE = 1024


@dataclass(frozen=True)
class Limits:
    """What one peer may ask of us. Times in seconds, sizes in bytes."""

    request_s: float  # from connecting to a whole A-ASSOCIATE-RQ
    pdu_s: float  # from the first byte of a later PDU to its last
    pdu_bytes: int
    message_bytes: int
    connections: int
    connections_per_address: int

    @classmethod
    def of(cls, rules: NodeRules) -> Limits:
        """Connections may be more than associations: those that have not asked for one yet."""
        return cls(
            request_s=rules.acse_timeout_s,
            pdu_s=rules.network_timeout_s,
            pdu_bytes=rules.max_pdu_bytes,
            message_bytes=rules.max_dataset_bytes,
            connections=4 * rules.max_associations + 32,
            connections_per_address=2 * rules.max_associations + 16,
        )


class _Cut(ConnectionAbortedError):
    """The peer broke a limit; the upper layer ends the association as if the connection was lost."""


class GuardedSocket(AssociationSocket):
    """Reads whole PDUs of bounded size before a deadline, or cuts the connection and says why."""

    def __init__(self, assoc: Association, client_socket: socket.socket, limits: Limits) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._limits = limits
        self._in_body = False
        self._asked = False
        self._deadline = time.monotonic() + limits.request_s
        client_socket.settimeout(limits.pdu_s)  # for sending: a peer that never reads blocks nobody

    @property
    def ready(self) -> bool:
        """Whether to read on; not while earlier messages wait to be served, so that memory is bounded."""
        return self.assoc.dimse.msg_queue.qsize() < 2 and bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """pynetdicom asks twice for each PDU: six bytes of header, then the body that they announce."""
        if self._in_body:
            self._in_body = False
            return self._read(nr_bytes)
        if self._asked:
            self._deadline = time.monotonic() + self._limits.pdu_s
        header = self._read(nr_bytes)
        if len(header) == _HEADER.size:
            pdu_type, length = _HEADER.unpack(header)
            self._judge(pdu_type, length)
            self._in_body = pdu_type in _PDU_TYPES
            self._asked = True
        return header

    def _judge(self, pdu_type: int, length: int) -> None:
        if pdu_type == _TLS_HANDSHAKE:
            self._cut("the peer speaks TLS to this plain port: turn TLS off at the sender")
        if pdu_type != _P_DATA:
            if length > _LONGEST_REQUEST and pdu_type in _PDU_TYPES:
                self._cut(f"a PDU of type {pdu_type:02X}H announces {length} bytes")
            return
        if length > self._limits.pdu_bytes + _GRACE:
            self._cut(f"a P-DATA-TF PDU announces {length} bytes; {self._limits.pdu_bytes} were agreed")
        message = self.assoc.dimse.message
        if message is None:
            return
        command = message.encoded_command_set.getbuffer().nbytes
        if command > _LONGEST_COMMAND:
            self._cut(f"a command set of more than {command} bytes")
        received = message.data_set.getbuffer().nbytes if message.data_set else 0
        if received + length > self._limits.message_bytes:
            self._cut(f"a data set of more than {self._limits.message_bytes} bytes (node.max_dataset_bytes)")

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


class GuardedHandler(RequestHandler):
    """One connection: makes its association, guarded, and stays until it has ended."""

    server: GuardedServer

    def setup(self) -> None:
        # Without it, every small response waits for the peer's delayed acknowledgement (40 ms).
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self) -> None:
        super().handle()
        self._association.join()

    def _create_association(self) -> Association:
        self._association = super()._create_association()
        dul = self._association.dul
        dul.event_queue.get_nowait()  # "connected", which the guarded socket announces again
        dul.socket = GuardedSocket(self._association, self.request, self.server.limits)
        return self._association


class GuardedServer(ThreadedAssociationServer):
    """Accepts connections up to its limits; those beyond are closed before a thread is spent on them."""

    request_queue_size = 64
    daemon_threads = True

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[PresentationContext],
        ssl_context: ssl.SSLContext | None,
        evt_handlers: list[Any],
        *,
        limits: Limits,
    ) -> None:
        self.limits = limits
        self._open: Counter[str] = Counter()
        self._requests: set[socket.socket] = set()
        self._refusing: set[str] = set()
        self._lock = threading.Lock()
        super().__init__(ae, address, ae_title, contexts, ssl_context, evt_handlers, GuardedHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more connection from this address."""
        address = AddressInformation.from_tuple(client_address).address
        with self._lock:
            if (
                self._open.total() < self.limits.connections
                and self._open[address] < self.limits.connections_per_address
            ):
                self._open[address] += 1
                self._refusing.discard(address)
                return True
            first = address not in self._refusing
            self._refusing.add(address)
        if first:  # a flood is one line
            _LOG.warning("connection.refused", address=address, reason="too many open connections")
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._leave(client_address)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Runs one connection from its first byte to its last."""
        self._requests.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.shutdown_request(request)
            self._requests.discard(request)
            self._leave(client_address)

    def hang_up(self) -> None:
        """Close every connection that is still open, without a word."""
        for request in list(self._requests):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        bug = sys.exception() or RuntimeError()
        _LOG.error("connection.failed", address=client_address[0], **log.place_of(bug))

    def _leave(self, client_address: Any) -> None:
        address = AddressInformation.from_tuple(client_address).address
        with self._lock:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
