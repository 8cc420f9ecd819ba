"""The pages that readers get: one offline HTML file each, blinded."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from .cases import Case
from .pictures import Pictures, pictures
from .study import CRITERIA, HIGHEST, LOWEST, CaseRecord, Form, Key, ReadingError, criteria_of, plan

_PAGE = Path(__file__).with_name("form.html")
PAGE_NAME = "reading.html"
KEY_NAME = "key.json"


def prepare(cases: Sequence[Case], out: Path, seed: int, readers: int, colours: str) -> Key:
    """Write ``out/reader-N/reading.html`` for each reader and ``out/key.json`` for the study's owner.

    Pages hold images, case numbers in an order of their own and the four criteria: no name of a case, a
    method or a file. Raises ReadingError for unsuitable cases, an unknown colour map, or a key that is
    there already.
    """
    if colours not in matplotlib.colormaps:
        raise ReadingError(f"matplotlib has no colour map {colours!r}; gray, inferno and jet are some")
    shown = {c.name: pictures(c, colours) for c in cases}
    records = [CaseRecord(c.name, c.healthy, shown[c.name].plane, _hashes(c)) for c in cases]
    key = plan(records, sorted({m for c in cases for m in c.methods}), seed, readers, colours)
    out.mkdir(parents=True, exist_ok=True)
    key.save(out / KEY_NAME)
    for form in key.forms:
        folder = out / f"reader-{form.reader}"
        folder.mkdir(exist_ok=True)
        (folder / PAGE_NAME).write_text(page(form, key, shown))
    return key


def page(form: Form, key: Key, shown: Mapping[str, Pictures]) -> str:
    """The HTML of one reader. Cases are numbered in the order in which this reader meets them."""
    numbers = {case: n for n, case in enumerate(dict.fromkeys(i.case for i in form.items))}
    content = {
        "study": key.study,
        "reader": form.reader,
        "form": form.form,
        "lowest": LOWEST,
        "highest": HIGHEST,
        "criteria": {c.name: c.words for c in CRITERIA},
        "cases": [
            {
                "reference": _embedded(shown[case].reference),
                "lr": _embedded(shown[case].lr),
                "aspect": round(shown[case].aspect, 4),
                "criteria": [c.name for c in criteria_of(key.is_healthy(case))],
            }
            for case in numbers
        ],
        "items": [
            {"case": numbers[i.case], "image": _embedded(shown[i.case].methods[i.method])} for i in form.items
        ],
    }
    return _PAGE.read_text().replace("__FORM__", json.dumps(content).replace("<", "\\u003c"))


def _embedded(picture: bytes | None) -> str | None:
    return None if picture is None else "data:image/png;base64," + base64.b64encode(picture).decode()


def _hashes(case: Case) -> dict[str, str]:
    return {role: hashlib.sha256(p.read_bytes()).hexdigest() for role, p in case.files().items()}
