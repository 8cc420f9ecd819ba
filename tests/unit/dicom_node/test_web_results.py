"""A study's results in the browser: the viewer and its pictures without scripts, measurements, downloads."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Iterator

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.pages import Page, served
from tests.shown import Finished, finished_study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Finished:
    return finished_study(tmp_path_factory.mktemp("data"), "sagittal", summary=True)


@pytest.fixture(scope="module")
def page(study) -> Iterator[Page]:
    with served(study.folder) as page:
        yield page


def view(study: Finished, query: str = "") -> str:
    return f"/studies/{study.key.case}/view{query}"


def shown_at(html: str, name: str) -> tuple[str, str]:
    """As measured and super-resolved, as the page's table says them."""
    found = re.search(
        rf'<th scope="row">{name}</th><td class="number">(.*?)</td><td class="number">(.*?)</td>', html
    )
    assert found is not None
    return found[1], found[2]


def test_the_study_leads_to_its_viewer_and_downloads(page: Page, study: Finished) -> None:
    html = page.browser().get(f"/studies/{study.key.case}").text
    for name in ("view", "dicom.zip", "nifti.zip", "summary.png", "summary.pdf"):
        assert f'href="/studies/{study.key.case}/{name}"' in html
        assert page.browser().get(f"/studies/{study.key.case}/{name}").status_code == 200


def test_without_scripts_the_page_reads_out_every_map_at_a_point(page: Page, study: Finished) -> None:
    """Within the four digits that are shown: what Parametric Map and measured map hold there."""
    grid, low = study.result.grid, study.source.acquisition.grid
    for index in ((4, 8, 12), (11, 30, 3)):
        left, posterior, head = grid.to_patient(index)
        html = page.browser().get(view(study, f"?map=2HG&l={left}&p={posterior}&h={head}&plain=1")).text
        for m in study.result.maps:
            measured, resolved = shown_at(html, str(m.metabolite))
            assert float(resolved) == pytest.approx(float(m.values[index]), rel=1e-3)
            coarse = tuple(np.rint(low.to_index((left, posterior, head))).astype(int))
            source = study.source.acquisition.map_of(m.metabolite)
            assert source is not None
            assert float(measured) == pytest.approx(float(source.values[coarse]), rel=1e-3)


def test_only_the_viewer_may_show_pictures_from_data_addresses(page: Page, study: Finished) -> None:
    """And no page may do more: no script, connection or worker but our own files."""
    own = page.browser().get("/").headers["content-security-policy"]
    viewer = page.browser().get(view(study)).headers["content-security-policy"]
    plain = page.browser().get(view(study, "?plain=1")).headers["content-security-policy"]
    assert plain == own and viewer in (own, own.replace("img-src 'self'", "img-src 'self' data:"))


def test_a_click_on_a_picture_moves_the_point_and_keeps_what_is_shown(page: Page, study: Finished) -> None:
    query = "?map=TCN&colours=viridis&opacity=40&threshold=0.5&top=2.5&outline=1&plain=1"
    answer = page.browser().get(view(study, f"{query}&sr-axial.x=40&sr-axial.y=60"))
    assert answer.status_code == 303
    there = answer.headers["location"]
    for kept in (
        "map=TCN",
        "colours=viridis",
        "opacity=40",
        "threshold=0.5",
        "top=2.5",
        "outline=1",
        "plain=1",
    ):
        assert kept in there
    assert "sr-axial" not in there
    assert page.browser().get(there).status_code == 200


def test_another_map_begins_with_a_range_of_its_own(page: Page, study: Finished) -> None:
    html = page.browser().get(view(study, "?map=2HG&was=TCN&top=1.25&threshold=1")).text
    assert 'name="top" min="0" step="any" value="1.25"' not in html
    assert re.search(r'name="threshold"[^>]* value="0"', html)


@pytest.mark.parametrize(
    "query", ["?map=<script>&opacity=nan&top=-1&l=1e99", "?colours=none&h=x&threshold=inf"]
)
def test_nonsense_in_the_address_is_as_if_it_were_not_there(page: Page, study: Finished, query: str) -> None:
    answer = page.browser().get(view(study, query))
    assert answer.status_code == 200
    assert "<script>" not in answer.text.replace('<script src="/static/', "").replace("<script type", "")


def test_a_picture_is_asked_for_again_only_if_it_would_differ(page: Page, study: Finished) -> None:
    browser = page.browser()
    address = f"/studies/{study.key.case}/planes/coronal.png?side=lr&map=TCN"
    first = browser.get(address)
    assert first.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(first.content)).size[0] > 50
    again = browser.get(address, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = browser.get(address + "&opacity=5", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200 and other.content != first.content


def test_what_is_not_there_is_404(page: Page, study: Finished) -> None:
    case = study.key.case
    for path in ("x/view", "x/dicom.zip", f"{case}/volumes/sr-Nope.nii.gz", f"{case}/planes/oblique.png"):
        assert page.browser().get(f"/studies/{path}").status_code in (404, 422)


def test_the_measurements_are_those_of_the_report_that_left(page: Page, study: Finished) -> None:
    html = page.browser().get(view(study)).text
    assert "HGG: region at or above" in html or "HGG: region above the limit" in html
    hgg = study.result.lesion[0]
    mean = float(study.result.ratios[0].values[hgg.mask].mean())
    figures = re.search(
        r'aria-label="Figures of HGG".*?<th scope="row">HGG</th><td class="number">(.*?)</td>', html, re.S
    )
    assert figures is not None and float(figures[1]) == pytest.approx(mean, rel=1e-3)
    volume = re.search(r"<dt>Volume</dt><dd>(.*?) mL</dd>", html)
    assert volume is not None and float(volume[1]) == pytest.approx(
        hgg.mask.sum() * study.result.grid.voxel_volume_ml, rel=1e-3
    )
    assert "This is not a finding of absence." in html  # 2HG, which was not looked for


def test_the_archives_hold_what_was_made(page: Page, study: Finished) -> None:
    browser = page.browser()
    archive = zipfile.ZipFile(io.BytesIO(browser.get(f"/studies/{study.key.case}/dicom.zip").content))
    assert archive.testzip() is None
    uids = {
        str(pydicom.dcmread(io.BytesIO(archive.read(n)), stop_before_pixels=True).SOPInstanceUID)
        for n in archive.namelist()
    }
    assert uids == {
        str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in study.files.values()
    }
    volumes = zipfile.ZipFile(io.BytesIO(browser.get(f"/studies/{study.key.case}/nifti.zip").content))
    assert volumes.testzip() is None
    names = set(volumes.namelist())
    assert {
        "super-resolved/HGG.nii.gz",
        "measured/tNAA.nii.gz",
        "anatomy/T1.nii.gz",
        "segments/TCN.nii.gz",
    } <= names
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(volumes.read("super-resolved/HGG.nii.gz")))
    assert np.asarray(image.dataobj).max() == pytest.approx(
        float(study.result.ratios[0].values.max()), rel=1e-6
    )


def test_the_summary_is_a_picture_and_a_page(page: Page, study: Finished) -> None:
    browser = page.browser()
    picture = np.array(Image.open(io.BytesIO(browser.get(f"/studies/{study.key.case}/summary.png").content)))
    assert (picture == pydicom.dcmread(study.files["SC_summary"]).pixel_array).all()
    pdf = browser.get(f"/studies/{study.key.case}/summary.pdf")
    assert pdf.headers["content-type"] == "application/pdf" and pdf.content.startswith(b"%PDF-")


def test_what_retention_has_removed_is_not_shown_from_memory(page: Page, study: Finished) -> None:
    """The last test of this study: its files go."""
    browser, case = page.browser(), study.key.case
    assert browser.get(f"/studies/{case}/planes/axial.png").status_code == 200
    for path in study.spool.root.rglob("*.dcm"):
        path.unlink()
    shown = browser.get(view(study))
    assert shown.status_code == 200 and "their retention time is over" in shown.text
    for name, status in (("planes/axial.png", 404), ("volumes/sr-HGG.nii.gz", 404), ("dicom.zip", 410)):
        assert browser.get(f"/studies/{case}/{name}").status_code == status, name
