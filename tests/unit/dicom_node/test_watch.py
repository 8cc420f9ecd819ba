"""The watch folder, on a real file system."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.fileset import FileSet

from dicom_node.config import WatchRules
from dicom_node.errors import BadConfiguration, OutOfSpace
from dicom_node.intake import Intake
from dicom_node.spool import Spool
from dicom_node.store import Finding
from dicom_node.study import CaseKey, Event, State
from dicom_node.watch import Watcher
from tests.doors import OTHER_STUDY, STUDY, as_file, mr_slice, open_intake

SCAN_S = 0.05


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return open_intake(tmp_path)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def watcher(inbox: Path, intake: Intake) -> Watcher:
    return Watcher(WatchRules(folder=inbox, scan_s=SCAN_S), intake, intake.store)


def drop(inbox: Path, name: str = "S1", ready: bool = True, **attributes: str) -> Path:
    """Two slices, one of them in a subfolder."""
    folder = inbox / name
    (folder / "series").mkdir(parents=True)
    (folder / "1.dcm").write_bytes(as_file(mr_slice(1, **attributes)))
    (folder / "series" / "IM2").write_bytes(as_file(mr_slice(2, **attributes)))
    if ready:
        (folder / "READY").touch()
    return folder


def drop_nifti(inbox: Path, name: str = "S1") -> Path:
    folder = inbox / name
    (folder / "maps").mkdir(parents=True)
    (folder / "maps" / "tCho.nii.gz").write_bytes(b"a map")
    (folder / "READY").touch()
    return folder


def revision(intake: Intake, state: State) -> CaseKey:
    (found,) = intake.store.revisions_in(state)
    return found.key


def fail(intake: Intake, because: str = "no map") -> CaseKey:
    key = revision(intake, State.QUEUED)
    intake.store.start(key)
    intake.store.fail(key, because)
    return key


def finish(intake: Intake) -> CaseKey:
    """What the worker does: results and a report in the spool, nothing to deliver."""
    key = revision(intake, State.QUEUED)
    intake.store.start(key)
    folder = intake.spool.result_folder(key.case, key.revision, intake.store.revision(key).attempt)
    (folder / "report.json").write_text(json.dumps({"state": "DONE", "method": "bicubic"}))
    intake.store.encoded(key, [], intake.spool.relative(folder / "report.json"), "digest", [])
    return key


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


# Taking


def test_a_folder_that_says_ready_is_taken_at_once(watcher: Watcher, inbox: Path, intake: Intake) -> None:
    drop(inbox)
    watcher.scan()
    assert not (inbox / "S1").exists()
    assert (inbox / "processing" / "S1" / "1.dcm").is_file()
    assert len(intake.store.members(revision(intake, State.QUEUED))) == 2
    assert intake.store.status()["quarantine"] == []


def test_without_ready_two_equal_sights_at_least_a_scan_apart_are_needed(
    watcher: Watcher, inbox: Path
) -> None:
    folder = drop(inbox, ready=False)
    watcher.scan()
    watcher.scan()
    assert folder.is_dir()
    time.sleep(SCAN_S)
    watcher.scan()
    assert (inbox / "processing" / "S1").is_dir()


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "3.dcm").write_bytes(b"more"),
        lambda f: (f / "1.dcm").write_bytes(b"longer" * 10_000),
        lambda f: os.utime(f / "1.dcm", ns=(1, 1)),
        lambda f: (f / "1.dcm").rename(f / "one.dcm"),
        lambda f: (f / "1.dcm").unlink(),
    ],
    ids=["a file more", "a file longer", "a file rewritten", "a file renamed", "a file less"],
)
def test_a_folder_that_still_changes_is_left_alone(
    watcher: Watcher, inbox: Path, change: Callable[[Path], object]
) -> None:
    folder = drop(inbox, ready=False)
    watcher.scan()
    time.sleep(SCAN_S)
    change(folder)
    watcher.scan()
    assert folder.is_dir()
    time.sleep(SCAN_S)
    watcher.scan()
    assert (inbox / "processing" / "S1").is_dir() or (inbox / "failed" / "S1").is_dir()


def test_an_empty_folder_is_waited_for(watcher: Watcher, inbox: Path) -> None:
    (inbox / "S1").mkdir()
    for _ in range(3):
        watcher.scan()
        time.sleep(SCAN_S)
    assert (inbox / "S1").is_dir()


@pytest.mark.parametrize("name", ["case.nii", "1.dcm", ".hidden"])
def test_a_file_in_the_watch_folder_itself_is_left_alone(watcher: Watcher, inbox: Path, name: str) -> None:
    (inbox / name).write_bytes(as_file(mr_slice()))
    for _ in range(3):
        watcher.scan()
        time.sleep(SCAN_S)
    assert (inbox / name).is_file()


def test_a_loose_file_is_told_of_once(
    watcher: Watcher, inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (inbox / "case.nii").write_bytes(b"PK")
    for _ in range(3):
        watcher.scan()
    assert capsys.readouterr().out.count("case.nii") == 1


def test_a_link_leads_nowhere(watcher: Watcher, inbox: Path, tmp_path: Path, intake: Intake) -> None:
    """Neither a linked folder nor a linked file brings in what lies elsewhere."""
    elsewhere = drop(tmp_path, "elsewhere", SOPInstanceUID="1.2.3")
    (inbox / "link").symlink_to(elsewhere)
    folder = drop(inbox)
    (folder / "3.dcm").symlink_to(elsewhere / "1.dcm")
    (folder / "more").symlink_to(elsewhere)
    watcher.scan()
    assert (inbox / "link").is_symlink()
    assert intake.store.count_instances() == 2


def test_class_2_an_index_that_points_out_of_its_folder_leads_nowhere(
    watcher: Watcher, inbox: Path, tmp_path: Path, intake: Intake
) -> None:
    """A DICOMDIR under its own name and under another: files are found by looking, never by index."""
    elsewhere = tmp_path / "ELSEWHERE"
    elsewhere.write_bytes(as_file(mr_slice(7)))
    media = FileSet()
    indexed = {"StudyDate": "20260101", "StudyTime": "12", "StudyID": "1", "SeriesNumber": "1"}
    media.add(mr_slice(7, **indexed))
    media.write(tmp_path / "media")
    index = pydicom.dcmread(tmp_path / "media" / "DICOMDIR")
    image = next(r for r in index.DirectoryRecordSequence if "ReferencedFileID" in r)
    image.ReferencedFileID = ["..", "..", "ELSEWHERE"]
    folder = drop(inbox)
    for name in ("DICOMDIR", "IM9"):
        index.save_as(folder / name)
    watcher.scan()
    assert intake.store.count_instances() == 2
    (row,) = intake.store.status()["quarantine"]
    assert "UID is missing" in row["reason"]
    assert elsewhere.exists()


# DICOM and NIfTI


def test_notes_and_indexes_beside_the_images_are_no_instances(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    folder = drop(inbox, ready=False)
    for name in ("README", "readme.first", "DICOMDIR", "case.toml", "notes.txt", ".DS_Store", "READY"):
        (folder / name).write_bytes(b"words")
    (folder / ".git").mkdir()
    (folder / ".git" / "x").write_bytes(b"words")
    watcher.scan()
    assert revision(intake, State.QUEUED)
    assert intake.store.status()["quarantine"] == []


def test_a_file_that_is_not_dicom_is_quarantined_and_the_case_goes_on(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    (drop(inbox) / "raw.dat").write_bytes(b"not dicom" * 100)
    watcher.scan()
    assert len(intake.store.members(revision(intake, State.QUEUED))) == 2
    (row,) = intake.store.status()["quarantine"]
    assert row["source"] == "folder:S1"


def test_studies_of_one_patient_in_a_folder_are_one_case(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    folder = drop(inbox, ready=False)
    other = mr_slice(
        StudyInstanceUID=OTHER_STUDY,
        SeriesInstanceUID=f"{OTHER_STUDY}.1",
        SOPInstanceUID=f"{OTHER_STUDY}.1.1",
    )
    (folder / "map.dcm").write_bytes(as_file(other))
    (folder / "READY").touch()
    watcher.scan()
    key = revision(intake, State.QUEUED)
    assert sorted(intake.store.studies_of(key.case)) == [STUDY, OTHER_STUDY]


def test_a_nifti_case_is_queued_where_it_lies(watcher: Watcher, inbox: Path, intake: Intake) -> None:
    drop_nifti(inbox)
    watcher.scan()
    key = revision(intake, State.QUEUED)
    assert intake.store.revision(key).nifti_folder == str(inbox.resolve() / "processing" / "S1")
    assert intake.store.count_instances() == 0


def test_a_folder_with_nothing_in_it_fails_with_the_reason(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    folder = inbox / "S1"
    folder.mkdir()
    (folder / "notes.txt").write_text("words")
    (folder / "READY").touch()
    watcher.scan()
    failed = report(inbox / "failed" / "S1")
    assert failed["state"] == "FAILED"
    assert "no DICOM instance" in failed["reason"]
    (row,) = intake.store.status()["quarantine"]
    assert row["source"] == "folder:S1"
    assert intake.store.open_folders() == {}


# Handing back


def test_a_case_that_is_done_is_handed_back_with_its_report(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    drop(inbox)
    watcher.scan()
    watcher.scan()
    assert (inbox / "processing" / "S1").is_dir()
    finish(intake)
    watcher.scan()
    done = report(inbox / "done" / "S1")
    assert (done["state"], done["method"]) == ("DONE", "bicubic")
    assert not (inbox / "processing" / "S1").exists()


@pytest.mark.parametrize("event", [Event.GAVE_UP, Event.NOTHING_TO_DO])
def test_a_case_without_results_is_handed_back_with_the_reason(
    watcher: Watcher, inbox: Path, intake: Intake, event: Event
) -> None:
    drop(inbox)
    watcher.scan()
    key = revision(intake, State.QUEUED)
    intake.store.start(key)
    intake.store.identified(key, [Finding("1.2", "WATER", "other", "a Dixon image")])
    state = intake.store.advance(key, event, "no metabolite map among 1 series")
    watcher.scan()
    failed = report(inbox / "failed" / "S1")
    assert failed == {
        "series": [{"uid": "1.2", "description": "WATER", "role": "other", "reason": "a Dixon image"}],
        "state": str(state),
        "reason": "no metabolite map among 1 series",
    }


def test_a_case_whose_results_were_not_delivered_says_so_in_its_report(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    """The worker's report was written before anything was sent."""
    drop(inbox)
    watcher.scan()
    key = revision(intake, State.QUEUED)
    intake.store.start(key)
    folder = intake.spool.result_folder(key.case, 1, 1)
    (folder / "report.json").write_text(json.dumps({"state": "DONE", "method": "bicubic"}))
    intake.store.encoded(key, [], intake.spool.relative(folder / "report.json"), "digest", ["PACS"])
    (delivery,) = intake.store.deliveries_due()
    intake.store.give_up(delivery, "rejected")
    watcher.scan()
    failed = report(inbox / "failed" / "S1")
    assert (failed["state"], failed["reason"]) == ("FAILED", "not delivered to PACS: rejected")
    assert failed["method"] == "bicubic"


def test_a_case_that_is_retried_and_done_moves_from_failed_to_done(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    drop_nifti(inbox)
    watcher.scan()
    key = fail(intake)
    watcher.scan()
    assert (inbox / "failed" / "S1").is_dir()
    time.sleep(0.01)
    intake.store.retry(key, "again")
    watcher.scan()
    assert intake.store.revision(key).nifti_folder == str(inbox.resolve() / "failed" / "S1")
    finish(intake)
    watcher.scan()
    assert report(inbox / "done" / "S1")["state"] == "DONE"
    assert not (inbox / "failed" / "S1").exists()


def test_two_patients_in_a_folder_are_both_waited_for(watcher: Watcher, inbox: Path, intake: Intake) -> None:
    folder = drop(inbox, ready=False)
    other = mr_slice(
        StudyInstanceUID=OTHER_STUDY,
        SeriesInstanceUID=f"{OTHER_STUDY}.1",
        SOPInstanceUID=f"{OTHER_STUDY}.1.1",
        PatientID="P2",
    )
    (folder / "other.dcm").write_bytes(as_file(other))
    (folder / "READY").touch()
    watcher.scan()
    first, second = (r.key for r in intake.store.revisions_in(State.QUEUED))
    for number, key in enumerate((first, second)):
        assert (inbox / "processing" / "S1").is_dir(), number
        intake.store.start(key)
        intake.store.fail(key, f"reason {number}")
        watcher.scan()
    assert [c["reason"] for c in report(inbox / "failed" / "S1")["cases"]] == ["reason 0", "reason 1"]


def test_a_namesake_gets_a_name_of_its_own(watcher: Watcher, inbox: Path, intake: Intake) -> None:
    drop_nifti(inbox)
    watcher.scan()
    finish(intake)
    watcher.scan()
    drop_nifti(inbox)
    watcher.scan()
    finish(intake)
    watcher.scan()
    first, second = sorted((inbox / "done").iterdir())
    assert first.name == "S1"
    assert second.name.startswith("S1-20")


# Crashes and trouble


def test_a_folder_taken_before_a_crash_is_taken_up_again(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    """The rename was done, the row was not written."""
    drop(inbox / "processing")
    watcher.scan()
    assert len(intake.store.members(revision(intake, State.QUEUED))) == 2


def test_a_folder_handed_back_before_a_crash_is_finished(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    """The rename was done, the row still names processing/."""
    drop(inbox)
    watcher.scan()
    finish(intake)
    (inbox / "processing" / "S1").rename(inbox / "done" / "S1")
    watcher.scan()
    assert intake.store.open_folders() == {}
    assert (inbox / "done" / "S1").is_dir()


def test_a_case_entered_once_is_not_entered_again_by_the_next_watcher(
    watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    drop_nifti(inbox)
    watcher.scan()
    Watcher(WatchRules(folder=inbox, scan_s=SCAN_S), intake, intake.store).scan()
    assert revision(intake, State.QUEUED)


def test_a_full_disk_makes_the_folder_wait(watcher: Watcher, inbox: Path, intake: Intake) -> None:
    drop(inbox)
    roomy, intake.spool = intake.spool, Spool(intake.spool.root, low_water_mb=10**9)
    with pytest.raises(OutOfSpace):
        intake.spool.require_space()
    watcher.scan()
    assert (inbox / "processing" / "S1").is_dir()
    intake.spool = roomy
    watcher.scan()
    assert len(intake.store.members(revision(intake, State.QUEUED))) == 2


def test_one_folder_in_trouble_does_not_stop_the_others(
    watcher: Watcher, inbox: Path, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_nifti(inbox, "BAD")
    drop_nifti(inbox, "GOOD")
    real = intake.store.open_nifti_case

    def open_case(folder: str, patient_id: str) -> CaseKey:
        if patient_id == "BAD":
            raise RuntimeError("Doe^Jane")
        return real(folder, patient_id)

    monkeypatch.setattr(intake.store, "open_nifti_case", open_case)
    watcher.scan()
    assert (inbox / "processing" / "BAD").is_dir()
    assert "GOOD" in str(intake.store.revision(revision(intake, State.QUEUED)).nifti_folder)


def test_a_bug_is_logged_with_its_place_and_not_with_its_words(
    watcher: Watcher,
    inbox: Path,
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An exception's message may quote a data set."""

    quoted = "^".join(["Doe", "Jane"])

    def broken(*_: object, **__: object) -> CaseKey:
        raise RuntimeError(quoted)

    monkeypatch.setattr(intake.store, "open_nifti_case", broken)
    drop_nifti(inbox)
    watcher.scan()
    watcher.scan()
    shown = capsys.readouterr().out
    assert "Doe" not in shown
    assert shown.count("folder.waits") == 1
    assert "_enter" in shown


def test_without_a_folder_there_is_nothing_to_watch(intake: Intake) -> None:
    with pytest.raises(BadConfiguration, match=r"watch\.folder"):
        Watcher(WatchRules(), intake, intake.store)


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path, intake: Intake) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfiguration, match="written to"):
        Watcher(WatchRules(folder=tmp_path / "file"), intake, intake.store)


# Running


def test_a_share_that_is_gone_for_a_while_is_watched_again(inbox: Path, intake: Intake) -> None:
    watcher = Watcher(WatchRules(folder=inbox, scan_s=SCAN_S), intake, intake.store)
    away = inbox.with_name("away")
    inbox.rename(away)
    stop = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    try:
        time.sleep(0.3)
        away.rename(inbox)
        drop(inbox, "S1")
        until = time.monotonic() + 10
        while not intake.store.revisions_in(State.QUEUED):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join(5)


def test_a_running_watcher_is_woken_by_a_case_and_stops_when_told(
    inbox: Path, tmp_path: Path, intake: Intake
) -> None:
    """A scan a minute; the file system's event brings the next one forward."""
    watcher = Watcher(WatchRules(folder=inbox, scan_s=60), intake, intake.store)
    stop = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    try:
        time.sleep(0.5)
        drop(tmp_path, "S1").rename(inbox / "S1")
        until = time.monotonic() + 10
        while not (inbox / "processing" / "S1").is_dir():
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "file",
    [
        "fit/concs/raw/NAA.nii.gz",
        "sub-1_ses-1_space-orig_met-CrPCr_desc-signal_mrsi.nii.gz",
        "lcm/csi_sl1_1-1.table",
    ],
)
def test_a_case_in_any_research_layout_is_taken_as_one(
    file: str, watcher: Watcher, inbox: Path, intake: Intake
) -> None:
    path = inbox / "S1" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"$$CONC 1 line")
    (inbox / "S1" / "READY").touch()
    watcher.scan()
    assert intake.store.revision(revision(intake, State.QUEUED)).nifti_folder == str(
        inbox / "processing" / "S1"
    )
