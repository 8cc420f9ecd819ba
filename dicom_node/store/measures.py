"""What monitoring asks of the store: how much there is in each state, how old, and what is told to whom."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from . import tables as t
from .base import Database


@dataclass(frozen=True)
class Waiting:
    """Rows of one state: how many, and since when the oldest, in UTC seconds."""

    count: int
    oldest_since: float


class MeasureStore(Database):
    """Aggregates; each is a few grouped reads over indexed columns."""

    def revisions_by_state(self) -> dict[str, Waiting]:
        """Revisions in each state."""
        r = t.revisions.c
        with self._read() as tx:
            rows = tx.execute(select(r.state, func.count(), func.min(r.since)).group_by(r.state))
            return {state: Waiting(count, since) for state, count, since in rows}

    def deliveries_by_state(self) -> dict[tuple[str, str], Waiting]:
        """Deliveries by destination and state."""
        d = t.deliveries.c
        query = select(d.destination, d.state, func.count(), func.min(d.since)).group_by(
            d.destination, d.state
        )
        with self._read() as tx:
            return {(name, state): Waiting(count, since) for name, state, count, since in tx.execute(query)}

    def workers_seen(self) -> dict[str, float]:
        """When each worker on the books was last heard of, in UTC seconds."""
        w = t.workers.c
        with self._read() as tx:
            query = select(w.name, w.seen_at).where(w.taken_over_at.is_(None))
            return {row.name: row.seen_at for row in tx.execute(query)}

    def ever_quarantined(self) -> int:
        """How many files were ever quarantined."""
        with self._read() as tx:
            return tx.execute(select(func.max(t.quarantine.c.id))).scalar() or 0

    def ledger_since(self, number: int) -> tuple[int, dict[str, int]]:
        """The last entry's number, and how many of each kind came after entry ``number``."""
        e = t.ledger.c
        with self._read() as tx:
            last = tx.execute(select(func.max(e.number))).scalar() or 0
            new = (e.number > number) & (e.number <= last)
            rows = tx.execute(select(e.kind, func.count()).where(new).group_by(e.kind))
            return last, {row.kind: row[1] for row in rows}
