"""Associations that we request, with pynetdicom's own server as the peer."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

import dicom_node.association
from dicom_node.association import associate, requestor
from dicom_node.checkpoint import Checkpoint
from dicom_node.config import ClientTls, DicomDestination, NodeRules
from dicom_node.errors import PeerUnreachable
from dicom_node.torture import wire
from tests.authority import Authority

ECHOES = 5
LATE_S = 0.1
TIMEOUT_S = 1.0  # DIMSE's


@pytest.fixture
def peer() -> Iterator[DicomDestination]:
    ae = AE("PEER")
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    yield DicomDestination(name="peer", ae_title="PEER", host="127.0.0.1", port=server.server_address[1])
    server.shutdown()


def asking() -> AE:
    ae = requestor(NodeRules(dimse_timeout_s=TIMEOUT_S))
    ae.add_requested_context(Verification)
    return ae


class LatePynetdicom(threading.Event):
    """pynetdicom's own, on a machine that gives the association's thread no processor for a while."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        time.sleep(LATE_S)
        return True


class Late(Checkpoint):
    """Ours, on that machine."""

    def wait(self) -> None:
        super().wait()
        time.sleep(LATE_S)


def statuses(monkeypatch: pytest.MonkeyPatch, peer: DicomDestination, kind: type) -> list[int | None]:
    """Of C-ECHO after C-ECHO; the sender, too, gets the processor late, after its request went out."""
    monkeypatch.setattr(dicom_node.association, "Checkpoint", kind)
    found: list[int | None] = []
    with associate(asking(), peer, "peer") as association:
        send = association.dimse.send_msg

        def late(*message: Any) -> None:
            send(*message)
            time.sleep(2 * LATE_S)

        association.dimse.send_msg = late  # type: ignore[method-assign]
        while association.is_established and len(found) < ECHOES:
            found.append(association.send_c_echo().get("Status"))
    return found


def test_an_answer_reaches_who_waits_for_it_however_late_the_threads_run(
    peer: DicomDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert statuses(monkeypatch, peer, Late) == [0x0000] * ECHOES


def test_pynetdicoms_own_checkpoint_loses_answers(
    peer: DicomDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, pynetdicom was mended, and checkpoint.py can go."""
    assert None in statuses(monkeypatch, peer, LatePynetdicom)


def test_who_sends_over_an_association_that_just_ended_is_told(peer: DicomDestination) -> None:
    with associate(asking(), peer, "peer") as association:
        association.abort()
        association.join(5)
        association.is_established = True  # as the sender saw it, a moment before
        association._is_paused = False  # as the association's thread leaves it where the peer aborts
        sender = threading.Thread(target=association.send_c_echo, daemon=True)
        sender.start()
        sender.join(20 * TIMEOUT_S)
        association.is_established = False
        assert not sender.is_alive()


@contextmanager
def a_server(answer: Callable[[socket.socket], None]) -> Iterator[DicomDestination]:
    """A peer that ``answer`` speaks for, once for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    wire_end, _ = server.accept()
                    threading.Thread(target=answer, args=(wire_end,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield DicomDestination(name="peer", ae_title="PEER", host="127.0.0.1", port=server.getsockname()[1])


def accepted(wire_end: socket.socket) -> None:
    """An association with whatever was asked for first, in Implicit VR Little Endian."""
    wire_end.recv(65536)
    wire_end.sendall(ACCEPT)


def seconds(act: Callable[[], object]) -> float:
    """How long ``act`` takes, in a thread that may stay behind."""
    began = time.monotonic()
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(20)
    return time.monotonic() - began


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


# Context 1 in Implicit VR Little Endian, PDUs of any length (PS3.8 9.3.3).
ACCEPT = wire.pdu(
    0x02,
    struct.pack(">HH16s16s32x", 1, 0, b"PEER".ljust(16), b"MRSISR".ljust(16))
    + item(0x10, b"1.2.840.10008.3.1.1.1")
    + item(0x21, bytes((1, 0, 0, 0)) + item(0x40, b"1.2.840.10008.1.2"))
    + item(0x50, item(0x51, struct.pack(">I", 0)) + item(0x52, b"1.2.3.4")),
)


def half_a_pdu(wire_end: socket.socket) -> None:
    accepted(wire_end)
    wire_end.recv(65536)
    wire_end.sendall(b"\x04\x00\x00")
    time.sleep(60)


def reads_no_more(wire_end: socket.socket) -> None:
    accepted(wire_end)
    time.sleep(60)


@pytest.mark.parametrize("answer", [half_a_pdu, reads_no_more])
def test_a_peer_that_goes_silent_is_left_in_time(answer: Callable[[socket.socket], None]) -> None:
    """In the middle of a PDU, or of ours: as when it loses power, or a firewall forgets the connection."""
    ae = requestor(NodeRules(dimse_timeout_s=TIMEOUT_S, network_timeout_s=TIMEOUT_S))
    ae.add_requested_context(SecondaryCaptureImageStorage)
    picture = Dataset()
    picture.file_meta = FileMetaDataset()
    picture.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    picture.SOPClassUID, picture.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    picture.BitsAllocated, picture.PixelData = 8, bytes(16 * 1024**2)
    statuses: list[Dataset] = []

    def send() -> None:
        with a_server(answer) as peer, associate(ae, peer, "peer") as association:
            statuses.append(association.send_c_store(picture))

    assert seconds(send) < 8 * TIMEOUT_S
    assert statuses == [Dataset()]


def test_a_peer_that_says_nothing_after_its_handshake_is_left_in_time(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("peer"))

    def silent(wire_end: socket.socket) -> None:
        with context.wrap_socket(wire_end, server_side=True):
            time.sleep(60)

    ae = requestor(NodeRules(acse_timeout_s=TIMEOUT_S, network_timeout_s=TIMEOUT_S))
    ae.add_requested_context(Verification)

    def ask() -> None:
        with a_server(silent) as peer:
            secured = peer.model_copy(update={"tls": ClientTls(trusted=authority.certificate)})
            with pytest.raises(PeerUnreachable), associate(ae, secured, "peer"):
                pass

    assert seconds(ask) < 8 * TIMEOUT_S


def test_a_host_that_nobody_knows_is_a_peer_that_cannot_be_reached() -> None:
    nowhere = DicomDestination(name="peer", ae_title="PEER", host="no-such-host.invalid", port=104)
    with (
        pytest.raises(PeerUnreachable, match=r"PEER at no-such-host\.invalid:104"),
        associate(asking(), nowhere, "peer"),
    ):
        pass


def test_a_peer_that_accepts_and_hangs_up_is_a_peer_that_ended_the_association() -> None:
    def hangs_up(wire_end: socket.socket) -> None:
        accepted(wire_end)
        wire_end.close()

    with a_server(hangs_up) as peer:
        for _ in range(10):
            with suppress(PeerUnreachable), associate(asking(), peer, "peer") as association:
                time.sleep(0.05)
                assert not association.is_established
