"""Frames of Segmentations as masks, read as a stranger would."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from sr_core import Mask

from .defect import demand
from .planes import Position, position_of


def binary_frames(d: Dataset) -> NDArray[np.bool_]:
    """Frames of a BINARY segmentation, one bit per pixel, least significant first (PS3.5 8.1.1)."""
    shape = (int(d.NumberOfFrames), int(d.Rows), int(d.Columns))
    bits = np.unpackbits(np.frombuffer(d.PixelData, np.uint8), bitorder="little")
    n = int(np.prod(shape))
    demand(bits.size >= n, "pixels do not fill the frames")
    return bits[:n].reshape(shape).astype(bool)


def binary_masks(d: Dataset) -> Mapping[int, Mapping[Position, Mask]]:
    """By segment number of a BINARY segmentation: planes with something in them, by position."""
    found: dict[int, dict[Position, Mask]] = {int(s.SegmentNumber): {} for s in d.SegmentSequence}
    for frame, mask in zip(d.PerFrameFunctionalGroupsSequence, binary_frames(d), strict=True):
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if mask.any():
            found[number][position_of(frame)] = mask
    return found


def label_masks(d: Dataset) -> Mapping[int, Mapping[Position, Mask]]:
    """As ``binary_masks``, of a Label Map in 8 bit; 0 is background and no segment."""
    shape = (int(d.NumberOfFrames), int(d.Rows), int(d.Columns))
    stored = np.frombuffer(d.PixelData, np.uint8)
    demand(stored.size >= int(np.prod(shape)), "pixels do not fill the frames")
    frames = stored[: int(np.prod(shape))].reshape(shape)
    found: dict[int, dict[Position, Mask]] = {int(s.SegmentNumber): {} for s in d.SegmentSequence}
    demand(set(np.unique(frames)) - {0} <= set(found), "a voxel of a segment that is not described")
    found.pop(0, None)
    for frame, labels in zip(d.PerFrameFunctionalGroupsSequence, frames, strict=True):
        for number in set(np.unique(labels)) - {0}:
            found[int(number)][position_of(frame)] = labels == number
    return found
