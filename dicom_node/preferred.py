"""Forms that a destination is configured to ask for in place of the usual ones, as long as it takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pydicom
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from .config import DicomDestination, DicomWebDestination
from .encode.label_map import as_label_maps
from .rungs import LABEL_MAP, Rung, known_refusal
from .spool import Spool
from .store import Sendable

# What is sent only where it is asked for, and gives way to what it was made of where it is refused.
PREFERRED = frozenset({str(LABEL_MAP)})


@dataclass(frozen=True)
class Asked:
    """``files`` go as one other form, which `made` makes of them; its files end in ``ending``."""

    files: tuple[Sendable, ...]
    ending: str
    words: str
    spool: Spool

    def made(self) -> list[Dataset]:
        """Raises BadObject."""
        return as_label_maps(pydicom.dcmread(self.spool.path(self.files[0].path)))


def asked_for(
    destination: DicomDestination | DicomWebDestination,
    files: Sequence[Sendable],
    refused: Mapping[Rung, str],
    spool: Spool,
) -> Iterator[Asked]:
    """Which of ``files`` are to go in another form, where that is not known to be refused."""
    if destination.label_maps and known_refusal(Rung(LABEL_MAP), refused) is None:
        for f in files:
            if f.sop_class_uid == SegmentationStorage:
                yield Asked((f,), ".label-map", "sent as Label Map, as it is asked for", spool)
