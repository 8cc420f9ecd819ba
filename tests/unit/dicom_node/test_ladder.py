"""The ladder's decisions: what a refusal says, what goes instead, what may stay away, what is remembered."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ParametricMapStorage,
)

from dicom_node.config import DicomDestination, OutputRules
from dicom_node.dispatch import Refusal
from dicom_node.encode import EncodedObject, encode_study
from dicom_node.ladder import Ladder, map_of
from dicom_node.rungs import Rung, known_refusal, refused_rung, rung_of
from dicom_node.spool import Spool
from dicom_node.store import Sendable
from tests import phantom

FLOAT = Rung(ParametricMapStorage, "32-bit float")


class Book:
    """What a delivery or a rehearsal would write down."""

    def __init__(self) -> None:
        self.known: dict[Rung, str] = {}
        self.went: dict[str, tuple[str | None, str]] = {}

    def refused(self) -> dict[Rung, str]:
        return dict(self.known)

    def refuse(self, rung: Rung, because: str) -> None:
        self.known[rung] = because

    def replace(self, f: Sendable, instead: Sendable | None, because: str) -> None:
        self.went[f.name] = (instead and instead.path, because)


@pytest.fixture(scope="module")
def objects() -> list[EncodedObject]:
    """MR series of HGG; Parametric Maps of HGG and of others; one Segmentation."""
    source = phantom.source_study()
    rules = OutputRules(mr_maps=("HGG",), fused_maps=(), summary=False)
    return list(encode_study(phantom.super_resolved(source), source, rules))


@pytest.fixture
def files(objects: list[EncodedObject], tmp_path: Path) -> list[Sendable]:
    """The HGG series' first slice and map, another map, and the segmentation, on disk."""
    names = ("MR_HGG_0001", "PM_HGG", "PM_TCN", "SEG_lesion")
    chosen = [o for o in objects if o.name in names]
    assert len(chosen) == len(names)
    found = []
    for o in chosen:
        o.dataset.save_as(tmp_path / f"{o.name}.dcm", enforce_file_format=True)
        uids = (str(o.dataset.SOPInstanceUID), str(o.dataset.SOPClassUID))
        found.append(Sendable(f"{o.name}.dcm", o.kind, o.name, *uids, ""))
    return found


def ladder(files: list[Sendable], root: Path, book: Book, **rules: object) -> Ladder:
    where = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104, **rules)
    return Ladder(where, files, Spool(root), book)


def of_class(sop_class: str, **attributes: object) -> Dataset:
    d = Dataset()
    d.SOPClassUID = sop_class
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    return d


def test_two_forms_of_one_sop_class_are_told_apart() -> None:
    floats = rung_of(of_class(ParametricMapStorage, BitsAllocated=32))
    assert floats == FLOAT
    assert str(floats) == "32-bit float Parametric Map"
    assert str(rung_of(of_class(ParametricMapStorage, BitsAllocated=16))) == "16-bit Parametric Map"
    assert str(rung_of(of_class(EnhancedSRStorage))) == "Enhanced SR"


@pytest.mark.parametrize("status", [None, 0x0122])
def test_a_refused_context_or_class_is_about_all_its_forms(status: int | None) -> None:
    rung = refused_rung(FLOAT, status)
    assert rung == Rung(ParametricMapStorage)
    assert known_refusal(Rung(ParametricMapStorage, "16-bit"), {rung: "no"}) == "no"


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0117])
def test_an_object_that_is_not_understood_is_about_that_form(status: int) -> None:
    assert refused_rung(FLOAT, status) == FLOAT
    assert known_refusal(Rung(ParametricMapStorage, "16-bit"), {FLOAT: "no"}) is None


@pytest.mark.parametrize("status", [0x0124, 0x0211, 0x0112])
def test_what_is_said_of_us_is_not_about_a_form(status: int) -> None:
    assert refused_rung(FLOAT, status) is None


def test_a_float_map_that_is_refused_goes_in_16_bit_with_the_same_values(files, tmp_path) -> None:
    book = Book()
    steps = ladder(files, tmp_path, book)
    assert steps.forms_of(files) == (files, [])
    refusals = [Refusal(f, 0xC000, "it answered C000") for f in files if f.kind == "PM"]
    assert steps.learn(refusals) == []
    going, ended = steps.forms_of(files)
    assert not ended
    assert [f.name for f in going] == [f.name for f in files]
    for before, after in zip(files, going, strict=True):
        if before.kind != "PM":
            assert after == before
            continue
        assert after.sop_uid != before.sop_uid
        d = pydicom.dcmread(tmp_path / after.path)
        assert (d.SOPInstanceUID, d.BitsAllocated) == (after.sop_uid, 16)
        assert book.went[before.name] == (after.path, "sent as 16-bit Parametric Map: it answered C000")
    assert steps.forms_of(going) == (going, [])


def test_without_any_parametric_map_a_map_with_its_mr_series_stays_away_and_no_other(files, tmp_path) -> None:
    book = Book()
    steps = ladder(files, tmp_path, book)
    with_mr, without = (next(f for f in files if f.name == n) for n in ("PM_HGG", "PM_TCN"))
    refused = [Refusal(f, None, "it refuses the SOP class") for f in (with_mr, without)]
    assert steps.learn(refused) == [refused[1]]
    going, ended = steps.forms_of(files)
    assert [f.kind for f in going] == ["MR", "SEG"]
    assert [r.file.name for r in ended] == ["PM_TCN"]
    assert book.went == {"PM_HGG": (None, "there as derived MR only: it refuses the SOP class")}
    assert not list(tmp_path.glob("*.lesser.dcm"))  # 16 bit is the same class: not even made


def test_a_kind_that_the_destination_may_lack_stays_away(files, tmp_path) -> None:
    book = Book()
    steps = ladder(files, tmp_path, book, may_lack=("SEG",))
    seg = files[-1]
    assert steps.learn([Refusal(seg, None, "it refuses Segmentation")]) == []
    going, ended = steps.forms_of(files)
    assert [f.kind for f in going] == ["MR", "PM", "PM"] and not ended
    assert book.went == {"SEG_lesion": (None, "not sent: it refuses Segmentation")}


def test_what_has_no_other_way_is_not_remembered(files, tmp_path) -> None:
    """One bad slice must not keep every slice from a PACS for ever."""
    book = Book()
    steps = ladder(files, tmp_path, book)
    refused = [Refusal(files[0], 0xA900, "it answered A900"), Refusal(files[-1], None, "refuses SEG")]
    assert steps.learn(refused) == refused
    assert book.known == {}


def test_a_report_goes_down_class_by_class(tmp_path) -> None:
    d = of_class(ComprehensiveSRStorage, ValueType="CONTAINER", SOPInstanceUID="2.25.1")
    d.SeriesInstanceUID, d.SeriesDescription = "2.25.2", "measurements"
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    d.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    f = Sendable("sr.dcm", "SR", "SR_measurements", "2.25.1", ComprehensiveSRStorage, "")
    book = Book()
    steps = ladder([f], tmp_path, book)
    assert steps.learn([Refusal(f, None, "no")]) == []
    (lesser,), _ = steps.forms_of([f])
    assert lesser.sop_class_uid == EnhancedSRStorage
    assert steps.learn([Refusal(lesser, None, "no")]) != []  # the last rung


def test_the_map_that_an_object_shows_is_read_off_its_name() -> None:
    def named(kind: str, name: str) -> str:
        return map_of(Sendable("", kind, name, "", "", ""))

    assert named("MR", "MR_2HG_0017") == named("PM", "PM_2HG") == "2HG"
    assert named("MR", "MR_anatomy_T1_0001") == "anatomy_T1"
