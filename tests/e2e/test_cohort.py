"""Many cases: gone on with after kill -9, past those that fail; one table, one report."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow.parquet
import pytest

from dicom_node import cohort, config
from dicom_node.cohort import find, solve
from dicom_node.cohort.cases import fingerprint
from dicom_node.simulate import write_dicom, write_nifti
from sr_core import Metabolite
from tests import builders, dying, research

MAPS = (Metabolite.TNAA, Metabolite.TCHO)
NAME = "Simulated^Glioma"  # in every DICOM header, and nowhere in what a cohort writes about them


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Three good cases in three layouts, one that is broken, one folder that is none."""
    root = tmp_path_factory.mktemp("study")
    small = builders.acquisition("sagittal", MAPS, anatomy=())
    write_nifti(small, root / "sub-01" / "ses-a", "<script>alert(1)</script>")
    write_dicom(small, root / "dicom case" / "series")
    packed = shutil.make_archive(str(root / "zipped"), "zip", root / "dicom case")
    assert Path(packed).is_file()
    write_nifti(small, root / "zz broken")
    (root / "zz broken" / "maps" / "tCho.nii.gz").write_bytes(b"no NIfTI")
    (root / "notes").mkdir()
    (root / "notes" / "plan.txt").write_text("none")
    return root


# Of each case only what a cohort needs: objects for viewers are tested elsewhere.
LEAN = """
[output]
mr_maps = []
fused_maps = []
summary = false
measurements = false
segmentation = false
[gate]
dciodvfy = "off"
"""


def command(study: Path, out: Path, *more: str) -> list[str]:
    (out.parent / "node.toml").write_text(LEAN)
    verb = ["cohort", str(study), "--out", str(out), "--method", "bicubic"]
    verb += ["--config", str(out.parent / "node.toml")]
    return [sys.executable, "-m", "dicom_node.cli", *verb, *more]


@pytest.fixture(scope="module")
def killed(study, tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """A cohort killed with -9 once a case was done: when each that was done was written."""
    out = tmp_path_factory.mktemp("out") / "results"
    running = subprocess.Popen(command(study, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(out.glob("cases/*/case.json")) and time.monotonic() < until:
        time.sleep(0.02)
    children = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive  # no worker outlives its cohort: it would write beside the next one
    return out, {p.parent.name: p.stat().st_mtime_ns for p in out.glob("cases/*/case.json")}


@pytest.fixture(scope="module")
def done(study, killed) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The same command again."""
    out, _ = killed
    ended = subprocess.run(
        command(study, out, "--json"), capture_output=True, text=True, timeout=300, check=False
    )
    return out, ended


def test_it_goes_on_after_kill_9_and_past_a_failing_case(killed, done):
    out, before = killed
    _, ended = done
    assert before and ended.returncode == 2, ended.stderr
    said = json.loads(ended.stdout)
    assert said["before"] == len(before) and said["done"] + said["before"] == 3
    for key, written in before.items():
        assert (out / "cases" / key / "case.json").stat().st_mtime_ns == written  # not done again
    assert list(said["failed"]) == ["zz broken"]
    assert "tCho.nii.gz is no readable NIfTI" in said["failed"]["zz broken"]
    assert not (out / "work").exists()
    with (out / "failed.csv").open() as f:
        assert next(csv.DictReader(f))["case"] == "zz broken"


def test_the_table_has_a_row_for_every_map_in_both_forms(done):
    out, _ = done
    table = pyarrow.parquet.read_table(out / "cohort.parquet")
    rows = table.to_pylist()
    assert len(rows) == 3 * 3  # tNAA, tCho, TCN
    assert {(r["subject"], r["session"]) for r in rows} == {
        ("01", "a"), ("dicom case", ""), ("zipped", "")
    }  # fmt: skip
    tcn = [r for r in rows if r["map"] == "TCN"]
    for r in tcn:
        assert r["unit"] == "{ratio}" and r["method"] == "bicubic" and r["settings_hash"]
        assert 0 < r["p05"] <= r["p50"] <= r["p95"] <= r["max"]
        assert r["lesion_volume_ml"] is not None and r["rejected_share"] is None
    assert len({round(r["mean"], 3) for r in tcn}) == 1  # one study, in three layouts
    with (out / "cohort.csv").open() as f:
        as_text = list(csv.DictReader(f))
    assert [r["map"] for r in as_text] == [r["map"] for r in rows]
    np.testing.assert_allclose([float(r["p50"]) for r in as_text], [r["p50"] for r in rows], rtol=1e-5)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_report_stands_alone_and_names_no_patient(done):
    out, _ = done
    text = (out / "cohort.html").read_text()
    page = _Page()
    page.feed(text)
    assert not any(t in ("script", "link", "iframe", "object") for t, _ in page.tags)
    pictures = [a for t, a in page.tags if t == "img"]
    assert len(pictures) == 3 and all(a["src"].startswith("data:image/jpeg;base64,") for a in pictures)
    assert all(a["alt"] for a in pictures)
    assert not re.search(r"https?://", text)
    for name in (NAME, "alert(1)", "Glioma"):
        assert name not in text and name not in (out / "cohort.csv").read_text()
    assert "1 of 4 cases failed" in text and "zz broken" in text


def test_a_changed_case_or_other_settings_are_done_again_and_bids_gets_the_labels_of_the_path(
    study, tmp_path
):
    shutil.copytree(study / "sub-01", tmp_path / "in" / "sub-01")
    (case,) = find(tmp_path / "in", tmp_path / "out")
    settings = config.Settings(resolve=config.ResolveRules(method="zerofill"))
    first = fingerprint(case, settings, "bids", "1")
    assert first == fingerprint(case, settings, "bids", "1")
    assert first != fingerprint(case, config.Settings(), "bids", "1")
    (case.path / "case.toml").write_text('patient_id = "other"\n')
    assert first != fingerprint(case, settings, "bids", "1")
    assert solve.run(solve.Task(case, tmp_path / "out", settings, "bids", first)) == ""
    mrs = tmp_path / "out" / "bids" / "sub-01" / "ses-a" / "mrs"
    assert (mrs / "sub-01_ses-a_res-sr_desc-TCN_mrsi.nii.gz").is_file()
    assert {p.name for p in (tmp_path / "out" / "cases" / case.key).iterdir()} == {
        "case.json",
        "picture.jpg",
    }


def test_cases_are_found_where_each_layout_keeps_them(tmp_path):
    small = builders.acquisition(metabolites=MAPS)
    for session in ("V1", "V2"):
        research.mrsiprep(small, tmp_path / "bids", session=session)
    research.fsl_mrsi(small, tmp_path / "many" / "p1")
    write_dicom(small, tmp_path / "many" / "p2" / "a" / "b")
    found = find(tmp_path / "bids", tmp_path / "out")
    assert [(c.subject, c.session, c.path.name) for c in found] == [
        ("S01", "V1", "ses-V1"),
        ("S01", "V2", "ses-V2"),
    ]
    assert [c.path.name for c in find(tmp_path / "many", tmp_path / "many" / "p2")] == ["p1"]
    shutil.make_archive(str(tmp_path / "many" / "p3" / "export"), "zip", tmp_path / "many" / "p2")
    assert [c.subject for c in find(tmp_path / "many", tmp_path / "out")] == ["p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("jobs", "keys"),
    [(1, ("fine-1", "always", "once", "fails", "fine-2")), (2, ("fine-1", "always", "fails", "fine-2"))],
)
def test_a_case_that_kills_its_process_costs_the_others_nothing(jobs, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "run", dying.run)
    monkeypatch.setattr(cohort, "begin", dying.begin)
    tasks = [SimpleNamespace(out=tmp_path, case=SimpleNamespace(key=key)) for key in keys]
    ended = {t.case.key: why.partition(":")[0] for t, why in cohort._each(tasks, jobs)}
    expected = {"fails": "in words", "always": "its process died"}
    assert ended == {key: expected.get(key, "") for key in keys}
