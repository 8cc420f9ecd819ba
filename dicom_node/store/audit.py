"""What an audit message names: who transferred which instances of which studies of which patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from . import tables as t
from .base import Database


@dataclass(frozen=True)
class Transfer:
    """Instances that went from one place to another: by study, how many of each SOP class."""

    source: str
    destination: str
    patient_id: str
    issuer: str
    studies: Mapping[str, Mapping[str, int]]


class AuditStore(Database):
    """Reads for audit messages."""

    def received(self, case: str, revision: int) -> list[Transfer]:
        """What a revision was made of, by whoever sent it; nothing for a case of files."""
        i, m = t.instances.c, t.members.c
        query = (
            select(i.source, i.study_uid, i.sop_class_uid, func.count())
            .join(t.members, m.sop_uid == i.sop_uid)
            .where(m.case_id == case, m.revision == revision)
            .group_by(i.source, i.study_uid, i.sop_class_uid)
        )
        by_source: dict[str, dict[str, dict[str, int]]] = {}
        with self._read() as tx:
            patient = _patient(tx, case)
            for source, study, sop_class, count in tx.execute(query):
                by_source.setdefault(source, {}).setdefault(study, {})[sop_class] = count
        return [Transfer(source, "", *patient, studies) for source, studies in sorted(by_source.items())]

    def sent(self, delivery_id: str) -> Transfer | None:
        """What a destination has taken in one delivery; None if the delivery is not on record.

        Results belong to the case's first study, as their headers say.
        """
        d, r, k = t.deliveries.c, t.results.c, t.taken.c
        with self._read() as tx:
            delivery = tx.execute(t.deliveries.select().where(d.delivery_id == delivery_id)).one_or_none()
            if delivery is None:
                return None
            study = tx.execute(
                select(t.studies.c.study_uid)
                .where(t.studies.c.case_id == delivery.case_id)
                .order_by(t.studies.c.study_uid)
            ).scalar()
            query = (
                select(r.sop_class_uid, func.count())
                .join(t.taken, k.path == r.path)
                .where(k.delivery_id == delivery_id, r.case_id == delivery.case_id)
                .group_by(r.sop_class_uid)
            )
            counts = {sop_class: count for sop_class, count in tx.execute(query) if sop_class}
            patient = _patient(tx, delivery.case_id)
        return Transfer("", delivery.destination, *patient, {study: counts} if study else {})


def _patient(tx: Connection, case: str) -> tuple[str, str]:
    row: Any = tx.execute(t.cases.select().where(t.cases.c.case_id == case)).one()
    return row.patient_id, row.issuer
