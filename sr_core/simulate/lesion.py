"""A glioma drawn as level sets: irregular, heterogeneous, infiltrating, and not the same on the anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from sr_core.maps import Volume

from .fields import smooth_field
from .tissue import TissueModel

# How the lesion on T1 and FLAIR relates to the metabolic one; "misregistered" moves the whole anatomy.
Regime = Literal["match", "mismatch", "larger", "shifted", "mrsi_only", "mri_only", "misregistered"]
REGIMES: tuple[Regime, ...] = get_args(Regime)


@dataclass(frozen=True)
class LesionPlan:
    """What to draw: radius in mm (drawn from 12–22 if None), centre in patient LPS mm (drawn if None).

    ``infiltration_mm`` is the width over which tumour gives way to healthy tissue.
    """

    radius_mm: float | None = None
    centre_mm: tuple[float, float, float] | None = None
    infiltration_mm: float = 2.0


@dataclass(frozen=True, eq=False)
class LesionModel:
    """A lesion on the VHR grid, each 0 to 1: share of tumour, of necrosis within it; what anatomy shows.

    ``flair`` and ``core`` are the shares of lesion and of its necrosis on T1 and FLAIR. ``texture``
    multiplies the tumour's chemistry (mean about 1). ``centre_mm`` is patient LPS; ``radius_mm`` that
    of the ellipsoid before it wobbles (and, in regime "larger", before it grows).
    """

    tumour: Volume
    necrosis: Volume
    flair: Volume
    core: Volume
    texture: Volume
    centre_mm: tuple[float, float, float]
    radius_mm: float


def draw_lesion(
    tissue: TissueModel, plan: LesionPlan, regime: Regime, rng: np.random.Generator
) -> LesionModel:
    """A lesion in the parenchyma of ``tissue``.

    The metabolic border is an ellipsoid whose radius wobbles by a smooth random field. On T1 and FLAIR:

    - "match", "misregistered": the same border 2 mm wider.
    - "mismatch": its own wobble, 3–8 mm aside, up to 6 mm larger, so that each shows tissue that the
      other does not.
    - "larger": the ellipsoid as drawn, while the metabolic border lies 3–8 mm beyond it all around.
    - "shifted": the same shape, 3–8 mm aside, necrosis included.
    - "mrsi_only": nothing. "mri_only": the same border, while the chemistry is healthy.
    """
    radius = plan.radius_mm if plan.radius_mm is not None else float(rng.uniform(12, 22))
    if plan.centre_mm is None:
        centre = _deep_white_matter(tissue, radius, rng)
    else:
        centre = np.asarray(tissue.grid.to_index(plan.centre_mm))
    axes = rng.uniform(0.75, 1.3, size=3)
    axes /= np.prod(axes) ** (1 / 3)
    shape = tissue.grid.shape
    wobble = smooth_field(rng, shape, 0.7 * radius)
    detail = smooth_field(rng, shape, 5.0)
    other = smooth_field(rng, shape, 0.6 * radius)
    shift = rng.standard_normal(3)
    apart = rng.uniform(3, 8)
    shift *= apart / np.linalg.norm(shift)
    growth = rng.uniform(0, 6)

    inside = _level_set(shape, centre, axes, radius, 0.22 * wobble + 0.05 * detail)
    hollow = _level_set(shape, centre + 0.15 * radius * axes, axes, 0.45 * radius, 0.3 * other)
    border, seen_hollow = inside + 2.0, hollow
    if regime == "mismatch":
        border = _level_set(shape, centre + shift, axes, radius + growth, 0.25 * other)
    elif regime == "larger":
        border, inside = inside, _signed_distance(inside, apart + 10) + apart
    elif regime == "shifted":
        border, seen_hollow = (ndimage.shift(v, shift, order=1, mode="nearest") for v in (inside, hollow))
    share = _soft(inside, plan.infiltration_mm) * tissue.parenchyma
    necrosis = _soft(hollow, 1.0) * share
    flair = _soft(border, 1.0) * tissue.parenchyma
    core = necrosis
    if regime == "shifted":
        core = _soft(seen_hollow, 1.0) * flair
    nothing = np.zeros(shape, dtype=np.float32)
    if regime == "mrsi_only":
        flair, core = nothing, nothing
    elif regime == "mri_only":
        share, necrosis = nothing, nothing
    texture = np.exp(0.25 * smooth_field(rng, shape, 3.5) + 0.25 * smooth_field(rng, shape, 9.0) - 0.06)
    return LesionModel(
        tumour=np.asarray(share, dtype=np.float32),
        necrosis=np.asarray(necrosis, dtype=np.float32),
        flair=np.asarray(flair, dtype=np.float32),
        core=np.asarray(core, dtype=np.float32),
        texture=np.asarray(texture, dtype=np.float32),
        centre_mm=tuple(float(c) for c in tissue.grid.to_patient(centre)),  # type: ignore[arg-type]
        radius_mm=radius,
    )


def _level_set(
    shape: tuple[int, int, int],
    centre: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    axes: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    radius: float,
    wobble: Volume,
) -> Volume:
    """Distance to the border in mm (1 mm voxels), positive inside, of a wobbling ellipsoid."""
    squared = [((np.arange(n) - c) / a) ** 2 for n, c, a in zip(shape, centre, axes, strict=True)]
    distance = np.sqrt(
        squared[0][:, None, None].astype(np.float32)
        + squared[1][None, :, None].astype(np.float32)
        + squared[2][None, None, :].astype(np.float32)
    )
    return np.asarray(radius * (1 + wobble) - distance, dtype=np.float32)


def _signed_distance(level: Volume, reach_mm: float) -> Volume:
    """Distance to where ``level`` is 0, mm (1 mm voxels), positive inside; Euclidean up to ``reach_mm``."""
    within = level > 0
    where = np.argwhere(within)
    margin = int(np.ceil(reach_mm)) + 1
    box = tuple(
        slice(max(int(a) - margin, 0), int(b) + margin + 1)
        for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True)
    )
    distance = np.full(level.shape, -reach_mm, dtype=np.float32)
    inner, outer = (ndimage.distance_transform_edt(v) for v in (within[box], ~within[box]))
    # Voxel centres lie half a voxel off the border between them.
    distance[box] = np.where(within[box], inner - 0.5, 0.5 - outer)
    return distance


def _soft(distance: Volume, width_mm: float) -> Volume:
    """0 outside, 1 inside, by a logistic: from 12 % to 88 % over ``2 · width_mm``."""
    return np.asarray(1 / (1 + np.exp(-np.clip(2 * distance / width_mm, -30, 30))), dtype=np.float32)


def _deep_white_matter(
    tissue: TissueModel, radius: float, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """An index in the cerebrum (upper 55 % of the brain), off the midline, where a lesion fits."""
    brain = tissue.brain[::2, ::2, ::2] > 0.5
    depth = ndimage.distance_transform_edt(brain, sampling=2.0)
    where = np.argwhere(brain)
    low, high = where.min(axis=0), where.max(axis=0)
    z, _, x = np.indices(brain.shape)
    middle = (low[2] + high[2]) / 2
    allowed = (
        (tissue.wm[::2, ::2, ::2] > 0.5)
        & (z > high[0] - 0.55 * (high[0] - low[0]))
        & (np.abs(x - middle) * 2 > 0.8 * radius)
        & (depth > 0.7 * radius)
    )
    if not allowed.any():
        allowed = (depth >= 0.9 * depth.max()) & brain
    candidates = np.argwhere(allowed)
    return np.asarray(2.0 * candidates[rng.integers(len(candidates))], dtype=np.float64)
