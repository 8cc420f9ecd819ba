"""OHIF in a real browser, on an archive: what is made is shown, and shown where it is.

A study with one head, one lesion in its left front and one that overlaps it, and a region that was not
measured. Pictures stay in tests/viewers/pictures. Not part of a plain run, for its weight:
bash deploy/test.sh tests/viewers
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pydicom
import pytest

from dicom_node.config import OutputRules
from dicom_node.demo import LoopbackOrthanc
from dicom_node.encode import checked, encode_study
from dicom_node.source import SourceStudy
from sr_core import SuperResolved
from tests import phantom
from tests.viewers.ohif_site import Site, chromium

_OHIF = Path(__file__).parents[1] / "ohif"
_DIST = _OHIF / "app/package/dist"
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_PICTURES = Path(__file__).with_name("pictures")
_PLANE = 15  # of the super-resolved grid, through both lesions

_MISSING = [
    what
    for what, there in {
        "OHIF (bash deploy/test.sh tests/viewers)": _DIST.is_dir(),
        "playwright-core (npm ci in tests/ohif)": (_OHIF / "node_modules/playwright-core").is_dir(),
        "node (apt-get install nodejs npm)": shutil.which("node") is not None,
        "Chromium (apt-get install chromium)": chromium() is not None,
        "Orthanc with DICOMweb (apt-get install orthanc orthanc-dicomweb)": LoopbackOrthanc.installed()
        and _PLUGIN.exists(),
    }.items()
    if not there
]
pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {'; '.join(_MISSING)}"),
]


def a_study() -> tuple[SourceStudy, SuperResolved]:
    """Axial; rows run to the patient's left, columns to the back, slices to the head."""
    source = phantom.source_study(
        g=phantom.grid("axial", (6, 12, 12), (6.0, 5.0, 5.0), (-27.5, -30.0, -20.0))
    )
    result = phantom.super_resolved(source)
    k, i, j = np.indices(result.grid.shape)
    n = result.grid.shape
    from_middle = (
        ((k / n[0] - 0.5) / 0.5) ** 2 + ((i / n[1] - 0.5) / 0.46) ** 2 + ((j / n[2] - 0.5) / 0.4) ** 2
    )
    head = from_middle < 1
    hgg_lesion = (k - 15) ** 2 + (i - 16) ** 2 + (j - 33) ** 2 < 25
    tcn_lesion = (k - 12) ** 2 + (i - 16) ** 2 + (j - 33) ** 2 < 20
    missing = np.zeros(n, dtype=bool)
    missing[3:5, 20:30, 5:12] = True
    hgg = np.where(head, np.where(hgg_lesion, 3.0, 1.0), 0).astype(np.float32)
    t1 = np.where(head, 400 + 300 * (from_middle > 0.75), 0).astype(np.float32)
    found = phantom.lesion(result.grid)
    return source, replace(
        result,
        anatomy=(replace(result.anatomy[0], values=t1),),
        lesion=(replace(found, mask=hgg_lesion), replace(found, source="TCN", mask=tcn_lesion)),
        ratios=tuple(replace(r, values=hgg) if str(r.ratio) == "HGG" else r for r in result.ratios),
        quality=replace(result.quality, not_measured=missing),
    )


@dataclass(frozen=True)
class Shown:
    """What the browser had to say: display sets by series, scenes by name, and errors of the page."""

    result: SuperResolved
    paths: Mapping[str, Path]
    display_sets: Mapping[str, dict[str, Any]]
    scenes: Mapping[str, dict[str, Any]]
    errors: list[str]

    def picture(self, scene: str) -> np.ndarray:
        """The part of a picture that shows the image: (row, column, RGB), 0 to 1, around its middle."""
        said = self.scenes[scene]
        assert not said.get("problem"), said
        pixels = matplotlib.image.imread(said["file"])[..., :3]
        v = {key: int(value) for key, value in said["viewport"].items()}
        image = pixels[v["y"] : v["y"] + v["height"], v["x"] : v["x"] + v["width"]]
        side = min(image.shape[:2])
        margin = (image.shape[1] - side) // 2
        return image[:, margin : margin + side]

    def at(self, scene: str, row: float, column: float) -> np.ndarray:
        """The colour of a voxel of the plane that fills the viewport."""
        picture = self.picture(scene)
        size = picture.shape[0] / self.result.grid.shape[1]
        r, c = int((row + 0.5) * size), int((column + 0.5) * size)
        return picture[r - 3 : r + 4, c - 3 : c + 4].mean(axis=(0, 1))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("ohif")
    source, result = a_study()
    paths: dict[str, Path] = {}
    series: dict[str, str] = {}
    for o in checked(encode_study(result, source, OutputRules(mr_maps=("HGG",))), result, source):
        paths[o.name] = folder / f"{o.name}.dcm"
        series[str(o.dataset.SeriesInstanceUID)] = o.name
        o.dataset.save_as(paths[o.name], enforce_file_format=True)
    web = {"Enable": True, "Root": "/dicom-web/"}
    archive = LoopbackOrthanc(folder / "orthanc", Plugins=[str(_PLUGIN)], DicomWeb=web)
    archive.start()
    try:
        for path in paths.values():
            url = f"http://127.0.0.1:{archive.http_port}/instances"
            urllib.request.urlopen(urllib.request.Request(url, data=path.read_bytes()), timeout=30).read()
        with Site(_DIST, archive.http_port) as site:
            said = show(site, paths, len(series), folder)
    finally:
        archive.stop()
    yield Shown(
        result,
        paths,
        {d["series"]: d for d in said["displaySets"]},
        {s["name"]: s for s in said["scenes"]},
        said["errors"],
    )


def show(site: Site, paths: Mapping[str, Path], series: int, folder: Path) -> dict[str, Any]:
    """Every scene, in one browser. A further kind of object is one more line here."""
    _PICTURES.mkdir(exist_ok=True)
    anatomy, derived = f"MR_anatomy_T1_{_PLANE + 1:04d}", f"MR_HGG_{_PLANE + 1:04d}"
    colour = f"SC_fused_HGG_{_PLANE + 1:04d}"
    scenes = [
        {"name": "anatomy", "series": of(paths, anatomy), "instance": of(paths, anatomy, "SOPInstanceUID")},
        {"name": "derived", "series": of(paths, derived), "instance": of(paths, derived, "SOPInstanceUID")},
        {"name": "colour", "series": of(paths, colour), "instance": of(paths, colour, "SOPInstanceUID")},
        {"name": "summary", "series": of(paths, "SC_summary")},
        {
            "name": "derived_with_segments",
            "series": of(paths, derived),
            "overlay": of(paths, "SEG_lesion"),
            "instance": of(paths, derived, "SOPInstanceUID"),
        },
        {"name": "map", "series": of(paths, "PM_HGG"), "instance": of(paths, anatomy, "SOPInstanceUID")},
        {"name": "report", "series": of(paths, "SR_measurements"), "open": True},
    ]
    study = of(paths, derived, "StudyInstanceUID")
    job = {
        "chromium": chromium(),
        "url": f"http://127.0.0.1:{site.port}/viewer?StudyInstanceUIDs={study}",
        "series": series,
        "scenes": scenes,
        "folder": str(_PICTURES),
        "limit_ms": 180_000,
        "settle_ms": 2500,
    }
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        ["node", _OHIF / "view.mjs", folder / "job.json"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (_PICTURES / "said.json").write_text(done.stdout)
    return dict(json.loads(done.stdout))


def of(paths: Mapping[str, Path], name: str, keyword: str = "SeriesInstanceUID") -> str:
    return str(pydicom.dcmread(paths[name], stop_before_pixels=True)[keyword].value)


def test_every_series_has_a_place_in_the_viewer_and_none_is_called_unsupported(shown):
    for name in ("MR_anatomy_T1_0001", "MR_HGG_0001", "PM_HGG", "SEG_lesion", "SEG_lesion_on_T1"):
        display_set = shown.display_sets[of(shown.paths, name)]
        assert not display_set["unsupported"] and not display_set["messages"], display_set
    assert shown.errors == []


def test_the_anatomy_is_shown_as_a_head_with_nothing_around_it(shown):
    inside, skull = shown.at("anatomy", 24, 24), shown.at("anatomy", 24, 6.5)
    assert 0.2 < inside.mean() < skull.mean() and shown.at("anatomy", 2, 2).mean() < 0.05
    assert np.ptp(inside) < 0.02  # grey


def test_the_derived_map_shows_the_lesion_in_the_patients_left_front(shown):
    """Patient left is on the right of the picture, front is up; the same place mirrored is not bright."""
    lesion = shown.at("derived", 16, 33).mean()
    assert lesion > 0.9
    for row, column in ((16, 14), (31, 33), (31, 14)):
        assert 0.2 < shown.at("derived", row, column).mean() < 0.5


def test_segments_lie_on_the_map_in_their_colours_where_they_are(shown):
    """TCN's green where both are, HGG's orange around it; and mirrored no colour at all."""
    red, green, blue = shown.at("derived_with_segments", 16, 33)
    assert green > red and green > blue
    red, green, blue = shown.at("derived_with_segments", 16, 29)
    assert red > green > blue and red - blue > 0.2
    for row, column in ((16, 14), (31, 33), (31, 14)):
        assert np.ptp(shown.at("derived_with_segments", row, column)) < 0.02


def test_no_voxel_of_a_segment_is_lost_on_the_way_into_the_viewer(shown):
    """Though segments overlap, which OHIF keeps in layers: counted plane by plane."""
    masks = {f"Metabolic lesion {x.source}": x.mask for x in shown.result.lesion}
    masks["Not measured or repaired"] = shown.result.quality.not_measured
    wanted = {
        label: {
            of(shown.paths, f"MR_anatomy_T1_{k + 1:04d}", "SOPInstanceUID"): int(mask[k].sum())
            for k in range(len(mask))
            if mask[k].any()
        }
        for label, mask in masks.items()
    }
    assert shown.scenes["derived_with_segments"]["voxels"] == wanted


def test_the_colour_series_shows_the_lesion_in_the_patients_left_front_in_its_own_colours(shown):
    """Yellow of the colour bar's end, above and to the right of the middle of the purple head."""
    picture = shown.picture("colour")
    red, green, blue = np.moveaxis(picture[:, : int(0.57 * picture.shape[1])], -1, 0)
    head = np.argwhere((red - green > 0.15) & (blue > 0.3))
    lesion = np.argwhere((red > 0.75) & (green > 0.75) & (blue > 0.4) & (blue < 0.72))
    assert len(head) > 20 * len(lesion) > 20 * 1000
    middle, found = head.mean(axis=0), lesion.mean(axis=0)
    assert found[0] < middle[0] - 50 and found[1] > middle[1] + 50
    assert np.ptp(lesion, axis=0).max() < 120


def test_the_summary_page_is_shown_and_the_report_is_listed(shown):
    """OHIF lists the report and opens nothing for it: see deploy/docs/VIEWERS.md."""
    assert shown.picture("summary").std() > 0.02
    assert shown.display_sets[of(shown.paths, "SR_measurements")]["modality"] == "SR"
    assert not shown.scenes["report"]["problem"]


def test_a_parametric_map_lies_over_the_anatomy(shown):
    """In colour on the head and not beside it. OHIF's window is its own: see deploy/docs/VIEWERS.md."""
    assert np.ptp(shown.at("map", 24, 24)) > 0.1
    assert shown.at("map", 2, 2).mean() < 0.05
