"""The data set of a C-STORE request goes to the spool as its fragments arrive; memory holds none of it."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from . import log
from .errors import OutOfSpace
from .spool import Arriving

IMPLEMENTATION_CLASS_UID = "2.25.140089476696609218616292626892016082110"
IMPLEMENTATION_VERSION = "MRSI-SR-NODE"

_COMMAND_FIELD, _DATA_SET_TYPE = 0x0100, 0x0800
_C_STORE_RQ = b"\x01\x00"
_NO_DATA_SET = b"\x01\x01"

_LOG = log.get("arrival")

Open = Callable[[], Arriving]


class Arrival(BytesIO):
    """What pynetdicom takes for the buffer of a C-STORE's data set: a file in the spool.

    A disk that fills up does not end the association: the rest is passed over, and the request is answered.
    """

    def __init__(self, open_file: Open, sop_class: str, sop_instance: str, transfer_syntax: str) -> None:
        super().__init__()
        self.received = 0
        self._file: Arriving | None = None
        self._problem: OutOfSpace | None = None
        try:
            self._file = open_file()
            self._file.write(file_meta(sop_class, sop_instance, transfer_syntax))
        except OutOfSpace as problem:
            self._problem = problem

    def write(self, fragment: Any) -> int:
        self.received += len(fragment)
        if self._problem is None and self._file is not None:
            try:
                self._file.write(fragment)
            except OutOfSpace as problem:
                self._problem = problem
                self.close()
        return len(fragment)

    @property
    def file(self) -> Arriving:
        """The Part 10 file, still unseen in the spool. Raises OutOfSpace if it found no room."""
        if self._problem is not None:
            raise self._problem
        assert self._file is not None
        return self._file

    def close(self) -> None:
        """Discard the file, unless the spool has kept it. Closing twice is fine."""
        if self._file is not None:
            self._file.close()


class SpoolingDIMSE(DIMSEServiceProvider):
    """pynetdicom's DIMSE provider, with C-STORE's data sets in the spool and its commands taken by hand.

    All other messages go pynetdicom's way.
    """

    def __init__(self, association: Association, open_file: Open) -> None:
        super().__init__(association)
        self._open = open_file
        self._arrivals: set[Arrival] = set()
        self._lock = threading.Lock()
        self._command = bytearray()
        self._store: tuple[int, C_STORE, Arrival] | None = None

    @property
    def command_bytes(self) -> int:
        """Size of the command set that is being received."""
        return len(self._command)

    @property
    def storing(self) -> bool:
        """Whether the data set that is being received is one to store."""
        return self._store is not None

    @property
    def arriving(self) -> int:
        """Bytes of the data set that is being received."""
        if self._store is not None:
            return self._store[2].received
        held = self.message.data_set if self.message is not None else None
        return 0 if held is None else held.getbuffer().nbytes

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments (PS3.8 E.2) one by one. What breaks the protocol ends the association."""
        try:
            for context_id, value in primitive.presentation_data_value_list:
                self._take(context_id, value)
        except Exception as broken:
            _LOG.warning("message.broken", caller=self.assoc.requestor.ae_title, **log.place_of(broken))
            self.dul.event_queue.put("Evt19")  # invalid PDU: abort

    def _take(self, context_id: int, value: bytes) -> None:
        is_command, is_last = value[0] & 1, value[0] & 2
        if is_command:
            if self._store is not None or self.message is not None:
                raise ValueError("a command came in the middle of a data set")
            self._command += value[1:]
            if not is_last:
                return
            command, self._command = bytes(self._command), bytearray()
            elements = elements_of(command)
            if elements.get(_COMMAND_FIELD) == _C_STORE_RQ:
                self._begin(context_id, elements)
            else:
                self._as_pynetdicom_does(context_id, b"\x03" + command)
        elif self._store is not None:
            context, request, arrival = self._store
            if context_id != context:
                raise ValueError("a data set came in another context than its command")
            arrival.write(value[1:])
            if is_last:
                self._store = None
                self.msg_queue.put((context, request))
        elif self.message is not None:
            self._as_pynetdicom_does(context_id, bytes(value))
        else:
            raise ValueError("a data set came before its command")

    def _begin(self, context_id: int, elements: dict[int, bytes]) -> None:
        context = self.assoc._accepted_cx.get(context_id)
        if context is None:
            raise ValueError("the presentation context was not agreed")
        if elements.get(_DATA_SET_TYPE) == _NO_DATA_SET:
            raise ValueError("a C-STORE request without a data set")
        request = store_request(elements)
        request._context_id = context_id
        arrival = Arrival(
            self._open,
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(context.transfer_syntax[0]),
        )
        request.DataSet = arrival
        with self._lock:
            self._arrivals.add(arrival)
        self._store = (context_id, request, arrival)

    def _as_pynetdicom_does(self, context_id: int, value: bytes) -> None:
        super().receive_primitive(_p_data(context_id, value))

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """As pynetdicom's; the answer to a C-STORE request is encoded by hand."""
        answer = store_answer(primitive) if isinstance(primitive, C_STORE) else None
        if answer is None or 0 < self.maximum_pdu_size < len(answer) + 6:
            super().send_msg(primitive, context_id)
            return
        size = len(answer) + 2
        pdu = struct.pack(">BxIIBB", 0x04, size + 4, size, context_id, 0x03) + answer  # PS3.8 9.3.5, E.2
        upper_layer: Any = self.dul  # reactor.py's
        if not upper_layer.send_at_once(pdu):
            self.dul.send_pdu(_p_data(context_id, b"\x03" + answer))

    def done_with(self, arrival: Arrival) -> None:
        """To be called for each request served: nothing is left of what was not kept."""
        arrival.close()
        with self._lock:
            self._arrivals.discard(arrival)

    def close(self) -> None:
        """To be called once the association has ended: what never became a request is discarded."""
        with self._lock:
            left, self._arrivals = self._arrivals, set()
        for arrival in left:
            arrival.close()


def _p_data(context_id: int, value: bytes) -> P_DATA:
    primitive = P_DATA()
    primitive.presentation_data_value_list = []
    primitive.presentation_data_value_list.append((context_id, value))
    return primitive


def elements_of(command: bytes) -> dict[int, bytes]:
    """Elements of a command set (PS3.7 6.3.1: implicit VR little endian), by element number.

    Raises ValueError if it is not one.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        if at + 8 > len(command):
            raise ValueError("a command set breaks off")
        group, number, length = struct.unpack_from("<HHI", command, at)
        at += 8
        if group != 0 or at + length > len(command):
            raise ValueError("not a command set")
        found[number] = command[at : at + length]
        at += length
    return found


def store_request(elements: dict[int, bytes]) -> C_STORE:
    """A C-STORE-RQ's command (PS3.7 9.3.1.1). Raises ValueError if a mandatory element is missing or bad."""
    request = C_STORE()
    request.MessageID = _number(elements, 0x0110)
    request.Priority = _number(elements, 0x0700)
    request.AffectedSOPClassUID = UID(_text(elements, 0x0002))
    request.AffectedSOPInstanceUID = UID(_text(elements, 0x1000))
    if not request.AffectedSOPClassUID or not request.AffectedSOPInstanceUID:
        raise ValueError("a C-STORE request without its UIDs")
    return request


def store_answer(answer: C_STORE) -> bytes | None:
    """A C-STORE-RSP's command set (PS3.7 9.3.1.2); None if it is none, or one with rarer elements."""
    if answer.MessageIDBeingRespondedTo is None or answer.Status is None or answer.OffendingElement:
        return None
    body = (
        _element(0x0002, str(answer.AffectedSOPClassUID or "").encode())
        + _element(0x0100, struct.pack("<H", 0x8001))
        + _element(0x0120, struct.pack("<H", answer.MessageIDBeingRespondedTo))
        + _element(0x0800, _NO_DATA_SET)
        + _element(0x0900, struct.pack("<H", answer.Status))
    )
    if answer.ErrorComment:
        body += _element(0x0902, answer.ErrorComment.encode("ascii", "replace"), b" ")
    body += _element(0x1000, str(answer.AffectedSOPInstanceUID or "").encode())
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _element(number: int, value: bytes, pad: bytes = b"\0") -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def _number(elements: dict[int, bytes], number: int) -> int:
    value = elements.get(number, b"")
    if len(value) != 2:
        raise ValueError(f"command element (0000,{number:04X}) is missing or not a number")
    return int.from_bytes(value, "little")


def _text(elements: dict[int, bytes], number: int) -> str:
    return elements.get(number, b"").rstrip(b"\0 ").decode("ascii")


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 7.1), explicit VR little endian."""

    def uid(element: int, value: str) -> bytes:
        return _short(element, b"UI", value.encode("ascii", "replace"), b"\0")

    body = (
        struct.pack("<HH2sHI", 2, 0x0001, b"OB", 0, 2)
        + b"\0\1"
        + uid(0x0002, sop_class_uid)
        + uid(0x0003, sop_instance_uid)
        + uid(0x0010, transfer_syntax_uid)
        + uid(0x0012, IMPLEMENTATION_CLASS_UID)
        + _short(0x0013, b"SH", IMPLEMENTATION_VERSION.encode(), b" ")
    )
    return bytes(128) + b"DICM" + _short(0x0000, b"UL", struct.pack("<I", len(body)), b"") + body


def _short(element: int, vr: bytes, value: bytes, pad: bytes) -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
