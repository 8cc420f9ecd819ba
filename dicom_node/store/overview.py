"""What a person asks of the store: where everything stands, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, and_, func, or_, select

from dicom_node.rungs import Rung
from dicom_node.study import FINAL, State

from . import tables as t
from .ledger import Deed, Kind, LedgerStore
from .revisions import Finding


@dataclass(frozen=True)
class Ended:
    """Which cases' files may go: all their revisions ended DONE or IGNORED, the last one in ``state``.

    One that FAILED waits for a person, unless a newer one is DONE, or was IGNORED after that. Nothing
    happened to them or came for them since ``before``. With ``proven`` only those of which every destination
    proved by query or commitment that it keeps what it took.
    """

    before: float
    state: State = State.DONE
    proven: bool = False


class Overview(LedgerStore):
    """Read-only views, made of plain values so that they print as JSON."""

    def status(self) -> dict[str, Any]:
        """All cases with their newest revision first, and the quarantine.

        Each case: studies, revisions (state, reason, since, series with role and reason, deliveries).
        Destinations: those of which something is known, with the state of their circuit (OPEN: they
        failed too often in a row) or HELD, and the forms of objects that they refuse. Workers: those that
        are up, or died without a word, and those that were taken over since a worker of their name last
        started.
        """
        with self._read() as tx:
            cases = [
                self._case(tx, c.case_id) for c in tx.execute(t.cases.select().order_by(t.cases.c.created_at))
            ]
            quarantined = [
                {
                    "sop_uid": q.sop_uid,
                    "study_uid": q.study_uid,
                    "source": q.source,
                    "at": q.at,
                    "reason": q.reason,
                }
                for q in tx.execute(t.quarantine.select().order_by(t.quarantine.c.id))
            ]
            refused = self._refused(tx)
            destinations = [
                {
                    "destination": d.name,
                    "state": "HELD" if d.held_at else "OPEN" if d.opened_at else "CLOSED",
                    "failures": d.failures,
                    "reason": d.held_because or d.reason,
                    "since": d.held_at or d.opened_at,
                    "probe_at": d.probe_at,
                    "refuses": refused.pop(d.name, []),
                }
                for d in tx.execute(t.destinations.select().order_by(t.destinations.c.name))
            ]
            columns = ("name", "seen_at", "taken_over_at", "taken_over_by")
            workers = [
                {column: getattr(w, column) for column in columns}
                for w in tx.execute(t.workers.select().order_by(t.workers.c.name))
            ]
            return {
                "cases": cases,
                "quarantine": quarantined,
                "destinations": destinations,
                "workers": workers,
            }

    def case_status(self, case: str) -> dict[str, Any] | None:
        """One case as ``status`` shows it; None if there is no such case."""
        with self._read() as tx:
            known = tx.execute(select(t.cases.c.patient_id).where(t.cases.c.case_id == case)).one_or_none()
            return None if known is None else {**self._case(tx, case), "patient_id": known.patient_id}

    @staticmethod
    def _refused(tx: Connection) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for r in tx.execute(t.refused_forms.select().order_by(t.refused_forms.c.at)):
            row = {"form": str(Rung(r.sop_class_uid, r.variant)), "because": r.because, "since": r.at}
            found.setdefault(r.destination, []).append(row)
        return found

    def _case(self, tx: Connection, case: str) -> dict[str, Any]:
        studies = tx.execute(t.studies.select().where(t.studies.c.case_id == case)).all()
        uids = [s.study_uid for s in studies]
        count = select(func.count()).select_from(t.instances).where(t.instances.c.study_uid.in_(uids))
        revisions = tx.execute(
            t.revisions.select().where(t.revisions.c.case_id == case).order_by(t.revisions.c.revision.desc())
        ).all()
        return {
            "case": case,
            "studies": uids,
            "instances": int(tx.execute(count).scalar_one()),
            "revisions": [
                {
                    "revision": r.revision,
                    "state": r.state,
                    "reason": r.reason,
                    "attempt": r.attempt,
                    "since": r.since,
                    "last_received_at": r.last_received_at,
                    "awaited": r.awaited or "",
                    "awaited_until": r.awaited_until,
                    "report": r.report,
                    "series": self._series(tx, case, r.revision),
                    "deliveries": self._deliveries(tx, case, r.revision),
                    "withdrawn": self._withdrawn(tx, case, r.revision),
                }
                for r in revisions
            ],
        }

    @staticmethod
    def _withdrawn(tx: Connection, case: str, revision: int) -> list[dict[str, Any]]:
        w = t.withdrawals.c
        query = t.withdrawals.select().where(w.case_id == case, w.revision == revision).order_by(w.at)
        return [{"at": r.at, "by": r.who, "because": r.because, "title": r.title} for r in tx.execute(query)]

    def _series(self, tx: Connection, case: str, revision: int) -> list[dict[str, str]]:
        query = t.series.select().where(t.series.c.case_id == case, t.series.c.revision == revision)
        return [Finding(s.series_uid, s.description, s.role, s.reason).as_row() for s in tx.execute(query)]

    def _deliveries(self, tx: Connection, case: str, revision: int) -> list[dict[str, Any]]:
        query = (
            select(
                t.deliveries,
                func.count(t.taken.c.path).label("taken"),
                func.count(t.taken.c.proven_at).label("proven"),
            )
            .outerjoin(t.taken, t.taken.c.delivery_id == t.deliveries.c.delivery_id)
            .where(t.deliveries.c.case_id == case, t.deliveries.c.revision == revision)
            .group_by(*t.deliveries.c)
            .order_by(t.deliveries.c.delivery_id)
        )
        return [
            {
                "delivery": d.delivery_id,
                "destination": d.destination,
                "purpose": d.purpose,
                "state": d.state,
                "attempt": d.attempt,
                "tries": d.tries,
                "taken": d.taken,
                "proven": d.proven,
                "reason": d.reason,
                "next_try_at": d.next_try_at,
                "otherwise": self._otherwise(tx, d.delivery_id),
            }
            for d in tx.execute(query).all()
        ]

    @staticmethod
    def _otherwise(tx: Connection, delivery_id: str) -> list[dict[str, str]]:
        """What went in another form, or not at all, and why; of several that went as one, the first."""
        s = t.substitutions.c
        query = select(t.results.c.name, s.because, s.instead).join(t.results, t.results.c.path == s.path)
        mine = (s.delivery_id == delivery_id) & (s.place == 0)
        rows = tx.execute(query.where(mine).order_by(s.path, s.at)).all()
        said: dict[str, dict[str, str]] = {}
        for r in rows:
            said.setdefault(r.instead or r.name, {"name": r.name, "because": r.because})
        return list(said.values())

    def history(self, case: str) -> list[dict[str, Any]]:
        """Every event of a case, oldest first."""
        with self._read() as tx:
            rows = tx.execute(t.events.select().where(t.events.c.case_id == case).order_by(t.events.c.id))
            return [dict(r._mapping) for r in rows]

    def removable(self, ended: Ended) -> list[str]:
        """Cases whose files may go, those that ended first, first."""
        with self._read() as tx:
            return self._removable(tx, ended)

    def _removable(self, tx: Connection, ended: Ended, case: str | None = None) -> list[str]:
        """All that ``ended`` speaks of, or of them only ``case``."""
        r, mine = t.revisions.c, t.instances.c.study_uid == t.studies.c.study_uid
        kept = select(t.instances.c.sop_uid).join(t.studies, mine).where(t.studies.c.case_id == r.case_id)
        done = func.count().filter(r.state == State.DONE) > 0
        query = (
            select(r.case_id)
            .where(~_open_revision_of(r.case_id).exists())
            .group_by(r.case_id)
            .having(done if ended.state is State.DONE else ~done)
            .having(func.max(r.since) < ended.before, func.max(r.last_received_at) < ended.before)
            .having(or_(func.count(r.report) > 0, kept.exists()))
            .order_by(func.max(r.since))
        )
        if case is not None:
            query = query.where(r.case_id == case)
        found = [str(row.case_id) for row in tx.execute(query)]
        return [c for c in found if self._is_proven(tx, c)] if ended.proven else found

    @staticmethod
    def _is_proven(tx: Connection, case: str) -> bool:
        d, taken = t.deliveries.c, t.taken.c
        rows = tx.execute(
            select(d.delivery_id, func.count(taken.path), func.count().filter(taken.proof != ""))
            .outerjoin(t.taken, taken.delivery_id == d.delivery_id)
            .where(d.case_id == case)
            .group_by(d.delivery_id)
        ).all()
        return bool(rows) and all(0 < n == proofs for _, n, proofs in rows)

    def forget_files(
        self, case: str, remove: Callable[[Sequence[str]], None], ended: Ended | None = None
    ) -> int | None:
        """Take a case's instances off the books and ``remove`` their spool paths; returns how many.

        None if the case is not (or no more) one that ``ended`` speaks of: nothing is removed then.

        Members, results, deliveries and events stay as the record. The files go inside the transaction,
        so that an instance arriving again at this moment is recorded either before, and kept, or after,
        and written anew; and so that a retry's results come either before, and stay, or after.
        """
        with self._write() as tx:
            if ended is not None and not self._removable(tx, ended, case):
                return None
            theirs = t.instances.c.study_uid.in_(
                select(t.studies.c.study_uid).where(t.studies.c.case_id == case)
            )
            i = t.instances.c
            gone = tx.execute(select(i.sop_uid, i.path, i.sha256).where(theirs).order_by(i.sop_uid)).all()
            paths = [str(g.path) for g in gone]
            self._enter(tx, *(Deed(Kind.REMOVED, case, g.sop_uid, g.sha256, "{}") for g in gone))
            tx.execute(t.instances.delete().where(theirs))
            tx.execute(t.revisions.update().where(t.revisions.c.case_id == case).values(report=None))
            remove(paths)
            return len(paths)

    def forget_unnamed(self, paths: Collection[str], remove: Callable[[Sequence[str]], None]) -> int:
        """``remove`` those of the spool's ``paths`` that no row names; returns how many.

        That is what was kept and never recorded: a copy of an instance in another transfer syntax, what was
        refused, what a killed process left; and what a correction replaced, once its case's files have gone.
        Inside the transaction: an instance that comes with these bytes is recorded before, or kept again.
        """
        if not paths:
            return 0
        with self._read() as tx:
            if not self._unnamed(tx, paths):
                return 0
        with self._write() as tx:
            unnamed = self._unnamed(tx, paths)
            remove(unnamed)
            return len(unnamed)

    @staticmethod
    def _unnamed(tx: Connection, paths: Collection[str]) -> list[str]:
        left = set(paths)
        i, m, s = t.instances.c, t.members.c, t.studies.c
        kept_cases = select(s.case_id).where(s.study_uid.in_(select(i.study_uid)))
        for named in (select(i.path), select(m.path).where(m.case_id.in_(kept_cases))):
            left.difference_update(tx.execute(named).scalars())
        return sorted(left)


def _open_revision_of(case: Column[str]) -> Select[tuple[int]]:
    """Revisions of ``case`` that somebody works on, or that wait for a person.

    Late instances are a newer revision's, and so are a person's verbs: what failed before ends with it. But
    a newer one that was IGNORED first may rest on results that could not be delivered since.
    """
    one, newer = t.revisions.alias("one"), t.revisions.alias("newer")
    settled = select(newer.c.revision).where(
        newer.c.case_id == one.c.case_id,
        newer.c.revision > one.c.revision,
        or_(
            newer.c.state == State.DONE,
            and_(newer.c.state == State.IGNORED, newer.c.since >= one.c.since),
        ),
    )
    failed = and_(one.c.state == State.FAILED, ~settled.exists())
    return select(one.c.revision).where(one.c.case_id == case, or_(one.c.state.not_in(FINAL), failed))
