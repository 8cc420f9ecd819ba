"""Repair of missing voxels: like the textbook where it is safe, cautious where it is not."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from sr_core.inpaint import inpaint


@pytest.fixture
def smooth():
    field = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((14, 16, 18)), 2.0)
    return (5 + 3 * field / field.std()).astype(np.float32)


def test_scattered_holes_are_filled_as_scikit_image_fills_them(smooth):
    holes = np.zeros(smooth.shape, bool)
    holes[4:-4, 4:-4, 4:-4] = np.random.default_rng(1).random((6, 8, 10)) < 0.1
    ours = inpaint(np.where(holes, 0, smooth).astype(np.float32), ~holes, holes)
    theirs = inpaint_biharmonic(np.where(holes, 0, smooth).astype(np.float64), holes)
    assert np.abs(ours - theirs)[holes].max() < 1e-4
    assert np.abs(ours - smooth)[holes].max() < 0.5


def test_nothing_outside_the_brain_is_used_or_changed(smooth):
    brain = np.zeros(smooth.shape, bool)
    brain[3:11, 3:13, 3:15] = True
    holes = np.zeros_like(brain)
    holes[3, 5:8, 5:8] = True  # at the brain's surface
    lipid = np.where(brain, smooth, np.float32(1e6))
    filled = inpaint(lipid, brain & ~holes, holes)
    assert filled[holes].max() <= smooth[brain].max()
    assert (filled[~holes] == lipid[~holes]).all()


def test_a_noisy_map_and_a_deep_hole_stay_within_their_neighbours(smooth):
    holes = np.zeros(smooth.shape, bool)
    holes[4:10, 4:11, 4:11] = True
    filled = inpaint(smooth, ~holes, holes)
    ring = ndimage.binary_dilation(holes, np.ones((3, 3, 3))) & ~holes
    assert (
        smooth[ring].min() - 1e-4 <= filled[holes].min() <= filled[holes].max() <= smooth[ring].max() + 1e-4
    )
    shallow = np.zeros_like(holes)
    shallow[7, 8, 6:9] = True
    careful = inpaint(smooth, ~shallow, shallow, noise=1.0)
    ring = ndimage.binary_dilation(shallow) & ~shallow
    assert smooth[ring].min() <= careful[shallow].min() <= careful[shallow].max() <= smooth[ring].max()


def test_a_hole_that_nothing_touches_takes_the_nearest_value(smooth):
    known = np.zeros(smooth.shape, bool)
    known[5, 5, 5] = True
    alone = np.zeros_like(known)
    alone[10, 10, 10] = True
    assert inpaint(smooth, known, alone)[10, 10, 10] == smooth[5, 5, 5]


def test_repair_from_nothing_is_refused(smooth):
    with pytest.raises(ValueError, match="nothing is known"):
        inpaint(smooth, np.zeros(smooth.shape, bool), np.ones(smooth.shape, bool))
