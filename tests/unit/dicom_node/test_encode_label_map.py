"""Label Maps: to readers that share no code with us, what the BINARY Segmentation they are made of is."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.config import OutputRules
from dicom_node.encode import EncodedObject, encode_study
from dicom_node.encode.check import check_lesser
from dicom_node.encode.defect import Defect
from dicom_node.encode.label_map import as_label_maps, check_label_maps
from dicom_node.errors import BadObject
from dicom_node.rungs import LABEL_MAP
from sr_core import Grid, SuperResolved
from tests import phantom
from tests.harness import dciodvfy_errors

FEW = {"fused_maps": (), "summary": False, "parametric_maps": (), "measurements": False}


def made_of(orientation: str = "oblique", **changed: object) -> tuple[SuperResolved, Dataset]:
    """A result and its Segmentation: lesions of HGG and TCN, which overlap, and what was not measured."""
    source = phantom.source_study(orientation)
    result = phantom.super_resolved(source, **changed)
    objects = encode_study(result, source, OutputRules(**FEW))
    return result, next(o.dataset for o in objects if o.name == "SEG_lesion")


@pytest.fixture(scope="module")
def both() -> tuple[SuperResolved, Dataset, list[Dataset]]:
    result, binary = made_of()
    return result, binary, as_label_maps(binary)


def truth(result: SuperResolved) -> dict[str, np.ndarray]:
    masks = {f"Metabolic lesion {x.source}": x.mask for x in result.lesion}
    return masks | {"Not measured or repaired": result.quality.not_measured}


def test_segments_that_overlap_are_in_layers_and_keep_number_words_and_tracking(both):
    _, binary, made = both
    assert [[s.SegmentNumber for s in d.SegmentSequence] for d in made] == [[0, 1, 3], [0, 2]]
    by_number = {s.SegmentNumber: s for s in binary.SegmentSequence}
    for d in made:
        assert (d.SOPClassUID, d.SegmentationType, d.SegmentsOverlap) == (LABEL_MAP, "LABELMAP", "NO")
        assert all(s == by_number[s.SegmentNumber] for s in d.SegmentSequence[1:])
    assert made[1].SeriesDescription == "MRSI-SR lesion (label map 2 of 2)"
    assert len({d.SeriesInstanceUID for d in (binary, *made)}) == 3


@pytest.mark.parametrize("orientation", ["oblique", "sagittal"])
def test_each_segment_lies_where_it_is_for_dcmqi_dcm2niix_and_highdicom(orientation, tmp_path):
    """Every voxel of every mask at its own patient point, and no other. GDCM knows no such class."""
    result, binary = made_of(orientation)
    found: dict[str, dict[str, set[tuple[int, ...]]]] = {}
    for n, d in enumerate(as_label_maps(binary)):
        path, folder = tmp_path / f"{n}.dcm", tmp_path / str(n)
        folder.mkdir()
        d.save_as(path, enforce_file_format=True)
        assert dciodvfy_errors([path]) == []
        run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nii")
        run("dcm2niix", "-s", "y", "-f", "plain", "-o", folder, path)
        volume = hd.seg.segread(path).get_volume(combine_segments=True, relabel=False)
        readings = {"highdicom": (volume.array, volume.affine)}
        (by_dcmqi,), (by_dcm2niix,) = folder.glob("*.nii.gz"), folder.glob("*.nii")
        for reader, file in (("dcmqi", by_dcmqi), ("dcm2niix", by_dcm2niix)):
            image = nibabel.load(file)
            readings[reader] = (np.asarray(image.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine)
        for s in d.SegmentSequence[1:]:
            found[s.SegmentLabel] = {
                reader: voxels_at(labels == s.SegmentNumber, affine, result.grid)
                for reader, (labels, affine) in readings.items()
            }
    wanted = truth(result)
    assert found.keys() == wanted.keys()
    for label, mask in wanted.items():
        voxels = set(map(tuple, np.argwhere(mask).tolist()))
        assert found[label] == {"highdicom": voxels, "dcmqi": voxels, "dcm2niix": voxels}, label


def voxels_at(mask: np.ndarray, affine: np.ndarray, grid: Grid) -> set[tuple[int, ...]]:
    """Voxels of ``grid`` that those of ``mask`` lie on; ``affine`` takes its indices to patient LPS."""
    index = grid.to_index(np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3])
    assert np.abs(index - np.rint(index)).max() < 0.02
    return set(map(tuple, np.rint(index).astype(int).tolist()))


def run(tool: str, *arguments: object) -> None:
    command = [str(Path(sys.executable).with_name(tool)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_planes_without_anything_between_others_are_there_and_refer_to_their_own(both):
    """Else who takes the frames for a volume would close the gap."""
    result, binary, (d, _) = both
    series = binary.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    hit = np.flatnonzero(np.any(list(truth(result).values()), axis=(0, 2, 3)))
    assert len(hit) < d.NumberOfFrames == hit[-1] - hit[0] + 1
    for k, frame in enumerate(d.PerFrameFunctionalGroupsSequence, start=int(hit[0])):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == series[k].ReferencedSOPInstanceUID
        position = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert np.abs(result.grid.to_index(position) - (k, 0, 0)).max() < 1e-6


def test_planes_of_another_study_are_known_too_and_where_nothing_says_which_they_are_gaps_stay(both):
    _, binary, (whole, _) = both
    other = Dataset()
    other.StudyInstanceUID = "2.25.77"
    other.ReferencedSeriesSequence = binary.ReferencedSeriesSequence
    elsewhere = copy.deepcopy(binary)
    elsewhere.StudiesContainingOtherReferencedInstancesSequence = [other]
    del elsewhere.ReferencedSeriesSequence
    (d, _) = as_label_maps(elsewhere)
    assert d.PerFrameFunctionalGroupsSequence == whole.PerFrameFunctionalGroupsSequence
    del elsewhere.StudiesContainingOtherReferencedInstancesSequence
    (d, _) = as_label_maps(elsewhere)
    hit = {str(f.PlanePositionSequence[0]) for f in binary.PerFrameFunctionalGroupsSequence}
    assert {str(f.PlanePositionSequence[0]) for f in d.PerFrameFunctionalGroupsSequence} == hit
    assert d.NumberOfFrames == len(hit) < whole.NumberOfFrames


def test_a_lesion_in_one_slice_still_has_more_than_one_frame():
    """Some viewers read no single frame."""
    g = phantom.source_study().acquisition.grid.refined(phantom.FACTOR)
    _, binary = made_of("axial", lesions=[phantom.lesion(g, slices=slice(5, 6))], not_measured=False)
    (d,) = as_label_maps(binary)
    assert d.NumberOfFrames == g.shape[0]
    heights = [f.PlanePositionSequence[0].ImagePositionPatient[2] for f in d.PerFrameFunctionalGroupsSequence]
    assert heights == sorted(heights)


def test_a_spoiled_label_map_is_held_with_the_reason(both):
    _, binary, made = both

    def spoiled() -> list[Dataset]:
        return [copy.deepcopy(d) for d in made]

    moved = spoiled()
    pixels = np.frombuffer(moved[0].PixelData, np.uint8)
    moved[0].PixelData = np.roll(pixels, 1).tobytes()
    with pytest.raises(Defect, match="segment 1 is not its mask"):
        check_label_maps(moved, binary)
    foreign = spoiled()
    foreign[1].PixelData = (
        np.where(np.frombuffer(foreign[1].PixelData, np.uint8), 9, 0).astype("u1").tobytes()
    )
    with pytest.raises(Defect, match="a voxel of a segment that is not described"):
        check_label_maps(foreign, binary)
    with pytest.raises(Defect, match=r"segments \[1, 3\], not \[1, 2, 3\]"):
        check_label_maps(made[:1], binary)
    bare = spoiled()[0]
    del bare.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    with pytest.raises(BadObject, match="SEG_lesion: PlaneOrientationSequence is missing"):
        check_lesser([EncodedObject(bare, "SEG", "SEG_lesion")])


def test_the_validator_knows_the_class(both, tmp_path):
    """It looks at what a Label Map must have, not only at what all objects have."""
    d: Dataset = copy.deepcopy(both[2][0])
    del d.SegmentSequence
    d.save_as(tmp_path / "bad.dcm", enforce_file_format=True)
    assert any("SegmentSequence" in line for line in dciodvfy_errors([tmp_path / "bad.dcm"]))
    assert pydicom.dcmread(tmp_path / "bad.dcm").SOPClassUID == LABEL_MAP
