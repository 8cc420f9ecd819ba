"""Networks are trained on axial planes: volumes go through them on the nearest-axial reformat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .grid import Grid
from .maps import Volume

Apply = Callable[[Volume, list[Volume | None]], Volume]


def through_axial(values: Volume, images: Sequence[Volume | None], grid: Grid, apply: Apply) -> Volume:
    """``apply`` on ``values`` and ``images`` turned so that slices are axial, rows to the back, columns to
    the left.

    Axes are swapped and flipped, nothing is interpolated; the result comes back as it was. The
    planes' orientation thus makes no difference to a network.
    """
    along = grid.affine[:3, :3]  # columns: (slice, row, column) in LPS
    order = _axial_order(grid)
    flipped = tuple(i for i, (a, p) in enumerate(zip(order, (2, 1, 0), strict=True)) if along[p, a] < 0)

    def turned(v: Volume) -> Volume:
        return np.ascontiguousarray(np.flip(v.transpose(order), flipped))

    done = np.flip(apply(turned(values), [None if i is None else turned(i) for i in images]), flipped)
    return np.ascontiguousarray(done.transpose(np.argsort(order)))


def axial_factor(factor: Sequence[int], grid: Grid) -> tuple[int, int, int]:
    """``factor`` per axis of ``grid`` in the order of the axial reformat: slices, rows, columns."""
    slices, rows, columns = (factor[a] for a in _axial_order(grid))
    return slices, rows, columns


def _axial_order(grid: Grid) -> list[int]:
    """The axes of ``grid`` that run nearest to head–foot, front–back, left–right."""
    along = np.abs(grid.affine[:3, :3] / np.array(grid.spacing_mm))
    order: list[int] = []
    for patient in (2, 1, 0):
        order.append(max((a for a in range(3) if a not in order), key=lambda a: float(along[patient, a])))
    return order
