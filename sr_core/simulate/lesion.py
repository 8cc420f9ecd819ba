"""A glioma drawn as level sets: irregular, heterogeneous, infiltrating, and not the same on the anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from sr_core.maps import Mask, Volume
from sr_core.nlm import bounding_box

from .fields import smooth_field
from .outline import RealOutline, ball_radius
from .tissue import RealLesion, TissueModel

# How the lesion on T1 and FLAIR relates to the metabolic one; "misregistered" moves the whole anatomy.
Regime = Literal["match", "mismatch", "larger", "shifted", "mrsi_only", "mri_only", "misregistered"]
REGIMES: tuple[Regime, ...] = get_args(Regime)

Index = NDArray[np.float64]
Box = tuple[slice, ...]
# As far as distances to a border are known beyond it, mm.
REACH_MM = 18.0


@dataclass(frozen=True)
class LesionPlan:
    """What to draw: radius in mm (drawn from 12–22 if None), centre in patient LPS mm (drawn if None).

    ``infiltration_mm`` is the width over which tumour gives way to healthy tissue. ``outline``: a real
    lesion's shape, turned at random, instead of an ellipsoid. Of a tissue that has a lesion of its own,
    only ``infiltration_mm`` counts.
    """

    radius_mm: float | None = None
    centre_mm: tuple[float, float, float] | None = None
    infiltration_mm: float = 2.0
    outline: RealOutline | None = None


@dataclass(frozen=True, eq=False)
class LesionModel:
    """A lesion on the VHR grid, each 0 to 1: share of tumour, of necrosis within it; what anatomy shows.

    ``flair`` and ``core`` are the shares of lesion and of its necrosis on T1 and FLAIR. ``texture``
    multiplies the tumour's chemistry (mean about 1). ``centre_mm`` is patient LPS; ``radius_mm`` that
    of the ellipsoid before it wobbles (and, in regime "larger", before it grows), or of the ball of a
    real lesion's volume.
    """

    tumour: Volume
    necrosis: Volume
    flair: Volume
    core: Volume
    texture: Volume
    centre_mm: tuple[float, float, float]
    radius_mm: float


@dataclass(frozen=True)
class _Chance:
    """Drawn for every lesion, whether or not its regime uses it: how its two borders lie apart, mm."""

    shift: Index
    apart: float
    growth: float


@dataclass(frozen=True, eq=False)
class _Borders:
    """Distances to borders in ``box``, mm, positive inside: tumour, its necrosis; the same on anatomy."""

    box: Box
    inside: Volume
    hollow: Volume
    border: Volume
    seen_hollow: Volume


def draw_lesion(
    tissue: TissueModel, plan: LesionPlan, regime: Regime, rng: np.random.Generator
) -> LesionModel:
    """A lesion in the parenchyma of ``tissue``.

    The metabolic border is an ellipsoid whose radius wobbles by a smooth random field, or that of
    ``plan.outline``. On T1 and FLAIR:

    - "match", "misregistered": the same border 2 mm wider.
    - "mismatch": its own wobble, 3–8 mm aside, up to 6 mm larger, so that each shows tissue that the
      other does not.
    - "larger": the ellipsoid as drawn, while the metabolic border lies 3–8 mm beyond it all around.
    - "shifted": the same shape, 3–8 mm aside, necrosis included.
    - "mrsi_only": nothing. "mri_only": the same border, while the chemistry is healthy.

    A lesion of the tissue's own (``tissue.lesion``) is on its images as it is: all of it, oedema
    included. Metabolic is its core; that is what goes aside ("mismatch", "shifted"), or, 3–8 mm beyond
    the whole, is "larger".
    """
    if tissue.lesion is not None:
        return _of_its_own(tissue, tissue.lesion, plan, regime, rng)
    radius = plan.radius_mm if plan.radius_mm is not None else float(rng.uniform(12, 22))
    if plan.centre_mm is None:
        centre = _deep_white_matter(tissue, radius, rng)
    else:
        centre = np.asarray(tissue.grid.to_index(plan.centre_mm))
    axes = rng.uniform(0.75, 1.3, size=3)
    axes /= np.prod(axes) ** (1 / 3)
    turn = Rotation.random(rng=rng.spawn(1)[0]).as_matrix()
    shape = tissue.grid.shape
    box = _where(tissue, regime)
    wobble = smooth_field(rng, shape, 0.7 * radius)[box]
    detail = smooth_field(rng, shape, 5.0)[box]
    other = smooth_field(rng, shape, 0.6 * radius)[box]
    chance = _chance(rng)

    def outline(centre: Index, radius: float, wobble: Volume) -> Volume:
        if plan.outline is None:
            return _ellipsoid(box, centre, axes, radius, wobble)
        return plan.outline.level_set(box, centre, radius, turn) + np.float32(0.4 * radius) * wobble

    inside = outline(centre, radius, 0.22 * wobble + 0.05 * detail)
    if plan.outline is None:
        hollow = _ellipsoid(box, centre + 0.15 * radius * axes, axes, 0.45 * radius, 0.3 * other)
    else:  # a real shape may be thin where its centre is: what is dead is what lies deepest
        hollow = inside - np.float32(0.6 * inside.max()) + np.float32(0.1 * radius) * other
    border, seen_hollow = inside + 2.0, hollow
    if regime == "mismatch":
        border = outline(centre + chance.shift, radius + chance.growth, 0.25 * other)
    elif regime == "larger":
        border, inside = inside, signed_distance(inside > 0, chance.apart + 10) + chance.apart
    elif regime == "shifted":
        border, seen_hollow = (_aside(v, chance.shift) for v in (inside, hollow))
    borders = _Borders(box, inside, hollow, border, seen_hollow)
    return _modelled(tissue, borders, plan, regime, centre, radius, rng)


def _of_its_own(
    tissue: TissueModel, lesion: RealLesion, plan: LesionPlan, regime: Regime, rng: np.random.Generator
) -> LesionModel:
    box = _where(tissue, "larger")
    core = lesion.core[box]
    radius = ball_radius(float(core.sum()))
    where = np.argwhere(core).mean(axis=0) + [b.start for b in box]
    other = smooth_field(rng, tissue.grid.shape, 0.6 * radius)[box]
    chance = _chance(rng)
    inside, hollow, border = (
        signed_distance(m[box], REACH_MM) for m in (lesion.core, lesion.necrosis, lesion.whole)
    )
    seen_hollow = hollow
    if regime == "mismatch":
        inside = _aside(inside, chance.shift) + np.float32(0.2 * radius) * other
    elif regime == "larger":
        inside = border + chance.apart
    elif regime == "shifted":
        inside, hollow = (_aside(v, chance.shift) for v in (inside, hollow))
    borders = _Borders(box, inside, hollow, border, seen_hollow)
    return _modelled(tissue, borders, plan, regime, where, radius, rng)


def _modelled(
    tissue: TissueModel,
    borders: _Borders,
    plan: LesionPlan,
    regime: Regime,
    centre: Index,
    radius: float,
    rng: np.random.Generator,
) -> LesionModel:
    """Borders as shares of the parenchyma, with texture."""
    box = borders.box
    shape = tissue.grid.shape
    parenchyma = tissue.parenchyma[box]
    share = _soft(borders.inside, plan.infiltration_mm) * parenchyma
    necrosis = _soft(borders.hollow, 1.0) * share
    flair = _soft(borders.border, 1.0) * parenchyma
    core = _soft(borders.seen_hollow, 1.0) * flair if borders.seen_hollow is not borders.hollow else necrosis
    nothing = np.zeros_like(share)
    if regime == "mrsi_only":
        flair, core = nothing, nothing
    elif regime == "mri_only":
        share, necrosis = nothing, nothing

    def placed(values: Volume) -> Volume:
        volume = np.zeros(shape, dtype=np.float32)
        volume[box] = values
        return volume

    texture = np.ones(shape, dtype=np.float32)
    texture[box] = np.exp(
        0.25 * smooth_field(rng, shape, 3.5)[box] + 0.25 * smooth_field(rng, shape, 9.0)[box] - 0.06
    )
    return LesionModel(
        tumour=placed(share),
        necrosis=placed(necrosis),
        flair=placed(flair),
        core=placed(core),
        texture=texture,
        centre_mm=tuple(float(c) for c in tissue.grid.to_patient(centre)),  # type: ignore[arg-type]
        radius_mm=radius,
    )


def _where(tissue: TissueModel, regime: Regime) -> Box:
    """The box around the brain; wider where borders are moved, so that none comes from beyond it."""
    moved = regime in ("larger", "shifted")
    return bounding_box(tissue.parenchyma > 0, margin=int(REACH_MM) + 8 if moved else 0)


def _chance(rng: np.random.Generator) -> _Chance:
    shift = rng.standard_normal(3)
    apart = rng.uniform(3, 8)
    return _Chance(shift * (apart / np.linalg.norm(shift)), apart, rng.uniform(0, 6))


def _aside(level: Volume, shift: Index) -> Volume:
    return np.asarray(ndimage.shift(level, shift, order=1, mode="nearest"), dtype=np.float32)


def _ellipsoid(box: Box, centre: Index, axes: Index, radius: float, wobble: Volume) -> Volume:
    """Distance to the border in mm (1 mm voxels), positive inside, of a wobbling ellipsoid."""
    squared = [((np.arange(b.start, b.stop) - c) / a) ** 2 for b, c, a in zip(box, centre, axes, strict=True)]
    distance = np.sqrt(
        squared[0][:, None, None].astype(np.float32)
        + squared[1][None, :, None].astype(np.float32)
        + squared[2][None, None, :].astype(np.float32)
    )
    return np.asarray(radius * (1 + wobble) - distance, dtype=np.float32)


def signed_distance(within: Mask, reach_mm: float) -> Volume:
    """Distance to the border of ``within``, mm (1 mm voxels), positive inside; exact up to ``reach_mm``."""
    distance = np.full(within.shape, -reach_mm, dtype=np.float32)
    if not within.any():
        return distance
    box = bounding_box(within, margin=int(np.ceil(reach_mm)) + 1)
    inner, outer = (ndimage.distance_transform_edt(v) for v in (within[box], ~within[box]))
    # Voxel centres lie half a voxel off the border between them.
    distance[box] = np.where(within[box], inner - 0.5, 0.5 - outer)
    return distance


def _soft(distance: Volume, width_mm: float) -> Volume:
    """0 outside, 1 inside, by a logistic: from 12 % to 88 % over ``2 · width_mm``."""
    return np.asarray(1 / (1 + np.exp(-np.clip(2 * distance / width_mm, -30, 30))), dtype=np.float32)


def _deep_white_matter(tissue: TissueModel, radius: float, rng: np.random.Generator) -> Index:
    """An index in the cerebrum (upper 55 % of the brain), off the midline, where a lesion fits."""
    brain = tissue.brain[::2, ::2, ::2] > 0.5
    box = bounding_box(brain, margin=1)
    corner = np.array([b.start for b in box])
    brain, wm = brain[box], tissue.wm[::2, ::2, ::2][box]
    depth = ndimage.distance_transform_edt(brain, sampling=2.0)
    where = np.argwhere(brain)
    low, high = where.min(axis=0), where.max(axis=0)
    z, _, x = np.ogrid[tuple(slice(n) for n in brain.shape)]
    middle = (low[2] + high[2]) / 2
    allowed = (
        (wm > 0.5)
        & (z > high[0] - 0.55 * (high[0] - low[0]))
        & (np.abs(x - middle) * 2 > 0.8 * radius)
        & (depth > 0.7 * radius)
    )
    if not allowed.any():
        allowed = (depth >= 0.9 * depth.max()) & brain
    candidates = np.argwhere(allowed)
    return np.asarray(2.0 * (corner + candidates[rng.integers(len(candidates))]), dtype=np.float64)
