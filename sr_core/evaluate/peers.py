"""Methods of others that a table shows beside ours. None of them is offered by the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import sr_core
from sr_core import baselines, kspace
from sr_core.consistency import feasible
from sr_core.grid import Shape
from sr_core.maps import Acquisition, MetaboliteMap, SuperResolved, Volume
from sr_core.ready import Ready
from sr_core.settings import Settings

Enlarger = Callable[[Volume, Shape], Volume]
Resolve = Callable[[Acquisition, Ready | None], SuperResolved]


def half_pixel_bicubic(lr: Volume, factor: Shape) -> Volume:
    """Keys' cubic convolution as image libraries resize: fields of view share their edges, edges clamped.

    On the grid of the k-space crop, where HR sample ``f·i`` lies on LR sample ``i``, the result lies
    (f − 1) / 2 SR voxels off along each axis. It is here to show what that costs.
    """
    return np.asarray(
        kspace.apply_axes(lr, [_half_pixel(n, f) for n, f in zip(lr.shape, factor, strict=True)]),
        dtype=np.float32,
    )


def _half_pixel(n: int, factor: int) -> Volume:
    """(n·factor × n) weights: HR sample j lies at (j + ½) / factor − ½ of the LR samples."""
    at = (np.arange(n * factor) + 0.5) / factor - 0.5
    weights = np.zeros((n * factor, n), dtype=np.float32)
    for reach in range(-1, 3):
        source = np.floor(at).astype(int) + reach
        t = np.abs(at - source)
        near = 1.5 * t**3 - 2.5 * t**2 + 1.0
        far = -0.5 * t**3 + 2.5 * t**2 - 4.0 * t + 2.0
        kernel = np.where(t <= 1.0, near, np.where(t < 2.0, far, 0.0))
        np.add.at(weights, (np.arange(n * factor), np.clip(source, 0, n - 1)), kernel)
    return weights


@dataclass(frozen=True)
class Peer:
    """``enlarge`` of the LR map as measured; ``everywhere``: over the whole field of view, no brain known."""

    enlarge: Enlarger
    everywhere: bool = False


PEERS = {
    "bicubic-plain": Peer(baselines.bicubic, everywhere=True),
    "bicubic-half-pixel": Peer(half_pixel_bicubic),
}


def load_peer(name: str, settings: Settings) -> Resolve:
    """A resolver of ``PEERS[name]``; where it needs a brain, as the pipeline finds it. Values are ≥ 0."""
    aligned = sr_core.load(None, "bicubic", settings)
    peer = PEERS[name]

    def resolve(acquisition: Acquisition, ready: Ready | None = None) -> SuperResolved:
        result = aligned(acquisition, ready)
        brain = np.ones_like(result.brain) if peer.everywhere else result.brain
        maps = tuple(
            MetaboliteMap(m.metabolite, feasible(_enlarged(m, acquisition), brain), m.unit, m.grid)
            for m in result.maps
        )
        return replace(
            result, brain=brain, maps=maps, provenance=replace(result.provenance, method_used=name)
        )

    def _enlarged(m: MetaboliteMap, acquisition: Acquisition) -> Volume:
        source = acquisition.map_of(m.metabolite)
        assert source is not None  # the result has maps of the acquisition's metabolites only
        f = tuple(a // b for a, b in zip(m.grid.shape, source.grid.shape, strict=True))
        return peer.enlarge(np.nan_to_num(source.values), (f[0], f[1], f[2]))

    return resolve
