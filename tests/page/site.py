"""A live page with studies in every state, for a browser to go through; with harm in every name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_node.intake import Intake
from dicom_node.spool import Spool
from dicom_node.store import Made, Store
from dicom_node.study import CaseKey
from dicom_node.web import passwords
from dicom_node.web.access import Role
from tests.doors import incoming, sqlite_in
from tests.page.truth import truth_of
from tests.pages import real_study, served

PASSWORD = "a long enough password"
HOSTILE = "<script>alert(1)</script>"
HOSTILE_TOO = '"><img src=x onerror=alert(2)>'


@dataclass
class Site:
    """``pages``: every address that must be there, readable and accessible, by a name for its picture.

    ``cases`` by what they are for; ``url`` asks for sign-in (people are named as their roles), ``open_url``
    does not: both are the same node. One more person, Roe, is a viewer and changes their password.
    """

    url: str
    open_url: str
    folder: Path
    pages: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)  # tests.page.truth: what the viewer must say

    def as_json(self, **further: Any) -> str:
        told = {
            "url": self.url,
            "open_url": self.open_url,
            "pages": self.pages,
            "cases": self.cases,
            **self.shown,
        }
        return json.dumps({**told, "password": PASSWORD, **further})


@contextmanager
def live_site(folder: Path) -> Iterator[Site]:
    """Served twice over one store: with people who sign in, and as on loopback without."""
    sqlite_in(folder)
    tables: dict[str, Any] = {
        "resolve": {"method": "bicubic"},
        "output": {"fused_maps": [], "summary": False},
        "destination": [
            {"type": "folder", "name": "research", "folder": folder / "out"},
            {
                "type": "dicom",
                "name": "PACS",
                "ae_title": "PACS",
                "host": "127.0.0.1",
                "port": 9,
                "wait_for_release": True,
            },
        ],
    }
    with (
        served(folder, web={"login": "local"}, **tables) as page,
        served(folder, **tables) as loopback,
    ):
        store, once = page.store, passwords.hashed(PASSWORD)
        for role in Role:
            store.add_person(role.word, role.word, once)
        store.add_person("Roe", "viewer", once)
        site = Site(page.url, loopback.url, folder)
        site.cases["real"] = real_study(page.settings, patient_id=HOSTILE, patient_name=f"{HOSTILE}^Eve")
        intake = Intake(Spool(folder / "spool"), store)
        for n, what in enumerate(("waiting", "act", "live", "undelivered")):
            site.cases[what] = _arrived(intake, n, what)
        _undelivered(store, site.cases["undelivered"])
        case = site.cases
        site.pages = {
            "queue": "/",
            "queue of failed": "/?state=FAILED",
            "nothing found": "/?q=nothing+is+called+so",
            "study": f"/studies/{case['real']}",
            "study that waits": f"/studies/{case['waiting']}",
            "study not delivered": f"/studies/{case['undelivered']}",
            "not there": "/studies/none",
            "viewer": f"/studies/{case['real']}/view",
            "destinations": "/destinations",
            "rules": "/rules",
            "system": "/system",
            "password": "/password",
        }
        site.shown = truth_of(page.store, Spool(folder / "spool"), case["real"])
        yield site


def _arrived(intake: Intake, number: int, what: str) -> str:
    """One slice of a study, with harm in every text that the page may show."""
    uids = {"StudyInstanceUID": f"1.2.{number}", "SOPInstanceUID": f"1.2.{number}.1"}
    names = {"PatientName": f"{HOSTILE}^{what}", "PatientID": f"{what} {HOSTILE_TOO}"}
    texts = {"StudyDescription": HOSTILE, "SeriesDescription": HOSTILE_TOO, "AccessionNumber": f"{number}'\""}
    intake.accept(incoming(**uids, **names, **texts, InstitutionName=HOSTILE), source="SCANNER")
    case = intake.store.case_of(f"1.2.{number}")
    assert case is not None
    intake.store.await_(CaseKey(case, 1), f"the FLAIR {HOSTILE}", intake.store.clock() + 600)
    return case


def _undelivered(store: Store, case: str) -> None:
    """Results that a destination refused."""
    key = store.force(case, f"forced by {HOSTILE}: {HOSTILE_TOO}")
    store.start(key)
    made = Made("out/x.dcm", "PM", "tNAA", "1.2.3.9", "1.2.840.10008.5.1.4.1.1.30", "0" * 64)
    store.encoded(key, [made], "", "digest", ["PACS"])
    (delivery,) = (d for d in store.deliveries_due() if d.key == key)
    store.give_up(delivery, f"A900 {HOSTILE}: {HOSTILE_TOO}")
