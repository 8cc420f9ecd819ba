"""Enhanced MR Images: to readers that share no code with us, what the slices they are made of are."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, encode_study
from dicom_node.encode.check import check_lesser
from dicom_node.encode.defect import Defect
from dicom_node.encode.enhanced_mr import as_enhanced_mr, check_enhanced_mr
from dicom_node.errors import BadObject
from sr_core import SuperResolved
from tests import phantom
from tests.harness import dciodvfy_errors

FEW = {"fused_maps": (), "summary": False, "parametric_maps": (), "measurements": False}
Made = tuple[SuperResolved, list[Dataset], Dataset]


def made_of(orientation: str, *, dicom: bool = True) -> Made:
    """A result, the slices of its HGG series, and its Segmentation."""
    source = phantom.source_study(orientation, dicom=dicom)
    result = phantom.super_resolved(source)
    objects = list(encode_study(result, source, OutputRules(**FEW, mr_maps=("HGG",))))
    slices = [o.dataset for o in objects if o.name.startswith("MR_HGG")]
    return result, slices, next(o.dataset for o in objects if o.kind == "SEG")


@pytest.fixture(scope="module")
def oblique() -> Made:
    return made_of("oblique")


@pytest.mark.parametrize("orientation", ["oblique", "sagittal"])
def test_every_voxel_is_where_and_what_it_is_for_simpleitk_and_dcm2niix(orientation, tmp_path):
    result, slices, segmentation = made_of(orientation)
    d = as_enhanced_mr(slices, segmentation)
    path = tmp_path / "enhanced.dcm"
    d.save_as(path, enforce_file_format=True)
    assert dciodvfy_errors([path]) == []
    hgg = next(r.values for r in result.ratios if str(r.ratio) == "HGG")
    (mapping,) = d.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    slope = float(mapping.RealWorldValueSlope)

    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    readings = [(np.transpose(SimpleITK.GetArrayFromImage(image), (2, 1, 0)), affine)]
    tool = str(Path(sys.executable).with_name("dcm2niix"))
    command = [tool, "-s", "y", "-f", "plain", "-o", str(tmp_path), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (file,) = tmp_path.glob("plain*.nii")
    nifti = nibabel.load(file)
    readings.append((np.asarray(nifti.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]) @ nifti.affine))
    for values, to_lps in readings:
        assert values.size == hgg.size
        points = np.argwhere(np.ones(values.shape)) @ to_lps[:3, :3].T + to_lps[:3, 3]
        index = result.grid.to_index(points)
        assert np.abs(index - np.rint(index)).max() < 0.02
        truth = hgg[tuple(np.rint(index).astype(int).T)]
        assert np.abs(values.ravel() * slope - truth).max() <= slope / 2 * (1 + 1e-4)


def test_frames_name_the_sources_of_their_slices_where_their_series_is_known(oblique, tmp_path):
    _, slices, segmentation = oblique
    d = as_enhanced_mr(slices, segmentation)
    evidence = {
        str(r.ReferencedSOPInstanceUID)
        for study in d.SourceImageEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for r in series.ReferencedSOPSequence
    }
    named = set()
    for frame, s in zip(d.PerFrameFunctionalGroupsSequence, slices, strict=True):
        assert frame.DerivationImageSequence[0].SourceImageSequence == s.SourceImageSequence
        named |= {str(i.ReferencedSOPInstanceUID) for i in s.SourceImageSequence}
    assert evidence == named
    _, of_nifti, other = made_of("axial", dicom=False)
    for bare in (as_enhanced_mr(slices), as_enhanced_mr(of_nifti, other)):
        assert "SourceImageEvidenceSequence" not in bare
        bare.save_as(tmp_path / "bare.dcm", enforce_file_format=True)
        assert dciodvfy_errors([tmp_path / "bare.dcm"]) == []


def test_a_spoiled_image_is_held_with_the_reason(oblique):
    _, slices, _ = oblique
    d = as_enhanced_mr(slices)
    for frame, reason in ((2, "frame 3 has other pixels"), (0, "frame 1 has other pixels")):
        spoiled = copy.deepcopy(d)
        pixels = bytearray(spoiled.PixelData)
        pixels[frame * d.Rows * d.Columns * 2] ^= 1
        spoiled.PixelData = bytes(pixels)
        with pytest.raises(Defect, match=reason):
            check_enhanced_mr(spoiled, slices)
    turned = list(reversed(slices))
    with pytest.raises(BadObject, match="Enhanced MR: frames do not ascend"):
        as_enhanced_mr(turned)
    with pytest.raises(Defect, match="frame 1 lies elsewhere than its slice"):
        check_enhanced_mr(d, turned)
    with pytest.raises(Defect, match=f"{len(slices)} frames of {len(slices) - 1} slices"):
        check_enhanced_mr(d, slices[1:])
    other = [copy.deepcopy(s) for s in slices]
    other[4].RealWorldValueMappingSequence[0].RealWorldValueSlope = 0.5
    with pytest.raises(Defect, match="frame 5 means other values"):
        check_enhanced_mr(d, other)
    bare = copy.deepcopy(d)
    del bare.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
    with pytest.raises(BadObject, match="MR_HGG: FrameVOILUTSequence is missing"):
        check_lesser([EncodedObject(bare, "MR", "MR_HGG")])
