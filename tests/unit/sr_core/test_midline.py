"""The plane between the halves of a brain, and which half is the patient's left."""

import numpy as np
import pytest
from scipy import ndimage

from sr_core import AnatomicalImage, Contrast, Grid
from sr_core.midline import find_midline
from tests.unit.sr_core.phantoms import axial_grid, turned

SHAPE = (44, 56, 52)
HOME = axial_grid(SHAPE, (3.0, 3.0, 3.0))
MIDDLE = 24.0  # column of the mid-sagittal plane


@pytest.fixture(scope="module")
def halves():
    """A brain whose folds are mirrored about column 24, and its mask; a lesion fills much of one side.

    Columns ascend to the patient's left (LPS +x): the lesion, in low columns, is on the right.
    """
    z, y, x = np.moveaxis(np.indices(SHAPE), 0, -1).transpose(3, 0, 1, 2) - np.array(
        [21, 27, MIDDLE]
    ).reshape(3, 1, 1, 1)
    brain = (z / 18) ** 2 + (y / 25) ** 2 + (x / 20) ** 2 < 1
    noise = np.random.default_rng(3).standard_normal(SHAPE)
    mirrored = noise[:, :, np.clip(2 * int(MIDDLE) - np.arange(SHAPE[2]), 0, SHAPE[2] - 1)]
    folds = ndimage.gaussian_filter(noise + mirrored + 0.4 * np.roll(noise, 20, axis=0), 2.0)
    t1 = np.where(folds > 0, 1.0, 0.6) * brain
    lesion = brain & (x < -3) & (np.abs(y) < 14)
    return np.where(lesion, 0.5, t1).astype(np.float32), brain


def image(values, grid):
    return AnatomicalImage(Contrast.T1, values, grid)


def test_the_plane_is_found_although_a_lesion_fills_one_side(halves):
    values, brain = halves
    plane = find_midline(image(values, HOME), brain, HOME)
    assert np.degrees(np.arccos(plane.normal[0])) < 2
    x = HOME.to_patient((21, 27, MIDDLE))[0]
    assert abs((np.array([x, *HOME.to_patient((21, 27, 0))[1:]]) - plane.point_mm) @ plane.normal) < 1.5
    assert 0.65 <= plane.symmetry <= 1


@pytest.mark.parametrize("degrees", [(0, 0, 14), (0, 12, 0), (25, -9, 10)])
def test_the_plane_turns_with_the_head(halves, degrees):
    """A head turned, tilted or nodding in an oblique field of view, by patient coordinates."""
    values, brain = halves
    grid = turned(HOME, degrees)
    plane = find_midline(image(values, grid), brain, grid)
    assert np.degrees(np.arccos(plane.normal @ grid.row_direction)) < 2
    assert abs((grid.to_patient((21, 27, MIDDLE)) - plane.point_mm) @ plane.normal) < 1.5


def test_left_is_the_patients_left(halves):
    """LPS: x grows to the patient's left. So it is on a grid whose columns run the other way."""
    values, brain = halves
    plane = find_midline(image(values, HOME), brain, HOME)
    affine = HOME.affine.copy()
    affine[:3, 3] = HOME.to_patient((0, SHAPE[1] - 1, SHAPE[2] - 1))
    affine[:, 1:3] *= -1  # rows to the front, columns to the right: slices still ascend
    for grid in (HOME, Grid(SHAPE, affine, HOME.frame_of_reference)):
        x = grid.to_patient(np.moveaxis(np.indices(SHAPE), 0, -1))[..., 0]
        left = plane.left(grid)
        middle = HOME.to_patient((0, 0, MIDDLE))[0]
        assert left[x > middle + 6].all()
        assert not left[x < middle - 6].any()


def test_the_outline_serves_where_there_is_no_t1(halves):
    _, brain = halves
    plane = find_midline(None, brain, HOME)
    assert np.degrees(np.arccos(plane.normal[0])) < 2
    assert abs((HOME.to_patient((21, 27, MIDDLE)) - plane.point_mm) @ plane.normal) < 1.5


def test_what_has_no_two_halves_has_no_midline(halves):
    _, brain = halves
    folds = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 2.0)
    assert find_midline(image((folds > 0).astype(np.float32), HOME), brain, HOME) is None
    box = np.zeros(SHAPE, bool)
    box[10:30, 15:40, 28:44] = True  # an excited volume in one half: its own middle is none
    assert find_midline(None, box, HOME) is None
    assert find_midline(None, np.zeros(SHAPE, bool), HOME) is None


def test_a_head_turned_by_35_degrees_has_none(halves):
    values, brain = halves
    grid = turned(HOME, (0, 0, 35))
    assert find_midline(image(values, grid), brain, grid) is None
