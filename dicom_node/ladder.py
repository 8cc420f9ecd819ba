"""The ladder of one destination: what it refuses in one form goes in the next lesser one, or stays away.

float Parametric Map -> 16 bit -> a derived MR series; Comprehensive 3D SR -> Comprehensive -> Enhanced.
A form that the destination asks for (Label Map, Enhanced MR) -> what that was made of.
An object whose ladder has ended stays away where its map is there as a derived MR series, or where the
destination is configured to lack its kind; else a person must decide. What refers to objects that went in
another form names that form; what is kept from a destination by its configuration is not named there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Protocol, cast

import pydicom
from pydicom import Dataset
from pydicom.uid import MRImageStorage, ParametricMapStorage

from . import log
from .config import DicomDestination, DicomWebDestination, GateRules
from .dciodvfy import SecondOpinion
from .dispatch import Refusal, wanted
from .encode import EncodedObject, Kind
from .encode.check import check_lesser
from .encode.forms import lesser_form
from .encode.forms_mr import as_mr_series
from .encode.readdress import is_about_what_goes, named_in, readdressed
from .errors import BadObject
from .preferred import PREFERRED, asked_for
from .rungs import FLOAT_MAP, Rung, known_refusal, of_the_class, refused_rung, rung_of
from .spool import Spool, sha256_of
from .store import Sendable
from .went import Replaced, header_of, map_of, planes_reached, series_by_map, what_went

_LOG = log.get("ladder")

_LESSER, _NAMING = ".lesser", ".naming"
_REFERRING = ("SR", "KO", "PR")


class Book(Protocol):
    """Where a ladder is written down: what the destination refuses, and what goes instead of what."""

    def refused(self) -> Mapping[Rung, str]:
        """Forms it refuses, each with the words in which it did."""

    def refuse(self, rung: Rung, because: str) -> None:
        """It refuses ``rung``."""

    def replace(self, files: Sequence[Sendable], instead: Sequence[Sendable], because: str) -> None:
        """``instead`` goes where ``files`` would have gone, all or none of them; nothing: they stay away."""

    def replaced(self) -> Sequence[tuple[Sendable, Sequence[Sendable]]]:
        """All that was replaced so far."""

    def restore(self, files: Sequence[Sendable]) -> None:
        """``files`` go themselves after all, and nothing instead of them."""


class Ladder:
    """Climbs down for one result set. ``everything``: all of it, whether the destination gets it or not."""

    def __init__(
        self,
        destination: DicomDestination | DicomWebDestination,
        everything: Sequence[Sendable],
        spool: Spool,
        book: Book,
        gate: GateRules,
    ) -> None:
        self._destination = destination
        self._everything = wanted(destination, everything)
        gets = set(self._everything)
        self._absent = [f for f in everything if f not in gets]
        self._spool = spool
        self._book = book
        self._gate = gate

    def forms_of(self, files: Sequence[Sendable]) -> tuple[list[Sendable], list[Refusal]]:
        """``files`` in forms that the destination is not known to refuse, and those that have none."""
        refused = self._book.refused()
        classes = {rung.sop_class_uid for rung in refused}
        going: list[Sendable] = []
        ended: list[Refusal] = []
        for f in self._as_asked(self._given_way(files, refused), refused):
            because = self._because(f, refused) if f.sop_class_uid in classes else None
            if because is None:
                going.append(f)
                continue
            try:
                instead = self._lesser(f, refused)
            except BadObject as problem:
                self._lost(f, problem)
                instead = []
            if not instead and not self._may_stay_away(f, refused):
                ended.append(Refusal(f, None, f"{because}, and no lesser form of it is taken"))
                continue
            shown = self._shown(instead) if instead else self._away(f, refused)
            self._book.replace([f], instead, f"{shown}: {because}")
            _LOG.info("form.lesser", destination=self._destination.name, name=f.name, said=shown)
            going += instead
        return list(self._addressed(going)), ended

    def learn(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """Take note of what has another way to go; returns the refusals that have none.

        What has none is not remembered either, nor does it count for others, unless the whole class is
        refused: it may be about this one object.
        """
        about = [(r, refused_rung(self._rung(r.file.path), r.status)) for r in refusals]
        classes = {rung: r.words for r, rung in about if rung is not None and of_the_class(r.status)}
        refused = {**self._book.refused(), **classes}
        final = []
        for r, rung in about:
            now = refused if rung is None else {**refused, rung: r.words}
            if rung is None or not (self._may_stay_away(r.file, now) or self._next(r.file, now)):
                final.append(r)
            else:
                self._book.refuse(rung, r.words)
                refused = now
        return final

    def _given_way(self, files: Sequence[Sendable], refused: Mapping[Rung, str]) -> list[Sendable]:
        """``files``; for forms that were asked for and are refused, what they were made of."""
        vain = {f.path for f in files if f.sop_class_uid in PREFERRED and self._because(f, refused)}
        if not vain:
            return list(files)
        back = [f for f, instead in self._book.replaced() if any(i.path in vain for i in instead)]
        self._book.restore(back)
        return [*back, *(f for f in files if f.path not in vain)]

    def _as_asked(self, files: Sequence[Sendable], refused: Mapping[Rung, str]) -> list[Sendable]:
        """``files``, some of them in forms that the destination asks for."""
        going = {f.path: [f] for f in files}
        known = self._known(self._book.replaced())
        for other in asked_for(self._destination, files, self._everything, known, refused, self._spool):
            try:
                instead = self._write(other.made(), other.files[0], other.ending)
            except BadObject as problem:
                self._lost(other.files[0], problem)
                continue
            self._book.replace(other.files, instead, other.words)
            going |= {f.path: [] for f in other.files}
            going[other.files[0].path] = instead
        return [f for instead in going.values() for f in instead]

    def _lost(self, f: Sendable, problem: BadObject) -> None:
        _LOG.warning("form.lost", destination=self._destination.name, name=f.name, reason=str(problem))

    def _because(self, f: Sendable, refused: Mapping[Rung, str]) -> str | None:
        return known_refusal(self._rung(f.path), refused)

    def _next(self, f: Sendable, refused: Mapping[Rung, str]) -> bool:
        """Whether ``f`` has another way to go that is not refused."""
        if f.sop_class_uid in PREFERRED or self._goes_as_mr(f, refused):
            return True
        return self._same_kind(f, refused) is not None

    def _goes_as_mr(self, f: Sendable, refused: Mapping[Rung, str]) -> bool:
        """Whether ``f`` is a map of floats that may go as an MR series, has none, and MR is not refused."""
        may = self._destination.maps_as_mr and "MR" in self._destination.send
        if f.kind != "PM" or not may or known_refusal(Rung(MRImageStorage), refused):
            return False
        return not self._slices_of(f, refused) and self._rung(_origin(f.path)) == FLOAT_MAP

    def _lesser(self, f: Sendable, refused: Mapping[Rung, str]) -> list[Sendable]:
        """The best form of ``f`` that is not refused, on disk; nothing if there is none. Raises BadObject."""
        form = self._same_kind(f, refused)
        if form is not None:
            return self._write([form], f)
        if not self._goes_as_mr(f, refused):
            return []
        return self._write(as_mr_series(pydicom.dcmread(self._spool.path(_origin(f.path)))), f)

    def _same_kind(self, f: Sendable, refused: Mapping[Rung, str]) -> Dataset | None:
        """The best form of ``f`` below its own that is not refused; it stays what it is. None if ill-made."""
        if f.kind not in ("PM", "SR"):
            return None
        if f.kind == "PM" and known_refusal(Rung(ParametricMapStorage), refused):
            return None  # all forms of the class: nothing to try
        own = self._rung(f.path)
        try:
            form: Dataset | None = pydicom.dcmread(self._spool.path(_origin(f.path)))
            while form is not None and rung_of(form) != own:
                form = lesser_form(form)
            form = lesser_form(form) if form is not None else None
            while form is not None and known_refusal(rung_of(form), refused) is not None:
                form = lesser_form(form)
        except BadObject as problem:
            self._lost(f, problem)
            return None
        return form

    def _may_stay_away(self, f: Sendable, refused: Mapping[Rung, str]) -> bool:
        return bool(self._slices_of(f, refused)) or f.kind in self._destination.may_lack

    def _away(self, f: Sendable, refused: Mapping[Rung, str]) -> str:
        return "there as derived MR only" if self._slices_of(f, refused) else "not sent"

    def _slices_of(self, f: Sendable, refused: Mapping[Rung, str]) -> list[Sendable]:
        """The derived MR series of the Parametric Map ``f`` that goes anyway."""
        if f.kind != "PM" or known_refusal(Rung(MRImageStorage), refused):
            return []
        return self._series.get(map_of(f), [])

    @cached_property
    def _series(self) -> dict[str, list[Sendable]]:
        return series_by_map(self._everything)

    def _known(self, replaced: Replaced) -> list[Sendable]:
        """The result set as it was made, whatever of it the destination gets, and what it gets instead."""
        return [*self._everything, *self._absent, *(f for f, _ in replaced)]

    def _rung(self, path: str) -> Rung:
        wanted = ["SOPClassUID", "BitsAllocated"]
        header = pydicom.dcmread(self._spool.path(path), stop_before_pixels=True, specific_tags=wanted)
        return rung_of(header)

    def _shown(self, instead: Sequence[Sendable]) -> str:
        if instead[0].kind == "MR":
            return "sent as derived MR series"
        return f"sent as {self._rung(instead[0].path)}"

    def _addressed(self, files: Sequence[Sendable]) -> Iterator[Sendable]:
        """``files``; in place of one that refers to what does not go itself, one that names what does."""
        replaced = self._book.replaced()
        went = what_went(self._everything, self._absent, replaced, self._spool)
        forms = {uid: w for uid, w in went.items() if w.references}
        reached = planes_reached(self._known(replaced), went, self._spool)
        for f in files:
            others = went if refers(f) else forms if f.kind == "PM" else {}
            header = header_of(f, self._spool) if others else Dataset()
            if named_in(header).isdisjoint(others):
                yield f
            elif f.kind in ("KO", "PR") and not is_about_what_goes(header, went):
                self._book.replace([f], [], "not sent: what it is about does not go there")
            else:
                own = readdressed(pydicom.dcmread(self._spool.path(f.path)), others, reached)
                instead = self._write([own], f, f"{_NAMING}.{str(own.SOPInstanceUID)[-8:]}")
                self._book.replace(
                    [f], instead, "sent with references to what goes there, and to nothing else"
                )
                yield from instead

    def _write(self, made: Sequence[Dataset], f: Sendable, ending: str = _LESSER) -> list[Sendable]:
        """The objects ``made`` of ``f``, through the gate and durable. Raises BadObject."""
        name = f"MR_{map_of(f)}" if made[0].SOPClassUID == MRImageStorage else f.name
        kind = cast(Kind, "MR" if made[0].SOPClassUID == MRImageStorage else f.kind)
        one = len(made) == 1
        objects = [
            EncodedObject(d, kind, name if one and kind == f.kind else f"{name}_{n:04d}")
            for n, d in enumerate(made, start=1)
        ]
        check_lesser(objects)
        whole = self._spool.path(_origin(f.path))
        written = []
        with SecondOpinion(self._gate) as opinion:
            for n, o in enumerate(objects, start=1):
                number = "" if one and kind == f.kind else f".{n:04d}"
                path = whole.with_name(f"{whole.stem}{ending}{number}.dcm")
                with self._spool.durable(path) as file:
                    o.dataset.save_as(file, enforce_file_format=True)
                opinion.ask(o, path)
                uids = (str(o.dataset.SOPInstanceUID), str(o.dataset.SOPClassUID))
                written.append(Sendable(self._spool.relative(path), kind, o.name, *uids, sha256_of(path)))
            opinion.conclude()
        return written


def _origin(path: str) -> str:
    """Of a form, the path of the object as it was made: beside it."""
    whole = PurePosixPath(path)
    stem = whole.name.removesuffix(".dcm").split(_LESSER)[0].split(_NAMING)[0]
    return str(whole.with_name(f"{stem}.dcm"))


def refers(f: Sendable) -> bool:
    """Whether ``f`` refers to others of its set: it goes once it is settled in which form those went."""
    return f.kind in _REFERRING
