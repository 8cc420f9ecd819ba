"""The gate for what is no image: figures of reports are computed again, motions are undone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node import codes
from sr_core import Mask, RigidMotion, Volume

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
_TURN = 1e-6  # cosines
_APART_MM = 1e-4


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
    _check_references(d, sent)
    if masks:
        for group in groups:
            _check_group(group, values, masks)


def check_selection(d: Dataset, sent: Collection[str]) -> None:
    """Raises Defect unless ``d`` is a Key Object Selection of objects ``sent`` before it."""
    demand(d.Modality == "KO", f"Modality is {d.Modality}, not KO")
    demand(any(i.ValueType == "IMAGE" for i in _below(d)), "selects nothing")
    _check_references(d, sent)


def check_presentation(d: Dataset, sent: Collection[str]) -> None:
    """Raises Defect unless ``d`` presents images ``sent`` before it, each named once, in colour."""
    demand(d.Modality == "PR", f"Modality is {d.Modality}, not PR")
    inputs = d.get("AdvancedBlendingSequence") or [d]
    series = [x for item in inputs for x in item.get("ReferencedSeriesSequence", [item])]
    named = [str(r.ReferencedSOPInstanceUID) for x in series for r in x.ReferencedImageSequence]
    demand(bool(named) and len(set(named)) == len(named), "presents nothing, or something twice")
    demand(set(named) <= set(sent), "refers to an instance that is not sent before it")
    palettes = [item.get("PaletteColorLookupTableSequence", [item])[0] for item in inputs]
    demand(all("RedPaletteColorLookupTableData" in p for p in palettes), "no colours")


def _check_references(d: Dataset, sent: Collection[str]) -> None:
    demand(check_evidence(d) <= set(sent), "refers to an instance that is not sent before it")


def check_evidence(d: Dataset) -> set[str]:
    """SOP Instance UIDs of the evidence of ``d``. Raises Defect if its content refers to any other."""
    evidence = {
        str(r.ReferencedSOPInstanceUID)
        for study in d.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for r in series.ReferencedSOPSequence
    }
    for item in _below(d):
        for r in item.get("ReferencedSOPSequence", ()):
            demand(
                str(r.ReferencedSOPInstanceUID) in evidence, "refers to an instance not among its evidence"
            )
    return evidence


def check_registration(d: Dataset, motions: Sequence[RigidMotion]) -> set[str]:
    """The Frames of Reference that ``d`` registers to the maps'. Raises Defect unless it is rigid.

    With ``motions`` of a result, each matrix must undo one of them, and each motion be undone.
    """
    demand(d.Modality == "REG", f"Modality is {d.Modality}, not REG")
    frames, matrices = set(), []
    for item in d.RegistrationSequence:
        named = str(item.get("FrameOfReferenceUID", ""))
        demand(bool(named or item.get("ReferencedImageSequence")), "a registration of nothing")
        (step,) = item.MatrixRegistrationSequence[0].MatrixSequence
        demand(step.FrameOfReferenceTransformationMatrixType == "RIGID", "a registration that is not rigid")
        m = np.array([float(x) for x in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
        turned = m[:3, :3]
        rigid = np.allclose(turned @ turned.T, np.eye(3), atol=_TURN) and np.linalg.det(turned) > 0
        demand(bool(rigid) and bool((m[3] == (0, 0, 0, 1)).all()), "a matrix that is no rigid motion")
        matrices.append(m)
        frames.add(named)
    wanted = [m.matrix for m in motions if m.matrix is not None]
    for matrix in wanted:
        undone = any(np.allclose(m @ matrix, np.eye(4), atol=_APART_MM) for m in matrices)
        demand(undone, "a motion of the anatomy is not undone by any matrix")
    demand(bool(matrices), "registers nothing")
    return frames - {""}


def _check_group(group: Dataset, values: Mapping[str, Volume], masks: Sequence[Mask]) -> None:
    by_method = {codes.read_in(name).value: v for name, v in values.items()}
    segment = next((i for i in _below(group) if _concept(i) == _SEGMENT), None)
    read: dict[str, NDArray[np.float64]] = {}
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
        method = modifiers[_METHOD]
        if method not in read:
            read[method] = by_method[method][masks[number - 1]].astype(np.float64)
        wanted = _STATISTICS[modifiers[_DERIVATION]](read[method])
        written = float(item.MeasuredValueSequence[0].NumericValue)
        apart = abs(written - wanted)
        demand(
            apart <= _RELATIVE * max(abs(wanted), 1e-6),
            f"{method} is {written:g} in segment {number}, the map and the mask give {wanted:g}",
        )


def _below(item: Dataset) -> Iterator[Dataset]:
    """All content items under ``item``."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _below(child)


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence", ())
    return str(names[0].CodeValue) if names else ""
