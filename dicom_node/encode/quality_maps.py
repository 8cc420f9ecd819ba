"""Measured quality as Parametric Maps: CRLB, SNR and linewidth on the planes they were measured on.

Not super-resolved, not resampled: a number that nobody measured would look like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.sr.coding import Code

from dicom_node import codes
from sr_core import Acquisition, Volume

from .encoded import EncodedObject
from .parametric_map import Values, as_parametric_map, code_string
from .planes import parent_series
from .production import QUALITY_SERIES, Production, short_text

_NOT_DETERMINED_PERCENT = 999.0  # as LCModel writes it


@dataclass(frozen=True, eq=False)
class Measured:
    """One kind of quality on the acquired grid, finite; ``of`` is the map whose planes it lies on."""

    label: str
    values: Volume
    unit: Code
    quantity: Code
    explanation: str
    of: str


def measured(a: Acquisition) -> list[Measured]:
    """What quality came with the maps of ``a``: bounds map by map, then SNR and linewidth."""
    found = []
    for m in a.maps:
        if m.crlb_percent is not None:
            values = _finite(m.crlb_percent, _NOT_DETERMINED_PERCENT)
            words = f"CRLB of {m.metabolite}; 999: not determined"
            found.append(
                Measured(f"{m.metabolite} CRLB", values, codes.PERCENT, codes.CRLB, words, m.metabolite)
            )
    first = a.maps[0].metabolite
    if a.snr is not None:
        words = "Signal-to-noise ratio; 0: not determined"
        found.append(Measured("SNR", _finite(a.snr, 0.0), codes.NO_UNIT, codes.SNR, words, first))
    if a.linewidth_ppm is not None:
        words = "Linewidth (FWHM); 0: not determined"
        width = _finite(a.linewidth_ppm, 0.0)
        found.append(Measured("FWHM", width, codes.PPM, codes.LINEWIDTH, words, first))
    return found


def quality_maps(production: Production) -> Iterator[EncodedObject]:
    """Each kind of measured quality; nothing where the maps did not come as DICOM."""
    source = production.source
    for place, m in enumerate(measured(source.acquisition)):
        parent = parent_series(source.map_headers.get(m.of, ()), source.acquisition.grid)
        if parent is None:
            continue
        what = Values(
            values=m.values,
            inside=np.ones(m.values.shape, dtype=bool),
            words=short_text(f"{m.explanation}. As measured, on the acquired grid: not super-resolved."),
            unit=m.unit,
            quantity=m.quantity,
            label=m.label,
            title=f"{m.label} as measured",
            explanation=m.explanation,
            content_label=f"Q_{code_string(m.label)}",
            role=f"PM quality {re.sub('[^A-Za-z0-9]', ' ', m.label)}",
            series=QUALITY_SERIES + place,
            of=m.of,
        )
        yield as_parametric_map(production, what, parent)


def _finite(values: Volume, otherwise: float) -> Volume:
    return np.nan_to_num(values, nan=otherwise, posinf=otherwise, neginf=otherwise).astype(np.float32)
