"""Associations that we request, with pynetdicom's own server as the peer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node import checkpoint
from dicom_node.association import associate, requestor
from dicom_node.checkpoint import Checkpoint
from dicom_node.config import DicomDestination, NodeRules

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
    monkeypatch.setattr(checkpoint, "Checkpoint", kind)
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
