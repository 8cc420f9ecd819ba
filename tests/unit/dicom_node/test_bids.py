"""Results as a BIDS data set: judged by bids-validator, and by BIDS's pattern where that has no rule."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

from dicom_node import bids, config
from dicom_node.config import FolderDestination
from dicom_node.dispatch import folder as dispatch_folder
from dicom_node.research import solve
from dicom_node.simulate import write_nifti
from dicom_node.spool import Spool
from dicom_node.store import Sendable
from sr_core import Metabolite
from tests import builders

# <source_entities>[_res-<label>][_desc-<label>]_<suffix> (BIDS 1.10, "Common data types and metadata")
PATTERN = r"sub-[0-9A-Za-z]+(_ses-[0-9A-Za-z]+)?_res-[0-9A-Za-z]+_desc-[0-9A-Za-z]+_mrsi\.(nii\.gz|json)"
MAPS = (Metabolite.TNAA, Metabolite.TCHO)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("solved")
    write_nifti(builders.acquisition(metabolites=MAPS, anatomy=()), home / "case", "Münster 7")
    (home / "results").mkdir()
    settings = config.Settings(resolve=config.ResolveRules(method="bicubic"))
    solve(home / "case", home / "results", settings)
    return home / "results"


@pytest.fixture
def dataset(results, tmp_path) -> Path:
    shutil.copytree(results, tmp_path / "r")
    bids.arrange(tmp_path / "r", tmp_path / "dataset")
    return tmp_path / "dataset"


def test_the_validator_finds_no_error_and_names_follow_the_pattern(dataset):
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run(
        [validator, dataset, "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []
    (dataset / ".bidsignore").write_text("dicom\nreports\n")  # maps are named by the pattern, not by a rule
    done = subprocess.run(
        [validator, dataset, "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    issues = [i for i in json.loads(done.stdout)["issues"]["issues"] if i["severity"] == "error"]
    assert {Path(i["location"]).name for i in issues} == {p.name for p in dataset.rglob("*_mrsi.*")}
    for path in dataset.rglob("*_mrsi.*"):
        assert re.fullmatch(PATTERN, path.name)


def test_every_volume_has_a_sidecar_that_says_unit_method_model_and_sources(dataset):
    volumes = sorted(dataset.rglob("*.nii.gz"))
    assert {re.search(r"desc-(\w+?)_", p.name)[1] for p in volumes if "_mrsi" in p.name} == {
        "tNAA",
        "tCho",
        "TCN",
    }
    for path in volumes:
        said = json.loads(bids.sidecar_path(path).read_text())
        assert said["Method"] == "bicubic" and said["SettingsSHA256"] and said["SoftwareVersion"]
        assert {s["role"] for s in said["SourceSeries"]} == {"metabolite_map", "quality_map"}
        if "_mrsi" in path.name:
            assert said["Units"] == ("{ratio}" if said["Map"] == "TCN" else "mmol/L")
            assert said["SpacingMillimetres"] == pytest.approx(
                nibabel.load(path).header.get_zooms()[::-1], abs=1e-3
            )
        else:
            assert (dataset / said["Sources"][0].removeprefix("bids::")).is_file()


def test_labels_are_letters_and_digits_and_two_patients_stay_two():
    assert bids.label("sub-01") == "01" == bids.label("01")
    assert len({bids.label(t) for t in ("A1", "A-1", "A 1", "Ä1", "山田", "")}) == 6
    assert all(re.fullmatch(r"[0-9A-Za-z]+", bids.label(t)) for t in ("A-1", "山田", ""))


def test_a_folder_destination_writes_the_same_data_set(results, dataset, tmp_path):
    spool = Spool(tmp_path / "spool")
    shutil.copytree(results, spool.root / "out" / "case" / "1-1")
    files = [
        Sendable(f"out/case/1-1/{p.relative_to(results)}", "", "", "", "", "")
        for p in sorted(results.rglob("*"))
        if p.is_file()
    ]
    taken: list[str] = []
    destination = FolderDestination(name="d", folder=tmp_path / "delivered", layout="bids")
    dispatch_folder.write(destination, files, spool, lambda f, _: taken.append(f.path))
    assert len(taken) == len(files)
    names = {p.relative_to(dataset) for p in dataset.rglob("*") if p.is_file()}
    assert {
        p.relative_to(tmp_path / "delivered") for p in (tmp_path / "delivered").rglob("*") if p.is_file()
    } == names
    for name in (n for n in names if n.suffix == ".json"):
        assert json.loads((dataset / name).read_text()) == json.loads(
            (tmp_path / "delivered" / name).read_text()
        )
