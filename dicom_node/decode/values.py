"""Stored pixels to real values: real world value mapping, else rescale, else as stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.errors import UnsuitableInput

Step = Literal["rwvm", "rescale", "stored"]
Values = NDArray[np.float64]

# Bytes that a codestream may become without being asked how; beyond, so many times its own length. An empty
# image packs well: a hundredfold by run lengths, more by JPEG-LS or JPEG 2000.
_FREE_BYTES = 256 * 1024**2
_MOST_PACKED = 1000


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane's real values, where they came from, and how many lay outside the mapping's range."""

    values: Values
    step: Step
    outside: int


def pixels(instance: Dataset, what: str) -> NDArray[np.generic]:
    """All frames of an instance as stored, (frame, row, column); any transfer syntax we can decode.

    Raises UnsuitableInput if there are no pixels, or they cannot be decoded, or cannot be as many as it says.
    """
    _require_plausible(instance, what)
    try:
        stored = np.asarray(instance.pixel_array)
    except Exception as e:  # decoders raise what they like: a broken codestream is the sender's defect
        raise UnsuitableInput(f"{what}: its pixels cannot be decoded: {e}") from e
    if stored.ndim not in (2, 3):
        raise UnsuitableInput(f"{what}: pixels of shape {stored.shape} are no grey image")
    return stored[np.newaxis] if stored.ndim == 2 else stored


def _require_plausible(instance: Dataset, what: str) -> None:
    """Decoders make room for what the header claims, whatever the codestream holds."""
    try:
        rows, columns, frames = (int(instance.get(k) or 1) for k in ("Rows", "Columns", "NumberOfFrames"))
        claimed = rows * columns * frames * int(instance.get("BitsAllocated") or 8) // 8
        held = len(instance.get("PixelData") or b"")
    except (TypeError, ValueError) as e:
        raise UnsuitableInput(f"{what}: how many pixels it has cannot be read") from e
    if claimed > max(_FREE_BYTES, _MOST_PACKED * held) and held:
        raise UnsuitableInput(
            f"{what}: says that it has {rows} × {columns} × {frames} pixels, far more than it holds"
        )


def frame_values(
    stored: NDArray[np.generic], header: Dataset, groups: Sequence[Dataset], order: Sequence[Step]
) -> Frame:
    """Real values of one frame; padding and what lies outside a mapping is NaN.

    The first of ``order`` that the header offers is applied: Real World Value Mapping (PS3.3
    C.7.6.16.2.11; slope and intercept, or table), Modality/Pixel Value Transformation, or neither.
    """
    padding = _padding(stored, header)
    for step in order:
        if step == "rwvm":
            mapped = _real_world(stored, header, groups)
            if mapped is not None:
                outside = int((np.isnan(mapped) & ~padding & np.isfinite(stored.astype(np.float64))).sum())
                mapped[padding] = np.nan
                return Frame(mapped, step, outside)
        elif step == "rescale":
            scaling = next((i for i in _items(header, groups, _RESCALE) if _scaled(i)), None)
            scaling = header if scaling is None and _scaled(header) else scaling
            if scaling is not None:
                slope, intercept = float(scaling.RescaleSlope), float(scaling.get("RescaleIntercept") or 0)
                values = stored.astype(np.float64) * slope + intercept
                values[padding] = np.nan
                return Frame(values, step, 0)
    values = stored.astype(np.float64)
    values[padding] = np.nan
    return Frame(values, "stored", 0)


_RESCALE = "PixelValueTransformationSequence"
_MAPPING = "RealWorldValueMappingSequence"


def _scaled(item: Dataset) -> bool:
    return item.get("RescaleSlope") not in (None, "")


def _items(header: Dataset, groups: Sequence[Dataset], keyword: str) -> Iterator[Dataset]:
    for group in (*groups, header):
        yield from group.get(keyword) or ()


def _real_world(stored: NDArray[np.generic], header: Dataset, groups: Sequence[Dataset]) -> Values | None:
    for item in _items(header, groups, _MAPPING):
        first, last = _range(item, np.issubdtype(stored.dtype, np.floating))
        x = stored.astype(np.float64)
        if item.get("RealWorldValueLUTData") is not None:
            table = np.atleast_1d(np.asarray(item.RealWorldValueLUTData, dtype=np.float64))
            index = x - float(item.get("RealWorldValueFirstValueMapped") or 0)
            inside = (index >= 0) & (index < len(table))
            values = np.full(stored.shape, np.nan)
            values[inside] = table[index[inside].astype(np.intp)]
            return values
        if item.get("RealWorldValueSlope") is not None:
            values = x * float(item.RealWorldValueSlope) + float(item.get("RealWorldValueIntercept") or 0)
            if first is not None and last is not None:
                values[(x < first) | (x > last)] = np.nan
            return values
    return None


def _range(item: Dataset, floating: bool) -> tuple[float | None, float | None]:
    """First and last value mapped. An empty range, or a whole-number one over float pixels, is a
    placeholder that some writers (dcmqi) leave, and limits nothing."""
    kinds = ("DoubleFloatRealWorldValue",) if floating else ("RealWorldValue", "DoubleFloatRealWorldValue")
    for kind in kinds:
        first, last = item.get(f"{kind}FirstValueMapped"), item.get(f"{kind}LastValueMapped")
        if first is not None and last is not None and float(last) > float(first):
            return float(first), float(last)
    return None, None


def _padding(stored: NDArray[np.generic], header: Dataset) -> NDArray[np.bool_]:
    """Where Pixel Padding Value (or its range, or its float forms) says that nothing was measured."""
    for kind in ("", "Float", "DoubleFloat"):
        value = header.get(f"{kind}PixelPaddingValue")
        if value is None:
            continue
        limit = header.get(f"{kind}PixelPaddingRangeLimit")
        ends = sorted((float(value), float(value if limit is None else limit)))
        return np.asarray((stored >= ends[0]) & (stored <= ends[1]))  # type: ignore[operator]
    return np.zeros(stored.shape, dtype=np.bool_)
