"""Resampling by affines, and registration that finds its way or says that it did not."""

import numpy as np
import pytest
from scipy import ndimage

from sr_core import AnatomicalImage, Contrast, Grid, kspace, resample
from sr_core.align import RegistrationRefused, moved, register_rigid
from sr_core.brain import total_signal
from tests.unit.sr_core.heads import displaced, exchanged, head, off_mm, rigid
from tests.unit.sr_core.phantoms import HR, LR, axial_grid, brain_study, turned


def test_a_linear_field_is_reproduced_at_patient_points():
    """Value = patient coordinates: an oracle that knows nothing of indices. Any orientation goes."""
    source = turned(axial_grid((30, 40, 44), (2.0, 1.5, 1.4)), (12, -8, 25))
    target = turned(axial_grid((8, 9, 10), (1.9, 1.4, 1.3)), (-20, 15, 5))
    middle = source.to_patient(np.array(source.shape) / 2)
    affine = target.affine.copy()
    affine[:3, 3] += middle - target.to_patient(np.array(target.shape) / 2)
    target = Grid(target.shape, affine, target.frame_of_reference)

    def field(grid):
        return grid.to_patient(np.moveaxis(np.indices(grid.shape), 0, -1)) @ [1.0, -2.0, 0.5]

    out = resample(field(source), source, target)
    assert np.abs(out - field(target)).max() < 0.02


def test_a_grid_onto_itself_changes_nothing_up_to_the_edge():
    grid = turned(axial_grid((5, 6, 7)), (10, 20, 30))
    values = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    assert np.abs(resample(values, grid, grid) - values).max() < 1e-4
    assert (resample(values, grid, grid, order=0) == values).all()


def test_the_fine_grid_sampled_on_the_coarse_one_gives_every_fourth_voxel():
    coarse = axial_grid((4, 5, 6))
    fine = np.random.default_rng(1).random((16, 20, 24)).astype(np.float32)
    assert (resample(fine, coarse.refined((4, 4, 4)), coarse, order=0) == fine[::4, ::4, ::4]).all()


def test_a_coarser_target_is_low_pass_filtered():
    """A 1-mm checkerboard must come out grey on 5-mm voxels, not as moiré."""
    fine = axial_grid((40, 40, 40), (1.0, 1.0, 1.0))
    board = (np.indices(fine.shape).sum(axis=0) % 2).astype(np.float32)
    coarse = axial_grid((7, 7, 7), (5.0, 5.0, 5.0))
    assert np.std(resample(board, fine, coarse)[1:-1, 1:-1, 1:-1]) < 0.02


def test_beyond_the_source_is_fill():
    near, far = axial_grid((4, 4, 4)), axial_grid((40, 4, 4))
    assert (resample(np.ones(near.shape), near, far, fill=-7.0)[10:] == -7).all()


def test_only_known_orders():
    grid = axial_grid((4, 4, 4))
    with pytest.raises(ValueError, match="order 0, 1 or 3"):
        resample(np.ones(grid.shape), grid, grid, order=2)


def _displaced(shift_mm, degrees):
    """A head (1.8 times as long as wide, with folds) on 5-mm maps, its T1 from another scanner frame."""
    lr, fine = axial_grid((14, 18, 18), (6.0, 6.0, 6.0)), (56, 72, 72)
    rng = np.random.default_rng(5)
    z, y, x = (np.moveaxis(np.indices(fine), 0, -1) - [27, 35, 35]).transpose(3, 0, 1, 2)
    brain = (z / 20) ** 2 + (y / 30) ** 2 + (x / 17) ** 2 + 0.1 * (y / 30) * (z / 20) < 1
    folds = ndimage.gaussian_filter(rng.standard_normal(fine), 3.0)
    t1 = np.where(folds > 0, 1.0, 0.5) * brain + 0.01 * rng.standard_normal(fine)
    signal = kspace.forward(np.where(folds > 0, 8.0, 10.0) * brain, lr.shape)
    angle = np.radians(degrees)
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = shift_mm
    home = lr.refined((4, 4, 4))
    moving = AnatomicalImage(Contrast.T1, t1.astype(np.float32), Grid(fine, motion @ home.affine, "9.9.9"))
    return np.maximum(signal, 0), lr, moving, home, motion


def _centre_motion(motion, points):
    centre = points.mean(axis=0)
    return motion[:3, :3] @ centre + motion[:3, 3] - centre


@pytest.mark.parametrize(
    ("shift_mm", "degrees"), [((4.0, -3.0, 2.0), 4.0), ((0.0, 0.0, 0.0), 0.0), ((9, 7, -6), -7)]
)
def test_registration_recovers_a_known_displacement(shift_mm, degrees):
    signal, lr, moving, home, motion = _displaced(shift_mm, degrees)
    found = register_rigid(moving, signal, lr)
    points = lr.to_patient(np.argwhere(signal > 4))
    off = (points @ found.matrix[:3, :3].T + found.matrix[:3, 3]) - (
        points @ motion[:3, :3].T + motion[:3, 3]
    )
    assert np.linalg.norm(off, axis=1).max() < 1.0  # a sixth of an LR voxel
    back = moved(moving.grid, found.matrix, lr.frame_of_reference)
    middle = np.array(home.shape) / 2
    assert np.linalg.norm(back.to_patient(middle) - home.to_patient(middle)) < 1.0
    assert found.quality > 0.8
    assert found.moved_mm == pytest.approx(np.linalg.norm(_centre_motion(motion, points)), abs=1.0)
    assert found.turned_deg == pytest.approx(abs(degrees), abs=1.0)


def test_registration_gives_the_same_position_twice():
    signal, lr, moving, _, _ = _displaced((4.0, -3.0, 2.0), 4.0)
    first, second = (register_rigid(moving, signal, lr) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix)


def test_an_image_that_shows_nothing_of_the_head_is_refused():
    acquisition, _ = brain_study()
    noise = ndimage.gaussian_filter(np.random.default_rng(2).random(HR), 1.0).astype(np.float32)
    grid = acquisition.anatomy[0].grid
    stranger = AnatomicalImage(Contrast.T1, noise, Grid(grid.shape, grid.affine, "9.9.9"))
    with pytest.raises(RegistrationRefused, match="T1"):
        register_rigid(stranger, total_signal(acquisition), acquisition.grid)
    empty = AnatomicalImage(Contrast.T1, np.zeros(HR, np.float32), stranger.grid)
    with pytest.raises(RegistrationRefused, match="without contrast"):
        register_rigid(empty, np.ones(LR), acquisition.grid)


@pytest.fixture(scope="module")
def study():
    return head()


def _registered(study, image):
    return register_rigid(image, total_signal(study), study.grid)


@pytest.mark.parametrize("contrast", list(Contrast))
@pytest.mark.parametrize(("shift_mm", "degrees"), [((2.0, -2.0, 1.0), 3.0), ((-20.0, 12.0, 9.0), 18.0)])
def test_a_head_is_found_within_a_tenth_of_a_voxel(study, contrast, shift_mm, degrees):
    """Although there are a lesion and noise that the anatomy does not show."""
    motion = rigid(shift_mm, degrees, study)
    found = _registered(study, displaced(study, motion, "9.9.9").image_of(contrast))
    assert off_mm(study, found.matrix, motion) < 0.6
    assert 0.6 < found.quality <= 1
    assert found.before < found.quality - 0.1


def test_an_image_with_left_and_right_exchanged_is_refused_as_such(study):
    with pytest.raises(RegistrationRefused, match="left and right exchanged") as refusal:
        _registered(study, exchanged(study.anatomy[0]))
    assert refusal.value.mirrored


def test_another_head_in_the_same_skull_is_refused(study):
    """The outline fits, the folds do not."""
    with pytest.raises(RegistrationRefused, match="could not be registered") as refusal:
        _registered(study, head(seed=77).anatomy[0])
    assert not refusal.value.mirrored


def test_a_head_upside_down_is_refused(study):
    t1 = study.anatomy[0]
    turned_over = np.ascontiguousarray(t1.values[::-1, ::-1])
    with pytest.raises(RegistrationRefused):
        _registered(study, AnatomicalImage(t1.contrast, turned_over, t1.grid))


def test_a_slab_40_mm_away_that_shows_a_quarter_of_the_brain_is_refused(study):
    t1 = study.anatomy[0]
    affine = t1.grid.affine.copy()
    affine[:3, 3] = t1.grid.to_patient((40, 0, 0)) + np.array([0, 0, 40.0])
    slab = np.ascontiguousarray(t1.values[40:56])
    with pytest.raises(RegistrationRefused):
        _registered(study, AnatomicalImage(Contrast.T1, slab, Grid(slab.shape, affine, "9.9.9")))
