"""What a clock that ran ahead has written: moments that are still to come, and would be waited for."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Connection, case, exists, or_, select
from sqlalchemy.sql.dml import Delete, Update

from dicom_node.study import DeliveryState

from . import tables as t
from .base import Database
from .commitments import LONGEST_PUT_OFF_S

# Less is what the clocks of several machines may differ by.
_AHEAD_S = 60.0


class ClockStore(Database):
    """Rows that say that they were written later than now."""

    def set_right(self) -> int:
        """Of what claims to have happened later than a minute from now, say that it happened now.

        A clock that was ahead and jumped back, as a machine's whose battery is empty when it hears of
        NTP, would else hold up quiet periods, retries, probes, proofs and answers until it is that late
        again. What an archive answered then is forgotten, and asked afresh. Returns how many rows were
        set right; the record of what was done (events, the ledger) stays as it was written.
        """
        now = self.clock()
        late = now + _AHEAD_S
        with self._read() as tx:
            if not tx.execute(select(or_(*(exists().where(w) for w in _ahead(late))))).scalar():
                return 0
        with self._write() as tx:
            return _set_right(tx, now, late)


def _ahead(late: float) -> list[ColumnElement[bool]]:
    """One condition for each kind of row that others wait for."""
    r, asked, requested = t.revisions.c, t.transactions.c, t.commitment_requests.c
    return [
        r.last_received_at > late,
        r.since > late,
        t.deliveries.c.since > late,
        t.destinations.c.opened_at > late,
        asked.asked_at > late,
        asked.answered_at > late,
        requested.answered_at.is_(None)
        & or_(requested.asked_at > late, requested.next_try_at > late + LONGEST_PUT_OFF_S),
        t.procedure_steps.c.since > late,
        t.inquiries.c.at > late,
    ]


def _set_right(tx: Connection, now: float, late: float) -> int:
    d, asked, destination = t.deliveries, t.transactions, t.destinations
    receiving, moved, delivering, opened, question, answer, requested, step, inquiry = _ahead(late)
    # Their probes were put off by the same clock, and so was the next look after an answer.
    names = [r.destination for r in tx.execute(select(d.c.destination).where(delivering).distinct())]
    answered = [r.delivery_id for r in tx.execute(select(asked.c.delivery_id).where(answer))]
    proving = d.c.delivery_id.in_(answered) & (d.c.state == DeliveryState.PROVING)
    probed = or_(opened, destination.c.name.in_(names)) & (destination.c.probe_at > now)
    request = t.commitment_requests
    changes: list[Update | Delete] = [
        t.revisions.update().where(receiving).values(last_received_at=now),
        t.revisions.update().where(moved).values(since=now),
        d.update().where(proving & (d.c.next_try_at > now)).values(next_try_at=now),
        d.update()
        .where(delivering)
        .values(
            since=now, started_at=_not_after(d.c.started_at, now), next_try_at=_due(d.c.next_try_at, now)
        ),
        destination.update().where(probed).values(probe_at=now),
        destination.update().where(opened).values(opened_at=now),
        asked.update().where(question).values(asked_at=now),
        asked.update().where(answer).values(answered_at=now),
        request.update()
        .where(requested)
        .values(asked_at=_not_after(request.c.asked_at, now), next_try_at=now),
        t.procedure_steps.update().where(step).values(since=now),
        t.inquiries.delete().where(inquiry),
    ]
    return sum(int(tx.execute(change).rowcount) for change in changes)


def _not_after(moment: Column[float], now: float) -> ColumnElement[float]:
    return case((moment > now, now), else_=moment)


def _due(moment: Column[float], now: float) -> ColumnElement[float | None]:
    """Now, for what has a next try."""
    return case((moment.is_not(None), now), else_=None)
