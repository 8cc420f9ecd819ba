"""Secondary Capture: what every picture of ours is as an object (PS3.3 A.8.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from .headers import common_header
from .production import Production


def secondary_capture(production: Production, words: str) -> Dataset:
    """What all pictures share; identity, pixels and geometry are still to come.

    Burned In Annotation is NO: what is drawn – map, unit, limits, orientation, versions – identifies
    neither patient nor date (C.7.6.1, table C.7-9). Nothing is said of Recognizable Visual Features:
    slices over a whole head may show a face.
    """
    d = common_header(production)
    d.SOPClassUID = SecondaryCaptureImageStorage
    d.ConversionType = "WSD"
    d.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    d.BurnedInAnnotation = "NO"
    del d.RecognizableVisualFeatures
    d.DateOfSecondaryCapture, d.TimeOfSecondaryCapture = d.ContentDate, d.ContentTime
    d.DerivationDescription = words
    d.SamplesPerPixel = 3
    d.PhotometricInterpretation = "RGB"
    d.PlanarConfiguration = 0
    d.BitsAllocated = d.BitsStored = 8
    d.HighBit = 7
    d.PixelRepresentation = 0
    d.LossyImageCompression = "00"
    return d


def set_pixels(d: Dataset, picture: NDArray[np.uint8]) -> None:
    """``picture`` (row, column, RGB) as the pixels of ``d``."""
    d.Rows, d.Columns = picture.shape[:2]
    pixels = picture.tobytes()
    d.PixelData = pixels + b"\0" * (len(pixels) % 2)
    d["PixelData"].VR = "OB"
