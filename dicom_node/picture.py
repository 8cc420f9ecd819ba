"""Pictures for people: maps beside anatomy, with their unit and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Panel:
    """One plane, rows to posterior and columns to the patient's left (radiological view).

    ``limits`` gives a colour map's range in ``unit``; None draws grey anatomy. ``outline`` is a mask
    of the same shape whose border is drawn.
    """

    title: str
    plane: Plane
    limits: tuple[float, float] | None = None
    unit: str = ""
    outline: NDArray[np.bool_] | None = None


def contact_sheet(rows: Sequence[Sequence[Panel]], path: Path, title: str) -> None:
    """Write rows of panels as a PNG; each coloured panel has its own colour bar."""
    columns = max(len(r) for r in rows)
    figure = Figure(figsize=(3.0 * columns, 3.0 * len(rows) + 0.5), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for drawn, row in zip(axes, rows, strict=True):
        for axis in drawn:
            axis.set_axis_off()
        for axis, panel in zip(drawn, row, strict=False):
            _draw(figure, axis, panel)
    figure.suptitle(title, color="white", fontsize=11)
    figure.text(0.01, 0.005, "R on the left. Research use; not for diagnosis.", color="0.7", fontsize=8)
    figure.tight_layout(rect=(0, 0.015, 1, 0.97))
    figure.savefig(path)


def _draw(figure: Figure, axis, panel: Panel) -> None:  # type: ignore[no-untyped-def]
    axis.set_title(panel.title, color="white", fontsize=9)
    if panel.limits is None:
        low, high = np.percentile(panel.plane, (1, 99.5))
        axis.imshow(panel.plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
    else:
        low, high = panel.limits
        shown = axis.imshow(panel.plane, cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
        bar = figure.colorbar(shown, ax=axis, fraction=0.045, pad=0.02)
        bar.ax.tick_params(colors="white", labelsize=7)
        bar.set_label(panel.unit, color="white", fontsize=7)
    if panel.outline is not None and panel.outline.any():
        axis.contour(panel.outline.astype(float), levels=[0.5], colors="cyan", linewidths=1.2)
