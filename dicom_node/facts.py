"""The few header facts that are kept with an instance's row, so that nobody opens its file to judge a study.

They are what counts (numbers of images, frames, temporal positions, stacks, concatenations) and what tells
one series from another. No name or birth date of a patient is among them. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items

Facts = Mapping[str, Any]

# What counts (PS3.3 C.7.6.1, C.7.6.2.1, C.7.6.16, C.7.3.1) and when, one value each.
_COUNTING = (
    "InstanceNumber",
    "AcquisitionNumber",
    "AcquisitionUID",
    "ImagesInAcquisition",
    "NumberOfFrames",
    "NumberOfTemporalPositions",
    "TemporalPositionIdentifier",
    "StackID",
    "InStackPositionNumber",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "NumberOfSeriesRelatedInstances",
    "NumberOfStudyRelatedInstances",
    "StudyDate",
)
# What identification and the rules of a site look at.
_TELLING = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "StationName",
    "InstitutionName",
    "ImageType",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "SequenceName",
    "ImageComments",
    "ContentLabel",
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "EchoTime",
    "InversionTime",
    "MRAcquisitionType",
    "ContrastBolusAgent",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "SeriesDate",
    "SeriesTime",
    "StudyTime",
)
_CODE = dict.fromkeys(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
# Sequence -> what is kept of its items; None is a plain value.
_Shape = Mapping[str, Any]
_MAPPING: _Shape = {
    "LUTLabel": None,
    "MeasurementUnitsCodeSequence": _CODE,
    "QuantityDefinitionSequence": {"ConceptNameCodeSequence": _CODE, "ConceptCodeSequence": _CODE},
}
_METABOLITE: _Shape = {"MetaboliteMapDescription": None, "MetaboliteMapCodeSequence": _CODE}
_GROUPS: _Shape = {
    "RealWorldValueMappingSequence": _MAPPING,
    "MRMetaboliteMapSequence": _METABOLITE,
    "PixelMeasuresSequence": dict.fromkeys(("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")),
    "MREchoSequence": {"EffectiveEchoTime": None},
    "MRModifierSequence": {"InversionTimes": None},
    "FrameContentSequence": {"FrameLabel": None, "StackID": None},
}
_SEQUENCES: _Shape = {
    "RealWorldValueMappingSequence": _MAPPING,
    "MRMetaboliteMapSequence": _METABOLITE,
    "SharedFunctionalGroupsSequence": _GROUPS,
    "PerFrameFunctionalGroupsSequence": _GROUPS,
}
_SHAPE: _Shape = {**dict.fromkeys((*_COUNTING, *_TELLING)), **_SEQUENCES}
_BY_TAG = {int(tag_for_keyword(k) or 0): (k, shape, dictionary_VR(k)) for k, shape in _SHAPE.items()}
# One value, or several between backslashes; the ASCII ones need none of pydicom's care.
_SEVERAL = frozenset({"CS", "LO", "SH", "UI", "DA", "TM", "DT", "IS", "DS"})
_NUMBER = {"IS": int, "DS": float}
_ESCAPE = b"\x1b"
# What a reader of headers must hold for the facts to be whole.
SEQUENCES = frozenset(int(tag_for_keyword(k) or 0) for k in _SEQUENCES)
# Spectra betray themselves by these (Spectroscopy Data; Siemens' CSA data and its type).
_PRESENT = {"56000020": 0x56000020, "7FE11010": 0x7FE11010}
_CSA_DATA_TYPE = 0x00291008

# A hostile header does not fill the store.
_LONGEST_TEXT = 200
_MOST_VALUES = 16
_MOST_ITEMS = 64


def facts_of(header: Dataset) -> str:
    """The facts of one instance as JSON: keyword -> value, items of sequences as objects.

    Frames that say the same are told once; where frames lie in their stacks is kept beside them.
    """
    kept: dict[str, Any] = {}
    for tag in header.keys() & _BY_TAG.keys():
        keyword, shape, vr = _BY_TAG[int(tag)]
        value = _quickly(header.get_item(tag), vr)
        if value is None:
            value = _kept(header, keyword, shape)
        if value not in (None, "", []):
            kept[keyword] = value
    for name, present in _PRESENT.items():
        if present in header:
            kept[name] = ""
    if _CSA_DATA_TYPE in header:
        kept["00291008"] = _plain(header[_CSA_DATA_TYPE].value)
    if stacks := _stacks(header):
        kept["stacks"] = stacks
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def read_facts(text: str | None) -> Facts:
    """What ``facts_of`` wrote; nothing for an instance that was kept before there were facts."""
    facts: Facts = json.loads(text) if text else {}
    return facts


def header_of(facts: Facts) -> Dataset:
    """A header as far as the facts go: enough to identify a series by.

    A value that is not what its value representation demands is left out: never raises over one.
    """
    header = Dataset()
    for keyword, value in facts.items():
        if keyword in _PRESENT:
            header.add_new(_PRESENT[keyword], "OB", b"")
        elif keyword == "00291008":
            header.add_new(_CSA_DATA_TYPE, "CS", value)
        elif keyword in _SHAPE:
            _set(header, keyword, value)
    return header


def number_in(facts: Facts, keyword: str) -> int | None:
    """A whole number among the facts; None if it is absent or is none."""
    try:
        return int(facts[keyword])
    except (KeyError, TypeError, ValueError):
        return None


def text_in(facts: Facts, keyword: str) -> str:
    """A text among the facts, "" if absent."""
    return str(facts.get(keyword, "")).strip()


def _quickly(element: object, vr: str) -> Any:
    """The value of an element that is still as read and plain ASCII; None for any other."""
    if not isinstance(element, RawDataElement) or vr not in _SEVERAL or not element.value:
        return None
    if not element.value.isascii() or _ESCAPE in element.value:
        return None
    words = [v.strip(" \0") for v in element.value.decode("ascii").split("\\")[:_MOST_VALUES]]
    try:
        values = [_NUMBER[vr](v) for v in words] if vr in _NUMBER else [v[:_LONGEST_TEXT] for v in words]
    except ValueError:
        return None
    return values[0] if len(values) == 1 else values


def _kept(item: Dataset, keyword: str, shape: _Shape | None) -> Any:
    try:
        value = item.get(keyword)
        return _plain(value) if shape is None else _distinct(value or (), shape)
    except Exception:  # whatever pydicom raises over an untrusted value: then it is not known
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, (list, MultiValue)):
        return [_plain(v) for v in value[:_MOST_VALUES]]
    if value is None or isinstance(value, bytes):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)[:_LONGEST_TEXT]


def _distinct(items: Iterable[Dataset], shape: _Shape) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        one = {
            keyword: value
            for keyword, inner in shape.items()
            if keyword in item and (value := _kept(item, keyword, inner)) not in (None, "", [])
        }
        if one and one not in found:
            found.append(one)
            if len(found) == _MOST_ITEMS:
                break
    return found


def _stacks(header: Dataset) -> dict[str, list[int]]:
    """In-Stack Position Numbers of a multi-frame instance by Stack ID (PS3.3 C.7.6.16.2.2)."""
    found: dict[str, set[int]] = {}
    try:
        for groups in header.get("PerFrameFunctionalGroupsSequence") or ():
            for content in groups.get("FrameContentSequence") or ():
                if "StackID" in content and "InStackPositionNumber" in content:
                    found.setdefault(str(content.StackID)[:16], set()).add(int(content.InStackPositionNumber))
    except Exception:  # as above
        return {}
    return {stack: sorted(places) for stack, places in found.items()}


def _set(item: Dataset, keyword: str, value: Any) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    if isinstance(value, list) and value and isinstance(value[0], dict):
        inner = Items()
        for one in value:
            inner.append(Dataset())
            for k, v in one.items():
                _set(inner[-1], k, v)
        item.add_new(tag, "SQ", inner)
        return
    try:
        item.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    except Exception:  # whatever pydicom raises over an untrusted value ("5,0" as a decimal string)
        return
