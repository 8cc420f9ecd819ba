"""Lesser forms of an object, for a peer that refuses the full one: same content, less demanding to keep."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ParametricMapStorage,
)

from dicom_node.errors import BadObject
from dicom_node.uids import result_uid

from .headers import file_meta
from .production import long_string, short_text

_HIGHEST = 65535  # largest stored value, 16 bit without sign

# Enhanced SR IOD, table A.35.2-2: relationship -> from which kinds of content item to which.
_ANY = frozenset({"*"})
_PLAIN = frozenset({"TEXT", "CODE", "NUM", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME"})
_EVIDENCE = _PLAIN | {"SCOORD", "TCOORD", "COMPOSITE", "IMAGE", "WAVEFORM"}
_STATEMENTS = frozenset({"TEXT", "CODE", "NUM"})
_ENHANCED = {
    "CONTAINS": ({"CONTAINER"}, _EVIDENCE | {"CONTAINER"}),
    "HAS OBS CONTEXT": ({"CONTAINER"}, _PLAIN | {"COMPOSITE"}),
    "HAS ACQ CONTEXT": ({"CONTAINER", "IMAGE", "WAVEFORM", "COMPOSITE", "NUM"}, _PLAIN | {"CONTAINER"}),
    "HAS CONCEPT MOD": (_ANY, {"TEXT", "CODE"}),
    "HAS PROPERTIES": (_STATEMENTS | {"PNAME"}, _EVIDENCE),
    "INFERRED FROM": (_STATEMENTS, _EVIDENCE),
    "SELECTED FROM": ({"SCOORD", "TCOORD"}, {"SCOORD", "IMAGE", "WAVEFORM"}),
}


def lesser_form(d: Dataset) -> Dataset | None:
    """The next form down from ``d``, as an object of its own; None where there is none.

    Parametric Map in floats -> in 16 bit; Comprehensive 3D SR -> Comprehensive SR -> Enhanced SR. Its
    instance and series UIDs are derived from those of ``d``, so that both forms may lie in one archive.
    ``d`` itself stays as it is, and must hold its pixels. Raises BadObject if values do not survive.
    """
    if d.SOPClassUID == ParametricMapStorage and "FloatPixelData" in d:
        return _in_16_bit(d)
    if d.SOPClassUID == Comprehensive3DSRStorage:
        return _report(d, ComprehensiveSRStorage)
    if d.SOPClassUID == ComprehensiveSRStorage:
        return _report(d, EnhancedSRStorage)
    return None


def own_copy(d: Dataset, sop_class: str, form: str) -> Dataset:
    """A copy of ``d`` under an identity of its own, which names the ``form``."""
    out = Dataset()
    out.update(copy.deepcopy(d))
    out.SOPClassUID = sop_class
    out.SOPInstanceUID = result_uid(f"form {form}", str(d.SOPInstanceUID))
    out.SeriesInstanceUID = result_uid(f"form {form}", str(d.SeriesInstanceUID))
    tail = f" ({form})"
    out.SeriesDescription = long_string(str(d.get("SeriesDescription", "")))[: 64 - len(tail)].rstrip() + tail
    out.file_meta = file_meta(out)
    return out


def _in_16_bit(d: Dataset) -> Dataset:
    """real value = stored × slope + intercept, to half a slope (PS3.3 C.8.32.2, C.7.6.16.2.11)."""
    values = np.frombuffer(d.FloatPixelData, "<f4").astype(np.float64)
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise BadObject("16-bit form: values that are not finite")
    intercept = min(lowest, 0.0)  # zero is background, and stays exactly zero where nothing is below it
    slope = (highest - intercept) / _HIGHEST or 1.0
    stored = np.rint((values - intercept) / slope).astype("<u2")
    off = float(np.abs(stored * slope + intercept - values).max())
    if not off <= slope / 2 * (1 + 1e-6):
        raise BadObject(f"16-bit form: a value is off by {off:g}, over half a step of {slope:g}")

    out = own_copy(d, ParametricMapStorage, "16 bit")
    del out.FloatPixelData
    out.PixelData = stored.tobytes()
    out["PixelData"].VR = "OW"
    out.BitsAllocated = out.BitsStored = 16
    out.HighBit = 15
    out.PixelRepresentation = 0
    said = f"Stored in 16 bit: values are off by up to {slope / 2:.2g}."
    out.DerivationDescription = short_text(f"{said} {d.get('DerivationDescription', '')}")
    groups = [out.SharedFunctionalGroupsSequence[0], *out.PerFrameFunctionalGroupsSequence]
    for mapping in _items(groups, "RealWorldValueMappingSequence"):
        map_integers(mapping, slope, intercept)
    for window in _items(groups, "FrameVOILUTSequence"):
        window.WindowCenter = f"{(float(window.WindowCenter) - intercept) / slope:.10g}"
        window.WindowWidth = f"{float(window.WindowWidth) / slope:.10g}"
    return out


def map_integers(mapping: Dataset, slope: float, intercept: float = 0.0) -> None:
    """``mapping`` becomes one of stored values in 16 bit without sign (PS3.3 C.7.6.16.2.11)."""
    for keyword in ("First", "Last"):
        attribute = f"DoubleFloatRealWorldValue{keyword}ValueMapped"
        if attribute in mapping:
            del mapping[attribute]
    mapping.add_new("RealWorldValueFirstValueMapped", "US", 0)
    mapping.add_new("RealWorldValueLastValueMapped", "US", _HIGHEST)
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, intercept


def _items(groups: Iterable[Dataset], keyword: str) -> Iterable[Dataset]:
    for group in groups:
        yield from group.get(keyword, ())


def _report(d: Dataset, sop_class: str) -> Dataset:
    """``d`` without what ``sop_class`` has no room for.

    References between content items are dropped: they count positions, which may have moved.
    """
    out = own_copy(d, sop_class, "enhanced" if sop_class == EnhancedSRStorage else "comprehensive")
    _prune(out, enhanced=sop_class == EnhancedSRStorage)
    return out


def _prune(item: Dataset, enhanced: bool) -> None:
    kept = []
    for child in item.get("ContentSequence", ()):
        kind = str(child.get("ValueType", ""))
        if not kind or kind == "SCOORD3D" or (enhanced and not _allowed(str(item.ValueType), child)):
            continue
        _prune(child, enhanced)
        kept.append(child)
    if kept:
        item.ContentSequence = kept
    elif "ContentSequence" in item:
        del item.ContentSequence


def _allowed(parent: str, child: Dataset) -> bool:
    sources, targets = _ENHANCED.get(str(child.RelationshipType), (frozenset(), frozenset()))
    return ("*" in sources or parent in sources) and str(child.ValueType) in targets
