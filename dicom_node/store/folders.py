"""Cases that came by watch folder: the folder follows its revisions to their end."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from dicom_node.errors import UnsuitableInput
from dicom_node.study import CaseKey, Event, State

from . import tables as t
from .revisions import RevisionStore


class FolderStore(RevisionStore):
    """Rows of watch folders."""

    def open_nifti_case(self, folder: str, patient_id: str) -> CaseKey:
        """A whole NIfTI case lies in ``folder``: queue it."""
        with self._write() as tx:
            key = self._open_revision(tx, self._new_case(tx, patient_id, ""))
            self._add(tx, folder, "nifti", key)
            self._advance(tx, key, Event.COMPLETED, "a whole folder")
            return key

    def complete_dicom_folder(self, folder: str, study_uids: Collection[str]) -> list[CaseKey]:
        """All instances of ``folder`` are recorded: its studies are complete without waiting.

        A person put them together, so one patient's studies become one case, whether or not anything
        in their attributes pairs them. Returns one revision per patient.
        Raises UnsuitableInput if a study is not known.
        """
        with self._write() as tx:
            rows = tx.execute(
                select(t.studies.c.study_uid, t.cases)
                .join(t.cases, t.cases.c.case_id == t.studies.c.case_id)
                .where(t.studies.c.study_uid.in_(study_uids))
                .order_by(t.cases.c.created_at)
            ).all()
            missing = set(study_uids) - {r.study_uid for r in rows}
            if missing:
                raise UnsuitableInput(f"of this folder, study {', '.join(sorted(missing))} was not recorded")
            keys = []
            for case in self._one_case_per_patient(tx, rows):
                key, state = self._last(tx, case)
                if state is State.RECEIVING:
                    self._complete(tx, key, "a whole folder", Event.COMPLETED)
                self._add(tx, folder, "dicom", key)
                keys.append(key)
            return keys

    def _one_case_per_patient(self, tx: Connection, rows: Collection[Row[Any]]) -> list[str]:
        oldest: dict[tuple[str, str], str] = {}
        cases: dict[str, None] = {}  # in order, each once
        for row in rows:
            if row.case_id in cases:
                continue
            older = oldest.setdefault((row.patient_id, row.issuer), row.case_id) if row.patient_id else None
            key, state = self._last(tx, row.case_id)
            if older in (None, row.case_id) or state is not State.RECEIVING:
                cases[row.case_id] = None
            else:
                self._join(tx, key, str(older), "same patient, same folder")
        return list(cases)

    @staticmethod
    def _last(tx: Connection, case: str) -> tuple[CaseKey, State]:
        row = tx.execute(
            select(t.revisions.c.revision, t.revisions.c.state)
            .where(t.revisions.c.case_id == case)
            .order_by(t.revisions.c.revision.desc())
            .limit(1)
        ).one()
        return CaseKey(case, row.revision), State(row.state)

    def _add(self, tx: Connection, folder: str, kind: str, key: CaseKey) -> None:
        tx.execute(t.folders.delete().where(t.folders.c.path == folder, t.folders.c.case_id == key.case))
        tx.execute(
            t.folders.insert().values(
                path=folder, kind=kind, case_id=key.case, revision=key.revision, at=self.clock()
            )
        )

    def open_folders(self) -> dict[str, list[CaseKey]]:
        """Folders to be looked after, each with its revisions: not moved to done/ or failed/ yet, or
        with a revision that something happened to since (a person's retry).
        """
        revision = (t.folders.c.case_id == t.revisions.c.case_id) & (
            t.folders.c.revision == t.revisions.c.revision
        )
        open_paths = (
            select(t.folders.c.path)
            .join(t.revisions, revision)
            .where(or_(t.folders.c.finished_at.is_(None), t.folders.c.finished_at < t.revisions.c.since))
        )
        found: dict[str, list[CaseKey]] = {}
        with self._read() as tx:
            query = t.folders.select().where(t.folders.c.path.in_(open_paths)).order_by(t.folders.c.at)
            for r in tx.execute(query):
                found.setdefault(r.path, []).append(CaseKey(r.case_id, r.revision))
        return found

    def finish_folder(self, folder: str, moved_to: str) -> None:
        """The folder lies in done/ or failed/ now; a retry finds it there."""
        with self._write() as tx:
            if moved_to != folder:  # a namesake that lay there before is gone
                tx.execute(t.folders.delete().where(t.folders.c.path == moved_to))
            tx.execute(
                t.folders.update()
                .where(t.folders.c.path == folder)
                .values(path=moved_to, finished_at=self.clock())
            )
