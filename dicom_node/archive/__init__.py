"""A PACS beside the node: asked how much of a study there should be, and for anatomy that did not come.

Questions run on a few threads of their own, each with time-outs and tried only so often, so that gathering
never waits. Answers are kept in the store, in words where a person is to read them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from pydicom import Dataset
from sqlalchemy.exc import OperationalError

from dicom_node import log
from dicom_node.config import IdentifyRules, NodeRules, PacsRules
from dicom_node.errors import NodeError
from dicom_node.evidence import Count, Counts
from dicom_node.identify import contrast_by_name, ours
from dicom_node.series import text_of, value_of
from dicom_node.store import Patient, Revision, Store

from .base import Accept, Pacs
from .dimse import DimsePacs
from .web import WebPacs, only_part

__all__ = ["Accept", "DimsePacs", "PacsArchive", "only_part"]

_LOG = log.get("archive")

_THREADS = 3
_COUNTS, _ANATOMY = "counts", "anatomy"
_FEWEST_SLICES = 8  # fewer are a localizer or a single picture
_MOST_SERIES = 4


class PacsArchive:
    """Asks one PACS on behalf of receiving cases."""

    def __init__(
        self, store: Store, rules: PacsRules, node: NodeRules, identify: IdentifyRules, accept: Accept
    ) -> None:
        self._store = store
        self._rules = rules
        self._identify = identify
        self._pacs: Pacs = WebPacs(rules, accept) if rules.url else DimsePacs(rules, node, accept)
        self._name = rules.url or rules.ae_title
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="archive")
        self._lock = threading.Lock()
        self._under_way: set[tuple[str, str]] = set()

    def close(self) -> None:
        """Ask nothing more; what is under way ends by its time-outs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # How much there should be

    def look_at(self, revision: Revision) -> None:
        """Ask for counts once the case has been quiet for a moment, and again until they settle."""
        now, case = self._store.clock(), revision.key.case
        if not self._rules.count or now - revision.last_received_at < self._rules.settle_s:
            return
        last = self._store.inquiry(case, _COUNTS)
        if last is not None:
            fresh = last.at > revision.last_received_at
            pause_s = self._rules.ask_again_s if fresh and last.tries > 1 else self._rules.settle_s
            if now - last.at < pause_s:
                return
        tries = 1 if last is None or last.at <= revision.last_received_at else last.tries + 1
        self._begin(case, _COUNTS, lambda: self._count(case, tries))

    def counts(self, revision: Revision) -> Counts | None:
        """What it last said; settled if it said the same twice since the last instance came."""
        last = self._store.inquiry(revision.key.case, _COUNTS)
        answer = json.loads(last.answer) if last is not None else {}
        if last is None or "series" not in answer:
            return None
        same_for_s = last.at - answer["same_since"]
        settled = answer["same_since"] > revision.last_received_at and same_for_s >= self._rules.settle_s
        return Counts(tuple(Count(*c) for c in answer["series"]), settled)

    def _count(self, case: str, tries: int) -> None:
        found = []
        try:
            for study in self._store.patient_of(case).studies:
                found += [list(c) for c in self._counted(study)]
        except NodeError as problem:
            self._store.inquired(case, _COUNTS, json.dumps({"problem": str(problem)}), tries)
            _LOG.warning("archive.silent", case=case, reason=str(problem))
            return
        before = self._store.inquiry(case, _COUNTS)
        said = json.loads(before.answer) if before is not None else {}
        since = (
            said["same_since"] if said.get("series") == sorted(found) and tries > 1 else self._store.clock()
        )
        answer = {"series": sorted(found), "same_since": since}
        self._store.inquired(case, _COUNTS, json.dumps(answer), tries)

    def _counted(self, study: str) -> Iterator[tuple[str, str, str, int]]:
        for s in self._pacs.series(study):
            uid, number = text_of(s, "SeriesInstanceUID"), value_of(s, "NumberOfSeriesRelatedInstances")
            if uid and ours(s, self._identify) is None:
                yield study, uid, text_of(s, "Modality"), int(number or 0)

    # Anatomy that did not come

    def fetching(self, case: str) -> str:
        """What became of asking for anatomy, in words; "" if nothing was asked."""
        last = self._store.inquiry(case, _ANATOMY)
        return "" if last is None else last.answer

    def fetch_anatomy(self, revision: Revision) -> None:
        """Have T1 and FLAIR of the patient sent here; tried ``max_tries`` times, ``ask_again_s`` apart."""
        case, now = revision.key.case, self._store.clock()
        if now - revision.last_received_at < self._rules.settle_s:
            return
        last = self._store.inquiry(case, _ANATOMY)
        tries = 0 if last is None else last.tries
        too_soon = last is not None and now - last.at < self._rules.ask_again_s
        if self._rules.fetch_anatomy and tries < self._rules.max_tries and not too_soon:
            self._begin(case, _ANATOMY, lambda: self._fetch(case, tries + 1))

    def _fetch(self, case: str, tries: int) -> None:
        nth = f"{self._name}, try {tries} of {self._rules.max_tries}"
        self._store.inquired(case, _ANATOMY, f"asking {nth}", tries)
        patient = self._store.patient_of(case)
        try:
            chosen = self._choose(case, patient)
            for study, series in chosen:
                self._pacs.retrieve(study, text_of(series, "SeriesInstanceUID"))
        except NodeError as problem:
            self._store.inquired(case, _ANATOMY, f"asked of {nth}: {problem}", tries)
            _LOG.warning("anatomy.not_fetched", case=case, reason=str(problem))
            return
        what = f"{len(chosen)} series sent" if chosen else "it holds none of this patient"
        self._store.inquired(case, _ANATOMY, f"asked of {nth}: {what}", tries)
        _LOG.info("anatomy.fetched", case=case, series=len(chosen))

    def _choose(self, case: str, patient: Patient) -> list[tuple[str, Dataset]]:
        """Series that are T1 or FLAIR by name: of the case's studies, else of others near in time."""
        for study in patient.studies:
            if self._same_patient(study, patient) and (found := self._anatomy_of(study)):
                return [(study, s) for s in found]
        if not self._rules.prior_days or not patient.patient_id:
            return []
        for study, date in self._other_studies(patient):
            if (found := self._anatomy_of(study)) and self._store.adopt_study(case, study, date):
                return [(study, s) for s in found]
        return []

    def _same_patient(self, study: str, patient: Patient) -> bool:
        return any(_is_of(s, patient) for s in self._pacs.studies(StudyInstanceUID=study))

    def _other_studies(self, patient: Patient) -> list[tuple[str, str]]:
        """Studies of the same Patient ID and issuer within ``prior_days``, the nearest first."""
        dates = [_date(d) for d in patient.studies.values()]
        ours = next((d for d in dates if d is not None), datetime.fromtimestamp(self._store.clock()))
        span = timedelta(days=self._rules.prior_days)
        between = f"{ours - span:%Y%m%d}-{ours + span:%Y%m%d}"
        found = []
        for s in self._pacs.studies(PatientID=patient.patient_id, StudyDate=between):
            uid, date = text_of(s, "StudyInstanceUID"), text_of(s, "StudyDate")
            when = _date(date)
            if (
                uid not in patient.studies
                and when is not None
                and abs(when - ours) <= span
                and _is_of(s, patient)
            ):
                found.append((abs(when - ours), uid, date))
        return [(uid, date) for _, uid, date in sorted(found)]

    def _anatomy_of(self, study: str) -> list[Dataset]:
        """T1 and FLAIR, without contrast agent first."""
        found = []
        for s in self._pacs.series(study):
            contrast = contrast_by_name(s, self._identify)
            count = value_of(s, "NumberOfSeriesRelatedInstances")
            if contrast is not None and (count is None or int(count) >= _FEWEST_SLICES or int(count) == 1):
                role, enhanced = contrast
                found.append((enhanced, str(role), text_of(s, "SeriesInstanceUID"), s))
        found.sort(key=lambda f: f[:3])
        return [s for *_, s in found][:_MOST_SERIES]

    def _begin(self, case: str, kind: str, act: Callable[[], None]) -> None:
        """Run ``act`` beside, once at a time for a case."""
        with self._lock:
            if (case, kind) in self._under_way:
                return
            self._under_way.add((case, kind))

        def run() -> None:
            try:
                act()
            except OperationalError:
                _LOG.warning("archive.waits", reason="the database does not answer")
            except Exception as bug:  # the thread's one catch-all: gathering goes on without the archive
                _LOG.error("archive.bug", case=case, kind=kind, **log.place_of(bug))
            finally:
                with self._lock:
                    self._under_way.discard((case, kind))

        self._pool.submit(run)


def _is_of(study: Dataset, patient: Patient) -> bool:
    """The same Patient ID, and no other issuer; a name proves nothing."""
    issuers = {text_of(study, "IssuerOfPatientID"), patient.issuer} - {""}
    return text_of(study, "PatientID") == patient.patient_id and len(issuers) < 2


def _date(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return None
