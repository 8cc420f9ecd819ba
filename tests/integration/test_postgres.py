"""PostgreSQL as the store of several machines: what SQLite's single writer gives must hold here too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dicom_node.custody import verify
from dicom_node.errors import DatabaseAway, TemporaryError
from dicom_node.intake import Incoming
from dicom_node.spool import Spool
from dicom_node.store import Outcome, Received, Store, base, is_current, migrate
from dicom_node.study import CaseKey, IllegalTransition, State
from tests.doors import ROOT, STUDY, as_file, incoming, mr_slice, open_intake
from tests.postgres import Postgres, needs_postgres

pytestmark = [pytest.mark.peers, needs_postgres]


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.migrated()


@pytest.fixture
def machines(url: str) -> Iterator[list[Store]]:
    """Stores of several machines, each with connections of its own."""
    stores = [Store(url) for _ in range(4)]
    yield stores
    for store in stores:
        store.close()


def received(number: int, study: str = "1.1", **changed: object) -> Received:
    uid = f"{study}.{number}"
    values: dict[str, object] = {
        "sop_uid": uid, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4", "series_uid": f"{study}.0",
        "study_uid": study, "transfer_syntax_uid": "1.2.840.10008.1.2.1", "frame_of_reference_uid": "",
        "accession_number": "", "patient_id": "P1", "issuer": "", "path": f"in/{uid}", "sha256": uid,
        "size": 1, "source": "test",
    }  # fmt: skip
    return Received(**{**values, **changed})  # type: ignore[arg-type]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Begin all calls at the same moment, each in a thread of its own."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        ready.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [f.result(60) for f in [pool.submit(run, call) for call in calls]]


# Several listeners


def test_one_instance_at_two_listeners_at_once_is_kept_once(machines: list[Store]) -> None:
    for number in range(20):
        study = f"1.{number}"
        answers = at_once(*(partial(s.record, received(1, study)) for s in machines))
        assert sorted(answers) == [Outcome.DUPLICATE] * 3 + [Outcome.NEW]
    assert machines[0].count_instances() == 20
    assert len(machines[0].revisions_in(State.RECEIVING)) == 20


def test_a_study_spread_over_listeners_is_one_case_and_one_revision(machines: list[Store]) -> None:
    def send(store: Store, first: int) -> None:
        for number in range(first, 60, 4):
            store.record(received(number))

    at_once(*(partial(send, s, n) for n, s in enumerate(machines)))
    (revision,) = machines[0].revisions_in(State.RECEIVING)
    machines[0].complete(revision.key, "test")
    assert len(machines[0].members(revision.key)) == 60


def test_batches_that_touch_the_same_studies_in_another_order_do_not_lock_each_other_out(
    machines: list[Store],
) -> None:
    """Two group commits over the same studies, in opposite orders: the textbook deadlock."""

    def batch(store: Store, offset: int, order: int) -> None:
        for turn in range(10):
            studies = [f"1.{n}" for n in range(8)][::order]
            asked = [(received(100 * turn + offset, study), None) for study in studies]
            assert set(store.record_all(asked)) == {Outcome.NEW}

    turned = [(s, n, (-1) ** n) for n, s in enumerate(machines)]
    at_once(*(partial(batch, *a) for a in turned))
    assert machines[0].count_instances() == 4 * 10 * 8


def test_an_instance_that_comes_while_its_study_is_completed_is_in_it_or_opens_the_next(
    machines: list[Store],
) -> None:
    """Acknowledged and in no revision's members: lost in all but name."""
    listener, gatherer = machines[:2]
    for number in range(40):
        study = f"1.{number}"
        listener.record(received(1, study))
        (revision,) = gatherer.revisions_in(State.RECEIVING)
        key = revision.key
        at_once(
            partial(listener.record, received(2, study)),
            partial(gatherer.complete, key, "quiet"),
        )
        late = [r.key for r in gatherer.revisions_in(State.RECEIVING)]
        assert late in ([], [CaseKey(key.case, 2)])
        for newer in late:
            gatherer.complete(newer, "quiet")
        assert {m.sop_uid for m in gatherer.members((late or [key])[0])} == {f"{study}.1", f"{study}.2"}


def test_two_housekeepers_that_complete_one_study_complete_it_once(machines: list[Store]) -> None:
    def complete(store: Store, key: CaseKey) -> bool:
        try:
            store.complete(key, "quiet")
        except IllegalTransition:
            return False
        return True

    machines[0].record(received(1))
    (revision,) = machines[0].revisions_in(State.RECEIVING)
    assert sorted(at_once(*(partial(complete, s, revision.key) for s in machines))) == [
        False, False, False, True,
    ]  # fmt: skip


def test_the_ledger_of_many_writers_is_one_chain(url: str, tmp_path: Path) -> None:
    intakes = [open_intake(tmp_path, database=url) for _ in range(3)]

    def send(number: int) -> None:
        for n in range(10):
            intakes[number].accept(incoming(10 * number + n), source=f"SCANNER{number}")

    at_once(*(partial(send, n) for n in range(3)))
    verified = verify(intakes[0].store, Spool(tmp_path / "spool"))
    assert (verified.problems, verified.entries, verified.files) == ((), 30, 30)


# What PostgreSQL refuses and SQLite takes


def test_a_nul_in_a_text_is_kept_as_something_else_and_stays_the_same_patient(
    url: str, tmp_path: Path
) -> None:
    intake = open_intake(tmp_path, database=url)
    for number in (1, 2):
        raw = as_file(mr_slice(number, PatientID="PAxTIENT", AccessionNumber="A\\x"))
        intake.accept(Incoming(raw.replace(b"PAxTIENT", b"PA\0TIENT")), source="a\0b")
    assert intake.store.count_instances() == 2
    assert intake.store.patient_of(str(intake.store.case_of(STUDY))).patient_id == "PA\ufffdTIENT"


def test_an_instance_of_more_than_2_gib_is_recorded_with_its_size(machines: list[Store]) -> None:
    assert machines[0].record(received(1, size=3 * 1024**3)) is Outcome.NEW


def test_a_frame_of_reference_longer_than_any_uid_does_not_keep_an_instance_out(
    url: str, tmp_path: Path
) -> None:
    intake = open_intake(tmp_path, database=url)
    intake.accept(incoming(1, FrameOfReferenceUID=f"{ROOT}.{'1' * 80}"), source="SCANNER")
    assert intake.store.count_instances() == 1


# When it is away


def test_while_the_server_restarts_senders_are_told_to_come_again(postgres: Postgres, url: str) -> None:
    store = Store(url)
    store.record(received(1))
    stop, problems = threading.Event(), []

    def send() -> int:
        number = 1
        while not stop.is_set():
            number += 1
            try:
                store.record(received(number))
            except TemporaryError as problem:
                problems.append(problem)
        return number

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        time.sleep(0.5)
        postgres.restart()
        time.sleep(0.5)
        stop.set()
        tried = sending.result(60)
    assert problems
    assert all(isinstance(p, DatabaseAway) for p in problems)
    assert store.count_instances() == tried - len(
        problems
    )  # what was acknowledged is there, no more, no less


def test_a_machine_that_vanishes_in_the_middle_of_writing_holds_the_others_up_for_a_limited_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_IDLE_S", 3)
    vanished, other = Store(url), Store(url)
    began = time.monotonic()
    half = vanished.engine.connect()
    half.execute(text("SELECT 1"))  # has its turn, and is never heard of again
    other.record(received(1))
    assert 2 < time.monotonic() - began < 50
    half.invalidate()


def test_a_writer_that_was_cut_off_in_the_middle_is_told_that_it_may_try_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_IDLE_S", 1)
    store = Store(url)
    with pytest.raises(DatabaseAway), store._write() as tx:
        tx.execute(text("SELECT 1"))
        time.sleep(3)
        tx.execute(text("SELECT 1"))
    store.record(received(1))
    assert store.count_instances() == 1


def test_a_writer_whose_turn_does_not_come_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_TURN_S", 1)
    one, other = Store(url), Store(url)
    with one._write(), pytest.raises(DatabaseAway):
        other.record(received(1))
    other.record(received(1))


# Migrations


def test_two_who_migrate_one_database_at_once_migrate_it_once(postgres: Postgres) -> None:
    url = postgres.database()
    command = [
        sys.executable,
        "-c",
        "import sys; from dicom_node.store import *; migrate(Store(sys.argv[1]))",
        url,
    ]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert is_current(Store(url))


def test_migrate_brings_both_databases_and_only_then_they_are_opened(
    postgres: Postgres, tmp_path: Path
) -> None:
    toml = tmp_path / "node.toml"
    toml.write_text(
        f'[storage]\nfolder = "{tmp_path / "data"}"\ndatabase = "{postgres.database()}"\n'
        f'engine_database = "{postgres.database()}"\n[worker]\nname = "w1"\n'
    )

    def cli(verb: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dicom_node.cli", verb, "--config", str(toml)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=os.environ
        )

    refused = cli("status")
    assert (refused.returncode, "mrsi-node migrate" in refused.stderr) == (2, True), refused.stderr
    for _ in range(2):
        migrated = cli("migrate")
        assert migrated.returncode == 0, migrated.stderr
    assert cli("status").returncode == 0


def test_migrate_leaves_a_database_alone_that_is_current(url: str) -> None:
    store = Store(url)
    store.record(received(1))
    migrate(store)
    assert store.count_instances() == 1
