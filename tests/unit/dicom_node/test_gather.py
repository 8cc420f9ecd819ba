"""When a case is complete, and which studies belong together."""

from __future__ import annotations

import pytest
from pydicom import DataElement

from dicom_node import gather
from dicom_node.config import GatherRules
from dicom_node.evidence import StepStatus
from dicom_node.gather import Gatherer, gather_once
from dicom_node.intake import Incoming
from dicom_node.study import State
from tests import builders
from tests.doors import OTHER_STUDY, STUDY, as_file, mr_slice

RULES = GatherRules(quiet_period_s=60)


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


def test_a_clock_that_was_hours_ahead_and_jumps_back_holds_up_no_study(intake, clock):
    clock.now += 7200
    arrive(intake, mr_slice(1))
    clock.now -= 7200
    assert gather_once(intake.store, RULES) == 0
    clock.now += 61
    assert gather_once(intake.store, RULES) == 1


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


def an_odd_and_a_healthy_study(intake):
    odd = mr_slice(1)
    odd["SliceThickness"] = DataElement("SliceThickness", "LO", "5,0")
    odd["SliceThickness"].VR = "DS"  # a decimal comma, as some hosts write it
    other = {"StudyInstanceUID": OTHER_STUDY, "SeriesInstanceUID": f"{OTHER_STUDY}.1", "PatientID": "P2"}
    arrive(intake, odd, mr_slice(2, **other))


def test_a_study_with_a_number_that_is_none_is_queued_like_any_other(intake, clock):
    an_odd_and_a_healthy_study(intake)
    clock.now += 61
    assert gather_once(intake.store, RULES) == 2


def test_a_study_that_cannot_be_judged_stops_no_other_and_is_judged_again(intake, clock, monkeypatch):
    an_odd_and_a_healthy_study(intake)
    clock.now += 61
    whole, asked = gather.header_of, []

    def broken(facts):
        if "SliceThickness" in facts:
            asked.append(clock.now)
            raise ValueError("5,0")
        return whole(facts)

    monkeypatch.setattr(gather, "header_of", broken)
    gatherer = Gatherer(intake.store, RULES)
    assert gatherer.once() == 1
    assert gatherer.once() == 0
    assert len(asked) == 1  # neither at every turn: the log would be full of it
    (left,) = intake.store.revisions_in(State.RECEIVING)
    assert intake.store.studies_of(left.key.case) == [STUDY]
    monkeypatch.undo()
    clock.now += 31
    assert gatherer.once() == 1


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


# Evidence: what the store keeps is what is judged.


def named(*slices):
    return {str(ds.SOPInstanceUID): str(ds.SeriesInstanceUID) for ds in slices}


def complete_step(store, *slices, status=StepStatus.COMPLETED):
    store.create_step("1.9.1", "SCANNER", {STUDY}, {})
    if status is not StepStatus.IN_PROGRESS:
        store.update_step("1.9.1", status, "", named(*slices))


def test_a_completed_procedure_step_queues_a_study_without_the_quiet_period(intake):
    slices = [mr_slice(n) for n in (1, 2)]
    arrive(intake, *slices)
    complete_step(intake.store, *slices)
    assert gather_once(intake.store, RULES) == 1
    (revision,) = intake.store.revisions_in(State.QUEUED)
    assert "performed procedure step" in revision.reason


def test_what_is_awaited_and_until_when_is_kept_for_all_to_see(intake, clock):
    arrive(intake, mr_slice(1, ImagesInAcquisition=2))
    clock.now += 61
    assert gather_once(intake.store, RULES) == 0
    (case,) = intake.store.status()["cases"]
    assert case["revisions"][0]["awaited"] == f"1 of 2 images of series …{f'{STUDY}.1'[-12:]}"
    assert case["revisions"][0]["awaited_until"] == clock.now - 61 + RULES.longest_wait_s


def test_what_never_came_is_told_when_the_limit_is_reached_and_late_instances_are_a_revision(intake, clock):
    """A step names an instance that comes after the revision was queued by limit."""
    slices = [mr_slice(n) for n in (1, 2)]
    arrive(intake, slices[0])
    complete_step(intake.store, *slices)
    clock.now += RULES.longest_wait_s
    assert gather_once(intake.store, RULES) == 1
    (first,) = intake.store.revisions_in(State.QUEUED)
    assert "1 of 2 instances" in first.reason
    intake.store.start(first.key)
    arrive(intake, slices[1])
    assert gather_once(intake.store, RULES) == 1  # now all is here: no quiet period
    (second,) = intake.store.revisions_in(State.QUEUED)
    assert (second.key.case, second.key.revision) == (first.key.case, 2)
    assert len(intake.store.members(first.key)) == 1
    assert len(intake.store.members(second.key)) == 2


def test_an_incomplete_study_is_held_at_the_limit_where_the_site_wants_it(intake, clock):
    arrive(intake, mr_slice(1, ImagesInAcquisition=2))
    clock.now += RULES.longest_wait_s
    assert gather_once(intake.store, RULES.model_copy(update={"when_incomplete": "hold"})) == 0
    (revision,) = intake.store.revisions_in(State.HELD)
    assert "1 of 2 images" in revision.reason
    intake.store.release(STUDY, "go on without")
    assert len(intake.store.members(revision.key)) == 1


def test_a_procedure_step_that_came_before_its_study_counts(intake, clock):
    complete_step(intake.store, status=StepStatus.IN_PROGRESS)
    arrive(intake, mr_slice(1))
    clock.now += 61
    assert gather_once(intake.store, RULES) == 0


def test_a_step_of_another_study_does_not_matter(intake, clock):
    intake.store.create_step("1.9.1", "SCANNER", {OTHER_STUDY}, {})
    arrive(intake, mr_slice(1))
    clock.now += 61
    assert gather_once(intake.store, RULES) == 1


def test_a_procedure_step_is_forgotten_after_its_time_and_not_before(intake, clock):
    arrive(intake, mr_slice(1))
    complete_step(intake.store, mr_slice(1))
    (revision,) = intake.store.revisions_in(State.RECEIVING)
    assert intake.store.forget_steps(before=clock.now) == 0
    assert intake.store.forget_steps(before=clock.now + 1) == 1
    assert intake.store.steps_of(revision.key.case) == []


def test_a_gatherer_that_remembers_sees_a_new_instance_and_a_new_procedure_step(intake, clock):
    gatherer = Gatherer(intake.store, RULES)
    slices = [mr_slice(n) for n in (1, 2)]
    arrive(intake, slices[0])
    assert gatherer.once() == 0
    clock.now += 1
    arrive(intake, slices[1])
    assert gatherer.once() == 0
    clock.now += 1
    complete_step(intake.store, *slices)
    assert gatherer.once() == 1


def test_maps_without_anatomy_wait_and_then_go_on_without_it(intake, clock):
    for ds in builders.study():
        if str(ds.SeriesDescription).startswith("LCM"):
            intake.accept(Incoming(as_file(ds)), source="HOST")
    clock.now += 61
    assert gather_once(intake.store, RULES) == 0
    (revision,) = intake.store.revisions_in(State.RECEIVING)
    assert revision.awaited == "anatomy (T1 or FLAIR)"
    clock.now += RULES.recipe_wait_s
    assert gather_once(intake.store, RULES) == 1
    (revision,) = intake.store.revisions_in(State.QUEUED)
    assert "goes on without anatomy" in revision.reason


# Studies of one patient, apart in time


@pytest.mark.parametrize(
    ("dates", "joined"),
    [
        (("20260101", "20260115"), True),
        (("20260101", "20260301"), False),
        (("20260101", ""), True),  # one not stated: they came within a second
    ],
)
def test_studies_of_one_patient_and_frame_are_joined_only_within_the_days_configured(
    intake, clock, dates, joined
):
    arrive(intake, mr_slice(1, StudyDate=dates[0]))
    clock.now += 1
    other = {"StudyInstanceUID": OTHER_STUDY, "SeriesInstanceUID": f"{OTHER_STUDY}.1"}
    arrive(intake, mr_slice(2, StudyDate=dates[1], **other))
    clock.now += 121
    gather_once(intake.store, GatherRules(pair_within_days=30))
    gather_once(intake.store, GatherRules(pair_within_days=30, quiet_period_s=1000))
    cases = intake.store.status()["cases"]
    assert sorted(len(c["studies"]) for c in cases) == ([0, 2] if joined else [1, 1])


def test_the_same_name_pairs_nothing(intake, clock):
    arrive(intake, mr_slice(1, PatientName="Doe^Jane", AccessionNumber="7"))
    clock.now += 1
    other = {"StudyInstanceUID": OTHER_STUDY, "SeriesInstanceUID": f"{OTHER_STUDY}.1", "PatientID": "P2"}
    arrive(intake, mr_slice(2, PatientName="Doe^Jane", AccessionNumber="7", **other))
    rules = GatherRules(pair_by=["frame_of_reference", "accession_number"])
    gather_once(intake.store, rules)
    assert [len(c["studies"]) for c in intake.store.status()["cases"]] == [1, 1]


def test_spectra_wait_for_no_maps_where_they_become_maps_here(intake, clock):
    """With a [quantify] command spectra and anatomy are all that it takes."""
    rules = GatherRules(quiet_period_s=60, recipe_wait_s=600)
    arrive(intake, *builders.mrs_object(builders.usual()), *builders.series(builders.usual(), "MPRAGE"))
    clock.now += 61
    assert Gatherer(intake.store, rules).once() == 0
    assert Gatherer(intake.store, rules, quantifies=True).once() == 1
