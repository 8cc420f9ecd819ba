"""One page on the quality of a study, drawn: pictures on the left, figures and words on the right."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .overlay import COLOUR_MAP, Rgb, pixels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE, _HIGH, _DPI = 16.0, 11.0, 100  # inches, dots per inch
_LINE = 0.0165  # of the page's height
_COLUMN = 88  # characters of a line on the right
_INK, _FAINT, _AMBER, _GREEN = "white", "0.65", "#e69f00", "#009e73"


@dataclass(frozen=True, eq=False)
class Picture:
    """One plane with its title; ``limits`` None is grey anatomy. NaN is left black."""

    title: str
    plane: NDArray[np.float32] | None
    limits: tuple[float, float] | None
    unit: str
    outline: NDArray[np.bool_] | None = None
    missing: str = ""


@dataclass(frozen=True)
class Bar:
    """What became of one map's voxels: shares of the brain, and a word beside them."""

    name: str
    rejected: float
    repaired: float
    beside: str


@dataclass(frozen=True, eq=False)
class Page:
    """All that is shown. ``alerts`` empty: nothing unusual was found.

    ``size``: rows and columns that every picture covers, in super-resolved voxels; ``aspect`` of such a
    voxel: between rows / between columns.
    """

    title: str
    subtitle: str
    alerts: Sequence[str]
    pictures: Sequence[Sequence[Picture]]
    size: tuple[int, int]
    aspect: float
    edges: tuple[str, str, str, str]  # letters left, right, top, bottom
    lesions: Sequence[Sequence[str]]  # the first is the heading
    bars: Sequence[Bar]
    paragraphs: Mapping[str, Sequence[str]]
    foot: str


def draw(page: Page) -> Rgb:
    """The page as pixels (1100 × 1600, RGB)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, _HIGH), dpi=_DPI, facecolor="black")
    figure.text(0.012, 0.985, page.title, color=_INK, size=17, weight="bold", va="top")
    figure.text(0.012, 0.953, page.subtitle, color=_AMBER, size=11, va="top")
    _alerts(figure, page.alerts)
    _pictures(figure, page)
    y = _table(figure, page.lesions, 0.985)
    y = _bars(figure, page.bars, y - 0.01)
    for heading, lines in page.paragraphs.items():
        y = _paragraph(figure, heading, lines, y - 0.008)
    figure.text(0.012, 0.008, page.foot, color=_FAINT, size=7.5, va="bottom")
    return pixels_of(figure)


def _alerts(figure: Figure, alerts: Sequence[str]) -> None:
    words = alerts or ["Nothing unusual was found."]
    shown = [line for alert in words for line in textwrap.wrap(alert, 104)][:4]
    colour = _AMBER if alerts else _GREEN
    heading = "LOOK CLOSELY" if alerts else "USUAL"
    figure.text(
        0.012, 0.925, heading, color="black", backgroundcolor=colour, size=10, weight="bold", va="top"
    )
    figure.text(0.1, 0.928, "\n".join(shown), color=_INK, size=9, va="top", linespacing=1.25)


def _pictures(figure: Figure, page: Page) -> None:
    rows, columns = len(page.pictures), max((len(r) for r in page.pictures), default=0)
    if not columns:
        return
    high, wide = 0.845 / rows, 0.56 / columns
    for i, row in enumerate(page.pictures):
        for j, picture in enumerate(row):
            left, bottom = 0.012 + j * wide, 0.878 - (i + 1) * high + 0.012
            axis = figure.add_axes((left, bottom, wide - 0.045, high - 0.04))
            _picture(figure, axis, picture, page)


def _picture(figure: Figure, axis: Axes, picture: Picture, page: Page) -> None:
    axis.set_title(picture.title, color=_INK, size=9.5, pad=4)
    axis.set_axis_off()
    if picture.plane is None:
        axis.text(
            0.5, 0.5, textwrap.fill(picture.missing, 26), color=_FAINT, size=9, ha="center", va="center"
        )
        return
    rows, columns = page.size
    low, high = picture.limits or (float(np.nanmin(picture.plane)), float(np.nanmax(picture.plane)))
    shown = axis.imshow(
        picture.plane,
        cmap="gray" if picture.limits is None else COLOUR_MAP,
        vmin=low,
        vmax=max(high, low + 1e-9),
        interpolation="nearest",
        aspect=page.aspect,
        extent=(0, columns, rows, 0),  # measured and super-resolved planes fill one frame
    )
    if picture.outline is not None and picture.outline.any() and not picture.outline.all():
        axis.contour(
            picture.outline.astype(float),
            levels=[0.5],
            colors="cyan",
            linewidths=1.2,
            extent=(0.5, columns - 0.5, 0.5, rows - 0.5),
        )
    left, right, top, bottom = page.edges
    for x, y, letter, ha, va in (
        (0.02, 0.5, left, "left", "center"),
        (0.98, 0.5, right, "right", "center"),
        (0.5, 0.98, top, "center", "top"),
        (0.5, 0.02, bottom, "center", "bottom"),
    ):
        axis.text(x, y, letter, color=_INK, size=8, transform=axis.transAxes, ha=ha, va=va)
    if picture.limits is not None:
        bar = figure.colorbar(shown, ax=axis, fraction=0.045, pad=0.02)
        bar.ax.tick_params(colors=_INK, labelsize=7)
        bar.set_label(picture.unit, color=_INK, size=7.5)


def _table(figure: Figure, rows: Sequence[Sequence[str]], y: float) -> float:
    """Returns the height below the table."""
    at = (0.58, 0.64, 0.80, 0.86, 0.91, 0.955)
    figure.text(0.58, y, "Metabolic lesions", color=_INK, size=11, weight="bold", va="top")
    y -= 0.027
    for number, row in enumerate(rows):
        colour = _FAINT if number == 0 else _INK
        for x, cell in zip(at, row, strict=False):
            figure.text(x, y, cell, color=colour, size=8.5, va="top")
        y -= _LINE * (1 + max((cell.count("\n") for cell in row), default=0))
    return y


def _bars(figure: Figure, bars: Sequence[Bar], y: float) -> float:
    figure.text(0.58, y, "Measured voxels, by map", color=_INK, size=11, weight="bold", va="top")
    figure.text(
        0.76,
        y - 0.003,
        "% of the brain: rejected (pale), of it repaired (amber); medians",
        color=_FAINT,
        size=8,
        va="top",
    )
    if not bars:
        return y - 0.03
    high = min(0.018 * len(bars), 0.24)
    axis = figure.add_axes((0.62, y - 0.032 - high, 0.26, high), facecolor="0.12")
    places = np.arange(len(bars))
    axis.barh(places, [b.rejected * 100 for b in bars], color="0.75", height=0.72)
    axis.barh(places, [b.repaired * 100 for b in bars], color=_AMBER, height=0.4)
    axis.set_yticks(places, [b.name for b in bars])
    axis.set_ylim(len(bars) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.tick_params(colors=_INK, labelsize=7.5, length=2)
    for spine in axis.spines.values():
        spine.set_color("0.3")
    for place, bar in zip(places, bars, strict=True):
        figure.text(
            0.885, y - 0.032 - high * (place + 0.5) / len(bars), bar.beside, color=_INK, size=7.5, va="center"
        )
    return y - 0.032 - high - 0.028


def _paragraph(figure: Figure, heading: str, lines: Sequence[str], y: float) -> float:
    room = max(int((y - 0.06) / _LINE), 1)
    figure.text(0.58, y, heading, color=_INK, size=10.5, weight="bold", va="top")
    y -= 0.024
    wrapped = [
        part
        for line in lines
        for part in textwrap.wrap(line, _COLUMN, initial_indent="- ", subsequent_indent="  ")
    ]
    if len(wrapped) > room:
        wrapped = [*wrapped[: room - 1], "  ... more in the report"]
    figure.text(0.58, y, "\n".join(wrapped), color=_INK, size=8.3, va="top", linespacing=1.28)
    return y - _LINE * len(wrapped)
