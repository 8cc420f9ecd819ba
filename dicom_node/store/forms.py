"""Forms of objects that destinations refuse, and what goes instead in a delivery."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from dicom_node.rungs import Rung

from . import tables as t
from .deliveries import Delivery, DeliveryStore, Sendable, _made_for, _sendable
from .ledger import Deed, Kind


class FormStore(DeliveryStore):
    """Rows of refused forms and of substitutions."""

    def refused_forms(self, destination: str) -> dict[Rung, str]:
        """What ``destination`` is known to refuse, with the words in which it did."""
        r = t.refused_forms.c
        with self._read() as tx:
            rows = tx.execute(t.refused_forms.select().where(r.destination == destination).order_by(r.at))
            return {Rung(row.sop_class_uid, row.variant): str(row.because) for row in rows}

    def refuse_form(self, destination: str, rung: Rung, because: str) -> None:
        """Remember that ``destination`` refuses ``rung``. What is known already stays as it is."""
        with self._write() as tx:
            self._refuse_form(tx, destination, rung, because)

    def _refuse_form(self, tx: Connection, destination: str, rung: Rung, because: str) -> None:
        r = t.refused_forms.c
        known = select(r.at).where(
            r.destination == destination, r.sop_class_uid == rung.sop_class_uid, r.variant == rung.variant
        )
        if tx.execute(known).first() is None:
            self._standing(tx, destination)  # so that it is among those of which something is known
            values = {"destination": destination, **vars(rung), "because": because, "at": self.clock()}
            tx.execute(t.refused_forms.insert().values(**values))
            self._note_destination(tx, destination, "form_refused", f"{rung}: {because}")

    def rehearsed(self, destination: str, refused: dict[Rung, str]) -> None:
        """What is known of ``destination`` is now what was just tried: ``refused``, and nothing else."""
        with self._write() as tx:
            tx.execute(t.refused_forms.delete().where(t.refused_forms.c.destination == destination))
            for rung, because in refused.items():
                self._refuse_form(tx, destination, rung, because)
            words = ", ".join(str(rung) for rung in refused) or "nothing"
            self._note_destination(tx, destination, "rehearsed", f"it refuses {words}")

    def substitute(
        self, delivery: Delivery, files: Sequence[Sendable], instead: Sequence[Sendable], because: str
    ) -> None:
        """``instead`` goes in this delivery where ``files`` would have gone; nothing: they stay away.

        Other forms become results of their own, once, whichever deliveries they go in.
        """
        paths: list[str | None] = [i.path for i in instead]
        with self._write() as tx:
            s = t.substitutions.c
            these = s.path.in_([f.path for f in files])
            known = select(s.at).where(s.delivery_id == delivery.delivery_id, these, s.place >= 0)
            if tx.execute(known).first() is not None:
                return
            self._keep_lesser(tx, delivery, files[0], instead)
            row = {"delivery_id": delivery.delivery_id, "because": because, "at": self.clock()}
            tx.execute(
                t.substitutions.insert(),
                [
                    {**row, "path": f.path, "place": place, "instead": path}
                    for f in files
                    for place, path in enumerate(paths or [None])
                ],
            )

    def restore(self, delivery: Delivery, files: Sequence[Sendable]) -> None:
        """``files`` go in this delivery themselves after all, and nothing instead of them.

        What was made to go instead stays known as that (places below 0), so that nobody else gets it.
        """
        s = t.substitutions.c
        these = (s.delivery_id == delivery.delivery_id) & s.path.in_([f.path for f in files])
        with self._write() as tx:
            tx.execute(t.substitutions.delete().where(these, s.place < 0))
            tx.execute(t.substitutions.update().where(these).values(place=-1 - s.place))

    def _keep_lesser(
        self, tx: Connection, delivery: Delivery, f: Sendable, lesser: Sequence[Sendable]
    ) -> None:
        key, r = delivery.key, t.results.c
        mine = (r.case_id == key.case) & (r.revision == key.revision)
        known = set(tx.execute(select(r.path).where(mine, r.path.in_([i.path for i in lesser]))).scalars())
        fresh = [i for i in lesser if i.path not in known]
        if not fresh:
            return
        row: dict[str, Any] = {
            "case_id": key.case,
            "revision": key.revision,
            "attempt": delivery.result_attempt,
        }
        tx.execute(t.results.insert(), [{**row, **vars(i)} for i in fresh])
        detail = json.dumps(
            {"revision": key.revision, "attempt": delivery.result_attempt, "lesser_form_of": f.sop_uid}
        )
        self._enter(tx, *(Deed(Kind.MADE, key.case, i.sop_uid, i.sha256, detail) for i in fresh))

    def replaced(self, delivery: Delivery) -> list[tuple[Sendable, list[Sendable]]]:
        """What of a delivery does not go itself, and what goes instead of each, in order."""
        s = t.substitutions.c
        mine = select(s.path, s.instead).where(s.delivery_id == delivery.delivery_id, s.place >= 0)
        with self._read() as tx:
            rows = tx.execute(mine.order_by(s.path, s.place)).all()
            if not rows:
                return []
            of = t.results.select().where(_made_for(delivery))
            files = {str(row.path): _sendable(row) for row in tx.execute(of)}
        found: dict[str, list[Sendable]] = {}
        for row in rows:
            others = found.setdefault(row.path, [])
            if row.instead is not None:
                others.append(files[row.instead])
        return [(files[path], others) for path, others in found.items()]
