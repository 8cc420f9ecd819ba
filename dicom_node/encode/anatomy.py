"""The anatomy on the super-resolved grid: the series that maps and segmentations are laid over."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from dicom_node import codes
from dicom_node.errors import BadObject
from sr_core import AnatomicalImage, Contrast, SuperResolved

from .derived_mr import HIGHEST, decimal_scale, mr_series, stored_values
from .encoded import EncodedObject
from .planes import ParentSeries
from .production import ANATOMY_SERIES, Production, short_text
from .references import anatomy_sources

_BEST_FIRST = (Contrast.T1, Contrast.FLAIR)
# An MR image with at least this many grey levels is stored as it is.
_ENOUGH_LEVELS = 256


def anatomy_on_grid(result: SuperResolved) -> AnatomicalImage | None:
    """The T1, else FLAIR, of ``result``; None without anatomy. Raises BadObject if it is off
    the grid or not finite.
    """
    for contrast in _BEST_FIRST:
        for image in result.anatomy:
            if image.contrast == contrast:
                if not image.grid.same_as(result.grid):
                    raise BadObject(f"{contrast} of the result lies on another grid than its maps")
                if not np.isfinite(image.values).all():
                    raise BadObject(f"{contrast} of the result has values that are not finite")
                return image
    return None


def anatomy_series(
    production: Production, image: AnatomicalImage
) -> tuple[ParentSeries, Iterator[EncodedObject]]:
    """``image`` as a classic MR series, in arbitrary units."""
    headers = anatomy_sources(image.contrast, production.source)
    stored = stored_anatomy(image)

    def complete(d: Dataset) -> None:
        for keyword in ("RepetitionTime", "EchoTime", "EchoTrainLength", "FlipAngle"):
            if headers and headers[0].get(keyword) is not None:
                value = headers[0][keyword].value
                # A source may write more digits than its VR has room for (PS3.5 6.2).
                setattr(d, keyword, format_number_as_ds(float(value)) if len(str(value)) > 16 else value)

    registered = production.result.provenance.registration
    words = f"{image.contrast} resampled to the grid of the super-resolved maps; not acquired on it."
    return mr_series(
        production,
        role=f"MR anatomy {image.contrast}",
        number=production.series_number(ANATOMY_SERIES),
        tail=f"{image.contrast} on map grid",
        stored=stored,
        sources=headers,
        reach_mm=_reach_mm(production, image.contrast),
        derivation=codes.SPATIAL_RESAMPLING,
        words=short_text(f"{words} {registered or ''}"),
        complete=complete,
    )


def stored_anatomy(image: AnatomicalImage) -> NDArray[np.uint16]:
    """As it stands where it has levels enough, else times a power of ten."""
    highest = float(image.values.max())
    return stored_values(
        image.values, 1.0 if _ENOUGH_LEVELS <= highest <= HIGHEST else decimal_scale(highest)
    )


def _reach_mm(production: Production, contrast: Contrast) -> float:
    """How far a source plane may lie from a plane of ours to have given values to it."""
    original = production.source.acquisition.image_of(contrast)
    ours = production.result.grid
    if original is None or not production.result.lies_as_its_header_says(contrast):
        return math.inf  # after a motion positions do not compare: every plane may have
    return max(original.grid.spacing_mm[0], ours.spacing_mm[0])
