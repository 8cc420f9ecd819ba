"""The doubt that comes with a super-resolved map: what no measurement backs, and how far off it may be.

The half-width u of a voxel is meant so that |x − truth| ≤ u in 90 % of the brain's voxels. What
predicts the error – noise, edges, what surrounds a voxel, how far the anatomy moved it, repair – is
measured in units of the map's scale, so that u goes with the map's unit; how much each counts was
fitted on simulated studies (``python -m sr_core.evaluate.calibrate``) and lies beside the weights.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from .baselines import trilinear
from .consistency import null_space
from .grid import Shape
from .kspace import Part
from .maps import Mask, MetaboliteMap, Uncertainty, Volume
from .prepare import Prepared

NULL_SPACE = "null-space share: |x - A+ A x|, A the k-space crop to the acquired matrix"
DISAGREEMENT = "guidance: |x - x0|, x0 the same method without the anatomical image"
HALF_WIDTH = "half-width: |x - truth| is at most this in 90 % of the brain, calibrated on simulated studies"

FILE = "uncertainty.toml"
ANY = "any"  # the family for methods, weights and factors that were not calibrated
FACTOR: Shape = (4, 4, 4)  # the one that calibration saw
SIGNS = ("noise", "level", "gradient", "leaning", "repaired", "structure")
_FLOOR = 1e-3  # of a map's scale: smaller signs are all the same
_WINDOW = 3  # LR voxels
_NORMAL_90 = 1.645  # SDs within which 90 % of a Gaussian lie

Values = NDArray[np.float32]


class BadCalibration(ValueError):
    """A calibration that is incomplete, or says what cannot be used."""


def null_space_share(m: MetaboliteMap, acquired: Shape, brain: Mask) -> Uncertainty:
    """Per voxel, how much of ``m`` lies beyond the acquired k-space, and was put there by the method.

    In the map's unit, 0 outside ``brain``.
    """
    return Uncertainty(str(m.metabolite), NULL_SPACE, null_space(m.values, acquired) * brain)


def disagreement(m: MetaboliteMap, unguided: Volume) -> Uncertainty:
    """Per voxel, how much of ``m`` is there only because of the anatomical image, in the map's unit.

    Large where the guide and the measurement do not tell the same: there a guide may have invented
    or moved an edge.
    """
    return Uncertainty(str(m.metabolite), DISAGREEMENT, np.abs(m.values - unguided).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Signs:
    """What speaks for an error in the brain's voxels, in their order: (SIGNS, voxels).

    log(sign / scale), signs in the map's unit, "repaired" a share of 1. ``scale``: the map's 99.9th
    percentile in the brain. ``noise``: σ in the map's unit, (voxels).
    """

    metabolite: str
    values: Values
    scale: float
    noise: Values


@dataclass(frozen=True, eq=False)
class Brain:
    """The brain on both grids, ``factor`` apart, and the ``part`` of the finer one that holds it."""

    lr: Mask
    sr: Mask
    factor: Shape
    part: Part

    @classmethod
    def of(cls, lr: Mask, sr: Mask, factor: Shape) -> Brain:
        """Raises ValueError if ``sr`` is empty."""
        return cls(lr, sr, factor, Part.around(sr))

    @property
    def inside(self) -> Mask:
        """The brain within its part of the SR grid."""
        return self.sr[self.part.box]

    def listed(self, low: Volume) -> Values:
        """``low``, on the LR grid, at the brain's SR voxels (linear)."""
        return np.asarray(trilinear(low, self.factor)[self.part.box][self.inside])


def signs(m: MetaboliteMap, prepared: Prepared, unguided: Volume | None, brain: Brain) -> Signs:
    """The signs of one super-resolved map.

    - noise: σ of the measured map; repaired: share of voxels inpainted
    - level: the value itself, low in CSF and at the surface, where partial volume is least known
    - gradient: of the result, per SR voxel
    - leaning: |x − x₀|, x₀ the same method without the anatomical image, 0 without guidance
    - structure: SD of the measured map over 3 × 3 × 3 LR voxels
    """
    x, inside = m.values[brain.part.box], brain.inside
    noise = brain.listed(prepared.sigma)
    scale = prepared.scale
    found: dict[str, Values] = {
        "noise": noise,
        "level": x[inside],
        "gradient": gradient(x, inside)[inside],
        "leaning": np.zeros_like(noise) if unguided is None else np.abs(x - unguided[brain.part.box])[inside],
        "repaired": scale * brain.listed(prepared.quality.inpainted.astype(np.float32)),
        "structure": brain.listed(_structure(prepared.values, brain.lr)),
    }
    stacked = np.stack([found[name] for name in SIGNS])
    stacked /= np.float32(scale if scale > 0 else 1.0)
    return Signs(str(m.metabolite), np.log(stacked + np.float32(_FLOOR)), scale, noise)


def _structure(values: Volume, brain: Mask) -> Volume:
    """SD of ``values`` over the window around each LR voxel, of what of it lies in ``brain``."""
    size = [_WINDOW if n >= _WINDOW else 1 for n in brain.shape]

    def mean(x: Volume) -> Volume:
        return np.asarray(ndimage.uniform_filter(x, size, mode="constant"))

    share = np.maximum(mean(brain.astype(np.float32)), _FLOOR)
    x = np.where(brain, values, 0.0).astype(np.float32)
    return np.sqrt(np.maximum(mean(x * x) / share - (mean(x) / share) ** 2, 0.0))


def gradient(x: Volume, inside: Mask) -> Volume:
    """Magnitude of central differences; along an axis on which a neighbour is not ``inside``, 0."""
    squared = np.zeros_like(x)
    for axis in range(x.ndim):
        before, after, here = ([slice(None)] * x.ndim for _ in range(3))
        before[axis], after[axis], here[axis] = slice(None, -2), slice(2, None), slice(1, -1)
        a, b, at = tuple(before), tuple(after), tuple(here)
        squared[at] += np.where(inside[a] & inside[b], (x[b] - x[a]) / 2, 0.0) ** 2
    return np.sqrt(squared)


class Family(Protocol):
    """What turns signs into half-widths for one kind of method."""

    def half_width(self, signs: Signs) -> Values: ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """log(u / scale) = ``offset`` + Σ over signs of a broken line through ``knots`` and ``heights``.

    ``weights``: sha256 of the network it was fitted with, "" for none.
    """

    offset: float
    knots: Mapping[str, NDArray[np.float64]]
    heights: Mapping[str, NDArray[np.float64]]
    weights: str = ""

    def half_width(self, signs: Signs) -> Values:
        """u per voxel, in the map's unit; of a map that is 0 all over, what its noise says."""
        if signs.scale <= 0:
            return np.asarray(_NORMAL_90 * signs.noise, dtype=np.float32)
        log_u = np.full(signs.values.shape[1], self.offset + np.log(signs.scale))
        for name, knots in self.knots.items():
            log_u += np.interp(signs.values[SIGNS.index(name)], knots, self.heights[name])
        return np.asarray(np.exp(log_u), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Half-widths by method; ``provenance`` says on what, by which command, and how well they cover."""

    families: Mapping[str, Family]
    provenance: Mapping[str, Any]

    def family(self, method: str, weights: str, factor: Shape) -> tuple[Family, str | None]:
        """Who tells the half-width of ``method``, and a sentence if it is not its own.

        Its own family counts for the ``weights`` (sha256) and the factor it was fitted with; anything
        else gets the most cautious one.
        """
        own = self.families.get(method)
        if factor != FACTOR:
            return self.families[ANY], (
                f"uncertainty is that of the least sure method: calibrated for factors 4, 4, 4, not {factor}"
            )
        if own is None:
            return self.families[ANY], (
                f"uncertainty is that of the least sure method: {method} was not calibrated"
            )
        if isinstance(own, Fitted) and own.weights != weights:
            return self.families[ANY], (
                f"uncertainty is that of the least sure method: {method} was calibrated with other weights"
            )
        return own, None


def read_calibration(folder: Path) -> Calibration:
    """The calibration beside the weights in ``folder``. Raises BadCalibration, saying what is wrong."""
    path = folder / FILE
    try:
        table = tomllib.loads(path.read_text())
        families = {name: _fitted(family) for name, family in table.pop("family").items()}
        if ANY not in families:
            raise BadCalibration(f"there is no family {ANY!r} for what was not calibrated")
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise BadCalibration(f"{path}: {e!r}" if isinstance(e, KeyError) else f"{path}: {e}") from e
    return Calibration(families, table)


def _fitted(table: Mapping[str, Any]) -> Fitted:
    knots, heights = {}, {}
    for name, line in table["signs"].items():
        if name not in SIGNS:
            raise BadCalibration(f"no sign {name!r}; there is {', '.join(SIGNS)}")
        knots[name], heights[name] = (np.array(line[k], dtype=np.float64) for k in ("knots", "heights"))
        if knots[name].shape != heights[name].shape or not (np.diff(knots[name]) > 0).all():
            raise BadCalibration(f"{name}: knots ascend, and each has its height")
        if not np.isfinite([*knots[name], *heights[name]]).all():
            raise BadCalibration(f"{name}: knots and heights are finite")
    return Fitted(float(table["offset"]), knots, heights, str(table["weights"]))


def half_widths(
    maps: Sequence[MetaboliteMap],
    prepared: Sequence[Prepared],
    unguided: Sequence[Volume | None],
    family: Family,
    brain: Brain,
) -> tuple[Uncertainty, ...]:
    """The half-width map of every one of ``maps``, on the SR grid, 0 outside the brain.

    ``prepared`` and ``unguided`` (what the method gives without the anatomical image) in their order.
    """

    def one(m: MetaboliteMap, p: Prepared, plain: Volume | None) -> Uncertainty:
        values = np.zeros(brain.sr.shape, dtype=np.float32)
        values[brain.part.box][brain.inside] = family.half_width(signs(m, p, plain, brain))
        return Uncertainty(str(m.metabolite), HALF_WIDTH, values)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(one, maps, prepared, unguided))
