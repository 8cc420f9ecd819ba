"""What is proven: which objects a destination has taken, and that it keeps them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, and_, select

from . import tables as t
from .deliveries import Delivery, DeliveryStore, Sendable, _made_for, _sendable


@dataclass(frozen=True)
class Taken:
    """An object that a destination has taken at ``at`` (UTC seconds), of which there is no proof yet."""

    file: Sendable
    at: float


class ProofStore(DeliveryStore):
    """Rows of what was taken, and its proof."""

    def unproven(self, delivery: Delivery) -> list[Taken]:
        """The DICOM objects that the destination has taken and of which there is no proof yet."""
        with self._read() as tx:
            query = (
                select(t.results, t.taken.c.at)
                .join(t.taken, t.taken.c.path == t.results.c.path)
                .where(
                    _made_for(delivery),
                    t.taken.c.delivery_id == delivery.delivery_id,
                    t.taken.c.proof == "",
                    t.results.c.sop_uid != "",
                )
                .order_by(t.results.c.path)
            )
            return [Taken(_sendable(r), r.at) for r in tx.execute(query)]

    def prove(self, delivery_id: str, sop_uids: Collection[str], proof: str) -> None:
        """There is ``proof`` ("query", "commitment") that the destination keeps these objects."""
        with self._write() as tx:
            self._prove(tx, delivery_id, sop_uids, proof)

    def _prove(self, tx: Connection, delivery_id: str, sop_uids: Collection[str], proof: str) -> None:
        for path in self._paths(tx, delivery_id, sop_uids):
            tx.execute(
                t.taken.update()
                .where(t.taken.c.delivery_id == delivery_id, t.taken.c.path == path, t.taken.c.proof == "")
                .values(proof=proof, proven_at=self.clock())
            )

    def send_again(self, delivery_id: str, sop_uids: Collection[str], missing: str) -> None:
        """The destination took these objects but does not keep them: they are to be sent once more."""
        with self._write() as tx:
            self._send_again(tx, delivery_id, sop_uids, missing)

    def _send_again(self, tx: Connection, delivery_id: str, sop_uids: Collection[str], missing: str) -> None:
        paths = self._paths(tx, delivery_id, sop_uids)
        for path in paths:
            tx.execute(
                t.taken.delete().where(
                    t.taken.c.delivery_id == delivery_id, t.taken.c.path == path, t.taken.c.proof == ""
                )
            )
        if paths:
            tx.execute(
                t.deliveries.update()
                .where(t.deliveries.c.delivery_id == delivery_id)
                .values(resends=t.deliveries.c.resends + 1, missing=missing)
            )

    @staticmethod
    def _paths(tx: Connection, delivery_id: str, sop_uids: Collection[str]) -> list[str]:
        """The taken files of a delivery that carry one of ``sop_uids``."""
        wanted = set(sop_uids)
        rows = tx.execute(
            select(t.taken.c.path, t.results.c.sop_uid)
            .join(t.deliveries, t.deliveries.c.delivery_id == t.taken.c.delivery_id)
            .join(
                t.results,
                and_(
                    t.results.c.path == t.taken.c.path,
                    t.results.c.case_id == t.deliveries.c.case_id,
                    t.results.c.revision == t.deliveries.c.revision,
                    t.results.c.attempt == t.deliveries.c.result_attempt,
                ),
            )
            .where(t.taken.c.delivery_id == delivery_id)
        )
        return [str(r.path) for r in rows if r.sop_uid in wanted]
