"""The ladder of one destination: what it refuses in one form goes in the next lesser one, or stays away.

float Parametric Map -> 16 bit -> the derived MR series alone; Comprehensive 3D SR -> Comprehensive ->
Enhanced. An object whose ladder has ended stays away where its map is there as a derived MR series, or
where the destination is configured to lack its kind; else a person must decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pydicom
from pydicom import Dataset

from . import log
from .config import DicomDestination, DicomWebDestination
from .dispatch import ObjectsRefused, Refusal
from .encode.forms import lesser_form
from .errors import BadObject
from .rungs import Rung, known_refusal, refused_rung, rung_of
from .spool import Spool, sha256_of
from .store import Sendable

_LOG = log.get("ladder")


class Book(Protocol):
    """Where a ladder is written down: what the destination refuses, and what goes instead of what."""

    def refused(self) -> Mapping[Rung, str]:
        """Forms it refuses, each with the words in which it did."""

    def refuse(self, rung: Rung, because: str) -> None:
        """It refuses ``rung``."""

    def replace(self, f: Sendable, instead: Sendable | None, because: str) -> None:
        """``instead`` goes where ``f`` would have gone; None: nothing does."""


class Ladder:
    """Climbs down for one result set. ``everything``: all of it that the destination gets."""

    def __init__(
        self,
        destination: DicomDestination | DicomWebDestination,
        everything: Sequence[Sendable],
        spool: Spool,
        book: Book,
    ) -> None:
        self._destination = destination
        self._mapped = {map_of(f) for f in everything if f.kind == "MR"}
        self._spool = spool
        self._book = book

    def forms_of(self, files: Sequence[Sendable]) -> tuple[list[Sendable], list[Refusal]]:
        """``files`` in forms that the destination is not known to refuse, and those that have none."""
        refused = self._book.refused()
        classes = {rung.sop_class_uid for rung in refused}
        going: list[Sendable] = []
        ended: list[Refusal] = []
        for f in files:
            because = self._known(f, refused) if f.sop_class_uid in classes else None
            if because is None:
                going.append(f)
                continue
            lesser = self._lesser(f, refused)
            if lesser is None and not self._may_stay_away(f):
                ended.append(Refusal(f, None, f"{because}, and no lesser form of it is taken"))
                continue
            instead = None if lesser is None else _write(lesser, f, self._spool)
            shown = self._away(f) if lesser is None else f"sent as {rung_of(lesser)}"
            self._book.replace(f, instead, f"{shown}: {because}")
            _LOG.info("form.lesser", destination=self._destination.name, name=f.name, said=shown)
            if instead is not None:
                going.append(instead)
        return going, ended

    def learn(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """Take note of what has another way to go; returns the refusals that have none.

        What has none is not remembered either: it may be about this one object.
        """
        about = [(r, refused_rung(self._rung(r.file), r.status)) for r in refusals]
        refused = {**self._book.refused(), **{rung: r.words for r, rung in about if rung is not None}}
        final = []
        for r, rung in about:
            if rung is None or not (self._may_stay_away(r.file) or self._lesser(r.file, refused)):
                final.append(r)
            else:
                self._book.refuse(rung, r.words)
        return final

    def _known(self, f: Sendable, refused: Mapping[Rung, str]) -> str | None:
        return known_refusal(self._rung(f), refused)

    def _lesser(self, f: Sendable, refused: Mapping[Rung, str]) -> Dataset | None:
        """The best form of ``f`` that is not refused, if there is any."""
        form: Dataset | None = pydicom.dcmread(self._spool.path(f.path))
        try:
            while form is not None and known_refusal(rung_of(form), refused) is not None:
                form = lesser_form(form)
        except BadObject as problem:
            _LOG.warning("form.lost", destination=self._destination.name, name=f.name, reason=str(problem))
            return None
        return form

    def _may_stay_away(self, f: Sendable) -> bool:
        shown_as_mr = f.kind == "PM" and map_of(f) in self._mapped
        return shown_as_mr or f.kind in self._destination.may_lack

    def _away(self, f: Sendable) -> str:
        return "there as derived MR only" if f.kind == "PM" and map_of(f) in self._mapped else "not sent"

    def _rung(self, f: Sendable) -> Rung:
        wanted = ["SOPClassUID", "BitsAllocated"]
        header = pydicom.dcmread(self._spool.path(f.path), stop_before_pixels=True, specific_tags=wanted)
        return rung_of(header)


def map_of(f: Sendable) -> str:
    """The map that an object of ours shows, by its name: "MR_HGG_0017" and "PM_HGG" show HGG."""
    parts = f.name.split("_")
    return "_".join(parts[1:-1] if f.kind == "MR" else parts[1:])


def stuck(destination: DicomDestination | DicomWebDestination, refusals: Sequence[Refusal]) -> ObjectsRefused:
    """What to raise over objects whose ladder has ended, with what a person can do."""
    kinds = sorted({r.file.kind for r in refusals})
    return ObjectsRefused(
        destination.name,
        refusals,
        f"list {', '.join(kinds)} in its may_lack, or rehearse if it takes more by now; then retry",
    )


def _write(made: Dataset, f: Sendable, spool: Spool) -> Sendable:
    path = spool.path(f.path).with_suffix(".lesser.dcm")
    with spool.durable(path) as file:
        made.save_as(file, enforce_file_format=True)
    uids = (str(made.SOPInstanceUID), str(made.SOPClassUID))
    return Sendable(spool.relative(path), f.kind, f.name, *uids, sha256_of(path))
