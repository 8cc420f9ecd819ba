"""Another head from a label map: turned, scaled and bent, so that few subjects teach more shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sr_core.maps import Labels
from sr_core.nlm import bounding_box

from .fields import smooth_field

TURNED_DEG = 10.0
SCALED = 0.08
BENT_SD_MM, BENT_OVER_MM = 2.0, 30.0
_MARGIN = 12  # voxels about the brain, beyond what scaling adds


def warped(labels: Labels, rng: np.random.Generator) -> tuple[Labels, NDArray[np.int64]]:
    """``labels`` (slice, row, column; 1 mm voxels, 0 outside) of a head of another shape, about as large.

    Turned by up to TURNED_DEG about any axis, scaled by up to SCALED along each of its own, bent by a
    smooth field of BENT_SD_MM along each axis; nearest neighbour. Returns it on a box around the brain,
    and the index of the box's first voxel.
    """
    box = bounding_box(labels > 0)
    low, size = np.array([[b.start, b.stop - b.start] for b in box]).T
    margin = int(np.ceil(SCALED * size.max())) + _MARGIN
    shape = (int(size[0]) + 2 * margin, int(size[1]) + 2 * margin, int(size[2]) + 2 * margin)

    axis = rng.standard_normal(3)
    angle = np.radians(rng.uniform(-TURNED_DEG, TURNED_DEG))
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    backwards = np.diag(1 / rng.uniform(1 - SCALED, 1 + SCALED, size=3)) @ turn.T
    about = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape]

    # One voxel of air around the source: whatever comes from beyond comes from there.
    source = np.pad(labels[box], 1)
    where = np.zeros(shape, dtype=np.int32)
    for axis_weights, n in zip(backwards, source.shape, strict=True):
        there = np.float32(BENT_SD_MM) * smooth_field(rng, shape, BENT_OVER_MM) + np.float32((n - 1) / 2)
        for steps, weight in zip(np.ix_(*about), axis_weights, strict=True):
            there += steps * np.float32(weight)
        where *= n
        where += np.clip(np.rint(there), 0, n - 1).astype(np.int32)
    return source.ravel().take(where), low - margin
