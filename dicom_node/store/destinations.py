"""Destinations: a circuit breaker each, and a person's hold; in the store, so that all workers share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from dicom_node.errors import UnsuitableInput
from dicom_node.study import DeliveryState

from . import tables as t
from .ledger import LedgerStore


@dataclass(frozen=True)
class Standing:
    """What is known of a destination. Open: it failed too often in a row, and only probes go there."""

    name: str
    failures: int = 0
    reason: str = ""
    opened_at: float | None = None
    probe_at: float | None = None
    held_at: float | None = None
    held_because: str = ""

    @property
    def open(self) -> bool:
        return self.opened_at is not None

    @property
    def held(self) -> bool:
        return self.held_at is not None

    def lets_pass(self, now: float) -> bool:
        """Whether a delivery may go there at ``now``: as usual, or as the probe that is due."""
        return not self.held and (self.probe_at is None or self.probe_at <= now)

    def words(self) -> str:
        """Why nothing goes there, for the delivery that waits."""
        if self.held:
            return f"{self.name} is held: {self.held_because}"
        return f"{self.name} failed {self.failures} times in a row, only probes go there: {self.reason}"


class DestinationStore(LedgerStore):
    """Rows of destinations."""

    def standings(self) -> list[Standing]:
        """Every destination of which something is known, by name."""
        with self._read() as tx:
            return [_standing(r) for r in tx.execute(t.destinations.select().order_by(t.destinations.c.name))]

    def standing(self, name: str) -> Standing:
        """What is known of ``name``; nothing but good if nothing is."""
        with self._read() as tx:
            row = tx.execute(t.destinations.select().where(t.destinations.c.name == name)).one_or_none()
        return Standing(name) if row is None else _standing(row)

    def _standing(self, tx: Connection, name: str) -> Standing:
        """The row, made if there is none, and locked: workers take turns at one destination."""
        query = t.destinations.select().where(t.destinations.c.name == name).with_for_update()
        row = tx.execute(query).one_or_none()
        if row is None:
            try:
                with tx.begin_nested():
                    tx.execute(t.destinations.insert().values(**vars(Standing(name))))
            except IntegrityError:
                pass  # another worker made it at this moment
            row = tx.execute(query).one()
        return _standing(row)

    def destination_failed(self, name: str, because: str, limit: int, probe_s: float) -> None:
        """One more failure in a row that concerns the destination as such; the ``limit``-th opens it.

        While it is open, one probe goes there each ``probe_s`` seconds.
        """
        with self._write() as tx:
            known, now = self._standing(tx, name), self.clock()
            failures = known.failures + 1
            opens = failures >= limit
            self._set(
                tx,
                known,
                failures=failures,
                reason=because,
                opened_at=(known.opened_at or now) if opens else None,
                probe_at=now + probe_s if opens else None,
            )
            if opens and not known.open:
                self._note_destination(tx, name, "opened", f"{failures} failures in a row: {because}")

    def destination_answered(self, name: str) -> None:
        """It is there: the circuit closes, and what waits for it is due at once."""
        with self._write() as tx:
            known = self._standing(tx, name)
            if not known.failures:
                return
            self._set(tx, known, failures=0, reason="", opened_at=None, probe_at=None)
            if known.open:
                waiting = (t.deliveries.c.destination == name) & (
                    t.deliveries.c.state == DeliveryState.WAITING
                )
                tx.execute(t.deliveries.update().where(waiting).values(next_try_at=self.clock()))
                self._note_destination(tx, name, "closed", "it answers again")

    def hold_destination(self, name: str, because: str) -> None:
        """Nothing goes there until it is released. Raises UnsuitableInput if it is held already."""
        with self._write() as tx:
            known = self._standing(tx, name)
            if known.held:
                raise UnsuitableInput(f"{known.words()}")
            self._set(tx, known, held_at=self.clock(), held_because=because)
            self._note_destination(tx, name, "held", because)

    def release_destination(self, name: str, because: str) -> None:
        """Deliveries go there again. Raises UnsuitableInput if it is not held."""
        with self._write() as tx:
            known = self._standing(tx, name)
            if not known.held:
                raise UnsuitableInput(f"{name} is not held")
            self._set(tx, known, held_at=None, held_because="")
            self._note_destination(tx, name, "released", because)

    def destination_history(self, name: str) -> list[dict[str, Any]]:
        """Every event of a destination, oldest first."""
        with self._read() as tx:
            events = t.destination_events
            rows = tx.execute(events.select().where(events.c.destination == name).order_by(events.c.id))
            return [dict(r._mapping) for r in rows]

    @staticmethod
    def _set(tx: Connection, known: Standing, **values: Any) -> None:
        tx.execute(t.destinations.update().where(t.destinations.c.name == known.name).values(**values))

    def _note_destination(self, tx: Connection, name: str, event: str, reason: str) -> None:
        tx.execute(
            t.destination_events.insert().values(
                at=self.clock(), destination=name, event=event, reason=reason
            )
        )


def _standing(row: Any) -> Standing:
    return Standing(**dict(row._mapping))
