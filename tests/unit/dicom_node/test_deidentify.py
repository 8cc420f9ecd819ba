"""De-identification on the way in: nothing of the patient is kept, and everything of the measurement is."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from dicom_node import config, custody
from dicom_node.config import IntakeRules
from dicom_node.deidentify import Pseudonyms, de_identify
from dicom_node.errors import BadConfiguration, Conflict, NotDicom
from dicom_node.intake import Incoming, Intake
from dicom_node.research import read_case
from dicom_node.simulate.export import Identity
from dicom_node.spool import Spool
from dicom_node.study import State
from sr_core import Contrast, Metabolite
from tests import builders
from tests.doors import Clock, as_file, open_intake

KEY = Pseudonyms(b"0123456789abcdef0123456789abcdef")
WHO = Identity(
    patient_id="MUE-19700101", patient_name="Müller-Lüdenscheid^Hans Jürgen", accession_number="ACC4711"
)
TELLING = (
    "Müller",
    "Ludenscheid",
    "Hans",
    "MUE-19700101",
    "ACC4711",
    "19700101",
    "20260105",
    "Dr. Specht",
    "secret",
)


def said_in_odd_places(d: Dataset) -> Dataset:
    """A patient's and a physician's name where nobody looks: nested, private, in a description."""
    d = copy.deepcopy(d)
    request = Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepID = "MRSI for Hans", "secret"
    request.RequestingPhysician = "Dr. Specht"
    d.RequestAttributesSequence = Items([request])
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    source.PurposeOfReferenceCodeSequence = Items([])
    d.SourceImageSequence = Items([source])
    d.private_block(0x0009, "SECRET", create=True).add_new(1, "LO", "secret")
    d.SeriesDescription = f"{d.SeriesDescription} Hans 20260105"
    d.file_meta.SourceApplicationEntityTitle = "MUELLER"
    d.InstitutionName, d.OperatorsName, d.PatientComments = "Spital", "Dr. Specht", "Hans Müller"
    return d


@pytest.fixture(scope="module")
def study():
    of = builders.acquisition("oblique", (Metabolite.TNAA, Metabolite.TCHO), anatomy=(Contrast.T1,))
    return builders.study(of=of, identity=WHO)


@pytest.fixture(scope="module")
def clean(study):
    found = []
    for d in study:
        changed = said_in_odd_places(d)
        de_identify(changed, KEY)
        found.append(changed)
    return found


def test_nothing_that_tells_the_patient_is_left_at_any_level(clean):
    for d in (clean[0], clean[-1]):
        out = io.BytesIO()
        d.save_as(out, enforce_file_format=True)
        text = out.getvalue().decode("utf-8", "replace")
        for word in (*TELLING, "Spital", "Specht", "MUELLER", "SECRET", "1.2.3.4\0"):
            assert word not in text, word
        assert d.PatientIdentityRemoved == "YES"
        assert [c.CodeValue for c in d.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
        assert d.SourceImageSequence[0].ReferencedSOPInstanceUID == KEY.uid("1.2.3.4")
        assert d.SourceImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"


def test_the_measurement_is_as_it_was(study, clean, tmp_path):
    builders.write(study, tmp_path / "before")
    builders.write(clean, tmp_path / "after")
    before, after = read_case(tmp_path / "before"), read_case(tmp_path / "after")
    np.testing.assert_array_equal(before.grid.affine, after.grid.affine)
    for m in before.maps:
        other = after.map_of(m.metabolite)
        np.testing.assert_array_equal(m.values, other.values)
        np.testing.assert_array_equal(m.crlb_percent, other.crlb_percent)
        assert m.unit == other.unit
    assert {a.contrast for a in after.anatomy} == {a.contrast for a in before.anatomy}
    assert after.acquired_matrix == before.acquired_matrix


def test_pseudonyms_are_the_same_under_one_key_and_others_under_another():
    other = Pseudonyms(b"another key, as long as it must be")
    assert KEY.patient("1", "A") == KEY.patient("1", "A") != KEY.patient("1", "B")
    assert KEY.uid("1.2.3") != other.uid("1.2.3") and len(KEY.uid("1.2.3")) <= 64
    assert KEY.patient("", "") == "" and -3650 <= KEY.days("1", "A") < 0


@pytest.fixture
def intake(tmp_path) -> Intake:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    key.chmod(0o600)
    plain = open_intake(tmp_path, clock=Clock())
    return Intake(
        plain.spool, plain.store, IntakeRules(deidentify=("SCANNER", "folder"), deidentify_key_file=key)
    )


def everything_in(spool: Spool) -> bytes:
    return b"".join(p.read_bytes() for p in spool.root.rglob("*") if p.is_file())


def test_what_is_acknowledged_is_kept_under_pseudonyms_and_custody_holds(intake, study, tmp_path):
    sent = as_file(said_in_odd_places(study[0]))
    claimed = Incoming(sent, str(study[0].SOPClassUID), str(study[0].SOPInstanceUID))
    first, again = intake.accept(claimed, "SCANNER"), intake.accept(claimed, "SCANNER")
    assert first == again and first.sop_uid == KEY.uid(str(study[0].SOPInstanceUID))
    assert intake.store.count_instances() == 1
    proof = custody.verify(intake.store, intake.spool)
    assert proof.problems == () and proof.files == 1
    database = b"".join(p.read_bytes() for p in tmp_path.glob("*.sqlite*"))
    for word in ("Müller", "MUE-19700101", "ACC4711", str(study[0].StudyInstanceUID)):
        assert word.encode() not in everything_in(intake.spool) and word.encode() not in database
    assert intake.known_as("1.2.3", "SCANNER") == KEY.uid("1.2.3")
    assert intake.known_as("1.2.3", "PACS") == "1.2.3"
    as_is = intake.accept(Incoming(as_file(study[1])), "PACS")  # not one of those named
    assert as_is.sop_uid == str(study[1].SOPInstanceUID)


def test_studies_of_a_patient_stay_together_and_an_instance_of_another_is_told_apart(intake, study):
    other = builders.study(
        of=builders.acquisition("oblique"), identity=Identity(**{**WHO.__dict__, "study": "2"})
    )
    for d in (study[0], other[0]):
        intake.accept(Incoming(as_file(d)), "SCANNER")
        intake.store.clock.now += 1
    stranger = copy.deepcopy(study[1])
    stranger.PatientID = "SOMEONE-ELSE"
    with pytest.raises(Conflict):
        intake.accept(Incoming(as_file(stranger)), "SCANNER")
    assert len(intake.store.join_cases(("frame_of_reference",))) == 1
    (revision,) = intake.store.revisions_in(State.RECEIVING)
    assert len(intake.store.studies_of(revision.key.case)) == 2


def test_what_is_refused_leaves_a_reason_and_no_bytes(intake, study):
    broken = copy.deepcopy(study[0])
    del broken.SeriesInstanceUID
    with pytest.raises(NotDicom):
        intake.accept(Incoming(as_file(broken), sop_instance_uid=str(broken.SOPInstanceUID)), "SCANNER")
    (row,) = intake.store.status()["quarantine"]
    assert "SeriesInstanceUID" in row["reason"] and str(broken.SOPInstanceUID) not in str(row)
    assert b"ller" not in everything_in(intake.spool)


def test_a_key_that_is_short_missing_or_open_to_all_is_refused(tmp_path):
    key = tmp_path / "key"
    with pytest.raises(BadConfiguration, match="cannot be read"):
        Pseudonyms.from_file(key)
    key.write_text("short")
    with pytest.raises(BadConfiguration, match="openssl rand -hex 32"):
        Pseudonyms.from_file(key)
    key.write_text("0123456789abcdef0123456789abcdef")
    key.chmod(0o644)
    with pytest.raises(BadConfiguration, match="chmod 600"):
        Pseudonyms.from_file(key)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("[intake]\ndeidentify = true\n", "deidentify_key_file"),
        (
            '[intake]\ndeidentify = true\ndeidentify_key_file = "k"\n[gather.pacs]\nhost = "h"\n',
            "under other UIDs",
        ),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(lines, words, tmp_path: Path):
    (tmp_path / "node.toml").write_text(lines)
    with pytest.raises(BadConfiguration, match=words):
        config.load(tmp_path / "node.toml")


def test_the_file_that_is_kept_is_a_part_10_file_that_pydicom_reads(intake, study):
    receipt = intake.accept(Incoming(as_file(study[0])), "folder:case")
    (path,) = (intake.spool.root / "in").rglob("*.dcm")
    kept = pydicom.dcmread(path)
    assert kept.SOPInstanceUID == kept.file_meta.MediaStorageSOPInstanceUID == receipt.sop_uid
    np.testing.assert_array_equal(kept.pixel_array, study[0].pixel_array)
