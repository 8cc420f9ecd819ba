"""Who is told of what happens, and how far: each feed reads all events in order, across restarts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, select

from . import tables as t
from .base import Database

_MOST = 200  # of each kind at once

LONGEST_SILENCE_S = 3600.0  # nobody is put off for longer


@dataclass(frozen=True)
class Marks:
    """How far a feed has been told: the last event of each kind."""

    event: int
    destination_event: int
    quarantined: int
    sign_in: int
    failures: int = 0


@dataclass(frozen=True)
class Happening:
    """Something that happened. ``about``: "study", "delivery", "destination", "quarantine" or "sign-in".

    ``subject``: case/revision, the delivery's id, the destination's or person's name; empty for quarantine
    and for nobody who is known. ``reason`` may quote what persons and headers say; of a sign-in it is the
    address. ``at``: UTC seconds.
    """

    at: float
    about: str
    subject: str
    event: str
    state: str
    reason: str


class FeedStore(Database):
    """Rows of feeds. A feed is claimed before it is told, so that of several nodes one tells it."""

    def claim_feed(self, name: str, lease_s: float) -> Marks | None:
        """How far ``name`` was told, if it is due and nobody else tells it now; else None.

        A feed that was not there before begins with what happens from now on.
        """
        f, now = t.feeds.c, self.clock()
        with self._write() as tx:
            row = tx.execute(t.feeds.select().where(f.name == name)).one_or_none()
            if row is None:
                marks = Marks(*(_last(tx, table) for table in _READ))
                tx.execute(t.feeds.insert().values(name=name, claimed_until=now + lease_s, **vars(marks)))
                return marks
            # What is further away than anybody is ever put off was written by a clock that was wrong.
            if now < max(row.next_try_at or 0, row.claimed_until or 0) <= now + LONGEST_SILENCE_S:
                return None
            tx.execute(t.feeds.update().where(f.name == name).values(claimed_until=now + lease_s))
            return Marks(row.event, row.destination_event, row.quarantined, row.sign_in, row.failures)

    def happenings(self, after: Marks) -> tuple[list[Happening], Marks]:
        """What happened after those marks, in order of time, and the marks behind it."""
        events, destinations, quarantine, sign_ins = _READ
        with self._read() as tx:
            of_studies = tx.execute(_next(events, after.event)).all()
            of_destinations = tx.execute(_next(destinations, after.destination_event)).all()
            refused = tx.execute(_next(quarantine, after.quarantined)).all()
            signed = tx.execute(_next(sign_ins, after.sign_in)).all()
        found = [
            *(_of_study(r) for r in of_studies),
            *(Happening(r.at, "destination", r.destination, r.event, "", r.reason) for r in of_destinations),
            *(Happening(r.at, "quarantine", "", "quarantined", "", r.reason) for r in refused),
            *(Happening(r.at, "sign-in", r.name, r.event, "", r.address) for r in signed),
        ]
        behind = Marks(
            *(
                rows[-1].id if rows else mark
                for rows, mark in (
                    (of_studies, after.event),
                    (of_destinations, after.destination_event),
                    (refused, after.quarantined),
                    (signed, after.sign_in),
                )
            )
        )
        return sorted(found, key=lambda h: h.at), behind

    def told(self, name: str, marks: Marks) -> None:
        """Everything up to ``marks`` has arrived."""
        values = {**vars(marks), "failures": 0, "next_try_at": None, "claimed_until": None}
        with self._write() as tx:
            tx.execute(t.feeds.update().where(t.feeds.c.name == name).values(**values))

    def not_told(self, name: str, again_at: float) -> None:
        """It did not arrive, and is tried again at ``again_at``."""
        f = t.feeds.c
        values: dict[str, Any] = {"failures": f.failures + 1, "next_try_at": again_at, "claimed_until": None}
        with self._write() as tx:
            tx.execute(t.feeds.update().where(f.name == name).values(**values))


_READ = (t.events, t.destination_events, t.quarantine, t.sign_ins)


def _last(tx: Connection, table: Table) -> int:
    return tx.execute(select(func.max(table.c.id))).scalar() or 0


def _next(table: Table, after: int) -> Select[Any]:
    return table.select().where(table.c.id > after).order_by(table.c.id).limit(_MOST)


def _of_study(r: Row[Any]) -> Happening:
    about, subject = ("delivery", r.delivery_id) if r.delivery_id else ("study", f"{r.case_id}/{r.revision}")
    return Happening(r.at, about, subject, r.event, r.to_state, r.reason)
