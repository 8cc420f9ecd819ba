"""From LR values to the super-resolved grid, by one method."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

import numpy as np
from threadpoolctl import threadpool_limits

from . import baselines, consistency, fnlm, manjon, tv
from .axial import axial_factor, through_axial
from .consistency import Measurement
from .grid import Grid, Shape
from .maps import Mask, Volume
from .metabolites import Contrast
from .notes import Notes
from .settings import VARIATIONAL, Method, Settings


class Network(Protocol):
    """What resolving asks of a trained network (``sr_core.model.LoadedModel``)."""

    @property
    def sha256(self) -> str: ...

    @property
    def contrasts(self) -> tuple[Contrast, ...]: ...

    def predict(
        self, volume: Volume, noise_sigma: float, images: Sequence[Volume | None] = (), single: bool = False
    ) -> Volume: ...


@dataclass(frozen=True, eq=False)
class Input:
    """One map to enlarge, on the LR grid: ``values``, ``sigma`` per voxel, and their ``scale`` in the brain.

    ``measured`` is what data consistency is with; None for what was not measured as it is, a ratio say.
    """

    values: Volume
    sigma: Volume
    scale: float
    measured: Measurement | None


@dataclass(frozen=True, eq=False)
class Enlarged:
    """One map on the SR grid; ``unguided``: what the method gives without the MRI, None if it has none."""

    values: Volume
    unguided: Volume | None


@dataclass(frozen=True, eq=False)
class Enlarge:
    """``method`` from grid ``lr`` to ``grid``.

    ``guides``: anatomical images on ``grid``; ``weights``: theirs, if the method has ``+fnlm``.
    ``images``: what the network sees besides the map, one for each of its contrasts.
    """

    method: Method
    settings: Settings
    network: Network | None
    lr: Grid
    grid: Grid
    brain: Mask
    images: tuple[Volume | None, ...] = ()
    guides: tuple[Volume, ...] = ()
    weights: fnlm.GuideWeights | None = None

    @property
    def factor(self) -> Shape:
        n, m = self.lr.shape, self.grid.shape
        return (m[0] // n[0], m[1] // n[1], m[2] // n[2])

    def all(self, inputs: Sequence[Input], notes: Notes) -> list[Enlarged]:
        """Each map's SR values: non-negative, 0 outside the brain."""
        with notes.timed("initial"):
            starts = [self.initial(i) for i in inputs]
        # Maps go side by side; matrix products with threads of their own would stand in each other's way.
        with (
            notes.timed("method"),
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool,
        ):
            return list(pool.map(self.finish, starts, [i.measured for i in inputs]))

    def initial(self, i: Input) -> Volume:
        """The method's base, not yet made feasible."""
        base = self.method.base
        if base == "zerofill":
            return np.asarray(baselines.zerofill(i.values, self.factor), dtype=np.float32)
        if base == "manjon":
            return manjon.manjon(i.values, self.factor)
        start = np.asarray(baselines.bicubic(i.values, self.factor), dtype=np.float32)
        if base in VARIATIONAL and i.measured is not None:
            parameters = replace(self.settings.tv, kind=cast(Literal["tv", "wtv", "dtv"], base))
            guide = self.guides[0] if self.guides else None
            return tv.restore(start, i.measured, self.brain, parameters, guide, self.grid.spacing_mm)
        if self.network is None or i.scale <= 0:
            return start
        noise = float(np.median(i.sigma[i.values > 0])) / i.scale
        start = consistency.feasible(start, self.brain) / np.float32(i.scale)
        network, single = self.network, axial_factor(self.factor, self.grid)[0] == 1
        predicted = through_axial(
            start, self.images, self.grid, lambda v, images: network.predict(v, noise, images, single)
        )
        return np.asarray(predicted * np.float32(i.scale), dtype=np.float32)

    def finish(self, start: Volume, measured: Measurement | None) -> Enlarged:
        """From the initial map to the method's result."""
        held = measured if self.method.dc else None
        plain = consistency.feasible(start, self.brain)
        if held is not None:
            plain = consistency.alternate(start, held, self.brain)
        if self.weights is None:
            return Enlarged(plain, None)
        guided = fnlm.restore(start, self.weights, held, self.factor, self.settings.fnlm)
        return Enlarged(guided, plain)
