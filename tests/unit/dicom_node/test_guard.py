"""What a careless or hostile peer may ask of the DIMSE server, over real sockets."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from pydicom.uid import MRImageStorage
from pynetdicom import AE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification
from structlog.testing import capture_logs
from structlog.typing import EventDict

from dicom_node.association import BOUNDED
from dicom_node.config import NodeRules
from dicom_node.guard import GuardedAssociation, GuardedSocket, Limits
from dicom_node.listener import Listener
from dicom_node.torture import wire
from dicom_node.torture.wire import established
from tests.doors import open_intake

DEADLINE_S = 1.0
# What a machine that runs other tests beside this one may need for what takes no time.
SLOW_S = 8.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    with capture_logs() as caught:
        yield caught


@pytest.fixture
def serve(tmp_path: Path, events: list[EventDict]) -> Iterator[Callable[..., int]]:
    """Starts a listener with short deadlines; gives its port."""
    with ExitStack() as stack:

        def start(**rules: object) -> int:
            defaults: dict[str, object] = {
                "port": free_port(),
                "acse_timeout_s": DEADLINE_S,
                "network_timeout_s": DEADLINE_S,
                "max_dataset_bytes": 1024**2,
            }
            settings = NodeRules(**{**defaults, **rules})
            listener = Listener(settings, open_intake(tmp_path))
            listener.start()
            stack.callback(listener.stop, drain_s=0)
            return settings.port

        yield start


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def seconds_until_closed(peer: socket.socket, since: float | None = None) -> float:
    started = time.monotonic() if since is None else since
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


def echo(port: int) -> int | None:
    ae = AE("TESTER")
    ae.acse_timeout = ae.dimse_timeout = 10
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", port, ae_title="MRSISR", evt_handlers=[BOUNDED])
    if not association.is_established:
        return None
    status = association.send_c_echo()
    association.release()
    return int(status.Status)


def reasons(events: list[EventDict], event: str) -> str:
    return " ".join(str(e["reason"]) for e in events if e["event"] == event)


@pytest.mark.parametrize("start", [b"", b"\x01\x00\x00", b"\x01\x00\x00\x00\x01\x00half"])
def test_a_request_that_is_not_whole_in_time_is_closed(serve: Callable[..., int], start: bytes) -> None:
    port, began = serve(), time.monotonic()
    with connect(port) as peer:
        peer.sendall(start)
        assert DEADLINE_S * 0.7 < seconds_until_closed(peer, began) < DEADLINE_S + SLOW_S


def test_half_a_pdu_is_closed_at_its_deadline(serve: Callable[..., int], events: list[EventDict]) -> None:
    with established(serve()) as peer:
        began = time.monotonic()
        peer.sendall(b"\x04\x00" + struct.pack(">I", 1000) + bytes(10))
        assert DEADLINE_S * 0.7 < seconds_until_closed(peer, began) < DEADLINE_S + SLOW_S
    assert "in the middle of a PDU" in reasons(events, "connection.cut")


def test_a_drip_does_not_extend_the_deadline(serve: Callable[..., int]) -> None:
    with connect(serve()) as peer:
        started = time.monotonic()
        with pytest.raises(OSError, match=r"."):
            for byte in wire.associate():
                peer.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - started < DEADLINE_S + SLOW_S  # all of it would take 20 s


@pytest.mark.parametrize("pdu_type", [0x01, 0x05])
def test_a_huge_first_pdu_is_cut_at_its_header(
    serve: Callable[..., int], events: list[EventDict], pdu_type: int
) -> None:
    with connect(serve(acse_timeout_s=30)) as peer:
        peer.sendall(struct.pack(">BxI", pdu_type, 0xFFFFFFF0))
        assert seconds_until_closed(peer) < SLOW_S
    assert "announces 4294967280 bytes" in reasons(events, "connection.cut")


def test_a_huge_pdu_is_cut_before_it_costs_memory(serve: Callable[..., int]) -> None:
    port = serve(network_timeout_s=30)
    before = psutil.Process(os.getpid()).memory_info().rss
    with established(port) as peer:
        peer.sendall(b"\x04\x00" + struct.pack(">I", 0xFFFFFFF0))
        with pytest.raises(OSError, match=r"."):
            for _ in range(100):
                peer.sendall(bytes(1024**2))
    assert psutil.Process(os.getpid()).memory_info().rss - before < 50 * 1024**2


@pytest.mark.parametrize(
    ("endless", "named"), [("data set", "max_dataset_bytes"), ("command", "command set")]
)
def test_a_message_without_end_is_cut(
    serve: Callable[..., int], events: list[EventDict], tmp_path: Path, endless: str, named: str
) -> None:
    """Every PDU is of the agreed size; there are only too many of them. Nothing of it is left."""
    store = wire.command(wire.C_STORE_RQ, sop_class=MRImageStorage, sop_instance="1.2.3")
    fragment = wire.p_data(bytes(60_000), command=endless == "command", last=False)
    with established(serve(network_timeout_s=30)) as peer, pytest.raises(OSError, match=r"."):
        if endless == "data set":
            peer.sendall(wire.p_data(store, command=True))
        for _ in range(100):
            peer.sendall(fragment)
            time.sleep(0.005)
    assert named in reasons(events, "connection.cut")
    until = time.monotonic() + 30
    while list((tmp_path / "spool" / "tmp").iterdir()):
        assert time.monotonic() < until, "half a data set was left"
        time.sleep(0.05)


def test_stalled_peers_do_not_lock_others_out(serve: Callable[..., int]) -> None:
    """They have not asked for an association: the limit of associations is not theirs to use up."""
    port = serve(max_associations=4, acse_timeout_s=30)
    with ExitStack() as stack:
        for _ in range(12):
            peer = stack.enter_context(connect(port))
            peer.sendall(b"\x01\x00\x00\x00\x01\x00half")
        started = time.monotonic()
        assert echo(port) == 0x0000
        assert time.monotonic() - started < SLOW_S


def test_beyond_the_association_limit_a_peer_is_told_to_come_again(
    serve: Callable[..., int], events: list[EventDict]
) -> None:
    """Rejected transient, local limit exceeded (PS3.8 9.3.4)."""
    port = serve(max_associations=1, network_timeout_s=30)
    with established(port), connect(port) as second:
        second.sendall(wire.associate())
        assert second.recv(10) == b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02"
    assert "max_associations" in reasons(events, "association.rejected")


def test_one_address_cannot_hold_every_connection(serve: Callable[..., int], events: list[EventDict]) -> None:
    port = serve(max_associations=1, acse_timeout_s=5)
    limit = Limits.of(NodeRules()).waiting_per_address
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(port)) for _ in range(limit + 5)]
        for peer in peers[:5]:  # the oldest
            assert seconds_until_closed(peer) < 4
        assert reasons(events, "connection.cut").count("too many open connections") == 1, (
            "a flood is one line"
        )
        for peer in peers:
            seconds_until_closed(peer)
    until = time.monotonic() + 30
    while echo(port) != 0x0000:
        assert time.monotonic() < until, "the connections were never given back"


def test_the_places_of_one_address_are_not_those_of_others(
    serve: Callable[..., int], events: list[EventDict]
) -> None:
    port = serve(max_associations=4, max_associations_per_address=2, network_timeout_s=30)
    with established(port), established(port), connect(port) as third:
        third.sendall(wire.associate())
        assert third.recv(10) == b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02"
        established(port, source="127.0.0.2").close()
    assert "max_associations_per_address" in reasons(events, "association.rejected")


def test_tls_on_the_plain_port_is_said_in_words(serve: Callable[..., int], events: list[EventDict]) -> None:
    context = ssl.create_default_context()
    with connect(serve(acse_timeout_s=30)) as peer, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(peer, server_hostname="localhost")
    assert "TLS" in reasons(events, "connection.cut")


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(8, 200)) * 50])
def test_garbage_is_closed_and_the_node_stays(serve: Callable[..., int], garbage: bytes) -> None:
    port = serve()
    with connect(port) as peer:
        peer.sendall(garbage)
        assert seconds_until_closed(peer) < DEADLINE_S + SLOW_S
    assert echo(port) == 0x0000


def test_a_peer_that_breaks_off_gives_its_place_back(serve: Callable[..., int]) -> None:
    port = serve(max_associations=1, network_timeout_s=30)
    for _ in range(3):
        peer = established_at_last(port)
        peer.sendall(b"\x04\x00" + struct.pack(">I", 1000) + bytes(10))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # RST
    established_at_last(port).close()


def established_at_last(port: int) -> socket.socket:
    """Once the one place is free again."""
    until = time.monotonic() + 20
    while True:
        try:
            return established(port)
        except wire.NotAccepted as problem:
            assert problem.for_now and time.monotonic() < until
            time.sleep(0.05)


def test_associations_come_and_go_without_a_tick_between(serve: Callable[..., int]) -> None:
    """What there is to do is never slept over: request, echo and release in far less than half a second."""
    port = serve()
    took: list[float] = []
    while len(took) < 40 and min(took, default=1.0) >= 0.25:
        began = time.monotonic()
        assert wire.echo(port) == 0x0000
        took.append(time.monotonic() - began)
    assert min(took) < 0.25, took


def test_an_answer_never_goes_into_the_middle_of_another_pdu() -> None:
    here, there = socket.socketpair()
    with here, there:
        association = GuardedAssociation(AE("NODE"), lambda: None)
        association.set_socket(GuardedSocket(association, here, Limits.of(NodeRules()), b""))
        upper = association.dul
        upper.state_machine.current_state = "Sta6"
        report = P_DATA()
        report.presentation_data_value_list = [[1, b"\x02" + bytes(8 * 1024**2)]]
        upper.to_provider_queue.put(report)
        sender = threading.Thread(target=upper.state_machine.do_action, args=("Evt9",), daemon=True)
        sender.start()
        time.sleep(0.3)  # it waits for the peer by now
        assert upper.to_provider_queue.empty()
        answer = b"\1" * 100
        assert not upper.send_at_once(answer)
        there.settimeout(10)
        got = bytearray()
        while len(got) < 8 * 1024**2 + 12:
            got += there.recv(1024**2)
        sender.join(10)
        assert upper.send_at_once(answer)
        assert not any(got[12:]) and there.recv(1000) == answer
