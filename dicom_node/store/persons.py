"""What a person asks of a study: force, hold, release, ignore, retry; each an event in its history."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from dicom_node.errors import UnsuitableInput
from dicom_node.study import CaseKey, Event, IllegalTransition, State, after

from . import tables as t
from .revisions import RevisionStore


class PersonStore(RevisionStore):
    """A person's verbs over studies. Each raises UnsuitableInput, in words, where the state forbids it."""

    def force(self, study_or_case: str, because: str) -> CaseKey:
        """Queue a receiving study now, whatever the evidence says."""
        with self._write() as tx:
            key, state = self._newest(tx, study_or_case)
            self._allow(state, Event.FORCED, "force", "it is still receiving")
            self._complete(tx, key, because, Event.FORCED)
            return key

    def hold(self, study_or_case: str, because: str) -> CaseKey:
        """Keep a receiving or queued study from being worked on; what comes late joins it."""
        with self._write() as tx:
            key, state = self._newest(tx, study_or_case)
            self._allow(state, Event.HELD, "hold", "it is receiving or queued")
            self._advance(tx, key, Event.HELD, because)
            return key

    def release(self, study_or_case: str, because: str) -> CaseKey:
        """Queue a held study, with everything that has come until now: a new attempt."""
        with self._write() as tx:
            key, state = self._newest(tx, study_or_case)
            self._allow(state, Event.RELEASED, "release", "it is held")
            # The engine takes an attempt once, and may have met this one while it was held.
            was_queued = self._was_queued(tx, key)
            self._freeze(tx, key)
            attempt = t.revisions.c.attempt + (1 if was_queued else 0)
            self._advance(tx, key, Event.RELEASED, because, attempt=attempt)
            return key

    def ignore_study(self, study_or_case: str, because: str) -> CaseKey:
        """Never work on a study, nor on what comes late for it, unless a person retries it."""
        with self._write() as tx:
            key, state = self._newest(tx, study_or_case)
            self._allow(state, Event.IGNORED, "ignore", "it is receiving, queued, held or failed")
            self._advance(tx, key, Event.IGNORED, because)
            return key

    def retry(self, key: CaseKey, because: str) -> None:
        """Run an ended revision again: a new attempt."""
        with self._write() as tx:
            r = t.revisions.c
            query = select(r.state).where(r.case_id == key.case, r.revision == key.revision)
            state = State(tx.execute(query).scalar_one())
            self._allow(state, Event.RETRIED, "retry", "it is done, failed or ignored")
            if self._ignored_by_a_person(tx, key):  # what came since belongs to it
                self._freeze(tx, key)
            self._advance(tx, key, Event.RETRIED, because, attempt=r.attempt + 1)

    def _newest(self, tx: Connection, study_or_case: str) -> tuple[CaseKey, State]:
        r, case = t.revisions.c, self._case_named(tx, study_or_case)
        number = tx.execute(select(func.max(r.revision)).where(r.case_id == case)).scalar()
        if number is None:
            raise UnsuitableInput(f"no study or case {study_or_case} is known here (see: mrsi-node status)")
        state = tx.execute(select(r.state).where(r.case_id == case, r.revision == number)).scalar_one()
        return CaseKey(case, int(number)), State(state)

    @staticmethod
    def _allow(state: State, event: Event, verb: str, when: str) -> None:
        try:
            after(state, event)
        except IllegalTransition:
            raise UnsuitableInput(f"the study is {state}; {verb} is possible only while {when}") from None
