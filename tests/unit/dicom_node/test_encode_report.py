"""What the Structured Report says of each lesion, and of none."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, check, encode_study
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import Metabolite, Ratio, SuperResolved
from tests import phantom

_DERIVATION = {
    "373098007": np.mean,
    "56851009": np.max,
    "373099004": np.median,
    "371888009": lambda v: np.percentile(v, 5),
    "371889001": lambda v: np.percentile(v, 95),
}


def encoded(result: SuperResolved, source: SourceStudy, **rules: object) -> list[EncodedObject]:
    return list(encode_study(result, source, OutputRules(fused_maps=(), summary=False, **rules)))


def report_of(objects: list[EncodedObject]) -> Dataset:
    return next(o.dataset for o in objects if o.kind == "SR")


def named(objects: list[EncodedObject], name: str) -> Dataset:
    return next(o.dataset for o in objects if o.name == name)


def items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from items(child)


def concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def groups(report: Dataset) -> Mapping[str, Dataset]:
    """Measurement groups by tracking identifier."""
    found = [i for i in items(report) if i.ValueType == "CONTAINER" and concept(i) == "Measurement Group"]
    return {text(g, "Tracking Identifier").removeprefix("MRSI-SR "): g for g in found}


def text(group: Dataset, name: str) -> str:
    return next(str(i.TextValue) for i in group.ContentSequence if concept(i) == name)


def code(group: Dataset, name: str) -> str:
    return next(i.ConceptCodeSequence[0].CodeValue for i in group.ContentSequence if concept(i) == name)


def numbers(group: Dataset) -> dict[tuple[str, str], Dataset]:
    """Numeric items by map and derivation, or by their own name."""
    out = {}
    for item in (i for i in group.ContentSequence if i.ValueType == "NUM"):
        said = {concept(i): i.ConceptCodeSequence[0] for i in items(item) if i.ValueType == "CODE"}
        if "Derivation" in said:
            read_in = str(said["Measurement Method"].CodeMeaning).removeprefix("Value of the ")
            out[read_in.removesuffix(" map"), said["Derivation"].CodeValue] = item
        else:
            out[concept(item), ""] = item
    return out


def value(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def unit(item: Dataset) -> str:
    return code_value(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0])


def code_value(d: Dataset) -> str:
    """Short or long (more than 16 characters)."""
    return str(d.get("CodeValue") or d.LongCodeValue)


@pytest.fixture(scope="module")
def source() -> SourceStudy:
    return phantom.source_study("oblique")


@pytest.fixture(scope="module")
def result(source: SourceStudy) -> SuperResolved:
    return phantom.super_resolved(source, model_hash="ab" * 32)


@pytest.fixture(scope="module")
def objects(result: SuperResolved, source: SourceStudy) -> list[EncodedObject]:
    return encoded(result, source)


@pytest.fixture(scope="module")
def report(objects: list[EncodedObject]) -> Dataset:
    return report_of(objects)


def test_every_value_is_that_of_the_parametric_map_within_the_segment(objects, report, result):
    """Computed again from the objects as they are written, found by the UIDs the report names."""
    by_uid = {str(o.dataset.SOPInstanceUID): o.dataset for o in objects}
    for source in ("HGG", "TCN"):
        group = groups(report)[source]
        segment = next(i for i in group.ContentSequence if concept(i) == "Referenced Segment")
        where = segment.ReferencedSOPSequence[0]
        mask = segment_mask(
            by_uid[where.ReferencedSOPInstanceUID], where.ReferencedSegmentNumber, result.grid.shape
        )
        found = {key: item for key, item in numbers(group).items() if key[1]}
        assert len(found) == 5 * 5
        for (name, derivation), item in found.items():
            image = next(i for i in items(item) if i.ValueType == "IMAGE").ReferencedSOPSequence[0]
            pm = by_uid[image.ReferencedSOPInstanceUID]
            assert pm is named(objects, f"PM_{name}")
            values = np.frombuffer(pm.FloatPixelData, "<f4").reshape(mask.shape)[mask].astype(np.float64)
            assert value(item) == pytest.approx(_DERIVATION[derivation](values), rel=1e-9)
            mapping = pm.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
            assert unit(item) == code_value(mapping.MeasurementUnitsCodeSequence[0])
            quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
            assert item.ConceptNameCodeSequence[0].CodeValue == quantity.CodeValue


def segment_mask(d: Dataset, number: int, shape: tuple[int, int, int]) -> np.ndarray:
    """A segment on the grid of ``shape``, plane by plane along the normal."""
    bits = np.unpackbits(np.frombuffer(d.PixelData, np.uint8), bitorder="little")
    frames = bits[: d.NumberOfFrames * d.Rows * d.Columns].reshape(-1, d.Rows, d.Columns)
    mask = np.zeros(shape, dtype=bool)
    for frame, item in zip(frames, d.PerFrameFunctionalGroupsSequence, strict=True):
        if item.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            source = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            series = d.ReferencedSeriesSequence[0].ReferencedInstanceSequence
            mask[[r.ReferencedSOPInstanceUID for r in series].index(source)] = frame
    return mask


def test_a_lesion_has_volume_regions_and_the_limit_it_was_found_by(report, result):
    found = numbers(groups(report)["HGG"])
    lesion = result.lesion[0]
    volume = found["Volume", ""]
    assert value(volume) == pytest.approx(lesion.mask.sum() * result.grid.voxel_volume_ml)
    assert unit(volume) == "cm3"
    assert value(found["Number of connected regions", ""]) == 1
    assert value(found["Metabolic limit", ""]) == 1.5
    assert "2 x the median of normal white matter" in text(groups(report)["HGG"], "Comment")


def test_a_lesion_is_tracked_under_the_name_of_its_segment(objects, report):
    segments = {s.TrackingID: s.TrackingUID for s in named(objects, "SEG_lesion").SegmentSequence}
    for group in groups(report).values():
        identifier = text(group, "Tracking Identifier")
        uid = next(i.UID for i in group.ContentSequence if concept(i) == "Tracking Unique Identifier")
        assert segments.get(identifier, uid) == uid
    assert set(segments) <= {f"MRSI-SR {name}" for name in groups(report)}


def test_what_was_not_measured_is_part_of_the_report(report, result):
    group = groups(report)["not measured"]
    wanted = result.quality.not_measured.sum() * result.grid.voxel_volume_ml
    assert value(numbers(group)["Volume", ""]) == pytest.approx(wanted)
    assert "does not mean normal" in text(group, "Comment")


def test_the_report_says_who_measured_how_and_that_nobody_verified_it(report):
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in report
    said = {concept(i): i for i in report.ContentSequence}
    assert said["Observer Type"].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert said["Language of Content Item and Descendants"].ConceptCodeSequence[0].CodeValue == "en"
    group = groups(report)["HGG"]
    assert text(group, "Algorithm Name") == "MRSI-SR"
    assert text(group, "Algorithm Version") == "mrsi-sr-node 0.1.0"
    parameters = [i.TextValue for i in group.ContentSequence if concept(i) == "Algorithm Parameters"]
    assert parameters == ["method bicubic", f"settings {'0f' * 32}", f"weights {'ab' * 32}"]


def test_a_report_carries_patient_and_study_and_nothing_of_images(report, source):
    for keyword in (
        "PatientName",
        "PatientID",
        "StudyInstanceUID",
        "AccessionNumber",
        "SpecificCharacterSet",
    ):
        assert report[keyword].value == source.header[keyword].value
    for keyword in ("FrameOfReferenceUID", "BurnedInAnnotation", "ContentQualification", "BodyPartExamined"):
        assert keyword not in report


def test_no_region_above_the_limit_is_a_finding_and_not_called_no_tumour(source):
    none = tuple(
        phantom.lesion(source.acquisition.grid.refined(phantom.FACTOR), n, slice(0, 0)) for n in Ratio
    )
    made = phantom.super_resolved(source, lesions=none, not_measured=False)
    objects = encoded(made, source)
    assert not [o for o in objects if o.kind == "SEG"]
    found = groups(report_of(objects))
    for name in Ratio:
        assert code(found[name], "Region at or above the metabolic limit") == "NOREGION"
        words = text(found[name], "Comment")
        assert words.startswith("No region above the limit was found") and "says nothing of tumour" in words
        assert value(numbers(found[name])["Metabolic limit", ""]) == 1.5
    check(objects, made)


def test_a_map_that_could_not_be_made_is_said_not_to_be_assessed(source):
    few = phantom.source_study(metabolites=(Metabolite.TNAA,), anatomy_frame=None)
    found = groups(
        report_of(encoded(phantom.super_resolved(few, ratios=(), lesions=(), not_measured=False), few))
    )
    assert set(found) == {"HGG", "TCN", "2HG"}
    for group in found.values():
        assert code(group, "Region at or above the metabolic limit") == "NOTASSESSED"
        assert "not a finding of absence" in text(group, "Comment")
        assert not numbers(group)


def test_a_limit_that_could_not_be_set_is_not_a_finding_of_absence(source, result):
    nothing = replace(phantom.lesion(result.grid, "HGG", slice(0, 0)), threshold=float("nan"))
    made = phantom.super_resolved(source, lesions=(nothing,))
    group = groups(report_of(encoded(made, source)))["HGG"]
    assert code(group, "Region at or above the metabolic limit") == "NOTASSESSED"


def test_without_segmentation_and_maps_the_figures_stay(source, result):
    objects = encoded(result, source, segmentation=False, segmentation_on_anatomy=False, parametric_maps=())
    found = numbers(groups(report_of(objects))["HGG"])
    assert value(found["HGG", "56851009"]) == result.ratios[0].values[result.lesion[0].mask].max()
    assert not [i for i in items(report_of(objects)) if i.ValueType == "IMAGE"]
    check(objects)


def test_a_report_can_be_left_out(source, result):
    assert not [o for o in encoded(result, source, measurements=False) if o.kind == "SR"]


def spoiled(objects: list[EncodedObject], spoil) -> list[EncodedObject]:
    out = [o for o in objects if o.kind != "SR"]
    bad = copy.deepcopy(report_of(objects))
    spoil(bad)
    return [*out, EncodedObject(bad, "SR", "SR_measurements")]


def _wrong_value(d: Dataset) -> None:
    item = numbers(groups(d)["TCN"])["tCho", "373098007"]
    item.MeasuredValueSequence[0].NumericValue = str(value(item) * 1.0001)[:16]


def _other_segment(d: Dataset) -> None:
    segment = next(i for i in groups(d)["HGG"].ContentSequence if concept(i) == "Referenced Segment")
    segment.ReferencedSOPSequence[0].ReferencedSegmentNumber = 2


def _unknown_map(d: Dataset) -> None:
    image = next(i for i in items(d) if i.ValueType == "IMAGE" and concept(i) == "Source of Measurement")
    image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.99"


def _verified(d: Dataset) -> None:
    d.VerificationFlag = "VERIFIED"


def _empty(d: Dataset) -> None:
    d.ContentSequence = [i for i in d.ContentSequence if concept(i) != "Imaging Measurements"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_wrong_value, "the map and the mask give"),
        (_other_segment, "the map and the mask give"),
        (_unknown_map, "not among its evidence"),
        (_verified, "nobody verified"),
        (_empty, "no measurement group"),
    ],
)
def test_the_gate_holds_a_report_that_is_not_true(objects, result, spoil, words):
    check(objects, result)
    with pytest.raises(BadObject, match=words):
        check(spoiled(objects, spoil), result)


def test_the_gate_holds_a_report_on_what_was_not_sent(objects, result):
    with pytest.raises(BadObject, match="not sent before it"):
        check([o for o in objects if o.kind not in ("PM", "SEG")], result)
