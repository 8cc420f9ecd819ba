"""The page in a real browser: every page, every act, as each role; nothing inaccessible, nothing that runs.

Each *.test.mjs beside this file is a test, those named viewer* with WebGL, which takes a processor's time;
PAGE_PICTURES names a folder for pictures of every page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.site import Site, live_site

_HERE = Path(__file__).parent
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
    pytest.mark.skipif(
        shutil.which("node") is None or not (_HERE / "node_modules/playwright-core").is_dir(),
        reason="Playwright is not installed (apt-get install nodejs npm; npm ci in tests/page)",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.mark.parametrize("script", sorted(p.name for p in _HERE.glob("*.test.mjs")))
def test_in_the_browser(site: Site, script: str) -> None:
    pictures = os.environ.get("PAGE_PICTURES", "")
    told = site.as_json(chromium=_CHROMIUM, pictures=pictures, webgl=script.startswith("viewer"))
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", script],
        cwd=_HERE,
        env={**os.environ, "PAGE": told},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
