"""OHIF's own readers of Parametric Map and Segmentation (@cornerstonejs/adapters), run in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest

FOLDER = Path(__file__).with_name("ohif")

needs_ohif_reader = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules/@cornerstonejs/adapters").is_dir(),
    reason="OHIF's reader library is not installed (apt-get install nodejs npm; npm ci in tests/ohif)",
)


class Refused(Exception):
    """What the viewer says to an object that it will not show."""


@dataclass(frozen=True)
class Job:
    """An object, and the series that the viewer lays it upon: one file for each plane, in any order."""

    kind: Literal["PM", "SEG"]
    path: Path
    series: Sequence[Path]


def read(jobs: Sequence[Job], folder: Path) -> list[np.ndarray | Refused]:
    """What the readers make of each job, as (layer, slice, row, column) of the volume that the viewer builds.

    The volume's slices ascend along row × column. A map has one layer, of float32; a segmentation has
    segment numbers, in more layers than one where segments overlap. In place of what is refused: why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sorted_series = [_ascending(job.series) for job in jobs]
    asked = [
        {
            "kind": job.kind,
            "object": str(job.path),
            "series": [str(p) for p in series],
            "out": str(folder / f"{number}.bin"),
        }
        for number, (job, series) in enumerate(zip(jobs, sorted_series, strict=True))
    ]
    (folder / "jobs.json").write_text(json.dumps(asked))
    done = subprocess.run(
        ["node", FOLDER / "read.mjs", folder / "jobs.json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[np.ndarray | Refused] = []
    for number, line in enumerate(done.stdout.splitlines()):
        answer = json.loads(line)
        if "error" in answer:
            found.append(Refused(answer["error"]))
            continue
        plane = pydicom.dcmread(sorted_series[number][0], stop_before_pixels=True)
        values = np.fromfile(folder / f"{number}.bin", "<f4" if jobs[number].kind == "PM" else np.uint8)
        found.append(values.reshape(answer["layers"], len(jobs[number].series), plane.Rows, plane.Columns))
    assert len(found) == len(jobs), done.stderr
    return found


def index_to_lps(series: Sequence[Path]) -> np.ndarray:
    """Affine of the viewer's volume of ``series``: (slice, row, column) to patient LPS, in mm."""
    planes = [pydicom.dcmread(p, stop_before_pixels=True) for p in _ascending(series)]
    iop = np.array(planes[0].ImageOrientationPatient, dtype=float)
    rows, columns = (float(x) for x in planes[0].PixelSpacing)
    first, last = (np.array(planes[n].ImagePositionPatient, dtype=float) for n in (0, -1))
    affine = np.eye(4)
    affine[:3, 0] = (last - first) / (len(planes) - 1)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = iop[3:] * rows, iop[:3] * columns, first
    return affine


def _ascending(series: Sequence[Path]) -> list[Path]:
    def height(path: Path) -> float:
        d = pydicom.dcmread(path, stop_before_pixels=True)
        iop = np.array(d.ImageOrientationPatient, dtype=float)
        return float(np.cross(iop[:3], iop[3:]) @ np.array(d.ImagePositionPatient, dtype=float))

    return sorted(series, key=height)
