"""LCModel's one-page tables and CSV files: text in, one voxel's quantities out.

Source: LCModel's own output (version 6.3): ``.table`` with its blocks $$CONC and $$MISC (manual, sections
4.3 and 5.2), ``.csv`` with "Row, Col, <name>, <name> %SD, <name>/Cr+PCr, …". A CSV knows neither FWHM nor
S/N. One voxel's file is called ``<name>_sl<slice>_<row>-<column>.<table or csv>`` (Oryx-MRSI,
GUI_MV_coordreader.m; SIVIC, svk_lcmodel_reader); without ``sl<slice>`` there is one slice.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import UnsuitableInput

Index = tuple[int, int, int]  # slice, row, column, each from 1

_VOXEL = re.compile(r"(?:(?:^|_)sl(?P<slice>\d+))?(?:^|_)(?P<row>\d+)-(?P<col>\d+)$", re.IGNORECASE)
_SLICE = re.compile(r"(?:^|_)sl(?P<slice>\d+)$", re.IGNORECASE)
_CONC = re.compile(r"^\s*([-+.\dEe]+)\s+(\d+)%\s+([-+.\dEe]+)\s*(\S+)\s*$")
_CONC_WITHOUT_RATIO = re.compile(r"^\s*([-+.\dEe]+)\s+(\d+)%\s+(\S+)\s*$")
_FWHM = re.compile(r"FWHM\s*=\s*([\d.Ee+-]+)\s*ppm")
_SN = re.compile(r"S/N\s*=\s*([\d.]+)")
_LARGEST = 16 * 1024**2  # bytes: a table has some 10 kB, a CSV of 64 × 64 voxels some 3 MB
SUFFIXES = frozenset({".table", ".tab", ".csv"})


@dataclass(frozen=True)
class Voxel:
    """What LCModel says of one voxel: (concentration, SD in %) by its own names; FWHM in ppm, S/N."""

    concentrations: Mapping[str, tuple[float, float]]
    fwhm_ppm: float | None = None
    snr: float | None = None


def tables(folder: Path) -> list[Path]:
    """The files of ``folder`` itself that are LCModel's, told by their names and first line."""
    if not folder.is_dir():
        return []
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
    return [p for p in found if p.name[0] != "." and _begins_as_ours(p)]


def _begins_as_ours(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            start = f.read(4096).decode("utf-8", "replace")
    except OSError:
        return False
    if path.suffix.lower() == ".csv":
        return bool(re.match(r"\s*Row\s*,\s*Col\s*,", start))
    return "LCModel" in start or "$$CONC" in start


def read_voxels(path: Path) -> Iterator[tuple[Index, Voxel]]:
    """The voxel of a table, or the voxels of a CSV. Raises UnsuitableInput naming file and line."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UnsuitableInput(f"{path.name} is larger than any table of LCModel ({_LARGEST >> 20} MB)")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise UnsuitableInput(f"{path.name} cannot be read: {e.strerror}") from e
    if path.suffix.lower() == ".csv":
        yield from _of_csv(path, text)
        return
    index = _index_in(path)
    if index is None:
        raise UnsuitableInput(
            f"{path.name} does not say which voxel it is of: its name should end in _sl<slice>_<row>-<column>"
        )
    yield index, _of_table(path, text)


def _index_in(path: Path) -> Index | None:
    match = _VOXEL.search(path.stem)
    return (int(match["slice"] or 1), int(match["row"]), int(match["col"])) if match else None


def _of_table(path: Path, text: str) -> Voxel:
    found: dict[str, tuple[float, float]] = {}
    _, mark, block = text.partition("$$CONC")
    for line in block.partition("$$")[0].splitlines()[1:]:
        match = _CONC.match(line) or _CONC_WITHOUT_RATIO.match(line)
        if match:
            found[match[match.lastindex or 3]] = (_number(match[1], path), float(match[2]))
    if not mark or not found:
        raise UnsuitableInput(
            f"{path.name} has no concentration table ($$CONC): did LCModel end in an error?"
        )
    fwhm, snr = _FWHM.search(text), _SN.search(text)
    return Voxel(found, _number(fwhm[1], path) if fwhm else None, _number(snr[1], path) if snr else None)


def _of_csv(path: Path, text: str) -> Iterator[tuple[Index, Voxel]]:
    lines = list(csv.reader(text.splitlines(), skipinitialspace=True))
    head = [name.strip() for name in lines[0]] if lines else []
    lower = [h.lower() for h in head]
    named, of_slice = _index_in(path), _SLICE.search(path.stem)
    which = int(of_slice["slice"]) if of_slice else named[0] if named else 1
    slices = next((lower.index(s) for s in ("slice", "sl") if s in lower), None)
    pairs = [
        (n, c, lower.index(f"{n} %sd".lower())) for c, n in enumerate(head) if f"{n} %sd".lower() in lower
    ]
    if not pairs:
        raise UnsuitableInput(f"{path.name} has no column pair “<metabolite>, <metabolite> %SD”")
    for number, row in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path.name} line {number}"
        if len(row) < len(head):
            raise UnsuitableInput(f"{where} has {len(row)} of {len(head)} columns: was the export cut off?")
        index = (
            which if slices is None else _whole(row[slices], where),
            _whole(row[lower.index("row")], where),
            _whole(row[lower.index("col")], where),
        )
        if named is not None and index != named and index != (named[0], 1, 1):
            raise UnsuitableInput(f"{where} says voxel {index}, and the file's name {named}: which is right?")
        values = {n: (_number(row[c], where), _number(row[s], where)) for n, c, s in pairs}
        yield (named or index), Voxel(values)


def _number(text: str, where: object) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnsuitableInput(f"{getattr(where, 'name', where)}: “{text.strip()}” is no number") from None


def _whole(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UnsuitableInput(f"{where}: “{text.strip()}” is no row, column or slice") from None
