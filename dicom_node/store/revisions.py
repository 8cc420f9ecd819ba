"""Revisions of cases: from the last instance to the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

from dicom_node.errors import UnsuitableInput
from dicom_node.study import CaseKey, Event, State

from . import tables as t
from .instances import InstanceStore


@dataclass(frozen=True)
class Revision:
    """One revision as the rooms see it. ``nifti_folder`` is set for a case without DICOM."""

    key: CaseKey
    state: State
    attempt: int
    reason: str
    since: float
    last_received_at: float
    input_digest: str
    nifti_folder: str | None
    awaited: str = ""
    awaited_until: float | None = None


@dataclass(frozen=True)
class Member:
    """An instance that a revision was made of; ``path`` is relative to the spool."""

    sop_uid: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """What a series was taken for, and why, in words."""

    series_uid: str
    description: str
    role: str
    reason: str

    def as_row(self) -> dict[str, str]:
        """As report.json and ``status`` spell it."""
        return {
            "uid": self.series_uid,
            "description": self.description,
            "role": self.role,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Made:
    """A result file; ``kind`` is MR, PM, SEG, NIFTI or REPORT, the UIDs are empty unless DICOM."""

    path: str
    kind: str
    name: str
    sop_uid: str
    sop_class_uid: str
    sha256: str


def _is(key: CaseKey) -> ColumnElement[bool]:
    return and_(t.revisions.c.case_id == key.case, t.revisions.c.revision == key.revision)


class RevisionStore(InstanceStore):
    """Rows of revisions, members, series and results."""

    def revision(self, key: CaseKey) -> Revision:
        """The revision ``key``. Raises sqlalchemy.exc.NoResultFound if there is none."""
        with self._read() as tx:
            return _revision(tx.execute(_revisions().where(_is(key))).one())

    def revisions_in(self, *states: State) -> list[Revision]:
        """All revisions in one of ``states``, oldest first."""
        with self._read() as tx:
            query = _revisions().where(t.revisions.c.state.in_(states)).order_by(t.revisions.c.since)
            return [_revision(row) for row in tx.execute(query)]

    def case_of(self, study_or_case: str) -> str | None:
        """The case that a study belongs to, or that is called so itself; None if there is none."""
        with self._read() as tx:
            case = self._case_named(tx, study_or_case)
            known = select(t.cases.c.case_id).where(t.cases.c.case_id == case)
            return case if tx.execute(known).first() is not None else None

    @staticmethod
    def _case_named(tx: Connection, study_or_case: str) -> str:
        """The case that a study belongs to; what is no study here is taken for a case's own name."""
        s = t.studies.c
        found = tx.execute(select(s.case_id).where(s.study_uid == study_or_case)).scalar()
        return str(found or study_or_case)

    def studies_of(self, case: str) -> list[str]:
        """Study Instance UIDs of a case."""
        with self._read() as tx:
            return [r.study_uid for r in tx.execute(t.studies.select().where(t.studies.c.case_id == case))]

    def complete(self, key: CaseKey, because: str, event: Event = Event.COMPLETED) -> None:
        """All evidence is in: freeze the revision's members and queue it."""
        with self._write() as tx:
            self._complete(tx, key, because, event)

    def _complete(self, tx: Connection, key: CaseKey, because: str, event: Event) -> None:
        self._freeze(tx, key)
        self._advance(tx, key, event, because)

    @staticmethod
    def _was_queued(tx: Connection, key: CaseKey) -> bool:
        """By its history: a NIfTI case has no members that would tell."""
        e = t.events.c
        mine = and_(e.case_id == key.case, e.revision == key.revision, e.to_state == State.QUEUED)
        return tx.execute(select(e.id).where(mine).limit(1)).first() is not None

    @staticmethod
    def _freeze(tx: Connection, key: CaseKey) -> None:
        """The revision's members are what its case holds now."""
        mine = and_(t.members.c.case_id == key.case, t.members.c.revision == key.revision)
        tx.execute(t.members.delete().where(mine))
        rows = tx.execute(
            select(t.instances.c.sop_uid, t.instances.c.path, t.instances.c.sha256)
            .join(t.studies, t.studies.c.study_uid == t.instances.c.study_uid)
            .where(t.studies.c.case_id == key.case)
        ).all()
        for row in rows:
            tx.execute(
                t.members.insert().values(case_id=key.case, revision=key.revision, **dict(row._mapping))
            )

    def members(self, key: CaseKey) -> list[Member]:
        """The instances that ``key`` was made of."""
        with self._read() as tx:
            query = t.members.select().where(
                t.members.c.case_id == key.case, t.members.c.revision == key.revision
            )
            return [Member(r.sop_uid, r.path, r.sha256) for r in tx.execute(query)]

    def join_cases(self, pair_by: Sequence[str], within_days: float = 30.0) -> list[tuple[str, str]]:
        """Join receiving cases to an older case of the same patient that shares a paired attribute.

        A quantification host often sends maps under its own Study Instance UID. Same Patient ID and
        issuer, and the same Frame of Reference UID or accession number, never the name alone; and study
        dates (where one is not stated: days of arrival) at most ``within_days`` apart.
        Returns (joined case, case it joined).
        """
        joined = []
        with self._write() as tx:
            open_cases = tx.execute(
                select(t.revisions.c.case_id, t.revisions.c.revision, t.cases)
                .join(t.cases, t.cases.c.case_id == t.revisions.c.case_id)
                .where(t.revisions.c.state == State.RECEIVING, t.cases.c.patient_id != "")
                .order_by(t.cases.c.created_at)
            ).all()
            for row in open_cases:
                older = self._older_case(tx, row, pair_by, within_days)
                if older is None:
                    continue
                why = f"same patient, same {' or '.join(pair_by)}"
                self._join(tx, CaseKey(row.case_id, row.revision), older, why)
                joined.append((str(row.case_id), older))
        return joined

    def _join(self, tx: Connection, receiving: CaseKey, older: str, because: str) -> None:
        tx.execute(t.studies.update().where(t.studies.c.case_id == receiving.case).values(case_id=older))
        self._open_revision(tx, older)
        self._advance(tx, receiving, Event.NOTHING_TO_DO, f"its studies belong to case {older}: {because}")

    def _older_case(
        self, tx: Connection, row: Row[Any], pair_by: Sequence[str], within_days: float
    ) -> str | None:
        mine, theirs = t.instances.alias("mine"), t.instances.alias("theirs")
        my_study, their_study = t.studies.alias("my_study"), t.studies.alias("their_study")
        columns = {"frame_of_reference": "frame_of_reference_uid", "accession_number": "accession_number"}
        for attribute in (columns[p] for p in pair_by):
            found = tx.execute(
                select(
                    t.cases.c.case_id,
                    t.cases.c.created_at,
                    my_study.c.study_date.label("mine"),
                    their_study.c.study_date.label("theirs"),
                )
                .select_from(mine)
                .join(my_study, my_study.c.study_uid == mine.c.study_uid)
                .join(theirs, theirs.c[attribute] == mine.c[attribute])
                .join(their_study, their_study.c.study_uid == theirs.c.study_uid)
                .join(t.cases, t.cases.c.case_id == their_study.c.case_id)
                .where(
                    my_study.c.case_id == row.case_id,
                    mine.c[attribute] != "",
                    t.cases.c.case_id != row.case_id,
                    t.cases.c.created_at < row.created_at,
                    t.cases.c.patient_id == row.patient_id,
                    or_(t.cases.c.issuer == row.issuer, t.cases.c.issuer == "", row.issuer == ""),
                )
                .distinct()
                .order_by(t.cases.c.created_at)
            )
            for other in found:
                if _days_apart((other.mine, other.theirs), row.created_at - other.created_at) <= within_days:
                    return str(other.case_id)
        return None

    def start(self, key: CaseKey) -> Revision:
        """A worker takes the revision, for the first time or after a crash."""
        with self._write() as tx:
            self._advance(tx, key, Event.STARTED, "")
        return self.revision(key)

    def identified(self, key: CaseKey, findings: Iterable[Finding]) -> None:
        """Record what each series was taken for."""
        with self._write() as tx:
            tx.execute(
                t.series.delete().where(t.series.c.case_id == key.case, t.series.c.revision == key.revision)
            )
            for f in findings:
                tx.execute(
                    t.series.insert().values(
                        case_id=key.case,
                        revision=key.revision,
                        series_uid=f.series_uid,
                        description=f.description,
                        role=f.role,
                        reason=f.reason,
                    )
                )

    def findings(self, key: CaseKey) -> list[Finding]:
        """What each series of ``key`` was taken for."""
        with self._read() as tx:
            query = t.series.select().where(
                t.series.c.case_id == key.case, t.series.c.revision == key.revision
            )
            return [Finding(r.series_uid, r.description, r.role, r.reason) for r in tx.execute(query)]

    def last_input_digest(self, key: CaseKey) -> str:
        """The input digest of the newest earlier revision of this case that gave results, or ""."""
        with self._read() as tx:
            found = tx.execute(
                select(t.revisions.c.input_digest)
                .where(
                    t.revisions.c.case_id == key.case,
                    t.revisions.c.revision < key.revision,
                    t.revisions.c.state.in_((State.DONE, State.DELIVERING)),
                )
                .order_by(t.revisions.c.revision.desc())
                .limit(1)
            ).scalar()
            return str(found or "")

    def ignore(self, key: CaseKey, because: str) -> None:
        """No recipe matches: say why."""
        with self._write() as tx:
            self._advance(tx, key, Event.NOTHING_TO_DO, because)

    def fail(self, key: CaseKey, because: str) -> None:
        """No result: say why and what to do."""
        with self._write() as tx:
            self._advance(tx, key, Event.GAVE_UP, because)

    def advance(self, key: CaseKey, event: Event, because: str) -> State:
        """A person's or a rule's event. Raises IllegalTransition if it cannot happen now."""
        with self._write() as tx:
            return self._advance(tx, key, event, because)

    def latest_of_study(self, study_or_case: str) -> CaseKey:
        """The newest revision of a study (or case) that may be resubmitted.

        Raises UnsuitableInput if the study is not known.
        """
        with self._read() as tx:
            case = self._case_named(tx, study_or_case)
            found = tx.execute(
                select(func.max(t.revisions.c.revision)).where(
                    t.revisions.c.case_id == case,
                    t.revisions.c.state != State.RECEIVING,
                )
            ).scalar()
        if found is None:
            raise UnsuitableInput(f"no study or case {study_or_case} is known here (see: mrsi-node status)")
        return CaseKey(case, int(found))

    def report_of(self, key: CaseKey) -> str | None:
        """Path of the revision's report.json in the spool, if it has one."""
        with self._read() as tx:
            found = tx.execute(select(t.revisions.c.report).where(_is(key))).scalar()
            return None if found is None else str(found)


def _days_apart(dates: tuple[str | None, str | None], arrived_apart_s: float) -> float:
    """Between two studies: by their dates (YYYYMMDD), else by when their cases began here."""
    try:
        mine, theirs = (datetime.strptime(str(d), "%Y%m%d") for d in dates)
    except ValueError:
        return abs(arrived_apart_s) / 86400
    return abs((mine - theirs).days)


def _revisions() -> Select[Any]:
    return select(t.revisions, t.folders.c.path.label("nifti_folder")).outerjoin(
        t.folders,
        and_(
            t.folders.c.case_id == t.revisions.c.case_id,
            t.folders.c.revision == t.revisions.c.revision,
            t.folders.c.kind == "nifti",
        ),
    )


def _revision(row: Row[Any]) -> Revision:
    return Revision(
        CaseKey(row.case_id, row.revision),
        State(row.state),
        row.attempt,
        row.reason,
        row.since,
        row.last_received_at,
        row.input_digest,
        row.nifti_folder,
        row.awaited or "",
        row.awaited_until,
    )
