"""What was received: instances, their case, and the quarantine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, bindparam, func, select

from dicom_node.errors import Conflict
from dicom_node.study import CaseKey, Event, State

from . import tables as t
from .base import Prepared
from .ledger import Deed, Kind, LedgerStore

# What is asked for every instance.
_CASE_OF_STUDY = Prepared(
    select(t.cases.c.case_id, t.cases.c.patient_id, t.cases.c.issuer)
    .join(t.studies, t.studies.c.case_id == t.cases.c.case_id)
    .where(t.studies.c.study_uid == bindparam("study"))
)
_i = t.instances.c
_INSTANCE = Prepared(
    select(_i.study_uid, _i.series_uid, _i.path, _i.sha256).where(_i.sop_uid == bindparam("uid"))
)
_NEW_INSTANCE = Prepared(t.instances.insert())
_LAST_REVISION = Prepared(
    select(t.revisions.c.revision, t.revisions.c.state)
    .where(t.revisions.c.case_id == bindparam("case"))
    .order_by(t.revisions.c.revision.desc())
    .limit(1)
    .with_for_update()
)
_STILL_RECEIVING = Prepared(
    t.revisions.update()
    .where(t.revisions.c.case_id == bindparam("case"), t.revisions.c.revision == bindparam("number"))
    .values(last_received_at=bindparam("now"))
)


@dataclass(frozen=True)
class Received:
    """One instance as its own header names it, durable in the spool at ``path``."""

    sop_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax_uid: str
    frame_of_reference_uid: str
    accession_number: str
    patient_id: str
    issuer: str
    path: str
    sha256: str
    size: int
    source: str
    study_date: str = ""
    facts: str = ""


@dataclass(frozen=True)
class Compared:
    """What a look at both files found: the one received, and the one kept under ``sha256``."""

    sha256: str
    same_pixels: bool
    same_header: bool


class Uncompared(Exception):
    """The SOP Instance UID is known with other bytes: compare the file at ``path``, then record again."""

    def __init__(self, path: str, sha256: str) -> None:
        super().__init__("the instance kept must be compared first")
        self.path = path
        self.sha256 = sha256


class Outcome(StrEnum):
    """What became of a received instance."""

    NEW = "new"
    DUPLICATE = "duplicate"  # the same bytes again, or the same pixels in another transfer syntax
    CORRECTED = "corrected"  # the same pixels under corrected attributes


@dataclass(frozen=True)
class Receipt:
    """Proof of an instance's stay: equal for the same instance sent twice."""

    sop_uid: str
    study_uid: str
    sha256: str


class InstanceStore(LedgerStore):
    """Rows of instances, studies, cases and quarantine."""

    def record(self, received: Received, compared: Compared | None = None) -> Outcome:
        """Record an instance that the spool holds, opening or extending its case's revision.

        Raises Uncompared if the same SOP Instance UID is known with other bytes and ``compared`` is not
        about them: pixels are decoded outside of any transaction. Raises Conflict for other pixels or
        another patient.
        """
        (answer,) = self.record_all([(received, compared)])
        if isinstance(answer, Outcome):
            return answer
        raise answer

    def record_all(
        self, asked: Sequence[tuple[Received, Compared | None]]
    ) -> list[Outcome | Conflict | Uncompared]:
        """As ``record``, several in one transaction: one sync for all. What one raises is its answer."""
        answers: list[Outcome | Conflict | Uncompared] = []
        deeds: list[Deed] = []
        with self._write_often() as tx:
            for received, compared in asked:
                try:
                    answers.append(self._record(tx, received, compared, deeds))
                except (Conflict, Uncompared) as answer:
                    answers.append(answer)
            for case in dict.fromkeys(deed.case for deed in deeds):
                self._open_revision(tx, case)
            if deeds:
                self._enter(tx, *deeds)
        return answers

    def _record(
        self, tx: Connection, received: Received, compared: Compared | None, deeds: list[Deed]
    ) -> Outcome:
        """Raises before anything is written: the others in the transaction go on."""
        case = self._case_of(tx, received)
        known = _INSTANCE.run(tx, {"uid": received.sop_uid}).fetchone()
        if known is None:
            case = case or self._new_study(tx, received)
            _NEW_INSTANCE.run(tx, self._row(received))
            deeds.append(_deed(Kind.RECEIVED, case, received))
            return Outcome.NEW
        study_uid, series_uid, path, sha256 = known
        if case is None or (study_uid, series_uid) != (received.study_uid, received.series_uid):
            raise Conflict(
                f"SOP Instance {received.sop_uid} came again in another series or study: "
                "an instance belongs to one series only"
            )
        if sha256 == received.sha256:
            return Outcome.DUPLICATE
        if compared is None or compared.sha256 != sha256:
            raise Uncompared(path, sha256)
        if not compared.same_pixels:
            raise Conflict(
                f"SOP Instance {received.sop_uid} came again with other pixels than those kept since "
                "its first arrival: the sender gave one UID to two images"
            )
        if compared.same_header:
            return Outcome.DUPLICATE
        tx.execute(
            t.instances.update()
            .where(t.instances.c.sop_uid == received.sop_uid)
            .values({c: v for c, v in self._row(received).items() if c in t.instances.c})
        )
        deeds.append(_deed(Kind.CORRECTED, case, received))
        return Outcome.CORRECTED

    def quarantine(
        self, *, sop_uid: str, study_uid: str, source: str, path: str, sha256: str, reason: str
    ) -> None:
        """Show what is kept but not used. The same bytes for the same reason are shown once."""
        with self._write() as tx:
            known = select(t.quarantine.c.id).where(
                t.quarantine.c.sha256 == sha256, t.quarantine.c.reason == reason
            )
            if tx.execute(known).first() is None:
                tx.execute(
                    t.quarantine.insert().values(
                        at=self.clock(),
                        sop_uid=sop_uid,
                        study_uid=study_uid,
                        source=source,
                        path=path,
                        sha256=sha256,
                        reason=reason,
                    )
                )

    def forget_quarantined(self, path: str) -> None:
        """Note that the file at ``path`` was removed for space; the reason stays on record."""
        with self._write() as tx:
            tx.execute(t.quarantine.update().where(t.quarantine.c.path == path).values(path=""))

    def sha256_of_instance(self, sop_uid: str) -> str:
        """sha256 of the bytes kept for ``sop_uid``."""
        with self._read() as tx:
            query = select(t.instances.c.sha256).where(t.instances.c.sop_uid == sop_uid)
            return str(tx.execute(query).scalar_one())

    def paths_of(self, sop_uids: Collection[str]) -> dict[str, str]:
        """Spool paths of those of ``sop_uids`` that are kept."""
        with self._read() as tx:
            i = t.instances.c
            rows = tx.execute(select(i.sop_uid, i.path).where(i.sop_uid.in_(sop_uids)))
            return {str(r.sop_uid): str(r.path) for r in rows}

    def count_instances(self) -> int:
        """How many instances are kept for use."""
        with self._read() as tx:
            return int(tx.execute(select(func.count()).select_from(t.instances)).scalar_one())

    def _row(self, received: Received) -> dict[str, object]:
        return {**vars(received), "received_at": self.clock()}

    @staticmethod
    def _case_of(tx: Connection, received: Received) -> str | None:
        row = _CASE_OF_STUDY.run(tx, {"study": received.study_uid}).fetchone()
        if row is None:
            return None
        case, patient_id, issuer = row
        issuers = {issuer, received.issuer} - {""}  # many hosts drop the issuer from what they derive
        if patient_id != received.patient_id or len(issuers) > 1:
            raise Conflict(
                f"study {received.study_uid} is already known under another Patient ID or issuer: "
                "two patients in one study are never mixed"
            )
        return str(case)

    def _new_study(self, tx: Connection, received: Received) -> str:
        case = self._new_case(tx, received.patient_id, received.issuer)
        tx.execute(
            t.studies.insert().values(
                study_uid=received.study_uid, case_id=case, study_date=received.study_date
            )
        )
        return case

    def _new_case(self, tx: Connection, patient_id: str, issuer: str) -> str:
        case = str(uuid.uuid4())
        tx.execute(
            t.cases.insert().values(
                case_id=case, patient_id=patient_id, issuer=issuer, created_at=self.clock()
            )
        )
        return case

    def _open_revision(self, tx: Connection, case: str) -> CaseKey:
        """The revision that is still receiving; a late instance opens the next one.

        While a person holds or ignores the study, what comes joins the revision that they spoke of.
        """
        last, state = _LAST_REVISION.run(tx, {"case": case}).fetchone() or (0, "")
        now = self.clock()
        if last and self._takes_more(tx, CaseKey(case, last), State(state)):
            _STILL_RECEIVING.run(tx, {"case": case, "number": last, "now": now})
            return CaseKey(case, last)
        key = CaseKey(case, last + 1)
        tx.execute(
            t.revisions.insert().values(
                case_id=case,
                revision=key.revision,
                state=State.RECEIVING,
                attempt=1,
                reason="",
                since=now,
                last_received_at=now,
                input_digest="",
            )
        )
        self._note(tx, key, "opened", "", State.RECEIVING, "late instances" if last else "")
        if state == State.QUEUED:
            # Not yet started: the newer revision takes its place instead of running both.
            # A watch folder that waits for it follows.
            tx.execute(
                t.folders.update()
                .where(t.folders.c.case_id == case, t.folders.c.revision == last)
                .values(revision=key.revision)
            )
            self._advance(tx, CaseKey(case, last), Event.SUPERSEDED, f"revision {key.revision} follows")
        return key

    def _takes_more(self, tx: Connection, key: CaseKey, state: State) -> bool:
        if state is State.IGNORED:
            return self._ignored_by_a_person(tx, key)
        return state in (State.RECEIVING, State.HELD)

    @staticmethod
    def _ignored_by_a_person(tx: Connection, key: CaseKey) -> bool:
        e = t.events.c
        newest = select(e.event).where(e.case_id == key.case, e.revision == key.revision)
        newest = newest.where(e.delivery_id.is_(None)).order_by(e.id.desc()).limit(1)
        return tx.execute(newest).scalar() == Event.IGNORED


def _deed(kind: Kind, case: str, received: Received) -> Deed:
    detail = {"study": received.study_uid, "size": received.size, "source": received.source}
    return Deed(kind, case, received.sop_uid, received.sha256, json.dumps(detail))
