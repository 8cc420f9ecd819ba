"""NIfTI cases become studies, results become NIfTI: every value keeps its place in the patient."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from dicom_node import layouts, ras
from dicom_node.errors import UnsuitableGeometry, UnsuitableInput
from dicom_node.simulate import write_nifti
from dicom_node.source import SourceStudy
from sr_core import Acquisition, Contrast, Metabolite, Unit
from tests import builders

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_case(folder: Path) -> SourceStudy:
    return layouts.recognise(folder).study()


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case-7"
    write_nifti(builders.acquisition("oblique"), folder)
    return folder


def store(path: Path, data: np.ndarray, affine_ras: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), affine_ras), path)


def test_a_case_is_read_as_it_was_written(case: Path) -> None:
    assert layouts.recognise(case).name == "NIfTI case"
    truth = builders.acquisition("oblique")
    source = read_case(case)
    found = source.acquisition
    assert not source.warnings
    assert {m.metabolite for m in found.maps} == set(builders.METABOLITES)
    for m in truth.maps:
        mine = found.map_of(m.metabolite)
        assert mine is not None
        np.testing.assert_array_equal(mine.values, m.values)
        np.testing.assert_array_equal(mine.crlb_percent, m.crlb_percent)
        assert mine.unit is Unit.MMOL_PER_L
    np.testing.assert_allclose(found.grid.affine, truth.grid.affine, atol=1e-4)
    assert found.snr is not None
    assert found.linewidth_ppm is not None
    assert found.acquired_matrix == truth.grid.shape
    assert {a.contrast for a in found.anatomy} == set(Contrast)
    assert {a.grid.frame_of_reference for a in found.anatomy} == {found.grid.frame_of_reference}


def test_a_case_states_its_k_space_filter(case: Path) -> None:
    stated = case / "case.toml"
    stated.write_text(stated.read_text() + 'psf = "hamming"\n')
    assert read_case(case).acquisition.psf == "hamming"


# Three stored axes along ±R, ±A, ±S in any order: what scanners, converters and tools write.
AXES = [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, 1, 1)), ((1, 2, 0), (1, -1, 1)), ((2, 0, 1), (-1, -1, -1))]


@pytest.mark.parametrize(("order", "signs"), AXES)
def test_a_volume_stored_along_any_axes_keeps_every_value_in_place(
    tmp_path: Path, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    data = np.random.default_rng(0).random((9, 10, 8)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (3.0 + axis)
    affine[:3, 3] = (-30, 20, 5)
    store(tmp_path / "maps" / "tNAA.nii.gz", data, affine)
    m = read_case(tmp_path).acquisition.maps[0]
    for ijk in [(0, 0, 0), (8, 9, 7), (2, 7, 1)]:
        place_lps = (LPS @ affine @ (*ijk, 1))[:3]
        index = m.grid.to_index(place_lps)
        np.testing.assert_allclose(index, np.round(index), atol=1e-6)
        k, j, i = np.round(index).astype(int)
        assert m.values[k, j, i] == data[ijk]


def test_results_lie_in_nifti_where_they_lie_in_the_patient(tmp_path: Path) -> None:
    grid = builders.grid("sagittal")
    values = builders.asymmetric(grid)
    image = nibabel.load(ras.write(tmp_path / "tNAA.nii.gz", values, grid))
    assert image.get_data_dtype() == np.float32
    for kji in [(0, 0, 0), (5, 9, 8), (1, 2, 7)]:
        ijk = np.linalg.inv(LPS @ image.affine) @ (*grid.to_patient(kji), 1)
        i, j, k = np.round(ijk[:3]).astype(int)
        assert image.get_fdata()[i, j, k] == pytest.approx(values[kji])
    mask = nibabel.load(ras.write(tmp_path / "lesion_HGG.nii.gz", values > 3, grid))
    assert mask.get_data_dtype() == np.uint8


def test_the_same_case_gets_the_same_made_up_identity_and_another_gets_another(case: Path) -> None:
    first, again = read_case(case).header, read_case(case).header
    assert first.StudyInstanceUID == again.StudyInstanceUID
    assert first.PatientID == "SIMULATED"
    (case / "case.toml").write_text('patient_id = "山田"\n')
    other = read_case(case).header
    assert other.StudyInstanceUID != first.StudyInstanceUID
    assert other.PatientID == "山田"
    (case / "case.toml").unlink()
    assert read_case(case).header.PatientID == "case-7"


def test_a_template_series_gives_identity_and_frame_of_reference(case: Path) -> None:
    builders.write(builders.series(builders.usual(), "MPRAGE")[:2], case / "template_dicom")
    source = read_case(case)
    like = builders.usual()[0]
    assert source.header.StudyInstanceUID == like.StudyInstanceUID
    assert source.header.PatientName == like.PatientName
    assert source.acquisition.grid.frame_of_reference == builders.FRAME


def test_an_empty_template_folder_is_refused(case: Path) -> None:
    (case / "template_dicom").mkdir()
    with pytest.raises(UnsuitableInput, match="template_dicom"):
        read_case(case)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('patient = "x"', "patient: Extra inputs are not permitted"),
        ('unit = "mol"', "unit"),
        ("unit = ", "not TOML"),
        ("acquired_matrix = [7, 10, 9]", "does not fit"),
    ],
)
def test_a_case_file_that_cannot_be_meant_is_refused_naming_the_key(
    case: Path, text: str, words: str
) -> None:
    (case / "case.toml").write_text(text)
    with pytest.raises(UnsuitableInput, match=words):
        read_case(case)


def test_a_name_that_is_no_metabolite_is_refused_and_a_ratio_is_left_out(case: Path) -> None:
    some = case / "maps" / "tNAA.nii.gz"
    (case / "maps" / "HGG.nii.gz").write_bytes(some.read_bytes())
    assert any("ratios are made here" in w for w in read_case(case).warnings)
    (case / "maps" / "unobtainium.nii.gz").write_bytes(some.read_bytes())
    with pytest.raises(UnsuitableInput, match="unobtainium"):
        read_case(case)


def test_two_files_of_one_metabolite_are_refused(case: Path) -> None:
    (case / "maps" / "GPC+PCh.nii.gz").write_bytes((case / "maps" / "tCho.nii.gz").read_bytes())
    with pytest.raises(UnsuitableInput, match="both maps of tCho"):
        read_case(case)


def test_maps_on_different_grids_are_refused_and_a_quality_map_off_the_grid_is_left_out(case: Path) -> None:
    other = builders.grid("oblique", (5, 10, 9))
    ras.write(case / "quality" / "snr.nii.gz", builders.asymmetric(other), other)
    source = read_case(case)
    assert source.acquisition.snr is None
    assert any("SNR is not used" in w for w in source.warnings)
    ras.write(case / "maps" / "Lac.nii.gz", builders.asymmetric(other), other)
    with pytest.raises(UnsuitableGeometry, match="another grid"):
        read_case(case)


def test_a_sheared_volume_is_refused(tmp_path: Path) -> None:
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    affine[0, 1] = 0.5
    store(tmp_path / "maps" / "tNAA.nii.gz", np.ones((9, 10, 8)), affine)
    with pytest.raises(UnsuitableGeometry, match="orthogonal"):
        read_case(tmp_path)


def test_a_volume_without_position_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((9, 10, 8), dtype=np.float32), None)
    (tmp_path / "maps").mkdir()
    nibabel.save(image, tmp_path / "maps" / "tNAA.nii.gz")
    with pytest.raises(UnsuitableGeometry, match="states no position"):
        read_case(tmp_path)


def test_a_broken_file_is_refused_by_name(case: Path) -> None:
    (case / "maps" / "Glu.nii.gz").write_bytes(b"\x1f\x8b not gzip")
    with pytest.raises(UnsuitableInput, match=r"Glu\.nii\.gz is no readable NIfTI"):
        read_case(case)


def test_absolute_crlb_and_linewidth_in_hz_are_converted_as_the_case_file_says(case: Path) -> None:
    (case / "case.toml").write_text('crlb = "absolute"\nlinewidth = "Hz"\nimaging_frequency_mhz = 125.0\n')
    found = read_case(case).acquisition
    truth: Acquisition = builders.acquisition("oblique")
    m = found.map_of(Metabolite.TNAA)
    assert m is not None
    np.testing.assert_allclose(m.crlb_percent, np.minimum(999, 500 / truth.maps[0].values), rtol=1e-5)
    np.testing.assert_allclose(found.linewidth_ppm, 0.05 / 125, rtol=1e-5)


def test_each_file_of_a_case_is_described_with_its_role_and_reason(case: Path) -> None:
    ras.write(case / "notes.nii", builders.asymmetric(builders.grid()), builders.grid())
    described = layouts.recognise(case).describe()
    rows = {description: (role, reason) for _, description, role, reason in described}
    assert rows["maps/tNAA.nii.gz"] == ("metabolite_map", "tNAA map, named by its file")
    assert rows["quality/2HG_crlb.nii.gz"][0] == "quality_map"
    assert rows["T1.nii.gz"][0] == "t1"
    assert rows["FLAIR.nii.gz"][0] == "flair"
    assert rows["notes.nii"] == ("other", "neither T1* nor FLAIR*")


def test_a_folder_without_maps_is_no_case(tmp_path: Path) -> None:
    assert layouts.recognise(tmp_path) is None
    (tmp_path / "maps").mkdir()
    assert layouts.recognise(tmp_path) is None
