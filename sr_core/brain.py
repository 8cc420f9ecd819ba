"""Where the brain is, on the maps' grid and on the super-resolved one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .baselines import bicubic
from .grid import Grid, Shape
from .maps import Acquisition, AnatomicalImage, Mask, Volume
from .metabolites import BY_ABSOLUTE_CRLB

# Signal inside the brain is at least this many times what the rest of the field of view shows;
# where it is not, no background can be told apart and all that has values counts.
_CONTRAST = 3.0
_CRUMB = 0.02  # components below this share of the largest are noise


def _otsu(x: Volume) -> float:
    """Otsu's threshold over 128 bins."""
    counts, edges = np.histogram(x, bins=128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[int(np.nanargmax(between[:-1]))])


def _tidy(mask: Mask) -> Mask:
    """Closed, holes filled, crumbs dropped."""
    cross = ndimage.generate_binary_structure(3, 1)
    padded = np.pad(mask, 2)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(padded, cross))[2:-2, 2:-2, 2:-2]
    for plane in filled:
        plane |= ndimage.binary_fill_holes(plane)
    labels, count = ndimage.label(filled)
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        filled = np.isin(labels, np.flatnonzero(sizes >= _CRUMB * sizes.max()))
    return np.asarray(filled, dtype=bool)


def total_signal(acquisition: Acquisition) -> Volume:
    """Mean of the maps, each over its own 99th percentile, where finite; on the LR grid.

    Maps that are near zero in healthy tissue (2HG, Gln) do not count unless there is nothing else.
    """
    everywhere = [m for m in acquisition.maps if m.metabolite not in BY_ABSOLUTE_CRLB]
    total = np.zeros(acquisition.grid.shape, dtype=np.float32)
    maps = everywhere or list(acquisition.maps)
    for m in maps:
        v = np.maximum(np.nan_to_num(m.values, nan=0.0, posinf=0.0, neginf=0.0), 0.0)
        high = float(np.percentile(v[v > 0], 99)) if (v > 0).any() else 1.0
        total += np.minimum(v / high, 1.0) / len(maps)
    return total


def brain_lr(acquisition: Acquisition) -> Mask:
    """The brain on the maps' grid: the exported mask if there is one, else the maps' own support.

    Support: voxels with a finite, non-zero value in at least half of the maps, closed and filled.
    Where maps fill the whole field of view and their signal has a clear background, that background
    is left out. Raises ValueError if no voxel has a value.
    """
    if acquisition.brain_mask is not None and acquisition.brain_mask.any():
        return np.array(acquisition.brain_mask, dtype=bool)
    maps = [m for m in acquisition.maps if m.metabolite not in BY_ABSOLUTE_CRLB] or list(acquisition.maps)
    votes = sum((np.isfinite(m.values) & (m.values != 0)).astype(np.int16) for m in maps)
    support = np.asarray(votes) * 2 >= len(maps)
    if not support.any():
        raise ValueError("no voxel of any map has a value: there is nothing to super-resolve")
    if support.mean() > 0.6:
        signal = ndimage.gaussian_filter(total_signal(acquisition), 0.7)
        bright = signal > _otsu(signal[support])
        if bright.any() and signal[bright].mean() > _CONTRAST * signal[support & ~bright].mean():
            support = bright
    return _tidy(support)


def brain_sr(lr: Mask, factor: Shape, t1: AnatomicalImage | None = None, grid: Grid | None = None) -> Mask:
    """The LR mask on the super-resolved grid, its outline smooth.

    If ``t1`` (resampled on ``grid``) is skull-stripped, its outline, finer than the maps', is used
    within one LR voxel of theirs.
    """
    smooth = bicubic(lr.astype(np.float32), factor) >= 0.5
    if t1 is None or grid is None or not t1.grid.same_as(grid):
        return smooth
    tissue = t1.values > 0.02 * max(float(np.percentile(t1.values, 99)), 1e-30)
    tissue = np.asarray(ndimage.binary_fill_holes(tissue), dtype=bool)
    near = bicubic(ndimage.binary_dilation(lr).astype(np.float32), factor) >= 0.5
    overlap = int((tissue & smooth).sum())
    stripped = int((tissue & ~near).sum()) < 0.05 * max(int(tissue.sum()), 1)
    if stripped and overlap > 0.7 * int(smooth.sum()):
        return tissue & near
    return smooth
