"""Where connections wait until they have asked for an association: one thread for all of them.

A connection that stalls here costs a file descriptor and its few bytes, not a thread; it has until its
deadline, and the oldest of a crowded address goes first.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from . import log
from .callers import names_of

_LOG = log.get("lobby")

_HEADER = struct.Struct(">BxI")  # PDU type, reserved, length (PS3.8 9.3.1)
_REQUEST = 0x01
_PDU_TYPES = range(0x01, 0x08)
_TLS_HANDSHAKE = 0x16
# 128 presentation contexts with two dozen transfer syntaxes each, and a user identity, fit in this.
LONGEST_REQUEST = 256 * 1024
_SHORTEST_REQUEST = 68  # its fixed fields (PS3.8 9.3.2)
_ABORT_UNEXPECTED = bytes.fromhex("07000000000400000202")  # by provider, unexpected PDU (PS3.8 9.3.8)
_GOODBYE_S = 1.0  # for a refused peer to read why
_TOLD_EVERY_S = 60.0


@dataclass(frozen=True)
class Asked:
    """An A-ASSOCIATE-RQ as received, and who asks. ``certificate``: its names, None without TLS."""

    pdu: bytes
    address: str
    certificate: frozenset[str] | None

    @property
    def calling(self) -> str:
        """Calling AE title."""
        return _title(self.pdu[26:42])

    @property
    def called(self) -> str:
        """Called AE title."""
        return _title(self.pdu[10:26])


@dataclass(frozen=True)
class Rejection:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int  # 1 permanent, 2 transient
    source: int
    reason: int

    @property
    def pdu(self) -> bytes:
        return bytes((0x03, 0, 0, 0, 0, 4, 0, self.result, self.source, self.reason))


# Gives the rejection, or takes the connection and gives None.
Decide = Callable[[socket.socket, Asked], Rejection | None]


@dataclass(eq=False)
class _Guest:
    peer: socket.socket
    address: str
    deadline: float
    shaking: bool = False  # in the TLS handshake
    leaving: bool = False
    unheard: int = 0  # bytes that came after we had said goodbye
    events: int = selectors.EVENT_READ
    buffer: bytearray = field(default_factory=bytearray)


class Lobby:
    """``per_address`` and ``total``: connections that may wait; ``deadline_s``: how long each."""

    def __init__(
        self,
        decide: Decide,
        deadline_s: float,
        per_address: int,
        total: int,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._decide = decide
        self._deadline_s = deadline_s
        self._per_address = per_address
        self._total = total
        self._tls = tls
        self._arrivals: list[tuple[socket.socket, str]] = []
        self._guests: OrderedDict[_Guest, None] = OrderedDict()  # oldest first
        self._crowd: Counter[str] = Counter()
        self._told: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="lobby", daemon=True)
        self._thread.start()

    def admit(self, peer: socket.socket, address: str) -> None:
        """Take over a connection that was just accepted."""
        with self._lock:
            self._arrivals.append((peer, address))
        self._ring()

    def stop(self) -> None:
        """Close all that wait."""
        self._stopped = True
        self._ring()
        self._thread.join(5)

    def _ring(self) -> None:
        try:
            self._ringer.send(b"\0")
        except OSError:  # full: it rings already; or closed
            return

    def _run(self) -> None:
        self._selector.register(self._bell, selectors.EVENT_READ)
        while not self._stopped:
            for key, _ in self._selector.select(self._next_deadline()):
                if key.data is None:
                    self._bell.recv(4096)
                else:
                    self._attend(key.data)
            with self._lock:
                arrivals, self._arrivals = self._arrivals, []
            for peer, address in arrivals:
                self._welcome(peer, address)
            self._show_out_the_late()
        for guest in list(self._guests):
            self._close(guest)
        for peer, _ in self._arrivals:
            peer.close()
        self._selector.close()
        self._bell.close()
        self._ringer.close()

    def _next_deadline(self) -> float:
        now = time.monotonic()
        return min((max(0.0, g.deadline - now) for g in self._guests), default=1.0)

    def _welcome(self, peer: socket.socket, address: str) -> None:
        if self._crowd[address] >= self._per_address:
            self._make_room(address)
        elif len(self._guests) >= self._total:
            self._make_room(self._crowd.most_common(1)[0][0])
        peer.setblocking(False)
        guest = _Guest(peer, address, time.monotonic() + self._deadline_s)
        self._guests[guest] = None
        self._crowd[address] += 1
        self._selector.register(peer, selectors.EVENT_READ, guest)
        self._attend(guest)

    def _make_room(self, address: str) -> None:
        oldest = next(g for g in self._guests if g.address == address)
        self._tell(oldest, "too many open connections that ask for nothing: the oldest was closed")
        self._close(oldest)

    def _show_out_the_late(self) -> None:
        now = time.monotonic()
        for guest in [g for g in self._guests if g.deadline <= now]:
            if not guest.leaving:
                what = "the TLS handshake" if guest.shaking else "its association request"
                self._tell(guest, f"the peer did not finish {what} in time")
            self._close(guest)

    def _attend(self, guest: _Guest) -> None:
        try:
            self._serve(guest)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._wait_for(guest, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._wait_for(guest, selectors.EVENT_WRITE)
        except ssl.SSLError as e:
            self._tell(guest, f"TLS handshake failed: {e.reason or 'connection closed'}")
            self._close(guest)
        except OSError:  # gone
            self._close(guest)
        except Exception as bug:
            _LOG.error("connection.failed", address=guest.address, **log.place_of(bug))
            self._close(guest)

    def _wait_for(self, guest: _Guest, events: int) -> None:
        if guest in self._guests and guest.events != events:
            guest.events = events
            self._selector.modify(guest.peer, events, guest)

    def _serve(self, guest: _Guest) -> None:
        """As far as it goes without waiting. Raises BlockingIOError or an SSL want where it must wait."""
        if guest.leaving:
            piece = guest.peer.recv(65536)
            guest.unheard += len(piece)
            if not piece or guest.unheard > LONGEST_REQUEST:
                self._close(guest)
            return
        if self._tls is not None and not isinstance(guest.peer, ssl.SSLSocket) and not self._secure(guest):
            return
        if guest.shaking:
            assert isinstance(guest.peer, ssl.SSLSocket)
            guest.peer.do_handshake()
            guest.shaking = False
        while (missing := self._missing(guest)) > 0:
            piece = guest.peer.recv(min(missing, 65536))
            if not piece:
                self._close(guest)
                return
            guest.buffer += piece
        if missing == 0:
            self._answer(guest)

    def _secure(self, guest: _Guest) -> bool:
        first = guest.peer.recv(1, socket.MSG_PEEK)
        if not first:
            self._close(guest)
            return False
        if first[0] != _TLS_HANDSHAKE:
            what = "plain DICOM" if first[0] in _PDU_TYPES else "something else"
            self._tell(guest, f"the peer speaks {what} to the TLS port: turn TLS on at the sender")
            self._close(guest)
            return False
        assert self._tls is not None
        self._selector.unregister(guest.peer)
        guest.peer = self._tls().wrap_socket(guest.peer, server_side=True, do_handshake_on_connect=False)
        guest.events = selectors.EVENT_READ
        self._selector.register(guest.peer, guest.events, guest)
        guest.shaking = True
        return True

    def _missing(self, guest: _Guest) -> int:
        """Bytes that the request still lacks; negative if the guest was shown out over its header."""
        got = len(guest.buffer)
        if got < _HEADER.size:
            if got and guest.buffer[0] not in _PDU_TYPES:
                self._cut(guest, guest.buffer[0], 0)
                return -1
            return _HEADER.size - got
        pdu_type, length = _HEADER.unpack_from(guest.buffer)
        if pdu_type != _REQUEST or not _SHORTEST_REQUEST <= length <= LONGEST_REQUEST:
            self._cut(guest, pdu_type, length)
            return -1
        return int(_HEADER.size + length - got)

    def _cut(self, guest: _Guest, pdu_type: int, length: int) -> None:
        if pdu_type == _TLS_HANDSHAKE:
            self._tell(guest, "the peer speaks TLS to this plain port: turn TLS off at the sender")
        elif pdu_type in _PDU_TYPES:
            self._tell(guest, f"a first PDU of type {pdu_type:02X}H that announces {length} bytes")
            self._leave(guest, _ABORT_UNEXPECTED)
            return
        else:
            self._tell(guest, f"the peer does not speak DICOM: its first byte is {pdu_type:02X}H")
        self._close(guest)

    def _answer(self, guest: _Guest) -> None:
        names = None
        if isinstance(guest.peer, ssl.SSLSocket):
            der = guest.peer.getpeercert(binary_form=True)
            names = names_of(guest.peer.getpeercert() or {}, der) if der else frozenset()
        asked = Asked(bytes(guest.buffer), guest.address, names)
        self._selector.unregister(guest.peer)
        rejection = self._decide(guest.peer, asked)
        if rejection is None:
            self._forget(guest)
            return
        self._selector.register(guest.peer, selectors.EVENT_READ, guest)
        guest.events = selectors.EVENT_READ
        self._leave(guest, rejection.pdu)

    def _leave(self, guest: _Guest, last_words: bytes) -> None:
        """Say it, and give the peer a moment to read it: closing at once may destroy it."""
        guest.leaving = True
        guest.deadline = min(guest.deadline, time.monotonic() + _GOODBYE_S)
        guest.peer.send(last_words)
        if not isinstance(guest.peer, ssl.SSLSocket):
            guest.peer.shutdown(socket.SHUT_WR)

    def _close(self, guest: _Guest) -> None:
        if guest not in self._guests:
            return
        with suppress(KeyError, ValueError):  # it was being handed over
            self._selector.unregister(guest.peer)
        guest.peer.close()
        self._forget(guest)

    def _forget(self, guest: _Guest) -> None:
        del self._guests[guest]
        self._crowd[guest.address] -= 1
        if not self._crowd[guest.address]:
            del self._crowd[guest.address]

    def _tell(self, guest: _Guest, reason: str) -> None:
        """A flood is one line a minute."""
        now = time.monotonic()
        key = (guest.address, reason)
        if now - self._told.get(key, float("-inf")) < _TOLD_EVERY_S:
            return
        if len(self._told) > 1000:
            self._told.clear()
        self._told[key] = now
        _LOG.warning("connection.cut", address=guest.address, reason=reason)


def _title(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip()
