"""The one door in: bytes become a durable file and a row, or a reason."""

from __future__ import annotations

import copy
import struct
import threading
import time
import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRSpectroscopyStorage,
    RLELossless,
)

from dicom_node.config import IdentifyRules, IntakeRules
from dicom_node.errors import Conflict, Mismatch, NotDicom, OutOfSpace
from dicom_node.gather import needs_of
from dicom_node.header import read_header
from dicom_node.intake import Incoming, Intake
from dicom_node.spool import sha256_of
from dicom_node.study import State
from tests.doors import OTHER_STUDY, STUDY, as_file, compressed, incoming, mr_slice, open_intake


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return open_intake(tmp_path)


def receiving(intake: Intake) -> list[int]:
    return [r.key.revision for r in intake.store.revisions_in(State.RECEIVING)]


def quarantine(intake: Intake) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = intake.store.status()["quarantine"]
    return rows


def queue_all(intake: Intake) -> None:
    for revision in intake.store.revisions_in(State.RECEIVING):
        intake.store.complete(revision.key, "test")


def test_an_accepted_instance_is_on_disk_and_in_the_store(intake: Intake) -> None:
    content = as_file(mr_slice())
    receipt = intake.accept(Incoming(content), source="SCANNER")
    (path,) = (intake.spool.root / "in").rglob("*.dcm")
    assert path.read_bytes() == content
    assert receipt.sha256 == sha256_of(path)
    assert (receipt.sop_uid, receipt.study_uid) == (f"{STUDY}.1.1", STUDY)
    (case,) = intake.store.status()["cases"]
    assert case["studies"] == [STUDY]
    assert case["instances"] == 1
    assert receiving(intake) == [1]


def test_an_instance_sent_twice_is_kept_once(intake: Intake) -> None:
    """A PACS that resends after a lost response changes nothing."""
    first = intake.accept(incoming(), source="PACS")
    queue_all(intake)
    assert intake.accept(incoming(), source="PACS") == first
    assert intake.store.count_instances() == 1
    assert receiving(intake) == []


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEG2000Lossless])
def test_the_same_pixels_in_another_transfer_syntax_are_the_same_instance(
    intake: Intake, transfer_syntax: str
) -> None:
    first = intake.accept(incoming(), source="SCANNER")
    queue_all(intake)
    assert intake.accept(Incoming(as_file(compressed(mr_slice(), transfer_syntax))), source="PACS") == first
    assert intake.store.count_instances() == 1
    assert receiving(intake) == []
    assert quarantine(intake) == []


def test_spectra_in_the_other_byte_order_are_not_taken_for_the_same(intake: Intake) -> None:
    """Only what is proven equal is called equal: the second is quarantined, not dropped."""
    ds = mr_slice(SOPClassUID=MRSpectroscopyStorage)
    del ds.PixelData
    ds.add_new((0x5600, 0x0020), "OF", struct.pack("<4f", 1, 2, 3, 4))
    intake.accept(Incoming(as_file(ds)), source="SCANNER")
    other = copy.deepcopy(ds)
    other.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    other[0x5600, 0x0020].value = struct.pack(">4f", 1, 2, 3, 4)
    with pytest.raises(Conflict):
        intake.accept(Incoming(as_file(other)), source="PACS")
    assert len(quarantine(intake)) == 1


def test_other_pixels_under_the_same_uid_are_quarantined_and_shown(intake: Intake) -> None:
    first = intake.accept(incoming(), source="SCANNER")
    with pytest.raises(Conflict, match="other pixels"):
        intake.accept(incoming(pixels=1), source="WORKSTATION")
    (row,) = quarantine(intake)
    assert row["sop_uid"] == first.sop_uid
    assert row["source"] == "WORKSTATION"
    assert "other pixels" in row["reason"]
    assert intake.store.sha256_of_instance(first.sop_uid) == first.sha256


def test_other_spectra_under_the_same_uid_are_quarantined(intake: Intake) -> None:
    ds = mr_slice(SOPClassUID=MRSpectroscopyStorage)
    del ds.PixelData
    ds.add_new((0x5600, 0x0020), "OF", struct.pack("<4f", 1, 2, 3, 4))
    intake.accept(Incoming(as_file(ds)), source="SCANNER")
    ds[0x5600, 0x0020].value = struct.pack("<4f", 1, 2, 3, 5)
    with pytest.raises(Conflict, match="other pixels"):
        intake.accept(Incoming(as_file(ds)), source="SCANNER")


def test_another_patient_in_the_same_study_is_quarantined_and_shown(intake: Intake) -> None:
    intake.accept(incoming(1), source="SCANNER")
    with pytest.raises(Conflict, match="Patient ID") as caught:
        intake.accept(incoming(2, PatientID="P2"), source="SCANNER")
    assert "P2" not in str(caught.value)
    assert len(quarantine(intake)) == 1
    assert intake.store.count_instances() == 1


def test_the_same_patient_id_of_another_issuer_is_another_patient(intake: Intake) -> None:
    intake.accept(incoming(1, IssuerOfPatientID="HOSPITAL A"), source="SCANNER")
    with pytest.raises(Conflict):
        intake.accept(incoming(2, IssuerOfPatientID="HOSPITAL B"), source="SCANNER")


def test_a_host_that_drops_the_issuer_still_sends_the_same_patient(intake: Intake) -> None:
    intake.accept(incoming(1, IssuerOfPatientID="HOSPITAL A"), source="SCANNER")
    intake.accept(incoming(2), source="LCMODEL")
    assert intake.store.count_instances() == 2


@pytest.mark.parametrize("moved", [{"StudyInstanceUID": OTHER_STUDY}, {"SeriesInstanceUID": f"{STUDY}.7"}])
def test_an_instance_belongs_to_one_series_only(intake: Intake, moved: dict[str, str]) -> None:
    intake.accept(incoming(), source="SCANNER")
    with pytest.raises(Conflict, match="another series or study"):
        intake.accept(incoming(**moved), source="SCANNER")
    assert len(intake.store.status()["cases"]) == 1


def test_a_corrected_header_is_a_new_revision(intake: Intake) -> None:
    intake.accept(incoming(), source="SCANNER")
    queue_all(intake)
    corrected = intake.accept(incoming(SeriesDescription="tCho"), source="PACS")
    assert receiving(intake) == [2]
    assert intake.store.count_instances() == 1
    assert intake.store.sha256_of_instance(corrected.sop_uid) == corrected.sha256


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (b"", "preamble"),
        (b"GIF89a" * 100, "preamble"),
        (as_file(mr_slice())[:400], "breaks off"),
    ],
    ids=["empty", "another format", "cut off"],
)
def test_bytes_that_are_not_dicom_are_kept_in_quarantine_with_the_reason(
    intake: Intake, broken: bytes, says: str
) -> None:
    with pytest.raises(NotDicom, match=says):
        intake.accept(Incoming(broken), source="X")
    assert len(quarantine(intake)) == 1
    assert intake.store.count_instances() == 0


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("missing", [1, 1000, "all"])
def test_half_an_image_is_refused_and_the_whole_one_taken_after_it(
    intake: Intake, transfer_syntax: str, missing: int | str
) -> None:
    ds = mr_slice()
    if transfer_syntax == RLELossless:
        ds = compressed(ds, transfer_syntax)
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    content = as_file(ds)
    keep = content.index(struct.pack("<HH", 0x7FE0, 0x0010)) if missing == "all" else -int(missing)
    with pytest.raises(NotDicom, match="breaks off"):
        intake.accept(Incoming(content[:keep]), source="X")
    intake.accept(Incoming(content), source="X")
    assert intake.store.count_instances() == 1


def test_an_object_without_pixels_is_whole(intake: Intake) -> None:
    ds = mr_slice(SOPClassUID=MRSpectroscopyStorage)
    del ds.PixelData, ds.BitsAllocated
    ds.add_new((0x5600, 0x0020), "OF", struct.pack("<4f", 1, 2, 3, 4))
    intake.accept(Incoming(as_file(ds)), source="X")
    assert intake.store.count_instances() == 1


def test_what_follows_the_pixels_is_no_harm(intake: Intake) -> None:
    for number, ds in enumerate((mr_slice(1), compressed(mr_slice(2), RLELossless)), 1):
        ds.add_new((0xFFFC, 0xFFFC), "OB", bytes(3000))
        intake.accept(Incoming(as_file(ds)), source="X")
        assert intake.store.count_instances() == number


def test_sequences_nested_without_end_are_refused(intake: Intake) -> None:
    """They would exhaust the interpreter's stack; only this instance is lost to them, not the node."""
    open_sequence = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    open_item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    start = as_file(mr_slice()).index(struct.pack("<HH", 0x0010, 0x0010))
    with pytest.raises(NotDicom, match="too deep"):
        intake.accept(Incoming(as_file(mr_slice())[:start] + (open_sequence + open_item) * 4000), source="X")
    assert len(quarantine(intake)) == 1


@pytest.mark.parametrize("uid", ["../../evil", "1.2/3", "1.02.3", "1." + "2" * 63, ""])
def test_a_uid_that_is_none_is_refused_and_names_no_file(intake: Intake, uid: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = as_file(mr_slice()).replace(
            _element("UI", 0x0020, 0x000D, STUDY), _element("UI", 0x0020, 0x000D, uid)
        )
    with pytest.raises(NotDicom, match="StudyInstanceUID"):
        intake.accept(Incoming(content), source="X")
    inside = {p.name for p in intake.spool.root.parent.iterdir()}
    assert inside <= {"spool", "node.sqlite", "node.sqlite-wal", "node.sqlite-shm"}


def _element(vr: str, group: int, element: int, value: str) -> bytes:
    raw = value.encode() + b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, vr.encode(), len(raw)) + raw


@pytest.mark.parametrize("claim", [("1.2.3", ""), ("", "1.2.3")])
def test_a_data_set_that_contradicts_its_request_is_refused(intake: Intake, claim: tuple[str, str]) -> None:
    with pytest.raises(Mismatch):
        intake.accept(Incoming(as_file(mr_slice()), *claim), source="X")
    assert len(quarantine(intake)) == 1


@pytest.mark.parametrize(
    "charset",
    [
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "\\ISO 2022 IR 149",
        "GB18030",
        "ISO_IR 192",
        "NO SUCH",
        "ISO 2022 IR 87",
    ],
)
def test_class_10_text_in_a_wrong_or_cut_character_set_is_kept_as_it_is(intake: Intake, charset: str) -> None:
    """Identifiers and descriptions that no decoder takes: the image is none the worse for them."""
    names = (b"\x1b$B;3ED", b"\x1b$)C\xb1\xe8", b"\xff\xfe\xd6", b"\x1b", b"=\x1b(Z=^^^^")
    for number, name in enumerate(names):
        uids = {"StudyInstanceUID": f"{STUDY}.{number}", "SeriesInstanceUID": f"{STUDY}.{number}.1"}
        uids |= {"SOPInstanceUID": f"{STUDY}.{number}.1.1", "FrameOfReferenceUID": f"{STUDY}.{number}.2"}
        plain = as_file(
            mr_slice(PatientID="ID", SeriesDescription="WORDS", SpecificCharacterSet="CHARSET", **uids)
        )
        content = plain
        for vr, group, element, old, new in (
            ("CS", 0x0008, 0x0005, b"CHARSET", charset.encode()),
            ("LO", 0x0008, 0x103E, b"WORDS", name),
            ("LO", 0x0010, 0x0020, b"ID", name),
        ):
            assert _raw(vr, group, element, old) in content
            content = content.replace(_raw(vr, group, element, old), _raw(vr, group, element, new))
        assert intake.accept(Incoming(content), source="X").sop_uid == uids["SOPInstanceUID"]
    cases = intake.store.status()["cases"]
    assert len(cases) == len(names)
    for case in cases:
        (here,) = intake.store.here(case["case"])
        assert needs_of([here], IdentifyRules()).maps == frozenset()


def _raw(vr: str, group: int, element: int, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", group, element, vr.encode(), len(value)) + value


def test_class_17_one_uid_for_two_images_keeps_the_first_and_shows_both(intake: Intake) -> None:
    """The second is apart, for a person to look at; a third time it is not kept again."""
    intake.accept(incoming(), source="SCANNER")
    for _ in range(2):
        with pytest.raises(Conflict):
            intake.accept(incoming(pixels=1), source="WORKSTATION")
    assert len(list((intake.spool.root / "quarantine").iterdir())) == 1
    assert len(list((intake.spool.root / "in").rglob("*.dcm"))) == 1


def test_quarantine_has_a_cap_and_the_oldest_go_first(tmp_path: Path) -> None:
    rules = IntakeRules(quarantine_mb=1)
    plain = open_intake(tmp_path)
    intake = Intake(plain.spool, plain.store, rules)
    for number in range(5):
        with pytest.raises(NotDicom):
            intake.accept(Incoming(bytes([number]) * 400_000), source="X")
        time.sleep(0.02)
    left = sorted((intake.spool.root / "quarantine").iterdir(), key=lambda p: p.stat().st_mtime)
    assert [p.read_bytes()[0] for p in left] == [3, 4]
    assert len(quarantine(intake)) == 5, "the reasons stay"


def test_without_quarantine_only_the_reason_is_kept(tmp_path: Path) -> None:
    plain = open_intake(tmp_path)
    intake = Intake(plain.spool, plain.store, IntakeRules(quarantine=False))
    with pytest.raises(NotDicom):
        intake.accept(Incoming(b"nothing"), source="X")
    assert len(quarantine(intake)) == 1
    assert [p for p in intake.spool.root.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("preamble", "kept"),
    [(b"MZ\x90", bytes(3)), (b"\x7fELF", bytes(4)), (b"II*\0", b"II*\0"), (b"MM\0*", b"MM\0*")],
    ids=["PE", "ELF", "TIFF", "TIFF, big"],
)
def test_class_12_a_preamble_that_may_be_a_program_is_emptied(
    intake: Intake, tmp_path: Path, preamble: bytes, kept: bytes
) -> None:
    """Files from a folder too; neither runs: no exec bit, a name of ours."""
    content = preamble + as_file(mr_slice())[len(preamble) :]
    (tmp_path / "x.exe").write_bytes(content)
    intake.accept_file(tmp_path / "x.exe", source="folder")
    intake.accept(Incoming(content), source="X")
    (path,) = (intake.spool.root / "in").rglob("*.dcm")
    assert path.read_bytes()[: len(kept)] == kept
    assert path.read_bytes()[128:] == content[128:]
    assert path.stat().st_mode & 0o111 == 0


def test_a_file_from_a_folder_is_the_same_instance_as_its_bytes(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(as_file(mr_slice()))
    assert intake.accept_file(tmp_path / "1.dcm", "folder") == intake.accept(incoming(), "SCANNER")
    assert list((intake.spool.root / "tmp").iterdir()) == []


def test_many_at_once_are_recorded_together_and_each_gets_its_own_answer(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction for those that wait; a conflict among them is one sender's only."""
    intake.accept(incoming(1), source="A")
    transactions: list[int] = []
    real_one, real_all = intake.store.record, intake.store.record_all

    def one(*arguments: object) -> object:
        transactions.append(1)
        time.sleep(0.2)  # while it syncs, the others come
        return real_one(*arguments)  # type: ignore[arg-type]

    def several(asked: list[object]) -> object:
        transactions.append(len(asked))
        return real_all(asked)  # type: ignore[arg-type]

    monkeypatch.setattr(intake.store, "record", one)
    monkeypatch.setattr(intake.store, "record_all", several)
    answers: dict[int, str] = {}

    def send(number: int) -> None:
        try:
            changed = {"PatientID": "P2"} if number == 5 else {}
            answers[number] = intake.accept(incoming(number, **changed), source="A").sop_uid
        except Conflict:
            answers[number] = "conflict"

    threads = [threading.Thread(target=send, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {n: f"{STUDY}.1.{n}" for n in range(2, 10)} | {5: "conflict"}
    assert answers == expected
    assert intake.store.count_instances() == 8
    assert max(transactions) > 1, transactions


def test_below_the_low_water_mark_the_sender_keeps_it(tmp_path: Path) -> None:
    intake = open_intake(tmp_path, low_water_mb=10**9)
    with pytest.raises(OutOfSpace):
        intake.accept(incoming(), source="X")
    assert intake.store.count_instances() == 0
    assert list((tmp_path / "spool").rglob("*.dcm")) == []


def test_the_same_bad_bytes_again_are_shown_once(intake: Intake) -> None:
    for _ in range(3):
        with pytest.raises(NotDicom):
            intake.accept(Incoming(b"nothing"), source="X")
    assert len(quarantine(intake)) == 1


def test_odd_values_are_read_without_being_quoted(
    intake: Intake, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """pydicom's warnings quote the value; a name or a date of birth must not reach the log."""
    content = as_file(mr_slice(PatientBirthDate="19991231")).replace(b"19991231", b"31.12.99")
    recwarn.clear()
    intake.accept(Incoming(content), source="X")
    header = read_header(content)
    assert header.PatientBirthDate == "31.12.99"
    assert [str(w.message) for w in recwarn.list if "31.12.99" in str(w.message)] == []
    assert "31.12.99" not in capsys.readouterr().err


def test_what_retention_removed_between_keeping_and_recording_is_kept_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = intake.store.record

    def record_late(*arguments: object) -> object:
        for path in (intake.spool.root / "in").rglob("*.dcm"):
            path.unlink()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(intake.store, "record", record_late)
    intake.accept(incoming(), source="X")
    (path,) = (intake.spool.root / "in").rglob("*.dcm")
    assert dcmread(path).SOPInstanceUID == f"{STUDY}.1.1"
