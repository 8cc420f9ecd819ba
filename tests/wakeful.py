"""A pytest plugin: pynetdicom's own tests, with our reactor under every association that is accepted."""

from __future__ import annotations

import time

import pynetdicom.association as association
import pynetdicom.transport as transport

from dicom_node.reactor import WakefulAssociation, WakefulDUL

_as_before = transport.AssociationSocket.ready.fget


def _ready(self: transport.AssociationSocket) -> bool:
    """As GuardedSocket's."""
    dul = self.assoc.dul
    if not isinstance(dul, WakefulDUL):
        return bool(_as_before(self))  # type: ignore[misc]
    if self.socket is None or not self._is_connected:
        time.sleep(0.001)
        return False
    try:
        return dul.wait_for(self.socket)
    except (OSError, ValueError):
        self.event_queue.put("Evt17")
        return False


association.Association = WakefulAssociation  # type: ignore[misc]
transport.AssociationSocket.ready = property(_ready)  # type: ignore[assignment,method-assign]
