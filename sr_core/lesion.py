"""Metabolic lesions: from a map to a mask, its regions and their measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .grid import Grid
from .maps import AnatomicalImage, Lesion, Mask, Region, Volume
from .midline import Midline
from .nlm import bounding_box

_SD_PER_MAD = 1.4826
_ROUNDS = 6
_LEAST_SHARE = 0.05  # of the brain, for a tissue class to serve as reference
_ABNORMAL = 2.0  # times the normal level: what does not count as normal
_LEAST_ML = 0.5  # of it in one piece, to tell the side of a lesion
_ONE_SIDED = 0.7  # share of it on one side of the midline
_LEAST_HALF = 0.2  # share of the reference on either side, for a side to serve alone


@dataclass(frozen=True, eq=False)
class Reference:
    """Tissue that counts as normal until it is found not to be; ``words`` name it."""

    mask: Mask
    words: str


def tissue(t1: AnatomicalImage | None, brain: Mask) -> Reference:
    """White matter by 3-class k-means on the T1 inside ``brain``; without a T1, the brain.

    The T1's local brightness (Gaussian, 8 voxels) is divided out first.
    """
    if t1 is None or not brain.any() or np.ptp(t1.values[brain]) == 0:
        return Reference(brain, "brain")
    inside = brain.astype(np.float32)
    share = ndimage.gaussian_filter(inside, 8.0, truncate=2.5)
    local = ndimage.gaussian_filter(t1.values * inside, 8.0, truncate=2.5)[brain] / share[brain]
    level = t1.values[brain] / np.maximum(local, 1e-6 * float(local.max()))
    centres = np.percentile(level, [5, 50, 90])
    for _ in range(30):
        nearest = np.abs(level[:, None] - centres[None, :]).argmin(axis=1)
        before = centres
        centres = np.array(
            [level[nearest == c].mean() if (nearest == c).any() else centres[c] for c in range(3)]
        )
        if np.allclose(before, centres, rtol=1e-5):
            break
    white = np.zeros(brain.shape, dtype=bool)
    white[brain] = nearest == 2
    white &= ndimage.binary_erosion(brain, iterations=2)
    if white.sum() < _LEAST_SHARE * brain.sum():
        return Reference(brain, "brain")
    return Reference(white, "normal-appearing white matter")


def normal_median(values: Volume, reference: Reference, times: float = _ABNORMAL, grow: int = 2) -> float:
    """Median of ``values`` over the reference, what reaches ``times`` it left out again and again.

    What is left out is grown by ``grow`` voxels, so that a lesion's rim does not count as normal.
    0 if there is no reference tissue.
    """
    if not reference.mask.any():
        return 0.0
    box = bounding_box(reference.mask, grow)
    values = values[box]
    kept = reference.mask[box] & (values > 0)
    median = float(np.median(values[kept])) if kept.any() else 0.0
    for _ in range(_ROUNDS):
        high = ndimage.binary_dilation((values >= times * median) & (values > 0), iterations=grow)
        rest = kept & ~high
        if rest.sum() < 0.2 * kept.sum():
            break
        after = float(np.median(values[rest]))
        if abs(after - median) <= 1e-4 * median:
            break
        median = after
    return median


def normal_level(
    values: Volume, reference: Reference, brain: Mask, grid: Grid, plane: Midline | None
) -> tuple[float, str]:
    """Median of ``values`` in tissue that counts as normal, and what tissue that is, in words.

    First the whole reference is asked, or, where the midline is known, that half of it which shows
    less (a lesion raises what it is held against). If at least 70 % of what then reaches twice that
    level in ``brain``, in pieces of 0.5 mL and more, lies on one side of the midline, the reference is
    the other side's; else the whole.
    """
    if plane is None:
        return normal_median(values, reference), reference.words
    left = plane.left(grid)
    halves = {True: Reference(reference.mask & left, ""), False: Reference(reference.mask & ~left, "")}
    enough = all(int(h.mask.sum()) >= _LEAST_HALF * int(reference.mask.sum()) for h in halves.values())
    if not enough or not reference.mask.any():
        return normal_median(values, reference), reference.words
    levels = {side: normal_median(values, half) for side, half in halves.items()}
    labels, count = ndimage.label(brain & (values >= _ABNORMAL * min(levels.values())) & (values > 0))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    high = np.isin(labels, np.flatnonzero(sizes * grid.voxel_volume_ml >= _LEAST_ML))
    if high.any():
        on_left = float(left[high].mean())
        for ill, share in ((True, on_left), (False, 1.0 - on_left)):
            if share >= _ONE_SIDED:
                return levels[not ill], f"contralateral {reference.words}"
    return normal_median(values, reference), reference.words


def clipped_sd(values: Volume, mask: Mask, k: float = 3.0) -> tuple[float, float]:
    """Robust centre and SD (MAD) of ``values`` in ``mask``, what lies ``k`` SDs above left out in turn."""
    v = values[mask]
    if not v.size:
        return 0.0, 0.0
    centre = sd = 0.0
    for _ in range(_ROUNDS):
        centre = float(np.median(v))
        sd = float(_SD_PER_MAD * np.median(np.abs(v - centre)))
        kept = v[v <= centre + k * sd]
        if kept.size == v.size or kept.size < 0.5 * values[mask].size:
            break
        v = kept
    return centre, sd


def find(
    source: str, values: Volume, grid: Grid, brain: Mask, threshold: float, rule: str, min_volume_ml: float
) -> Lesion:
    """The voxels of ``brain`` at or above ``threshold``, in regions (26 neighbours) of at least the volume.

    Regions are numbered from the largest. Volumes in mL, centroids in patient LPS mm, values in the
    map's unit.
    """
    mask = np.zeros(values.shape, dtype=bool)
    if np.isfinite(threshold) and threshold > 0:
        mask = brain & (values >= threshold)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    large = [
        int(n) + 1
        for n in np.argsort(-sizes, kind="stable")
        if sizes[n] * grid.voxel_volume_ml >= min_volume_ml
    ]
    regions = []
    boxes = ndimage.find_objects(labels)
    for order, label in enumerate(large, start=1):
        box = boxes[label - 1]
        here = labels[box] == label
        v = values[box][here]
        at = np.argwhere(here) + [s.start for s in box]
        x, y, z = grid.to_patient(at.mean(axis=0))
        p10, p90 = np.percentile(v, [10, 90])
        regions.append(
            Region(
                label=order,
                volume_ml=float(v.size * grid.voxel_volume_ml),
                mean=float(v.mean(dtype=np.float64)),
                maximum=float(v.max()),
                p10=float(p10),
                p90=float(p90),
                centroid_mm=(float(x), float(y), float(z)),
            )
        )
    mask = np.isin(labels, large)
    inside = values[mask]
    return Lesion(
        source=source,
        mask=mask,
        threshold=float(threshold),
        rule=rule,
        regions=tuple(regions),
        mean=float(inside.mean(dtype=np.float64)) if inside.size else 0.0,
        maximum=float(inside.max()) if inside.size else 0.0,
    )
