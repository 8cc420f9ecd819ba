"""Where the brain is: from a T1 with the head around it, from a stripped one, from the maps."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from sr_core import Acquisition, AnatomicalImage, Contrast, Grid, Metabolite, MetaboliteMap, Unit, resample
from sr_core.brain import brain_lr, brain_sr, extracted, outline
from sr_core.simulate import from_icbm152
from sr_core.simulate.study import measured_grid
from tests.unit.sr_core.phantoms import axial_grid, brain_study


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def subject():
    """The ICBM152 brain in a skull with scalp, noise everywhere; its brain; the maps' grid and mask."""
    tissue = from_icbm152()
    brain = tissue.brain > 0.5
    away = ndimage.distance_transform_edt(~ndimage.binary_closing(brain, iterations=4))
    bright = 600 * tissue.t1 / np.median(tissue.t1[tissue.wm > 0.9])
    values = np.select([away == 0, away <= 3, away <= 9, away <= 16], [bright, 170, 60, 750], 0.0)
    noise = 12 * np.random.default_rng(0).standard_normal((2, *values.shape), dtype=np.float32)
    values = np.hypot(ndimage.gaussian_filter(values, 0.6) + noise[0], noise[1])
    t1 = AnatomicalImage(Contrast.T1, values.astype(np.float32), tissue.grid)
    grid = measured_grid(tissue)
    lr = resample(brain.astype(np.float32), tissue.grid, grid) > 0.5
    return t1, brain, grid, lr


@pytest.fixture(scope="module")
def found(subject):
    return extracted(subject[0])


def test_the_brain_is_found_in_a_t1_of_the_head(subject, found):
    _, brain, _, _ = subject
    assert dice(found, brain) > 0.93
    assert (found & ~ndimage.binary_dilation(brain, iterations=9)).sum() < 0.01 * brain.sum()


def test_the_outline_is_the_t1s_within_a_voxel_of_the_maps_and_the_same_each_time(subject, found, capfd):
    """The maps have lost a corner of the brain by 10 voxels: it does not come back, the rest is finer."""
    t1, brain, grid, lr = subject
    fine = grid.refined((4, 4, 4))
    made = outline(lr, (4, 4, 4), t1, fine)
    assert (made.words, made.warning) == ("T1 by deepbet", None)
    truth = resample(brain.astype(np.float32), t1.grid, fine) > 0.5
    again = resample(found.astype(np.float32), t1.grid, fine) >= 0.5
    assert dice(made.mask, again) > 0.98
    core = ndimage.binary_erosion(lr)
    assert made.mask[::4, ::4, ::4][core].all()
    assert not made.mask[::4, ::4, ::4][~ndimage.binary_dilation(lr)].any()
    assert dice(made.mask, truth) > 0.93
    assert "".join(capfd.readouterr()) == ""


def test_an_outline_that_is_not_this_brains_is_refused(subject):
    t1, _, grid, lr = subject
    elsewhere = np.roll(lr, 16, axis=1)
    made = outline(elsewhere, (4, 4, 4), t1, grid.refined((4, 4, 4)))
    assert made.words == "maps"
    assert "disagrees" in made.warning
    assert (made.mask == brain_sr(elsewhere, (4, 4, 4))).all()


def test_a_stripped_t1_that_cut_the_tumour_off_does_not_cut_it_from_the_maps():
    acquisition, truth = brain_study()
    t1 = acquisition.anatomy[0]
    hole = ndimage.binary_dilation(truth["lesion"], iterations=2)
    cut = AnatomicalImage(t1.contrast, np.where(hole, 0, t1.values).astype(np.float32), t1.grid)
    made = outline(brain_lr(acquisition), (4, 4, 4), cut, t1.grid)
    assert made.words == "skull-stripped T1"
    assert made.mask[truth["lesion"]].all()
    assert dice(made.mask, truth["brain"]) > 0.97


def test_where_the_t1_does_not_reach_the_maps_outline_holds():
    acquisition, _ = brain_study()
    t1, lr = acquisition.anatomy[0], brain_lr(acquisition)
    above = np.ascontiguousarray(t1.values[20:])
    affine = t1.grid.affine.copy()
    affine[:3, 3] = t1.grid.to_patient((20, 0, 0))
    slab = AnatomicalImage(t1.contrast, above, Grid(above.shape, affine, t1.grid.frame_of_reference))
    made = outline(lr, (4, 4, 4), slab, t1.grid)
    assert made.words == "skull-stripped T1"
    assert (made.mask[:19] == brain_sr(lr, (4, 4, 4))[:19]).all()
    assert made.mask[30].any()


def test_a_map_without_any_contrast_is_brain_everywhere():
    """A constant has no background to tell apart."""
    grid = axial_grid((6, 8, 8))
    flat = MetaboliteMap(Metabolite.TNAA, np.full(grid.shape, 3.0, np.float32), Unit.MMOL_PER_L, grid)
    assert brain_lr(Acquisition((flat,))).all()


def test_the_front_door_loads_no_network():
    code = "import sr_core, sys; sys.exit(any(m in sys.modules for m in ('torch', 'deepbet', 'SimpleITK')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
