"""A destination that is down for days: few connections, nothing lost, nobody needed; holds by a person."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dicom_node.config import DicomDestination, FolderDestination, RetryRules
from dicom_node.deliver import pause_after
from dicom_node.demo import free_port
from dicom_node.errors import UnsuitableInput
from dicom_node.study import DeliveryState
from tests.pacs import Pacs
from tests.results import Office

HOUR = 3600.0


@contextmanager
def dead_peer(port: int) -> Iterator[list[int]]:
    """Takes connections and closes them without a word; counts them."""
    connections: list[int] = []
    server = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(1)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield connections
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def pacs_at(port: int, **changed: object) -> DicomDestination:
    return DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=port, **changed)


def test_many_deliveries_to_a_dead_peer_make_few_connections(tmp_path):
    """Twelve deliveries, one hour in steps of ten seconds: three failures, then one probe a minute."""
    port = free_port()
    office = Office(tmp_path, pacs_at(port, circuit={"failures": 3, "probe_s": 600.0}))
    for n in range(12):
        office.result_set(n)
    with dead_peer(port) as connections:
        for _ in range(360):
            office.work()
            office.clock.now += 10
    assert len(connections) == 3 + 5
    assert {d.state for d in office.deliveries()} <= {DeliveryState.PENDING, DeliveryState.WAITING}
    (shown,) = office.store.status()["destinations"]
    assert shown["state"] == "OPEN"
    assert "does not answer" in shown["reason"]


def test_a_pacs_that_is_down_for_a_weekend_gets_everything_on_monday_oldest_first(tmp_path):
    port = free_port()
    office = Office(tmp_path, pacs_at(port))
    uids = [office.result_set(n) for n in range(6)]
    for _ in range(62):
        office.work()
        office.clock.now += HOUR
    with Pacs(port=port) as pacs:
        first = office.work()
        assert len(first) == 1  # the probe
        assert office.store.standing("PACS").open is False
        assert len(office.work()) == 5  # all others at once
        assert pacs.received == [uid for result_set in uids for uid in result_set]
    assert {d.state for d in office.deliveries()} == {DeliveryState.DELIVERED}
    assert [e["event"] for e in office.store.destination_history("PACS")] == ["opened", "closed"]


def test_workers_share_the_circuit_through_the_store(tmp_path):
    port = free_port()
    office = Office(tmp_path, pacs_at(port, circuit={"failures": 1}))
    office.result_set(1)
    office.result_set(2)
    mine, other = (d.delivery_id for d in office.store.deliveries_due())
    office.courier.try_delivery(mine)
    with dead_peer(port) as connections:
        office.open()  # another worker, with a try that was enqueued before the circuit opened
        office.courier.try_delivery(other)
        assert connections == []
    sent_back = office.store.delivery(other)
    assert sent_back.state is DeliveryState.WAITING
    assert "only probes go there" in sent_back.reason
    assert sent_back.tries == 1  # its next run is another one for the engine


def test_a_dead_peer_keeps_nothing_from_others(tmp_path):
    folder = FolderDestination(name="results", folder=tmp_path / "out")
    office = Office(tmp_path, pacs_at(free_port(), circuit={"failures": 1}), folder)
    for n in range(3):
        office.result_set(n)
        office.work()
    states = sorted((d.destination, d.state.value) for d in office.deliveries() if d.destination == "results")
    assert states == [("results", "DELIVERED")] * 3


def test_a_peer_that_answers_is_not_cut_off_for_what_it_refuses(tmp_path):
    with Pacs() as pacs:
        pacs.store = lambda uid: 0xC000
        office = Office(tmp_path, pacs.destination(circuit={"failures": 1}))
        office.result_set(1)
        assert office.work_on().state is DeliveryState.FAILED
        assert not office.store.standing("PACS").open


def test_what_takes_a_part_each_time_is_not_cut_off(tmp_path):
    with Pacs() as pacs:
        pacs.store = lambda uid: 0x0000 if len(pacs.received) % 2 else 0xA700
        office = Office(tmp_path, pacs.destination(circuit={"failures": 1}))
        office.result_set(1)
        office.work()
        assert office.delivery().state is DeliveryState.WAITING
        assert not office.store.standing("PACS").open


def test_giving_up_is_a_matter_of_time(tmp_path):
    office = Office(tmp_path, pacs_at(free_port(), retry={"give_up_after_s": 2 * 86400.0}))
    office.result_set()
    for _ in range(47):
        office.work()
        office.clock.now += HOUR
    assert office.delivery().state is DeliveryState.WAITING
    for _ in range(3):
        office.work()
        office.clock.now += HOUR
    assert office.delivery().state is DeliveryState.FAILED
    assert "in 2.0 days" in office.delivery().reason


def test_pauses_double_up_to_their_limit_and_never_meet(tmp_path):
    retry = RetryRules(first_s=10.0, longest_s=3600.0)
    pauses = [pause_after(n, retry) for n in range(1, 60)]
    assert 8 <= pauses[0] <= 12
    assert all(0.8 * 3600 <= p <= 1.2 * 3600 for p in pauses[9:])
    assert len(set(pauses)) == len(pauses)


# Hold and release


def test_a_held_destination_gets_nothing_until_it_is_released(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        office.result_set()
        due = office.store.deliveries_due()[0].delivery_id
        office.store.hold_destination("PACS", "migration")
        assert office.work() == []
        office.courier.try_delivery(due)  # it was enqueued before
        assert pacs.associations == 0
        assert "PACS is held: migration" in office.delivery().reason
        with pytest.raises(UnsuitableInput, match="held"):
            office.store.hold_destination("PACS", "again")
        office.store.release_destination("PACS", "migrated")
        assert office.work_on().state is DeliveryState.DELIVERED
    assert [e["reason"] for e in office.store.destination_history("PACS")] == ["migration", "migrated"]


def test_a_held_delivery_waits_for_its_release_with_its_whole_time(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination(retry={"give_up_after_s": 60.0}))
        office.result_set()
        before = office.delivery()
        office.store.hold_delivery(before.delivery_id, "wrong patient?")
        assert office.work() == []
        office.courier.try_delivery(before.delivery_id)
        assert pacs.associations == 0
        office.clock.now += 1000
        office.store.release_delivery(before.delivery_id, "the right one")
        after = office.delivery()
        assert (after.state, after.tries) == (DeliveryState.PENDING, before.tries + 1)
        assert after.started_at == office.clock.now
        assert office.work_on().state is DeliveryState.DELIVERED
    history = office.store.history(after.key.case)
    assert {"wrong patient?", "the right one"} <= {e["reason"] for e in history}


def test_a_delivery_held_while_it_is_sent_stays_held_when_the_try_fails(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        office.result_set()

        def hold_and_refuse(uid: str) -> int:
            office.store.hold_delivery(office.delivery().delivery_id, "stop")
            return 0xA700

        pacs.store = hold_and_refuse
        office.work()
    held = office.delivery()
    assert (held.state, held.reason) == (DeliveryState.HELD, "stop")
    with pytest.raises(UnsuitableInput, match="nothing to hold"):
        office.store.hold_delivery(held.delivery_id, "twice")


def test_a_delivery_held_while_it_is_sent_is_held_after_a_crash_and_goes_on_when_it_is_released(tmp_path):
    """Whether it is released before the dead worker's try is taken up, or after."""
    for number, taken_up in enumerate((True, False)):
        with Pacs() as pacs:
            office = Office(tmp_path / str(number), pacs.destination())
            office.result_set()
            begun = office.store.sending(office.delivery())
            office.store.hold_delivery(begun.delivery_id, "stop")
            if taken_up:
                assert office.work() == [begun.delivery_id] and office.work() == []
                assert (office.delivery().state, office.delivery().reason) == (DeliveryState.HELD, "stop")
                assert pacs.associations == 0
            office.store.release_delivery(begun.delivery_id, "go")
            assert office.delivery().tries == begun.tries + taken_up
            assert office.work_on().state is DeliveryState.DELIVERED
            assert pacs.associations == 1


def test_a_delivery_released_while_its_try_is_still_under_way_gets_no_second_one(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        uids, released = office.result_set(), []

        def hold_and_release(uid: str) -> int:
            if uid == uids[1]:
                delivery = office.delivery().delivery_id
                office.store.hold_delivery(delivery, "stop")
                office.store.release_delivery(delivery, "go")
                released.append(office.delivery())
            return 0x0000

        pacs.store = hold_and_release
        assert office.work_on().state is DeliveryState.DELIVERED
        assert [(d.state, d.tries) for d in released] == [(DeliveryState.SENDING, 1)]
        assert (len(pacs.received), pacs.associations) == (len(uids), 1)


def test_the_command_line_holds_and_releases(tmp_path):
    office = Office(tmp_path, pacs_at(free_port()))
    office.result_set()
    toml = tmp_path / "node.toml"
    toml.write_text(
        f'[storage]\nfolder = "{tmp_path}"\n[[destination]]\ntype = "dicom"\nname = "PACS"\n'
        'ae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
    )

    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dicom_node.cli", *arguments, "--config", str(toml)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    delivery = office.delivery().delivery_id
    assert cli("hold", "PACS", "--reason", "migration").returncode == 0
    assert cli("hold", delivery, "--reason", "look first").returncode == 0
    shown = cli("status").stdout
    assert "destination PACS: held since" in shown
    assert "HELD, 0 taken: held by a person: look first" in shown
    assert cli("release", delivery, "--reason", "looked").returncode == 0
    assert office.delivery().state is DeliveryState.PENDING
    assert office.store.deliveries_due() == []
    assert cli("release", "PACS", "--reason", "done").returncode == 0
    assert [d.delivery_id for d in office.store.deliveries_due()] == [delivery]
