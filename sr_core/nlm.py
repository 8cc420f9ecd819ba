"""Non-local means: every voxel becomes the mean of the voxels around it whose patches look like its own.

One engine for all uses: guided by the map itself or by another image, in volumes or within planes,
with one strength or with a noise level per voxel. Weights are symmetric, so each pair of voxels is
looked at once, for both. Volumes are laid out with a border and then treated as one line of voxels: a
neighbour is a constant number of voxels away, a box sum is a few shifted additions, and a slab that
stays in the processor's cache goes through all offsets before the next one is touched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .grid import Shape
from .maps import Mask, Volume

Array = NDArray[Any]
Extent = tuple[int, int]

_SLAB = 100_000  # voxels: large enough to hide the calls, small enough for the cache all cores share
_TINY = 1e-15  # the square of a strength below cannot be written
_WORKERS = 8  # each holds two volumes


def box(reach: int, axes: tuple[bool, bool, bool] = (True, True, True)) -> tuple[Extent, Extent, Extent]:
    """A patch of 2·reach + 1 voxels, centred, along the chosen axes (slice, row, column)."""
    z, y, x = ((-reach, reach) if along else (0, 0) for along in axes)
    return z, y, x


@dataclass(frozen=True)
class Kernel:
    """Which voxels are compared, and how much similar ones count.

    A voxel at offset o, |o| ≤ ``radius`` per axis (slice, row, column), counts with

        w = exp(−max(D / h² − onset, 0)),   D = Σ_p (G(i + p) − G(i + o + p))² / normaliser

    over the ``patch``, given per axis as its lowest and highest offset; 0 if the exponent exceeds
    ``cutoff``. The voxel itself counts 1. ``normaliser`` None is the number of voxels compared.
    ``h`` is in the guide's unit (without unit where a noise level is given).

    ``boundary``: "reflect" continues the volume as a mirror does, without repeating its last voxel;
    "inside" mirrors patches only, and averages no mirrored voxel; "cut" ends both at the last voxel.

    Raises ValueError for a radius < 0, a patch without its own centre, or h ≤ 0.
    """

    radius: Shape
    patch: tuple[Extent, Extent, Extent]
    h: float
    normaliser: float | None = None
    onset: float = 0.0
    cutoff: float | None = None
    boundary: Literal["reflect", "inside", "cut"] = "reflect"

    def __post_init__(self) -> None:
        if len(self.radius) != 3 or min(self.radius) < 0:
            raise ValueError(f"a window has three radii ≥ 0, not {self.radius}")
        if len(self.patch) != 3 or any(low > 0 or high < 0 for low, high in self.patch):
            raise ValueError(f"a patch reaches from ≤ 0 to ≥ 0 along three axes, not {self.patch}")
        if not self.h > 0:
            raise ValueError(f"the strength h of non-local means is > 0, not {self.h}")
        if self.boundary not in ("reflect", "inside", "cut"):
            raise ValueError(f"a boundary is 'reflect', 'inside' or 'cut', not {self.boundary!r}")

    @property
    def patch_size(self) -> int:
        """Voxels in a patch."""
        return int(np.prod([high - low + 1 for low, high in self.patch]))


@dataclass(frozen=True, eq=False)
class Levels:
    """A strength per voxel (Manjón 2010): both voxels of a pair go by ``h`` of its first in scan order.

    A pair is skipped where ``mean`` of its voxels differs by more than ``apart``·h, or where h is 0.
    """

    h: Volume
    mean: Volume
    apart: float


def nlm_pass(
    values: Volume,
    guide: Volume,
    kernel: Kernel,
    mask: Mask | None = None,
    sigma: Volume | None = None,
    levels: Levels | None = None,
) -> Volume:
    """One pass of non-local means over ``values``, with weights from ``guide`` (both slice, row, column).

    Inside ``mask`` only: voxels outside are neither averaged nor compared, whatever they hold, and
    are returned as they came; D is then the mean over the voxels that both patches have inside,
    times patch size over ``normaliser``.

    ``sigma``, the noise SD per voxel (> 0 in the mask, in the guide's unit): squared differences are
    divided by σi² + σj², so that D is 1 where noise alone parts two patches, and voxels count by 1/σ²
    besides. ``levels`` makes h local: D / (h·levels.h)².

    Raises ValueError if shapes differ, or a value inside the mask is not finite or its σ not > 0.
    """
    if values.ndim != 3:
        raise ValueError(f"non-local means wants three axes, not {values.ndim}")
    inside = np.ones(values.shape, bool) if mask is None else mask
    others: list[Array] = [guide, inside] if sigma is None else [guide, inside, sigma]
    others += [] if levels is None else [levels.h, levels.mean]
    if any(a.shape != values.shape for a in others):
        raise ValueError(f"values of {values.shape} with {[a.shape for a in others]}: one shape is wanted")
    out = np.array(values, dtype=np.float32)
    if not inside.any():
        return out
    if not (np.isfinite(values[inside]).all() and np.isfinite(guide[inside]).all()):
        raise ValueError("non-local means wants finite values inside the mask")
    if sigma is not None and not (sigma[inside] > 0).all():
        raise ValueError("noise levels are σ > 0 inside the mask")
    pairs = _Pairs.of(values, guide, kernel, inside, mask is None, sigma, levels)
    offsets = half_window(kernel.radius)
    workers = max(1, min(_WORKERS, os.cpu_count() or 1, len(offsets)))
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(pairs.accumulated, [offsets[n::workers] for n in range(workers)]))
    total, weight = pairs.itself()
    for t, w in parts:
        total += t
        weight += w
    line = pairs.line
    within = inside[line.box]
    out[line.box][within] = line.volume(total)[within] / line.volume(weight)[within]
    return out


def half_window(radius: Sequence[int]) -> list[tuple[int, ...]]:
    """One of each pair ±offset, the later in scan order; the centre left out."""
    return [o for o in product(*(range(-r, r + 1) for r in radius)) if o > (0,) * len(radius)]


def bounding_box(mask: Mask, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box around ``mask``, widened by ``margin`` voxels. Raises ValueError if empty."""
    if not mask.any():
        raise ValueError("an empty mask has no bounding box")
    found = []
    for axis in range(mask.ndim):
        at = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        found.append(slice(max(0, int(at[0]) - margin), min(mask.shape[axis], int(at[-1]) + 1 + margin)))
    return tuple(found)


@dataclass(frozen=True)
class _Line:
    """A box of a volume, with a border as wide as window and patch reach, as one line of voxels."""

    box: tuple[slice, ...]
    border: Shape
    shape: Shape  # with the border

    @classmethod
    def of(cls, mask: Mask, kernel: Kernel) -> _Line:
        box = bounding_box(mask)
        z, y, x = (r + max(-low, high) for r, (low, high) in zip(kernel.radius, kernel.patch, strict=True))
        n = [b.stop - b.start for b in box]
        return cls(box, (z, y, x), (n[0] + 2 * z, n[1] + 2 * y, n[2] + 2 * x))

    @property
    def strides(self) -> Shape:
        return self.shape[1] * self.shape[2], self.shape[2], 1

    def apart(self, offset: Sequence[int]) -> int:
        """How far along the line a neighbour at ``offset`` is."""
        return sum(o * s for o, s in zip(offset, self.strides, strict=True))

    def laid(self, volume: Array, mirrored: bool) -> Array:
        """``volume`` along the line; beyond its edges its mirror image, or 0."""
        padded = np.pad(volume, [(b, b) for b in self.border], mode="reflect" if mirrored else "constant")
        wide = tuple(slice(b.start, b.stop + 2 * c) for b, c in zip(self.box, self.border, strict=True))
        return np.ascontiguousarray(padded[wide]).ravel()

    def volume(self, line: Array) -> Array:
        """The box out of the line, without its border."""
        return line.reshape(self.shape)[
            tuple(slice(c, n - c) for c, n in zip(self.border, self.shape, strict=True))
        ]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """All that the weights of pairs are made of, along the line; None where it would be 1 everywhere.

    ``counts``: how much a voxel counts as a neighbour. ``compared``: 1 where a patch may be compared.
    ``steep``: 1 / h² per voxel; ``reach``: how far means may differ.
    """

    kernel: Kernel
    line: _Line
    values: Array
    guide: Array
    counts: Array | None
    compared: Array | None
    variance: Array | None
    steep: Array | None
    mean: Array | None
    reach: Array | None

    @classmethod
    def of(
        cls,
        values: Volume,
        guide: Volume,
        kernel: Kernel,
        inside: Mask,
        everywhere: bool,
        sigma: Volume | None,
        levels: Levels | None,
    ) -> _Pairs:
        line = _Line.of(inside, kernel)
        mirrored, compared_mirrored = kernel.boundary == "reflect", kernel.boundary != "cut"

        def laid(volume: Array, outside: float = 0.0) -> Array:
            return line.laid(
                np.where(inside, volume, np.float32(outside)).astype(np.float32), compared_mirrored
            )

        v = laid(values)
        counts = None if everywhere and mirrored else line.laid(inside.astype(np.float32), mirrored)
        compared = None
        if not (everywhere and compared_mirrored):
            compared = line.laid(
                inside.astype(np.uint8 if kernel.patch_size < 256 else np.uint16), compared_mirrored
            )
        variance = steep = mean = reach = None
        if sigma is not None:
            variance = laid(np.square(sigma, dtype=np.float32), outside=1.0)
            variance[variance == 0] = 1.0  # beyond a cut
            counts = (1 if counts is None else counts) / variance
        if levels is not None:
            used = levels.h > _TINY
            steep = laid(1 / np.square(np.where(used, levels.h, 1)))
            mean = laid(levels.mean)
            reach = laid(np.where(used, levels.apart * levels.h, -1), outside=-1)
        g = v if guide is values else laid(guide)
        return cls(kernel, line, v, g, counts, compared, variance, steep, mean, reach)

    def itself(self) -> tuple[Array, Array]:
        """What each voxel adds to its own mean: Σ w·value, Σ w."""
        weight = np.ones_like(self.values) if self.counts is None else self.counts.copy()
        return weight * self.values, weight

    def accumulated(self, offsets: Sequence[tuple[int, ...]]) -> tuple[Array, Array]:
        """Σ w·value and Σ w over the pairs at ``offsets``, for both voxels of each."""
        (plane, row, _), (z, y, x) = self.line.strides, self.line.border
        depth, height, width = self.line.shape
        _, ry, rx = self.kernel.radius
        beyond = self.line.apart([high for _, high in self.kernel.patch])
        reflect = self.kernel.boundary == "reflect"
        begin, planes = z - (self.kernel.radius[0] if reflect else 0), max(1, _SLAB // plane)
        total, weight = np.zeros_like(self.values), np.zeros_like(self.values)
        weighted = self.values if self.counts is None else self.values * self.counts
        work = _Work.of(self, planes)
        for slab in range(begin, depth - z, planes):
            for offset in offsets:
                first, last = slab, min(slab + planes, depth - z) - 1
                if reflect:
                    first = max(first, z - offset[0])  # one voxel of each pair is in the volume
                else:
                    last = min(last, depth - z - 1 - offset[0])  # both are
                if first > last:
                    continue
                apart = self.line.apart(offset)
                start = first * plane + (y - ry) * row + x - rx
                stop = last * plane + (height - y - 1 + ry) * row + width - x + rx
                stop = min(stop, self.values.size - apart - beyond)
                i, j = slice(start, stop), slice(start + apart, stop + apart)
                w, spare = self._weights(i, apart, work)
                for here, there in ((i, j), (j, i)):
                    total[here] += np.multiply(w, weighted[there], out=spare)
                    weight[here] += (
                        w if self.counts is None else np.multiply(w, self.counts[there], out=spare)
                    )
        return total, weight

    def _weights(self, i: slice, apart: int, work: _Work) -> tuple[Array, Array]:
        """w of the pairs (i, i + apart), and an array of as many voxels that is free."""
        k, count = self.kernel, i.stop - i.start
        low, high = (self.line.apart([extent[end] for extent in k.patch]) for end in (0, 1))
        a = slice(i.start + low, i.stop + high)
        b = slice(a.start + apart, a.stop + apart)
        d, spare = (f[: a.stop - a.start] for f in work.floats)
        np.subtract(self.guide[a], self.guide[b], out=d)
        np.square(d, out=d)
        if self.variance is not None:
            d /= np.add(self.variance[a], self.variance[b], out=spare)
        size = k.patch_size
        scale = -size / ((k.normaliser or size) * k.h**2)
        if self.compared is None:
            d, spare = self._patch_sum(d, spare)
            d *= np.float32(scale / size)
        else:
            both, other = (c[: a.stop - a.start] for c in work.counters)
            np.multiply(self.compared[a], self.compared[b], out=both)
            d *= both
            d, spare = self._patch_sum(d, spare)
            both, _ = self._patch_sum(both, other)
            d /= np.maximum(both, 1, out=both)
            d *= np.float32(scale)
        d, spare = d[:count], spare[:count]
        if self.steep is not None:
            d *= self.steep[i]
        if k.onset:
            d += np.float32(k.onset)
            np.minimum(d, 0, out=d)
        near = None if k.cutoff is None else d >= np.float32(-k.cutoff)
        np.exp(d, out=d)
        if near is not None:
            d *= near
        if self.mean is not None and self.reach is not None:
            np.subtract(self.mean[i], self.mean[i.start + apart : i.stop + apart], out=spare)
            d *= np.abs(spare, out=spare) <= self.reach[i]
        return d, spare

    def _patch_sum(self, x: Array, free: Array) -> tuple[Array, Array]:
        """Sum over the patch, its first voxel at index 0; and the array that is free now."""
        for (low, high), stride in zip(self.kernel.patch, self.line.strides, strict=True):
            if high > low:
                n = x.size - (high - low) * stride
                total = np.add(x[:n], x[stride : n + stride], out=free[:n])
                for t in range(2, high - low + 1):
                    total += x[t * stride : n + t * stride]
                x, free = total, x[:n]
        return x, free


@dataclass(frozen=True, eq=False)
class _Work:
    """What one thread writes a slab's differences to."""

    floats: tuple[Array, Array]
    counters: tuple[Array, Array]

    @classmethod
    def of(cls, pairs: _Pairs, planes: int) -> _Work:
        low, high = pairs.kernel.patch[0]
        room = (planes + high - low + 1) * pairs.line.strides[0]
        kind = np.uint8 if pairs.compared is None else pairs.compared.dtype
        counted = 0 if pairs.compared is None else room
        return cls(
            (np.empty(room, np.float32), np.empty(room, np.float32)),
            (np.empty(counted, kind), np.empty(counted, kind)),
        )
