"""The custody ledger: what came, was made, delivered and removed, each entry chained to the last by hash.

An entry is written in the transaction of what it records: neither is there without the other. Nobody
updates or deletes entries; whoever does breaks the chain, and ``mrsi-node custody --verify`` says where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select

from . import tables as t
from .base import Database, Prepared

GENESIS = "0" * 64
_HEAD = Prepared(select(t.ledger.c.number, t.ledger.c.digest).order_by(t.ledger.c.number.desc()).limit(1))
_NEW = Prepared(t.ledger.insert())
_PAGE = 5000


class Kind(StrEnum):
    """What an entry records."""

    RECEIVED = "received"  # subject: SOP Instance UID
    CORRECTED = "corrected"  # the same pixels under corrected attributes took their place
    MADE = "made"  # subject: SOP Instance UID, or the file's name
    DELIVERED = "delivered"  # the same, once the destination's proof is in
    REMOVED = "removed"  # by retention; subject: SOP Instance UID
    WITHDRAWN = "withdrawn"  # by a person, from wherever it had been delivered; subject as of MADE


@dataclass(frozen=True)
class Deed:
    """What is to be entered; ``detail`` is of plain words and numbers, never of the patient."""

    kind: Kind
    case: str
    subject: str
    sha256: str
    detail: str


@dataclass(frozen=True)
class Entry:
    """A deed on record. ``digest`` covers everything else; ``at`` is UTC seconds."""

    number: int
    at: float
    kind: str
    case: str
    subject: str
    sha256: str
    detail: str
    previous: str
    digest: str

    def digest_now(self) -> str:
        """What the digest of these words is: another one than ``digest``, and somebody changed them."""
        return digest_of(
            self.number, self.at, Deed(Kind(self.kind), self.case, self.subject, self.sha256, self.detail),
            self.previous,
        )  # fmt: skip


def digest_of(number: int, at: float, deed: Deed, previous: str) -> str:
    """sha256 over an entry's words as a JSON array, numbers as their shortest decimal."""
    words = [number, at, str(deed.kind), deed.case, deed.subject, deed.sha256, deed.detail, previous]
    return hashlib.sha256(json.dumps(words, separators=(",", ":")).encode()).hexdigest()


def delivered_deeds(tx: Connection, case: str, delivery_id: str, destination: str) -> list[Deed]:
    """What a destination has taken in one delivery, with what it answered and how that was proven."""
    query = (
        select(t.results.c.sop_uid, t.results.c.path, t.results.c.sha256, t.taken.c.status, t.taken.c.proof)
        .join(t.taken, t.taken.c.path == t.results.c.path)
        .where(t.taken.c.delivery_id == delivery_id, t.results.c.case_id == case)
        .order_by(t.results.c.path)
    )
    return [
        Deed(
            Kind.DELIVERED,
            case,
            r.sop_uid or r.path,
            r.sha256,
            json.dumps({"destination": destination, "status": r.status, "proof": r.proof}),
        )
        for r in tx.execute(query)
    ]


class LedgerStore(Database):
    """Appends to the ledger, and reads it."""

    def _enter(self, tx: Connection, *deeds: Deed) -> None:
        """Append ``deeds`` in ``tx``, in order; one writes at a time, so that none comes between."""
        number, previous = _HEAD.run(tx, {}).fetchone() or (0, GENESIS)
        at = self.clock()
        for deed in deeds:
            number += 1
            digest = digest_of(number, at, deed, previous)
            values = {
                "number": number,
                "at": at,
                "kind": str(deed.kind),
                "case_id": deed.case,
                "subject": deed.subject,
                "sha256": deed.sha256,
                "detail": deed.detail,
                "previous": previous,
                "digest": digest,
            }
            _NEW.run(tx, values)
            previous = digest

    def ledger(self, case: str | None = None) -> Iterator[Entry]:
        """Every entry in order, or those of one case; read page by page."""
        e, last = t.ledger.c, 0
        while True:
            query = t.ledger.select().where(e.number > last).order_by(e.number).limit(_PAGE)
            with self._read() as tx:
                rows = tx.execute(query if case is None else query.where(e.case_id == case)).all()
            for r in rows:
                yield Entry(
                    r.number, r.at, r.kind, r.case_id, r.subject, r.sha256, r.detail, r.previous, r.digest
                )
            if len(rows) < _PAGE:
                return
            last = rows[-1].number

    def kept(self) -> Iterator[tuple[str, str, str, float]]:
        """(SOP Instance UID, spool path, sha256, received at) of every instance that is kept."""
        i, last = t.instances.c, ""
        while True:
            query = select(i.sop_uid, i.path, i.sha256, i.received_at).where(i.sop_uid > last)
            with self._read() as tx:
                rows = tx.execute(query.order_by(i.sop_uid).limit(_PAGE)).all()
            yield from ((r.sop_uid, r.path, r.sha256, r.received_at) for r in rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1].sop_uid
