"""From LR values to the super-resolved grid, by one method."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from . import baselines, consistency, fnlm
from .axial import through_axial
from .consistency import Measurement
from .grid import Grid
from .maps import Mask, Volume
from .notes import Notes
from .settings import Method


class Network(Protocol):
    """What resolving asks of a trained network (``sr_core.model.LoadedModel``)."""

    @property
    def sha256(self) -> str: ...

    def predict(self, volume: Volume, noise_sigma: float) -> Volume: ...


@dataclass(frozen=True, eq=False)
class Enlarge:
    """``method`` from grid ``lr`` to ``grid``; ``weights`` are the guide's, if the method has a guide."""

    method: Method
    network: Network | None
    lr: Grid
    grid: Grid
    brain: Mask
    weights: fnlm.GuideWeights | None = None

    def guided_by(self, guide: Volume) -> Enlarge:
        """The same, with feature non-local means by ``guide`` (on the SR grid)."""
        return replace(self, weights=fnlm.guide_weights(guide, self.brain))

    def all(
        self, inputs: Sequence[tuple[Volume, Volume, float, Measurement | None]], notes: Notes
    ) -> list[Volume]:
        """(values, σ, scale, measurement) of each map to its SR values: non-negative, 0 outside the brain."""
        with notes.timed("initial"):
            starts = [self.initial(values, sigma, scale) for values, sigma, scale, _ in inputs]
        with notes.timed("method"), ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            return list(pool.map(self.finish, starts, [measured for *_, measured in inputs]))

    def initial(self, values: Volume, sigma: Volume, scale: float) -> Volume:
        n, m = self.lr.shape, self.grid.shape
        factor = (m[0] // n[0], m[1] // n[1], m[2] // n[2])
        if self.method.base == "zerofill":
            return np.asarray(baselines.zerofill(values, factor), dtype=np.float32)
        start = np.asarray(baselines.bicubic(values, factor), dtype=np.float32)
        if self.network is None or scale <= 0:
            return start
        network, noise = self.network, float(np.median(sigma[values > 0])) / scale
        start = consistency.feasible(start, self.brain) / np.float32(scale)
        predicted = through_axial(start, self.grid, lambda v: network.predict(v, noise))
        return np.asarray(predicted * np.float32(scale), dtype=np.float32)

    def finish(self, start: Volume, measured: Measurement | None) -> Volume:
        if self.weights is not None:
            return fnlm.restore(start, self.weights, measured)
        if measured is not None:
            return consistency.alternate(start, measured, self.brain)
        return consistency.feasible(start, self.brain)
