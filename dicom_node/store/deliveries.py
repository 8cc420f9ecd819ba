"""Deliveries: one row per result set and destination, and what each destination has taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_, select

from dicom_node.errors import UnsuitableInput
from dicom_node.study import BEING_SENT, UNDER_WAY, CaseKey, DeliveryState, Event, Purpose, State

from . import tables as t
from .destinations import DestinationStore
from .ledger import delivered_deeds

_WAITS = (DeliveryState.WAITING, DeliveryState.PROVING)
_ENDED_WELL = {DeliveryState.DELIVERED, DeliveryState.CANCELLED}


@dataclass(frozen=True)
class Delivery:
    """One result set on its way to one destination. ``attempt`` counts a person's retries.

    ``tries`` counts the runs of this attempt, ``failures`` those that failed in a row, ``resends`` the
    rounds in which objects were sent again because the destination had taken but not kept them;
    ``missing`` says which.
    """

    delivery_id: str
    key: CaseKey
    result_attempt: int
    destination: str
    state: DeliveryState
    attempt: int
    tries: int
    failures: int
    resends: int
    missing: str
    reason: str
    started_at: float
    purpose: Purpose = Purpose.RESULTS


@dataclass(frozen=True)
class Sendable:
    """A result file for a destination; ``path`` is relative to the spool."""

    path: str
    kind: str
    name: str
    sop_uid: str
    sop_class_uid: str
    sha256: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.path).name


class DeliveryStore(DestinationStore):
    """Rows of deliveries."""

    def deliveries_due(self) -> list[Delivery]:
        """Deliveries to begin, under way, or whose next try is due; oldest first.

        A held destination gets none; one whose circuit is open, only the oldest, when a probe is due.
        """
        state, due = t.deliveries.c.state, t.deliveries.c.next_try_at
        now = self.clock()
        shut = [s for s in self.standings() if s.held or s.open]
        ready = (state == DeliveryState.PENDING) | (state.in_(_WAITS) & (due <= now))
        elsewhere = t.deliveries.c.destination.not_in([s.name for s in shut])
        with self._read() as tx:
            rows = list(tx.execute(_in_turn().where(state.in_(BEING_SENT) | (ready & elsewhere))))
            for s in shut:
                if s.lets_pass(now):
                    probes = ready | (state == DeliveryState.WAITING)  # whether or not its own time has come
                    there = t.deliveries.c.destination == s.name
                    rows += tx.execute(_in_turn().where(there & probes).limit(1))
        return [_delivery(row) for row in rows]

    def delivery(self, delivery_id: str) -> Delivery:
        """Raises UnsuitableInput if there is no such delivery."""
        with self._read() as tx:
            return self._named(tx, delivery_id)

    @staticmethod
    def _named(tx: Connection, delivery_id: str) -> Delivery:
        this = t.deliveries.c.delivery_id == delivery_id
        row = tx.execute(t.deliveries.select().where(this)).one_or_none()
        if row is None:
            raise UnsuitableInput(f"no delivery {delivery_id} is known here (see: mrsi-node status)")
        return _delivery(row)

    def to_send(self, delivery: Delivery) -> list[Sendable]:
        """The result files that the destination has not taken yet, in the order they were made."""
        taken = select(t.taken.c.path).where(t.taken.c.delivery_id == delivery.delivery_id)
        return self._files(delivery, t.results.c.path.not_in(taken))

    def meant_for(self, delivery: Delivery) -> list[Sendable]:
        """All result files of a delivery, in the forms in which the destination gets them."""
        return self._files(delivery)

    def _files(self, delivery: Delivery, *further: ColumnElement[bool]) -> list[Sendable]:
        """A lesser form belongs to those deliveries only in which it stands in for another."""
        s, path, only_for = t.substitutions.c, t.results.c.path, t.results.c.only_for
        mine = (s.delivery_id == delivery.delivery_id) & (s.place >= 0)
        lesser = select(s.instead).where(s.instead.is_not(None))
        query = t.results.select().where(
            _made_for(delivery),
            or_(only_for.is_(None), only_for == delivery.destination),
            path.not_in(select(s.path).where(mine)),
            or_(path.not_in(lesser), path.in_(lesser.where(mine))),
            *further,
        )
        with self._read() as tx:
            return [_sendable(r) for r in tx.execute(query.order_by(path))]

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

    def sending(self, delivery: Delivery, probe_s: float = 60.0) -> Delivery | None:
        """A try begins, or begins again after a crash. None if it may not go now.

        One that was held before the crash is HELD now. A destination that is held meanwhile, or whose
        circuit opened, sends the delivery back to wait.
        An open circuit lets one try through as a probe, the next one ``probe_s`` later.
        """
        with self._write() as tx:
            state, revision = self._lock(tx, delivery)
            if state is DeliveryState.STOPPING:
                self._end_try(tx, delivery, DeliveryState.HELD, "")
            if state not in UNDER_WAY:
                return None
            again = state is DeliveryState.SENDING
            standing, now = self._standing(tx, delivery.destination), self.clock()
            if not again and not standing.lets_pass(now):
                self._change(
                    tx, delivery, revision, DeliveryState.WAITING, standing.words(),
                    tries=delivery.tries + 1, next_try_at=now,
                )  # fmt: skip
                return None
            if standing.open:
                self._set(tx, standing, probe_at=now + probe_s)
            tries = delivery.tries + (not again)
            self._change(tx, delivery, revision, DeliveryState.SENDING, "", tries=tries, next_try_at=None)
        return self.delivery(delivery.delivery_id)

    def wait(self, delivery: Delivery, because: str, next_try_at: float, failures: int = 1) -> None:
        """A try failed for a reason that may pass. A delivery held meanwhile stays held."""
        also = {"next_try_at": next_try_at, "failures": failures}
        with self._write() as tx:
            self._end_try(tx, delivery, DeliveryState.WAITING, because, **also)

    def await_proof(
        self, delivery: Delivery, because: str, next_try_at: float, transaction_uid: str = ""
    ) -> None:
        """Everything was taken; the next look is due at ``next_try_at``, or once an answer comes.

        The answer to ``transaction_uid`` may have come a moment ago: then it is due at once.
        A delivery held meanwhile stays held.
        """
        with self._write() as tx:
            self._lock(tx, delivery)
            asked = t.transactions.c.transaction_uid == transaction_uid
            answered = tx.execute(
                select(t.transactions.c.answered_at).where(asked).with_for_update()
            ).scalar()
            due = next_try_at if answered is None else self.clock()
            also = {"next_try_at": due, "failures": 0}
            self._end_try(tx, delivery, DeliveryState.PROVING, because, **also)

    def delivered(self, delivery: Delivery) -> bool:
        """Everything was taken, and proven where that is asked. The last destination ends the revision.

        False if a report that came in the course of this try says otherwise: then it goes on at once,
        unless it was held meanwhile. What was withdrawn stays that.
        """
        with self._write() as tx:
            before, revision = self._lock(tx, delivery)
            if before in _ENDED_WELL:  # another worker took this one for dead
                return before is DeliveryState.DELIVERED
            this = t.deliveries.c.delivery_id == delivery.delivery_id
            now = tx.execute(select(t.deliveries.c.resends, t.deliveries.c.missing).where(this)).one()
            if now.resends > delivery.resends:
                also = {"next_try_at": self.clock(), "failures": 0}
                self._end_try(tx, delivery, DeliveryState.PROVING, now.missing, **also)
                return False
            self._change(tx, delivery, revision, DeliveryState.DELIVERED, "", next_try_at=None, failures=0)
            self._enter(
                tx, *delivered_deeds(tx, delivery.key.case, delivery.delivery_id, delivery.destination)
            )
            return True

    def give_up(self, delivery: Delivery, because: str) -> None:
        """No more tries; a person must act. The revision is failed once no delivery is under way.

        What has arrived or was withdrawn meanwhile stays that.
        """
        with self._write() as tx:
            before, revision = self._lock(tx, delivery)
            if before not in _ENDED_WELL:
                self._change(tx, delivery, revision, DeliveryState.FAILED, because, next_try_at=None)

    def _end_try(
        self, tx: Connection, delivery: Delivery, state: DeliveryState, because: str, **also: Any
    ) -> None:
        """To ``state``, unless a person held the delivery in the course of the try or it has ended well."""
        before, revision = self._lock(tx, delivery)
        if before is DeliveryState.STOPPING:
            held = self._named(tx, delivery.delivery_id).reason
            self._change(tx, delivery, revision, DeliveryState.HELD, held, next_try_at=None)
        elif before not in _ENDED_WELL and before is not DeliveryState.HELD:
            self._change(tx, delivery, revision, state, because, **also)

    def _move_in(
        self, tx: Connection, delivery: Delivery, state: DeliveryState, reason: str, **also: Any
    ) -> None:
        _, revision = self._lock(tx, delivery)
        self._change(tx, delivery, revision, state, reason, **also)

    def _lock(self, tx: Connection, delivery: Delivery) -> tuple[DeliveryState, Row[Any]]:
        """The delivery's state now and its revision's row, both locked.

        The revision's row first: destinations that end at the same moment take turns here.
        """
        where = and_(
            t.revisions.c.case_id == delivery.key.case,
            t.revisions.c.revision == delivery.key.revision,
        )
        revision = tx.execute(select(t.revisions).where(where).with_for_update()).one()
        this = t.deliveries.c.delivery_id == delivery.delivery_id
        state = tx.execute(select(t.deliveries.c.state).where(this).with_for_update()).scalar_one()
        return DeliveryState(state), revision

    def _change(
        self,
        tx: Connection,
        delivery: Delivery,
        revision: Row[Any],
        state: DeliveryState,
        reason: str,
        **also: Any,
    ) -> None:
        this = t.deliveries.c.delivery_id == delivery.delivery_id
        before = tx.execute(select(t.deliveries.c.state).where(this)).scalar_one()
        tx.execute(
            t.deliveries.update().where(this).values(state=state, reason=reason, since=self.clock(), **also)
        )
        self._note(tx, delivery.key, "delivery", before, state, reason, delivery.delivery_id)
        self._settle(tx, delivery, State(revision.state), revision.attempt)

    def _settle(self, tx: Connection, delivery: Delivery, state: State, attempt: int) -> None:
        """Let the revision follow its deliveries: DONE when all arrived, FAILED when the rest gave up."""
        if attempt != delivery.result_attempt or delivery.purpose is Purpose.REASON:
            return  # an older result set's delivery says nothing of the newer one
        rows = tx.execute(
            select(t.deliveries.c.state, t.deliveries.c.destination, t.deliveries.c.reason).where(
                t.deliveries.c.case_id == delivery.key.case,
                t.deliveries.c.revision == delivery.key.revision,
                t.deliveries.c.result_attempt == attempt,
            )
        ).all()
        states = {r.state for r in rows}
        if states <= _ENDED_WELL:
            away = [f"{r.destination}: {r.reason}" for r in rows if r.state == DeliveryState.CANCELLED]
            words = "not sent to " + "; ".join(away) if away else ""
            target, event, reason = State.DONE, Event.DELIVERED, words
        elif states <= _ENDED_WELL | {DeliveryState.FAILED}:
            failed = [f"{r.destination}: {r.reason}" for r in rows if r.state == DeliveryState.FAILED]
            target, event, reason = State.FAILED, Event.UNDELIVERED, "not delivered to " + "; ".join(failed)
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
        row.failures,
        row.resends,
        row.missing,
        row.reason,
        row.started_at,
        Purpose(row.purpose),
    )


def _sendable(row: Row[Any]) -> Sendable:
    return Sendable(row.path, row.kind, row.name, row.sop_uid, row.sop_class_uid, row.sha256)


def _made_for(delivery: Delivery) -> ColumnElement[bool]:
    return and_(
        t.results.c.case_id == delivery.key.case,
        t.results.c.revision == delivery.key.revision,
        t.results.c.attempt == delivery.result_attempt,
    )


def _in_turn() -> Select[Any]:
    return t.deliveries.select().order_by(t.deliveries.c.started_at, t.deliveries.c.delivery_id)
