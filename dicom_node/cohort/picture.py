"""A case's picture: its lesion maps in one axial plane, beside the anatomy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.picture import Panel, contact_sheet
from sr_core import Grid, SuperResolved

_SHOWN = ("TCN", "HGG", "2HG")
_MARGIN = 4


def picture(result: SuperResolved, path: Path) -> None:
    """Write it. The plane is the one with most lesion, else with most brain; no text names the patient."""
    turn = _to_axial(result.grid)
    brain = turn(result.brain)
    lesions = {x.source: turn(x.mask) for x in result.lesion}
    where = next((m for m in lesions.values() if m.any()), brain)
    k = int(where.sum(axis=(1, 2)).argmax())
    box = _box(brain if brain.any() else np.ones_like(brain))
    volumes = {str(r.ratio): (r.values, r.unit) for r in result.ratios}
    volumes |= {str(m.metabolite): (m.values, m.unit) for m in result.maps}
    names = [n for n in _SHOWN if n in volumes] or list(volumes)[:3]
    row = [Panel(str(a.contrast), turn(a.values)[k][box]) for a in result.anatomy[:1]]
    for name in names:
        values, unit = volumes[name]
        seen = turn(values)
        high = float(np.percentile(seen[brain], 99.5)) if brain.any() else float(seen.max())
        outline = lesions[name][k][box] if name in lesions else None
        row.append(Panel(name, seen[k][box], (0.0, max(high, 1e-6)), str(unit), outline))
    contact_sheet([row], path, f"axial plane {k + 1} of {brain.shape[0]}")


def _to_axial(grid: Grid) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function that turns a volume so that its axes run nearest to (up, back, left)."""
    directions = [grid.normal, grid.column_direction, grid.row_direction]
    wanted = (2, 1, 0)  # S, P, L of patient LPS
    free = [0, 1, 2]
    order = []
    for world in wanted:
        axis = max(free, key=lambda a: abs(directions[a][world]))
        free.remove(axis)
        order.append(axis)
    flips = tuple(
        n for n, (world, axis) in enumerate(zip(wanted, order, strict=True)) if directions[axis][world] < 0
    )

    def turn(volume: NDArray[Any]) -> NDArray[Any]:
        return np.flip(np.transpose(volume, order), flips)

    return turn


def _box(brain: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(brain.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return (
        slice(max(int(rows[0]) - _MARGIN, 0), int(rows[-1]) + _MARGIN + 1),
        slice(max(int(columns[0]) - _MARGIN, 0), int(columns[-1]) + _MARGIN + 1),
    )
