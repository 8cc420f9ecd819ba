"""The gate for pictures."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from .defect import demand


def check_capture(d: Dataset) -> None:
    """Raises Defect unless ``d`` is an RGB picture of 8 bit with something on it that names nobody."""
    demand((d.SamplesPerPixel, d.PhotometricInterpretation) == (3, "RGB"), "not RGB")
    demand((d.BitsAllocated, d.BitsStored, d.PlanarConfiguration) == (8, 8, 0), "not 8 bit, colour by pixel")
    size = int(d.Rows) * int(d.Columns) * 3
    demand(len(d.PixelData) == size + size % 2, f"{len(d.PixelData)} bytes in {d.Rows} x {d.Columns} pixels")
    demand(bool(np.ptp(np.frombuffer(d.PixelData, np.uint8)) > 0), "a picture of nothing")
    demand(d.ConversionType == "WSD", f"Conversion Type is {d.ConversionType}, not WSD")
    demand(d.BurnedInAnnotation == "NO", "says that a patient is named on it")
