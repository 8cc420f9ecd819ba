"""Derived MR series: a map as a classic 16-bit MR series on its grid, which every PACS shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage

from dicom_node import codes
from sr_core import Mask, Unit, Volume

from .encoded import EncodedObject
from .headers import common_header, file_meta, identify, series_uid
from .planes import ParentSeries, Reference, reference_to
from .production import DERIVED_MR_SERIES, MapToEncode, Production, display_window
from .references import Nearby, map_sources, source_item

HIGHEST = 65535  # largest stored value, 16 bit without sign
# Thousandths are what people expect to divide by; finer only where a map is all below one.
_USUAL_SCALE = 1000.0


def decimal_scale(highest: float) -> float:
    """The power of ten that ``highest`` is multiplied with to be stored in 16 bit without sign.

    1000 wherever it fits and leaves at least 1000 steps; otherwise the largest that fits.
    """
    if highest <= 0 or (highest >= 1.0 and highest * _USUAL_SCALE <= HIGHEST):
        return _USUAL_SCALE
    return float(10.0 ** math.floor(math.log10(HIGHEST / highest)))


def ratio_scale(highest: float) -> float:
    """As ``decimal_scale``, for ratios: 1000 whenever it fits, so that all patients read alike."""
    return _USUAL_SCALE if highest * _USUAL_SCALE <= HIGHEST else decimal_scale(highest)


def scale_of(m: MapToEncode) -> float:
    """The factor between values of ``m`` and what is stored."""
    highest = float(m.values.max())
    return ratio_scale(highest) if m.unit == Unit.RATIO else decimal_scale(highest)


def stored_values(values: Volume, scale: float) -> NDArray[np.uint16]:
    """round(value × scale) as uint16; negative values are stored as 0."""
    stored = np.rint(np.clip(values, 0, None).astype(np.float64) * scale)
    return np.asarray(stored.astype(np.uint16))


def scale_words(scale: float) -> str:
    """ "x1000", "x0.01": how the series description names the factor."""
    return f"x{scale:g}" if scale < 1e6 else f"x1e{round(math.log10(scale))}"


def derived_mr_series(
    production: Production, m: MapToEncode, number_in_block: int
) -> tuple[ParentSeries, Iterator[EncodedObject]]:
    """The derived MR series of ``m``, slices ascending, and what later objects need to lie on it."""
    scale = scale_of(m)
    remarks = [f"Stored value = {m.label} x {scale:g}."]
    if float(m.values.min()) < 0:
        remarks.append("Negative values are stored as 0.")
    stored = stored_values(m.values, scale)

    def complete(d: Dataset) -> None:
        d.RealWorldValueMappingSequence = [
            hd.pm.RealWorldValueMapping(
                lut_label=m.name,
                lut_explanation=m.explanation,
                unit=codes.unit(m.unit),
                value_range=(0, HIGHEST),
                slope=1.0 / scale,
                intercept=0.0,
                quantity_definition=m.quantity,
            )
        ]

    return mr_series(
        production,
        role=f"MR {m.name}",
        number=production.series_number(DERIVED_MR_SERIES + number_in_block),
        tail=f"{m.label} {scale_words(scale)}",
        stored=stored,
        sources=map_sources(m.name, production.source),
        reach_mm=production.source.acquisition.grid.spacing_mm[0],
        derivation=codes.METABOLITE_MAPS_FROM_SPECTROSCOPY,
        words=production.derivation(f"{m.label} map", *remarks),
        complete=complete,
    )


def mr_series(
    production: Production,
    *,
    role: str,
    number: int,
    tail: str,
    stored: NDArray[np.uint16],
    sources: Sequence[Dataset],
    reach_mm: float,
    derivation: Code,
    words: str,
    complete: Callable[[Dataset], None],
) -> tuple[ParentSeries, Iterator[EncodedObject]]:
    """A classic MR Image series (PS3.3 A.4) of ``stored`` on the result's grid.

    Each instance refers to those ``sources`` whose plane lies within ``reach_mm`` of its own.
    ``complete`` adds what is particular to the series.
    """
    planes, grid = production.planes, production.result.grid
    uid = series_uid(production, role)
    base = _base(production, stored, production.result.brain, derivation, words)
    complete(base)
    items = {id(h): source_item(reference_to(h), codes.SOURCE_IMAGE, same_place=False) for h in sources}

    nearby = Nearby(sources, grid.normal)

    def instances() -> Iterator[EncodedObject]:
        for k, position in enumerate(planes.positions):
            d = Dataset()
            d.update(base)
            identify(d, production, role, series_uid=uid, instance=k + 1, number=number, tail=tail)
            d.ImagePositionPatient = list(position)
            d.SliceLocation = f"{np.dot(grid.to_patient((k, 0, 0)), grid.normal):.6f}"
            close = nearby.within(grid.to_patient((k, 0, 0)), reach_mm)
            if close:
                d.SourceImageSequence = [items[id(h)] for h in close]
            d.PixelData = stored[k].tobytes()
            d.file_meta = file_meta(d)
            yield EncodedObject(d, "MR", f"{role.replace(' ', '_')}_{k + 1:04d}")

    references = tuple(
        Reference(MRImageStorage, production.uid(f"instance {role}", str(k + 1)), uid, production.study_uid)
        for k in range(len(planes.positions))
    )
    return ParentSeries(planes, references), instances()


def _base(
    production: Production, stored: NDArray[np.uint16], brain: Mask, derivation: Code, words: str
) -> Dataset:
    """What all slices of a series share."""
    planes, source = production.planes, production.source.header
    d = common_header(production)
    for keyword in ("AcquisitionDate", "AcquisitionTime", "MagneticFieldStrength", "ImagedNucleus"):
        if source.get(keyword) is not None:
            d.add(source[keyword])
    d.PatientPosition = source.get("PatientPosition", "") or ""
    d.ImageOrientationPatient = list(planes.orientation)
    d.PixelSpacing = list(planes.pixel_spacing)
    d.SliceThickness = d.SpacingBetweenSlices = planes.slice_spacing
    d.Rows, d.Columns = planes.rows, planes.columns
    become_classic(d)
    centre, width = display_window(stored, brain)
    d.WindowCenter, d.WindowWidth = f"{centre:.6g}", f"{width:.6g}"

    d.DerivationDescription = words
    d.DerivationCodeSequence = [codes.item(derivation)]
    return d


def become_classic(d: Dataset) -> None:
    """What every derived MR image says of itself (PS3.3 A.4, C.8.3.1): computed, 16 bit without sign."""
    d.SOPClassUID = MRImageStorage
    d.Modality = "MR"
    d.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    d.ScanningSequence = "RM"
    d.SequenceVariant = "NONE"
    d.ScanOptions = ""
    d.MRAcquisitionType = "3D"
    d.RepetitionTime = d.EchoTime = d.EchoTrainLength = None
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit = 15
    d.PixelRepresentation = 0
