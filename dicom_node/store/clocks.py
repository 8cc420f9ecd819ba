"""What a clock that ran ahead has written: moments that are still to come, and would be waited for."""

from __future__ import annotations

from sqlalchemy import exists, select

from dicom_node.study import State

from . import tables as t
from .base import Database

# Less is what the clocks of several machines may differ by.
_AHEAD_S = 60.0


class ClockStore(Database):
    """Rows that say that they were written later than now."""

    def set_right(self) -> int:
        """Of what claims to have happened later than a minute from now, say that it happened now.

        A clock that was ahead and jumped back, as a machine's whose battery is empty when it hears of
        NTP, would else hold up quiet periods, retries and probes until it is that late again. Returns
        how many receiving revisions and deliveries were set right.
        """
        now = self.clock()
        r, d = t.revisions.c, t.deliveries.c
        receiving = (r.last_received_at > now + _AHEAD_S) & (r.state == State.RECEIVING)
        waiting = (d.since > now + _AHEAD_S) & d.next_try_at.is_not(None)
        with self._read() as tx:
            if not tx.execute(select(exists().where(receiving) | exists().where(waiting))).scalar():
                return 0
        with self._write() as tx:
            names = [row.destination for row in tx.execute(select(d.destination).where(waiting).distinct())]
            revisions = tx.execute(t.revisions.update().where(receiving).values(last_received_at=now))
            deliveries = tx.execute(t.deliveries.update().where(waiting).values(since=now, next_try_at=now))
            probed = t.destinations.c.name.in_(names) & (t.destinations.c.probe_at > now)
            tx.execute(t.destinations.update().where(probed).values(probe_at=now))
            return int(revisions.rowcount + deliveries.rowcount)
