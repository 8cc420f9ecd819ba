"""Maps over anatomy as coloured planes, with their colour bar; what is written is drawn once per map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sr_core import Mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rgb = NDArray[np.uint8]
Plane = NDArray[np.float32]

# Even lightness from dark to bright, told apart by the colour-blind, and legible in grey.
COLOUR_MAP = "inferno"
_OPACITY = 0.7
_FADE = 0.25  # of the range: below it anatomy shows through more and more
_HATCH = 6  # pixels between two lines over what was not measured
_HATCH_GREY = 170
_OUTLINE = (0, 255, 255)
_STRIP = 150  # pixels
_LEAST_HEIGHT = 320  # pixels that the words beside a plane need
_DPI = 100
_LETTER_SHARE = 0.35  # of a unit vector, to be named


@dataclass(frozen=True)
class Legend:
    """What is written beside a plane: the map's name, its range and unit, and lines of words."""

    name: str
    limits: tuple[float, float]
    unit: str
    lines: Sequence[str]


def letters(direction: NDArray[np.float64]) -> str:
    """Where ``direction`` (LPS) points, largest share first: "L", "RA", "PH" (PS3.3 C.7.6.1.1.1)."""
    named = sorted(zip(direction, ("LR", "PA", "HF"), strict=True), key=lambda p: -abs(p[0]))
    return "".join(pair[0] if share > 0 else pair[1] for share, pair in named if abs(share) > _LETTER_SHARE)


def grey(plane: Plane, limits: tuple[float, float]) -> NDArray[np.float32]:
    """``plane`` from 0 to 255 between ``limits``."""
    low, high = limits
    return np.asarray(np.clip((plane - low) / max(high - low, 1e-12), 0, 1) * 255, dtype=np.float32)


class Overlay:
    """Draws the planes of one map; bar, words and letters are made once."""

    def __init__(self, legend: Legend, shape: tuple[int, int], scale: int, row: str, column: str) -> None:
        """``shape`` of a plane (rows, columns), each voxel ``scale`` × ``scale`` pixels; ``row`` and
        ``column``: letters of where columns and rows count to, as `letters` gives them.
        """
        self._scale = scale
        self._limits = legend.limits
        rows, columns = shape[0] * scale, shape[1] * scale
        self._rows, self._columns = rows, columns
        self._canvas = np.zeros((max(rows, _LEAST_HEIGHT), columns + _STRIP, 3), dtype=np.uint8)
        self._canvas[:, columns:] = _strip(legend, self._canvas.shape[0])
        self._lookup = lookup()
        self._letters = _edge_letters(rows, columns, row, column)

    def plane(self, values: Plane, shown: Mask, anatomy: Plane | None, hatched: Mask, outline: Mask) -> Rgb:
        """One picture: ``values`` where ``shown`` over ``anatomy`` (0 to 255), borders of ``outline``."""
        share = np.clip((values - self._limits[0]) / (self._limits[1] - self._limits[0]), 0, 1)
        colour = self._lookup[np.rint(share * 255).astype(np.uint8)]
        opacity = np.where(shown, 1.0, 0.0).astype(np.float32)
        under = np.zeros(values.shape, dtype=np.float32)
        if anatomy is not None:
            under = anatomy
            opacity *= _OPACITY * np.clip(share / _FADE, 0, 1)
        fused = under[..., None] * (1 - opacity[..., None]) + colour * opacity[..., None]
        out = self._canvas.copy()
        picture = out[: self._rows, : self._columns]
        picture[:] = self._enlarged(np.rint(fused).astype(np.uint8))
        lines = np.add.outer(np.arange(self._rows), np.arange(self._columns)) % _HATCH == 0
        picture[self._enlarged(hatched) & lines] = _HATCH_GREY
        picture[border(self._enlarged(outline))] = _OUTLINE
        written = self._letters[..., None]
        picture[:] = np.where(written > 0, np.maximum(picture, written), picture)
        return out

    def _enlarged(self, plane: NDArray[np.generic]) -> NDArray[np.generic]:
        return plane.repeat(self._scale, axis=0).repeat(self._scale, axis=1)


def pixels_of(figure: Figure) -> Rgb:
    """``figure`` drawn, without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def border(mask: NDArray[np.generic]) -> Mask:
    """Pixels of ``mask`` with a neighbour outside it."""
    inside = np.pad(mask.astype(bool), 1)
    deep = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return np.asarray(inside[1:-1, 1:-1] & ~deep)


def lookup() -> NDArray[np.float32]:
    from matplotlib import colormaps  # loaded where something is drawn: the rest of the node needs none

    return np.asarray(colormaps[COLOUR_MAP](np.linspace(0, 1, 256))[:, :3] * 255, dtype=np.float32)


def _strip(legend: Legend, height: int) -> Rgb:
    """Colour bar with its unit, name above and lines below, white on black."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_STRIP / _DPI, height / _DPI), dpi=_DPI, facecolor="black")
    words = 14 * len(legend.lines) + 12  # pixels
    bar = figure.add_axes((0.1, (words + 8) / height, 0.16, 1 - (words + 62) / height))
    bar.imshow(
        np.linspace(0, 1, 256)[:, None],
        aspect="auto",
        origin="lower",
        cmap=COLOUR_MAP,
        extent=(0, 1, *legend.limits),
    )
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.tick_params(colors="white", labelsize=8)
    figure.text(0.08, 1 - 6 / height, legend.name, color="white", size=12, weight="bold", va="top")
    figure.text(0.08, 1 - 28 / height, legend.unit, color="white", size=8, va="top")
    for number, line in enumerate(reversed(legend.lines)):
        figure.text(0.04, (6 + 14 * number) / height, line, color="white", size=7, va="bottom")
    return pixels_of(figure)


def _edge_letters(rows: int, columns: int, row: str, column: str) -> Rgb:
    """Letters at the four edges of a picture as grey, 0 where there is none."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns / _DPI, rows / _DPI), dpi=_DPI, facecolor="black")
    opposite = str.maketrans("LRPAHF", "RLAPFH")
    across, down = 4 / columns, 4 / rows
    for x, y, text, ha, va in (
        (across, 0.5, row.translate(opposite), "left", "center"),
        (1 - across, 0.5, row, "right", "center"),
        (0.5, 1 - down, column.translate(opposite), "center", "top"),
        (0.5, down, column, "center", "bottom"),
    ):
        figure.text(x, y, text, color="white", size=9, weight="bold", ha=ha, va=va)
    return np.asarray(pixels_of(figure)[..., 0])
