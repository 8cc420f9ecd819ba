"""A volume as slabs of axial planes, the form in which it goes through a network and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .maps import Volume

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Slabs:
    """Slabs of ``planes`` planes that hold ``box`` of a volume of ``shape`` (slices, rows, columns).

    They start at whole multiples of ``planes``, so that in every slab planes lie alike between the LR
    planes, in training as in use. Rows and columns are padded to multiples of ``stride``.
    """

    shape: tuple[int, ...]
    planes: int
    stride: int
    box: Box

    @property
    def first(self) -> int:
        """The first slab's number in the volume."""
        return int(self.box[0].start) // self.planes

    @property
    def count(self) -> int:
        """How many slabs."""
        return -(-int(self.box[0].stop) // self.planes) - self.first

    @property
    def _beyond(self) -> tuple[int, int]:
        rows, columns = (-(s.stop - s.start) % self.stride for s in self.box[1:])
        return rows, columns

    def padded(self, volume: Volume, reach: int) -> Volume:
        """The slabs of ``volume`` in one array, with ``reach`` more planes at both ends, edges repeated."""
        start, stop = self.first * self.planes, (self.first + self.count) * self.planes
        planes = np.clip(np.arange(start - reach, stop + reach), 0, self.shape[0] - 1)
        cut = volume[planes][:, self.box[1], self.box[2]]
        return np.pad(cut, ((0, 0), *((0, n) for n in self._beyond)), mode="edge")

    def cut(self, padded: Volume, n: int, reach: int) -> Volume:
        """Slab ``n`` of ``padded`` with ``reach`` planes on both sides."""
        return padded[n * self.planes : (n + 1) * self.planes + 2 * reach]

    def cut_all(self, images: Sequence[Volume | None], n: int, reach: int) -> Volume:
        """Slab ``n`` of each padded image, one after the other; zeros for one that is missing."""
        size = [s.stop - s.start + n for s, n in zip(self.box[1:], self._beyond, strict=True)]
        empty = np.zeros((self.planes + 2 * reach, *size), np.float32)
        return np.concatenate([empty if i is None else self.cut(i, n, reach) for i in images])

    def paste(self, slab: Volume, n: int, result: Volume) -> None:
        """Write slab ``n``, without context, to its place in ``result``."""
        start = (self.first + n) * self.planes
        part = result[start : start + self.planes, self.box[1], self.box[2]]
        part[...] = slab[: part.shape[0], : part.shape[1], : part.shape[2]]
