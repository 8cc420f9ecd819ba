"""The queue, as a browser gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.study import State
from tests.doors import incoming, open_intake
from tests.pages import Page, served


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with served(tmp_path) as page:
        yield page


def test_an_empty_node_says_so(page: Page) -> None:
    answer = page.browser().get("/")
    assert answer.status_code == 200
    assert "No study has come yet." in answer.text
    assert "None is configured: results stay in the spool." in answer.text


def test_a_study_is_shown_with_what_it_waits_for_and_only_as_text(page: Page, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    open_intake(tmp_path).accept(incoming(PatientID=hostile), source="SCANNER")
    (revision,) = page.store.revisions_in(State.RECEIVING)
    page.store.await_(revision.key, 'the T1 "of" <b>today</b>', 1_800_000_000.0)
    shown = page.browser().get("/").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "waits for the T1 &#34;of&#34; &lt;b&gt;today&lt;/b&gt;, until" in shown
    assert "2027-01-15 08:00:00Z" in shown
    assert hostile not in shown
