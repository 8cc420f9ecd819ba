"""Retention removes what ended well and is old; nothing else, ever."""

from __future__ import annotations

import os

import pytest
from pydicom.uid import RLELossless

from dicom_node.clean import clean_once
from dicom_node.config import GatherRules, IntakeRules, RetentionRules
from dicom_node.errors import Conflict
from dicom_node.gather import gather_once
from dicom_node.intake import Incoming, Intake
from dicom_node.store import Ended, Made
from dicom_node.study import Event, State
from tests.doors import as_file, compressed, mr_slice

RULES = RetentionRules(keep_days=30, keep_ignored_days=30)
DAY = 86400.0


def accept(intake, ds):
    intake.accept(Incoming(as_file(ds)), source="SCANNER")


def a_case_that_ended(intake, clock, state: State):
    accept(intake, mr_slice(1))
    clock.now += 100
    gather_once(intake.store, GatherRules(quiet_period_s=1))
    (revision,) = intake.store.revisions_in(State.QUEUED)
    key = revision.key
    intake.store.start(key)
    if state is State.FAILED:
        intake.store.fail(key, "broken")
    elif state is State.IGNORED:
        intake.store.ignore(key, "nothing here")
    elif state is State.DONE:
        folder = intake.spool.result_folder(key.case, key.revision, 1)
        (folder / "result").write_text("x")
        intake.store.encoded(key, [], "report.json", "digest", [])
    elif state is State.DELIVERING:
        intake.store.encoded(key, [], "report.json", "digest", ["PACS"])
    return key


def files_in(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


@pytest.mark.parametrize("state", [State.DONE, State.IGNORED])
def test_an_ended_case_leaves_the_spool_after_its_time_and_not_before(intake, clock, state):
    key = a_case_that_ended(intake, clock, state)
    clock.now += 29 * DAY
    assert clean_once(intake.store, intake.spool, RULES) == 0
    clock.now += 2 * DAY
    assert clean_once(intake.store, intake.spool, RULES) == 1
    assert not files_in(intake.spool.root / "in") and not files_in(intake.spool.root / "out")
    assert intake.store.revision(key).state is state  # the record stays
    assert clean_once(intake.store, intake.spool, RULES) == 0


def test_an_ignored_case_may_leave_sooner_than_a_delivered_one(intake, clock):
    a_case_that_ended(intake, clock, State.IGNORED)
    clock.now += 8 * DAY
    assert clean_once(intake.store, intake.spool, RetentionRules(keep_days=30)) == 1


@pytest.mark.parametrize("proof", ["", "query"])
def test_for_space_only_what_is_proven_goes_before_its_time(intake, clock, proof):
    store = intake.store
    key = a_case_that_ended(intake, clock, State.RESOLVING)
    store.encoded(key, [Made("out/a", "PM", "a", "2.25.1", "1.2", "0" * 64)], "out/r.json", "d", ["PACS"])
    (due,) = store.deliveries_due()
    started = store.sending(due, 60.0)
    store.take(started, "out/a", "0000")
    if proof:
        store.prove(due.delivery_id, ["2.25.1"], proof)
    store.delivered(started)
    clock.now += 60
    assert clean_once(store, intake.spool, RULES) == 0  # there is room
    everything = RULES.model_copy(update={"make_room_mb": 2**40})
    assert clean_once(store, intake.spool, everything) == (1 if proof else 0)


@pytest.mark.parametrize("state", [State.FAILED, State.DELIVERING, State.RESOLVING])
def test_what_is_unproven_or_failed_is_never_touched(intake, clock, state):
    a_case_that_ended(intake, clock, state)
    clock.now += 1000 * DAY
    assert clean_once(intake.store, intake.spool, RULES) == 0
    assert files_in(intake.spool.root / "in")


@pytest.mark.parametrize("what", ["an instance", "a retry"])
def test_a_case_that_something_happens_to_during_the_sweep_stays_as_it_is(intake, clock, monkeypatch, what):
    """The list is old when its turn comes: what was answered with Success meanwhile, or made, is not lost."""
    key = a_case_that_ended(intake, clock, State.DONE)
    clock.now += 31 * DAY
    listed = intake.store.removable

    def removable(ended):
        cases = listed(ended)
        if what == "an instance":
            accept(intake, mr_slice(2))
        elif intake.store.revision(key).state is State.DONE:
            intake.store.retry(key, "again")
        return cases

    monkeypatch.setattr(intake.store, "removable", removable)
    kept = 2 if what == "an instance" else 1
    assert clean_once(intake.store, intake.spool, RULES) == 0
    assert intake.store.count_instances() == len(files_in(intake.spool.root / "in")) == kept
    assert files_in(intake.spool.root / "out")


def test_results_go_before_anybody_else_may_write_new_ones(intake, clock, monkeypatch):
    """Once a retry can be recorded, its results are nobody's to remove."""
    a_case_that_ended(intake, clock, State.DONE)
    clock.now += 31 * DAY
    forget, left = intake.store.forget_files, []

    def and_look(*asked):
        files = forget(*asked)
        left.extend(files_in(intake.spool.root / "out"))
        return files

    monkeypatch.setattr(intake.store, "forget_files", and_look)
    assert clean_once(intake.store, intake.spool, RULES) == 1
    assert left == []


def test_what_comes_late_for_a_study_that_a_person_ignores_has_its_own_time(intake, clock):
    key = a_case_that_ended(intake, clock, State.FAILED)
    intake.store.advance(key, Event.IGNORED, "not for us")
    clock.now += 29 * DAY
    accept(intake, mr_slice(2))
    assert intake.store.revisions_in(State.RECEIVING) == []  # it joins what is ignored
    clock.now += 2 * DAY
    assert clean_once(intake.store, intake.spool, RULES) == 0
    clock.now += 29 * DAY
    assert clean_once(intake.store, intake.spool, RULES) == 2


def test_a_case_that_comes_again_after_its_time_is_taken_anew(intake, clock):
    key = a_case_that_ended(intake, clock, State.DONE)
    clock.now += 31 * DAY
    clean_once(intake.store, intake.spool, RULES)
    accept(intake, mr_slice(1))
    (revision,) = intake.store.revisions_in(State.RECEIVING)
    assert (revision.key.case, revision.key.revision) == (key.case, 2)
    assert files_in(intake.spool.root / "in")


def made_old(intake):
    for path in files_in(intake.spool.root / "in"):
        os.utime(path, (path.stat().st_mtime - 31 * DAY,) * 2)


def names(intake):
    return {str(p.relative_to(intake.spool.root)) for p in files_in(intake.spool.root / "in")}


def named(intake):
    return set(intake.store.paths_of([mr_slice(1).SOPInstanceUID]).values())


def test_a_copy_in_another_transfer_syntax_goes_by_its_age_and_what_is_named_stays(intake, clock):
    accept(intake, mr_slice(1))
    accept(intake, compressed(mr_slice(1), RLELossless))
    assert len(names(intake)) == 2
    assert clean_once(intake.store, intake.spool, RULES) == 0
    made_old(intake)
    assert clean_once(intake.store, intake.spool, RULES) == 1
    assert names(intake) == named(intake)


def test_what_a_correction_replaced_stays_as_long_as_a_revision_was_made_of_it(intake, clock):
    key = a_case_that_ended(intake, clock, State.DONE)
    (before,) = intake.store.members(key)
    accept(intake, mr_slice(1, StudyDescription="Head"))
    made_old(intake)
    assert clean_once(intake.store, intake.spool, RULES) == 0
    assert names(intake) == {before.path} | named(intake)
    (late,) = intake.store.revisions_in(State.RECEIVING)
    intake.store.advance(late.key, Event.IGNORED, "not for us")
    clock.now += 31 * DAY
    assert clean_once(intake.store, intake.spool, RULES) == 2
    assert names(intake) == set()


def test_of_what_was_refused_nothing_outlives_its_time_where_nothing_is_quarantined(intake):
    intake = Intake(intake.spool, intake.store, IntakeRules(quarantine=False))
    accept(intake, mr_slice(1))
    with pytest.raises(Conflict):
        accept(intake, mr_slice(1, pixels=1))
    made_old(intake)
    assert clean_once(intake.store, intake.spool, RULES) == 1
    assert names(intake) == named(intake)


def test_a_file_that_is_recorded_while_the_sweep_looks_for_its_row_stays(intake, monkeypatch):
    """It lay there without a row since a process was killed; now its sender comes again."""
    intake.spool.keep(as_file(mr_slice(1)))
    made_old(intake)
    looked = intake.store._unnamed

    def and_then_it_comes(tx, paths):
        unnamed = looked(tx, paths)
        if not intake.store.count_instances():
            accept(intake, mr_slice(1))
        return unnamed

    monkeypatch.setattr(intake.store, "_unnamed", and_then_it_comes)
    assert clean_once(intake.store, intake.spool, RULES) == 0
    assert names(intake) == named(intake)


def test_a_file_that_the_sweep_takes_before_its_row_is_written_is_kept_again(intake, monkeypatch):
    intake.spool.keep(as_file(mr_slice(1)))
    made_old(intake)
    record = intake.store.record

    def swept_before(*received):
        assert clean_once(intake.store, intake.spool, RULES) == 1
        return record(*received)

    monkeypatch.setattr(intake.store, "record", swept_before)
    accept(intake, mr_slice(1))
    assert names(intake) == named(intake)


def test_what_a_killed_process_left_half_written_is_swept_after_a_day(intake):
    left = intake.spool.root / "tmp" / "half"
    left.write_bytes(b"half")
    assert clean_once(intake.store, intake.spool, RULES) == 0
    os.utime(left, (left.stat().st_mtime - 2 * DAY,) * 2)
    assert clean_once(intake.store, intake.spool, RULES) == 1
    assert not left.exists()


def test_a_nifti_case_leaves_its_results_behind_too(intake, clock):
    key = intake.store.open_nifti_case("/w/processing/S1", "S1")
    intake.store.start(key)
    folder = intake.spool.result_folder(key.case, key.revision, 1)
    (folder / "result").write_text("x")
    intake.store.encoded(key, [], "out/report.json", "", [])
    clock.now += 31 * DAY
    clean_once(intake.store, intake.spool, RULES)
    assert not files_in(intake.spool.root / "out")
    assert intake.store.removable(Ended(clock.now)) == []
