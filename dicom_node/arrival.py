"""The data set of a C-STORE request goes to the spool as its fragments arrive; memory holds none of it."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from . import log
from .errors import OutOfSpace
from .spool import Arriving

IMPLEMENTATION_CLASS_UID = "2.25.140089476696609218616292626892016082110"
IMPLEMENTATION_VERSION = "MRSI-SR-NODE"

_LOG = log.get("arrival")

Open = Callable[[], Arriving]


class Arrival(BytesIO):
    """What pynetdicom takes for the buffer of a message's data set: a file for C-STORE, else memory.

    A disk that fills up does not end the association: the rest is passed over, and the request is answered.
    """

    def __init__(self, message: DIMSEMessage, association: Association, open_file: Open) -> None:
        super().__init__()
        self._message = message
        self._association = association
        self._open = open_file
        self._file: Arriving | None = None
        self._problem: OutOfSpace | None = None
        self.received = 0

    def write(self, fragment: Any) -> int:
        self.received += len(fragment)
        if not isinstance(self._message, C_STORE_RQ):
            if type(self._message) is DIMSEMessage:
                raise ValueError("a data set came before its command")
            return super().write(fragment)
        if self._problem is None:
            try:
                if self._file is None:
                    self._file = self._begin()
                if self._file is not None:
                    self._file.write(fragment)
            except OutOfSpace as problem:
                self._problem = problem
                self.close()
        return len(fragment)

    def _begin(self) -> Arriving | None:
        command = self._message.command_set
        context = self._association._accepted_cx.get(self._message.context_id or 0)
        if context is None:
            return None  # pynetdicom aborts over it
        meta = file_meta(
            str(command.get("AffectedSOPClassUID", "")),
            str(command.get("AffectedSOPInstanceUID", "")),
            str(context.transfer_syntax[0]),
        )
        file = self._open()
        file.write(meta)
        return file

    @property
    def file(self) -> Arriving:
        """The Part 10 file, still unseen in the spool. Raises OutOfSpace if it found no room."""
        if self._problem is not None:
            raise self._problem
        if self._file is None:
            self._file = self._begin()
        if self._file is None:
            raise OutOfSpace("the data set was not kept")
        return self._file

    def close(self) -> None:
        """Discard the file, unless the spool has kept it. Closing twice is fine."""
        if self._file is not None:
            self._file.close()


class SpoolingDIMSE(DIMSEServiceProvider):
    """pynetdicom's DIMSE provider, its messages' data sets in the spool."""

    def __init__(self, association: Association, open_file: Open) -> None:
        super().__init__(association)
        self._open = open_file
        self._arrivals: set[Arrival] = set()
        self._lock = threading.Lock()

    @property
    def arriving(self) -> int:
        """Bytes of the data set that is being received."""
        data_set = self.message.data_set if self.message is not None else None
        return data_set.received if isinstance(data_set, Arrival) else 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """As pynetdicom's, and a command that cannot be decoded is a protocol error, not a dead thread."""
        if self.message is None:
            self.message = DIMSEMessage()
            arrival = Arrival(self.message, self.assoc, self._open)
            self.message.data_set = arrival
            with self._lock:
                self._arrivals.add(arrival)
        try:
            super().receive_primitive(primitive)
        except Exception as broken:
            _LOG.warning("message.broken", caller=self.assoc.requestor.ae_title, **log.place_of(broken))
            self.dul.event_queue.put("Evt19")

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
