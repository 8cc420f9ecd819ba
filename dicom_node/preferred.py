"""Forms that a destination is configured to ask for in place of the usual ones, as long as it takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pydicom
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage, SegmentationStorage

from .config import DicomDestination, DicomWebDestination
from .encode.enhanced_mr import as_enhanced_mr
from .encode.label_map import as_label_maps
from .rungs import LABEL_MAP, Rung, known_refusal
from .spool import Spool
from .store import Sendable
from .went import header_of, map_of, series_by_map

# What is sent only where it is asked for, and gives way to what it was made of where it is refused.
PREFERRED = frozenset({str(LABEL_MAP), str(EnhancedMRImageStorage)})

_ANATOMY = "anatomy"


@dataclass(frozen=True)
class Asked:
    """``files`` go as another form, in files with this ``ending``; ``made`` makes it, or raises BadObject."""

    files: tuple[Sendable, ...]
    ending: str
    words: str
    made: Callable[[], list[Dataset]]


def asked_for(
    destination: DicomDestination | DicomWebDestination,
    files: Sequence[Sendable],
    everything: Sequence[Sendable],
    known: Sequence[Sendable],
    refused: Mapping[Rung, str],
    spool: Spool,
) -> Iterator[Asked]:
    """Which of ``files`` are to go in another form, where that is not known to be refused.

    ``everything``: what the destination gets of their set; ``known``: all of it, so that a form that several
    destinations ask for is the same for each. A series that maps and segmentations lie on stays as it is: the
    anatomy, or, without one, every derived MR series.
    """
    if destination.label_maps and known_refusal(Rung(LABEL_MAP), refused) is None:
        for f in files:
            if f.sop_class_uid == SegmentationStorage:
                yield Asked(
                    (f,), ".label-map", "sent as Label Map, as it is asked for", _label_maps(f, spool)
                )
    if destination.enhanced_mr and known_refusal(Rung(EnhancedMRImageStorage), refused) is None:
        words = "sent as Enhanced MR, as it is asked for"
        there, here = _slices(everything), _slices(files)
        if not any(name.startswith(_ANATOMY) for name in there):
            return
        for name, series in here.items():
            if not name.startswith(_ANATOMY) and series == there.get(name):
                yield Asked(tuple(series), ".enhanced", words, _enhanced(name, series, known, spool))


def _slices(files: Sequence[Sendable]) -> dict[str, list[Sendable]]:
    """Derived MR series as they were made, by map."""
    return series_by_map(
        f for f in files if f.sop_class_uid == MRImageStorage and f.file_name.count(".") == 1
    )


def _label_maps(f: Sendable, spool: Spool) -> Callable[[], list[Dataset]]:
    return lambda: as_label_maps(pydicom.dcmread(spool.path(f.path)))


def _enhanced(
    name: str, series: Sequence[Sendable], known: Sequence[Sendable], spool: Spool
) -> Callable[[], list[Dataset]]:
    """The Parametric Map of the same map, or else a Segmentation, knows in which series their sources are."""

    def made() -> list[Dataset]:
        same = [f for f in known if f.kind == "PM" and map_of(f) == name]
        relative = next(iter([*same, *(f for f in known if f.kind == "SEG")]), None)
        header = header_of(relative, spool) if relative else None
        return [as_enhanced_mr([pydicom.dcmread(spool.path(f.path)) for f in series], header)]

    return made
