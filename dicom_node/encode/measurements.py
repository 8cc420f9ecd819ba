"""Figures of a lesion in a map: what Parametric Map and Segmentation give to whoever puts them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from dicom_node import codes
from sr_core import Lesion, Mask

from .production import MapToEncode, Production


@dataclass(frozen=True, eq=False)
class Figures:
    """Statistics of one map within one lesion, in the map's unit, by the code of their derivation."""

    map: MapToEncode
    values: Mapping[Code, float]


def figures(m: MapToEncode, voxels: NDArray[np.intp]) -> Figures:
    """Mean, maximum, median, 5th and 95th percentile (linear between ranks) of ``m`` at flat ``voxels``."""
    v = m.values.ravel()[voxels].astype(np.float64)
    p5, p50, p95 = (float(p) for p in np.percentile(v, [5, 50, 95]))
    values = {
        codes.MEAN: float(v.mean()),
        codes.MAXIMUM: float(v.max()),
        codes.PERCENTILE_5: p5,
        codes.MEDIAN: p50,
        codes.PERCENTILE_95: p95,
    }
    return Figures(m, values)


def figures_of(production: Production, lesion: Lesion) -> Iterator[Figures]:
    """Of ``lesion`` in every map, its own first."""
    voxels = np.flatnonzero(lesion.mask)
    for m in sorted(production.maps, key=lambda m: m.name != lesion.source):
        yield figures(m, voxels)


def volume_ml(production: Production, mask: Mask) -> float:
    """Volume of ``mask`` on the super-resolved grid, in mL."""
    return int(mask.sum()) * production.result.grid.voxel_volume_ml
