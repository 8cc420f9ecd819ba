"""Answers of all readers, checked against the key and unblinded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .study import HIGHEST, LOWEST, Form, Item, Key, ReadingError, criteria_of

_LISTED = 10


@dataclass(frozen=True)
class Reading:
    """One score (1 to 5) of one reader. ``again``: of an item that this reader had seen before."""

    reader: int
    item: int
    case: str
    method: str
    again: bool
    criterion: str
    score: int


def read_answers(key: Key, paths: Sequence[Path]) -> tuple[Reading, ...]:
    """Every score of every reader of the study, by reader and item.

    Raises ReadingError that names what is wrong in all files: a file that is no answers, of another study or
    another reader's form, two files of one reader, a reader without a file, an item that the form does not
    have or that comes twice, a missing score, a score that is not a whole number from 1 to 5, or one that was
    not asked for.
    """
    problems: list[str] = []
    found: list[Reading] = []
    read: dict[int, Path] = {}
    for path in paths:
        try:
            table = _table(path)
            form = _form(key, table)
        except ReadingError as e:
            problems.append(f"{path}: {e}")
            continue
        if form.reader in read:
            problems.append(f"{path}: reader {form.reader} has answered in {read[form.reader]} already")
            continue
        read[form.reader] = path
        readings, wrong = _readings(key, form, table["answers"])
        found += readings
        problems += [f"{path}: {w}" for w in wrong]
    problems += [f"reader {f.reader} has no file of answers" for f in key.forms if f.reader not in read]
    if problems:
        more = [f"… and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        raise ReadingError("\n".join(problems[:_LISTED] + more))
    return tuple(sorted(found, key=lambda r: (r.reader, r.item)))


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise ReadingError(f"no answers can be read: {e}") from e
    if not isinstance(table, dict) or not isinstance(table.get("answers"), list):
        raise ReadingError("not the answers that a form saves")
    return table


def _form(key: Key, table: dict[str, Any]) -> Form:
    if table.get("study") != key.study:
        raise ReadingError(f"answers of study {table.get('study')}; the key is of study {key.study}")
    form = next((f for f in key.forms if f.reader == table.get("reader")), None)
    if form is None:
        raise ReadingError(f"the study has no reader {table.get('reader')!r}")
    if table.get("form") != form.form:
        raise ReadingError(f"says reader {form.reader}, but was answered in another reader's form")
    return form


def _readings(key: Key, form: Form, answers: Iterable[Any]) -> tuple[list[Reading], list[str]]:
    """What one reader's answers say, and what is wrong with them."""
    items = {i.item: i for i in form.items}
    given: dict[int, dict[str, Any]] = {}
    found: list[Reading] = []
    wrong: list[str] = []
    for answer in answers:
        number = answer.get("item") if isinstance(answer, dict) else None
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(number, int) or number not in items or not isinstance(scores, dict):
            wrong.append(f"the form has no item {number!r}")
        elif number in given:
            wrong.append(f"item {number} comes twice")
        else:
            given[number] = scores
    for number, item in items.items():
        readings, faults = _of_item(form.reader, item, given.get(number, {}), key.is_healthy(item.case))
        found += readings
        wrong += faults
    return found, wrong


def _of_item(
    reader: int, item: Item, scores: dict[str, Any], healthy: bool
) -> tuple[list[Reading], list[str]]:
    asked = [c.name for c in criteria_of(healthy)]
    wrong = [f"item {item.item}: {name} was not asked for" for name in scores if name not in asked]
    if missing := [name for name in asked if name not in scores]:
        wrong.append(f"item {item.item} lacks {', '.join(missing)}")
    found = []
    for name in asked:
        score = scores.get(name)
        if type(score) is int and LOWEST <= score <= HIGHEST:
            again = item.repeats is not None
            found.append(Reading(reader, item.item, item.case, item.method, again, name, score))
        elif name in scores:
            wrong.append(f"item {item.item}: {name} is {score!r}, not a whole number from 1 to 5")
    return found, wrong
