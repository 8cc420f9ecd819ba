"""Rules for identification tried out: on dropped files, and on headers that came lately. Nothing is kept."""

from __future__ import annotations

import json
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydantic import ValidationError

from dicom_node import facts, header
from dicom_node.config import IdentifyRules, IntakeRules
from dicom_node.errors import NotDicom, UnsuitableInput
from dicom_node.identify import IdentifiedSeries, identify
from dicom_node.series import site_rule
from dicom_node.store import ReceivedHeader

# A back-test ends after so many seconds with what it has seen: the page is not held up for longer.
LONGEST_S = 20.0
_SHOWN = 200


@dataclass(frozen=True)
class Judged:
    """One series of dropped files: role and reason as identification gives them, and what was read of it."""

    description: str
    files: int
    role: str
    reason: str
    site: int | None  # number of the site rule that applied, from 1
    quantities: Sequence[str]


@dataclass(frozen=True)
class Change:
    """A series that proposed rules take for something else."""

    case: str
    description: str
    role: str
    new_role: str
    reason: str
    new_reason: str


@dataclass(frozen=True)
class BackTest:
    """``changed`` series of ``series``, by roles before and after; ``whole``: all were looked at."""

    instances: int
    series: int
    changed: int
    whole: bool
    by_role: Mapping[tuple[str, str], int]
    changes: Sequence[Change]


def read_rules(text: str) -> IdentifyRules:
    """Proposed rules: TOML of the [identify] table, as the configuration has it, or of its keys alone.

    What it does not name is as usual. Raises UnsuitableInput, naming every bad key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UnsuitableInput(f"this is not TOML: {e}") from e
    if isinstance(table.get("identify"), dict):
        others = sorted(table.keys() - {"identify"})
        if others:
            raise UnsuitableInput(f"only [identify] can be tried here, not {', '.join(others)}")
        table = table["identify"]
    try:
        return IdentifyRules.model_validate(table)
    except ValidationError as e:
        wrong = [f"{'.'.join(str(p) for p in x['loc'])}: {x['msg']}" for x in e.errors()]
        raise UnsuitableInput(f"these rules are not usable: {'; '.join(wrong)}") from e


def write_rules(rules: IdentifyRules) -> str:
    """As the configuration has them; of sites only what is not as usual."""
    said = rules.model_dump(mode="json", exclude={"sites"})
    lines = ["[identify]", *(f"{key} = {_toml(value)}" for key, value in said.items())]
    for site in rules.sites:
        lines += ["", "[[identify.sites]]"]
        kept = site.model_dump(mode="json", exclude_defaults=True)
        lines += [f"{key} = {_toml(value)}" for key, value in kept.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def judge(files: Iterable[BinaryIO], rules: IdentifyRules, bounds: IntakeRules) -> list[Judged]:
    """Series by series, from headers read within ``bounds``. Raises NotDicom if one cannot be read."""
    headers = []
    for number, file in enumerate(files, start=1):
        try:
            headers.append(header.read_header(file, _bounds(bounds), facts.SEQUENCES))
        except NotDicom as problem:
            raise NotDicom(f"file {number}: {problem}") from problem
    found = []
    for s in identify(headers, rules):
        theirs = [h for h in headers if header.text_of(h, "SeriesInstanceUID") == s.uid]
        site = site_rule(theirs[0], rules) if theirs else None
        quantities = [
            f"{p.metabolite or p.quality or 'image'}{f' in {p.unit}' if p.unit else ''}" for p in s.parts
        ]
        place = None if site is None else rules.sites.index(site) + 1
        found.append(
            Judged(s.description, len(theirs), str(s.role), s.reason, place, list(dict.fromkeys(quantities)))
        )
    return found


def _bounds(rules: IntakeRules) -> header.Bounds:
    return header.Bounds(
        nesting=rules.max_nesting,
        elements=rules.max_elements,
        inflated=rules.max_inflated_mb * 1024**2,
        ratio=rules.max_inflation,
        seconds=rules.max_seconds,
    )


def back_test(received: Sequence[ReceivedHeader], now: IdentifyRules, proposed: IdentifyRules) -> BackTest:
    """What ``proposed`` take otherwise than ``now``, case by case, the newest first, until time is up."""
    by_case: dict[str, list[ReceivedHeader]] = {}
    for one in received:
        by_case.setdefault(one.case, []).append(one)
    until = time.monotonic() + LONGEST_S
    seen = instances = changed = 0
    by_role: Counter[tuple[str, str]] = Counter()
    changes: list[Change] = []
    cases = list(reversed(by_case.items()))
    for case, headers in cases:
        if time.monotonic() > until:
            return BackTest(instances, seen, changed, False, dict(by_role), changes)
        known = [facts.header_of(facts.read_facts(h.facts)) for h in headers]
        before = {(s.study_uid, s.uid): s for s in identify(known, now)}
        after = {(s.study_uid, s.uid): s for s in identify(known, proposed)}
        instances += len(headers)
        seen += len(before)
        for key, old in before.items():
            new = after[key]
            if _same(old, new):
                continue
            changed += 1
            by_role[str(old.role), str(new.role)] += 1
            if len(changes) < _SHOWN:
                changes.append(
                    Change(case, old.description, str(old.role), str(new.role), old.reason, new.reason)
                )
    return BackTest(instances, seen, changed, True, dict(by_role), changes)


def _same(old: IdentifiedSeries, new: IdentifiedSeries) -> bool:
    return old.role == new.role and old.parts == new.parts
