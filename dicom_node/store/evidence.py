"""What completeness is judged by: header facts, performed procedure steps, what an archive was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from dicom_node.evidence import Here, Step, StepStatus
from dicom_node.facts import read_facts
from dicom_node.study import CaseKey

from . import tables as t
from .base import Database


@dataclass(frozen=True)
class Inquiry:
    """What an archive was asked for a case: how often, last when, and the answer in words or JSON."""

    tries: int
    at: float
    answer: str


@dataclass(frozen=True)
class Patient:
    """Who a case is of, and the dates of its studies (YYYYMMDD, where known)."""

    patient_id: str
    issuer: str
    studies: Mapping[str, str]


class EvidenceStore(Database):
    """Rows of evidence."""

    def here(self, case: str) -> list[Here]:
        """Every instance of ``case`` that has come."""
        with self._read() as tx:
            i = t.instances.c
            query = (
                select(i.sop_uid, i.series_uid, i.study_uid, i.facts)
                .join(t.studies, t.studies.c.study_uid == i.study_uid)
                .where(t.studies.c.case_id == case)
            )
            return [
                Here(r.sop_uid, r.series_uid, r.study_uid, read_facts(r.facts)) for r in tx.execute(query)
            ]

    def patient_of(self, case: str) -> Patient:
        """Patient ID, issuer and study dates of ``case``."""
        with self._read() as tx:
            row = tx.execute(t.cases.select().where(t.cases.c.case_id == case)).one()
            studies = tx.execute(t.studies.select().where(t.studies.c.case_id == case))
            return Patient(row.patient_id, row.issuer, {s.study_uid: s.study_date or "" for s in studies})

    def evidence_version(self) -> tuple[float, float]:
        """Grows whenever a procedure step or an archive says something new, about whichever case."""
        with self._read() as tx:
            steps = tx.execute(select(func.max(t.procedure_steps.c.since))).scalar()
            asked = tx.execute(select(func.max(t.inquiries.c.at))).scalar()
            return float(steps or 0), float(asked or 0)

    def await_(self, key: CaseKey, awaited: str, until: float | None) -> None:
        """Keep what the receiving revision ``key`` waits for, so that every process can show it."""
        r = t.revisions.c
        with self._write() as tx:
            tx.execute(
                t.revisions.update()
                .where(r.case_id == key.case, r.revision == key.revision)
                .values(awaited=awaited, awaited_until=until)
            )

    def adopt_study(self, case: str, study_uid: str, study_date: str) -> bool:
        """What comes of ``study_uid`` shall belong to ``case``. False if it is known as another's already."""
        s = t.studies.c
        with self._write() as tx:
            owner = tx.execute(select(s.case_id).where(s.study_uid == study_uid)).scalar()
            if owner is None:
                values = {"study_uid": study_uid, "case_id": case, "study_date": study_date}
                tx.execute(t.studies.insert().values(**values))
            return owner in (None, case)

    # Modality Performed Procedure Steps

    def create_step(self, sop_uid: str, source: str, study_uids: set[str], named: Mapping[str, str]) -> bool:
        """Keep a step IN PROGRESS; ``named``: SOP Instance to Series UID. False if it is there already."""
        with self._write() as tx:
            if self._step_status(tx, sop_uid) is not None:
                return False
            tx.execute(
                t.procedure_steps.insert().values(
                    sop_uid=sop_uid,
                    status=StepStatus.IN_PROGRESS,
                    reason="",
                    source=source,
                    since=self.clock(),
                )
            )
            for study in sorted(study_uids):
                tx.execute(t.procedure_step_studies.insert().values(sop_uid=sop_uid, study_uid=study))
            self._name(tx, sop_uid, named)
            return True

    def update_step(
        self, sop_uid: str, status: StepStatus, reason: str, named: Mapping[str, str] | None
    ) -> StepStatus | None:
        """Update a step that is IN PROGRESS; ``named`` None leaves its references as they are.

        Returns the status it had before: a final one is never changed, None means that it is not known.
        """
        with self._write() as tx:
            before = self._step_status(tx, sop_uid)
            if before is StepStatus.IN_PROGRESS:
                tx.execute(
                    t.procedure_steps.update()
                    .where(t.procedure_steps.c.sop_uid == sop_uid)
                    .values(status=status, reason=reason, since=self.clock())
                )
                if named is not None:
                    p = t.performed_instances
                    tx.execute(p.delete().where(p.c.step_uid == sop_uid))
                    self._name(tx, sop_uid, named)
            return before

    def steps_of(self, case: str) -> list[Step]:
        """The procedure steps of a case: by its studies, or by a series that they name."""
        s, of, p = t.procedure_steps, t.procedure_step_studies, t.performed_instances
        mine = select(t.studies.c.study_uid).where(t.studies.c.case_id == case)
        series = select(t.instances.c.series_uid).where(t.instances.c.study_uid.in_(mine))
        by_study = select(of.c.sop_uid).where(of.c.study_uid.in_(mine))
        by_series = select(p.c.step_uid).where(p.c.series_uid.in_(series))
        with self._read() as tx:
            query = s.select().where(or_(s.c.sop_uid.in_(by_study), s.c.sop_uid.in_(by_series)))
            found = []
            for row in tx.execute(query.order_by(s.c.since)).all():
                named: dict[str, set[str]] = {}
                for r in tx.execute(p.select().where(p.c.step_uid == row.sop_uid)):
                    named.setdefault(r.series_uid, set()).add(r.sop_uid)
                references = {uid: frozenset(uids) for uid, uids in named.items()}
                found.append(Step(row.sop_uid, StepStatus(row.status), row.since, references, row.reason))
            return found

    @staticmethod
    def _step_status(tx: Connection, sop_uid: str) -> StepStatus | None:
        s = t.procedure_steps.c
        found = tx.execute(select(s.status).where(s.sop_uid == sop_uid).with_for_update()).scalar()
        return None if found is None else StepStatus(found)

    @staticmethod
    def _name(tx: Connection, sop_uid: str, named: Mapping[str, str]) -> None:
        rows = [{"step_uid": sop_uid, "sop_uid": i, "series_uid": s} for i, s in named.items()]
        if rows:
            tx.execute(t.performed_instances.insert(), rows)

    def forget_steps(self, before: float) -> int:
        """Remove steps last heard of before ``before`` (UTC seconds); returns how many.

        Most are of studies that never came here: a RIS forwards them all.
        """
        s = t.procedure_steps.c
        old = select(s.sop_uid).where(s.since < before)
        with self._write() as tx:
            tx.execute(t.performed_instances.delete().where(t.performed_instances.c.step_uid.in_(old)))
            tx.execute(t.procedure_step_studies.delete().where(t.procedure_step_studies.c.sop_uid.in_(old)))
            return int(tx.execute(t.procedure_steps.delete().where(s.since < before)).rowcount)

    # What an archive was asked

    def inquiry(self, case: str, kind: str) -> Inquiry | None:
        """The last question of ``kind`` about ``case``, if there was one."""
        q = t.inquiries
        with self._read() as tx:
            row = tx.execute(q.select().where(q.c.case_id == case, q.c.kind == kind)).one_or_none()
            return None if row is None else Inquiry(row.tries, row.at, row.answer)

    def inquired(self, case: str, kind: str, answer: str, tries: int) -> None:
        """Keep the newest question of ``kind`` about ``case``."""
        q = t.inquiries
        values = {"tries": tries, "at": self.clock(), "answer": answer}
        with self._write() as tx:
            changed = tx.execute(q.update().where(q.c.case_id == case, q.c.kind == kind).values(**values))
            if not changed.rowcount:
                tx.execute(q.insert().values(case_id=case, kind=kind, **values))
