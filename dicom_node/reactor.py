"""pynetdicom's two threads per association, woken by what happens instead of looking every millisecond."""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.timer import Timer

from . import log

_LOG = log.get("reactor")

_TICK_S = 0.5  # how late a deadline of pynetdicom's own may be noticed
_WAITING = 2  # whole messages that may wait to be served before the socket is left alone
_P_DATA = 0x04


class _Bell(queue.Queue[Any]):
    """A queue that tells of what is put into it and of what is taken."""

    def __init__(self, on_put: Callable[[], None], on_get: Callable[[], None]) -> None:
        super().__init__()
        self._on_put = on_put
        self._on_get = on_get

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._on_put()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        item = super().get(block, timeout)
        self._on_get()
        return item


class _SteadyTimer(Timer):
    """pynetdicom's timer on the clock that nobody sets."""

    @property
    def remaining(self) -> float:
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        until = time.monotonic() if self._end_time is None else self._end_time
        return float(self.timeout - (until - self._start_time))

    def start(self) -> None:
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        self._end_time = time.monotonic()


class _Data:
    """A P-DATA-TF PDU (PS3.8 9.3.5), its values still lying in the PDU."""

    def __init__(self, pdu: bytearray) -> None:
        view = memoryview(pdu)
        self._items: list[tuple[int, memoryview]] = []
        at = 6
        while at < len(pdu):
            length, context_id = struct.unpack_from(">IB", pdu, at)
            end = at + 4 + length
            if length < 2 or end > len(pdu):
                raise ValueError("presentation data value item out of bounds")
            self._items.append((context_id, view[at + 5 : end]))
            at = end

    def to_primitive(self) -> P_DATA:
        """As pynetdicom's own PDU gives it."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = []
        primitive.presentation_data_value_list.extend(self._items)  # type: ignore[arg-type]  # views, no copies
        return primitive


class _Machine(StateMachine):
    """pynetdicom's state machine; DT-2 (PS3.8 9.2), the bulk of its work, without the ceremony."""

    def do_action(self, event: str) -> None:
        if event == "Evt10" and self.current_state == "Sta6":
            data = cast(P_DATA, self.dul._recv_pdu.get(False).to_primitive())
            self.dul.assoc.dimse.receive_primitive(data)
        elif event == "Evt9":  # a PDU is taken from the queue, encoded and sent: nothing may come between
            with cast(WakefulDUL, self.dul).sending:
                super().do_action(event)
        else:
            super().do_action(event)


class WakefulDUL(DULServiceProvider):
    """The upper layer's thread; sleeps until the peer sends, we want to send, or a timer is due."""

    def __init__(self, association: Association, ring: Callable[[], None]) -> None:
        super().__init__(association)
        self.state_machine = _Machine(self)
        simple: Any = queue.SimpleQueue  # used for each PDU: as cheap as queues get
        self.event_queue, self._recv_pdu = simple(), simple()
        self.to_user_queue = _Bell(ring, lambda: None)
        self._idle_timer = _SteadyTimer(60)
        self.artim_timer = _SteadyTimer(30)
        self._run_loop_delay = 0
        self._ring = ring
        self.ended = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        self.sending = threading.Lock()
        self._poll: select.poll | None = None

    def run(self) -> None:
        """pynetdicom's reactor; what escapes it ends this association only."""
        try:
            super().run()
        except Exception as bug:
            _LOG.warning("association.broken", **log.place_of(bug))
        finally:
            self.ended = True
            self._ring()

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self.wake()

    def send_at_once(self, pdu: bytes) -> bool:
        """Send from this thread, whichever it is; False if it is not the moment, and nothing was sent."""
        if not self.sending.acquire(blocking=False):  # another PDU is halfway out
            return False
        try:
            if self.state_machine.current_state != "Sta6" or not self.to_provider_queue.empty():
                return False
            send = getattr(self.socket, "send_at_once", None)
            return send is not None and send(pdu)
        finally:
            self.sending.release()

    def kill_dul(self) -> None:
        super().kill_dul()
        self.wake()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state != "Sta1":
            self.wake()
            return False
        self.kill_dul()
        if threading.current_thread() is not self:
            self.join()
        return True

    def wake(self) -> None:
        """Make the thread look at its queues."""
        with self._wake_lock:  # a number that was closed may already be another connection's
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """To be called once the association has ended."""
        with self._wake_lock:
            if self._wake >= 0:
                os.close(self._wake)
                self._wake = -1

    def wait_for(self, peer: socket.socket) -> bool:
        """Whether there is something to read now; sleeps until then, until woken or until a timer is due."""
        if isinstance(peer, ssl.SSLSocket) and peer.pending():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._wake, select.POLLIN)
        congested = self.assoc.dimse.msg_queue.qsize() >= _WAITING
        if congested:
            return self._sleep(None)
        # In Sta13 the connection is only waited for to close, and pynetdicom does that itself.
        return self._sleep(peer)

    def _sleep(self, peer: socket.socket | None) -> bool:
        assert self._poll is not None
        timeout_s = 0.0
        nothing_to_do = self.to_provider_queue.empty() and self.event_queue.empty()
        if nothing_to_do and self.state_machine.current_state != "Sta13":
            timeout_s = _TICK_S
            if self.artim_timer._start_time is not None and self.artim_timer._end_time is None:
                timeout_s = max(0.0, min(_TICK_S, self.artim_timer.remaining + 0.001))
        if peer is not None:
            self._poll.register(peer, select.POLLIN)
        ready = False
        try:
            for fd, _ in self._poll.poll(timeout_s * 1000):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    ready = True
        finally:
            if peer is not None:
                self._poll.unregister(peer)
        return ready

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] != _P_DATA:
            decoded: tuple[Any, str] = super()._decode_pdu(bytestream)
            return decoded
        return _Data(bytestream), "Evt10"


class WakefulAssociation(Association):
    """The association's thread; sleeps until there is a message to serve or the association ends."""

    dul: WakefulDUL

    def __init__(self, ae: AE, mode: str) -> None:
        super().__init__(ae, mode)
        self._work = threading.Event()
        self.dul = WakefulDUL(self, self._work.set)
        self.dimse.msg_queue = _Bell(self._work.set, self._taken)
        self.acse_timeout = ae.acse_timeout  # again: they are the timers' of the upper layer
        self.network_timeout = ae.network_timeout

    def _taken(self) -> None:
        if self.dimse.msg_queue.qsize() == _WAITING - 1:
            self.dul.wake()

    def kill(self) -> None:
        self._kill = True
        self._work.set()
        super().kill()

    def _run_reactor(self) -> None:
        """Serve requests one after the other until released, aborted, idle too long or killed.

        Others send over this association by clearing ``_reactor_checkpoint`` and waiting for ``_is_paused``,
        which holds whenever nothing is being served.
        """
        while not self._kill:
            self._is_paused = True
            self._work.clear()
            if self.dimse.msg_queue.empty() and self.dul.peek_next_pdu() is None and not self.dul.ended:
                self._work.wait(_TICK_S)
            self._reactor_checkpoint.wait()
            self._is_paused = False
            context_id, message = self.dimse.get_msg(block=False)
            if message is not None and context_id is not None:
                self._serve_request(message, context_id)
                self.dul._idle_timer.restart()  # we were not idle, however long it took
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released, self.is_established = True, False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted():
                self.dul.receive_pdu(wait=False)
                self.is_aborted, self.is_established = True, False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()
            elif self.dul.ended:
                self.kill()
            elif self.dul.idle_timer_expired():
                self.abort()
                self.kill()
