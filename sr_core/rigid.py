"""Rigid registration of anatomy to maps, by asking how well the anatomy explains their signal.

A map is taken to be what the scanner would make of the anatomy if every tissue had its own signal:

    y(p) ≈ (1 + field(p)) · Σ_k c_k · [PSF ∗ hat_k(T)](M p)

T is the anatomical image, hat_k are overlapping triangles over its intensities (a soft segmentation
that needs no names), PSF a Gaussian of the map's resolution, field a quadratic in space (coil
sensitivities), M the motion sought. c, field and M are found together by Gauss–Newton steps with
Tukey's biweight, so that lesions, spikes and lipid, which the anatomy cannot explain, do not pull.
Partial volume at the map's resolution, which makes most of its contrast, is part of the model: this
is why it finds fractions of a voxel where mutual information of the two images does not. Intensity
models of this kind: Roche et al., IEEE Trans. Med. Imaging 20:1038, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from .grid import Affine, Grid
from .maps import AnatomicalImage

Vector = NDArray[np.float64]

_POINTS = 12_000  # of the map, evenly, are enough
_KNOTS = (0.01, 0.1, 0.3, 0.5, 0.75, 0.97)  # quantiles of the anatomy's intensities at the tips of the hats
_STRONG = 0.4  # of the map's 95th percentile: half of grey matter
_SAMPLES = 4  # of the anatomy per map voxel along each axis, at the map's own resolution
_TUKEY = 4.685  # times the robust SD: 95 % efficient where errors are Gaussian
_SD_PER_MAD = 1.4826


class NothingToSee(ValueError):
    """Too little of one image lies where the other is, or one has no contrast there."""


def rigid_matrix(shift_mm: Vector, turn: Vector, centre: Vector) -> Affine:
    """4 × 4: turned about ``centre`` by the rotation vector ``turn`` (radians), then shifted."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift_mm
    return matrix


@dataclass(frozen=True, eq=False)
class _View:
    """The soft classes of the anatomy at the map's resolution, (…, classes) on ``grid``; ``seen`` is 1
    for the map's points that the anatomy covers."""

    classes: NDArray[np.float32]
    grid: Grid
    seen: Vector

    def at(self, points: Vector) -> tuple[Vector, Vector]:
        """Classes (points, classes) and their derivative per mm along patient axes (points, 3, classes)."""
        shape = np.array(self.grid.shape)
        place = np.clip(self.grid.to_index(points), 0, shape - 1.001)
        whole = place.astype(np.int64)
        t = place - whole
        flat = self.classes.reshape(-1, self.classes.shape[-1])
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        base = whole @ strides
        value = np.zeros((len(points), flat.shape[1]))
        slope = np.zeros((len(points), 3, flat.shape[1]))
        for corner in np.ndindex(2, 2, 2):
            weight = np.where(corner, t, 1.0 - t)
            v = flat[base + int(np.dot(corner, strides))].astype(np.float64)
            value += weight.prod(axis=1)[:, None] * v
            for axis in range(3):
                others = weight[:, [a for a in range(3) if a != axis]].prod(axis=1)
                slope[:, axis] += ((2 * corner[axis] - 1) * others)[:, None] * v
        to_index = np.linalg.inv(self.grid.affine[:3, :3])
        return value, np.einsum("ia,nic->nac", to_index, slope)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Signal of each class, smooth field, what remains, and the weight of every point."""

    levels: Vector
    field: Vector
    model: Vector
    rest: Vector
    weight: Vector


class Matcher:
    """``moving`` against the map ``values`` on ``grid``, at its points inside the head.

    Matrices take the map's LPS mm to the anatomy's. Raises NothingToSee for a map without contrast.
    """

    def __init__(self, moving: AnatomicalImage, values: NDArray[np.float32], grid: Grid) -> None:
        support = np.argwhere(_inside(values))
        if len(support) < 100:
            raise NothingToSee("an image without contrast cannot be registered")
        points = support[:: -(-len(support) // _POINTS)]
        self._moving, self._grid = moving, grid
        self._low, self._high = support.min(axis=0), support.max(axis=0)
        self._y = values[tuple(points.T)].astype(np.float64)
        self._points = grid.to_patient(points)
        self.centre: Vector = self._points.mean(axis=0)
        x, y, z = ((self._points - self.centre) / np.ptp(self._points, axis=0).max()).T
        self._smooth = np.stack([x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=1)
        self._last: tuple[tuple[bytes, float], _View] | None = None

    def _view(self, matrix: Affine, width: float) -> _View:
        """The anatomy through ``matrix``, blurred by a Gaussian of ``width`` voxels of the map (σ)."""
        key = (np.asarray(matrix, dtype=np.float64).tobytes(), width)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._viewed(matrix, width))
        return self._last[1]

    def _viewed(self, matrix: Affine, width: float) -> _View:
        samples = np.full(3, max(round(_SAMPLES * min(1.0, 0.4 / width)), 1))
        margin = int(np.ceil(3 * width)) + 1
        affine = self._grid.affine.copy()
        affine[:3, 3] = self._grid.to_patient(self._low - margin)
        affine[:3, :3] /= samples
        n = (self._high - self._low + 2 * margin) * samples + 1
        grid = Grid((int(n[0]), int(n[1]), int(n[2])), affine, self._grid.frame_of_reference)
        into = np.linalg.inv(self._moving.grid.affine) @ matrix
        step = into @ grid.affine
        values = np.nan_to_num(np.asarray(self._moving.values, dtype=np.float32))
        seen = ndimage.affine_transform(
            values, step[:3, :3], step[:3, 3], output_shape=grid.shape, order=1, mode="constant"
        )
        place = self._points @ into[:3, :3].T + into[:3, 3]
        covered = ((place >= -0.5) & (place <= np.array(values.shape) - 0.5)).all(axis=1)
        if covered.mean() < 0.5:
            raise NothingToSee("the images do not overlap")
        at = np.rint(grid.to_index(self._points)).astype(np.int64)
        knots = np.quantile(seen[tuple(at.T)][covered], _KNOTS)
        apart = np.diff(knots, prepend=-np.inf) > 0.02 * (knots[-1] - knots[0])
        knots = knots[apart]
        if len(knots) < 2:
            raise NothingToSee("it shows no contrast where the maps are")
        hats = [np.interp(seen, knots, tip).astype(np.float32) for tip in np.eye(len(knots))]
        sigma = [float(width * s) for s in samples]
        blurred = [ndimage.gaussian_filter(h, sigma, truncate=3.0, mode="nearest") for h in hats]
        return _View(np.stack(blurred, axis=-1), grid, np.asarray(covered, dtype=np.float64))

    def _fit(self, classes: Vector, weight: Vector, seen: Vector) -> _Fit:
        field = np.zeros(self._smooth.shape[1])
        for _ in range(2):
            levels = _least_squares(classes * (1 + self._smooth @ field)[:, None], self._y, weight)
            model = classes @ levels
            field = _least_squares(self._smooth * model[:, None], self._y - model, weight)
        rest = self._y - model * (1 + self._smooth @ field)
        sd = _SD_PER_MAD * float(np.median(np.abs(rest[seen > 0]))) or 1e-12
        return _Fit(levels, field, model, rest, seen * np.clip(1 - (rest / (_TUKEY * sd)) ** 2, 0, None) ** 2)

    def climb(self, matrix: Affine, width: float, steps: int = 20) -> Affine:
        """The best motion near ``matrix`` at a resolution of ``width`` voxels of the map (σ).

        Raises NothingToSee if the images overlap by less than half.
        """
        view = self._view(matrix, width)
        shift, turn, weight = np.zeros(3), np.zeros(3), view.seen
        reach_mm = max(3.0, 1.5 * width * min(self._grid.spacing_mm))
        for _ in range(steps):
            motion = rigid_matrix(shift, turn, self.centre)
            there = self._points @ motion[:3, :3].T + motion[:3, 3]
            classes, slopes = view.at(there)
            fit = self._fit(classes, weight, view.seen)
            weight = fit.weight
            gain = (1 + self._smooth @ fit.field)[:, None]
            along = slopes @ fit.levels * gain
            about = np.cross(there - self.centre - shift, along)  # d/dturn = (M p − c) × gradient
            design = np.concatenate([along, about, classes * gain, self._smooth * fit.model[:, None]], axis=1)
            step = _least_squares(design, fit.rest, weight)[:6]
            step[:3] *= min(1.0, reach_mm / max(float(np.linalg.norm(step[:3])), 1e-9))
            step[3:] *= min(1.0, np.radians(5.0) / max(float(np.linalg.norm(step[3:])), 1e-9))
            shift = shift + step[:3]
            turn = (Rotation.from_rotvec(step[3:]) * Rotation.from_rotvec(turn)).as_rotvec()
            if np.linalg.norm(step[:3]) < 0.02 and np.linalg.norm(step[3:]) < 3e-4:
                break
        return np.asarray(matrix @ rigid_matrix(shift, turn, self.centre))

    def explained(self, matrix: Affine, width: float) -> float:
        """Share of the map's variance beyond a smooth field that the anatomy explains, 0 to 1, robust.

        Raises NothingToSee as ``climb``.
        """
        view = self._view(matrix, width)
        classes, _ = view.at(self._points)
        weight = view.seen
        for _ in range(3):
            fit = self._fit(classes, weight, view.seen)
            weight = fit.weight
        smooth = np.concatenate([np.ones((len(self._y), 1)), self._smooth], axis=1)
        without = self._y - smooth @ _least_squares(smooth, self._y, weight)
        left, there = float(weight @ fit.rest**2), float(weight @ without**2)
        return max(1.0 - left / there, 0.0) if there > 0 else 0.0


def _inside(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the map has values within the outline of its strong signal.

    The rim of weak signal around it, which every head of that shape has, would make any of them fit.
    """
    there = values > 0.05 * max(float(values.max()), 1e-30)
    if not there.any() or not np.ptp(values) > 0:
        return np.zeros(values.shape, dtype=bool)
    strong = np.pad(values > _STRONG * np.percentile(values[there], 95), 2)
    outline = ndimage.binary_fill_holes(ndimage.binary_closing(strong))
    for plane in outline:
        plane |= ndimage.binary_fill_holes(plane)
    return np.asarray(there & outline[2:-2, 2:-2, 2:-2])


def _least_squares(design: Vector, wanted: Vector, weight: Vector) -> Vector:
    """Weighted least squares, damped just enough for columns that say the same."""
    weighted = design * weight[:, None]
    normal = weighted.T @ design
    normal[np.diag_indices_from(normal)] *= 1.0 + 1e-8
    normal[np.diag_indices_from(normal)] += 1e-12 * max(float(np.trace(normal)), 1e-30)
    return np.asarray(np.linalg.solve(normal, weighted.T @ wanted))
