"""The store: instances, cases, revisions, deliveries, folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicom_node.errors import Conflict, OutOfSpace, UnsuitableInput
from dicom_node.store import Ended, Finding, Made, Outcome, Store, go_back, is_current, migrate, tables
from dicom_node.store.migrate import _config, newest
from dicom_node.study import CaseKey, DeliveryState, Event, IllegalTransition, State
from tests.doors import Clock, an_instance


@pytest.fixture
def embedded(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'embedded.sqlite'}")
    migrate(store)
    return store


def receive(store: Store, study: str = "1.1", **changed: str) -> Outcome:
    """Record a new instance of ``study``."""
    return store.record(an_instance(study, **changed))


def only_revision(store: Store, state: State) -> CaseKey:
    (revision,) = store.revisions_in(state)
    return revision.key


def queued(store: Store) -> CaseKey:
    receive(store)
    key = only_revision(store, State.RECEIVING)
    store.complete(key, "test")
    return key


def delivering(store: Store, *destinations: str) -> CaseKey:
    key = queued(store)
    store.start(key)
    made = [Made(f"out/{n}.dcm", "PM", f"map {n}", f"2.25.{n}", "1.2", "0" * 64) for n in (1, 2)]
    store.encoded(key, made, "out/report.json", "digest", destinations)
    return key


def state_of(store: Store, key: CaseKey) -> State:
    return store.revision(key).state


# The schema


def test_migrations_from_empty_give_the_schema_of_the_tables(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_the_newest_migration_is_the_one_that_alembic_ends_with(embedded: Store) -> None:
    assert ScriptDirectory.from_config(_config(embedded)).get_heads() == [newest()]


def test_migrating_twice_changes_nothing(store: Store) -> None:
    assert is_current(store)
    migrate(store)
    assert is_current(store)


def test_an_empty_database_is_not_current(tmp_path: Path) -> None:
    assert not is_current(Store(f"sqlite:///{tmp_path / 'empty.sqlite'}"))


def test_a_commit_survives_a_power_cut(embedded: Store) -> None:
    """WAL with synchronous=FULL: Success is a promise."""
    with embedded.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_full_disk_under_the_database_is_out_of_space(embedded: Store) -> None:
    with embedded.engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(OutOfSpace):  # the pool hands out the same connection
        for _ in range(500):
            receive(embedded, path="x" * 4000)


def test_an_error_message_of_the_database_does_not_name_the_patient(store: Store) -> None:
    with store.engine.begin() as tx:
        tx.execute(text("DROP TABLE instances"))
    with pytest.raises(DBAPIError) as caught:
        receive(store, patient_id="DOE")
    assert "DOE" not in str(caught.value)


def test_what_is_refused_among_many_leaves_nothing_and_the_others_stay(store: Store) -> None:
    """One transaction without savepoints: what raises has written nothing yet."""
    first, last = an_instance("1.1"), an_instance("1.3")
    stray = an_instance("1.2", sop_uid=first.sop_uid)
    other = an_instance("1.1", patient_id="P2")
    asked = [(received, None) for received in (first, stray, other, first, last)]
    new, elsewhere, two_patients, again, also_new = store.record_all(asked)
    assert (new, again, also_new) == (Outcome.NEW, Outcome.DUPLICATE, Outcome.NEW)
    assert isinstance(elsewhere, Conflict)
    assert isinstance(two_patients, Conflict)
    with store.engine.connect() as tx:
        assert tx.execute(text("SELECT study_uid FROM studies ORDER BY 1")).scalars().all() == ["1.1", "1.3"]
        assert tx.execute(text("SELECT count(*) FROM cases")).scalar() == 2
    assert [e.subject for e in store.ledger()] == [first.sop_uid, last.sop_uid]
    assert len(store.revisions_in(State.RECEIVING)) == 2


def test_after_an_error_of_the_database_instances_are_recorded_again(store: Store) -> None:
    receive(store)
    with store.engine.begin() as tx:
        tx.execute(text("ALTER TABLE instances RENAME TO away"))
    with pytest.raises(DBAPIError):
        receive(store)
    with store.engine.begin() as tx:
        tx.execute(text("ALTER TABLE away RENAME TO instances"))
    assert receive(store) is Outcome.NEW
    assert store.count_instances() == 2


# Revisions


def test_instances_of_one_study_gather_in_one_revision(store: Store, clock: Clock) -> None:
    receive(store)
    clock.now += 5
    receive(store)
    (revision,) = store.revisions_in(State.RECEIVING)
    assert revision.key.revision == 1
    assert revision.last_received_at == clock.now


def test_a_revision_keeps_the_members_it_was_queued_with(store: Store) -> None:
    key = queued(store)
    store.start(key)
    receive(store)
    assert len(store.members(key)) == 1


def test_a_late_instance_opens_the_next_revision_and_leaves_the_job_in_flight_alone(store: Store) -> None:
    key = queued(store)
    store.start(key)
    receive(store)
    assert state_of(store, key) is State.RESOLVING
    late = only_revision(store, State.RECEIVING)
    assert late == CaseKey(key.case, 2)
    store.complete(late, "quiet")
    assert len(store.members(late)) == 2


def test_a_late_instance_takes_the_place_of_a_revision_not_yet_started(store: Store) -> None:
    key = queued(store)
    receive(store)
    assert state_of(store, key) is State.IGNORED
    assert "revision 2" in store.revision(key).reason
    assert only_revision(store, State.RECEIVING).revision == 2


def test_an_event_that_cannot_happen_changes_nothing(store: Store) -> None:
    key = queued(store)
    before = store.history(key.case)
    with pytest.raises(IllegalTransition):
        store.advance(key, Event.DELIVERED, "")
    assert state_of(store, key) is State.QUEUED
    assert store.history(key.case) == before


def test_every_transition_is_an_event_of_the_same_transaction(store: Store) -> None:
    key = delivering(store)
    steps = [(e["from_state"], e["event"], e["to_state"]) for e in store.history(key.case)]
    assert steps == [
        ("", "opened", "RECEIVING"),
        ("RECEIVING", "completed", "QUEUED"),
        ("QUEUED", "started", "RESOLVING"),
        ("RESOLVING", "encoded", "DELIVERING"),
        ("DELIVERING", "delivered", "DONE"),
    ]


def test_a_revision_taken_over_after_a_crash_goes_on(store: Store) -> None:
    key = queued(store)
    store.start(key)
    assert store.start(key).state is State.RESOLVING


def test_results_that_come_second_are_not_recorded_and_those_there_are_not_given_up(store: Store) -> None:
    """Two workers at one revision: the one that was taken for dead was only cut off."""
    key = delivering(store, "A")
    before = store.history(key.case)
    late = [Made("out/late.dcm", "PM", "map 1", "2.25.1", "1.2", "1" * 64)]
    with pytest.raises(IllegalTransition):
        store.encoded(key, late, "out/late.json", "digest", ["A"])
    with pytest.raises(IllegalTransition):
        store.fail(key, "an error inside the node")
    assert store.history(key.case) == before
    (delivery,) = store.deliveries_due()
    assert [f.path for f in store.to_send(delivery)] == ["out/1.dcm", "out/2.dcm"]


def test_what_cannot_be_resolved_says_why_and_may_be_retried(store: Store) -> None:
    key = queued(store)
    store.start(key)
    store.fail(key, "slices missing: a gap of 10 mm")
    assert store.revision(key).reason == "slices missing: a gap of 10 mm"
    store.retry(key, "fixed")
    assert (state_of(store, key), store.revision(key).attempt) == (State.QUEUED, 2)


def test_what_matches_no_recipe_says_why(store: Store) -> None:
    key = queued(store)
    store.start(key)
    store.ignore(key, "no metabolite map")
    (case,) = store.status()["cases"]
    (revision,) = case["revisions"]
    assert (revision["state"], revision["reason"]) == ("IGNORED", "no metabolite map")


def test_findings_are_replaced_not_added_to(store: Store) -> None:
    key = queued(store)
    store.identified(key, [Finding("1.1.0", "tCho", "other", "not yet")])
    store.identified(key, [Finding("1.1.0", "tCho", "metabolite_map", "tCho by its description")])
    assert store.findings(key) == [Finding("1.1.0", "tCho", "metabolite_map", "tCho by its description")]


def test_the_newest_queued_revision_of_a_study_is_found_by_study_or_case(store: Store) -> None:
    key = queued(store)
    assert store.latest_of_study("1.1") == store.latest_of_study(key.case) == key
    with pytest.raises(UnsuitableInput, match=r"9\.9"):
        store.latest_of_study("9.9")


def test_the_digest_of_what_gave_results_before_is_remembered(store: Store) -> None:
    key = delivering(store)
    receive(store)
    assert store.last_input_digest(only_revision(store, State.RECEIVING)) == "digest"
    assert store.last_input_digest(key) == ""


# Cases that span studies


def test_studies_of_one_patient_join_by_frame_of_reference(store: Store, clock: Clock) -> None:
    """Maps come from a quantification host under a Study Instance UID of their own."""
    receive(store, "1.1", frame_of_reference_uid="1.9")
    clock.now += 1
    receive(store, "1.2", frame_of_reference_uid="1.9")
    first, second = (r.key.case for r in store.revisions_in(State.RECEIVING))
    assert store.join_cases(["frame_of_reference"]) == [(second, first)]
    assert sorted(store.studies_of(first)) == ["1.1", "1.2"]
    assert only_revision(store, State.RECEIVING).case == first
    assert "same patient" in store.revision(CaseKey(second, 1)).reason


def test_a_joined_study_opens_a_revision_of_a_case_that_was_done(store: Store, clock: Clock) -> None:
    receive(store, "1.1", accession_number="A7")
    done = only_revision(store, State.RECEIVING)
    store.complete(done, "quiet")
    store.start(done)
    store.encoded(done, [], "", "digest", [])
    clock.now += 1
    receive(store, "1.2", accession_number="A7")
    store.join_cases(["accession_number"])
    assert only_revision(store, State.RECEIVING) == CaseKey(done.case, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"patient_id": "P2", "frame_of_reference_uid": "1.9"},
        {"issuer": "ELSEWHERE", "frame_of_reference_uid": "1.9"},
        {"frame_of_reference_uid": "1.8"},
        {"frame_of_reference_uid": ""},
    ],
    ids=["patient", "issuer", "frame", "no frame"],
)
def test_what_differs_in_patient_or_frame_is_never_joined(
    store: Store, clock: Clock, other: dict[str, str]
) -> None:
    receive(store, "1.1", frame_of_reference_uid="1.9", issuer="HERE")
    clock.now += 1
    receive(store, "1.2", **{"issuer": "HERE", **other})
    assert store.join_cases(["frame_of_reference"]) == []


def test_a_quantification_host_that_drops_the_issuer_is_joined_all_the_same(
    store: Store, clock: Clock
) -> None:
    receive(store, "1.1", frame_of_reference_uid="1.9", issuer="HERE")
    clock.now += 1
    receive(store, "1.2", frame_of_reference_uid="1.9", issuer="")
    assert len(store.join_cases(["frame_of_reference"])) == 1


def test_patients_without_an_id_are_never_joined(store: Store, clock: Clock) -> None:
    receive(store, "1.1", frame_of_reference_uid="1.9", patient_id="")
    clock.now += 1
    receive(store, "1.2", frame_of_reference_uid="1.9", patient_id="")
    assert store.join_cases(["frame_of_reference"]) == []


# Deliveries


def pending(store: Store) -> list[str]:
    return [d.destination for d in store.deliveries_due()]


def test_without_a_destination_the_results_stay_and_the_revision_is_done(store: Store) -> None:
    key = delivering(store)
    assert state_of(store, key) is State.DONE
    assert "spool" in store.revision(key).reason


def test_the_last_destination_to_confirm_ends_the_revision(store: Store) -> None:
    key = delivering(store, "A", "B")
    assert sorted(pending(store)) == ["A", "B"]
    a, b = store.deliveries_due()
    store.sending(a)
    store.delivered(a)
    assert state_of(store, key) is State.DELIVERING
    store.sending(b)
    store.delivered(b)
    assert state_of(store, key) is State.DONE


def test_a_destination_gets_what_it_has_not_taken_yet(store: Store) -> None:
    delivering(store, "A", "B")
    a, b = store.deliveries_due()
    first, second = store.to_send(a)
    store.take(a, first.path, "0000")
    store.take(a, first.path, "0000")
    assert store.to_send(a) == [second]
    assert store.to_send(b) == [first, second]
    assert first.file_name == "1.dcm"


def test_a_destination_given_up_fails_the_revision_when_no_other_is_under_way(store: Store) -> None:
    key = delivering(store, "A", "B")
    a, b = store.deliveries_due()
    store.give_up(a, "rejected")
    assert state_of(store, key) is State.DELIVERING
    store.delivered(b)
    assert state_of(store, key) is State.FAILED
    assert store.revision(key).reason == "not delivered to A: rejected"


def test_a_failed_delivery_is_retried_by_a_person_and_the_revision_follows(store: Store) -> None:
    key = delivering(store, "A")
    (delivery,) = store.deliveries_due()
    store.sending(delivery)
    store.give_up(delivery, "unreachable")
    store.retry_delivery(delivery.delivery_id)
    again = store.delivery(delivery.delivery_id)
    assert (again.state, again.attempt, again.tries) == (DeliveryState.PENDING, 2, 0)
    assert state_of(store, key) is State.DELIVERING
    store.delivered(again)
    assert state_of(store, key) is State.DONE


def test_only_a_failed_delivery_is_retried(store: Store) -> None:
    delivering(store, "A")
    (delivery,) = store.deliveries_due()
    with pytest.raises(UnsuitableInput, match="PENDING"):
        store.retry_delivery(delivery.delivery_id)
    with pytest.raises(UnsuitableInput, match="no delivery"):
        store.retry_delivery("x")


def test_a_waiting_delivery_shows_why_and_until_when(store: Store, clock: Clock) -> None:
    delivering(store, "A")
    (delivery,) = store.deliveries_due()
    store.sending(delivery)
    store.wait(delivery, "connection refused", clock.now + 10)
    (case,) = store.status()["cases"]
    (shown,) = case["revisions"][0]["deliveries"]
    assert (shown["state"], shown["reason"], shown["tries"]) == ("WAITING", "connection refused", 1)
    assert shown["next_try_at"] == clock.now + 10


def test_an_older_result_set_that_fails_says_nothing_of_the_newer_one(store: Store) -> None:
    key = delivering(store, "A")
    (old,) = store.deliveries_due()
    store.give_up(old, "refused")
    store.retry(key, "again")
    store.start(key)
    store.encoded(key, [], "", "digest", ["A"])
    store.give_up(old, "refused again")
    assert state_of(store, key) is State.DELIVERING


def test_a_database_of_the_first_version_is_migrated_and_works_on(empty_url: str, clock: Clock) -> None:
    """With one delivery WAITING, one study queued and one receiving."""
    store = Store(empty_url, clock)
    command.upgrade(_config(store), "0001")
    with store.engine.begin() as tx:
        tx.exec_driver_sql("INSERT INTO cases VALUES ('c', 'P1', '', 1)")
        tx.exec_driver_sql("INSERT INTO revisions VALUES ('c', 1, 'DELIVERING', 1, '', 1, 1, 'd', NULL)")
        tx.exec_driver_sql(
            "INSERT INTO results VALUES ('c', 1, 1, 'out/1.dcm', 'PM', 'm', '2.25.1', '1.2', '')"
        )
        row = "('c:1:1:A', 'c', 1, 1, 'A', 'WAITING', 1, 3, 'down', 1799999000.0, 1799999999.0)"
        tx.exec_driver_sql(f"INSERT INTO deliveries VALUES {row}")
        tx.exec_driver_sql("INSERT INTO taken VALUES ('c:1:1:A', 'out/1.dcm', '0000', 1)")
        for study, state in (("1.7", "QUEUED"), ("1.8", "RECEIVING")):
            tx.exec_driver_sql(f"INSERT INTO cases VALUES ('c{study}', 'P{study}', '', 2)")
            tx.exec_driver_sql(f"INSERT INTO studies VALUES ('{study}', 'c{study}')")
            tx.exec_driver_sql(
                f"INSERT INTO instances VALUES ('{study}.1', '{study}', '{study}.0', '1.2', '1.2.1', '', '', "
                f"'in/{study}', 'sha', 9, 'X', 2)"
            )
            tx.exec_driver_sql(
                f"INSERT INTO revisions VALUES ('c{study}', 1, '{state}', 1, '', 2, 2, '', NULL)"
            )
    migrate(store)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    (due,) = store.deliveries_due()
    assert (due.tries, due.started_at, due.failures) == (3, 1799999000.0, 0)
    assert [f.file.sop_uid for f in store.unproven(due)] == ["2.25.1"]
    started = store.sending(due)
    assert started is not None
    store.delivered(started)
    assert state_of(store, due.key) is State.DONE
    (queued_before,) = store.revisions_in(State.QUEUED)
    store.start(queued_before.key)
    store.encoded(queued_before.key, [], "", "digest", [])
    assert receive(store, "1.8", patient_id="P1.8", sop_uid="1.8.99") is Outcome.NEW
    (receiving,) = store.revisions_in(State.RECEIVING)
    store.complete(receiving.key, "quiet")
    assert len(store.members(receiving.key)) == 2
    store.close()


def test_an_answer_that_comes_while_the_try_is_still_running_is_not_slept_over(
    store: Store, clock: Clock
) -> None:
    """The listener records the report after the worker looked, and before it went to wait."""
    delivering(store, "A")
    started = store.sending(store.deliveries_due()[0])
    assert started is not None
    for file in store.to_send(started):
        store.take(started, file.path, "0000")
    store.ask_commitment("1.2.9", started)
    assert store.commitment_answered("1.2.9", ["2.25.1", "2.25.2"], {})
    store.await_proof(started, "waits", clock.now + 3600, "1.2.9")
    assert [d.delivery_id for d in store.deliveries_due()] == [started.delivery_id]


def test_a_report_of_something_missing_that_crosses_the_last_proof_is_not_lost(store: Store) -> None:
    """DELIVERED only if nothing was found missing since the try began."""
    key = delivering(store, "A")
    started = store.sending(store.deliveries_due()[0])
    assert started is not None
    for file in store.to_send(started):
        store.take(started, file.path, "0000")
    store.ask_commitment("1.2.9", started)
    store.commitment_answered("1.2.9", ["2.25.1"], {"2.25.2": "no such object (0112)"})
    assert not store.delivered(started)
    assert state_of(store, key) is State.DELIVERING
    (again,) = store.deliveries_due()
    assert (again.state, again.reason) == (DeliveryState.PROVING, "1 objects: no such object (0112)")
    assert [f.sop_uid for f in store.to_send(again)] == ["2.25.2"]


def test_a_transaction_is_known_before_it_is_asked_and_only_then(store: Store) -> None:
    delivering(store, "A")
    assert not store.commitment_answered("1.2.9", [], {})
    store.ask_commitment("1.2.9", store.deliveries_due()[0])
    assert not store.is_answered("1.2.9")
    assert store.commitment_answered("1.2.9", [], {})
    assert store.is_answered("1.2.9")


def test_a_question_that_may_not_have_arrived_is_put_afresh_and_its_answer_still_counts(store: Store) -> None:
    delivering(store, "A")
    (delivery,) = store.deliveries_due()
    store.ask_commitment("1.2.9", delivery)
    store.lapse_transaction("1.2.9")
    assert store.last_transaction(delivery) is None
    store.take(delivery, store.to_send(delivery)[0].path, "0000")
    assert store.commitment_answered("1.2.9", ["2.25.1"], {})
    assert store.unproven(delivery) == []


# Watch folders


def test_a_nifti_case_is_queued_whole_and_known_by_its_folder(store: Store) -> None:
    key = store.open_nifti_case("/w/processing/S1", "S1")
    revision = store.revision(key)
    assert (revision.state, revision.nifti_folder) == (State.QUEUED, "/w/processing/S1")
    assert store.open_folders() == {"/w/processing/S1": [key]}


def test_a_folder_is_complete_without_waiting(store: Store) -> None:
    receive(store)
    (key,) = store.complete_dicom_folder("/w/processing/S1", ["1.1"])
    assert state_of(store, key) is State.QUEUED
    assert store.revision(key).nifti_folder is None


def test_one_patients_studies_in_one_folder_are_one_case(store: Store, clock: Clock) -> None:
    """A person put them together; nothing in their attributes needs to pair them."""
    receive(store, "1.1")
    clock.now += 1
    receive(store, "1.2")
    (key,) = store.complete_dicom_folder("/w/processing/S1", ["1.1", "1.2"])
    assert sorted(store.studies_of(key.case)) == ["1.1", "1.2"]
    assert len(store.members(key)) == 2


def test_two_patients_in_one_folder_stay_two_cases(store: Store, clock: Clock) -> None:
    receive(store, "1.1")
    clock.now += 1
    receive(store, "1.2", patient_id="P2")
    keys = store.complete_dicom_folder("/w/processing/S1", ["1.1", "1.2"])
    assert len({k.case for k in keys}) == 2
    assert sorted(store.open_folders()["/w/processing/S1"]) == sorted(keys)


def test_a_folder_with_an_unknown_study_is_refused_whole(store: Store) -> None:
    receive(store)
    with pytest.raises(UnsuitableInput, match=r"7\.7"):
        store.complete_dicom_folder("/w/processing/S1", ["1.1", "7.7"])
    assert store.open_folders() == {}
    assert only_revision(store, State.RECEIVING)


def test_a_folder_follows_the_revision_that_takes_its_place(store: Store) -> None:
    receive(store)
    (key,) = store.complete_dicom_folder("/w/processing/S1", ["1.1"])
    receive(store)
    assert store.open_folders() == {"/w/processing/S1": [CaseKey(key.case, 2)]}


def test_a_finished_folder_comes_back_when_its_revision_is_retried(store: Store, clock: Clock) -> None:
    key = store.open_nifti_case("/w/processing/S1", "S1")
    store.start(key)
    store.fail(key, "no map")
    clock.now += 1
    store.finish_folder("/w/processing/S1", "/w/failed/S1")
    assert store.open_folders() == {}
    clock.now += 1
    store.retry(key, "again")
    assert store.open_folders() == {"/w/failed/S1": [key]}
    assert store.revision(key).nifti_folder == "/w/failed/S1"


def test_a_namesake_dropped_later_takes_the_name(store: Store) -> None:
    receive(store)
    store.complete_dicom_folder("/w/processing/S1", ["1.1"])
    store.finish_folder("/w/processing/S1", "/w/done/S1")
    store.complete_dicom_folder("/w/processing/S1", ["1.1"])
    store.finish_folder("/w/processing/S1", "/w/done/S1")
    assert store.open_folders() == {}


# Retention


def test_retention_takes_only_what_is_done_and_old(store: Store, clock: Clock) -> None:
    key = delivering(store)
    clock.now += 100
    assert store.removable(Ended(clock.now - 200)) == []
    assert store.removable(Ended(clock.now - 50)) == [key.case]
    receive(store)
    assert store.removable(Ended(clock.now + 50)) == []


@pytest.mark.parametrize(
    ("newer", "order", "removable"),
    [
        (State.DONE, "failed first", True),
        (State.DONE, "failed last", True),
        (State.IGNORED, "failed first", True),
        (State.IGNORED, "failed last", False),  # it may rest on results that could not be delivered since
        (State.FAILED, "failed first", False),
    ],
)
def test_what_failed_before_a_newer_revision_ended_well_holds_up_no_retention(
    store: Store, clock: Clock, newer: State, order: str, removable: bool
) -> None:
    """Late instances made the newer one: a person's verbs reach no other."""
    older = queued(store)
    store.start(older)
    if order == "failed first":
        store.fail(older, "a slice is missing")
    clock.now += 1
    receive(store)
    key = only_revision(store, State.RECEIVING)
    assert key == CaseKey(older.case, 2)
    store.complete(key, "test")
    store.start(key)
    if newer is State.DONE:
        store.encoded(key, [], "out/report.json", "digest", [])
    elif newer is State.IGNORED:
        store.ignore(key, "not used")
    else:
        store.fail(key, "a slice is missing still")
    clock.now += 1
    if order == "failed last":
        store.fail(older, "could not be delivered")
    clock.now += 1
    state = State.DONE if newer is State.DONE else State.IGNORED
    assert store.removable(Ended(clock.now, state)) == [key.case] * removable


def test_what_came_or_was_retried_since_it_was_listed_is_not_forgotten(store: Store, clock: Clock) -> None:
    key = delivering(store)
    clock.now += 100
    ended = Ended(clock.now)
    assert store.removable(ended) == [key.case]
    receive(store)
    removed: list[str] = []
    assert store.forget_files(key.case, removed.extend, ended) is None
    assert removed == []
    assert store.count_instances() == 2


def test_what_retention_takes_leaves_its_record(store: Store) -> None:
    key = delivering(store)
    removed: list[str] = []
    assert store.forget_files(key.case, removed.extend) == 1
    assert removed[0].startswith("in/")
    assert store.count_instances() == 0
    assert len(store.members(key)) == 1
    assert len(store.history(key.case)) == 5


def test_a_delivery_put_off_by_a_clock_that_was_hours_ahead_is_due_once_it_is_right(
    store: Store, clock: Clock
) -> None:
    """Its own next try, and the probe of its destination: neither waits until it is that late again."""
    delivering(store, "PACS")
    clock.now += 7200
    (due,) = store.deliveries_due()
    sending = store.sending(due)
    assert sending is not None
    for _ in range(3):
        store.destination_failed("PACS", "nobody there", 3, 60.0)
    store.wait(sending, "nobody there", clock.now + 10)
    clock.now -= 7200
    assert store.deliveries_due() == []
    assert store.set_right() > 0
    (due,) = store.deliveries_due()
    assert store.standing("PACS").lets_pass(clock.now)
    assert store.set_right() == 0
    clock.now += 1
    assert (store.sending(due) or due).started_at <= clock.now  # else it would be tried for hours longer


def test_a_circuit_opened_by_a_clock_that_was_ahead_is_probed_once_it_is_right(
    store: Store, clock: Clock
) -> None:
    """No delivery of its own waits any more that could tell."""
    clock.now += 7200
    for _ in range(3):
        store.destination_failed("PACS", "nobody there", 3, 60.0)
    clock.now -= 7200
    assert not store.standing("PACS").lets_pass(clock.now)
    assert store.set_right() > 0
    assert store.standing("PACS").lets_pass(clock.now)
    assert store.set_right() == 0


def test_a_question_for_commitment_of_a_clock_that_was_ahead_is_put_again_in_time(
    store: Store, clock: Clock
) -> None:
    delivering(store, "PACS")
    (due,) = store.deliveries_due()
    clock.now += 7200
    store.ask_commitment("2.25.7", due)
    clock.now -= 7200
    assert store.set_right() == 1
    asked = store.last_transaction(due)
    assert asked is not None and asked.asked_at == clock.now
    assert store.set_right() == 0


def test_an_answer_taken_by_a_clock_that_was_ahead_puts_off_no_further_question(
    store: Store, clock: Clock
) -> None:
    delivering(store, "PACS")
    (due,) = store.deliveries_due()
    sending = store.sending(due)
    assert sending is not None
    for object_ in store.to_send(sending):
        store.take(sending, object_.path, "0000")
    store.ask_commitment("2.25.7", sending)
    store.await_proof(sending, "waits for commitment", clock.now + 60, "2.25.7")
    clock.now += 7200
    assert store.commitment_answered("2.25.7", ["2.25.1"], {})  # of the other object it says nothing
    clock.now -= 7200 - 61
    assert store.deliveries_due() == []
    assert store.set_right() > 0
    assert len(store.deliveries_due()) == 1


def test_an_answer_that_a_peer_waits_for_is_due_once_the_clock_is_right(store: Store, clock: Clock) -> None:
    """Asked while it was ahead; and asked before, but put off while it was."""
    store.request_commitment("PACS", "2.25.1", [("1.2", "1.2.3")], clock.now + 20)
    clock.now += 7200
    store.request_commitment("PACS", "2.25.2", [("1.2", "1.2.3")], clock.now + 20)
    early = next(r for r in store.commitments_due() if r.transaction_uid == "2.25.1")
    store.commitment_waits(early, "nobody there", clock.now + 30)
    clock.now -= 7200
    assert store.commitments_due() == []
    assert store.set_right() == 2
    assert {r.transaction_uid for r in store.commitments_due()} == {"2.25.1", "2.25.2"}
    assert all(r.asked_at <= clock.now for r in store.commitments_due())
    assert store.set_right() == 0


def test_an_answer_put_off_by_a_clock_that_is_right_stays_put_off(store: Store, clock: Clock) -> None:
    store.request_commitment("PACS", "2.25.1", [("1.2", "1.2.3")], clock.now + 3600)
    assert store.set_right() == 0
    assert store.commitments_due() == []


def test_a_procedure_step_and_an_archive_s_answer_of_a_clock_that_was_ahead_hold_up_nobody(
    store: Store, clock: Clock
) -> None:
    receive(store)
    case = only_revision(store, State.RECEIVING).case
    clock.now += 7200
    store.create_step("2.25.5", "RIS", {"1.1"}, {})
    store.inquired(case, "counts", json.dumps({"same_since": clock.now}), 2)
    clock.now -= 7200
    assert store.set_right() == 2
    assert [s.since for s in store.steps_of(case)] == [clock.now]
    assert store.inquiry(case, "counts") is None  # asked afresh
    assert store.set_right() == 0


def test_what_ended_while_the_clock_was_ahead_is_not_kept_the_longer(store: Store, clock: Clock) -> None:
    clock.now += 10 * 365 * 86400
    key = delivering(store)
    clock.now -= 10 * 365 * 86400
    assert store.set_right() > 0
    clock.now += 100
    assert store.removable(Ended(clock.now)) == [key.case]


def test_clocks_of_several_machines_may_differ_a_little(store: Store, clock: Clock) -> None:
    receive(store)
    clock.now -= 30
    assert store.set_right() == 0


def test_an_older_versions_schema_can_be_gone_back_to_and_what_it_knew_is_kept(store: Store) -> None:
    store.record(an_instance("1.1"))
    before = [(e.number, e.digest) for e in store.ledger()]
    go_back(store, "0005")
    assert not is_current(store)
    migrate(store)
    assert [(e.number, e.digest) for e in store.ledger()] == before
    with pytest.raises(UnsuitableInput, match="no schema '9999'"):
        go_back(store, "9999")
