"""A real PACS from the page: echoed and rehearsed in the background, and what came of it told."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path

import pytest

from dicom_node.demo import LoopbackOrthanc, free_port
from tests.doors import sqlite_in
from tests.harness import needs_orthanc
from tests.pages import Browser, served

pytestmark = [pytest.mark.peers, needs_orthanc]


def ended(browser: Browser, limit_s: float = 180.0) -> str:
    """The page, once no errand is under way; it answers all the time."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        began = time.monotonic()
        shown = browser.get("/destinations").text
        assert time.monotonic() - began < 20.0
        if 'data-running="no"' in shown:
            return html.unescape(shown)
        time.sleep(0.2)
    raise AssertionError(f"still under way after {limit_s} s")


def test_orthanc_is_echoed_and_rehearsed(tmp_path: Path) -> None:
    port = free_port()
    pacs = LoopbackOrthanc(tmp_path / "orthanc", DicomModalities={"node": ["MRSISR", "127.0.0.1", port]})
    pacs.start()
    peer = {
        "type": "dicom",
        "name": "PACS",
        "ae_title": "ORTHANC",
        "host": "127.0.0.1",
        "port": pacs.dicom_port,
    }
    sqlite_in(tmp_path)
    try:
        with served(tmp_path, destination=[peer], node={"port": port}) as page:
            browser = page.browser()
            browser.fill("/destinations/echo", {"destination": "PACS"}, "/destinations")
            assert re.search(r'<p class="notice" role="status">Echo.*answers', ended(browser), re.S)
            browser.fill("/destinations/rehearse", {"destination": "PACS"}, "/destinations")
            second = browser.fill("/destinations/rehearse", {"destination": "PACS"}, "/destinations")
            assert second.status_code == 409 and "still under way" in second.text
            shown = ended(browser)
            for kind in ("MR", "PM", "SEG", "SR"):
                assert re.search(rf'<th scope="row">{kind}</th>.*?<td>kept', shown, re.S), shown
            assert "TEST-REHEARSAL" in shown and "it refuses nothing" in shown
            assert pacs.held()["PM"] > 0
    finally:
        pacs.stop()
