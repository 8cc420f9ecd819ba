"""From one grid to another: resampling by affines, and rigid registration where frames differ."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .grid import Affine, Grid
from .maps import AnatomicalImage, Volume
from .rigid import Matcher, NothingToSee

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # full width at half maximum of a Gaussian, in σ


class RegistrationRefused(Exception):
    """Anatomy could not be brought onto the maps with confidence; the words say by which measure.

    ``mirrored``: the image would fit with left and right exchanged.
    """

    def __init__(self, words: str, mirrored: bool = False) -> None:
        super().__init__(words)
        self.mirrored = mirrored


@dataclass(frozen=True, eq=False)
class Registration:
    """A rigid motion: ``matrix`` (4 × 4) takes fixed (MRSI) LPS mm to moving (anatomy) LPS mm.

    ``quality`` is the share (0 to 1) of what varies in the maps, beyond a smooth field, that the
    anatomy explains there; ``before`` the same at the position it came in. ``moved_mm`` is how far
    it lies from there at the centre of the maps' signal, ``turned_deg`` by which angle.
    """

    matrix: Affine
    quality: float
    before: float
    moved_mm: float
    turned_deg: float


def _toolkit() -> Any:
    """SimpleITK, loaded when first needed: the front door stays light."""
    return import_module("SimpleITK")


def _itk(values: NDArray[Any], grid: Grid) -> Any:
    """An ITK image: its axes are (column, row, slice), its space LPS mm, as ours."""
    image = _toolkit().GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32))
    spacing = np.array(grid.spacing_mm)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    image.SetOrigin([float(o) for o in grid.origin_mm])
    # ITK wants exactly orthogonal directions; headers are rounded: take the nearest rotation
    u, _, vt = np.linalg.svd((grid.affine[:3, :3] / spacing)[:, ::-1])
    image.SetDirection([float(d) for d in (u @ vt).ravel()])
    return image


def anti_aliased(values: NDArray[Any], source: Grid, target: Grid) -> Volume:
    """``values`` blurred, along the axes where ``target`` is coarser, to the target's resolution.

    Gaussian whose FWHM is √(target² − source²), the source's axes taken along the target's.
    """
    along = np.abs(
        (source.affine[:3, :3] / np.array(source.spacing_mm)).T
        @ (target.affine[:3, :3] / np.array(target.spacing_mm))
    )
    wanted = (along**2) @ np.array(target.spacing_mm)  # the target's spacing as the source's axes see it
    have = np.array(source.spacing_mm)
    sigma = np.sqrt(np.maximum(wanted**2 - have**2, 0.0)) / _FWHM / have
    blurred = np.asarray(values, dtype=np.float32)
    if (sigma > 0.2).any():
        blurred = ndimage.gaussian_filter(
            blurred, [float(s) if s > 0.2 else 0.0 for s in sigma], mode="nearest"
        )
    return np.asarray(blurred, dtype=np.float32)


def resample(values: NDArray[Any], source: Grid, target: Grid, order: int = 1, fill: float = 0.0) -> Volume:
    """``values`` on ``source``, at the voxel centres of ``target``; ``fill`` beyond the source.

    By affines alone: Frames of Reference are the caller's business. ``order`` 0 is nearest, 1
    linear, 3 cubic B-spline; for 1 and 3 a coarser target is low-pass filtered first. Raises
    ValueError for values off their grid or another order.
    """
    sitk = _toolkit()
    if values.shape != source.shape:
        raise ValueError(f"values of shape {values.shape} are off their grid of {source.shape}")
    interpolator = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}.get(order)
    if interpolator is None:
        raise ValueError(f"resampling is of order 0, 1 or 3, not {order}")
    finite = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=fill)
    image = _itk(finite if order == 0 else anti_aliased(finite, source, target), source)
    like = _itk(np.zeros((1, 1, 1), dtype=np.float32), target)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in target.shape[::-1]])
    resampler.SetOutputOrigin(like.GetOrigin())
    resampler.SetOutputSpacing(like.GetSpacing())
    resampler.SetOutputDirection(like.GetDirection())
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(float(fill))
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)), dtype=np.float32)


def moved(grid: Grid, matrix: Affine, frame_of_reference: str) -> Grid:
    """``grid`` seen from the fixed frame, where ``matrix`` takes fixed LPS mm to the grid's own."""
    return Grid(grid.shape, np.linalg.inv(matrix) @ grid.affine, frame_of_reference)


# Share of the maps that the anatomy explains (measured on 22 simulated studies of other anatomies):
# its own T1 or FLAIR 0.73 to 0.91, 0.37 with one metabolite at SNR 5; mirrored 0.30 to 0.47; another
# person's up to 0.34; noise and shapes below 0.1.
_EXPLAINED = 0.4
_SURELY = 0.7  # above this nothing else is looked for: not another start, nor a mirrored image
_FARTHEST_MM = 60.0
_FARTHEST_DEG = 30.0
_WIDTHS = (1.5, 0.7, 0.33)  # of the blur, in voxels of the map (σ), from coarse to the map's own
_AGAIN, _STILL_MM = 3, 0.1


def _centre_of_signal(image: AnatomicalImage) -> NDArray[np.float64]:
    """Mean position of what is bright, in the image's LPS mm."""
    every = tuple(slice(None, None, max(round(3.0 / s), 1)) for s in image.grid.spacing_mm)
    values = np.nan_to_num(image.values[every])
    at = np.argwhere(values > 0.1 * np.percentile(values, 99.5)) * [s.step for s in every]
    return np.asarray(image.grid.to_patient(at).mean(axis=0)) if len(at) else np.full(3, np.inf)


def _climbed(matcher: Matcher, starts: list[Affine]) -> Affine:
    """The best motion from the start that shows more, coarse to fine, then until nothing moves.

    Blurred images may have nothing to tell: what a coarse step does not make better is not taken.
    Raises NothingToSee if no start overlaps.
    """
    reached = []
    trouble = NothingToSee("there is no position to start from")
    for start in starts:
        try:
            before = matcher.explained(start, _WIDTHS[0])
            matrix = matcher.climb(start, _WIDTHS[0])
            after = matcher.explained(matrix, _WIDTHS[0])
        except NothingToSee as nothing:
            trouble = nothing
            continue
        reached.append((after, matrix) if after > before else (before, start))
    if not reached:
        raise trouble
    matrix = max(reached, key=lambda r: r[0])[1]
    for width in _WIDTHS[1:]:
        matrix = matcher.climb(matrix, width)
    return _settled(matcher, matrix)


def _settled(matcher: Matcher, matrix: Affine) -> Affine:
    """Climbed at the map's own resolution until nothing moves."""
    for _ in range(_AGAIN):
        last, matrix = matrix, matcher.climb(matrix, _WIDTHS[-1])
        if np.linalg.norm((matrix - last) @ [*matcher.centre, 1.0]) < _STILL_MM:
            break
    return matrix


def _found(matcher: Matcher, starts: list[Affine]) -> tuple[Affine, float, float]:
    """The best motion, what the anatomy explains there, and what it does where its header says.

    A short way from the header suffices where it ends in a sure position.
    """
    try:
        before = matcher.explained(starts[0], _WIDTHS[-1])
        matrix = _settled(matcher, starts[0])
        quality = matcher.explained(matrix, _WIDTHS[-1])
        if quality >= _SURELY:
            return matrix, quality, before
    except NothingToSee:
        before = 0.0
    matrix = _climbed(matcher, starts)
    return matrix, matcher.explained(matrix, _WIDTHS[-1]), before


def _is_mirrored(matcher: Matcher, starts: list[Affine], explained: float) -> bool:
    """Whether the image explains clearly more, and enough, with left and right exchanged."""
    exchanged = np.diag([-1.0, 1.0, 1.0, 1.0])
    exchanged[0, 3] = 2.0 * matcher.centre[0]
    try:
        other = matcher.explained(_climbed(matcher, [start @ exchanged for start in starts]), _WIDTHS[-1])
    except NothingToSee:
        return False
    return other >= _EXPLAINED and other > explained + 0.1


def register_rigid(
    moving: AnatomicalImage, fixed_values: NDArray[Any], fixed_grid: Grid, from_header: bool = False
) -> Registration:
    """The rigid motion at which ``moving`` explains ``fixed_values`` best (sr_core.rigid).

    It starts from the scanner's own position, or, unless ``from_header``, from centres of signal
    made to coincide, whichever shows more. The same input gives the same position. Raises
    RegistrationRefused if the anatomy explains too little of the maps there, explains more with left
    and right exchanged, overlaps the maps by less than half, or is more than 60 mm or 30° away from
    the start.
    """
    name = moving.contrast
    values = np.nan_to_num(np.asarray(fixed_values, dtype=np.float32))
    try:
        matcher = Matcher(moving, values, fixed_grid)
        centre = matcher.centre
        aside = np.eye(4)
        aside[:3, 3] = _centre_of_signal(moving) - centre
        starts = [np.eye(4)]
        if not from_header and np.isfinite(aside).all():
            starts.append(aside)
        matrix, quality, before = _found(matcher, starts)
    except NothingToSee as nothing:
        raise RegistrationRefused(f"{name} could not be registered to the maps: {nothing}") from nothing
    if quality < _SURELY and _is_mirrored(matcher, [*starts, matrix], quality):
        raise RegistrationRefused(
            f"{name} could not be registered to the maps: it fits better with left and right exchanged",
            mirrored=True,
        )
    if quality < _EXPLAINED:
        raise RegistrationRefused(
            f"{name} could not be registered to the maps: at the best position it explains {quality:.0%} of "
            f"what varies in them, and at least {_EXPLAINED:.0%} is wanted"
        )
    reached = matrix[:3, :3] @ centre + matrix[:3, 3]
    moved_mm = float(np.linalg.norm(reached - centre))
    turned = float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1.0) / 2.0, -1.0, 1.0))))
    from_start = min(float(np.linalg.norm(reached - centre - s[:3, 3])) for s in starts)
    if from_start > _FARTHEST_MM or turned > _FARTHEST_DEG:
        raise RegistrationRefused(
            f"{name} could not be registered to the maps: the best position is "
            f"{from_start:.0f} mm and {turned:.0f}° away, which no patient moves"
        )
    return Registration(matrix, quality, before, moved_mm, turned)
