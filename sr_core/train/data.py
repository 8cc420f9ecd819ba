"""Random crops of cases, and what happens to anatomy on the way: the training of mistrust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sr_core import baselines, kspace
from sr_core.consistency import Measurement
from sr_core.kspace import Part
from sr_core.maps import Mask
from sr_core.simulate.tissue import FACTOR
from sr_core.slabs import Box, Slabs

from .cases import Case
from .config import Network

Planes = NDArray[np.float32]
Cut = Callable[[NDArray[np.generic], int, Sequence[int]], Planes]

# Fewer brain voxels than this in a slab, and nothing is learned from it.
_FEW_VOXELS = 400
# How much a scanner's contrast, shading and noise vary, in SDs of the image.
_GAIN, _CURVE, _SHADE, _NOISE = 0.1, 0.05, 0.1, 0.06
# Share of crops of a single slab: enlarged in plane only, as the LR planes were.
_SINGLE = 0.08
_FARTHEST = 2  # SR voxels that an image is displaced by


@dataclass(frozen=True, eq=False)
class Batch:
    """float32 tensors (batch, planes, rows, columns) as ``networks.UNet`` takes them, and the truth.

    ``inside`` is 1 in the brain: what is said outside it is not asked for.
    """

    stack: Tensor
    sigma: Tensor
    images: Tensor | None
    truth: Tensor
    inside: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``, channels last."""

        def moved(t: Tensor) -> Tensor:
            return t.to(device, memory_format=torch.channels_last, non_blocking=True)

        images = None if self.images is None else moved(self.images)
        return Batch(moved(self.stack), self.sigma.to(device), images, moved(self.truth), moved(self.inside))


@dataclass(frozen=True, eq=False)
class WholeMap:
    """One map of a case, all its slabs as the batch; its box, the brain there, and what was measured."""

    measured: Measurement
    part: Part
    brain: Mask
    batch: Batch


class Crops:
    """Random crops of random slabs. Batch ``i`` depends on the seed and ``i`` only: resuming is exact.

    A case is drawn evenly, then one of its maps, a slab of it, and a place in the brain. ``dropout``:
    how often each anatomical image is withheld, shown without its lesion, or displaced.
    """

    def __init__(self, cases: Sequence[Case], network: Network, seed: int, dropout: float = 0.0) -> None:
        self._cases, self._network, self._seed, self._dropout = cases, network, seed, dropout
        self._slabs = [self._with_brain(c) for c in cases]

    def _with_brain(self, case: Case) -> NDArray[np.intp]:
        n = self._network.planes
        count = case.brain.shape[0] // n
        voxels = case.brain[: count * n].reshape(count, -1).sum(axis=1)
        return np.flatnonzero(voxels >= _FEW_VOXELS)

    def batch(self, iteration: int, size: int, crop: int) -> Batch:
        """``size`` crops of ``crop`` × ``crop`` voxels."""
        rng = np.random.default_rng((self._seed, iteration))
        drawn = [self._draw(rng, crop) for _ in range(size)]
        stack, images, truth, inside = [torch.from_numpy(np.stack([d[n] for d in drawn])) for n in range(4)]
        sigma = torch.tensor([d[4] for d in drawn], dtype=torch.float32)
        return Batch(stack, sigma, images if self._network.images else None, truth, inside)

    def whole(self, iteration: int) -> WholeMap:
        """One map of one case, drawn as for a batch, with all its slabs as the batch; edges repeated."""
        rng = np.random.default_rng((self._seed, iteration, 1))
        case = self._cases[int(rng.integers(len(self._cases)))]
        pair = case.pairs[int(rng.integers(len(case.pairs)))]
        net = self._network
        slabs = Slabs(case.brain.shape, net.planes, 2 ** (len(net.channels) - 1), _all(case.brain.shape))

        def every(volume: NDArray[np.generic], reach: int, offset: Sequence[int] = (0, 0, 0)) -> Planes:
            moved = np.roll(volume, [-o for o in offset], (0, 1, 2)) if any(offset) else volume
            return slabs.padded(np.asarray(moved, np.float32), reach)

        def stacked(padded: Planes, reach: int) -> Planes:
            return np.stack([slabs.cut(padded, n, reach) for n in range(slabs.count)])

        reach = net.image_context
        images = [stacked(self._image(rng, case, n, every), reach) for n in range(net.images)]
        inside = every(case.brain, 0)
        inside[:, case.brain.shape[1] :] = 0
        inside[:, :, case.brain.shape[2] :] = 0
        batch = Batch(
            torch.from_numpy(stacked(every(pair.initial, net.context), net.context)),
            torch.full((slabs.count,), pair.sigma),
            torch.from_numpy(np.concatenate(images, axis=1)) if images else None,
            torch.from_numpy(stacked(every(pair.truth, 0), 0)),
            torch.from_numpy(stacked(inside, 0)),
        )
        return WholeMap(pair.measured, case.part, case.brain, batch)

    def _draw(self, rng: np.random.Generator, crop: int) -> tuple[Planes, Planes, Planes, Planes, float]:
        which = int(rng.integers(len(self._cases)))
        case = self._cases[which]
        pair = case.pairs[int(rng.integers(len(case.pairs)))]
        net = self._network
        first = int(rng.choice(self._slabs[which])) * net.planes
        where = np.argwhere(case.brain[first : first + net.planes].any(axis=0))
        # Where strided convolutions begin at inference, too: they are not alike at every offset.
        stride = 2 ** (len(net.channels) - 1)
        corner = [(int(c) - crop // 2) // stride * stride for c in where[int(rng.integers(len(where)))]]

        def cut(volume: NDArray[np.generic], reach: int, offset: Sequence[int] = (0, 0, 0)) -> Planes:
            planes = np.arange(first - reach, first + net.planes + reach) + offset[0]
            planes = np.clip(planes, 0, volume.shape[0] - 1)
            rows = [c + o for c, o in zip(corner, offset[1:], strict=True)]
            return _window(volume, planes, rows, crop)

        images = [self._image(rng, case, n, cut) for n in range(net.images)]
        sigma = pair.sigma
        parts = [cut(pair.initial, net.context), cut(pair.truth, 0), cut(case.brain, 0)]
        if rng.random() < _SINGLE:
            k = int(rng.integers(net.planes))
            blurred = _blurred_in_plane(np.asarray(pair.truth[first + k], np.float32), case, first + k)
            alone = _window(blurred[None], np.zeros(1, np.intp), corner, crop)
            images = [np.repeat(i[k + net.image_context][None], len(i), 0) for i in images]
            parts = [np.repeat(p[k : k + 1], net.planes, 0) for p in parts]
            parts[0] = np.repeat(alone, net.planes + 2 * net.context, 0)
            sigma = 0.0
        flipped = tuple(axis for axis in (1, 2) if rng.random() < 0.5)
        if rng.random() < 0.5:  # along the slices; each image is a stack of its own
            parts, images = [p[::-1] for p in parts], [i[::-1] for i in images]
        parts.append(np.concatenate(images) if images else np.zeros((0, crop, crop), np.float32))
        stack, truth, inside, seen = (np.ascontiguousarray(np.flip(p, flipped)) for p in parts)
        return stack, seen, truth, inside, sigma

    def _image(self, rng: np.random.Generator, case: Case, n: int, cut: Cut) -> Planes:
        """Image ``n`` as another scanner, another head position, or nobody would have taken it."""
        reach = self._network.image_context
        fate = rng.random() / max(self._dropout, 1e-9)
        gain, offset, curve, noise = rng.standard_normal(4)
        slope = rng.standard_normal(2)
        moved = rng.integers(-_FARTHEST, _FARTHEST + 1, size=3)
        volume = case.plain[n] if 1 <= fate < 1.5 else case.images[n]
        image = cut(volume, reach, [int(m) for m in moved] if 1.5 <= fate < 2 else (0, 0, 0))
        if fate < 1:
            return np.zeros_like(image)
        inside = image != 0
        down, across = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape[1:])
        shade = _SHADE * (slope[0] * down[:, None] + slope[1] * across[None, :])
        image = image * np.float32(1 + _GAIN * gain) + np.float32(_GAIN * offset)
        image = image + np.float32(_CURVE * curve) * (image**2 - 1) + shade.astype(np.float32)
        grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(_NOISE * abs(noise))
        return np.asarray(np.clip(image + grain, -4, 4) * inside, np.float32)


def _blurred_in_plane(plane: Planes, case: Case, k: int) -> Planes:
    """The bicubic map of a plane of ``case`` of which rows and columns alone are four times coarser."""
    _, rows, columns = case.part.shape
    whole = np.zeros((1, rows, columns), np.float32)
    _, *box = case.part.box
    whole[0, box[0], box[1]] = plane
    measured = kspace.forward(whole, (1, rows // FACTOR[1], columns // FACTOR[2]))
    enlarged = baselines.bicubic(measured, (1, *FACTOR[1:]))[0, box[0], box[1]]
    return np.asarray(np.maximum(enlarged, 0) * case.brain[k], np.float32)


def _window(
    volume: NDArray[np.generic], planes: NDArray[np.intp], corner: Sequence[int], size: int
) -> Planes:
    """A square window of ``planes`` that may reach beyond them: 0 there, as outside the brain."""
    out = np.zeros((len(planes), size, size), dtype=np.float32)
    spans = []
    for at, length in zip(corner, volume.shape[1:], strict=True):
        low, high = max(at, 0), min(at + size, length)
        spans.append((slice(low - at, max(high - at, low - at)), slice(low, max(high, low))))
    out[:, spans[0][0], spans[1][0]] = volume[planes, spans[0][1], spans[1][1]]
    return out


def _all(shape: Sequence[int]) -> Box:
    rows = [slice(0, n) for n in shape]
    return rows[0], rows[1], rows[2]
