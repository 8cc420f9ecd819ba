"""Weights between brain voxels: once per study from the guide, and as an operator on any map."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sr_core.kspace import Part
from sr_core.maps import Mask, Volume

from .features import guide_features
from .parameters import Fnlm

_CHUNK = 8192  # rows whose weights stay in a core's cache

Values = NDArray[np.float32]  # one per brain voxel


@dataclass(frozen=True, eq=False)
class GuideWeights:
    """Weights between brain voxels: ``weight[v, k]`` (0 … 1) of neighbour ``neighbour[v, k]``.

    Voxels are numbered in the order of ``brain`` (C order); column 0 is the voxel itself, weight 1.
    """

    brain: Mask
    neighbour: NDArray[np.int32]
    weight: NDArray[np.float32]


def window(shape: Sequence[int], p: Fnlm) -> NDArray[np.int64]:
    """(n, 3) offsets within the window, the centre left out, none beyond a thin volume."""
    reach = [min(int(p.radius), n - 1) for n in shape]
    if p.window == "2d":
        reach[0] = 0
    offsets = product(*(range(-r, r + 1) for r in reach))
    return np.array([o for o in offsets if 0 < sum(c * c for c in o) <= p.radius**2])


def in_chunks(count: int, work: Callable[[slice], None]) -> None:
    """``work`` on slices of ``count`` rows, on all cores; slices do not touch each other."""
    slices = [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, slices))


def guide_weights(guides: Sequence[Volume], brain: Mask, p: Fnlm = Fnlm()) -> GuideWeights:  # noqa: B008 - frozen
    """Weights of every brain voxel's most similar neighbours, from ``guides`` alone.

        w(v, u) = exp(−‖f(v) − f(u)‖² / (K h²)),   u in the window around v,

    f the K features of ``guide_features``. ``guides`` and ``brain`` lie on the SR grid; of equally
    similar neighbours the nearest are kept. Memory: 8 bytes × ``kept`` per brain voxel. Raises
    ValueError if the brain is empty.
    """
    box = Part.around(brain).box
    margin = int(p.radius)
    features = guide_features([np.ascontiguousarray(g[box]) for g in guides], brain[box], p.log)
    inside = np.pad(brain[box], margin)
    count = int(inside.sum())
    position = np.flatnonzero(inside)
    number = np.full(inside.size, count, dtype=np.int32)  # outside the brain: the row behind the last
    number[position] = np.arange(count, dtype=np.int32)
    lists = np.full((len(features), count + 1), np.inf, dtype=np.float32)  # … infinitely unlike any other
    lists[:, :count] = features[:, brain[box]]
    offsets = window(brain.shape, p)
    nearer_first = (1e-6 * (offsets**2).sum(axis=1)).astype(np.float32)
    strides = offsets @ np.array([inside.shape[1] * inside.shape[2], inside.shape[2], 1])
    kept = min(p.kept, len(strides))
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
        weight[v, 1:] = np.exp(apart * np.float32(-1.0 / (len(lists) * p.h * p.h)))

    in_chunks(count, fill)
    return GuideWeights(brain, neighbour, weight)


def operator(
    g: GuideWeights, x: Values | None = None, spread: float = 1.0, into: Values | None = None
) -> sparse.csr_matrix:
    """Row-normalised weights; with ``x`` (per brain voxel), times exp(−(x_v − x_u)² / spread²).

    ``into`` (the size of the weights) is used for them, and overwritten: fresh memory costs as much
    as the arithmetic.
    """
    count, kept = g.weight.shape
    data = np.empty((count, kept), dtype=np.float32) if into is None else into.reshape(count, kept)
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

    in_chunks(count, fill)
    indptr = np.arange(0, count * kept + 1, kept, dtype=np.int32)
    return sparse.csr_matrix((data.ravel(), g.neighbour.ravel(), indptr), shape=(count, count), copy=False)
