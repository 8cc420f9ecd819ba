"""From one grid to another: resampling by affines, and rigid registration where frames differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .baselines import bicubic
from .grid import Affine, Grid
from .maps import AnatomicalImage, Volume

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # full width at half maximum of a Gaussian, in σ


class RegistrationRefused(Exception):
    """Anatomy could not be brought onto the maps with confidence; the words say by which measure."""


@dataclass(frozen=True, eq=False)
class Registration:
    """A rigid motion: ``matrix`` (4 × 4) takes fixed (MRSI) LPS mm to moving (anatomy) LPS mm.

    ``quality`` is the mutual information found, over its mean at positions 20 mm beside;
    ``words`` say what was moved, how far and how well.
    """

    matrix: Affine
    quality: float
    words: str


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


# Mutual information at the found position, over that at positions 20 mm beside it: below this the
# optimum is no peak, and the two images have nothing to tell each other.
_PEAK = 2.5
_ASIDE_MM = 20.0
_FARTHEST_MM = 60.0
_FARTHEST_DEG = 30.0


def _motion(matrix: Affine, centre: NDArray[np.float64]) -> tuple[float, float]:
    """How far ``matrix`` moves ``centre`` (mm), and by what angle it turns (degrees)."""
    moved_mm = float(np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - centre))
    turned = float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1.0) / 2.0, -1.0, 1.0))))
    return moved_mm, turned


def _matrix_of(transform: Any) -> Affine:
    r = np.array(transform.GetMatrix()).reshape(3, 3)
    c = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = r
    matrix[:3, 3] = np.array(transform.GetTranslation()) + c - r @ c
    return matrix


def _registration_method() -> Any:
    sitk = _toolkit()
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(24)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.01, numberOfIterations=100, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 0.0])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    return method


def _coarser(grid: Grid, spacing_mm: float) -> Grid:
    """``grid`` with voxels of at least ``spacing_mm``, the same first voxel centre."""
    times = np.maximum(spacing_mm / np.array(grid.spacing_mm), 1.0)
    affine = grid.affine.copy()
    affine[:3, :3] *= times
    a, b, c = (int(n) for n in np.ceil(np.array(grid.shape) / times))
    return Grid((a, b, c), affine, grid.frame_of_reference)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order: the same input gives the same position."""
    process = _toolkit().ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    process.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        process.SetGlobalDefaultNumberOfThreads(before)


def register_rigid(moving: AnatomicalImage, fixed_values: NDArray[Any], fixed_grid: Grid) -> Registration:
    """The rigid motion that brings ``moving`` onto ``fixed_values``, by mutual information.

    It starts from the scanner's own position, or from centres of gravity made to coincide, whichever
    shows more. Only the fixed image's support, two voxels wider, is looked at. Raises
    RegistrationRefused if the end is no clear peak, or is more than 60 mm or 30° away from the start.
    """
    with _one_thread():
        return _register(moving, fixed_values, fixed_grid)


def _register(moving: AnatomicalImage, fixed_values: NDArray[Any], fixed_grid: Grid) -> Registration:
    sitk = _toolkit()
    fine = tuple(2 if n > 1 else 1 for n in fixed_grid.shape)
    fixed_values = bicubic(np.nan_to_num(fixed_values), (fine[0], fine[1], fine[2]))
    fixed_grid = fixed_grid.refined((fine[0], fine[1], fine[2]))
    values = np.nan_to_num(np.asarray(fixed_values, dtype=np.float32))
    support = ndimage.binary_dilation(values > 0.05 * max(float(values.max()), 1e-30), iterations=4)
    coarse = _coarser(moving.grid, min(fixed_grid.spacing_mm))
    soft = resample(moving.values, moving.grid, coarse)
    if not support.any() or np.ptp(values) == 0 or np.ptp(soft) == 0:
        raise RegistrationRefused(f"{moving.contrast}: an image without contrast cannot be registered")
    fixed, float_ = _itk(values, fixed_grid), _itk(soft, coarse)
    mask = sitk.Cast(_itk(support, fixed_grid), sitk.sitkUInt8)
    weight = values[support] / values[support].sum()
    centre = (fixed_grid.to_patient(np.argwhere(support)) * weight[:, None]).sum(axis=0)
    bright = soft > 0.1 * np.percentile(soft, 99.5)
    to_centre = moving.grid.to_patient(np.argwhere(bright)[:: max(int(bright.sum()) // 50000, 1)]).mean(
        axis=0
    )

    def at(translation: NDArray[np.float64]) -> Any:
        transform = sitk.Euler3DTransform()
        transform.SetCenter([float(c) for c in centre])
        transform.SetTranslation([float(t) for t in translation])
        return transform

    def information(transform: Any) -> float:
        """Mutual information in nats; 0 where the images do not overlap."""
        method = _registration_method()
        method.SetMetricFixedMask(mask)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            return -float(method.MetricEvaluate(fixed, float_))
        except RuntimeError:
            return 0.0

    start = max((np.zeros(3), to_centre - centre), key=lambda t: information(at(t)))
    transform = at(start)
    method = _registration_method()
    method.SetMetricFixedMask(mask)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, float_)
    except RuntimeError as outside:
        raise RegistrationRefused(
            f"{moving.contrast} and the maps do not overlap from any start"
        ) from outside
    aside = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            beside = sitk.Euler3DTransform(transform)
            shift = np.array(transform.GetTranslation())
            shift[axis] += sign * _ASIDE_MM
            beside.SetTranslation([float(t) for t in shift])
            aside.append(information(beside))
    quality = information(transform) / max(float(np.mean(aside)), 1e-6)
    matrix = _matrix_of(transform)
    moved_mm, turned = _motion(matrix, centre)
    from_start = float(np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - centre - start))
    if quality < _PEAK:
        raise RegistrationRefused(
            f"{moving.contrast} could not be registered to the maps: mutual information at the best "
            f"position is {quality:.2f} times that 20 mm beside it, and at least {_PEAK} is wanted"
        )
    if from_start > _FARTHEST_MM or turned > _FARTHEST_DEG:
        raise RegistrationRefused(
            f"{moving.contrast} could not be registered to the maps: the best position is "
            f"{from_start:.0f} mm and {turned:.0f}° away, which no patient moves"
        )
    return Registration(
        matrix,
        quality,
        f"{moving.contrast} has another Frame of Reference than the maps and was rigidly registered to "
        f"them: moved by {moved_mm:.1f} mm at the centre, turned by {turned:.1f}°; mutual information "
        f"{quality:.2f} times that 20 mm beside it",
    )
