"""What a person decides about results: their release to a destination, and their withdrawal."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, func, or_, select

from dicom_node.errors import TemporaryError, UnsuitableInput
from dicom_node.study import BEING_SENT, CaseKey, DeliveryState, Event, Purpose, State

from . import tables as t
from .deliveries import Sendable, _delivery, _sendable
from .forms import FormStore
from .ledger import Deed, Kind
from .results import ResultStore
from .revisions import Made

_NOT_ENDED = (
    DeliveryState.PENDING,
    DeliveryState.WAITING,
    DeliveryState.PROVING,
    DeliveryState.HELD,
    DeliveryState.FAILED,
)


@dataclass(frozen=True)
class Kept:
    """What of a case destinations have and nobody has withdrawn yet, by destination.

    ``key``: the newest revision that made results, to which notes belong; ``attempt`` is its last one.
    """

    key: CaseKey
    attempt: int
    files: Mapping[str, Sequence[Sendable]]


class ReviewStore(ResultStore, FormStore):
    """Deliveries as a person judges them."""

    def release_results(self, study_or_case: str, destination: str, because: str) -> str:
        """The newest results of a study that wait for their release go to ``destination``.

        Returns the delivery. Raises UnsuitableInput if none waits.
        """
        case = self.case_of(study_or_case)
        with self._read() as tx:
            waiting = [] if case is None else self._held_for_release(tx, case, destination)
        if not waiting:
            raise UnsuitableInput(
                f"no results of {study_or_case} wait for their release to {destination} "
                "(see: mrsi-node status)"
            )
        newest = waiting[-1]
        self.release_delivery(newest.delivery_id, because)
        return newest.delivery_id

    def kept_results(self, study_or_case: str) -> Kept:
        """What destinations have of a study. Raises UnsuitableInput if it has no results."""
        with self._read() as tx:
            return self._kept(tx, self._case_named(tx, study_or_case), study_or_case)

    def _kept(self, tx: Connection, case: str, asked: str) -> Kept:
        d = t.deliveries.c
        results = (d.case_id == case) & (d.purpose == Purpose.RESULTS)
        newest = tx.execute(select(func.max(d.revision)).where(results)).scalar()
        if newest is None:
            raise UnsuitableInput(f"there are no results of {asked} to withdraw (see: mrsi-node status)")
        key = CaseKey(case, int(newest))
        r = t.revisions.c
        attempt = tx.execute(
            select(r.attempt).where(r.case_id == case, r.revision == key.revision)
        ).scalar_one()
        files: dict[str, list[Sendable]] = {}
        for row in self._taken(tx, case):
            files.setdefault(row.destination, []).append(_sendable(row))
        return Kept(key, int(attempt), files)

    @staticmethod
    def _taken(tx: Connection, case: str) -> Sequence[Row[tuple[object, ...]]]:
        d, taken = t.deliveries.c, t.taken.c
        return tx.execute(
            select(t.results, d.destination, d.delivery_id)
            .join(t.taken, taken.path == t.results.c.path)
            .join(t.deliveries, d.delivery_id == taken.delivery_id)
            .where(
                t.results.c.case_id == case,
                d.case_id == case,
                d.purpose == Purpose.RESULTS,
                taken.withdrawn_at.is_(None),
            )
            .order_by(d.destination, t.results.c.path)
        ).all()

    def withdraw(
        self, kept: Kept, notes: Sequence[tuple[Made, str | None]], who: str, because: str, title: str
    ) -> list[str]:
        """Results are rejected: ``notes`` go to those that have them, nothing of them is sent any more.

        ``notes`` are durable files, each for one destination or for all that get its kind; ``title`` is
        the code value of their document title. Returns the deliveries of the notes. Raises TemporaryError
        if something was sent meanwhile or is being sent, held or not, UnsuitableInput if the study is just
        being worked on.
        """
        key, now = kept.key, self.clock()
        with self._write() as tx:
            if self._kept(tx, key.case, key.case) != kept:
                raise TemporaryError("something of this study was sent at this moment: try again")
            words = f"withdrawn by {who}: {because}"
            self._cancel_all(tx, key.case, words)
            withdrawn = self._taken(tx, key.case)
            self._advance_to_withdrawal(tx, key, kept.attempt + 1, words)
            for row in withdrawn:
                this = and_(t.taken.c.delivery_id == row.delivery_id, t.taken.c.path == row.path)
                tx.execute(t.taken.update().where(this).values(withdrawn_at=now))
            values = {"case_id": key.case, "revision": key.revision, "attempt": kept.attempt + 1}
            tx.execute(t.withdrawals.insert().values(**values, title=title, who=who, because=because, at=now))
            for made, only_for in notes:
                tx.execute(t.results.insert().values(**values, **vars(made), only_for=only_for))
            detail = json.dumps({"revision": key.revision, "attempt": kept.attempt + 1, "title": title})
            gone = {(row.sop_uid or row.path): row.sha256 for row in withdrawn}
            self._enter(
                tx,
                *(Deed(Kind.WITHDRAWN, key.case, subject, sha, detail) for subject, sha in gone.items()),
                *(Deed(Kind.MADE, key.case, m.sop_uid or m.path, m.sha256, detail) for m, _ in notes),
            )
            ids = [self._notify(tx, key, kept.attempt + 1, name, Purpose.WITHDRAWAL) for name in kept.files]
            if not ids:
                self._advance(tx, key, Event.DELIVERED, f"{words}; nothing of it had been sent")
            return ids

    def _advance_to_withdrawal(self, tx: Connection, key: CaseKey, attempt: int, words: str) -> State:
        r = t.revisions.c
        where = (r.case_id == key.case) & (r.revision == key.revision)
        state = State(tx.execute(select(r.state).where(where)).scalar_one())
        if state not in (State.DONE, State.FAILED, State.DELIVERING):
            raise UnsuitableInput(f"the study is {state}: hold or ignore it, or wait until it has ended")
        return self._advance(tx, key, Event.WITHDRAWN, words, attempt=attempt)

    def _cancel_all(self, tx: Connection, case: str, words: str) -> None:
        """Nothing of a case's results is sent any more. Its revisions under way end with that."""
        d, r = t.deliveries.c, t.revisions.c
        mine = (d.case_id == case) & (d.purpose == Purpose.RESULTS)
        sending = select(d.destination).where(mine, d.state.in_(BEING_SENT))
        busy = tx.execute(sending).scalar()
        if busy is not None:
            raise TemporaryError(f"results are being sent to {busy} at this moment: try again")
        for row in tx.execute(t.deliveries.select().where(mine, d.state.in_(_NOT_ENDED))).all():
            delivery = _delivery(row)
            of = (r.case_id == case) & (r.revision == delivery.key.revision)
            revision = tx.execute(t.revisions.select().where(of)).one()
            if State(revision.state) is State.DELIVERING and revision.attempt == delivery.result_attempt:
                self._change(tx, delivery, revision, DeliveryState.CANCELLED, words, next_try_at=None)
            else:
                this = d.delivery_id == delivery.delivery_id
                also = {"reason": words, "since": self.clock(), "next_try_at": None}
                tx.execute(t.deliveries.update().where(this).values(state=DeliveryState.CANCELLED, **also))
                self._note(
                    tx, delivery.key, "delivery", row.state, DeliveryState.CANCELLED, words, row.delivery_id
                )

    def _notify(self, tx: Connection, key: CaseKey, attempt: int, destination: str, purpose: Purpose) -> str:
        """One pending delivery of notes."""
        delivery_id, now = f"{key.case}:{key.revision}:{attempt}:{destination}", self.clock()
        tx.execute(
            t.deliveries.insert().values(
                delivery_id=delivery_id,
                case_id=key.case,
                revision=key.revision,
                result_attempt=attempt,
                destination=destination,
                state=DeliveryState.PENDING,
                attempt=1,
                tries=0,
                reason="",
                since=now,
                started_at=now,
                purpose=purpose,
            )
        )
        return delivery_id

    def sent_before(self, key: CaseKey, attempt: int) -> dict[str, str]:
        """Spool paths by name of the newest results before this attempt of which any was sent."""
        r, d = t.results.c, t.deliveries.c
        before = or_(d.revision < key.revision, and_(d.revision == key.revision, d.result_attempt < attempt))
        sent = (
            select(d.revision, d.result_attempt)
            .join(t.taken, t.taken.c.delivery_id == d.delivery_id)
            .where(d.case_id == key.case, d.purpose == Purpose.RESULTS, before)
            .order_by(d.revision.desc(), d.result_attempt.desc())
            .limit(1)
        )
        with self._read() as tx:
            newest = tx.execute(sent).one_or_none()
            if newest is None:
                return {}
            lesser = select(t.substitutions.c.instead).where(t.substitutions.c.instead.is_not(None))
            rows = tx.execute(
                select(r.name, r.path).where(
                    r.case_id == key.case,
                    r.revision == newest.revision,
                    r.attempt == newest.result_attempt,
                    r.sop_uid != "",
                    r.path.not_in(lesser),
                )
            )
            return {str(row.name): str(row.path) for row in rows}

    def times_withdrawn(self, case: str) -> int:
        """How often results of a case were withdrawn: what is made after that bears other UIDs."""
        with self._read() as tx:
            w = t.withdrawals.c
            return int(
                tx.execute(
                    select(func.count()).select_from(t.withdrawals).where(w.case_id == case)
                ).scalar_one()
            )

    def explain(
        self, key: CaseKey, event: Event, words: str, note: Made, destinations: Collection[str]
    ) -> None:
        """The revision ends without results: ``note`` says so to ``destinations``, once per revision."""
        with self._write() as tx:
            self._advance(tx, key, event, words)
            r, d = t.revisions.c, t.deliveries.c
            where = (r.case_id == key.case) & (r.revision == key.revision)
            attempt = int(tx.execute(select(r.attempt).where(where)).scalar_one())
            mine = (d.case_id == key.case) & (d.revision == key.revision) & (d.purpose == Purpose.REASON)
            if tx.execute(select(d.delivery_id).where(mine)).first() is not None:
                return
            values = {"case_id": key.case, "revision": key.revision, "attempt": attempt}
            tx.execute(t.results.insert().values(**values, **vars(note)))
            detail = json.dumps({"revision": key.revision, "attempt": attempt})
            self._enter(tx, Deed(Kind.MADE, key.case, note.sop_uid, note.sha256, detail))
            for name in destinations:
                self._notify(tx, key, attempt, name, Purpose.REASON)
