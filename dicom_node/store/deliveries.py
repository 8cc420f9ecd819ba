"""Deliveries: one row per result set and destination, and what each destination has taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from dicom_node.errors import UnsuitableInput
from dicom_node.study import CaseKey, DeliveryState, Event, State

from . import tables as t
from .base import Database


@dataclass(frozen=True)
class Delivery:
    """One result set on its way to one destination. ``attempt`` counts a person's retries."""

    delivery_id: str
    key: CaseKey
    result_attempt: int
    destination: str
    state: DeliveryState
    attempt: int
    tries: int
    reason: str


@dataclass(frozen=True)
class Sendable:
    """A result file that a destination has not taken yet; ``path`` is relative to the spool."""

    path: str
    kind: str
    name: str
    sop_uid: str
    sop_class_uid: str
    sha256: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name


class DeliveryStore(Database):
    """Rows of deliveries."""

    def deliveries_due(self) -> list[Delivery]:
        """Deliveries to begin, under way, or whose next try is due; oldest first."""
        state, due = t.deliveries.c.state, t.deliveries.c.next_try_at
        waited = (state == DeliveryState.WAITING) & (due <= self.clock())
        with self._read() as tx:
            query = (
                t.deliveries.select()
                .where(state.in_((DeliveryState.PENDING, DeliveryState.SENDING)) | waited)
                .order_by(t.deliveries.c.since)
            )
            return [_delivery(row) for row in tx.execute(query)]

    def delivery(self, delivery_id: str) -> Delivery:
        """Raises UnsuitableInput if there is no such delivery."""
        with self._read() as tx:
            row = tx.execute(
                t.deliveries.select().where(t.deliveries.c.delivery_id == delivery_id)
            ).one_or_none()
        if row is None:
            raise UnsuitableInput(f"no delivery {delivery_id} is known here (see: mrsi-node status)")
        return _delivery(row)

    def to_send(self, delivery: Delivery) -> list[Sendable]:
        """The result files that the destination has not taken yet, in the order they were made."""
        taken = select(t.taken.c.path).where(t.taken.c.delivery_id == delivery.delivery_id)
        with self._read() as tx:
            query = (
                t.results.select()
                .where(
                    t.results.c.case_id == delivery.key.case,
                    t.results.c.revision == delivery.key.revision,
                    t.results.c.attempt == delivery.result_attempt,
                    t.results.c.path.not_in(taken),
                )
                .order_by(t.results.c.path)
            )
            return [
                Sendable(r.path, r.kind, r.name, r.sop_uid, r.sop_class_uid, r.sha256)
                for r in tx.execute(query)
            ]

    def take(self, delivery: Delivery, path: str, status: str) -> None:
        """The destination confirmed one file with ``status`` (DIMSE status in hex, or "written")."""
        with self._write() as tx:
            known = tx.execute(
                select(t.taken.c.path).where(
                    t.taken.c.delivery_id == delivery.delivery_id, t.taken.c.path == path
                )
            ).first()
            if known is None:
                tx.execute(
                    t.taken.insert().values(
                        delivery_id=delivery.delivery_id, path=path, status=status, at=self.clock()
                    )
                )

    def sending(self, delivery: Delivery) -> int:
        """A try begins, or begins again after a crash; returns which try it is, counted from 1."""
        tries = delivery.tries + (delivery.state is not DeliveryState.SENDING)
        self._move(delivery, DeliveryState.SENDING, "", tries=tries, next_try_at=None)
        return tries

    def wait(self, delivery: Delivery, because: str, next_try_at: float) -> None:
        """A try failed for a reason that may pass."""
        self._move(delivery, DeliveryState.WAITING, because, next_try_at=next_try_at)

    def delivered(self, delivery: Delivery) -> None:
        """Everything was taken. The last destination to confirm ends the revision."""
        self._move(delivery, DeliveryState.DELIVERED, "", next_try_at=None)

    def give_up(self, delivery: Delivery, because: str) -> None:
        """No more tries; a person must act. The revision is failed once no delivery is under way."""
        self._move(delivery, DeliveryState.FAILED, because, next_try_at=None)

    def retry_delivery(self, delivery_id: str) -> None:
        """A person wants a failed delivery tried again: a new attempt, the tries counted anew.

        Raises UnsuitableInput if it is not known or has not failed.
        """
        delivery = self.delivery(delivery_id)
        if delivery.state is not DeliveryState.FAILED:
            raise UnsuitableInput(f"delivery {delivery_id} is {delivery.state}; only a FAILED one is retried")
        self._move(
            delivery,
            DeliveryState.PENDING,
            "retried",
            attempt=delivery.attempt + 1,
            tries=0,
            next_try_at=None,
        )

    def _move(self, delivery: Delivery, state: DeliveryState, reason: str, **also: Any) -> None:
        with self._write() as tx:
            # The revision's row first: destinations that end at the same moment take turns here.
            where = and_(
                t.revisions.c.case_id == delivery.key.case,
                t.revisions.c.revision == delivery.key.revision,
            )
            revision = tx.execute(select(t.revisions).where(where).with_for_update()).one()
            this = t.deliveries.c.delivery_id == delivery.delivery_id
            before = tx.execute(select(t.deliveries.c.state).where(this)).scalar_one()
            tx.execute(
                t.deliveries.update()
                .where(this)
                .values(state=state, reason=reason, since=self.clock(), **also)
            )
            self._note(tx, delivery.key, "delivery", before, state, reason, delivery.delivery_id)
            self._settle(tx, delivery, State(revision.state), revision.attempt)

    def _settle(self, tx: Connection, delivery: Delivery, state: State, attempt: int) -> None:
        """Let the revision follow its deliveries: DONE when all arrived, FAILED when the rest gave up."""
        if attempt != delivery.result_attempt:
            return  # an older result set's delivery says nothing of the newer one
        rows = tx.execute(
            select(t.deliveries.c.state, t.deliveries.c.destination, t.deliveries.c.reason).where(
                t.deliveries.c.case_id == delivery.key.case,
                t.deliveries.c.revision == delivery.key.revision,
                t.deliveries.c.result_attempt == attempt,
            )
        ).all()
        states = {r.state for r in rows}
        if states == {DeliveryState.DELIVERED}:
            target, event, reason = State.DONE, Event.DELIVERED, ""
        elif states <= {DeliveryState.DELIVERED, DeliveryState.FAILED}:
            failed = [f"{r.destination}: {r.reason}" for r in rows if r.state == DeliveryState.FAILED]
            target, event, reason = State.FAILED, Event.GAVE_UP, "not delivered to " + "; ".join(failed)
        else:
            target, event, reason = State.DELIVERING, Event.REDELIVERED, "a delivery is retried"
        if state is not target:
            self._advance(tx, delivery.key, event, reason)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        row.delivery_id,
        CaseKey(row.case_id, row.revision),
        row.result_attempt,
        row.destination,
        DeliveryState(row.state),
        row.attempt,
        row.tries,
        row.reason,
    )
