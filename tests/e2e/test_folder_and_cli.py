"""Research desk: watch folder, ``process`` and ``simulate``, DICOM and NIfTI."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from dicom_node import simulate
from dicom_node.simulate.export import Identity
from tests import builders, site_quantify, spectra
from tests.harness import Node, dciodvfy_errors, folder_destination

REPORT_KEYS = {
    "state", "method", "maps", "lesions", "series", "rejected_fraction", "inpainted_fraction", "warnings",
    "timings_s", "versions",
}  # fmt: skip


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def node(out: Path, module_node: Callable[..., Node]) -> Node:
    command = [sys.executable, site_quantify.__file__, "{input}", "{output}"]
    quantify = f"[quantify]\ncommand = {json.dumps(command)}\n"
    return module_node(destinations=quantify + folder_destination(out), watch=True)


def wait_for_folder(node: Node, case: str, where: str) -> Path:
    node.wait_for(lambda _: any(node.inbox.glob(f"*/{case}/report.json")))
    report = next(node.inbox.glob(f"*/{case}/report.json"))
    assert report.parent.parent.name == where, report.read_text()
    return report.parent


def of(patient: str) -> list[builders.FileDataset]:
    return builders.study(identity=Identity(patient_id=patient, study=patient))


def test_a_dicom_folder_is_taken_when_ready_and_ends_in_done(node, out, tmp_path):
    study = of("A")
    builders.write(study, tmp_path / "case" / "series")
    (tmp_path / "case" / "READY").touch()
    shutil.move(tmp_path / "case", node.inbox / "dicom")

    done = wait_for_folder(node, "dicom", "done")
    report = json.loads((done / "report.json").read_text())
    assert report["state"] == "DONE"
    assert report.keys() >= REPORT_KEYS
    delivered = [pydicom.dcmread(p, stop_before_pixels=True) for p in out.glob("*/dicom/*PM*.dcm")]
    assert any(d.StudyInstanceUID == study[0].StudyInstanceUID for d in delivered)


def test_a_nifti_folder_is_taken_after_two_equal_scans_and_ends_in_done(node, out):
    before = set(out.glob("*/nifti/TCN.nii.gz"))
    simulate.write_nifti(builders.acquisition(), node.inbox / "nifti")
    done = wait_for_folder(node, "nifti", "done")
    assert json.loads((done / "report.json").read_text())["state"] == "DONE"
    assert set(out.glob("*/nifti/TCN.nii.gz")) - before


def test_spectra_alone_become_maps_by_the_site_s_own_command(node, out):
    study = spectra.spectra_only(builders.acquisition(), Identity(patient_id="Q", study="Q"))
    builders.write(study, node.inbox / "spectra")
    done = wait_for_folder(node, "spectra", "done")
    report = json.loads((done / "report.json").read_text())
    assert {"tNAA", "tCho", "TCN"} <= set(report["maps"])
    assert "site's own command" in report["warnings"][0]
    delivered = [pydicom.dcmread(p, stop_before_pixels=True) for p in out.glob("*/dicom/*PM*.dcm")]
    assert any(d.StudyInstanceUID == study[0].StudyInstanceUID and d.PatientID == "Q" for d in delivered)


def test_a_broken_folder_ends_in_failed_with_the_reason(node):
    study = builders.with_series(of("B"), "LCM tNAA conc", builders.missing_slice)
    builders.write(study, node.inbox / "broken")
    failed = wait_for_folder(node, "broken", "failed")
    report = json.loads((failed / "report.json").read_text())
    assert report["state"] == "FAILED"
    assert "gap of 11" in report["reason"]


@pytest.mark.parametrize("form", ["dicom", "nifti"])
def test_process_writes_the_contract_for_both_forms(form, tmp_path):
    case, out = tmp_path / "case", tmp_path / "out"
    if form == "dicom":
        builders.write(builders.study(), case)
    else:
        simulate.write_nifti(builders.acquisition(), case)
    done = cli("process", case, "--out", out, "--method", "bicubic+fnlm+dc", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    told = json.loads(done.stdout)
    assert {k: told[k] for k in ("folder", "maps", "method", "warnings")} == {
        "folder": str(out), **{k: report[k] for k in ("maps", "method", "warnings")}
    }  # fmt: skip
    assert report.keys() >= REPORT_KEYS
    assert report["method"] == "bicubic+fnlm+dc"
    for name in report["maps"]:
        assert (out / "nifti" / f"{name}.nii.gz").exists()
    for lesion in report["lesions"].values():
        assert lesion.keys() >= {"volume_ml", "mean", "max"}
    objects = list((out / "dicom").glob("*.dcm"))
    kinds = {pydicom.dcmread(p, stop_before_pixels=True).SOPClassUID.name for p in objects}
    assert kinds >= {"MR Image Storage", "Parametric Map Storage"}
    assert not dciodvfy_errors(objects)


def test_dicom_and_nifti_forms_of_one_study_give_the_same_map_at_the_same_place(tmp_path):
    study = builders.acquisition("oblique")
    builders.write(builders.study("oblique", of=study), tmp_path / "d")
    simulate.write_nifti(study, tmp_path / "n")
    images = []
    for form in "dn":
        done = cli("process", tmp_path / form, "--out", tmp_path / f"out-{form}", "--method", "zerofill")
        assert done.returncode == 0, done.stderr
        images.append(nibabel.load(tmp_path / f"out-{form}" / "nifti" / "tNAA.nii.gz"))
    a, b = images
    assert np.allclose(a.affine, b.affine, atol=2e-3)
    scale = np.abs(a.get_fdata()).max()
    assert np.allclose(a.get_fdata(), b.get_fdata(), atol=2e-3 * scale)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.mkdir(), "neither DICOM files nor a case in a known layout"),
        (
            lambda folder: builders.write(builders.localizer(builders.study()[:6]), folder),
            "no metabolite map",
        ),
        (
            lambda folder: builders.write(
                builders.with_series(builders.study(), "LCM Glu conc", builders.missing_slice), folder
            ),
            "gap of 11",
        ),
    ],
)
def test_bad_input_exits_2_with_one_clear_message(make, words, tmp_path):
    make(tmp_path / "case")
    done = cli("process", tmp_path / "case", "--out", tmp_path / "out")
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_method_names_those_there_are(tmp_path):
    builders.write(builders.study(), tmp_path / "case")
    done = cli("process", tmp_path / "case", "--out", tmp_path / "out", "--method", "magic")
    assert done.returncode == 2
    assert "unet+fnlm+dc" in done.stderr


@pytest.mark.slow
def test_simulate_and_process_find_the_lesion_where_the_truth_has_it(tmp_path):
    """The published contract end to end: a simulated glioma, and the lesion overlaps the true one."""
    done = cli("simulate", tmp_path / "case", "--seed", 3, "--format", "nifti", "--json")
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "case")
    truth = nibabel.load(tmp_path / "case" / "truth" / "lesion.nii.gz")
    done = cli("process", tmp_path / "case", "--out", tmp_path / "out", "--method", "bicubic+dc")
    assert done.returncode == 0, done.stderr
    found = nibabel.load(tmp_path / "out" / "nifti" / "lesion_2HG.nii.gz")
    assert np.allclose(found.affine, truth.affine, atol=1e-3)
    a, b = found.get_fdata() > 0, truth.get_fdata() > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.5
