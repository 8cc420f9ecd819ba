"""Storage Commitment as SCP: what a peer sent us is read again before we say that we keep it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.sop_class import MRImageStorage, StorageCommitmentPushModel, Verification

from dicom_node import commitment
from dicom_node.association import BOUNDED
from dicom_node.commitment import INSTANCE, PUSH_MODEL, Reference, Report
from dicom_node.config import DicomDestination, PeerRules
from dicom_node.demo import LoopbackOrthanc, free_port
from dicom_node.intake import Intake
from dicom_node.safekeeping import Safekeeper, _Outbox
from dicom_node.study import DeliveryState
from tests.doors import STUDY, incoming
from tests.harness import needs_orthanc
from tests.results import Office

UIDS = [f"{STUDY}.1.{n}" for n in (1, 2, 3)]


def wait_until(condition: Callable[[], object], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)


@pytest.fixture
def office(tmp_path) -> Office:
    """A node that holds three MR slices of one sender."""
    office = Office(tmp_path)
    intake = Intake(office.spool, office.store)
    for n in (1, 2, 3):
        intake.accept(incoming(n), source="SCANNER")
    return office


class Scanner:
    """A sender that asks for storage commitment and keeps the reports it gets."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        assert event.request.AffectedSOPInstanceUID == INSTANCE
        report = commitment.read_report(event.event_information)
        assert event.event_type == report.event_type
        self.reports.append(report)
        return 0x0000, None

    def ask(
        self,
        port: int,
        references: list[Reference],
        stay_s: float = 0.0,
        transaction: str = "1.2.3",
        action: int = 1,
        instance: str = INSTANCE,
    ) -> int:
        """N-ACTION; stays for the report up to ``stay_s``. The status of N-ACTION."""
        ae = AE("SCANNER")
        ae.add_requested_context(StorageCommitmentPushModel)
        ae.add_requested_context(Verification)
        handlers = [BOUNDED, (evt.EVT_N_EVENT_REPORT, self._on_report)]
        association = ae.associate("127.0.0.1", port, ae_title="MRSISR", evt_handlers=handlers)
        assert association.is_established
        ds = commitment.request(transaction, references)
        status, _ = association.send_n_action(ds, action, PUSH_MODEL, instance)
        if stay_s:
            wait_until(lambda: self.reports, stay_s)
            assert association.send_c_echo().Status == 0x0000  # the association goes on as before
        began = time.monotonic()
        association.release()
        assert time.monotonic() - began < 20  # nobody waits for a report that is on its way
        return int(status.Status)

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """Takes reports on associations that the node requests, in the node's role as SCP."""
        ae = AE("SCANNER")
        ae.add_supported_context(
            StorageCommitmentPushModel, "1.2.840.10008.1.2", scu_role=False, scp_role=True
        )
        handlers = [(evt.EVT_N_EVENT_REPORT, self._on_report)]
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            yield
        finally:
            server.shutdown()


def mr(*uids: str) -> list[Reference]:
    return [Reference(MRImageStorage, uid) for uid in uids]


def with_peer(office: Office, port: int) -> None:
    peers = (PeerRules(ae_title="SCANNER", host="127.0.0.1", port=port),)
    office.settings = office.settings.model_copy(update={"peer": peers})
    office.open()


def test_what_is_kept_is_committed_on_the_association_of_the_request(office):
    scanner = Scanner()
    with office.listening():
        assert scanner.ask(office.node.port, mr(*UIDS), stay_s=30) == 0x0000
        (report,) = scanner.reports
        assert report == Report("1.2.3", tuple(mr(*UIDS)))
        office.clock.now += 3600
        wait_until(lambda: office.store.commitments_due() == [])  # nothing is left to say


def test_what_is_missing_damaged_or_of_another_class_is_not_committed(office):
    damaged = (
        office.spool.root / "in" / (digest := office.store.sha256_of_instance(UIDS[1]))[:2] / f"{digest}.dcm"
    )
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.chmod(0o600)
    damaged.write_bytes(content)
    references = [*mr(UIDS[0], UIDS[1], "1.2.3.4"), Reference("1.2.840.10008.5.1.4.1.1.2", UIDS[2])]
    scanner = Scanner()
    with office.listening():
        scanner.ask(office.node.port, references, stay_s=30)
    (report,) = scanner.reports
    assert report.kept == tuple(mr(UIDS[0]))
    assert {r.sop_uid: why for r, why in report.failed} == {
        UIDS[1]: 0x0112,
        UIDS[2]: 0x0119,
        "1.2.3.4": 0x0112,
    }


def test_a_peer_that_left_is_told_on_a_new_association_even_after_a_restart(office):
    there = free_port()
    with_peer(office, there)
    scanner = Scanner()
    with office.listening():
        office.safekeeper._answer_here = lambda *_: None  # the peer has gone before the files were read
        assert scanner.ask(office.node.port, mr(*UIDS)) == 0x0000
    office.store.close()
    office.open()
    office.safekeeper.answer_due()
    assert scanner.reports == []  # not before its own association had its time
    office.clock.now += 21
    office.safekeeper.answer_due()  # nobody listens there yet
    assert office.store.commitments_due() == []
    with scanner.listening(there):
        office.clock.now += 60
        office.safekeeper.answer_due()
    (report,) = scanner.reports
    assert {r.sop_uid for r in report.kept} == set(UIDS)
    office.clock.now += 86400
    assert office.store.commitments_due() == []


def test_a_peer_that_cannot_be_answered_keeps_no_other_from_its_answer(office, monkeypatch):
    there = free_port()
    with_peer(office, there)
    office.store.request_commitment("BROKEN", "9.9", [(MRImageStorage, UIDS[0])], office.clock.now)
    office.clock.now += 1
    office.store.request_commitment("SCANNER", "1.2.3", [(MRImageStorage, UIDS[0])], office.clock.now)
    answer = office.safekeeper._answer_there

    def breaks(request):
        if request.peer == "BROKEN":
            raise ZeroDivisionError  # pynetdicom's, where a peer takes PDUs of at most 6 bytes
        answer(request)

    monkeypatch.setattr(office.safekeeper, "_answer_there", breaks)
    scanner = Scanner()
    office.clock.now += 1
    with scanner.listening(there):
        office.safekeeper.answer_due()
    assert [r.transaction_uid for r in scanner.reports] == ["1.2.3"]
    assert office.store.commitments_due() == []  # the other waits for its next try


def test_an_association_may_ask_for_commitment_as_often_as_it_likes():
    """Some senders ask after each image, over one association."""
    sent = []
    association = SimpleNamespace(outbox=None, bind=lambda *_: None)
    association.dimse = SimpleNamespace(send_msg=lambda *message: sent.append(message))
    for _ in range(2000):
        responded = _Outbox.of(association).expect_response()
        association.dimse.send_msg(N_ACTION(), 1)
        assert responded.is_set()
    assert len(sent) == 2000


def test_a_peer_without_an_entry_is_answered_once_it_has_one(office):
    there = free_port()
    scanner = Scanner()
    with office.listening():
        office.safekeeper._answer_here = lambda *_: None
        scanner.ask(office.node.port, mr(*UIDS))
    office.clock.now += 21
    office.safekeeper.answer_due()
    with_peer(office, there)
    office.clock.now += 60
    with scanner.listening(there):
        office.safekeeper.answer_due()
    assert len(scanner.reports) == 1


def test_an_answer_that_cannot_be_given_is_not_tried_for_ever(office):
    with_peer(office, free_port())
    scanner = Scanner()
    with office.listening():
        office.safekeeper._answer_here = lambda *_: None
        scanner.ask(office.node.port, mr(*UIDS))
    tries = 0
    for _ in range(24 * 9):
        tries += len(office.store.commitments_due())
        if office.store.commitments_due() and tries in (1, 2):
            office.safekeeper.answer_due()  # real connections for the first ones
        else:
            for request in office.store.commitments_due():
                office.safekeeper._put_off(request, "down")
        office.clock.now += 3600
    assert 24 * 7 - 2 <= tries <= 24 * 7 + 3


@pytest.mark.parametrize(
    ("changed", "status"),
    [({"action": 2}, 0x0123), ({"instance": "1.2.3"}, 0x0112), ({"transaction": ""}, 0x0115)],
)
def test_a_request_that_is_none_is_refused_with_its_reason(office, changed, status):
    with office.listening():
        assert Scanner().ask(office.node.port, mr(*UIDS), **changed) == status


def test_a_request_that_names_nothing_is_refused(office):
    with office.listening():
        assert Scanner().ask(office.node.port, []) == 0x0115


@needs_orthanc
def test_orthanc_asks_for_commitment_of_what_it_sent_and_gets_it(tmp_path, office):
    orthanc = LoopbackOrthanc(
        tmp_path / "orthanc",
        DicomModalities={
            "node": {
                "AET": "MRSISR",
                "Host": "127.0.0.1",
                "Port": office.node.port,
                "AllowStorageCommitment": True,
            }
        },
    )
    with_peer(office, orthanc.dicom_port)
    peers = (PeerRules(ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port),)
    office.safekeeper = Safekeeper(office.node, peers, office.spool, office.store)
    orthanc.start()
    try:
        with office.listening():
            asked = [[str(MRImageStorage), uid] for uid in (*UIDS, "1.2.3.4")]
            body = json.dumps({"DicomInstances": asked}).encode()
            url = f"http://127.0.0.1:{orthanc.http_port}/modalities/node/storage-commitment"
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
                path = json.load(answer)["Path"]
            deadline = time.monotonic() + 30
            while orthanc.get(path)["Status"] == "Pending":
                assert time.monotonic() < deadline
                office.clock.now += 5
                office.safekeeper.answer_due()
                time.sleep(0.2)
        report = orthanc.get(path)
    finally:
        orthanc.stop()
    assert report["Status"] == "Failure"  # one of four is not here
    assert {i["SOPInstanceUID"] for i in report["Success"]} == set(UIDS)
    ((failed),) = report["Failures"]
    assert (failed["SOPInstanceUID"], failed["FailureReason"]) == ("1.2.3.4", 0x0112)


def test_the_node_commits_to_itself(office, tmp_path):
    """Both roles over one wire: our SCU's question, our SCP's answer on the same association."""
    us = DicomDestination(
        name="node",
        ae_title="MRSISR",
        host="127.0.0.1",
        port=office.node.port,
        send=("MR",),
        proof="commitment",
        proving={"stay_s": 30.0},
    )
    sender = Office(tmp_path / "sender", us, ae_title="OTHER")
    sender.result_set()
    with office.listening():
        assert sender.work_on().state is DeliveryState.DELIVERED
