"""The ladder's decisions: what a refusal says, what goes instead, what may stay away, what is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    EnhancedSRStorage,
    MRImageStorage,
    ParametricMapStorage,
)

from dicom_node.config import DicomDestination, GateRules, OutputRules
from dicom_node.dispatch import Refusal
from dicom_node.encode import EncodedObject, encode_study
from dicom_node.encode.readdress import named_in
from dicom_node.ladder import Ladder, refers
from dicom_node.rungs import LABEL_MAP, Rung, known_refusal, refused_rung, rung_of
from dicom_node.spool import Spool
from dicom_node.store import Sendable
from dicom_node.went import map_of
from tests import phantom
from tests.harness import dciodvfy_errors

FLOAT = Rung(ParametricMapStorage, "32-bit float")


class Book:
    """What a delivery or a rehearsal would write down."""

    def __init__(self) -> None:
        self.known: dict[Rung, str] = {}
        self.went: dict[str, tuple[str | None, str]] = {}
        self.others: list[tuple[Sendable, Sequence[Sendable]]] = []

    def refused(self) -> dict[Rung, str]:
        return dict(self.known)

    def refuse(self, rung: Rung, because: str) -> None:
        self.known[rung] = because

    def replace(self, files: Sequence[Sendable], instead: Sequence[Sendable], because: str) -> None:
        for f in files:
            self.went[f.name] = (instead[0].path if instead else None, because)
            self.others.append((f, instead))

    def replaced(self) -> Sequence[tuple[Sendable, Sequence[Sendable]]]:
        return self.others

    def restore(self, files: Sequence[Sendable]) -> None:
        self.others = [(f, instead) for f, instead in self.others if f not in files]
        for f in files:
            del self.went[f.name]


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
    return Ladder(where, files, Spool(root), book, GateRules())


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
    steps = ladder(files, tmp_path, book, maps_as_mr=False)
    with_mr, without = (next(f for f in files if f.name == n) for n in ("PM_HGG", "PM_TCN"))
    refused = [Refusal(f, None, "it refuses the SOP class") for f in (with_mr, without)]
    assert steps.learn(refused) == [refused[1]]
    going, ended = steps.forms_of(files)
    assert [f.kind for f in going] == ["MR", "SEG"]
    assert [r.file.name for r in ended] == ["PM_TCN"]
    assert book.went == {"PM_HGG": (None, "there as derived MR only: it refuses the SOP class")}
    assert not list(tmp_path.glob("*.lesser.dcm"))  # 16 bit is the same class: not even made


def test_a_map_without_an_mr_series_goes_as_one_where_no_parametric_map_is_taken(files, tmp_path) -> None:
    """Slice by slice with the values of the map; the map that has its MR series gets no second one."""
    book = Book()
    steps = ladder(files, tmp_path, book)
    refused = [Refusal(f, None, "it refuses the SOP class") for f in files if f.kind == "PM"]
    assert steps.learn(refused) == []
    going, ended = steps.forms_of(files)
    assert not ended
    slices = [f for f in going if f.name.startswith("MR_TCN_")]
    assert [f.kind for f in going if f not in slices] == ["MR", "SEG"]
    a_map = pydicom.dcmread(tmp_path / "PM_TCN.dcm")
    assert [f.name for f in slices] == [f"MR_TCN_{n:04d}" for n in range(1, a_map.NumberOfFrames + 1)]
    values = np.frombuffer(a_map.FloatPixelData, "<f4").reshape(-1, a_map.Rows, a_map.Columns)
    for f, wanted, frame in zip(slices, values, a_map.PerFrameFunctionalGroupsSequence, strict=True):
        d = pydicom.dcmread(tmp_path / f.path)
        assert (d.SOPInstanceUID, d.SOPClassUID) == (f.sop_uid, f.sop_class_uid)
        assert d.ImagePositionPatient == frame.PlanePositionSequence[0].ImagePositionPatient
        mapping = d.RealWorldValueMappingSequence[0]
        assert np.abs(d.pixel_array * mapping.RealWorldValueSlope - wanted).max() <= 0.0005 * (1 + 1e-4)
    assert d.SeriesDescription == "MRSI-SR TCN x1000"
    assert book.went["PM_TCN"][1] == "sent as derived MR series: it refuses the SOP class"
    assert book.went["PM_HGG"] == (None, "there as derived MR only: it refuses the SOP class")


def test_floats_and_then_16_bit_refused_by_status_end_as_the_very_same_mr_series(files, tmp_path) -> None:
    """Made of the floats, whatever was tried between."""
    at_once, by_steps = Book(), Book()
    at_once.known[Rung(ParametricMapStorage)] = "no"
    pm = next(f for f in files if f.name == "PM_TCN")
    direct, _ = ladder(files, tmp_path, at_once).forms_of([pm])
    steps = ladder(files, tmp_path, by_steps)
    for _ in range(2):
        going, ended = steps.forms_of([pm])
        assert not ended and steps.learn([Refusal(going[0], 0xC000, "C000")]) == []
        pm = going[0]
    assert steps.forms_of([pm]) == (direct, [])


def test_what_has_no_mr_series_is_refused_where_mr_is_too(files, tmp_path) -> None:
    book = Book()
    book.known = {Rung(MRImageStorage): "no MR"}
    steps = ladder(files, tmp_path, book)
    refused = [Refusal(f, None, "no") for f in files if f.name == "PM_TCN"]
    assert steps.learn(refused) == refused


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


def test_one_slice_that_is_refused_leaves_maps_their_ways_and_a_refused_class_does_not(files, tmp_path):
    """A map is there as its MR series only if that is."""
    slice_, hgg, tcn = (next(f for f in files if f.name == n) for n in ("MR_HGG_0001", "PM_HGG", "PM_TCN"))
    bad = Refusal(slice_, 0xA900, "it answered A900")
    no_maps = [Refusal(f, None, "no maps") for f in (hgg, tcn)]
    assert ladder(files, tmp_path, Book()).learn([bad, *no_maps]) == [bad]
    no_mr = Refusal(slice_, None, "no MR")
    assert ladder(files, tmp_path, Book()).learn([no_mr, *no_maps]) == [no_mr, *no_maps]

    book = Book()
    steps = ladder(files, tmp_path, book, may_lack=("MR",))
    assert steps.learn([no_mr, *no_maps]) == no_maps
    book.refuse(Rung(ParametricMapStorage), "no maps")
    going, ended = steps.forms_of(files)
    assert [f.kind for f in going] == ["SEG"] and [r.file for r in ended] == [hgg, tcn]


def on_disk(o: EncodedObject, folder: Path) -> Sendable:
    o.dataset.save_as(folder / f"{o.name}.dcm", enforce_file_format=True)
    uids = (str(o.dataset.SOPInstanceUID), str(o.dataset.SOPClassUID))
    return Sendable(f"{o.name}.dcm", o.kind, o.name, *uids, "")


def test_a_report_goes_down_class_by_class(objects, tmp_path) -> None:
    f = on_disk(next(o for o in objects if o.kind == "SR"), tmp_path)
    book = Book()
    steps = ladder([f], tmp_path, book)
    assert steps.learn([Refusal(f, None, "no")]) == []
    (lesser,), _ = steps.forms_of([f])
    assert lesser.sop_class_uid == EnhancedSRStorage
    assert steps.learn([Refusal(lesser, None, "no")]) != []  # the last rung


@pytest.mark.parametrize("status", [None, 0xC000], ids=["derived MR", "16 bit"])
def test_a_report_names_the_forms_that_went(objects, tmp_path, status) -> None:
    """Values read in a map refer to its 16-bit form, or to those of its slices that the lesion reaches."""
    kept = [o for o in objects if o.kind in ("PM", "SEG", "SR") or o.name.startswith("MR_HGG")]
    everything = [on_disk(o, tmp_path) for o in kept]
    book = Book()
    steps = ladder(everything, tmp_path, book)
    assert steps.learn([Refusal(f, status, "no") for f in everything if f.kind == "PM"]) == []
    going, ended = steps.forms_of(everything)
    assert not ended
    (report,) = (f for f in going if f.kind == "SR")
    full = next(f for f in everything if f.kind == "SR")
    assert report.sop_uid != full.sop_uid and book.went["SR_measurements"][0] == report.path
    went = {f.sop_uid: f for f in going}
    d = pydicom.dcmread(tmp_path / report.path)
    evidence = {
        str(r.ReferencedSOPInstanceUID): str(r.ReferencedSOPClassUID)
        for study in d.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for r in series.ReferencedSOPSequence
    }
    parent = next(o.dataset for o in objects if "anatomy" in o.name)
    named = {uid for group in groups(d) for uid in group["named"]}
    assert named | {str(parent.SOPInstanceUID)} == set(evidence)
    assert named <= set(went) and all(went[uid].sop_class_uid == evidence[uid] for uid in named)
    assert ParametricMapStorage not in {went[uid].sop_class_uid for uid in named} or status is not None

    result = phantom.super_resolved(phantom.source_study())
    reached = {x.source: np.flatnonzero(x.mask.any(axis=(1, 2))) for x in result.lesion if x.mask.any()}
    for group in groups(d):
        if group["values"] and status is None:
            planes = [int(went[uid].name.split("_")[-1]) - 1 for uid in group["values"]]
            assert sorted(set(planes)) == list(reached[group["of"]])
    before, after = (pydicom.dcmread(tmp_path / f.path) for f in (full, report))
    assert figures(before) == figures(after) != []
    assert steps.forms_of([report]) == ([report], [])  # and once is enough


@pytest.mark.parametrize(
    ("gets", "named"),
    [
        (("MR", "SC", "SEG", "SR", "KO"), {"MR", "SEG"}),  # slices in place of a map that has its MR series
        (("SEG", "SR", "KO"), {"SEG"}),
        (("SR", "KO"), set()),
    ],
    ids=["slices", "segments", "figures alone"],
)
def test_a_report_names_nothing_that_the_destination_is_configured_not_to_get(objects, tmp_path, gets, named):
    """Its figures stay as they are; a group without its segment is no longer one that demands a segment."""
    everything = [on_disk(o, tmp_path) for o in objects]
    book = Book()
    steps = ladder(everything, tmp_path, book, send=gets)
    going, ended = steps.forms_of([f for f in everything if f.kind in gets])
    assert not ended
    (report,) = (f for f in going if f.kind == "SR")
    full, d = (pydicom.dcmread(tmp_path / p) for p in ("SR_measurements.dcm", report.path))
    there = {f.sop_uid: f for f in going}
    assert named_in(d) <= set(there)
    assert {there[uid].kind for uid in named_in(d)} == named
    assert figures(d) == figures(full) != []
    templates = [i.ContentTemplateSequence[0].TemplateIdentifier for i in below(d) if concept(i) == "125007"]
    segments = [i for i in below(d) if concept(i) in ("121191", "121232")]
    assert (templates.count("1411"), len(segments)) == ((3, 6) if "SEG" in gets else (0, 0))
    assert dciodvfy_errors([tmp_path / report.path]) == []
    assert steps.forms_of([report]) == ([report], [])


def test_label_maps_go_where_they_are_asked_for_and_the_report_names_them(objects, tmp_path):
    """HGG and TCN overlap: two layers; each segment is named in the one that has it, by its number."""
    kept = [o for o in objects if o.kind in ("SEG", "SR") and "T1" not in o.name]
    everything = [on_disk(o, tmp_path) for o in kept]
    book = Book()
    steps = ladder(everything, tmp_path, book, label_maps=True)
    going, ended = steps.forms_of(everything)
    maps = [f for f in going if f.kind == "SEG"]
    assert not ended and [f.sop_class_uid for f in maps] == [LABEL_MAP, LABEL_MAP]
    assert steps.forms_of(going) == (going, [])
    made = {f.sop_uid: pydicom.dcmread(tmp_path / f.path) for f in maps}
    full, report = (pydicom.dcmread(tmp_path / p) for p in ("SR_measurements.dcm", going[-1].path))
    before, after = ([i for i in below(d) if concept(i) == "121191"] for d in (full, report))
    assert len(before) == len(after) == 3
    for one, other in zip(before, after, strict=True):
        was, now = one.ReferencedSOPSequence[0], other.ReferencedSOPSequence[0]
        assert was.ReferencedSegmentNumber == now.ReferencedSegmentNumber
        assert now.ReferencedSOPClassUID == LABEL_MAP
        (segment,) = (
            s
            for s in made[now.ReferencedSOPInstanceUID].SegmentSequence
            if s.SegmentNumber == now.ReferencedSegmentNumber
        )
        tracked = next(i for i in below(report) if i.get("UID") == segment.TrackingUID)
        assert concept(tracked) == "112040"
    assert named_in(report) & set(made) == set(made)

    assert steps.learn([Refusal(f, None, "no") for f in maps]) == []  # and then they are refused
    assert steps.forms_of(maps) == ([everything[0]], [])
    assert book.known == {Rung(LABEL_MAP): "no"} and "SEG_lesion" not in book.went
    assert ladder(everything, tmp_path, book, label_maps=True).forms_of(everything[:1]) == (
        everything[:1],
        [],
    )


@pytest.fixture(scope="module")
def coloured() -> list[EncodedObject]:
    """With anatomy, MR series of HGG, how that is to be coloured, and a report."""
    source = phantom.source_study("oblique")
    rules = OutputRules(
        mr_maps=("HGG",), fused_maps=("HGG",), parametric_maps=("HGG", "TCN"), presentation_states=True
    )
    objects = encode_study(phantom.super_resolved(source), source, rules)
    return [o for o in objects if o.kind in ("MR", "PM", "SR", "PR", "SEG")]


def test_a_map_goes_as_one_enhanced_image_where_it_is_asked_for_and_who_refers_to_it_knows(
    coloured, tmp_path
):
    """Presentation states name the one image; figures name its frames where no Parametric Map is taken."""
    everything = [on_disk(o, tmp_path) for o in coloured]
    book = Book()
    book.known = {Rung(ParametricMapStorage): "no"}
    rules = {"enhanced_mr": True, "label_maps": True}
    first = [f for f in everything if not refers(f)]
    steps = ladder(everything, tmp_path, book, **rules)
    going, ended = steps.forms_of(first)
    assert not ended and steps.forms_of(going) == (going, [])
    referring = [f for f in everything if refers(f)]  # in a round of their own, as of a delivery
    settled, ended = ladder([*going, *referring], tmp_path, book, **rules).forms_of(referring)
    assert not ended
    going += settled
    (one,) = (f for f in going if f.sop_class_uid == EnhancedMRImageStorage)
    anatomy = {f.sop_uid for f in everything if "anatomy" in f.name}
    assert anatomy < {f.sop_uid for f in going}  # others lie on it: as it was
    assert {f.name[:6] for f in going if f.kind == "MR" and f.sop_uid not in anatomy} == {"MR_HGG", "MR_TCN"}
    sent = {f.sop_uid for f in going}
    for f in (f for f in going if f.kind in ("PR", "SR")):
        d = pydicom.dcmread(tmp_path / f.path)
        assert one.sop_uid in named_in(d) <= sent
        assert everywhere(d).isdisjoint({x.sop_uid for x in everything} - sent)
        errors = dciodvfy_errors([tmp_path / f.path])
        assert [e for e in errors if "ReferencedSegmentNumber" not in e] == []  # VIEWERS.md says why
    result = phantom.super_resolved(phantom.source_study("oblique"))
    (hgg,) = (x for x in result.lesion if x.source == "HGG")
    report = pydicom.dcmread(tmp_path / next(f.path for f in going if f.kind == "SR"))
    named = [
        i.ReferencedSOPSequence[0]
        for i in below(report)
        if concept(i) == "121112" and i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == one.sop_uid
    ]
    planes = [k + 1 for k in np.flatnonzero(hgg.mask.any(axis=(1, 2)))]
    assert planes in [list(r.ReferencedFrameNumber) for r in named]

    assert steps.learn([Refusal(one, None, "no")]) == []
    slices = [f for f in everything if f.name.startswith("MR_HGG")]
    assert steps.forms_of([one]) == (slices, [])
    presented = next(f for f in everything if f.kind == "PR")
    assert ladder(everything, tmp_path, book, **rules).forms_of([presented]) == ([presented], [])


def test_slices_that_others_lie_on_stay_slices(objects, tmp_path):
    """Without anatomy that are those of the maps; and what has been sent in part goes on as it began."""
    book = Book()
    bare = [on_disk(o, tmp_path) for o in objects if o.name.startswith("MR_HGG") or o.kind == "SEG"]
    assert ladder(bare, tmp_path, book, enhanced_mr=True).forms_of(bare) == (bare, [])
    everything = [on_disk(o, tmp_path) for o in objects if o.kind == "MR"]
    steps = ladder(everything, tmp_path, book, enhanced_mr=True)
    left = [f for f in everything if f.name != "MR_HGG_0001"]
    assert steps.forms_of(left) == (left, [])


def test_a_selection_of_nothing_that_the_destination_gets_stays_away(tmp_path):
    source = phantom.source_study()
    rules = OutputRules(mr_maps=("HGG",), fused_maps=("HGG",), parametric_maps=(), key_objects=True)
    objects = list(encode_study(phantom.super_resolved(source), source, rules))
    everything = [on_disk(o, tmp_path) for o in objects if o.kind in ("SC", "KO")]
    (selection,) = (f for f in everything if f.kind == "KO")
    book = Book()
    assert ladder(everything, tmp_path, book, send=("SC", "KO")).forms_of([selection]) == ([selection], [])
    assert ladder(everything, tmp_path, book, send=("MR", "KO")).forms_of([selection]) == ([], [])
    assert book.went == {"KO_results": (None, "not sent: what it is about does not go there")}


def test_a_presentation_of_which_one_series_goes_nowhere_stays_away(coloured, tmp_path):
    """The overlay without its map would be an overlay of nothing; so would the map's colours."""
    everything = [on_disk(o, tmp_path) for o in coloured]
    book = Book()
    book.replace([f for f in everything if f.name.startswith("MR_HGG")], [], "not sent: no")
    states = [f for f in everything if f.kind == "PR"]
    assert len(states) == 2
    assert ladder(everything, tmp_path, book).forms_of(states) == ([], [])
    assert {book.went[f.name][0] for f in states} == {None}


def test_an_enhanced_image_is_the_same_and_names_its_sources_whatever_else_a_destination_gets(tmp_path):
    """One file for all who ask for it: of a map that is not the first one made, to who gets no maps too."""
    source = phantom.source_study()
    rules = OutputRules(
        mr_maps=("TCN",), fused_maps=(), parametric_maps=("HGG", "TCN"), summary=False,
        segmentation=False, segmentation_on_anatomy=False, measurements=False,
    )  # fmt: skip
    everything = [on_disk(o, tmp_path) for o in encode_study(phantom.super_resolved(source), source, rules)]
    made = []
    for gets in (("MR", "PM"), ("MR",)):
        steps = ladder(everything, tmp_path, Book(), send=gets, enhanced_mr=True)
        going, _ = steps.forms_of([f for f in everything if f.kind in gets])
        (one,) = (f for f in going if f.sop_class_uid == EnhancedMRImageStorage)
        made.append((tmp_path / one.path).read_bytes())
    assert made[0] == made[1]
    assert "SourceImageEvidenceSequence" in pydicom.dcmread(tmp_path / one.path)


def everywhere(d: Dataset) -> set[str]:
    """Every SOP Instance UID that ``d`` refers to, at whatever depth."""
    return {str(e.value) for e in d.iterall() if e.keyword == "ReferencedSOPInstanceUID"}


def concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence", ())
    return str(names[0].CodeValue) if names else ""


def below(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from below(child)


def figures(d: Dataset) -> list[str]:
    return [str(i.MeasuredValueSequence[0].NumericValue) for i in below(d) if i.ValueType == "NUM"]


def groups(d: Dataset) -> Iterator[dict]:
    """Of each measurement group: the map it is of, what it names, and what its values were read in."""
    for group in (i for i in below(d) if i.ValueType == "CONTAINER"):
        if group.ConceptNameCodeSequence[0].CodeValue != "125007":
            continue
        images = [i for i in group.ContentSequence if i.ValueType == "IMAGE"]
        read_in = [
            i
            for n in group.ContentSequence
            if n.ValueType == "NUM"
            for i in below(n)
            if i.ValueType == "IMAGE"
        ]
        (tracked,) = (i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "112039")
        uid = [str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in (*images, *read_in)]
        yield {"of": tracked.TextValue.split()[-1], "named": uid, "values": uid[len(images) :]}


def test_the_map_that_an_object_shows_is_read_off_its_name() -> None:
    def named(kind: str, name: str) -> str:
        return map_of(Sendable("", kind, name, "", "", ""))

    assert named("MR", "MR_2HG_0017") == named("PM", "PM_2HG") == "2HG"
    assert named("MR", "MR_anatomy_T1_0001") == "anatomy_T1"
