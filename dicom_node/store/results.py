"""Results as they are recorded: files, ledger, deliveries and what they supersede, all at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, and_, select

from dicom_node.study import AWAITS_RELEASE, CaseKey, DeliveryState, Event

from . import tables as t
from .deliveries import Delivery, _delivery
from .handling import HandlingStore
from .ledger import Deed, Kind
from .revisions import Made, RevisionStore, _is

_SUPERSEDED = "superseded before its release"


class ResultStore(RevisionStore, HandlingStore):
    """Revisions that have been resolved."""

    def encoded(
        self,
        key: CaseKey,
        made: Sequence[Made],
        report: str,
        input_digest: str,
        destinations: Sequence[str],
        held_for_release: Collection[str] = (),
    ) -> None:
        """Results are durable: record them, one delivery per destination, and go on.

        Deliveries are pending; to the destinations in ``held_for_release`` they are held, and what of
        the case was held for them before is not to be sent any more.
        Raises IllegalTransition if the revision is not being resolved any more: nothing is recorded then.
        """
        with self._write() as tx:
            self._advance(tx, key, Event.ENCODED, "", report=report, input_digest=input_digest)
            attempt = tx.execute(select(t.revisions.c.attempt).where(_is(key))).scalar_one()
            where = and_(t.results.c.case_id == key.case, t.results.c.revision == key.revision)
            tx.execute(t.results.delete().where(where, t.results.c.attempt == attempt))
            for m in made:
                tx.execute(
                    t.results.insert().values(
                        case_id=key.case, revision=key.revision, attempt=attempt, **vars(m)
                    )
                )
            now = self.clock()
            for destination in destinations:
                held = destination in held_for_release
                values = {
                    "delivery_id": f"{key.case}:{key.revision}:{attempt}:{destination}",
                    "case_id": key.case,
                    "revision": key.revision,
                    "result_attempt": attempt,
                    "destination": destination,
                    "state": DeliveryState.HELD if held else DeliveryState.PENDING,
                    "attempt": 1,
                    "tries": 0,
                    "reason": AWAITS_RELEASE if held else "",
                    "since": now,
                    "started_at": now,
                }
                tx.execute(t.deliveries.insert().values(**values))
            detail = json.dumps({"revision": key.revision, "attempt": attempt})
            self._enter(tx, *(Deed(Kind.MADE, key.case, m.sop_uid or m.path, m.sha256, detail) for m in made))
            self._supersede_unreleased(tx, key, attempt)
            if not destinations:
                self._advance(
                    tx, key, Event.DELIVERED, "no destination is configured; results stay in the spool"
                )

    def _supersede_unreleased(self, tx: Connection, key: CaseKey, attempt: int) -> None:
        """Newer results are there: what was held for release before them is not to be sent any more."""
        for old in self._held_for_release(tx, key.case):
            if (old.key.revision, old.result_attempt) < (key.revision, attempt):
                self._move_in(tx, old, DeliveryState.CANCELLED, _SUPERSEDED, next_try_at=None)

    @staticmethod
    def _held_for_release(tx: Connection, case: str, destination: str | None = None) -> list[Delivery]:
        """Oldest results first."""
        d = t.deliveries.c
        query = t.deliveries.select().where(
            d.case_id == case, d.state == DeliveryState.HELD, d.reason == AWAITS_RELEASE
        )
        if destination is not None:
            query = query.where(d.destination == destination)
        return [_delivery(r) for r in tx.execute(query.order_by(d.revision, d.result_attempt))]
