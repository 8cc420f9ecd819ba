"""Feature non-local means: maps re-interpolated with weights from the anatomical image.

A reading of Jafari-Khouzani (IEEE TMI 33:1969, 2014), whose feature list and parameters are not
known to us. Weights come from features of the guide, once per study, and serve all maps; *joint*
weights are multiplied by the similarity of the map itself, so that a lesion which the guide does
not show is not averaged away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from . import consistency
from .consistency import Measurement
from .denoise import bounding_box
from .maps import Mask, Volume

RADIUS_VOXELS = 3.3  # window: all voxels within this many voxels
KEPT = 56  # weights kept per voxel, the largest; of equals the nearest, which are whole shells up to √5
H = 0.10  # similarity of guides: mean squared feature difference, guide range 1
HX = 0.15  # similarity of maps: as a share of the map's range
PASSES = 10  # with data consistency; without, one
REFRESH = 3  # passes between two looks at the map itself
_CHUNK = 16384


@dataclass(frozen=True, eq=False)
class GuideWeights:
    """Weights between brain voxels: ``weight[v, k]`` (0 … 1) of neighbour ``neighbour[v, k]``.

    Voxels are numbered in the order of ``brain`` (C order); column 0 is the voxel itself, weight 1.
    """

    brain: Mask
    neighbour: NDArray[np.int32]
    weight: NDArray[np.float32]


def guide_features(guide: Volume, brain: Mask) -> NDArray[np.float32]:
    """(4, slice, row, column): intensity, smoothed intensity, gradient magnitude, local SD.

    Each over the guide's 2nd to 98th percentile range inside ``brain``, so that H needs no unit.
    """
    inside = guide[brain]
    low, high = np.percentile(inside, [2, 98])
    g = ((guide - low) / max(float(high - low), np.finfo(np.float32).tiny)).astype(np.float32)
    g = np.clip(g, -0.5, 1.5)
    smooth = ndimage.gaussian_filter(g, 1.0, mode="nearest")
    slope = ndimage.gaussian_gradient_magnitude(g, 1.0, mode="nearest")
    mean = ndimage.uniform_filter(g, 3, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(g**2, 3, mode="nearest") - mean**2, 0.0))
    return np.stack([g, smooth, slope, spread]).astype(np.float32)


def _window(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(n, 3) offsets within the window, the centre left out, none beyond a thin volume."""
    reach = [min(int(RADIUS_VOXELS), n - 1) for n in shape]
    offsets = product(*(range(-r, r + 1) for r in reach))
    return np.array([o for o in offsets if 0 < sum(c * c for c in o) <= RADIUS_VOXELS**2])


def _in_chunks(count: int, work: Callable[[slice], None]) -> None:
    """``work`` on slices of ``count`` rows, on all cores; slices do not touch each other."""
    slices = [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, slices))


def guide_weights(guide: Volume, brain: Mask) -> GuideWeights:
    """Weights of every brain voxel's most similar neighbours, from ``guide`` alone.

    ``guide`` and ``brain`` lie on the SR grid. Memory: 8 bytes × KEPT per brain voxel.
    """
    box = bounding_box(brain)
    margin = int(RADIUS_VOXELS)
    features = guide_features(np.ascontiguousarray(guide[box]), brain[box])
    inside = np.pad(brain[box], margin)
    count = int(inside.sum())
    position = np.flatnonzero(inside)
    number = np.full(inside.size, count, dtype=np.int32)  # outside the brain: the row behind the last
    number[position] = np.arange(count, dtype=np.int32)
    lists = np.full((len(features), count + 1), np.inf, dtype=np.float32)  # … infinitely unlike any other
    lists[:, :count] = features[:, brain[box]]
    window = _window(brain.shape)
    nearer_first = (1e-6 * (window**2).sum(axis=1)).astype(np.float32)
    strides = window @ np.array([inside.shape[1] * inside.shape[2], inside.shape[2], 1])
    kept = min(KEPT, len(strides))
    neighbour = np.empty((count, kept + 1), dtype=np.int32)
    weight = np.empty((count, kept + 1), dtype=np.float32)

    def fill(v: slice) -> None:
        j = np.take(number, position[v, None] + strides)
        apart = np.zeros(j.shape, dtype=np.float32)
        for f in lists:
            difference = np.take(f, j)
            difference -= f[v, None]
            apart += np.square(difference, out=difference)
        best = np.argpartition(apart + nearer_first, kept - 1, axis=1)[:, :kept]
        j, apart = np.take_along_axis(j, best, axis=1), np.take_along_axis(apart, best, axis=1)
        itself = np.arange(v.start, v.stop, dtype=np.int32)
        neighbour[v, 0], weight[v, 0] = itself, 1.0
        neighbour[v, 1:] = np.where(j == count, itself[:, None], j)
        weight[v, 1:] = np.exp(apart * np.float32(-1.0 / (len(lists) * H * H)))

    _in_chunks(count, fill)
    return GuideWeights(brain, neighbour, weight)


def _operator(g: GuideWeights, x: NDArray[np.float32] | None, spread: float) -> sparse.csr_matrix:
    """Row-normalised weights; with ``x`` (per brain voxel), times the similarity of ``x`` itself."""
    count, kept = g.weight.shape
    data = np.empty((count, kept), dtype=np.float32)
    scaled = None if x is None else x * np.float32(1.0 / spread)

    def fill(v: slice) -> None:
        w = data[v]
        if scaled is None:
            w[...] = g.weight[v]
        else:
            np.take(scaled, g.neighbour[v], out=w, mode="clip")
            w -= scaled[v, None]
            np.square(w, out=w)
            np.exp(np.negative(w, out=w), out=w)
            w *= g.weight[v]
        w /= w.sum(axis=1, keepdims=True)

    _in_chunks(count, fill)
    indptr = np.arange(0, count * kept + 1, kept, dtype=np.int32)
    return sparse.csr_matrix((data.ravel(), g.neighbour.ravel(), indptr), shape=(count, count), copy=False)


def _smoothed(x: Volume, brain: Mask) -> NDArray[np.float32]:
    """Gaussian (σ = 1 voxel) of ``x`` inside the brain only, per brain voxel."""
    inside = ndimage.gaussian_filter(brain.astype(np.float32), 1.0, truncate=3.0, mode="constant")
    total = ndimage.gaussian_filter(np.where(brain, x, np.float32(0)), 1.0, truncate=3.0, mode="constant")
    return np.asarray((total[brain] / inside[brain]), dtype=np.float32)


def restore(
    x: Volume,
    g: GuideWeights,
    measured: Measurement | None,
    joint: bool = True,
    spread: float | None = None,
    passes: int | None = None,
) -> Volume:
    """``x`` (SR grid) averaged over similar voxels and, with ``measured``, kept consistent with it.

    Without ``measured`` one pass (the paper's sequential use of MRI), with it PASSES, each followed
    by ``consistency.correct``, positivity and brain support. ``joint`` multiplies the guide's
    weights by exp(−Δx²/spread²); ``spread`` defaults to HX of the map's 99.9th percentile.
    """
    brain = g.brain
    x = consistency.feasible(x, brain)
    if spread is None:
        spread = HX * float(np.percentile(x[brain], 99.9))
    if spread <= 0:
        return x
    operator = None
    for turn in range(passes if passes is not None else (PASSES if measured is not None else 1)):
        if operator is None or (joint and turn % REFRESH == 0):
            operator = _operator(g, _smoothed(x, brain) if joint else None, spread)
        averaged = np.zeros(x.shape, dtype=np.float32)
        averaged[brain] = operator @ x[brain]
        x = (
            averaged
            if measured is None
            else consistency.feasible(consistency.correct(averaged, measured), brain)
        )
    return x
