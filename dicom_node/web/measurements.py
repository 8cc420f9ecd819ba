"""Lesions and their figures, read from the Structured Report that left (TID 1500)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset

from dicom_node import codes
from dicom_node.errors import NotDicom

# Concept names of the standard (PS3.16 TID 1500, 1501, 1411), by code value and scheme.
_MEASUREMENTS, _GROUP = ("126010", "DCM"), ("125007", "DCM")
_TRACKING, _COMMENT = ("112039", "DCM"), ("121106", "DCM")
_DERIVATION, _METHOD = ("121401", "DCM"), ("370129005", "SCT")
COLUMNS = ("Mean", "Maximum", "Fifth percentile", "Median", "Ninety-fifth percentile")


@dataclass(frozen=True)
class Measured:
    """Figures of one map within one lesion, in ``unit``, by derivation (COLUMNS)."""

    map: str
    unit: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """What was said of one lesion map: assessment and remark in words, single figures, figures by map."""

    name: str
    assessment: str
    remark: str
    single: Sequence[tuple[str, float, str]]
    maps: Sequence[Measured]


def read_measurements(path: Path) -> list[Group]:
    """The report's groups, in its order. Raises NotDicom if the file is gone or is no such report."""
    try:
        report = pydicom.dcmread(path)
        groups = [
            _group(group)
            for container in _named(report.ContentSequence, _MEASUREMENTS)
            for group in _named(container.ContentSequence, _GROUP)
        ]
    except FileNotFoundError as e:
        raise NotDicom("the report has left the spool: its retention time is over") from e
    except (AttributeError, IndexError, pydicom.errors.InvalidDicomError) as e:
        raise NotDicom("the report cannot be read") from e
    return groups


def _group(group: Dataset) -> Group:
    items = list(group.ContentSequence)
    single: list[tuple[str, float, str]] = []
    by_map: dict[str, tuple[str, dict[str, float]]] = {}
    for item in items:
        if item.ValueType != "NUM":
            continue
        value = item.MeasuredValueSequence[0]
        unit = _unit(str(value.MeasurementUnitsCodeSequence[0].CodeValue))
        inner = list(item.get("ContentSequence") or ())
        derivation = next((_meaning(i) for i in _named(inner, _DERIVATION)), "")
        method = next((_meaning(i) for i in _named(inner, _METHOD)), "")
        if derivation:
            name = method.removeprefix("Value of the ").removesuffix(" map")
            by_map.setdefault(name, (unit, {}))[1][derivation] = float(value.NumericValue)
        else:
            single.append((_name(item), float(value.NumericValue), unit))
    tracked = next((str(i.TextValue) for i in _named(items, _TRACKING)), "")
    return Group(
        name=tracked.partition(" ")[2] or tracked,
        assessment=next((_meaning(i) for i in items if _is(i, _ASSESSMENT)), ""),
        remark=next((str(i.TextValue) for i in _named(items, _COMMENT)), ""),
        single=single,
        maps=[Measured(name, unit, figures) for name, (unit, figures) in by_map.items()],
    )


_ASSESSMENT = (codes.FINDING_ASSESSMENT.value, codes.FINDING_ASSESSMENT.scheme_designator)


def _named(items: Sequence[Dataset], code: tuple[str, str]) -> Iterator[Dataset]:
    return (i for i in items if _is(i, code))


def _is(item: Dataset, code: tuple[str, str]) -> bool:
    name = item.get("ConceptNameCodeSequence")
    return bool(name) and (str(name[0].CodeValue), str(name[0].CodingSchemeDesignator)) == code


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def _meaning(item: Dataset) -> str:
    return str(item.ConceptCodeSequence[0].CodeMeaning)


def _unit(code: str) -> str:
    return {"{ratio}": "", "1": "", "cm3": "mL"}.get(code, code.partition("{")[0])
