"""The page with ten thousand studies in the store: how long a list takes, how soon a change is seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from dicom_node.store import Store
from dicom_node.store import tables as t
from dicom_node.study import CaseKey, DeliveryState, State
from tests.doors import sqlite_in
from tests.pages import Page, served

Figure = Callable[[str], None]

STUDIES = 10_000
LIMIT_S = 0.2
SEEN_S = 2.0

# Of a hundred studies, as a node that has run for a year would have them.
_STATES = (
    *(("DONE",) * 90),
    *(("IGNORED",) * 4),
    *(("FAILED",) * 2),
    *("RECEIVING", "QUEUED", "DELIVERING", "HELD"),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("busy")
    store = Store(sqlite_in(folder))
    fill(store)
    store.close()
    names = ("PACS", "research")
    destinations = [{"type": "folder", "name": name, "folder": folder / name} for name in names]
    with served(folder, destination=destinations) as page:
        page.browser().get("/")  # templates are read once
        yield page


def fill(store: Store) -> None:
    """Each case: one or two revisions, a study, ten instances in five series, two deliveries, six events."""
    rows: dict[Any, list[dict[str, Any]]] = {
        table: []
        for table in (t.cases, t.studies, t.instances, t.revisions, t.series, t.deliveries, t.events)
    }
    for n in range(STUDIES):
        case, study, at = f"{n:08d}-0000-4000-8000-000000000000", f"1.2.826.{n}", 1.7e9 + 600.0 * n
        rows[t.cases].append({"case_id": case, "patient_id": f"P{n:06d}", "issuer": "", "created_at": at})
        rows[t.studies].append({"study_uid": study, "case_id": case, "study_date": "20260105"})
        for i in range(10):
            rows[t.instances].append(_instance(study, i, n, at))
        last = 2 if n % 10 == 0 else 1
        for revision in range(1, last + 1):
            state = _STATES[n % 100] if revision == last else "DONE"
            rows[t.revisions].append(_revision(case, revision, state, at + revision))
        for i in range(5):
            series = {"series_uid": f"{study}.{i}", "description": f"LCM map {i}", "role": "metabolite_map"}
            rows[t.series].append({"case_id": case, "revision": last, **series, "reason": "by its name"})
        if _STATES[n % 100] in ("DONE", "FAILED", "DELIVERING"):
            for name in ("PACS", "research"):
                rows[t.deliveries].append(_delivery(case, last, name, _STATES[n % 100], at))
        for i in range(6):
            event = {"event": "delivery", "from_state": "PENDING", "to_state": "SENDING", "reason": ""}
            rows[t.events].append({"at": at + i, "case_id": case, "revision": last, **event})
    with store._write() as tx:
        for table, values in rows.items():
            tx.execute(insert(table), values)


def _instance(study: str, number: int, case: int, at: float) -> dict[str, Any]:
    return {
        "sop_uid": f"{study}.{number}.1",
        "study_uid": study,
        "series_uid": f"{study}.{number // 2}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "frame_of_reference_uid": f"{study}.9",
        "accession_number": f"A{case}",
        "path": f"in/{case}/{number}",
        "sha256": "0" * 64,
        "size": 1000,
        "source": "SCANNER",
        "received_at": at,
        "facts": json.dumps({"SeriesDescription": f"LCM map {number // 2}", "ImageComments": "x" * 150}),
    }


def _revision(case: str, revision: int, state: str, at: float) -> dict[str, Any]:
    waits = {"awaited": "the FLAIR", "awaited_until": at + 600} if state == "RECEIVING" else {}
    return {
        "case_id": case,
        "revision": revision,
        "state": state,
        "attempt": 1,
        "reason": "no metabolite map among 3 series" if state == "IGNORED" else "",
        "since": at,
        "last_received_at": at,
        "input_digest": "",
        "awaited": None,
        "awaited_until": None,
        **waits,
    }


def _delivery(case: str, revision: int, name: str, state: str, at: float) -> dict[str, Any]:
    ended = {"DONE": DeliveryState.DELIVERED, "FAILED": DeliveryState.FAILED}
    return {
        "delivery_id": f"{case}:{revision}:1:{name}",
        "case_id": case,
        "revision": revision,
        "result_attempt": 1,
        "destination": name,
        "state": ended.get(state, DeliveryState.WAITING),
        "attempt": 1,
        "tries": 1,
        "reason": "",
        "since": at,
    }


def test_the_queue_is_served_in_time_however_it_is_asked_for(page: Page, figure: Figure) -> None:
    """Server time as a browser on this machine sees it, network and all: median of five."""
    asked = {
        "first page": "/",
        "last page": f"/?page={STUDIES // 50}",
        "failed": "/?state=FAILED",
        "done, page 90": "/?state=DONE&page=90",
        "patient": "/?q=P004321",
        "description": "/?q=map+3",
        "accession": "/?q=A777",
        "nothing found": "/?q=zzz&state=HELD",
        "live block": "/",
    }
    browser = page.browser()
    took = {}
    for name, path in asked.items():
        headers = {"x-live": "1"} if name == "live block" else {}
        took[name] = median(_timed(lambda p=path, h=headers: browser.get(p, headers=h)) for _ in range(5))
    figure(f"queue of {STUDIES} studies, ms: " + ", ".join(f"{n} {1000 * s:.0f}" for n, s in took.items()))
    assert max(took.values()) < LIMIT_S, took
    shown = browser.get("/").text
    assert f"1 to 50 of {STUDIES} studies" in shown and "All <b>10000</b>" in shown


def test_a_change_of_state_is_seen_on_an_open_page_in_time(page: Page, figure: Figure) -> None:
    """From the store's commit to the fresh list: what the script in the page does, step by step."""
    (row, *_), _ = page.store.queue([State.QUEUED])
    took = []
    with page.browser() as watcher, watcher.stream("GET", "/live") as stream:
        lines = stream.iter_lines()
        assert _next(lines, "hello") == {}
        for change in (page.store.hold, page.store.release, page.store.ignore_study):
            began = time.monotonic()
            change(row.key.case, "by a test")
            assert _next(lines, "change") == {"cases": [row.key.case]}
            fresh = page.browser().get("/", headers={"x-live": "1"}).text
            took.append(time.monotonic() - began)
            assert f"/studies/{row.key.case}" in fresh
    figure(f"a change of state on an open page, s: {', '.join(f'{s:.2f}' for s in took)}")
    assert max(took) < SEEN_S
    assert page.store.revision(CaseKey(row.key.case, row.key.revision)).state is State.IGNORED


def _next(lines: Iterator[str], event: str) -> Any:
    assert next(line for line in lines if line.startswith("event:")) == f"event: {event}"
    return json.loads(next(lines).removeprefix("data: "))


def _timed(ask: Callable[[], httpx.Response]) -> float:
    began = time.monotonic()
    assert ask().status_code == 200
    return time.monotonic() - began
