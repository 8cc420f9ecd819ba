"""What a destination gets in place of what: for those objects that refer to others of their set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pydicom
from pydicom import Dataset

from .encode.planes import Reference
from .encode.readdress import Went, plane_positions, reached_planes
from .rungs import LABEL_MAP
from .spool import Spool
from .store import Sendable

Replaced = Sequence[tuple[Sendable, Sequence[Sendable]]]


def what_went(
    everything: Sequence[Sendable], absent: Sequence[Sendable], replaced: Replaced, spool: Spool
) -> dict[str, Went]:
    """By SOP Instance UID: what the destination gets in place of each object that does not go itself.

    ``everything``: what it gets of the set; ``absent``: what is kept from it; ``replaced``: what goes instead
    of what. A map that goes in no form of its own is there as its derived MR series, if that is.
    """
    series, instead_of = series_by_map(everything), {f.path: list(instead) for f, instead in replaced}
    found: dict[str, Went] = {}
    for f in [*absent, *(f for f, _ in replaced)]:
        others = _ends(f, instead_of) or (series.get(map_of(f), []) if f.kind == "PM" else [])
        slices = bool(others) and others[0].kind == "MR" and f.kind == "PM"
        found[f.sop_uid] = Went(tuple(_references(others, spool)), slices, _layers(others, spool))
    return found


def planes_reached(
    files: Iterable[Sendable], went: Mapping[str, Went], spool: Spool
) -> dict[tuple[str, int], Collection[int]]:
    """Which planes of the maps each segment reaches; empty where no slices ``went`` in place of a map."""
    files = list(files)
    a_map = next((f for f in files if f.sop_uid in went and went[f.sop_uid].slices), None)
    found: dict[tuple[str, int], Collection[int]] = {}
    if a_map is not None:
        positions = plane_positions(_header(a_map, spool))
        for f in files:
            if f.kind == "SEG":
                found |= reached_planes(_header(f, spool), positions)
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


def _ends(f: Sendable, instead_of: Mapping[str, Sequence[Sendable]]) -> list[Sendable]:
    """What goes where ``f`` would have gone, once all that is replaced in its turn is."""
    found: list[Sendable] = []
    for other in instead_of.get(f.path, ()):
        found += _ends(other, instead_of) if other.path in instead_of else [other]
    return found


def _references(files: Sequence[Sendable], spool: Spool) -> Iterator[Reference]:
    """To files of one MR series, or of one series each."""
    wanted, header = ["StudyInstanceUID", "SeriesInstanceUID"], Dataset()
    for n, f in enumerate(files):
        if n == 0 or f.kind != "MR":
            header = pydicom.dcmread(spool.path(f.path), specific_tags=wanted)
        series, study = str(header.SeriesInstanceUID), str(header.StudyInstanceUID)
        yield Reference(f.sop_class_uid, f.sop_uid, series, study)


def _layers(files: Sequence[Sendable], spool: Spool) -> dict[int, int]:
    """Which of ``files`` has a segment, if they are Label Maps: by number."""
    found: dict[int, int] = {}
    for n, f in enumerate(files):
        if f.sop_class_uid == LABEL_MAP:
            found |= {int(s.SegmentNumber): n for s in _header(f, spool).SegmentSequence}
    return found


def _header(f: Sendable, spool: Spool) -> Dataset:
    return pydicom.dcmread(spool.path(f.path), stop_before_pixels=True)
