"""A rehearsal: a small study of nobody goes to a destination and comes back, and what became of it is told.

It takes the way of results: the real encoding, the ladder, sending, the query; then everything is fetched
and compared, pixels and attributes. What the destination refuses replaces what was known of it.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from dicom_node import dispatch
from dicom_node.compare import compare
from dicom_node.config import DicomDestination, DicomWebDestination, Settings
from dicom_node.errors import BadConfiguration, NodeError, Refused
from dicom_node.ladder import Ladder
from dicom_node.rounds import send_by_ladder
from dicom_node.rungs import Rung, rung_of
from dicom_node.spool import Spool
from dicom_node.store import Sendable, Store

from .difference import Difference, differences
from .fetch import Back, fetch_dicom, fetch_web
from .study import identity_of, rehearsal_set
from .tidy import tidy

__all__ = ["PATIENT_ID", "PATIENT_NAME", "Rehearsal", "Went", "rehearse"]

PATIENT_NAME, PATIENT_ID = "TEST^REHEARSAL", "TEST-REHEARSAL"


@dataclass(frozen=True)
class Went:
    """What ``became`` of the objects of one kind in one form: "kept", "kept with additions", "changed",
    "pixels changed", "not shown", "not fetched" or "refused".
    """

    kind: str
    form: str
    objects: int
    became: str
    words: str = ""

    @property
    def good(self) -> bool:
        return self.became.startswith("kept")


@dataclass(frozen=True)
class Rehearsal:
    """``changes``: kind, attribute, what it is about, what became of it, and of how many objects."""

    destination: str
    study_uid: str
    patient_id: str
    fetched_by: str
    went: tuple[Went, ...]
    otherwise: Mapping[str, str]  # object -> what went instead, and why
    changes: tuple[Mapping[str, Any], ...]
    refuses: Mapping[str, str]
    seconds: float
    good: bool = field(default=True)

    def as_table(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **vars(self),
            "went": [vars(w) for w in self.went],
            "otherwise": dict(self.otherwise),
            "changes": [dict(c) for c in self.changes],
            "refuses": dict(self.refuses),
        }


def rehearse(
    settings: Settings,
    name: str,
    *,
    patient_name: str = PATIENT_NAME,
    patient_id: str = PATIENT_ID,
    store: Store | None = None,
    spool: Spool | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rehearsal:
    """Rehearse the destination ``name``; with ``store``, what it refuses is remembered there.

    The test study stays at the destination. Raises BadConfiguration for a folder, and TemporaryError or
    Refused where it cannot even be begun; then what was known of the destination stays.
    """
    destination = settings.destination_named(name)
    if not isinstance(destination, DicomDestination | DicomWebDestination):
        raise BadConfiguration(f"{name} is of type {destination.type}: there is nothing to rehearse")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        own = Spool(Path(folder))
        progress("make a test study")
        files = rehearsal_set(settings, identity_of(patient_name, patient_id), own)
        run = _Run(settings, destination, own, files)
        progress("send")
        run.send()
        progress("query")
        run.query()
        progress("fetch and compare")
        how = run.fetch(store, spool)
        if store is not None and spool is not None:
            tidy(store, spool, run.study_uid)
        if store is not None:
            store.rehearsed(name, run.book.known)
        went, changes = run.weighed()
        return Rehearsal(
            name,
            run.study_uid,
            patient_id,
            how,
            went,
            dict(run.book.otherwise),
            changes,
            {str(rung): words for rung, words in run.book.known.items()},
            round(time.monotonic() - began, 1),
            all(w.good for w in went),
        )


class _Book:
    """The ladder of a rehearsal: it begins with nothing known."""

    def __init__(self) -> None:
        self.known: dict[Rung, str] = {}
        self.otherwise: dict[str, str] = {}
        self._went: list[tuple[Sendable, Sequence[Sendable]]] = []

    def refused(self) -> Mapping[Rung, str]:
        return dict(self.known)

    def refuse(self, rung: Rung, because: str) -> None:
        self.known.setdefault(rung, because)

    def replace(self, files: Sequence[Sendable], instead: Sequence[Sendable], because: str) -> None:
        self.otherwise[files[0].name] = because
        self._went += [(f, instead) for f in files]

    def replaced(self) -> Sequence[tuple[Sendable, Sequence[Sendable]]]:
        return self._went

    def restore(self, files: Sequence[Sendable]) -> None:
        self._went = [(f, instead) for f, instead in self._went if f not in files]
        for f in files:
            self.otherwise.pop(f.name, None)


class _Run:
    def __init__(
        self,
        settings: Settings,
        destination: DicomDestination | DicomWebDestination,
        spool: Spool,
        files: Sequence[Sendable],
    ) -> None:
        wanted = dispatch.wanted(destination, files)
        if not wanted:
            raise BadConfiguration(f"{destination.name} gets no kind of object that this node makes")
        self._node, self._gate = settings.node, settings.gate
        self._destination = destination
        self._spool = spool
        self._files = wanted
        self.book = _Book()
        self._ladder = Ladder(destination, files, spool, self.book, self._gate)
        self._taken: dict[str, Sendable] = {}
        self._fate: dict[str, tuple[Sendable, str, str]] = {}  # by UID: what became of it, in words
        self._different: Counter[tuple[str, Difference]] = Counter()
        ((self.study_uid, _), *_) = dispatch.series_of(files, spool.root)

    def send(self) -> None:
        """By the ladder, until all is taken or has no form left."""

        def send(files: Sequence[Sendable], taken: dispatch.Taken) -> None:
            dispatch.send(self._destination, files, self._spool, self._node, taken)

        def taken(f: Sendable, status: str) -> None:
            self._taken[f.sop_uid] = f

        for r in send_by_ladder(self._ladder, self._files, send, taken):
            self._fate[r.file.sop_uid] = (r.file, "refused", r.words)

    def query(self) -> None:
        """Whether it shows what it took; an archive may index as late as its ``settle_s``."""
        until = time.monotonic() + self._destination.proving.settle_s
        files = list(self._taken.values())
        while files:
            try:
                shown = dispatch.shown(self._destination, files, self._spool, self._node)
            except Refused as problem:
                missing, words = files, str(problem)
                break
            missing, words = [f for f in files if f.sop_uid not in shown], "a query does not show it"
            if not missing or time.monotonic() > until:
                break
            time.sleep(1.0)
        else:
            return
        for f in missing:
            self._fate[f.sop_uid] = (f, "not shown", words)

    def fetch(self, store: Store | None, spool: Spool | None) -> str:
        """Everything that it shows, back and compared; all that it took, if it shows nothing."""
        back = Back(self._spool.root / "back")
        shown = [f for f in self._taken.values() if f.sop_uid not in self._fate]
        files = shown or list(self._taken.values())
        sent = [(*dispatch.series_of([f], self._spool.root)[0], f) for f in files]
        words, how = "it did not come back", ""
        try:
            if isinstance(self._destination, DicomWebDestination):
                how = fetch_web(self._destination, self._node, sent, back)
            else:
                how = fetch_dicom(self._destination, self._node, sent, back, store, spool)
        except NodeError as problem:
            words = str(problem)
        for f in self._taken.values():
            if f.sop_uid in back.files:
                self._compare(f, back.files[f.sop_uid])
            elif f.sop_uid not in self._fate:
                self._fate[f.sop_uid] = (f, "not fetched", words)
        return how

    def _compare(self, f: Sendable, path: Path) -> None:
        sent = self._spool.root / f.path
        same = compare(sent, path)
        found = [] if same.header else list(differences(pydicom.dcmread(sent), pydicom.dcmread(path)))
        self._different.update((f.kind, d) for d in set(found))
        if not same.pixels:
            became = "pixels changed"
        elif any(d.grave for d in found):
            became = "changed"
        else:
            became = "kept with additions" if found else "kept"
        known = self._fate.get(f.sop_uid)
        if known is None or became in ("changed", "pixels changed"):
            self._fate[f.sop_uid] = (f, became, "")

    def weighed(self) -> tuple[tuple[Went, ...], tuple[Mapping[str, Any], ...]]:
        """Objects of one kind and form and fate as one line; differences, the grave ones first."""
        lines: Counter[tuple[str, str, str, str]] = Counter()
        for f, became, words in self._fate.values():
            header = pydicom.dcmread(self._spool.root / f.path, stop_before_pixels=True)
            lines[f.kind, str(rung_of(header)), became, words] += 1
        went = tuple(Went(k, form, n, became, words) for (k, form, became, words), n in sorted(lines.items()))
        found = sorted(self._different.items(), key=lambda item: (not item[0][1].grave, item[0]))
        changes = tuple(
            {"kind": kind, "attribute": d.attribute, "about": str(d.about), "what": d.what,
             "grave": d.grave, "objects": n}
            for (kind, d), n in found
        )  # fmt: skip
        return went, changes
