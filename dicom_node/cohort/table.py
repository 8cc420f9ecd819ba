"""A cohort's table: one row for each map of each case, as CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from .solve import PERCENTILES

_TEXT = ("subject", "session", "map", "unit")
_NUMBERS = (
    "mean",
    "max",
    *(f"p{p:02d}" for p in PERCENTILES),
    "lesion_volume_ml",
    "lesion_mean",
    "lesion_max",
    "lesion_p10",
    "lesion_p90",
    "lesion_threshold",
    "rejected_share",
    "rejected_fraction",
    "inpainted_fraction",
    "novelty",
)
_MADE = ("method", "model_hash", "settings_hash", "software", "warnings")
COLUMNS = (*_TEXT, *_NUMBERS, *_MADE)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(rows: Sequence[Mapping[str, Any]], folder: Path) -> tuple[Path, Path]:
    """``cohort.csv`` and ``cohort.parquet``; each appears whole. Returns the paths."""
    types = [(c, pyarrow.float64() if c in _NUMBERS else pyarrow.string()) for c in COLUMNS]
    columns = {c: [r.get(c) for r in rows] for c in COLUMNS}
    arrow = pyarrow.table(columns, schema=pyarrow.schema(types))
    part = folder / ".cohort.parquet.part"
    pyarrow.parquet.write_table(arrow, part)
    part.replace(folder / "cohort.parquet")
    write_csv(folder / "cohort.csv", COLUMNS, rows)
    return folder / "cohort.csv", folder / "cohort.parquet"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file whose text no spreadsheet takes for a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(r.get(c)) for c in columns] for r in rows)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.getvalue(), encoding="utf-8", newline="")
    part.replace(path)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
