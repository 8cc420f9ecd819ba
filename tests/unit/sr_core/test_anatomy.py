"""Where anatomy is put: by its header, by its companion, or where the maps say that it lies."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sr_core import Acquisition, AnatomicalImage, Contrast
from sr_core.anatomy import Placed, place
from tests.unit.sr_core.heads import displaced, exchanged, head, off_mm, rigid


@pytest.fixture(scope="module")
def study():
    return head()


@pytest.fixture(scope="module")
def motion(study):
    """3 mm and 3°."""
    return rigid((2.0, -2.0, 1.0), 3.0, study)


def _placed(study: Acquisition, motion="correct") -> Placed:
    return place(study, study.grid.refined((4, 4, 4)), study.brain_mask, motion)


def test_anatomy_where_its_header_says_is_left_there(study):
    placed = _placed(study)
    assert (placed.registration, placed.warnings) == (None, ())
    assert [(m.contrast, m.matrix) for m in placed.motions] == [("T1", None), ("FLAIR", None)]
    assert np.abs(placed.image_of(Contrast.T1).values - study.anatomy[0].values).max() < 1e-3


def test_motion_between_series_is_found_told_and_corrected(study, motion):
    """3 mm and 3°, one Frame of Reference: T1 and FLAIR, each by itself, come to where the maps are."""
    placed = _placed(displaced(study, motion))
    words = " ".join(placed.warnings)
    for contrast in (Contrast.T1, Contrast.FLAIR):
        assert off_mm(study, placed.motion_of(contrast), motion) < 0.7
        original = study.image_of(contrast).values
        inside = ndimage.binary_erosion(original > 0.3, iterations=3)
        assert np.corrcoef(placed.image_of(contrast).values[inside], original[inside])[0, 1] > 0.95
        told = re.search(rf"suspected motion: {contrast} lies ([\d.]+) mm, ([\d.]+)° from the maps", words)
        assert told is not None
        assert [float(n) for n in told.groups()] == pytest.approx([3.0, 3.0], abs=0.3)
    assert "suspected motion" in placed.registration


def test_an_image_that_did_not_move_stays_when_its_companion_did(study, motion):
    placed = _placed(displaced(study, motion, which=(True, False)))
    assert off_mm(study, placed.motion_of(Contrast.T1), motion) < 0.7
    assert placed.motion_of(Contrast.FLAIR) is None
    assert "FLAIR" not in placed.registration


def test_motion_is_only_told_where_it_is_not_to_be_corrected(study, motion):
    moved_study = displaced(study, motion)
    told, ignored = _placed(moved_study, "warn"), _placed(moved_study, "ignore")
    assert any("suspected motion: T1" in w and "where its header says" in w for w in told.warnings)
    assert (ignored.warnings, ignored.registration, told.registration) == ((), None, None)
    assert [m.matrix for m in told.motions] == [None, None]
    assert (told.image_of(Contrast.T1).values == ignored.image_of(Contrast.T1).values).all()


def test_another_frame_is_registered_once_and_takes_its_companions_along(study, motion):
    placed = _placed(displaced(study, motion, frame="9.9"))
    assert "T1 has another Frame of Reference" in placed.registration
    assert "FLAIR" not in placed.registration
    assert off_mm(study, placed.motion_of(Contrast.T1), motion) < 0.7
    assert placed.motion_of(Contrast.FLAIR) is placed.motion_of(Contrast.T1)


def test_a_companion_that_moved_within_the_other_frame_is_found(study, motion):
    far = rigid((12.0, 8.0, -5.0), 10.0, study)
    apart = displaced(displaced(study, motion, which=(False, True)), far, frame="9.9")
    placed = _placed(apart)
    assert off_mm(study, placed.motion_of(Contrast.T1), far) < 0.7
    assert off_mm(study, placed.motion_of(Contrast.FLAIR), far @ motion) < 0.7


def test_an_image_with_left_and_right_exchanged_is_left_out_even_in_the_maps_frame(study):
    t1, flair = study.anatomy
    placed = _placed(replace(study, anatomy=(exchanged(t1), flair)))
    assert [a.contrast for a in placed.images] == [Contrast.FLAIR]
    assert any("T1 is left out" in w and "left and right exchanged" in w for w in placed.warnings)


def test_an_image_that_tells_nothing_of_its_position_stays_where_its_header_says(study):
    t1 = study.anatomy[0]
    noise = np.random.default_rng(0).random(t1.values.shape).astype(np.float32)
    placed = _placed(replace(study, anatomy=(AnatomicalImage(Contrast.T1, noise, t1.grid),)))
    assert (placed.registration, placed.motion_of(Contrast.T1)) == (None, None)
    assert len(placed.images) == 1
