"""The gate for what is no image: reports are read back, and every figure is computed again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node import codes
from sr_core import Mask, Volume

from .defect import demand

_GROUP = "125007"  # Measurement Group
_SEGMENT = "121191"  # Referenced Segment
_DERIVATION = "121401"
_METHOD = "370129005"

_STATISTICS: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    codes.MEAN.value: lambda v: float(np.mean(v)),
    codes.MAXIMUM.value: lambda v: float(np.max(v)),
    codes.MEDIAN.value: lambda v: float(np.median(v)),
    codes.PERCENTILE_5.value: lambda v: float(np.quantile(v, 0.05)),
    codes.PERCENTILE_95.value: lambda v: float(np.quantile(v, 0.95)),
}
# Decimal strings of 16 characters keep more than this.
_RELATIVE = 1e-9


def check_report(
    d: Dataset, sent: Collection[str], values: Mapping[str, Volume], masks: Sequence[Mask]
) -> None:
    """Raises Defect unless ``d`` is an unverified TID 1500 report on objects ``sent`` before it.

    With the maps' ``values`` and the segments' ``masks``, each statistic is compared with its own.
    """
    demand(d.Modality == "SR", f"Modality is {d.Modality}, not SR")
    demand(d.VerificationFlag == "UNVERIFIED", "a report that nobody verified says it is verified")
    demand(d.ContentTemplateSequence[0].TemplateIdentifier == "1500", "not a report by TID 1500")
    groups = [i for i in _below(d) if i.ValueType == "CONTAINER" and _concept(i) == _GROUP]
    demand(bool(groups), "no measurement group: a report must say what was found, or that nothing was")
    evidence = {
        str(r.ReferencedSOPInstanceUID)
        for study in d.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for r in series.ReferencedSOPSequence
    }
    demand(evidence <= set(sent), "refers to an instance that is not sent before it")
    for item in _below(d):
        for r in item.get("ReferencedSOPSequence", ()):
            demand(
                str(r.ReferencedSOPInstanceUID) in evidence, "refers to an instance not among its evidence"
            )
    if masks:
        for group in groups:
            _check_group(group, values, masks)


def _check_group(group: Dataset, values: Mapping[str, Volume], masks: Sequence[Mask]) -> None:
    by_method = {codes.read_in(name).value: v for name, v in values.items()}
    segment = next((i for i in _below(group) if _concept(i) == _SEGMENT), None)
    for item in (i for i in _below(group) if i.ValueType == "NUM"):
        modifiers = {
            _concept(i): i.ConceptCodeSequence[0].CodeValue for i in _below(item) if i.ValueType == "CODE"
        }
        if _DERIVATION not in modifiers:
            continue
        demand(segment is not None, "a statistic of no segment")
        assert segment is not None
        number = int(segment.ReferencedSOPSequence[0].ReferencedSegmentNumber)
        demand(0 < number <= len(masks), f"refers to segment {number} of {len(masks)}")
        inside = by_method[modifiers[_METHOD]][masks[number - 1]].astype(np.float64)
        wanted = _STATISTICS[modifiers[_DERIVATION]](inside)
        written = float(item.MeasuredValueSequence[0].NumericValue)
        apart = abs(written - wanted)
        demand(
            apart <= _RELATIVE * max(abs(wanted), 1e-6),
            f"{modifiers[_METHOD]} is {written:g} in segment {number}, the map and the mask give {wanted:g}",
        )


def _below(item: Dataset) -> Iterator[Dataset]:
    """All content items under ``item``."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _below(child)


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence", ())
    return str(names[0].CodeValue) if names else ""
