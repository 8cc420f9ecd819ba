"""Where the brain is, on the maps' grid and on the super-resolved one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .align import resample
from .baselines import bicubic
from .grid import Grid, Shape
from .maps import Acquisition, AnatomicalImage, Mask, Volume
from .metabolites import BY_ABSOLUTE_CRLB

# Signal inside the brain is at least this many times what the rest of the field of view shows;
# where it is not, no background can be told apart and all that has values counts.
_CONTRAST = 3.0
_CRUMB = 0.02  # components below this share of the largest are noise
_AGREES = 0.6  # Dice with the maps' outline; a T1's outline below it is not this brain's
_FULL = 0.6  # a mask that fills more of the field of view than this says nothing of the brain


def _otsu(x: NDArray[np.floating]) -> float:
    """Otsu's threshold over 128 bins; of a constant, its value."""
    x = np.asarray(x, dtype=np.float64)
    if not np.ptp(x) > 0:
        return float(x.max())
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


@dataclass(frozen=True, eq=False)
class Outline:
    """The brain on the super-resolved grid; ``words`` say from what, ``warning`` what went wrong."""

    mask: Mask
    words: str
    warning: str | None = None


def brain_sr(lr: Mask, factor: Shape, t1: AnatomicalImage | None = None, grid: Grid | None = None) -> Mask:
    """The mask of ``outline``."""
    return outline(lr, factor, t1, grid).mask


def outline(lr: Mask, factor: Shape, t1: AnatomicalImage | None = None, grid: Grid | None = None) -> Outline:
    """The brain on the super-resolved ``grid``: from the T1, within one LR voxel of the maps' own mask.

    ``t1`` lies in the grid's Frame of Reference, on that grid or, better, on its own. If it is
    skull-stripped its own outline counts, else that of ``deepbet`` (Fisch et al., Comput. Biol. Med.
    179:108845, 2024), whose weights come with the package. Where it does not reach, without a T1, and
    where its outline disagrees grossly with the maps' (then with a warning), the maps' outline
    counts, made smooth. What lies more than one LR voxel inside the maps' mask is never cut away.
    The same input gives the same mask.
    """
    smooth = np.asarray(bicubic(lr.astype(np.float32), factor) >= 0.5)
    from_maps = Outline(smooth, "maps")
    if t1 is None or grid is None:
        return from_maps
    near = np.asarray(bicubic(ndimage.binary_dilation(lr).astype(np.float32), factor) >= 0.5)
    full = lr.mean() > _FULL
    core = np.zeros_like(smooth) if full else bicubic(_eroded(lr).astype(np.float32), factor) >= 0.5
    onto = t1.grid.same_as(grid)
    values = t1.values if onto else resample(t1.values, t1.grid, grid)
    covered = (
        np.ones(grid.shape, dtype=bool)
        if onto
        else resample(np.ones(t1.grid.shape, np.float32), t1.grid, grid, order=0) > 0
    )

    def within(tissue: Mask) -> Mask:
        return np.asarray(np.where(covered, (tissue & near) | core, smooth))

    tissue = values > 0.02 * max(float(np.percentile(values, 99)), 1e-30)
    tissue = np.asarray(ndimage.binary_fill_holes(tissue), dtype=bool)
    stripped = int((tissue & ~near).sum()) < 0.05 * max(int(tissue.sum()), 1)
    if stripped and int((tissue & smooth).sum()) > 0.7 * int((smooth & covered).sum()):
        return Outline(within(tissue), "skull-stripped T1")
    try:
        found = extracted(t1)
    except ValueError as trouble:
        return Outline(smooth, "maps", f"the brain's outline is the maps' own: {trouble}")
    found = found if onto else resample(found.astype(np.float32), t1.grid, grid) >= 0.5
    agreed = (smooth if not full else smooth & found) & covered
    dice = 2 * int((found & near & agreed).sum()) / max(int((found & near).sum()) + int(agreed.sum()), 1)
    if dice < _AGREES:
        return Outline(
            smooth,
            "maps",
            f"the brain's outline is the maps' own: that of the T1 disagrees with it (Dice {dice:.2f})",
        )
    return Outline(within(np.asarray(found)), "T1 by deepbet")


def _eroded(lr: Mask) -> Mask:
    """One voxel less along every axis that has more than one."""
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, n in enumerate(lr.shape):
        if n == 1:
            cross[tuple(slice(None) if a != axis else [0, 2] for a in range(3))] = False
    return np.asarray(ndimage.binary_erosion(lr, cross))


def extracted(t1: AnatomicalImage) -> Mask:
    """The brain in a T1 with the head around it, by deepbet on the CPU; on the image's own grid.

    Raises ValueError, in words, if it finds none.
    """
    import nibabel

    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ t1.grid.affine
    image = nibabel.Nifti1Image(np.nan_to_num(np.asarray(t1.values, dtype=np.float32)), to_ras)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own dependencies' deprecations
        extraction = import_module("deepbet").BrainExtraction(no_gpu=True)
        try:
            _, mask, _ = extraction.run(image)
        except (AssertionError, RuntimeError, ValueError) as nothing:
            raise ValueError("deepbet finds no brain in the T1") from nothing
    found = np.asanyarray(mask.dataobj) > 0
    if not found.any():
        raise ValueError("deepbet finds no brain in the T1")
    return np.asarray(found, dtype=bool)
