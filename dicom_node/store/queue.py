"""What the page's queue shows: one page of studies at a time, and how far the node's history has come."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, true, tuple_

from dicom_node.study import CaseKey, DeliveryState, State

from . import tables as t
from .base import Database

# Deliveries that have ended well need nobody's eyes.
_OPEN = tuple(s for s in DeliveryState if s not in (DeliveryState.DELIVERED, DeliveryState.CANCELLED))


@dataclass(frozen=True)
class Sent:
    """How one delivery of a study stands."""

    delivery_id: str
    destination: str
    purpose: str
    state: DeliveryState
    reason: str
    next_try_at: float | None


@dataclass(frozen=True)
class Queued:
    """The newest revision of a case, as the queue shows it. Times are UTC seconds since the epoch."""

    key: CaseKey
    patient_id: str
    studies: tuple[str, ...]
    study_date: str  # YYYYMMDD, empty if not known
    state: State
    reason: str
    since: float
    begun_at: float  # when the case's first instance came
    awaited: str
    awaited_until: float | None
    withdrawn: bool
    deliveries: tuple[Sent, ...]


@dataclass(frozen=True)
class Arrived:
    """A series as it came; ``facts`` of one of its instances, as JSON (dicom_node.facts), or empty."""

    series_uid: str
    study_uid: str
    instances: int
    facts: str
    at: float


@dataclass(frozen=True)
class Pulse:
    """How far the history has come: equal pulses, nothing new to show."""

    event: int
    destination_event: int
    receiving: tuple[float, ...]


class QueueStore(Database):
    """Read-only; every query is bounded by a page, however many studies there are."""

    def queue(
        self, states: Collection[State] = (), text: str = "", limit: int = 50, offset: int = 0
    ) -> tuple[list[Queued], int]:
        """Cases in one of ``states`` (none: all) that ``text`` is found in, newest change first; how many.

        ``text`` is looked for in patient IDs, study UIDs, case ids, accession numbers, descriptions of
        series and reasons; case does not matter.
        """
        r = t.revisions.c
        where = _newest() & (r.state.in_(states) if states else true()) & _contains(text)
        page = select(t.revisions, t.cases.c.patient_id, t.cases.c.created_at)
        page = page.join(t.cases, t.cases.c.case_id == r.case_id).where(where)
        page = page.order_by(r.since.desc(), r.case_id).limit(limit).offset(offset)
        counted = select(func.count()).select_from(t.revisions).where(where)
        with self._read() as tx:
            if text.strip():  # what is searched for is searched for once
                rows = tx.execute(page.add_columns(func.count().over().label("total"))).all()
                total = rows[0].total if rows else 0
            else:
                rows, total = tx.execute(page).all(), 0
            if offset or not text.strip():
                total = tx.execute(counted).scalar_one()
            return self._queued(tx, rows), int(total)

    def count_by_state(self) -> dict[State, int]:
        """Cases by the state of their newest revision."""
        r = t.revisions.c
        query = select(r.state, func.count()).where(_newest()).group_by(r.state)
        with self._read() as tx:
            found = {State(state): int(n) for state, n in tx.execute(query)}
        return {s: found.get(s, 0) for s in State}

    def open_deliveries(self) -> dict[str, dict[DeliveryState, int]]:
        """By destination: how many deliveries have not ended well, by state."""
        d = t.deliveries.c
        query = select(d.destination, d.state, func.count()).where(d.state.in_(_OPEN))
        found: dict[str, dict[DeliveryState, int]] = {}
        with self._read() as tx:
            for name, state, n in tx.execute(query.group_by(d.destination, d.state)):
                found.setdefault(name, {})[DeliveryState(state)] = int(n)
        return found

    def pulse(self) -> Pulse:
        """Cheap enough to ask twice a second."""
        r, receiving = t.revisions.c, t.revisions.c.state == State.RECEIVING
        with self._read() as tx:
            event = tx.execute(select(func.max(t.events.c.id))).scalar()
            of_destination = tx.execute(select(func.max(t.destination_events.c.id))).scalar()
            row = tx.execute(
                select(func.count(), func.max(r.last_received_at), func.sum(r.awaited_until)).where(receiving)
            ).one()
        return Pulse(int(event or 0), int(of_destination or 0), tuple(float(v or 0) for v in row))

    def changed_since(self, event: int, limit: int = 100) -> list[str]:
        """Cases with an event after ``event``; a list of ``limit`` may not be all."""
        e = t.events.c
        query = select(e.case_id).where(e.id > event).distinct().limit(limit)
        with self._read() as tx:
            return [str(row.case_id) for row in tx.execute(query)]

    def received_series(self, case: str) -> list[Arrived]:
        """What has come for a case, series by series, in order of arrival."""
        i, s = t.instances.c, t.studies.c
        query = select(i.series_uid, i.study_uid, func.count(), func.max(i.facts), func.min(i.received_at))
        mine = query.join(t.studies, s.study_uid == i.study_uid).where(s.case_id == case)
        with self._read() as tx:
            rows = tx.execute(mine.group_by(i.series_uid, i.study_uid).order_by(func.min(i.received_at)))
            return [Arrived(uid, study, int(n), facts or "", float(at)) for uid, study, n, facts, at in rows]

    def a_file_of(self, case: str) -> str | None:
        """Spool path of one instance of a case; None if none is kept."""
        i, s = t.instances.c, t.studies.c
        query = select(i.path).join(t.studies, s.study_uid == i.study_uid).where(s.case_id == case)
        with self._read() as tx:
            return tx.execute(query.order_by(i.received_at, i.sop_uid).limit(1)).scalar()

    def timeline(self, case: str, limit: int = 200) -> tuple[list[dict[str, Any]], int]:
        """The last ``limit`` events of a case, newest first; how many there are."""
        e = t.events.c
        with self._read() as tx:
            total = tx.execute(select(func.count()).select_from(t.events).where(e.case_id == case))
            count = int(total.scalar_one())
            rows = tx.execute(t.events.select().where(e.case_id == case).order_by(e.id.desc()).limit(limit))
            return [dict(r._mapping) for r in rows], count

    def _queued(self, tx: Connection, rows: Sequence[Row[Any]]) -> list[Queued]:
        cases = [r.case_id for r in rows]
        studies: dict[str, list[Row[Any]]] = {}
        for s in tx.execute(t.studies.select().where(t.studies.c.case_id.in_(cases))):
            studies.setdefault(s.case_id, []).append(s)
        sent = _sent(tx, [(r.case_id, r.revision) for r in rows])
        w = t.withdrawals.c
        withdrawn = {r.case_id for r in tx.execute(select(w.case_id).where(w.case_id.in_(cases)))}
        return [
            Queued(
                CaseKey(r.case_id, r.revision),
                r.patient_id,
                tuple(s.study_uid for s in studies.get(r.case_id, ())),
                max((s.study_date or "" for s in studies.get(r.case_id, ())), default=""),
                State(r.state),
                r.reason,
                r.since,
                r.created_at,
                r.awaited or "",
                r.awaited_until,
                r.case_id in withdrawn,
                tuple(sent.get((r.case_id, r.revision), ())),
            )
            for r in rows
        ]


def _sent(tx: Connection, keys: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], list[Sent]]:
    """Those of the last result set of each revision."""
    d = t.deliveries.c
    newest: dict[tuple[str, int], int] = {}
    found: dict[tuple[str, int], list[Sent]] = {}
    query = t.deliveries.select().where(tuple_(d.case_id, d.revision).in_(keys))
    for row in tx.execute(query.order_by(d.result_attempt.desc(), d.destination)) if keys else ():
        key = (row.case_id, row.revision)
        if newest.setdefault(key, row.result_attempt) == row.result_attempt:
            state = DeliveryState(row.state)
            found.setdefault(key, []).append(
                Sent(row.delivery_id, row.destination, row.purpose, state, row.reason, row.next_try_at)
            )
    return found


def _newest() -> ColumnElement[bool]:
    later = t.revisions.alias("later")
    return ~(
        select(later.c.revision)
        .where(later.c.case_id == t.revisions.c.case_id, later.c.revision > t.revisions.c.revision)
        .exists()
    )


def _contains(text: str) -> ColumnElement[bool]:
    words = text.strip()
    if not words:
        return true()
    r, s, i = t.revisions.c, t.studies.c, t.instances.c
    of_case = select(t.cases.c.case_id).where(t.cases.c.patient_id.icontains(words, autoescape=True))
    of_study = select(s.case_id).where(s.study_uid.icontains(words, autoescape=True))
    of_accession = select(s.case_id).join(t.instances, i.study_uid == s.study_uid)
    of_series = select(t.series.c.case_id).where(t.series.c.description.icontains(words, autoescape=True))
    return or_(
        r.reason.icontains(words, autoescape=True),
        r.case_id.icontains(words, autoescape=True),
        r.case_id.in_(of_case),
        r.case_id.in_(of_study),
        r.case_id.in_(of_accession.where(i.accession_number == words)),
        r.case_id.in_(of_series),
    )
