"""What a person decides about results: their release, their withdrawal; and why there are none."""

from __future__ import annotations

import copy
import errno
import json
from typing import Any

import pydicom
import pytest
import structlog
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, KeyObjectSelectionDocumentStorage, ParametricMapStorage
from typer.testing import CliRunner

from dicom_node import custody, simulate, workflows
from dicom_node.cli import app
from dicom_node.config import DicomDestination, FolderDestination
from dicom_node.demo import LoopbackOrthanc
from dicom_node.encode.notes import REJECTED_FOR_SAFETY
from dicom_node.errors import TemporaryError, UnsuitableInput
from dicom_node.intake import Incoming, Intake
from dicom_node.rungs import Rung
from dicom_node.store import Revision
from dicom_node.study import AWAITS_RELEASE, DeliveryState, Purpose, State
from dicom_node.withdraw import Withdrawn, withdraw
from dicom_node.workflows import Worker
from tests import builders, phantom
from tests.doors import ROOT, as_file, mr_slice
from tests.harness import dciodvfy_errors, needs_orthanc
from tests.pacs import STORAGE, Pacs
from tests.results import Office, worked_on

STUDY = phantom.STUDY
NOBODY: dict[str, Any] = {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}


def withdrawn(office: Office, because: str = "motion", **rules: bool) -> Withdrawn:
    return withdraw(office.settings, office.store, office.spool, STUDY, by="Dr Roe", because=because, **rules)


def state_of(office: Office) -> dict:
    (case,) = office.store.status()["cases"]
    return case["revisions"][0]


# Release


def test_results_wait_at_one_destination_until_someone_releases_them(tmp_path):
    with Pacs() as pacs:
        folder = FolderDestination(name="results", folder=tmp_path / "results")
        office = Office(tmp_path, pacs.destination(wait_for_release=True), folder)
        uids = office.real_results()
        office.work()
        assert office.work() == []
        held = {d.destination: (d.state, d.reason) for d in office.deliveries()}
        assert held["PACS"] == (DeliveryState.HELD, AWAITS_RELEASE)
        assert held["results"][0] is DeliveryState.DELIVERED
        assert pacs.associations == 0

        with pytest.raises(UnsuitableInput, match="no results of"):
            office.store.release_results(STUDY, "results", "plausible")
        office.store.release_results(STUDY, "PACS", "released by Dr Roe: plausible")
        office.work()
        assert pacs.kept == set(uids.values())
        assert state_of(office)["state"] == State.DONE
        history = office.store.history(office.deliveries()[0].key.case)
        assert "released by Dr Roe: plausible" in [e["reason"] for e in history]


def test_results_that_newer_ones_overtook_before_their_release_are_never_sent(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination(wait_for_release=True))
        office.real_results()
        office.clock.now += 1
        office.receive(2)  # a late instance: revision 2
        (newer,) = (r.key for r in office.store.revisions_in(State.RECEIVING))
        office.store.complete(newer, "test")
        office.resolve(newer)
        office.store.release_results(STUDY, "PACS", "released by Dr Roe: plausible")
        while office.work():
            pass
        old, new = sorted(office.deliveries(), key=lambda d: d.key)
        assert (old.state, new.state) == (DeliveryState.CANCELLED, DeliveryState.DELIVERED)
        (case,) = office.store.status()["cases"]
        assert [r["state"] for r in case["revisions"]] == ["DONE", "DONE"]
        assert "superseded before its release" in case["revisions"][1]["reason"]


# Withdrawal


def test_a_withdrawal_reaches_everyone_who_has_the_results_and_nobody_else(tmp_path):
    """One PACS has all, one is down, one takes no notes; a folder keeps its files and gets a text."""
    with Pacs(*STORAGE, KeyObjectSelectionDocumentStorage) as pacs, Pacs() as no_notes:
        down = DicomDestination(name="DOWN", ae_title="DOWN", host="127.0.0.1", port=1)
        folder = FolderDestination(name="results", folder=tmp_path / "results")
        office = Office(tmp_path, pacs.destination(), no_notes.destination(name="OLD"), down, folder)
        uids = office.real_results()
        office.work()
        before = set((tmp_path / "results").rglob("*"))
        done = withdrawn(office, because="anatomy of another visit")
        assert done.objects == {"PACS": len(uids), "OLD": len(uids), "results": len(uids)}
        office.work()

        (note_uid,) = pacs.kept - set(uids.values())
        path = next((office.spool.root / "out").rglob("withdrawn-PACS-0.dcm"))
        note = pydicom.dcmread(path)
        assert note.SOPInstanceUID == note_uid
        assert dciodvfy_errors([path]) == []
        title = note.ConceptNameCodeSequence[0]
        assert (title.CodeValue, title.CodeMeaning) == ("113001", "Rejected for Quality Reasons")
        (study,) = note.CurrentRequestedProcedureEvidenceSequence
        named = {
            r.ReferencedSOPInstanceUID
            for s in study.ReferencedSeriesSequence
            for r in s.ReferencedSOPSequence
        }
        shown = {
            c.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for c in note.ContentSequence
            if c.ValueType in ("IMAGE", "COMPOSITE")
        }
        assert named == shown == set(uids.values())
        assert str(note.PatientName) == str(phantom.header().PatientName)

        states = {d.destination: d for d in office.deliveries() if d.purpose is Purpose.WITHDRAWAL}
        assert states["PACS"].state is states["results"].state is DeliveryState.DELIVERED
        assert states["OLD"].state is DeliveryState.FAILED
        assert "Key Object Selection" in states["OLD"].reason
        results = {d.destination: d.state for d in office.deliveries() if d.purpose is Purpose.RESULTS}
        assert results["DOWN"] is DeliveryState.CANCELLED and "DOWN" not in states
        added = set((tmp_path / "results").rglob("*")) - before
        assert len(added) == 1 and "anatomy of another visit" in added.pop().read_text()
        assert before <= set((tmp_path / "results").rglob("*"))

        revision = state_of(office)
        assert revision["state"] == State.FAILED and "OLD" in revision["reason"]  # a person must look
        assert revision["withdrawn"][0]["by"] == "Dr Roe"
        receipt = custody.receipt(office.store, STUDY)
        assert {e["subject"] for e in receipt["withdrawn"]} >= set(uids.values())
        assert custody.verify(office.store, office.spool).problems[1:] == ()

        with pytest.raises(UnsuitableInput, match=r"CANCELLED"):
            office.store.retry_delivery(f"{office.deliveries()[0].key.case}:1:1:DOWN")
        assert withdrawn(office).objects == {}


def test_what_nobody_has_is_withdrawn_without_a_note(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination(wait_for_release=True))
        office.real_results()
        done = withdrawn(office)
        assert done.objects == {} and done.deliveries == ()
        assert state_of(office)["state"] == State.DONE
        assert "nothing of it had been sent" in state_of(office)["reason"]
        with pytest.raises(UnsuitableInput):
            office.store.release_results(STUDY, "PACS", "released by Dr Roe: plausible")
        assert office.work() == [] and pacs.associations == 0


def test_nothing_is_withdrawn_while_it_is_being_sent(tmp_path):
    with Pacs() as pacs:
        office = Office(tmp_path, pacs.destination())
        office.real_results()
        office.store.sending(office.delivery())
        with pytest.raises(TemporaryError, match="try again"):
            withdrawn(office)
        assert state_of(office)["withdrawn"] == []


@pytest.mark.parametrize("answer", [0x0000, 0xA700])
def test_what_is_held_while_it_is_sent_is_withdrawn_once_its_try_has_ended(tmp_path, answer):
    """The note names every object that went, also those that went after the hold."""
    with Pacs(*STORAGE, KeyObjectSelectionDocumentStorage) as pacs:
        office = Office(tmp_path, pacs.destination())
        office.real_results()
        told = []

        def hold_and_withdraw(uid: str) -> int:
            if len(pacs.received) == 2:
                office.store.hold_delivery(office.delivery().delivery_id, "stop")
                try:
                    withdrawn(office)
                except TemporaryError as problem:
                    told.append(str(problem))
            return answer if len(pacs.received) == 3 else 0x0000

        pacs.store = hold_and_withdraw
        office.work()
        assert told == ["results are being sent to PACS at this moment: try again"]
        ended = DeliveryState.DELIVERED if answer == 0x0000 else DeliveryState.HELD
        assert office.delivery().state is ended
        there = set(pacs.kept)
        assert len(there) >= 2
        assert withdrawn(office).objects == {"PACS": len(there)}
        office.work()
        path = next((office.spool.root / "out").rglob("withdrawn-PACS-0.dcm"))
        note = pydicom.dcmread(path)
        assert note.SOPInstanceUID in pacs.kept
        named = {
            image.ReferencedSOPInstanceUID
            for study in note.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for image in series.ReferencedSOPSequence
        }
        assert named == there == pacs.kept - {note.SOPInstanceUID}


@needs_orthanc
def test_orthanc_takes_a_rejection_for_patient_safety_with_its_command(tmp_path):
    pacs = LoopbackOrthanc(tmp_path / "orthanc")
    pacs.start()
    try:
        where = DicomDestination(name="PACS", ae_title="ORTHANC", host="127.0.0.1", port=pacs.dicom_port)
        office = Office(tmp_path, where)
        uids = office.real_results()
        office.work()
        done = withdrawn(office, because="wrong patient", patient_safety=True)
        assert done.objects == {"PACS": len(uids)}
        office.work()
        assert state_of(office)["state"] == State.DONE
        (series,) = [s for s in pacs.get("/series?expand") if s["MainDicomTags"]["Modality"] == "KO"]
        tags = pacs.get(f"/instances/{series['Instances'][0]}/simplified-tags")
        assert tags["ConceptNameCodeSequence"][0]["CodeValue"] == REJECTED_FOR_SAFETY.value
        assert tags["StudyInstanceUID"] == STUDY
    finally:
        pacs.stop()


def test_the_command_line_releases_withdraws_and_shows_both(tmp_path):
    with Pacs(*STORAGE, KeyObjectSelectionDocumentStorage) as pacs:
        office = Office(tmp_path, pacs.destination(wait_for_release=True))
        uids = office.real_results()
        toml = tmp_path / "node.toml"
        toml.write_text(
            f'[storage]\nfolder = "{tmp_path}"\nlow_water_mb = 0\n[[destination]]\ntype = "dicom"\n'
            f'name = "PACS"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
            "wait_for_release = true\n"
        )

        def cli(*words: str) -> Any:
            done = CliRunner().invoke(app, [*words, "--config", str(toml)])
            structlog.reset_defaults()  # its events went to where it printed
            return done

        assert AWAITS_RELEASE in cli("status").stdout
        unsigned = cli("release", STUDY, "--destination", "PACS", "--because", "plausible")
        assert isinstance(unsigned.exception, UnsuitableInput) and "--by" in str(unsigned.exception)
        signed = ("--by", "Dr Roe", "--because", "plausible")
        assert "is released" in cli("release", STUDY, "--destination", "PACS", *signed).stdout
        office.work()
        said = cli("withdraw", STUDY, "--by", "Dr Roe", "--because", "motion").stdout
        assert f"{len(uids)} objects at PACS are rejected" in said
        office.work()
        shown = cli("status").stdout
        assert "by Dr Roe: motion" in shown and "of a note (withdrawal)" in shown
        assert len(pacs.kept) == len(uids) + 1

        office.store.refuse_form("PACS", Rung(ParametricMapStorage, "32-bit float"), "it answered C000")
        assert "refuses 32-bit float Parametric Map" in cli("destinations").stdout
        (row,) = json.loads(cli("destinations", "--json").stdout)
        assert (row["wait_for_release"], row["refuses"][0]["because"]) == (True, "it answered C000")


# No silence


def test_a_study_that_fails_says_so_once_in_its_own_study_and_only_where_that_is_asked_for(tmp_path):
    defect, words = builders.BROKEN["missing slice"]
    instances = defect(copy.deepcopy(builders.series(builders.usual(), "LCM tNAA conc")))
    with Pacs(BasicTextSRStorage) as pacs, Pacs() as silent:
        wanting = pacs.destination(explain_no_result=True)
        office = worked_on(tmp_path, instances, wanting, silent.destination(name="SILENT"))
        assert office.work_on().state is DeliveryState.DELIVERED
        assert silent.associations == 0
        (path,) = (office.spool.root / "out").rglob("no-result.dcm")
        report = pydicom.dcmread(path)
        assert pacs.kept == {report.SOPInstanceUID}
        assert report.StudyInstanceUID == instances[0].StudyInstanceUID
        assert (report.PatientID, str(report.PatientName)) == (
            instances[0].PatientID,
            instances[0].PatientName,
        )
        said = [c.TextValue for c in report.ContentSequence if c.ValueType == "TEXT"]
        assert words in said[-1]
        assert dciodvfy_errors([path]) == []
        revision = state_of(office)
        assert revision["state"] == State.FAILED and words in revision["reason"]

        key = office.delivery().key
        office.store.retry(key, "again")
        Worker(office.settings, office.store, office.spool).resolve(key)
        assert office.work() == [] and len(pacs.received) == 1  # once for the revision


def test_spectra_without_maps_are_explained_and_what_no_recipe_is_for_is_not(tmp_path):
    maps = builders.series(builders.usual(), "LCM tNAA conc")
    with Pacs(BasicTextSRStorage) as pacs:
        wanting = pacs.destination(explain_no_result=True)
        for name, due in (("raw spectra", 1), ("localizer", 0)):
            make, _ = builders.DECOYS[name]
            office = worked_on(tmp_path / name, make(maps), wanting)
            assert state_of(office)["state"] == State.IGNORED
            assert len(office.work()) == due


def test_a_study_that_is_given_up_is_explained_too_and_nothing_inside_the_node_is_described(tmp_path):
    """Its worker died at it too often: the page says what to do, the archive that there will be nothing."""
    with Pacs(BasicTextSRStorage) as pacs:
        office = Office(tmp_path, pacs.destination(explain_no_result=True))
        intake = Intake(office.spool, office.store)
        for path in builders.write(
            builders.series(builders.usual(), "LCM tNAA conc")[:1], tmp_path / "study"
        ):
            intake.accept(Incoming(path.read_bytes()), source="test")
        (key,) = (r.key for r in office.store.revisions_in(State.RECEIVING))
        office.store.complete(key, "test")
        left = office.store.revision(key)
        for _ in range(2):  # and once is enough
            Worker(office.settings, office.store, office.spool).strand(left)
            office.work()
        assert state_of(office)["state"] == State.FAILED
        assert "its worker died" in state_of(office)["reason"]
        (path,) = (office.spool.root / "out").rglob("no-result.dcm")
        report = pydicom.dcmread(path)
        assert pacs.received == [report.SOPInstanceUID]
        said = [c.TextValue for c in report.ContentSequence if c.ValueType == "TEXT"]
        assert "given up" in said[-1] and "worker" not in said[-1]


def stranded(office: Office, *files: bytes) -> Revision:
    """Complete, and its workflow has ended without it."""
    intake = Intake(office.spool, office.store)
    for file in files:
        intake.accept(Incoming(file), source="test")
    (key,) = (r.key for r in office.store.revisions_in(State.RECEIVING))
    office.store.complete(key, "test")
    return office.store.revision(key)


def with_malformed(vr: bytes, ds: Dataset) -> bytes:
    """The file of ``ds``, with Pregnancy Status as no host should write it."""
    ds = copy.deepcopy(ds)
    ds.PregnancyStatus = 4
    tag = b"\x10\x00\xc0\x21"
    whole = as_file(ds)
    good = tag + b"US\x02\x00\x04\x00"
    assert whole.count(good) == 1
    return whole.replace(good, tag + vr + b"\x03\x00\x04\x00\x00")


@pytest.mark.parametrize("vr", [b"US", b"ZZ"])
@pytest.mark.parametrize("notes", [0, 1])
@pytest.mark.parametrize("stranding", [False, True])
def test_a_note_is_made_from_a_header_that_it_can_be_made_from_or_left_out(tmp_path, vr, notes, stranding):
    """A patient's attribute that nothing can be made of stops neither its study nor the worker."""
    defect, _ = builders.BROKEN["missing slice"]
    *most, last = defect(copy.deepcopy(builders.series(builders.usual(), "LCM tNAA conc")))
    office = Office(tmp_path, DicomDestination(**NOBODY, explain_no_result=True))
    files = [with_malformed(vr, ds) for ds in most]
    left = stranded(office, *files, as_file(last) if notes else with_malformed(vr, last))
    worker = Worker(office.settings, office.store, office.spool)
    worker.strand(left) if stranding else worker.resolve(left.key)
    assert state_of(office)["state"] == State.FAILED
    assert len(office.deliveries()) == notes


def test_a_study_that_is_given_up_is_given_up_even_if_no_note_of_it_can_be_kept(tmp_path, monkeypatch):
    office = Office(tmp_path, DicomDestination(**NOBODY, explain_no_result=True))
    left = stranded(office, as_file(builders.series(builders.usual(), "LCM tNAA conc")[0]))

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(workflows, "reason_note", refused)
    Worker(office.settings, office.store, office.spool).strand(left)
    assert state_of(office)["state"] == State.FAILED
    assert office.deliveries() == []


def test_a_row_that_a_bug_lies_in_the_way_of_stops_no_other(tmp_path, monkeypatch):
    """Neither the revision after it, nor the deliveries."""
    office = Office(tmp_path, DicomDestination(**NOBODY))
    office.result_set()
    (due,) = office.deliveries()
    worker = Worker(office.settings, office.store, office.spool)
    first = stranded(office, as_file(mr_slice(1)))
    office.clock.now += 1
    other = {"StudyInstanceUID": f"{ROOT}.7", "SeriesInstanceUID": f"{ROOT}.7.1"}
    second = stranded(office, as_file(mr_slice(2, **other)))
    taken: list[str] = []

    def enqueue(_queue: str, _workflow: object, name: str, *_: int) -> None:
        if name == first.key.case:
            raise ValueError("a bug")
        taken.append(name)

    monkeypatch.setattr(workflows.DBOS, "get_workflow_status", lambda _: None)
    monkeypatch.setattr(workflows.DBOS, "enqueue_workflow", enqueue)
    workflows.reconcile(worker)
    assert taken == [second.key.case, due.delivery_id]


@pytest.mark.parametrize("template", [True, False])
def test_a_nifti_case_that_fails_is_explained_where_it_says_whose_it_is(tmp_path, template):
    """With template_dicom/ in the study that it names; without, there is no study to say it in."""
    case = tmp_path / "inbox" / "case"
    simulate.write_nifti(builders.acquisition(), case)
    (case / "maps" / "tNAA.nii.gz").write_bytes(b"not NIfTI")
    source = builders.series(builders.usual(), "LCM tNAA conc")[0]
    if template:
        builders.write([source], case / "template_dicom")
    with Pacs(BasicTextSRStorage) as pacs:
        office = Office(tmp_path, pacs.destination(explain_no_result=True))
        key = office.store.open_nifti_case(str(case), patient_id="")
        Worker(office.settings, office.store, office.spool).resolve(key)
        while office.work():
            pass
        assert state_of(office)["state"] == State.FAILED and "tNAA" in state_of(office)["reason"]
        assert len(pacs.kept) == template
        for path in (office.spool.root / "out").rglob("no-result.dcm"):
            report = pydicom.dcmread(path)
            assert report.StudyInstanceUID == source.StudyInstanceUID
            assert report.PatientID == source.PatientID
            assert dciodvfy_errors([path]) == []
