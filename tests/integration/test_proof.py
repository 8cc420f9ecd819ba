"""DELIVERED on proof: storage commitment as SCU and C-FIND, against Orthanc, DCMTK and a PACS that lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from dicom_node import dispatch
from dicom_node.config import DicomDestination
from dicom_node.demo import LoopbackOrthanc, free_port, wait_for_port
from dicom_node.dispatch.commitment import take_report
from dicom_node.study import DeliveryState, State
from dicom_node.uids import result_uid
from tests.harness import needs_orthanc
from tests.pacs import Pacs
from tests.results import Office

BY_COMMITMENT = {"proof": "commitment", "proving": {"stay_s": 3.0, "event_s": 600.0, "resend": 2}}
BY_QUERY = {"proof": "query", "proving": {"settle_s": 20.0, "resend": 2}}


def orthanc_as(pacs: LoopbackOrthanc, **changed: object) -> DicomDestination:
    where = {"name": "PACS", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.dicom_port}
    return DicomDestination(**where, **changed)


def orthanc_that_knows(folder: Path, port: int) -> LoopbackOrthanc:
    node = {"AET": "MRSISR", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    return LoopbackOrthanc(folder, DicomModalities={"node": node})


# Storage commitment


@needs_orthanc
def test_orthanc_commits_on_an_association_of_its_own_and_only_then_it_is_delivered(tmp_path):
    port = free_port()
    pacs = orthanc_that_knows(tmp_path / "orthanc", port)
    pacs.start()
    try:
        rules = {**BY_COMMITMENT, "proving": {"stay_s": 20.0}}
        office = Office(tmp_path, orthanc_as(pacs, **rules), port=port)
        uids = office.result_set()
        with office.listening():
            assert office.work_on().state is DeliveryState.DELIVERED
        (case,) = office.store.status()["cases"]
        assert case["revisions"][0]["state"] == State.DONE
        assert case["revisions"][0]["deliveries"][0]["proven"] == len(uids)
    finally:
        pacs.stop()


@needs_orthanc
def test_an_answer_that_never_came_is_asked_for_again_as_a_fresh_transaction(tmp_path):
    """Our listener is down when Orthanc reports; Orthanc keeps no report to try again."""
    port = free_port()
    pacs = orthanc_that_knows(tmp_path / "orthanc", port)
    pacs.start()
    try:
        rules = {"proof": "commitment", "proving": {"stay_s": 1.0, "event_s": 600.0}}
        office = Office(tmp_path, orthanc_as(pacs, **rules), port=port)
        office.result_set()
        first = office.work_on()
        assert first.state is DeliveryState.PROVING
        assert "waits for storage commitment by PACS" in first.reason
        asked = office.store.last_transaction(first)
        assert office.work() == []  # not due before its time
        office.clock.now += 601
        rules["proving"]["stay_s"] = 20.0
        office.settings = office.settings.model_copy(update={"destination": (orthanc_as(pacs, **rules),)})
        office.open()
        with office.listening():
            assert office.work_on().state is DeliveryState.DELIVERED
        again = office.store.last_transaction(first)
        assert again.transaction_uid != asked.transaction_uid
    finally:
        pacs.stop()


def test_a_report_on_the_same_association_is_taken(tmp_path):
    pacs = Pacs()
    pacs.commits = "here"
    with pacs:
        office = Office(tmp_path, pacs.destination(**BY_COMMITMENT))
        uids = office.result_set()
        assert office.work_on().state is DeliveryState.DELIVERED
    (asked,) = pacs.asked
    assert {r.sop_uid for r in asked[1]} == set(uids)


def test_a_report_has_its_response_before_the_association_is_released(tmp_path, monkeypatch):
    def slow(event, store):
        status = take_report(event, store)
        time.sleep(1)  # the answer is in the store, and who waits for it has seen it
        return status

    monkeypatch.setattr("dicom_node.deliver.take_report", slow)
    pacs = Pacs()
    pacs.commits = "here"
    with pacs:
        office = Office(tmp_path, pacs.destination(**BY_COMMITMENT))
        office.result_set()
        assert office.work_on().state is DeliveryState.DELIVERED
        pacs.reporting[0].join(10)
    assert pacs.answered == [0x0000]


@pytest.mark.parametrize("role", [True, False], ids=["role selected", "no role selected"])
def test_a_report_that_comes_after_a_restart_ends_the_delivery(tmp_path, role):
    pacs = Pacs()
    pacs.commits = "later"
    with pacs:
        rules = {"proof": "commitment", "proving": {"stay_s": 0.0}}
        office = Office(tmp_path, pacs.destination(**rules))
        office.result_set()
        assert office.work_on().state is DeliveryState.PROVING
        office.store.close()
        office.open()
        with office.listening():
            assert pacs.tell(office.node.port, pacs.report(), role=role) == 0x0000
            assert (
                pacs.tell(office.node.port, pacs.report(), role=role) == 0x0000
            )  # once more changes nothing
        assert office.work_on().state is DeliveryState.DELIVERED
        assert len(pacs.received) == 4


def test_a_worker_killed_while_it_asks_puts_the_same_question_again(tmp_path):
    """The row is there before N-ACTION goes out; whether it went out, nobody knows."""
    pacs = Pacs()
    pacs.commits = "here"
    with pacs:
        office = Office(tmp_path, pacs.destination(**BY_COMMITMENT))
        office.result_set()
        started = office.store.sending(office.delivery())
        dispatch.send(
            pacs.destination(),
            office.store.to_send(started),
            office.spool,
            office.node,
            lambda f, status: office.store.take(started, f.path, status),
        )
        uid = result_uid("storage commitment", started.delivery_id, "1", "1")
        office.store.ask_commitment(uid, started)
        office.open()
        office.courier.try_delivery(started.delivery_id)  # as the engine does after the restart
        assert office.delivery().state is DeliveryState.DELIVERED
    assert [asked for asked, _ in pacs.asked] == [uid]
    assert len(pacs.received) == 4


def test_a_late_answer_to_an_earlier_question_counts(tmp_path):
    pacs = Pacs()
    pacs.commits = "later"
    with pacs:
        rules = {"proof": "commitment", "proving": {"stay_s": 0.0, "event_s": 600.0}}
        office = Office(tmp_path, pacs.destination(**rules))
        office.result_set()
        office.work_on()
        office.clock.now += 601
        office.work_on()
        assert len(pacs.asked) == 2
        with office.listening():
            assert pacs.tell(office.node.port, pacs.report(request=0)) == 0x0000
        assert office.work_on().state is DeliveryState.DELIVERED


def test_objects_that_are_not_kept_are_sent_again_and_only_they(tmp_path):
    pacs = Pacs()
    pacs.commits = "here"
    with pacs:
        office = Office(tmp_path, pacs.destination(**BY_COMMITMENT))
        uids = office.result_set()
        pacs.keeps = lambda uid: uid != uids[1] or pacs.received.count(uid) > 1
        assert office.work_on().state is DeliveryState.DELIVERED
    assert pacs.received == [*uids, uids[1]]
    assert [len(references) for _, references in pacs.asked] == [4, 1]


def test_a_pacs_that_never_keeps_an_object_is_shown_to_a_person(tmp_path):
    pacs = Pacs()
    pacs.commits = "here"
    with pacs:
        office = Office(tmp_path, pacs.destination(**BY_COMMITMENT))
        uids = office.result_set()
        pacs.keeps = lambda uid: uid != uids[1]
        delivery = office.work_on()
    assert delivery.state is DeliveryState.FAILED
    assert "no such object (0112)" in delivery.reason
    assert pacs.received.count(uids[1]) == 3  # once, and two rounds again


def test_an_undecided_pacs_is_asked_again_later_without_sending(tmp_path):
    pacs = Pacs()
    pacs.commits = "later"
    with pacs:
        office = Office(tmp_path, pacs.destination(proof="commitment", proving={"stay_s": 0.0}))
        uids = office.result_set()
        office.work_on()
        kept, pacs.kept = pacs.kept, set()
        with office.listening():
            assert pacs.tell(office.node.port, pacs.report(reason=0x0213)) == 0x0000
            assert office.work() == []
            office.clock.now += 301
            assert office.work_on().state is DeliveryState.PROVING
            assert len(pacs.asked) == 2
            pacs.kept = kept
            assert pacs.tell(office.node.port, pacs.report()) == 0x0000
        assert office.work_on().state is DeliveryState.DELIVERED
    assert pacs.received == uids


def test_a_report_of_an_unknown_transaction_is_refused(tmp_path):
    pacs = Pacs()
    pacs.commits = "later"
    with pacs:
        office = Office(tmp_path, pacs.destination(proof="commitment", proving={"stay_s": 0.0}))
        office.result_set()
        office.work_on()
        other = Office(tmp_path / "other", pacs.destination())
        with other.listening():
            assert pacs.tell(other.node.port, pacs.report()) == 0x0115


def test_a_peer_without_storage_commitment_is_named(tmp_path):
    """DCMTK's storescp takes objects and commits to nothing."""
    storescp = shutil.which("storescp", path="/usr/bin")
    if storescp is None:
        pytest.skip("storescp is not installed (apt-get install dcmtk)")
    port = free_port()
    (tmp_path / "out").mkdir()
    command = [storescp, "--fork", "+B", "-od", str(tmp_path / "out"), "-aet", "PACS", str(port)]
    peer = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"})
    try:
        wait_for_port(port, peer)
        where = DicomDestination(
            name="PACS", ae_title="PACS", host="127.0.0.1", port=port, send=("MR",), proof="commitment"
        )
        office = Office(tmp_path, where)
        office.result_set()
        delivery = office.work_on()
    finally:
        peer.terminate()
        peer.wait()
    assert delivery.state is DeliveryState.FAILED
    assert "does not offer Storage Commitment" in delivery.reason
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize(
    ("status", "state"), [(0x0213, DeliveryState.WAITING), (0x0124, DeliveryState.FAILED)]
)
def test_a_refused_question_is_read_by_its_status(tmp_path, status, state):
    pacs = Pacs()
    pacs.commits = "later"
    pacs.action_status = status
    with pacs:
        office = Office(tmp_path, pacs.destination(**BY_COMMITMENT))
        office.result_set()
        delivery = office.work_on(rounds=1)
    assert delivery.state is state
    assert f"status {status:04X}" in delivery.reason
    assert len(pacs.received) == 4


# C-FIND


@needs_orthanc
def test_orthanc_shows_every_object_and_then_it_is_delivered(tmp_path):
    pacs = orthanc_that_knows(tmp_path / "orthanc", free_port())
    pacs.start()
    try:
        office = Office(tmp_path, orthanc_as(pacs, **BY_QUERY))
        office.result_set()
        delivery = office.work_on()
        if delivery.state is DeliveryState.PROVING:  # on a busy machine its index follows by a moment
            time.sleep(5)
            office.clock.now += 21
            delivery = office.work_on()
        assert delivery.state is DeliveryState.DELIVERED
        assert office.store.unproven(office.delivery()) == []
    finally:
        pacs.stop()


def test_what_a_query_does_not_show_at_once_is_looked_for_again_before_it_is_sent_again(tmp_path):
    """Some PACS index what they take a little later."""
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination(**BY_QUERY))
        uids = office.result_set()
        pacs.keeps = lambda uid: uid != uids[1]
        delivery = office.work_on()
        assert delivery.state is DeliveryState.PROVING
        assert "does not show 1 of 4 objects" in delivery.reason
        pacs.kept.add(uids[1])
        office.clock.now += 21
        assert office.work_on().state is DeliveryState.DELIVERED
    assert pacs.received == uids


def test_what_a_query_never_shows_is_sent_again_for_a_few_rounds(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination(**BY_QUERY))
        uids = office.result_set()
        pacs.keeps = lambda uid: uid != uids[1]
        for _ in range(4):
            delivery = office.work_on()
            office.clock.now += 21
    assert delivery.state is DeliveryState.FAILED
    assert "does not show 1 of" in delivery.reason
    assert pacs.received.count(uids[1]) == 3


def test_a_duplicate_is_delivered_only_if_the_pacs_shows_it(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination(**BY_QUERY))
        uids = office.result_set()
        pacs.kept.update(uids[:2])
        pacs.store = lambda uid: 0x0111
        assert office.work_on().state is DeliveryState.PROVING
        pacs.kept.update(uids)
        office.clock.now += 21
        assert office.work_on().state is DeliveryState.DELIVERED
    assert set(office.statuses().values()) == {"0111"}


@pytest.mark.parametrize(
    ("status", "state"), [(0xA700, DeliveryState.WAITING), (0xC000, DeliveryState.FAILED)]
)
def test_a_query_that_fails_is_read_by_its_status(tmp_path, status, state):
    with Pacs() as pacs:
        pacs.find_status = status
        office = Office(tmp_path, pacs.destination(**BY_QUERY))
        office.result_set()
        delivery = office.work_on(rounds=1)
    assert delivery.state is state
    assert f"status {status:04X}" in delivery.reason


def test_without_proof_asked_for_its_answers_are_enough(tmp_path):
    with Pacs() as pacs:
        pacs.keeps = lambda uid: False
        office = Office(tmp_path, pacs.destination())
        office.result_set()
        assert office.work_on().state is DeliveryState.DELIVERED
