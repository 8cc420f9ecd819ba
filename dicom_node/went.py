"""What a destination gets in place of what: for those objects that refer to others of their set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pydicom
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, SegmentationStorage

from .encode.planes import Reference
from .encode.readdress import Went, plane_positions, reached_planes
from .rungs import LABEL_MAP
from .spool import Spool
from .store import Sendable

_SERIES = ["StudyInstanceUID", "SeriesInstanceUID", "NumberOfFrames"]

Replaced = Sequence[tuple[Sendable, Sequence[Sendable]]]


def what_went(
    everything: Sequence[Sendable], absent: Sequence[Sendable], replaced: Replaced, spool: Spool
) -> dict[str, Went]:
    """By SOP Instance UID: what the destination gets in place of each object that does not go itself.

    ``everything``: what it gets of the set; ``absent``: what is kept from it; ``replaced``: what goes instead
    of what. A map that goes in no form of its own is there as its derived MR series, if that is.
    """
    series, instead_of = series_by_map(everything), {f.path: list(instead) for f, instead in replaced}
    known: dict[tuple[str, ...], Went] = {}
    found: dict[str, Went] = {}
    for f in [*absent, *(f for f, _ in replaced)]:
        others = _ends([f], instead_of) if f.path in instead_of else []
        if not others and f.kind == "PM":
            others = _ends(series.get(map_of(f), []), instead_of)
        paths = (f.kind, *(o.path for o in others))
        if paths not in known:
            known[paths] = _went(f.kind, others, spool)
        found[f.sop_uid] = known[paths]
    return found


def _went(kind: str, others: Sequence[Sendable], spool: Spool) -> Went:
    """``others`` in place of an object of this ``kind``."""
    references = tuple(_references(others, spool))
    slices = kind == "PM" and bool(others) and others[0].kind == "MR"
    whole = references if slices else tuple(replace(r, frame=None) for r in references)
    return Went(tuple(dict.fromkeys(whole)), slices, _layers(others, spool))


def planes_reached(
    files: Iterable[Sendable], went: Mapping[str, Went], spool: Spool
) -> dict[tuple[str, int], Collection[int]]:
    """Which planes of the maps each segment reaches; empty where no slices ``went`` in place of a map."""
    files = list(files)
    a_map = next((f for f in files if f.sop_uid in went and went[f.sop_uid].slices), None)
    found: dict[tuple[str, int], Collection[int]] = {}
    if a_map is not None:
        positions = plane_positions(header_of(a_map, spool))
        for f in files:
            if f.sop_class_uid == SegmentationStorage:
                found |= reached_planes(header_of(f, spool), positions)
    return found


def series_by_map(files: Iterable[Sendable]) -> dict[str, list[Sendable]]:
    """Derived MR series by the map that they show."""
    found: dict[str, list[Sendable]] = {}
    for f in files:
        if f.kind == "MR":
            found.setdefault(map_of(f), []).append(f)
    return found


def map_of(f: Sendable) -> str:
    """The map that an object of ours shows, by its name: "MR_HGG_0017" and "PM_HGG" show HGG."""
    parts = f.name.split("_")
    return "_".join(parts[1:-1] if f.kind == "MR" else parts[1:])


def _ends(files: Iterable[Sendable], instead_of: Mapping[str, Sequence[Sendable]]) -> list[Sendable]:
    """What goes where ``files`` would have gone, once all that is replaced in its turn is."""
    found: dict[str, Sendable] = {}
    for f in files:
        if f.path in instead_of:
            found |= {e.path: e for e in _ends(instead_of[f.path], instead_of)}
        else:
            found[f.path] = f
    return list(found.values())


def _references(files: Sequence[Sendable], spool: Spool) -> Iterator[Reference]:
    """To files of one MR series, or of one series each; to every frame of an Enhanced MR Image."""
    header = Dataset()
    for n, f in enumerate(files):
        if n == 0 or f.kind != "MR":
            header = pydicom.dcmread(spool.path(f.path), specific_tags=_SERIES)
        series, study = str(header.SeriesInstanceUID), str(header.StudyInstanceUID)
        one = Reference(f.sop_class_uid, f.sop_uid, series, study)
        if f.sop_class_uid == EnhancedMRImageStorage:
            yield from (replace(one, frame=k) for k in range(1, header.NumberOfFrames + 1))
        else:
            yield one


def _layers(files: Sequence[Sendable], spool: Spool) -> dict[int, int]:
    """Which of ``files`` has a segment, if they are Label Maps: by number."""
    found: dict[int, int] = {}
    for n, f in enumerate(files):
        if f.sop_class_uid == LABEL_MAP:
            found |= {int(s.SegmentNumber): n for s in header_of(f, spool).SegmentSequence}
    return found


def header_of(f: Sendable, spool: Spool) -> Dataset:
    """``f`` without its pixels."""
    return pydicom.dcmread(spool.path(f.path), stop_before_pixels=True)
