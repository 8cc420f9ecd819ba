"""The whole path on one machine: a simulated study, a node and, if installed, Orthanc, all on loopback."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import sr_core

from . import config, dispatch
from .config import DicomDestination, IdentifyRules
from .errors import PermanentError, UnsuitableInput
from .picture import Panel, contact_sheet
from .process import Case, decode_case, identify_case, open_folder
from .simulate import write_case
from .store import Store

_out = Console(highlight=False, soft_wrap=True)

_RESOLVE_LIMIT_S = 900.0


def run(folder: Path, seed: int) -> None:
    """Make ``folder`` with case/, node/, out/, contact_sheet.png and, with Orthanc, orthanc/.

    If the folder is in use, the next free one (folder-2, …) is taken. Raises PermanentError if the
    node gives no result.
    """
    folder = _unused(folder.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with _out.status("simulating a glioma study on the ICBM152 brain"):
        write_case(folder / "case", template="icbm152", seed=seed, lesion="mismatch", form="dicom")
    orthanc = LoopbackOrthanc(folder / "orthanc") if LoopbackOrthanc.installed() else None
    toml = folder / "node.toml"
    node_port = free_port()
    toml.write_text(_configuration(folder, node_port, orthanc))
    try:
        if orthanc is not None:
            orthanc.start()
        case = _through_the_node(folder, toml, node_port)
    finally:
        if orthanc is not None:
            held = orthanc.held() if orthanc.running else {}
            orthanc.stop()
    report = _one_report(folder / "out")
    _contact_sheet(folder)
    _print(folder, report, case, held if orthanc is not None else None, time.monotonic() - began)


def _unused(folder: Path) -> Path:
    """``folder``, or the first of folder-2, folder-3, … that is not there or empty."""
    for number in itertools.count(2):
        if not folder.exists() or not any(folder.iterdir()):
            return folder
        folder = folder.with_name(f"{folder.name.removesuffix(f'-{number - 1}')}-{number}")
    raise AssertionError


def _through_the_node(folder: Path, toml: Path, port: int) -> dict[str, Any]:
    log = (folder / "node.log").open("w")
    node = subprocess.Popen(
        [sys.executable, "-m", "dicom_node.cli", "serve", "--config", str(toml)], stderr=log
    )
    try:
        wait_for_port(port, node)
        settings = config.load(toml)
        files = sorted(p for p in (folder / "case").rglob("*.dcm"))
        us = DicomDestination(name="node", ae_title=settings.node.ae_title, host="127.0.0.1", port=port)
        with _out.status(f"sending {len(files)} instances to the node") as spinner:
            sent = 0

            def count(*_: object) -> None:
                nonlocal sent
                sent += 1
                spinner.update(f"sending instances to the node: {sent} of {len(files)}")

            dispatch.send_paths(us, files, settings.node, count)
        return _wait_for_the_end(Store(settings.storage.database_url), node)
    finally:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(60)
        except subprocess.TimeoutExpired:
            node.kill()
        log.close()


def _wait_for_the_end(store: Store, node: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + _RESOLVE_LIMIT_S
    with _out.status("waiting") as spinner:
        while time.monotonic() < deadline:
            case = store.status()["cases"][0]
            revision = case["revisions"][0]
            spinner.update(f"the study is {revision['state']}")
            if revision["state"] in ("FAILED", "IGNORED"):
                raise PermanentError(f"the study ended {revision['state']}: {revision['reason']}")
            if revision["state"] == "DONE":
                return dict(case)
            if node.poll() is not None:
                raise PermanentError("the node stopped: see node.log")
            time.sleep(0.5)
    raise PermanentError(f"no result after {_RESOLVE_LIMIT_S:g} s: see node.log")


def _configuration(folder: Path, port: int, orthanc: LoopbackOrthanc | None) -> str:
    text = f"""# Written by the demo: a node on loopback with embedded defaults.
[node]
port = {port}

[storage]
folder = {json.dumps(str(folder / "node"))}
low_water_mb = 100

[gather]
quiet_period_s = 3.0
poll_s = 0.5

[web]
port = {free_port()}

[[destination]]
type = "folder"
name = "results"
folder = {json.dumps(str(folder / "out"))}
"""
    if orthanc is not None:
        text += f"""
[[destination]]
type = "dicom"
name = "orthanc"
ae_title = "{orthanc.ae_title}"
host = "127.0.0.1"
port = {orthanc.dicom_port}
"""
    return text


def _one_report(out: Path) -> dict[str, Any]:
    return dict(json.loads(next(out.glob("*/report.json")).read_text()))


def _contact_sheet(folder: Path) -> None:
    case = open_folder(folder / "case" / "dicom")
    acquisition = _acquisition(case)
    nifti = next((folder / "out").glob("*/nifti"))
    grid = acquisition.grid.refined((4, 4, 4))
    flair = acquisition.image_of(sr_core.Contrast.FLAIR)
    rows = []
    slice_index = _busiest_slice(folder / "case" / "truth")
    for name, unit in (("HGG", "ratio"), ("TCN", "ratio"), ("2HG", "mmol/L")):
        truth = _volume(folder / "case" / "truth" / f"{name}.nii.gz")
        high = float(np.percentile(truth[slice_index], 99.8))
        lesion_file = nifti / f"lesion_{name}.nii.gz"
        found = _volume(lesion_file)[slice_index] > 0 if lesion_file.exists() else None
        low_resolution = np.repeat(np.repeat(_low_resolution(acquisition, name), 4, axis=1), 4, axis=2)
        panels = [
            Panel(f"{name}: measured, 5.6 mm", low_resolution[slice_index // 4], (0, high), unit),
            Panel(
                f"{name}: super-resolved, 1.4 mm",
                _volume(nifti / f"{name}.nii.gz")[slice_index],
                (0, high),
                unit,
            ),
            Panel(f"{name}: truth", truth[slice_index], (0, high), unit),
        ]
        if flair is not None:
            anatomy = sr_core.resample(flair.values, flair.grid, grid)[slice_index]
            panels.append(Panel(f"lesion by {name} on FLAIR", anatomy, outline=found))
        rows.append(panels)
    rows = [[_cropped(p, _box(folder / "case" / "truth")) for p in row] for row in rows]
    contact_sheet(rows, folder / "contact_sheet.png", "Simulated IDH-mutant glioma: one axial plane")


def _acquisition(case: Case) -> sr_core.Acquisition:
    rules = IdentifyRules()
    return decode_case(case, identify_case(case, rules), rules).acquisition


def _busiest_slice(truth: Path) -> int:
    lesion = _volume(truth / "lesion.nii.gz") > 0
    return int(lesion.sum(axis=(1, 2)).argmax()) // 4 * 4


def _box(truth: Path) -> tuple[slice, slice]:
    """Rows and columns of the brain, with a margin."""
    brain = _volume(truth / "brain.nii.gz").max(axis=0)
    rows, columns = (np.flatnonzero(brain.max(axis=a)) for a in (1, 0))
    return slice(max(rows[0] - 6, 0), rows[-1] + 7), slice(max(columns[0] - 6, 0), columns[-1] + 7)


def _cropped(panel: Panel, box: tuple[slice, slice]) -> Panel:
    outline = None if panel.outline is None else panel.outline[box]
    return replace(panel, plane=panel.plane[box], outline=outline)


def _low_resolution(acquisition: sr_core.Acquisition, name: str) -> NDArray[np.float32]:
    def of(metabolite: str) -> NDArray[np.float32]:
        found = acquisition.map_of(sr_core.Metabolite(metabolite))
        if found is None:
            raise UnsuitableInput(f"the case has no {metabolite} map")
        return np.nan_to_num(found.values)

    if name == "2HG":
        return of("2HG")
    above, below = (of("2HG") + of("Gln"), of("Glu")) if name == "HGG" else (of("tCho"), of("tNAA"))
    floor = 0.1 * float(np.percentile(below, 95))
    return np.where(below > floor, above / np.maximum(below, floor), 0).astype(np.float32)


def _volume(path: Path) -> NDArray[np.float32]:
    """A NIfTI of ours as (slice, row, column) with rows to posterior and columns to the left."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.get_fdata(dtype=np.float32))[::-1, ::-1].transpose(2, 1, 0)


def _volume_at(path: Path, threshold: float) -> float:
    """mL of a true map at or above ``threshold``: what a perfect result would measure by the same rule."""
    image: Any = nibabel.load(path)
    voxel_ml = float(np.prod(image.header.get_zooms()[:3])) / 1000
    return float((np.asarray(image.dataobj) >= threshold).sum()) * voxel_ml


def _print(
    folder: Path, report: dict[str, Any], case: dict[str, Any], held: dict[str, int] | None, seconds: float
) -> None:
    truth = folder / "case" / "truth"
    table = Table(
        "map", "volume (mL)", "of the true map (mL)", "mean", "max", "rule", title="Metabolic lesion"
    )
    for name, lesion in report["lesions"].items():
        table.add_row(
            name,
            f"{lesion['volume_ml']:.1f}",
            f"{_volume_at(truth / f'{name}.nii.gz', lesion['threshold']):.1f}",
            f"{lesion['mean']:.2f}",
            f"{lesion['max']:.2f}",
            lesion["rule"],
        )
    _out.print(table)
    for warning in report["warnings"]:
        _out.print(f"warning: {warning}")
    out = next((folder / "out").glob("*/report.json")).parent
    _out.print(f"method              {report['method']}, guide {report['guide']}")
    _out.print(f"result objects      {out / 'dicom'}  {report['objects']}")
    _out.print(f"NIfTI               {out / 'nifti'}")
    _out.print(f"report              {out / 'report.json'}")
    _out.print(f"contact sheet       {folder / 'contact_sheet.png'}")
    for d in case["revisions"][0]["deliveries"]:
        _out.print(f"delivery            {d['destination']}: {d['state']}, {d['taken']} files")
    if held is None:
        _out.print("Orthanc is not installed: nothing was sent to a PACS (apt-get install orthanc)")
    else:
        _out.print(f"Orthanc holds       {held} (its storage: {folder / 'orthanc'})")
    toml = folder / "node.toml"
    _out.print(
        f"in a browser        .venv/bin/mrsi-node serve --config {toml}, then {config.load(toml).web.url}"
    )
    _out.print(f"done in {seconds:.0f} s")


class LoopbackOrthanc:
    """An Orthanc of our own on loopback, as the PACS of a demo or a test."""

    ae_title = "ORTHANC"

    def __init__(self, folder: Path, **further: Any) -> None:
        """``further`` are configuration options of Orthanc's own, such as DicomModalities."""
        self.folder = folder
        self._further = further
        self.dicom_port = free_port()
        self.http_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def executable() -> str | None:
        """Path of the Orthanc program, or None."""
        return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    @classmethod
    def installed(cls) -> bool:
        return cls.executable() is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Raises PermanentError if it does not answer within a minute."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = {
            "Name": "loopback",
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(self.folder),
            "IndexDirectory": str(self.folder),
            "Plugins": [],
            **self._further,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        with (self.folder / "orthanc.log").open("w") as log:
            self._process = subprocess.Popen(
                [str(self.executable()), str(path)],
                stdout=log,
                stderr=log,
                env={**os.environ, "TCP_NODELAY": "1"},
            )
        wait_for_port(self.dicom_port, self._process)
        wait_for_port(self.http_port, self._process)

    def get(self, resource: str) -> Any:
        """A resource of its REST interface, as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{resource}", timeout=30) as answer:
            return json.load(answer)

    def held(self) -> dict[str, int]:
        """How many instances of each modality it holds."""
        counts: dict[str, int] = {}
        for series in self.get("/series?expand"):
            modality = self.get(f"/series/{series['ID']}")["MainDicomTags"].get("Modality", "?")
            description = series["MainDicomTags"].get("SeriesDescription", "")
            kind = "PM" if description.endswith(" PM") else modality
            counts[kind] = counts.get(kind, 0) + len(series["Instances"])
        return counts

    def stop(self) -> None:
        """Let it close its database; kill it if it will not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], limit_s: float = 60.0) -> None:
    """Raises PermanentError if nothing listens after ``limit_s``, or the process ends before."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise PermanentError(f"{process.args!r} ended at once with exit code {process.returncode}")
        with socket.socket() as s:
            s.settimeout(0.5)
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise PermanentError(f"nothing listens on port {port} after {limit_s:g} s")
