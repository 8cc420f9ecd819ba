"""What no measurement backs: the doubt that comes with a super-resolved map."""

from __future__ import annotations

import numpy as np

from .consistency import null_space
from .grid import Shape
from .maps import Mask, MetaboliteMap, Uncertainty, Volume

NULL_SPACE = "null-space share: |x - A+ A x|, A the k-space crop to the acquired matrix"
DISAGREEMENT = "guidance: |x - x0|, x0 the same method without the anatomical image"


def null_space_share(m: MetaboliteMap, acquired: Shape, brain: Mask) -> Uncertainty:
    """Per voxel, how much of ``m`` lies beyond the acquired k-space, and was put there by the method.

    In the map's unit, 0 outside ``brain``.
    """
    return Uncertainty(str(m.metabolite), NULL_SPACE, null_space(m.values, acquired) * brain)


def disagreement(m: MetaboliteMap, unguided: Volume) -> Uncertainty:
    """Per voxel, how much of ``m`` is there only because of the anatomical image, in the map's unit.

    Large where the guide and the measurement do not tell the same: there a guide may have invented
    or moved an edge.
    """
    return Uncertainty(str(m.metabolite), DISAGREEMENT, np.abs(m.values - unguided).astype(np.float32))
