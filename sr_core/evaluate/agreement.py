"""Agreement with what is known beside the true voxels: what was measured, and tissue contrast."""

from __future__ import annotations

import numpy as np

from sr_core import kspace
from sr_core.kspace import Psf
from sr_core.maps import Mask, Volume

# Grey and white matter whose true levels differ by less than this share of white matter's have no contrast.
_CONTRAST = 0.02


def dc_error(x: Volume, measured: Volume, where: Mask, psf: Psf | None = None) -> float:
    """‖A x − y‖ / ‖y‖ over ``where`` on the LR grid: 0 where ``x`` gives the ``measured`` map y exactly.

    Voxels of y that are not finite do not count. Raises ValueError where nothing was measured.
    """
    shape = (measured.shape[0], measured.shape[1], measured.shape[2])
    counts = where & np.isfinite(measured)
    norm = float(np.linalg.norm(measured[counts].astype(np.float64)))
    if norm == 0:
        raise ValueError("consistency is with a measured map that is not zero")
    off = kspace.forward(x, shape, psf)[counts].astype(np.float64) - measured[counts]
    return float(np.linalg.norm(off)) / norm


def contrast_recovery(x: Volume, truth: Volume, grey: Mask, white: Mask) -> float:
    """Grey matter's mean minus white matter's in ``x``, over the same in ``truth``; 1 is all of it.

    NaN where there is no such tissue, or the truth has no contrast between the two.
    """
    if not grey.any() or not white.any():
        return float("nan")
    shown, true = (
        float(v[grey].mean(dtype=np.float64)) - float(v[white].mean(dtype=np.float64)) for v in (x, truth)
    )
    return shown / true if abs(true) > _CONTRAST * abs(float(truth[white].mean())) else float("nan")
