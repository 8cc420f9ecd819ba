"""A simulated study looks like a site's export, to us and to independent readers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from dicom_node.errors import BadConfiguration, UnsuitableInput
from dicom_node.simulate import Identity, write_case, write_dicom, write_truth
from tests import builders

TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_a_validator_finds_no_error(tmp_path: Path, form: str) -> None:
    """dciodvfy on one instance of every series."""
    paths = write_dicom(builders.acquisition("oblique"), tmp_path, form=form)
    one_each = {p.name[:4]: p for p in paths}
    assert set(one_each) >= {"0002", "0003", "0101", "0201", "0301", "0302"}
    for path in one_each.values():
        said = subprocess.run(
            [TOOLS / "dciodvfy", "-new", path], capture_output=True, text=True, check=False, timeout=60
        )
        errors = re.findall(r"^Error.*", said.stdout + said.stderr, re.MULTILINE)
        assert not errors, (path.name, errors)


@pytest.mark.parametrize("form", ["classic", "enhanced"])
def test_dcm2niix_finds_every_value_at_the_same_place(tmp_path: Path, form: str) -> None:
    truth = builders.acquisition("oblique", anatomy=(), quality=False)
    write_dicom(truth, tmp_path / "dicom", form=form)
    command = [TOOLS / "dcm2niix", "-f", "%s", "-o", tmp_path, "-z", "n", tmp_path / "dicom"]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    image = nibabel.load(tmp_path / "101.nii")
    to_index = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine)
    for kji in [(0, 0, 0), (5, 9, 8), (1, 7, 2), (4, 0, 8)]:
        exact = (to_index @ (*truth.grid.to_patient(kji), 1))[:3]
        np.testing.assert_allclose(exact, np.round(exact), atol=1e-3)
        i, j, k = np.round(exact).astype(int)
        assert image.get_fdata()[i, j, k] == pytest.approx(truth.maps[0].values[kji], abs=6e-4)


def test_the_same_content_gets_the_same_uids_and_another_patient_others() -> None:
    def uids(identity: Identity) -> list[str]:
        return [str(d.SOPInstanceUID) for d in builders.study(identity=identity)]

    assert uids(Identity()) == uids(Identity())
    assert not set(uids(Identity())) & set(uids(Identity(patient_id="other")))


def test_all_series_share_patient_study_and_frame() -> None:
    study = builders.usual()
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({d[keyword].value for d in study}) == 1
    assert len({d.SOPInstanceUID for d in study}) == len(study)


def test_the_truth_lies_beside_the_case_with_the_lesions_volume(tmp_path: Path) -> None:
    grid = builders.grid().refined((4, 4, 4))
    lesion = np.zeros(grid.shape, dtype=bool)
    lesion[3:9, 4:14, 5:15] = True
    write_truth({"HGG": builders.asymmetric(grid), "lesion": lesion}, grid, tmp_path)
    volume = nibabel.load(tmp_path / "lesion.nii.gz")
    ml = float(volume.get_fdata().sum() * np.prod(volume.header.get_zooms()) / 1000)
    stated = json.loads((tmp_path / "lesions.json").read_text())
    assert stated == {name: pytest.approx(ml, abs=0.001) for name in ("HGG", "TCN", "2HG")}


def test_what_cannot_be_simulated_is_said_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "case"
    for wrong in ({"lesion": "big"}, {"form": "png"}, {"template": "colin27"}):
        with pytest.raises(BadConfiguration):
            write_case(out, **wrong)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UnsuitableInput, match="not empty"):
        write_case(out)


def test_files_say_who_they_are(tmp_path: Path) -> None:
    path = write_dicom(builders.acquisition(), tmp_path, Identity(patient_name="Ærø^Åse"))[0]
    d = pydicom.dcmread(path)
    assert str(d.PatientName) == "Ærø^Åse"
    assert d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID
