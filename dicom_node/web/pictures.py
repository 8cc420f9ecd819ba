"""Planes of a study as pictures, drawn here: for browsers without WebGL or JavaScript, and for paper.

Planes lie along the voxels' own axes, named by the nearest axis of the patient: columns to the patient's
left (or to posterior), rows to posterior (or to the feet). Sizes follow millimetres.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.encode.overlay import border, grey
from sr_core import Grid

from .volumes import Shown

Plane = Literal["axial", "coronal", "sagittal"]
Point = tuple[float, float, float]

COLOURS = ("inferno", "viridis", "magma", "hot", "turbo", "gray")
_LONGER_SIDE = 320  # pixels
_OUTLINE = (0, 255, 255)
_CROSS = (120, 255, 120)
_GAP = 6  # pixels around the centre of the cross
# The two axes of each plane (of left, posterior, head) as columns and rows; rows to the feet count down.
_AXES: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
# At the left, right, top and bottom edge.
_LETTERS: dict[Plane, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "H", "F"),
    "sagittal": ("A", "P", "H", "F"),
}


@dataclass(frozen=True)
class Look:
    """How a map is laid over anatomy: its range in its unit, below which it is not drawn, how opaque."""

    colours: str
    top: float
    threshold: float
    opacity: float


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn: a map (or none) over anatomy (or black), outlines, a cross at ``point_mm`` (LPS)."""

    base: Grid
    anatomy: Shown | None
    map: Shown | None
    outlines: tuple[Shown, ...]
    look: Look
    point_mm: Point


def index_at(grid: Grid, point_mm: Point) -> tuple[int, int, int]:
    """The voxel that holds ``point_mm``, as (left, posterior, head); the nearest one if outside."""
    _, affine, shape = _oriented(grid)
    index = np.rint((np.asarray(point_mm) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    low = np.clip(index, 0, np.asarray(shape) - 1)
    return int(low[0]), int(low[1]), int(low[2])


def point_at(grid: Grid, index: tuple[int, int, int]) -> Point:
    """Patient LPS in mm of the centre of voxel (left, posterior, head)."""
    _, affine, _ = _oriented(grid)
    p = affine[:3, :3] @ np.asarray(index, dtype=float) + affine[:3, 3]
    return float(p[0]), float(p[1]), float(p[2])


def shape_of(grid: Grid) -> tuple[int, int, int]:
    """Voxels along left, posterior and head."""
    return _oriented(grid)[2]


def size_of(grid: Grid, plane: Plane) -> tuple[int, int]:
    """Width and height of a picture, in pixels."""
    _, affine, shape = _oriented(grid)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    across, down, _ = _AXES[plane]
    mm = shape[across] * spacing[across], shape[down] * spacing[down]
    longest = max(n * s for n, s in zip(shape, spacing, strict=True))
    return max(round(mm[0] / longest * _LONGER_SIDE), 1), max(round(mm[1] / longest * _LONGER_SIDE), 1)


def clicked(grid: Grid, plane: Plane, point_mm: Point, x: int, y: int) -> Point:
    """Where a click at pixel (``x``, ``y``) of the plane through ``point_mm`` lies, in patient LPS mm."""
    _, _, shape = _oriented(grid)
    across, down, _ = _AXES[plane]
    width, height = size_of(grid, plane)
    index = list(index_at(grid, point_mm))
    index[across] = min(max(int(x / width * shape[across]), 0), shape[across] - 1)
    row = min(max(int(y / height * shape[down]), 0), shape[down] - 1)
    index[down] = row if down == 1 else shape[down] - 1 - row
    return point_at(grid, (index[0], index[1], index[2]))


def draw(scene: Scene, plane: Plane) -> bytes:
    """PNG of the plane through the scene's point."""
    points = _points(scene.base, plane, scene.point_mm)
    width, height = size_of(scene.base, plane)

    def enlarged(values: NDArray[np.generic]) -> NDArray[np.generic]:
        rows = (np.arange(height) * values.shape[0] // height).astype(int)
        columns = (np.arange(width) * values.shape[1] // width).astype(int)
        return np.asarray(values[rows][:, columns])

    under = np.zeros(points.shape[:2], dtype=np.float32)
    if scene.anatomy is not None:
        under = grey(np.nan_to_num(sampled(scene.anatomy, points)), scene.anatomy.limits)
    picture = np.repeat(under[..., None], 3, axis=-1)
    if scene.map is not None:
        values = sampled(scene.map, points)
        with np.errstate(invalid="ignore"):
            there = np.isfinite(values) & (values >= scene.look.threshold) & (values > 0)
        share = np.clip(np.nan_to_num(values) / max(scene.look.top, 1e-12), 0, 1)
        colour = _lookup(scene.look.colours)[np.rint(share * 255).astype(np.uint8)]
        opacity = np.where(there, scene.look.opacity, 0.0)[..., None]
        picture = picture * (1 - opacity) + colour * opacity
    out = np.array(enlarged(np.rint(picture).astype(np.uint8)))
    for outline in scene.outlines:
        out[border(enlarged(np.nan_to_num(sampled(outline, points)) > 0))] = _OUTLINE
    _cross(out, scene.base, plane, scene.point_mm)
    image = Image.fromarray(out)
    _letter(image, plane)
    return _png(image)


def colour_bar(colours: str) -> bytes:
    """PNG of a colour map, lowest on the left."""
    row = _lookup(colours)[None].repeat(12, axis=0).astype(np.uint8)
    return _png(Image.fromarray(np.ascontiguousarray(row)))


def steps(colours: str) -> tuple[list[int], list[int], list[int]]:
    """Red, green and blue of a colour map at 256 steps."""
    red, green, blue = np.rint(_lookup(colours)).astype(int).T.tolist()
    return red, green, blue


def sampled(shown: Shown, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """The voxel that holds each of ``points`` (…, 3); NaN outside the grid."""
    index = np.rint(shown.grid.to_index(points)).astype(int)
    inside = ((index >= 0) & (index < shown.grid.shape)).all(axis=-1)
    out = np.full(points.shape[:-1], np.nan, dtype=np.float32)
    out[inside] = shown.values[tuple(index[inside].T)]
    return out


def _oriented(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int, int]]:
    """Orientation, affine and shape of the grid with its axes as (left, posterior, head), each ascending."""
    turn = nibabel.io_orientation(grid.affine)
    affine = grid.affine @ nibabel.orientations.inv_ornt_aff(turn, grid.shape)
    shape = [0, 0, 0]
    for axis, to in enumerate(turn[:, 0].astype(int)):
        shape[to] = grid.shape[axis]
    return turn, affine, (shape[0], shape[1], shape[2])


def _points(grid: Grid, plane: Plane, point_mm: Point) -> NDArray[np.float64]:
    """Patient positions of the plane's voxels, (row, column, 3), as the picture has them."""
    _, affine, shape = _oriented(grid)
    across, down, fixed = _AXES[plane]
    rows, columns = np.meshgrid(np.arange(shape[down]), np.arange(shape[across]), indexing="ij")
    index = np.zeros((*rows.shape, 3))
    index[..., across], index[..., fixed] = columns, index_at(grid, point_mm)[fixed]
    index[..., down] = rows if down == 1 else shape[down] - 1 - rows
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def _cross(out: NDArray[np.generic], grid: Grid, plane: Plane, point_mm: Point) -> None:
    _, _, shape = _oriented(grid)
    across, down, _ = _AXES[plane]
    at = index_at(grid, point_mm)
    height, width = out.shape[:2]
    row = at[down] if down == 1 else shape[down] - 1 - at[down]
    x, y = int((at[across] + 0.5) / shape[across] * width), int((row + 0.5) / shape[down] * height)
    out[y, : max(x - _GAP, 0)] = out[y, x + _GAP :] = _CROSS
    out[: max(y - _GAP, 0), x] = out[y + _GAP :, x] = _CROSS


def _letter(image: Image.Image, plane: Plane) -> None:
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, right, top, bottom = _LETTERS[plane]
    w, h = image.size
    for text, at, anchor in (
        (left, (4, h / 2), "lm"),
        (right, (w - 4, h / 2), "rm"),
        (top, (w / 2, 3), "mt"),
        (bottom, (w / 2, h - 3), "mb"),
    ):
        pen.text(at, text, fill="white", font=font, anchor=anchor, stroke_width=1, stroke_fill="black")


@lru_cache
def _lookup(colours: str) -> NDArray[np.float32]:
    from matplotlib import colormaps

    return np.asarray(colormaps[colours](np.linspace(0, 1, 256))[:, :3] * 255, dtype=np.float32)


def _png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()
