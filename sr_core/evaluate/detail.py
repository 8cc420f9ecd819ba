"""How much fine structure a map has, and whether it is that of the truth."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sr_core.kspace import Part
from sr_core.maps import Mask, Volume

from .metrics import errors, planes_of

# Ravishankar & Bresler, IEEE Trans. Med. Imaging 30:1028 (2011): a Laplacian of Gaussian of 15 × 15.
_LOG_SIGMA, _LOG_REACH = 1.5, 7


def hfen(x: Volume, truth: Volume, mask: Mask) -> float:
    """High-frequency error norm: ‖LoG(x) − LoG(truth)‖ / ‖LoG(truth)‖ over ``mask``; 0 is perfect.

    Laplacian of Gaussian of axial planes (slice, row, column), σ 1.5 (Ravishankar & Bresler, IEEE TMI
    30:1028, 2011), here relative to the truth's. Raises ValueError for an empty mask or a truth without
    structure.
    """
    errors(x, truth, mask)
    where = planes_of(mask)
    a, b = (_log(v[where])[mask[where]] for v in (x, truth))
    norm = float(np.linalg.norm(b))
    if norm == 0:
        raise ValueError("a high-frequency error is relative to a truth with structure")
    return float(np.linalg.norm(a - b)) / norm


def gradient_ratio(x: Volume, truth: Volume, mask: Mask) -> float:
    """Sharpness: mean gradient magnitude of ``x`` over that of ``truth``; 1 is as sharp, below 1 blurred.

    Central differences along all three axes, of the whole volumes, over the voxels of ``mask``: the
    outline of what it holds counts. Raises ValueError for an empty mask or a flat truth.
    """
    errors(x, truth, mask)
    box = Part.around(mask).box
    around = tuple(slice(max(b.start - 1, 0), b.stop + 1) for b in box)
    inside = mask[around]
    sizes = [
        float(np.sqrt(sum(_across(v[around], axis) ** 2 for axis in range(3)))[inside].mean())
        for v in (x, truth)
    ]
    if sizes[1] == 0:
        raise ValueError("sharpness is relative to a truth that is not flat")
    return sizes[0] / sizes[1]


def _log(planes: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    smooth = (0.0, _LOG_SIGMA, _LOG_SIGMA)
    radius = (0, _LOG_REACH, _LOG_REACH)
    v = planes.astype(np.float64)
    return np.asarray(
        sum(ndimage.gaussian_filter(v, smooth, order=o, radius=radius) for o in ((0, 2, 0), (0, 0, 2)))
    )


def _across(v: Volume, axis: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(ndimage.correlate1d(v.astype(np.float64), [-0.5, 0.0, 0.5], axis=axis))
