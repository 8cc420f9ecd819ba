"""Storage commitment in both roles: what we asked of destinations, and what peers asked of us."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from dicom_node.study import DeliveryState

from . import tables as t
from .deliveries import Delivery
from .proofs import ProofStore

# A destination that could not say whether it keeps an object is asked again after this.
ASK_AGAIN_S = 300.0
# The answer to a peer that cannot be told is put off by no more than this.
LONGEST_PUT_OFF_S = 3600.0


@dataclass(frozen=True)
class Transaction:
    """One request for commitment to a destination; times in UTC seconds."""

    transaction_uid: str
    asked_at: float
    answered_at: float | None

    def waits_since(self, earliest: float) -> bool:
        """Whether its answer may still come: asked after ``earliest``, and not answered."""
        return self.answered_at is None and self.asked_at > earliest


@dataclass(frozen=True)
class Item:
    """An instance that a peer asks us to keep, and what we have under its UID, if anything."""

    sop_uid: str
    sop_class_uid: str
    path: str | None
    sha256: str
    own_class_uid: str


@dataclass(frozen=True)
class Request:
    """A peer's request for commitment that waits for our answer."""

    peer: str
    transaction_uid: str
    asked_at: float
    tries: int


class CommitmentStore(ProofStore):
    """Rows of transactions (as SCU) and of commitment requests (as SCP)."""

    # As SCU

    def ask_commitment(self, transaction_uid: str, delivery: Delivery) -> None:
        """Before the question is asked, so that its answer is known whoever takes it and when."""
        with self._write() as tx:
            this = t.transactions.c.transaction_uid == transaction_uid
            if tx.execute(select(t.transactions.c.asked_at).where(this)).first() is None:
                tx.execute(
                    t.transactions.insert().values(
                        transaction_uid=transaction_uid,
                        delivery_id=delivery.delivery_id,
                        asked_at=self.clock(),
                    )
                )
            else:  # the same try again, after a crash
                again = {"asked_at": self.clock(), "lapsed_at": None}
                tx.execute(t.transactions.update().where(this).values(**again))

    def last_transaction(self, delivery: Delivery) -> Transaction | None:
        """The newest request for commitment of a delivery that reached the destination."""
        with self._read() as tx:
            row = tx.execute(
                t.transactions.select()
                .where(
                    t.transactions.c.delivery_id == delivery.delivery_id,
                    t.transactions.c.lapsed_at.is_(None),
                )
                .order_by(t.transactions.c.asked_at.desc())
                .limit(1)
            ).one_or_none()
        return None if row is None else Transaction(row.transaction_uid, row.asked_at, row.answered_at)

    def lapse_transaction(self, transaction_uid: str) -> None:
        """The question may never have reached the destination: it is put afresh. An answer still counts."""
        with self._write() as tx:
            this = t.transactions.c.transaction_uid == transaction_uid
            tx.execute(t.transactions.update().where(this).values(lapsed_at=self.clock()))

    def is_answered(self, transaction_uid: str) -> bool:
        """Whether an answer to this request for commitment has come."""
        with self._read() as tx:
            this = t.transactions.c.transaction_uid == transaction_uid
            return tx.execute(select(t.transactions.c.answered_at).where(this)).scalar() is not None

    def commitment_answered(
        self, transaction_uid: str, committed: Collection[str], missing: Mapping[str, str]
    ) -> bool:
        """Record a destination's answer, by SOP Instance UID; a delivery that waits for it goes on.

        ``missing`` says in words why the destination does not keep an object: it is to be sent again.
        Of objects in neither, the destination is asked again later. An answer may come more than once,
        and long after the question was asked anew. False if no such transaction is known.
        """
        with self._write() as tx:
            this = t.transactions.c.transaction_uid == transaction_uid
            asked = tx.execute(select(t.transactions).where(this).with_for_update()).one_or_none()
            if asked is None:
                return False
            now = self.clock()
            tx.execute(t.transactions.update().where(this).values(answered_at=now))
            self._prove(tx, asked.delivery_id, committed, "commitment")
            if missing and asked.answered_at is None:
                words = "; ".join(dict.fromkeys(missing.values()))
                self._send_again(tx, asked.delivery_id, list(missing), f"{len(missing)} objects: {words}")
            open_questions = tx.execute(
                select(t.taken.c.path).where(
                    t.taken.c.delivery_id == asked.delivery_id,
                    t.taken.c.proof == "",
                    t.taken.c.path.in_(select(t.results.c.path).where(t.results.c.sop_uid != "")),
                )
            ).first()
            due = now if missing or open_questions is None else now + ASK_AGAIN_S
            waits = (t.deliveries.c.delivery_id == asked.delivery_id) & (
                t.deliveries.c.state == DeliveryState.PROVING
            )
            tx.execute(t.deliveries.update().where(waits).values(next_try_at=due))
            return True

    # As SCP

    def request_commitment(
        self, peer: str, transaction_uid: str, items: Sequence[tuple[str, str]], answer_at: float
    ) -> None:
        """A peer asks us to keep instances, given as (SOP Class UID, SOP Instance UID).

        The answer is due at ``answer_at`` unless it has been given before. The same request again is
        answered again.
        """
        key = {"peer": peer, "transaction_uid": transaction_uid}
        with self._write() as tx:
            for table in (t.commitment_items, t.commitment_requests):
                tx.execute(
                    table.delete().where(table.c.peer == peer, table.c.transaction_uid == transaction_uid)
                )
            tx.execute(
                t.commitment_requests.insert().values(
                    **key, asked_at=self.clock(), tries=0, next_try_at=answer_at, reason=""
                )
            )
            rows = {uid: {**key, "sop_uid": uid, "sop_class_uid": sop_class} for sop_class, uid in items}
            if rows:
                tx.execute(t.commitment_items.insert(), list(rows.values()))

    def commitments_due(self) -> list[Request]:
        """Requests of peers whose answer is due, oldest first."""
        with self._read() as tx:
            requests = t.commitment_requests
            query = (
                requests.select()
                .where(requests.c.answered_at.is_(None), requests.c.next_try_at <= self.clock())
                .order_by(requests.c.asked_at)
            )
            return [Request(r.peer, r.transaction_uid, r.asked_at, r.tries) for r in tx.execute(query)]

    def commitment_items(self, peer: str, transaction_uid: str) -> list[Item]:
        """What a peer asks us to keep, each with what we have."""
        items, instances = t.commitment_items, t.instances
        with self._read() as tx:
            query = (
                select(
                    items.c.sop_uid,
                    items.c.sop_class_uid,
                    instances.c.path,
                    instances.c.sha256,
                    instances.c.sop_class_uid.label("own_class_uid"),
                )
                .outerjoin(instances, instances.c.sop_uid == items.c.sop_uid)
                .where(items.c.peer == peer, items.c.transaction_uid == transaction_uid)
                .order_by(items.c.sop_uid)
            )
            return [
                Item(r.sop_uid, r.sop_class_uid, r.path, r.sha256 or "", r.own_class_uid or "")
                for r in tx.execute(query)
            ]

    def commitment_given(self, peer: str, transaction_uid: str) -> None:
        """The peer has taken our answer; of its request no more is kept than that."""
        items = t.commitment_items
        with self._write() as tx:
            tx.execute(items.delete().where(items.c.peer == peer, items.c.transaction_uid == transaction_uid))
        self._set_request(peer, transaction_uid, answered_at=self.clock(), next_try_at=None, reason="")

    def commitment_waits(self, request: Request, because: str, next_try_at: float | None) -> None:
        """The peer could not be told; tried again at ``next_try_at``, never if that is None."""
        self._set_request(
            request.peer,
            request.transaction_uid,
            tries=request.tries + 1,
            next_try_at=next_try_at,
            reason=because,
        )

    def _set_request(self, peer: str, transaction_uid: str, **values: object) -> None:
        requests = t.commitment_requests
        with self._write() as tx:
            tx.execute(
                requests.update()
                .where(requests.c.peer == peer, requests.c.transaction_uid == transaction_uid)
                .values(**values)
            )
