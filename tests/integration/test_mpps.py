"""The procedure step SCP against pynetdicom as a scanner or a RIS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import MRImageStorage, RTDoseStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityPerformedProcedureStep

from dicom_node.association import BOUNDED
from dicom_node.config import GatherRules, NodeRules
from dicom_node.demo import free_port
from dicom_node.evidence import Step, StepStatus
from dicom_node.gather import gather_once
from dicom_node.intake import Intake
from dicom_node.listener import Listener
from dicom_node.study import State
from tests.doors import STUDY, incoming, open_intake

STEP = "1.2.826.0.1.3680043.8.498.77.900"
SERIES = f"{STUDY}.1"


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return open_intake(tmp_path)


@pytest.fixture
def scanner(intake: Intake) -> Iterator[Association]:
    port = free_port()
    listener = Listener(NodeRules(port=port), intake)
    listener.start()
    ae = AE("SCANNER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", port, ae_title="MRSISR", evt_handlers=[BOUNDED])
    assert association.is_established
    yield association
    association.release()
    listener.stop(drain_s=2)


def begun(study: str = STUDY, status: str = "IN PROGRESS") -> Dataset:
    """The attributes of an N-CREATE, as PS3.4 Table F.7.2-1 wants them."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID = study
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = Sequence([scheduled])
    ds.PerformedProcedureStepID = "P1"
    ds.PerformedStationAETitle = "SCANNER"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20260105", "100000"
    ds.PerformedProcedureStepStatus = status
    ds.Modality = "MR"
    ds.PatientName, ds.PatientID = "Nobody^Here", "P1"
    ds.PerformedSeriesSequence = Sequence()
    return ds


def ended(*sop_uids: str, status: str = "COMPLETED", sop_class: str = MRImageStorage) -> Dataset:
    references = []
    for uid in sop_uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        references.append(item)
    series = Dataset()
    series.SeriesInstanceUID = SERIES
    series.ReferencedImageSequence = Sequence(references)
    series.ReferencedNonImageCompositeSOPInstanceSequence = Sequence()
    ds = Dataset()
    ds.PerformedProcedureStepStatus = status
    ds.PerformedProcedureStepEndDate, ds.PerformedProcedureStepEndTime = "20260105", "110000"
    ds.PerformedSeriesSequence = Sequence([series])
    return ds


def create(scanner: Association, ds: Dataset, uid: str = STEP) -> Dataset:
    status, _ = scanner.send_n_create(ds, ModalityPerformedProcedureStep, uid)
    return status


def update(scanner: Association, ds: Dataset, uid: str = STEP) -> Dataset:
    status, _ = scanner.send_n_set(ds, ModalityPerformedProcedureStep, uid)
    return status


def step_of(intake: Intake) -> Step:
    intake.accept(incoming(99), source="SCANNER")
    (case,) = intake.store.status()["cases"]
    (step,) = intake.store.steps_of(case["case"])
    return step


def test_a_step_is_created_updated_and_ended(scanner: Association, intake: Intake) -> None:
    assert create(scanner, begun()).Status == 0x0000
    assert step_of(intake).status is StepStatus.IN_PROGRESS
    assert update(scanner, ended("1.1", "1.2")).Status == 0x0000
    step = step_of(intake)
    assert step.status is StepStatus.COMPLETED
    assert step.named == {SERIES: frozenset({"1.1", "1.2"})}


def test_a_completed_step_queues_its_study_when_all_it_names_is_here_and_not_before(
    scanner: Association, intake: Intake
) -> None:
    rules = GatherRules(quiet_period_s=0)
    first, second = (intake.accept(incoming(n), source="SCANNER") for n in (1, 2))
    create(scanner, begun())
    assert gather_once(intake.store, rules) == 0
    update(scanner, ended(first.sop_uid, second.sop_uid, f"{SERIES}.3"))
    assert gather_once(intake.store, rules) == 0
    (waiting,) = intake.store.revisions_in(State.RECEIVING)
    assert "1 of 3 instances" in waiting.awaited
    intake.accept(incoming(3), source="SCANNER")
    assert gather_once(intake.store, GatherRules(quiet_period_s=3600)) == 1


def test_the_same_step_created_again_is_a_duplicate_and_changes_nothing(
    scanner: Association, intake: Intake
) -> None:
    create(scanner, begun())
    update(scanner, ended("1.1"))
    assert create(scanner, begun()).Status == 0x0111
    assert step_of(intake).status is StepStatus.COMPLETED


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_a_final_step_may_no_longer_be_updated(scanner: Association, intake: Intake, final: str) -> None:
    create(scanner, begun())
    update(scanner, ended("1.1", status=final))
    answer = update(scanner, ended("1.1", "1.2"))
    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
    assert "may no longer be updated" in answer.ErrorComment
    assert step_of(intake).named == {SERIES: frozenset({"1.1"})}


def test_a_step_that_was_never_created_cannot_be_set(scanner: Association) -> None:
    assert update(scanner, ended("1.1")).Status == 0x0112


def test_a_step_that_does_not_begin_in_progress_is_refused(scanner: Association) -> None:
    assert create(scanner, begun(status="COMPLETED")).Status == 0x0106
    without = begun()
    del without.PerformedProcedureStepStatus
    assert create(scanner, without).Status == 0x0120


def test_a_status_that_is_none_is_refused(scanner: Association) -> None:
    create(scanner, begun())
    assert update(scanner, ended("1.1", status="READY")).Status == 0x0106


def test_why_a_step_was_discontinued_is_kept(scanner: Association, intake: Intake) -> None:
    create(scanner, begun())
    ds = ended(status="DISCONTINUED")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "110513", "DCM", "Patient moved"
    ds.PerformedProcedureStepDiscontinuationReasonCodeSequence = Sequence([code])
    assert update(scanner, ds).Status == 0x0000
    assert step_of(intake).reason == "Patient moved"


def test_an_update_without_references_leaves_those_that_were_said(
    scanner: Association, intake: Intake
) -> None:
    create(scanner, begun())
    update(scanner, ended("1.1", status="IN PROGRESS"))
    only_status = Dataset()
    only_status.PerformedProcedureStepStatus = "COMPLETED"
    assert update(scanner, only_status).Status == 0x0000
    assert step_of(intake).named == {SERIES: frozenset({"1.1"})}


def test_a_step_forwarded_before_its_study_and_with_another_s_uid_is_found_by_its_series(
    scanner: Association, intake: Intake
) -> None:
    create(scanner, begun(study="1.2.3.4"))
    update(scanner, ended("1.1"))
    assert step_of(intake).status is StepStatus.COMPLETED


def test_what_the_node_cannot_take_is_not_awaited(scanner: Association, intake: Intake) -> None:
    create(scanner, begun())
    update(scanner, ended("1.1", sop_class=RTDoseStorage))
    assert step_of(intake).named == {}
