"""What a case brings besides arrays: the headers that results must carry on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom import Dataset

from sr_core import Acquisition


@dataclass(frozen=True, eq=False)
class SourceStudy:
    """A case decoded: arrays for sr_core, headers for the results.

    ``header`` gives patient, study, equipment and Frame of Reference attributes, verbatim from the
    map's first instance. ``map_headers`` (by metabolite) and ``anatomy_headers`` (by contrast) hold
    the source instances without pixels, slices ascending; both are empty for a case without DICOM.
    ``retakes`` counts how often results of it were withdrawn: later ones are other objects.
    """

    acquisition: Acquisition
    header: Dataset
    map_headers: Mapping[str, tuple[Dataset, ...]] = field(default_factory=dict)
    anatomy_headers: Mapping[str, tuple[Dataset, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    retakes: int = 0
