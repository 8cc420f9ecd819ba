"""What viewers want of a Segmentation beyond the standard, so that each shows all of it, and where it is.

Found with OHIF's reader (@cornerstonejs/adapters 5.6.8, the one in OHIF 3.13.2; 5.14.0 has the same code).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from sr_core import Mask

T = TypeVar("T")


def in_reading_order(segments: Iterable[T], mask_of: Callable[[T], Mask]) -> list[T]:
    """``segments`` that are not empty, by their highest plane; those that end in the same plane as they come.

    Where segments overlap, the reader puts them into layers, and drops those frames of a segment that go
    into a layer of one that reaches higher.
    """
    kept = [s for s in segments if mask_of(s).any()]
    return sorted(kept, key=lambda s: highest_plane(mask_of(s)))


def highest_plane(mask: Mask) -> int:
    """Index of the last slice of ``mask`` (slice, row, column) with anything in it."""
    return int(np.flatnonzero(mask.any(axis=(1, 2)))[-1])


def omits_empty_frames(hit: int, every: int, pixels: int) -> bool:
    """Whether a segmentation has frames of ``pixels`` only where something is (``hit``), not all (``every``).

    Some viewers cannot read one frame. Where frames do not end on a byte, OHIF tells frames that are packed
    one after another (PS3.5 8.1.1) from frames that are padded by the length alone: it refuses a pad byte
    at the end, and takes two frames that reach the padded length for padded ones.
    """
    if hit == 1:
        return False
    if _reads(hit, pixels):
        return True
    return not _reads(every, pixels) and not _misreads(hit, pixels)


def _reads(frames: int, pixels: int) -> bool:
    return pixels % 8 == 0 or (_packed(frames, pixels) % 2 == 0 and not _misreads(frames, pixels))


def _misreads(frames: int, pixels: int) -> bool:
    written = _packed(frames, pixels)
    return pixels % 8 != 0 and frames > 1 and written + written % 2 == frames * _packed(1, pixels)


def _packed(frames: int, pixels: int) -> int:
    return (frames * pixels + 7) // 8
