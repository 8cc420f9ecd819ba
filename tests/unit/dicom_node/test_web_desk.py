"""Destinations, rules and the system, as a person at the page has them."""

from __future__ import annotations

import html
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import IdentifyRules
from dicom_node.demo import free_port
from dicom_node.errors import UnsuitableInput
from dicom_node.intake import Incoming
from dicom_node.web.backtest import read_rules, write_rules
from dicom_node.web.visits import csrf_token
from tests import builders
from tests.doors import as_file, open_intake
from tests.pages import Browser, Page, served

_SITE = """[[identify.sites]]
match = { Manufacturer = '.' }
maps = '(?i)^lcm (?P<met>tNAA|tCho) (?P<kind>conc)'
alias = { tNAA = "NAA" }
"""


def instances(description: str) -> list[Any]:
    return builders.series(builders.usual(), description)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What came lately: two maps."""
    folder = tmp_path_factory.mktemp("data")
    intake = open_intake(folder)
    for d in builders.usual():
        if str(d.SeriesDescription).startswith(("LCM tNAA conc", "LCM tCho conc")):
            intake.accept(Incoming(as_file(d)), source="SCANNER")
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory) -> Iterator[Page]:
    nowhere = {"type": "dicom", "name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    kept = {"type": "folder", "name": "research", "folder": tmp_path_factory.mktemp("results")}
    with served(folder, destination=[nowhere, kept]) as page:
        yield page


def card(browser: Browser, name: str) -> str:
    """A destination's part of the page."""
    found = re.search(
        rf'<section class="card" id="{name}".*?</section>', browser.get("/destinations").text, re.S
    )
    assert found is not None
    return html.unescape(found[0])


def upload(browser: Browser, files: list[bytes], **fields: str) -> str:
    sent = [("files", (f"{n}.dcm", content, "application/dicom")) for n, content in enumerate(files)]
    form = {**fields, "csrf": browser.token("/rules")}
    return html.unescape(browser.post("/rules/test", files=sent, data=form).text)


def test_an_echo_that_finds_nobody_says_so_and_holds_up_no_page(page: Page) -> None:
    browser = page.browser()
    assert browser.fill("/destinations/echo", {"destination": "PACS"}, "/destinations").status_code == 303
    until = time.monotonic() + 60
    while 'data-running="yes"' in browser.get("/destinations").text and time.monotonic() < until:
        time.sleep(0.1)
    words = re.search(r'<p class="problem" role="status">(.*?)</p>', card(browser, "PACS"), re.S)
    assert words is not None and "Echo" in words[1] and "PACS" in words[1], card(browser, "PACS")
    assert browser.fill("/destinations/echo", {"destination": "research"}, "/destinations").status_code == 409


def test_a_held_destination_shows_who_holds_it_and_why_and_is_on_the_audit(page: Page) -> None:
    browser = page.browser()
    form = {"destination": "PACS", "by": "Dr Roe", "reason": "migration <until> Monday"}
    assert browser.fill("/destinations/hold", form, "/destinations").status_code == 303
    assert page.store.standing("PACS").held_because == "held by Dr Roe: migration <until> Monday"
    assert "Held since" in card(browser, "PACS")
    form["reason"] = "done"
    assert browser.fill("/destinations/release", form, "/destinations").status_code == 303
    assert not page.store.standing("PACS").held
    audit = browser.get("/system/audit").text
    assert "released by Dr Roe: done" in audit and "migration &lt;until&gt; Monday" in audit
    assert browser.fill("/destinations/hold", {**form, "reason": ""}, "/destinations").status_code == 422


def test_dropped_files_are_told_as_the_node_would_take_them_and_not_kept(page: Page, folder: Path) -> None:
    browser, before = page.browser(), sorted(p for p in folder.rglob("*.dcm"))
    said = upload(browser, [as_file(d) for d in instances("LCM tNAA conc")])
    assert "metabolite map" in said and "tNAA map, named by its series description" in said
    assert sorted(p for p in folder.rglob("*.dcm")) == before
    assert list((folder / "spool" / "tmp").iterdir()) == []


def test_dropped_files_may_be_judged_by_other_rules(page: Page) -> None:
    said = upload(page.browser(), [as_file(instances("LCM tNAA conc")[0])], text=_SITE, proposed="true")
    assert "NAA map, named by its site rule" in said and "By the proposed rules" in said


@pytest.mark.parametrize(
    "content", [b"no DICOM at all" * 20, b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\xff\xff\xff\xff" * 9]
)
def test_a_broken_file_is_refused_in_words(page: Page, content: bytes) -> None:
    said = upload(page.browser(), [content])
    assert "file 1:" in said and 'role="alert"' in said


def test_other_rules_are_tried_on_what_came_lately(page: Page) -> None:
    browser = page.browser()
    tried = html.unescape(browser.fill("/rules/backtest", {"text": _SITE, "days": "7"}, "/rules").text)
    assert "1 of 2 series" in tried
    changes = re.search(r'<table id="changes">.*?</table>', tried, re.S)
    assert changes is not None and "LCM tNAA conc" in changes[0] and "LCM tCho conc" not in changes[0]
    same = browser.fill("/rules/backtest", {"text": write_rules(IdentifyRules()), "days": "7"}, "/rules").text
    assert "0 of 2 series" in same


def test_rules_that_are_none_are_refused_by_key(page: Page) -> None:
    browser = page.browser()
    for text, words in ((_SITE + "mapz = 1", "sites.0.mapz"), ("t1 = ['(']", "not a regular"), ("=", "TOML")):
        answer = browser.fill("/rules/backtest", {"text": text, "days": "7"}, "/rules")
        assert answer.status_code == 422 and words in html.unescape(answer.text)


def test_checked_rules_come_back_as_the_configuration_has_them(page: Page) -> None:
    answer = page.browser().fill("/rules/toml", {"text": _SITE}, "/rules")
    assert 'filename="identify.toml"' in answer.headers["content-disposition"]
    assert IdentifyRules.model_validate(tomllib.loads(answer.text)["identify"]) == read_rules(_SITE)


def test_written_rules_read_back_as_they_were_with_every_kind_of_text() -> None:
    odd = {
        "sites": [{"match": {"Manufacturer": 'a"b\\d\\\\ \t é'}, "units": {"conc": "[arb'U]"}}],
        "flair": ["x"],
    }
    rules = IdentifyRules.model_validate(odd)
    assert read_rules(write_rules(rules)) == rules
    with pytest.raises(UnsuitableInput, match="only \\[identify\\]"):
        read_rules("[identify]\n[node]\nport = 1")


def test_the_system_shows_models_with_the_hash_of_their_very_weights(page: Page) -> None:
    shown = page.browser().get("/system").text
    assert shown.count("weights as described") == 4 and "Not a medical device" in shown
    assert "weights are not those" not in shown
    assert re.search(r'<th scope="row">day</th><td class="number">12</td>', shown)


def test_what_was_refused_is_listed_with_the_reason(page: Page) -> None:
    page.store.quarantine(
        sop_uid="1.2.3", study_uid="1.2", source="SCANNER", path="", sha256="0" * 64, reason="<b>conflict</b>"
    )
    shown = page.browser().get("/system/quarantine").text
    assert "&lt;b&gt;conflict&lt;/b&gt;" in shown and "removed for space" in shown


def test_who_may_only_look_acts_on_nothing(folder: Path) -> None:
    nowhere = {"type": "dicom", "name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    rules = {
        "login": "proxy",
        "proxy_networks": ["127.0.0.0/8"],
        "proxy_viewers": ["v"],
        "proxy_operators": ["o"],
    }
    with served(folder, destination=[nowhere], web=rules) as page:
        for group, allowed in (("v", False), ("o", True)):
            browser = page.browser(headers={"x-forwarded-user": "ann", "x-forwarded-groups": group})
            for path in ("/destinations", "/rules", "/system"):
                assert browser.get(path).status_code == 200
            assert (browser.get("/system/audit").status_code == 200) is allowed
            assert (browser.get("/system/quarantine").status_code == 200) is allowed
            csrf = csrf_token(next(iter(browser.cookies.jar)).value or "")
            form = {"destination": "PACS", "text": _SITE, "days": "7", "reason": "x", "csrf": csrf}
            answers = {
                path: browser.post(path, data=form).status_code
                for path in ("/rules/toml", "/destinations/hold")
            }
            assert answers == {"/rules/toml": 403, "/destinations/hold": 303 if allowed else 403}
