"""How noisy a map is, and non-local means on the LR grid.

Quantified maps carry Gaussian noise, not Rician: nothing is corrected for a bias.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .maps import Mask, Volume
from .nlm import Kernel, bounding_box, box, nlm_pass

_SD_PER_MAD = 1.4826  # of a Gaussian
_SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])
_ENOUGH = 30  # voxels for a robust estimate

# Patches that differ by noise alone have distance 1; the fall-off beyond is a reading of "NLMD".
_SOFTNESS = 0.5


def noise_sd(values: Volume, mask: Mask) -> float:
    """Robust noise SD of ``values`` inside ``mask``, in the map's unit.

    MAD of the second difference along all axes at once (after Immerkær, CVIU 64:300, 1996), which
    is blind to what is smooth along any one axis. Voxels whose neighbourhood leaves the mask do not
    count. 0 if fewer than 30 voxels are left.
    """
    wide = [n >= 3 for n in values.shape]
    residual = np.where(mask, values, 0.0).astype(np.float64)
    gain = 1.0
    for axis, usable in enumerate(wide):
        if usable:
            residual = ndimage.convolve1d(residual, _SECOND_DIFFERENCE, axis=axis, mode="nearest")
            gain *= float(np.linalg.norm(_SECOND_DIFFERENCE))
    inner = ndimage.binary_erosion(mask, np.ones([3 if usable else 1 for usable in wide]))
    r = residual[inner]
    if r.size < _ENOUGH:
        return 0.0
    return float(_SD_PER_MAD * np.median(np.abs(r - np.median(r))) / gain)


def nlm(values: Volume, sigma: Volume, mask: Mask, search: int = 3, patch: int = 1) -> Volume:
    """Non-local means inside ``mask``, adapted to each voxel's noise SD ``sigma`` (> 0 in the mask).

    Windows of (2·search + 1)³ voxels, patches of (2·patch + 1)³, both cut at the mask. The distance
    of two patches is their mean squared difference over the sum of their variances: 1 if noise
    alone parts them. Neighbours count by similarity and by the inverse of their variance; the
    voxel itself by the best of them. Voxels outside the mask are returned as they came.
    """
    if not mask.any():
        return np.array(values, dtype=np.float32)
    n = [b.stop - b.start for b in bounding_box(mask, margin=patch)]
    kernel = Kernel(
        radius=(min(search, n[0] - 1), min(search, n[1] - 1), min(search, n[2] - 1)),
        patch=box(patch, (n[0] >= 3, n[1] >= 3, n[2] >= 3)),
        h=_SOFTNESS**0.5,
        onset=1 / _SOFTNESS,
        boundary="cut",
    )
    return nlm_pass(values, values, kernel, mask, sigma)
