"""What no measurement backs: the doubt that comes with a super-resolved map."""

from __future__ import annotations

from .consistency import null_space
from .grid import Shape
from .maps import Mask, MetaboliteMap, Uncertainty

NULL_SPACE = "null-space share: |x - A+ A x|, A the k-space crop to the acquired matrix"


def null_space_share(m: MetaboliteMap, acquired: Shape, brain: Mask) -> Uncertainty:
    """Per voxel, how much of ``m`` lies beyond the acquired k-space, and was put there by the method.

    In the map's unit, 0 outside ``brain``.
    """
    return Uncertainty(str(m.metabolite), NULL_SPACE, null_space(m.values, acquired) * brain)
