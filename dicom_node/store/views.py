"""What the page reads besides the queue: newest results, received headers, throughput, acts of persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select

from dicom_node.study import CaseKey

from . import tables as t
from .ledger import LedgerStore
from .revisions import Made, Member

# How the reasons of a person's acts begin, as the command line and the page write them.
_BY_PERSONS = ("held by", "forced by", "released by", "ignored by", "retried by", "withdrawn by")


@dataclass(frozen=True)
class ResultSet:
    """The files of one attempt, in the order of sending, without lesser forms and notes."""

    key: CaseKey
    attempt: int
    made: Sequence[Made]


@dataclass(frozen=True)
class ReceivedHeader:
    """What is kept of an instance's header, and when it came."""

    case: str
    facts: str
    received_at: float


class Views(LedgerStore):
    """Read-only; each bounded in what it gives."""

    def newest_results(self, case: str, revision: int | None = None) -> ResultSet | None:
        """The last results of a case (or of one revision of it) that have volumes; None without any."""
        r = t.results.c
        query = select(r.revision, r.attempt).where(r.case_id == case, r.kind.in_(("PM", "MR", "NIFTI")))
        if revision is not None:
            query = query.where(r.revision == revision)
        with self._read() as tx:
            newest = tx.execute(query.order_by(r.revision.desc(), r.attempt.desc()).limit(1)).first()
            if newest is None:
                return None
            lesser = select(t.substitutions.c.instead).where(t.substitutions.c.instead.is_not(None))
            rows = tx.execute(
                t.results.select()
                .where(r.case_id == case, r.revision == newest.revision, r.attempt == newest.attempt)
                .where(r.path.not_in(lesser))
                .order_by(r.path)
            )
            made = [Made(x.path, x.kind, x.name, x.sop_uid, x.sop_class_uid, x.sha256) for x in rows]
        return ResultSet(CaseKey(case, int(newest.revision)), int(newest.attempt), made)

    def members_taken_for(self, key: CaseKey, role: str) -> list[Member]:
        """The instances of a revision whose series was taken for ``role``, as far as they are kept."""
        m, i, s = t.members.c, t.instances.c, t.series.c
        query = (
            select(m.sop_uid, m.path, m.sha256)
            .join(t.instances, i.sop_uid == m.sop_uid)
            .join(t.series, s.series_uid == i.series_uid)
            .where(m.case_id == key.case, m.revision == key.revision)
            .where(s.case_id == key.case, s.revision == key.revision, s.role == role)
        )
        with self._read() as tx:
            return [Member(r.sop_uid, r.path, r.sha256) for r in tx.execute(query)]

    def received_since(self, at: float, most: int) -> list[ReceivedHeader]:
        """Headers received since ``at``, of the ``most`` newest instances, oldest first."""
        i = t.instances.c
        query = (
            select(t.studies.c.case_id, i.facts, i.received_at)
            .join(t.studies, t.studies.c.study_uid == i.study_uid)
            .where(i.received_at >= at, i.facts.is_not(None))
            .order_by(i.received_at.desc())
            .limit(most)
        )
        with self._read() as tx:
            rows = tx.execute(query).all()
        return [ReceivedHeader(str(r.case_id), str(r.facts), float(r.received_at)) for r in reversed(rows)]

    def throughput(self, now: float) -> dict[str, Mapping[str, int]]:
        """Instances received and studies ended ("DONE", "FAILED", "IGNORED"), by hour, day and week."""
        spans = {"hour": 3600.0, "day": 86400.0, "week": 604800.0}
        i, r = t.instances.c, t.revisions.c
        found: dict[str, Mapping[str, int]] = {}
        with self._read() as tx:
            for name, seconds in spans.items():
                came = select(func.count()).select_from(t.instances).where(i.received_at >= now - seconds)
                ended = (
                    select(r.state, func.count())
                    .where(r.since >= now - seconds, r.state.in_(("DONE", "FAILED", "IGNORED")))
                    .group_by(r.state)
                )
                states = {str(state): int(n) for state, n in tx.execute(ended)}
                found[name] = {"instances": int(tx.execute(came).scalar_one()), **states}
        return found

    def quarantined(self, most: int, offset: int = 0) -> list[dict[str, Any]]:
        """What was refused, the newest first. An empty path: its file was removed for space."""
        q = t.quarantine.c
        with self._read() as tx:
            rows = tx.execute(t.quarantine.select().order_by(q.id.desc()).limit(most).offset(offset))
            return [dict(r._mapping) for r in rows]

    def workers_known(self) -> list[dict[str, Any]]:
        """Workers that are up, died without a word, or were taken over, by name."""
        with self._read() as tx:
            return [dict(r._mapping) for r in tx.execute(t.workers.select().order_by(t.workers.c.name))]

    def last_of_destination(self, name: str, most: int) -> list[dict[str, Any]]:
        """The newest events of a destination, the last one first."""
        d = t.destination_events.c
        query = t.destination_events.select().where(d.destination == name).order_by(d.id.desc()).limit(most)
        with self._read() as tx:
            return [dict(r._mapping) for r in tx.execute(query)]

    def acts_of_persons(self, most: int, offset: int = 0) -> list[dict[str, Any]]:
        """What persons did to studies, deliveries and destinations, the newest first."""
        e, d = t.events.c, t.destination_events.c
        with self._read() as tx:
            about_studies = tx.execute(
                select(e.at, e.case_id, e.revision, e.delivery_id, e.event, e.reason)
                .where(or_(*(e.reason.startswith(words) for words in _BY_PERSONS)))
                .order_by(e.id.desc())
                .limit(most + offset)
            ).all()
            about_destinations = tx.execute(
                select(d.at, d.destination, d.event, d.reason)
                .where(or_(*(d.reason.startswith(words) for words in _BY_PERSONS), d.event == "rehearsed"))
                .order_by(d.id.desc())
                .limit(most + offset)
            ).all()
        acts = [dict(r._mapping) for r in (*about_studies, *about_destinations)]
        return sorted(acts, key=lambda act: -float(act["at"]))[offset : offset + most]
