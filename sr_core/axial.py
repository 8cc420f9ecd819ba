"""Networks are trained on axial planes: volumes go through them on the nearest-axial reformat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .grid import Grid
from .maps import Volume


def through_axial(values: Volume, grid: Grid, apply: Callable[[Volume], Volume]) -> Volume:
    """``apply`` on ``values`` turned so that slices are axial, rows to the back, columns to the left.

    Axes are swapped and flipped, nothing is interpolated; the result comes back as it was. The
    planes' orientation thus makes no difference to a network.
    """
    along = grid.affine[:3, :3] / np.array(grid.spacing_mm)  # columns: (slice, row, column) in LPS
    order: list[int] = []
    for patient in (2, 1, 0):  # head, back, left
        free = [a for a in range(3) if a not in order]
        order.append(max(free, key=lambda a: abs(along[patient, a])))
    flipped = tuple(i for i, (a, p) in enumerate(zip(order, (2, 1, 0), strict=True)) if along[p, a] < 0)
    turned = np.ascontiguousarray(np.flip(values.transpose(order), flipped))
    done = np.flip(apply(turned), flipped)
    return np.ascontiguousarray(done.transpose(np.argsort(order)))
