"""DICOM's upper layer and DIMSE byte by byte: what no well-behaved toolkit can be made to send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

VERIFICATION = "1.2.840.10008.1.1"
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
NO_DATA_SET = 0x0101


class NotAccepted(ConnectionError):
    """The association was rejected, or ended before it began; ``body`` of the PDU that said so."""

    def __init__(self, words: str, body: bytes) -> None:
        super().__init__(words)
        self.body = body

    @property
    def for_now(self) -> bool:
        """Rejected-transient (PS3.8 9.3.4): the same request may be accepted later."""
        return len(self.body) == 4 and self.body[1] == 0x02


def pdu(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BxI", pdu_type, len(body)) + body


def _item(item_type: int, body: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(body)) + body


def associate(
    contexts: Sequence[tuple[str, str]] = ((MRImageStorage, ExplicitVRLittleEndian),),
    calling: str = "TESTER",
    called: str = "MRSISR",
    padding: int = 0,
) -> bytes:
    """A-ASSOCIATE-RQ; context ids 1, 3, 5 … ``padding``: bytes of a user item nobody knows."""
    items = _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, transfer) in enumerate(contexts):
        body = bytes((2 * number + 1, 0, 0, 0)) + _item(0x30, abstract.encode())
        items += _item(0x20, body + _item(0x40, transfer.encode()))
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3.4")
    items += _item(0x50, user + (_item(0x7F, bytes(padding)) if padding else b""))
    head = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    return pdu(0x01, head + items)


def p_data(fragment: bytes, *, command: bool = False, last: bool = True, context: int = 1) -> bytes:
    """One P-DATA-TF with one value."""
    control = (1 if command else 0) | (2 if last else 0)
    return pdu(0x04, struct.pack(">IBB", len(fragment) + 2, context, control) + fragment)


def command(field: int, **more: int | str) -> bytes:
    """A command set, implicit VR little endian. Keys: sop_class, sop_instance, message_id, data_set."""
    numbers: dict[int, bytes] = {
        0x0100: struct.pack("<H", field),
        0x0110: struct.pack("<H", int(more.get("message_id", 1))),
        0x0800: struct.pack("<H", int(more.get("data_set", 0x0001))),
    }
    if field == C_STORE_RQ:
        numbers[0x0700] = struct.pack("<H", 0)
    for tag, key in ((0x0002, "sop_class"), (0x1000, "sop_instance")):
        if key in more:
            value = str(more[key]).encode()
            numbers[tag] = value + b"\0" * (len(value) % 2)
    body = b"".join(struct.pack("<HHI", 0, t, len(numbers[t])) + numbers[t] for t in sorted(numbers))
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def store(data_set: bytes, sop_class: str, sop_instance: str, *, longest: int = 131072, **more: int) -> bytes:
    """A whole C-STORE request, in PDUs of at most ``longest`` bytes."""
    context = more.pop("context", 1)
    request = command(C_STORE_RQ, sop_class=sop_class, sop_instance=sop_instance, **more)
    pdus = [p_data(request, command=True, context=context)]
    step = longest - 6
    for at in range(0, max(1, len(data_set)), step):
        last = at + step >= len(data_set)
        pdus.append(p_data(data_set[at : at + step], last=last, context=context))
    return b"".join(pdus)


def read_pdu(peer: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU. Raises ConnectionError if the connection ends first."""
    head = _exactly(peer, 6)
    pdu_type, length = struct.unpack(">BxI", head)
    return pdu_type, _exactly(peer, length)


def status_of(body: bytes) -> int:
    """The Status (0000,0900) of a response that came in one P-DATA-TF."""
    at = body.index(struct.pack("<HHI", 0, 0x0900, 2))
    return int(struct.unpack_from("<H", body, at + 8)[0])


def _exactly(peer: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        piece = peer.recv(count - len(got))
        if not piece:
            raise ConnectionError("closed by the node")
        got += piece
    return got


def established(port: int, request: bytes | None = None, source: str = "127.0.0.1") -> socket.socket:
    """A connection whose association was accepted."""
    return agreed(port, request, source)[0]


def agreed(port: int, request: bytes | None = None, source: str = "127.0.0.1") -> tuple[socket.socket, int]:
    """As ``established``, and the longest PDU that the peer takes, in bytes of its body."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    peer.sendall(associate() if request is None else request)
    pdu_type, body = read_pdu(peer)
    if pdu_type != 0x02:
        peer.close()
        raise NotAccepted(f"PDU type {pdu_type:02X}H instead of A-ASSOCIATE-AC", body)
    at = body.index(b"\x51\0\0\x04")
    return peer, struct.unpack_from(">I", body, at + 4)[0] or 131072


def echo(port: int, *, calling: str = "TESTER", source: str = "127.0.0.1") -> int:
    """A C-ECHO's status, over an association of its own. Raises ConnectionError if none is to be had."""
    request = associate([(VERIFICATION, ExplicitVRLittleEndian)], calling=calling)
    with established(port, request, source) as peer:
        ask = command(C_ECHO_RQ, sop_class=VERIFICATION, data_set=NO_DATA_SET)
        peer.sendall(p_data(ask, command=True))
        status = status_of(read_pdu(peer)[1])
        peer.sendall(pdu(0x05, bytes(4)))
        read_pdu(peer)
        return status
