"""Segmentations as viewers want them."""

import numpy as np
import pytest

from dicom_node.encode.viewers import in_reading_order, omits_empty_frames


def mask(*planes: int) -> np.ndarray:
    m = np.zeros((10, 4, 4), dtype=bool)
    m[list(planes), 1, 2] = True
    return m


def test_segments_come_by_their_highest_plane_and_empty_ones_not_at_all():
    named = {"high": mask(1, 8), "empty": mask(), "low": mask(0), "also high": mask(8), "middle": mask(2, 5)}
    assert in_reading_order(named, named.__getitem__) == ["low", "middle", "high", "also high"]


@pytest.mark.parametrize(
    ("hit", "every", "pixels", "omits"),
    [
        (5, 512, 184 * 184, True),
        (1, 512, 184 * 184, False),  # one frame: some viewers cannot
        (2, 352, 230 * 230, False),  # 13225 bytes and a pad byte: as long as two padded frames
        (4, 352, 230 * 230, True),  # 26450 bytes: not to be mistaken
        (6, 176, 230 * 230, False),  # 39675 and a pad byte is refused; all 176 frames end on an even byte
        (6, 28, 13 * 15, True),  # refused either way, and never shown wrongly
    ],
)
def test_frames_are_written_so_that_none_is_shown_in_the_place_of_another(hit, every, pixels, omits):
    assert omits_empty_frames(hit, every, pixels) is omits
