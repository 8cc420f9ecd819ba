"""[quantify]: the site's own command makes maps of spectra; whatever it does, the node stays well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from pydicom.uid import MRSpectroscopyStorage

from dicom_node import config
from dicom_node.config import QuantifyRules
from dicom_node.errors import BadConfiguration, UnsuitableInput
from dicom_node.quantify import quantify
from dicom_node.research import read_case, solve
from sr_core import Contrast, Metabolite
from tests import builders, site_quantify, spectra

SITE = (sys.executable, site_quantify.__file__, "{input}", "{output}")
MAPS = (Metabolite.TNAA, Metabolite.TCHO)


@pytest.fixture(scope="module")
def truth():
    return builders.acquisition("oblique", MAPS, anatomy=(Contrast.T1,))


@pytest.fixture(scope="module")
def study(truth, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    builders.write(spectra.spectra_only(truth), folder)
    return folder


@pytest.fixture(scope="module")
def files(study) -> list[Path]:
    return [
        p
        for p in study.iterdir()
        if pydicom.dcmread(p, specific_tags=["SOPClassUID"]).SOPClassUID == MRSpectroscopyStorage
    ]


def configured(tmp_path: Path, *mode: str, limit_s: float = 60) -> Path:
    toml = tmp_path / "node.toml"
    command = ", ".join(f'"{part}"' for part in (*SITE, *mode))
    toml.write_text(
        f'[quantify]\ncommand = [{command}]\nlimit_s = {limit_s}\n[resolve]\nmethod = "bicubic"\n'
    )
    return toml


def test_spectra_become_maps_at_their_place_in_their_study_beside_the_anatomy(
    study, truth, tmp_path, monkeypatch
):
    monkeypatch.setenv("MRSI_NODE__LOG__LEVEL", "INFO")  # nothing of it reaches the command
    out = tmp_path / "out"
    out.mkdir()
    report = solve(study, out, config.load(configured(tmp_path))).report
    assert {"tNAA", "tCho", "TCN"} <= set(report["maps"])
    assert "maps were made of the spectra by the site's own command" in report["warnings"]
    assert {s["role"] for s in report["series"]} == {"t1", "spectra", "metabolite_map"}
    found = read_case(study, configured(tmp_path))
    assert {a.contrast for a in found.anatomy} == {Contrast.T1}
    assert (
        found.grid.frame_of_reference
        == truth.grid.frame_of_reference
        == found.anatomy[0].grid.frame_of_reference
    )
    np.testing.assert_allclose(found.grid.affine, truth.grid.affine, atol=1e-3)
    for m in found.maps:
        np.testing.assert_allclose(m.values / spectra.POINTS, truth.map_of(m.metabolite).values, rtol=1e-4)
    source = next(d for d in map(pydicom.dcmread, study.iterdir()) if d.SOPClassUID == MRSpectroscopyStorage)
    made = pydicom.dcmread(next(p for p in (out / "dicom").glob("*PM*.dcm") if "TCN" in p.name))
    assert made.StudyInstanceUID == source.StudyInstanceUID and made.PatientID == source.PatientID
    assert str(source.SOPInstanceUID) in str(made)  # derived from: the spectra


def test_without_a_command_nothing_changes(study, tmp_path):
    with pytest.raises(UnsuitableInput, match="no metabolite map among 2 series; spectra: maps expected"):
        solve(study, tmp_path, config.Settings())


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fail", "ended with exit code 3; what it said is in"),
        ("nothing", "wrote nothing into its output folder"),
        ("rubbish", r"what the \[quantify\] command wrote is not a NIfTI case"),
    ],
)
def test_a_command_that_fails_is_told_in_words(mode, words, study, tmp_path):
    with pytest.raises(UnsuitableInput, match=words):
        read_case(study, configured(tmp_path, mode))


def test_a_command_that_cannot_be_started_or_knows_no_folders_is_a_matter_of_configuration(files, tmp_path):
    with pytest.raises(BadConfiguration, match="/no/such/program cannot be started"):
        quantify(QuantifyRules(command=("/no/such/program", "{input}", "{output}")), files, {}, tmp_path)
    with pytest.raises(ValueError, match=r"\{output\} must be among its arguments"):
        QuantifyRules(command=("fit", "{input}"))


def test_the_same_spectra_are_quantified_once_apart_from_the_node_s_own_files_and_settings(files, tmp_path):
    before = [p.read_bytes() for p in files]
    rules = QuantifyRules(command=SITE)
    (tmp_path / "quantifying-left").mkdir()
    maps = quantify(rules, files, {}, tmp_path)
    written = (maps / "maps" / "tNAA.nii.gz").stat().st_mtime_ns
    assert quantify(rules, files, {}, tmp_path) == maps
    assert (maps / "maps" / "tNAA.nii.gz").stat().st_mtime_ns == written
    assert quantify(QuantifyRules(command=(*SITE, "run")), files, {}, tmp_path) != maps  # another command
    assert [p.read_bytes() for p in files] == before
    assert not list(tmp_path.glob("quantifying-*"))
    assert next(tmp_path.glob("quantify-*.log")).read_text() == "False\n"  # no variable of the node's


def all_gone(pids: list[int]) -> bool:
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=20)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def pids(home: Path) -> list[int]:
    until = time.monotonic() + 30
    while time.monotonic() < until and not ((home / "pids").exists() and (home / "pids").read_text()):
        time.sleep(0.02)
    return [int(p) for p in (home / "pids").read_text().split()]


def test_a_command_that_hangs_is_ended_with_all_that_it_started(files, tmp_path):
    with pytest.raises(UnsuitableInput, match="did not end within 2 s"):
        quantify(QuantifyRules(command=(*SITE, "hang"), limit_s=2), files, {}, tmp_path)
    assert all_gone(pids(tmp_path))


def test_a_command_ends_with_a_worker_that_is_killed(files, tmp_path):
    """kill -9 of the process that waits for it: nothing is left to write beside the next try."""
    lines = (
        "import sys; from pathlib import Path; from dicom_node.config import QuantifyRules\n"
        "from dicom_node.quantify import quantify\n"
        "quantify(QuantifyRules(command=tuple(sys.argv[3:])), [Path(sys.argv[1])], {}, Path(sys.argv[2]))"
    )
    worker = subprocess.Popen([sys.executable, "-c", lines, files[0], tmp_path, *SITE, "hang"])
    of_command = pids(tmp_path)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert all_gone(of_command)
