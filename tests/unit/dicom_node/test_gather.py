"""When a case is complete, and which studies belong together."""

from __future__ import annotations

import pytest

from dicom_node.config import GatherRules
from dicom_node.gather import gather_once
from dicom_node.intake import Incoming
from dicom_node.study import State
from tests.doors import OTHER_STUDY, Clock, as_file, mr_slice, open_intake

RULES = GatherRules(quiet_period_s=60)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def intake(tmp_path, clock):
    return open_intake(tmp_path, clock=clock)


def arrive(intake, *slices):
    for ds in slices:
        intake.accept(Incoming(as_file(ds)), source="SCANNER")


def test_a_case_is_queued_when_nothing_came_for_the_quiet_period(intake, clock):
    arrive(intake, mr_slice(1))
    clock.now += 59
    assert gather_once(intake.store, RULES) == 0
    arrive(intake, mr_slice(2))
    clock.now += 59
    assert gather_once(intake.store, RULES) == 0
    clock.now += 2
    assert gather_once(intake.store, RULES) == 1
    (revision,) = intake.store.revisions_in(State.QUEUED)
    assert len(intake.store.members(revision.key)) == 2
    assert gather_once(intake.store, RULES) == 0


def test_a_revision_keeps_the_members_it_was_queued_with(intake, clock):
    arrive(intake, mr_slice(1))
    clock.now += 61
    gather_once(intake.store, RULES)
    (first,) = intake.store.revisions_in(State.QUEUED)
    intake.store.start(first.key)
    arrive(intake, mr_slice(2))
    assert [m.sop_uid[-1] for m in intake.store.members(first.key)] == ["1"]
    clock.now += 61
    gather_once(intake.store, RULES)
    (second,) = intake.store.revisions_in(State.QUEUED)
    assert (second.key.case, second.key.revision) == (first.key.case, 2)
    assert len(intake.store.members(second.key)) == 2


def test_a_revision_not_yet_started_is_superseded_by_a_late_instance(intake, clock):
    arrive(intake, mr_slice(1))
    clock.now += 61
    gather_once(intake.store, RULES)
    arrive(intake, mr_slice(2))
    (old,) = intake.store.revisions_in(State.IGNORED)
    assert "revision 2 follows" in old.reason


def test_studies_of_one_patient_and_frame_of_reference_become_one_case(intake, clock):
    arrive(intake, mr_slice(1))
    clock.now += 1
    arrive(intake, mr_slice(2, StudyInstanceUID=OTHER_STUDY, SeriesInstanceUID=f"{OTHER_STUDY}.1"))
    clock.now += 61
    assert gather_once(intake.store, RULES) == 0  # joined now: the older case waits once more
    clock.now += 61
    assert gather_once(intake.store, RULES) == 1
    (revision,) = intake.store.revisions_in(State.QUEUED)
    assert len(intake.store.studies_of(revision.key.case)) == 2
    assert len(intake.store.members(revision.key)) == 2


@pytest.mark.parametrize("other", [{"PatientID": "P2"}, {"FrameOfReferenceUID": "1.2.3.4"}])
def test_another_patient_or_another_frame_is_another_case(intake, clock, other):
    arrive(intake, mr_slice(1))
    clock.now += 1
    arrive(intake, mr_slice(2, StudyInstanceUID=OTHER_STUDY, SeriesInstanceUID=f"{OTHER_STUDY}.1", **other))
    clock.now += 61
    assert gather_once(intake.store, RULES) == 2


def test_an_empty_patient_id_pairs_nothing(intake, clock):
    arrive(intake, mr_slice(1, PatientID=""))
    clock.now += 1
    arrive(
        intake, mr_slice(2, PatientID="", StudyInstanceUID=OTHER_STUDY, SeriesInstanceUID=f"{OTHER_STUDY}.1")
    )
    clock.now += 61
    assert gather_once(intake.store, RULES) == 2
