"""The gate: each defect that would mislead a viewer, a PACS or a reader is caught and named."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, check, checked, encode_study
from dicom_node.errors import BadObject
from dicom_node.source import SourceStudy
from sr_core import SuperResolved
from tests import phantom

Spoil = Callable[[Dataset], None]


@pytest.fixture(scope="module")
def result() -> SuperResolved:
    return phantom.super_resolved(phantom.source_study())


@pytest.fixture(scope="module")
def objects(result: SuperResolved) -> list[EncodedObject]:
    return list(encode_study(result, phantom.source_study(), OutputRules()))


def spoiled(objects: Sequence[EncodedObject], name: str, spoil: Spoil) -> list[EncodedObject]:
    """``objects`` with a copy of ``name`` that ``spoil`` has been at."""
    out = []
    for o in objects:
        if o.name == name:
            o = EncodedObject(copy.deepcopy(o.dataset), o.kind, o.name)
            spoil(o.dataset)
        out.append(o)
    return out


def test_what_encoding_makes_passes_with_and_without_its_values(objects, result):
    check(objects)
    check(objects, result)
    assert [o.name for o in checked(objects, result)] == [o.name for o in objects]


def test_an_object_is_handed_on_before_the_next_is_made(objects, result):
    """The gate streams: a study never has to lie in memory as a whole."""
    made = []

    def making():
        for o in objects:
            made.append(o.name)
            yield o

    next(checked(making(), result))
    assert made == [objects[0].name]


def _descending(d: Dataset) -> None:
    d.PerFrameFunctionalGroupsSequence = list(reversed(d.PerFrameFunctionalGroupsSequence))
    frames = np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns)
    d.FloatPixelData = frames[::-1].tobytes()


def _one_value_not_finite(d: Dataset) -> None:
    values = np.frombuffer(d.FloatPixelData, "<f4").copy()
    values[17] = np.nan
    d.FloatPixelData = values.tobytes()


def _one_bit_off(d: Dataset) -> None:
    values = bytearray(d.FloatPixelData)
    values[1000] ^= 1
    d.FloatPixelData = bytes(values)


def _upside_down(d: Dataset) -> None:
    frames = np.frombuffer(d.FloatPixelData, "<f4").reshape(-1, d.Rows, d.Columns)
    d.FloatPixelData = frames[:, ::-1].tobytes()


def _orientation_rounded_anew(d: Dataset) -> None:
    shared = d.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]


def _other_parent(d: Dataset) -> None:
    d.ReferencedSeriesSequence = list(d.ReferencedSeriesSequence)[1:]


def _one_step_too_high(d: Dataset) -> None:
    stored = np.frombuffer(d.PixelData, "<u2").copy()
    stored[3] += 1
    d.PixelData = stored.tobytes()


def _frames_refer_one_off(d: Dataset) -> None:
    frames = d.PerFrameFunctionalGroupsSequence
    first = frames[0].DerivationImageSequence
    frames[0].DerivationImageSequence = frames[1].DerivationImageSequence
    frames[1].DerivationImageSequence = first


def _one_voxel_more(d: Dataset) -> None:
    pixels = bytearray(d.PixelData)
    pixels[0] ^= 0x80
    d.PixelData = bytes(pixels)


def _moved(d: Dataset) -> None:
    x, y, z = d.ImagePositionPatient
    d.ImagePositionPatient = [x, y, float(z) - 50]


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("PM_HGG", _descending, "do not ascend"),
        ("PM_HGG", _one_value_not_finite, "not finite"),
        ("PM_HGG", _one_bit_off, "not those of the HGG map"),
        ("PM_HGG", _upside_down, "not those of the HGG map"),
        ("PM_HGG", _orientation_rounded_anew, "geometry differs"),
        ("PM_HGG", _other_parent, "first referenced series"),
        ("PM_HGG", _frames_refer_one_off, "refers to another plane"),
        ("PM_HGG", lambda d: d.__delattr__("ReferencedSeriesSequence"), "no Referenced Series"),
        (
            "PM_HGG",
            lambda d: d.SharedFunctionalGroupsSequence[0].__delattr__("FrameAnatomySequence"),
            "no Frame Anatomy",
        ),
        ("PM_HGG", lambda d: setattr(d, "Modality", "OT"), "Modality is OT"),
        ("PM_HGG", lambda d: d.__delattr__("FloatPixelData"), "incomplete"),
        ("MR_HGG_0003", _one_step_too_high, "over half a step"),
        ("MR_HGG_0003", _moved, "do not ascend"),
        ("MR_HGG_0003", lambda d: setattr(d, "InstanceNumber", 7), "instance numbers"),
        ("MR_HGG_0003", lambda d: setattr(d, "PixelSpacing", ["1", "1"]), "geometry differs"),
        ("MR_HGG_0003", lambda d: setattr(d, "PatientID", "SOMEONE-ELSE"), "PatientID differs"),
        ("MR_HGG_0003", lambda d: setattr(d, "StudyInstanceUID", "2.25.1"), "StudyInstanceUID differs"),
        ("MR_HGG_0003", lambda d: setattr(d, "DeviceSerialNumber", ""), "DeviceSerialNumber has no value"),
        ("MR_HGG_0003", lambda d: d.__delattr__("StudyID"), "StudyID is missing"),
        ("SEG_lesion", _one_voxel_more, "segment 1 is not its mask"),
        ("SEG_lesion", lambda d: setattr(d, "SegmentationType", "FRACTIONAL"), "not a BINARY"),
    ],
)
def test_a_defect_is_named_with_its_object(objects, result, name, spoil, words):
    with pytest.raises(BadObject, match=f"^{name}: .*{words}"):
        check(spoiled(objects, name, spoil), result)


def test_a_lost_slice_is_noticed(objects, result):
    """Its successor does not carry the number that follows."""
    with pytest.raises(BadObject, match="MR_HGG_0004: instance numbers"):
        check([o for o in objects if o.name != "MR_HGG_0003"], result)


def test_two_parametric_maps_in_one_series_are_refused(objects, result):
    """Viewers read the first instance only."""
    uid = next(o for o in objects if o.name == "PM_HGG").dataset.SeriesInstanceUID
    with pytest.raises(BadObject, match="PM_TCN: two Parametric Maps in one series"):
        check(spoiled(objects, "PM_TCN", lambda d: setattr(d, "SeriesInstanceUID", uid)), result)


def test_an_instance_uid_is_given_once(objects, result):
    uid = objects[0].dataset.SOPInstanceUID

    def same(d: Dataset) -> None:
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = uid

    with pytest.raises(BadObject, match="occurs twice"):
        check(spoiled(objects, "PM_TCN", same), result)


@pytest.fixture(scope="module")
def measured() -> tuple[list[EncodedObject], SuperResolved, SourceStudy]:
    """Quality on the planes on which it was measured, beside the anatomy."""
    source = phantom.source_study("oblique")
    a = source.acquisition
    bounds = phantom.volume(a.grid, seed=3, high=40.0)
    maps = (replace(a.maps[0], crlb_percent=bounds), *a.maps[1:])
    acquired = replace(a, maps=maps, snr=phantom.volume(a.grid, seed=4, high=20.0))
    source = replace(source, acquisition=acquired)
    result = phantom.super_resolved(source)
    rules = OutputRules(
        quality_maps=True, parametric_maps=(), fused_maps=(), summary=False, measurements=False
    )
    return list(checked(encode_study(result, source, rules), result, source)), result, source


def _between_planes(d: Dataset) -> None:
    first, second = (f.PlanePositionSequence[0] for f in d.PerFrameFunctionalGroupsSequence[:2])
    both = zip(first.ImagePositionPatient, second.ImagePositionPatient, strict=True)
    first.ImagePositionPatient = [f"{(float(a) + float(b)) / 2:.6f}" for a, b in both]


def _turned(d: Dataset) -> None:
    orientation = d.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    x = [float(v) for v in orientation.ImageOrientationPatient]
    orientation.ImageOrientationPatient = [f"{v:.9f}" for v in (*x[3:], *(-v for v in x[:3]))]


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("PM_quality_SNR", _one_value_not_finite, "values that are not finite"),
        ("PM_quality_SNR", _upside_down, "values are not those of the SNR map"),
        ("PM_quality_tNAA_CRLB", _descending, "frames do not ascend"),
        ("PM_quality_tNAA_CRLB", _between_planes, "frames are not the planes that were measured"),
        ("PM_quality_tNAA_CRLB", _turned, "geometry differs from the measured map's"),
    ],
)
def test_a_spoiled_map_of_quality_is_held_with_the_reason(measured, name, spoil, words):
    objects, result, source = measured
    with pytest.raises(BadObject, match=f"^{name}: .*{words}"):
        check(spoiled(objects, name, spoil), result, source)
