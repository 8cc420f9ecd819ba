"""The gate's demands on each object by itself: modules, form of values, encoding, identity, references."""

import copy
from collections.abc import Callable

import pytest
from pydicom import Dataset
from pydicom.uid import RLELossless

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, check, encode_study
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from tests import phantom


@pytest.fixture(scope="module")
def source() -> SourceStudy:
    return phantom.source_study("oblique", IssuerOfPatientID="HOSPITAL")


@pytest.fixture(scope="module")
def objects(source: SourceStudy) -> list[EncodedObject]:
    return list(encode_study(phantom.super_resolved(source), source, OutputRules(mr_maps=("HGG",))))


def _encapsulated(d: Dataset) -> None:
    d.file_meta.TransferSyntaxUID = RLELossless


def _private(d: Dataset) -> None:
    d.private_block(0x0029, "SOMEBODY", create=True).add_new(0x01, "LO", "x")


def _seventeen_digits(d: Dataset) -> None:
    measures = d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures["SliceThickness"]._value = "1.333333333333333333"


def _both(d: Dataset) -> None:
    shared, frame = d.SharedFunctionalGroupsSequence[0], d.PerFrameFunctionalGroupsSequence[1]
    shared.SegmentIdentificationSequence = copy.deepcopy(frame.SegmentIdentificationSequence)


def _backwards(d: Dataset) -> None:
    """The same segments, the last one first."""
    count = len(d.SegmentSequence)
    for segment in d.SegmentSequence:
        segment.SegmentNumber = count + 1 - segment.SegmentNumber
    d.SegmentSequence = list(d.SegmentSequence)[::-1]
    for frame in d.PerFrameFunctionalGroupsSequence:
        identified = frame.SegmentIdentificationSequence[0]
        identified.ReferencedSegmentNumber = count + 1 - identified.ReferencedSegmentNumber


def _nowhere(d: Dataset) -> None:
    d.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


def without(keyword: str) -> Callable[[Dataset], None]:
    return lambda d: d.__delattr__(keyword)


def with_value(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda d: setattr(d, keyword, value)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("MR_HGG_0002", without("ScanningSequence"), "ScanningSequence has no value"),
        ("MR_HGG_0002", without("EchoTime"), "EchoTime is missing"),
        ("MR_HGG_0002", with_value("RescaleSlope", "0.001"), "RescaleSlope: no attribute of the MR IOD"),
        ("MR_HGG_0002", _encapsulated, "not in Explicit VR Little Endian"),
        ("MR_HGG_0002", _private, "a private attribute"),
        ("MR_HGG_0002", with_value("SeriesDescription", "x" * 65), "SeriesDescription is no LO"),
        ("PM_TCN", with_value("PresentationLUTShape", ""), "PresentationLUTShape has no value"),
        ("PM_TCN", with_value("PixelData", b"\0\0"), "PixelData: the values are 32 bit"),
        ("PM_TCN", _seventeen_digits, "SliceThickness is no DS"),
        ("PM_TCN", with_value("ContentLabel", "lower case"), "ContentLabel is no CS"),
        ("PM_TCN", _nowhere, "refers to 1.2.3.4, which is not there"),
        ("SEG_lesion", _both, "SegmentIdentificationSequence is both for all frames and for one"),
        ("SEG_lesion", _backwards, "comes after one that reaches lower"),
        ("SEG_lesion", with_value("MaximumFractionalValue", 255), "fractional segments are refused"),
        ("PM_TCN", with_value("AccessionNumber", "ACC2"), "AccessionNumber is not that of the source"),
        ("PM_TCN", without("IssuerOfPatientID"), "IssuerOfPatientID of the source is missing"),
        ("PM_TCN", with_value("AdmissionID", "A1"), "AdmissionID has a value that the source has not"),
    ],
)
def test_a_defect_is_named_with_its_object_and_not_with_the_patients_values(
    objects, source, name, spoil, words
):
    spoiled = []
    for o in objects:
        if o.name == name:
            o = EncodedObject(copy.deepcopy(o.dataset), o.kind, o.name)
            spoil(o.dataset)
        spoiled.append(o)
    with pytest.raises(BadObject, match=f"^{name}: .*{words}") as caught:
        check(spoiled, source=source)
    assert "ACC" not in str(caught.value)


def test_what_encoding_makes_passes(objects, source):
    check(objects, source=source)


def test_what_the_source_says_against_its_vr_is_carried_on_and_holds_nothing_back():
    """It is the source's to say: a study is not lost for a StudyID of 20 characters."""
    odd = phantom.source_study(StudyID="12345678901234567890", PatientSex="unknown", AccessionNumber="A" * 40)
    result = phantom.super_resolved(odd)
    objects = list(encode_study(result, odd, OutputRules(mr_maps=())))
    check(objects, result, odd)
    assert {o.dataset.StudyID for o in objects} == {"12345678901234567890"}
