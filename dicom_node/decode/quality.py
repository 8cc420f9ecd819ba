"""Quality maps in the units that sr_core wants: CRLB in %, linewidth in ppm."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from dicom_node.series import text_of
from sr_core import Volume

_NOT_DETECTED_PERCENT = 999.0
_MHZ_PER_T = 42.577478  # proton gyromagnetic ratio / 2π
_UNSAID = (None, "", "1", "[arb'U]", "{ratio}")


def crlb_percent(
    bounds: Volume, unit: str | None, values: Volume, name: str, warnings: list[str]
) -> Volume | None:
    """CRLB in %, 999 where an absolute one meets a value of zero ("not detected").

    ``unit`` "%" and "absolute" (or the map's own unit) say what ``bounds`` are. Unsaid, a median of
    the positive ones in 1…999 means % (LCModel), below 1 an absolute standard deviation (FSL-MRS).
    """
    known = bounds[np.isfinite(bounds) & (bounds > 0) & (bounds < _NOT_DETECTED_PERCENT)]
    if unit == "%":
        return bounds
    if unit in _UNSAID:
        if not known.size:
            warnings.append(f"{name} left out: it holds no value between 0 and 999")
            return None
        median = float(np.median(known))
        if median >= 1:
            return bounds
        warnings.append(f"{name}: taken as absolute (its median is {median:.3g}), as no unit is stated")
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100 * bounds / np.abs(values)
    percent[(values == 0) | ~np.isfinite(percent)] = _NOT_DETECTED_PERCENT
    percent[~np.isfinite(bounds)] = np.nan
    return np.minimum(percent, _NOT_DETECTED_PERCENT, dtype=np.float32)


def linewidth_ppm(
    widths: Volume, unit: str | None, header: Dataset, name: str, warnings: list[str]
) -> Volume | None:
    """Linewidth in ppm; Hz is divided by the proton frequency in MHz. Unsaid, a median below 1 is ppm."""
    positive = widths[np.isfinite(widths) & (widths > 0)]
    if unit in _UNSAID:
        if not positive.size:
            warnings.append(f"{name} left out: it is empty")
            return None
        unit = "ppm" if float(np.median(positive)) < 1 else "Hz"
        warnings.append(f"{name}: taken as {unit}, as no unit is stated")
    if unit in ("ppm", "[ppm]"):
        return widths
    if unit != "Hz":
        warnings.append(f"{name} left out: its unit is {unit}, neither ppm nor Hz")
        return None
    mhz = frequency_mhz(header)
    if mhz is None:
        warnings.append(f"{name} left out: in Hz, and the header states neither field strength nor frequency")
        return None
    return np.asarray(widths / mhz, dtype=np.float32)


def frequency_mhz(header: Dataset) -> float | None:
    """Proton frequency: Imaging Frequency (0018,0084), else from Magnetic Field Strength (0018,0087)."""
    for keyword, factor in (("ImagingFrequency", 1.0), ("MagneticFieldStrength", _MHZ_PER_T)):
        stated = text_of(header, keyword)
        if stated:
            value = float(stated) * factor
            # some exporters state the field in gauss
            return value / 1e4 if keyword == "MagneticFieldStrength" and float(stated) > 100 else value
    return None
