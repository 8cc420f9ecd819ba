"""Lesions: known bodies are measured right, in patient space, and noise has none."""

import numpy as np
import pytest

from sr_core import Grid
from sr_core.lesion import Reference, clipped_sd, find, normal_level, normal_median, tissue
from sr_core.midline import Midline
from tests.unit.sr_core.phantoms import axial_grid, brain_study, ellipsoid, turned

GRID = turned(axial_grid((40, 48, 48), (2.0, 1.5, 1.5)), (20, -15, 35))
BRAIN = ellipsoid(GRID.shape)


def sphere(centre_mm, radius_mm):
    where = GRID.to_patient(np.moveaxis(np.indices(GRID.shape), 0, -1))
    return np.linalg.norm(where - centre_mm, axis=-1) <= radius_mm


def test_a_sphere_on_an_oblique_grid_has_its_volume_and_its_centre():
    centre = GRID.to_patient((20, 22, 24))
    values = np.where(sphere(centre, 9.0), 3.0, 1.0).astype(np.float32)
    found = find("TCN", values, GRID, BRAIN, 2.0, "TCN ≥ 2", 0.5)
    (region,) = found.regions
    assert region.volume_ml == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.03)
    assert region.centroid_mm == pytest.approx(tuple(centre), abs=0.3)
    assert (region.mean, region.maximum, region.p10, region.p90) == (3.0, 3.0, 3.0, 3.0)
    assert found.volume_ml == region.volume_ml


def test_regions_are_numbered_from_the_largest_and_crumbs_dropped():
    big, small, crumb = (GRID.to_patient(c) for c in ((14, 22, 24), (26, 22, 24), (20, 30, 34)))
    values = np.zeros(GRID.shape, np.float32)
    for centre, radius, level in ((big, 8.0, 3.0), (small, 6.0, 5.0), (crumb, 3.0, 9.0)):
        values[sphere(centre, radius)] = level
    found = find("HGG", values, GRID, BRAIN, 2.0, "rule", 0.5)
    assert [r.label for r in found.regions] == [1, 2]
    assert [r.mean for r in found.regions] == [3.0, 5.0]
    assert found.maximum == 5.0
    assert not found.mask[sphere(crumb, 3.0)].any()


def test_nothing_outside_the_brain_is_lesion():
    assert (
        not find("TCN", np.full(GRID.shape, 9.0, np.float32), GRID, BRAIN, 2.0, "rule", 0.0)
        .mask[~BRAIN]
        .any()
    )


def test_a_map_without_lesion_has_an_empty_one():
    found = find("2HG", np.zeros(GRID.shape, np.float32), GRID, BRAIN, 1.0, "rule", 0.5)
    assert (found.regions, found.volume_ml, found.mean, found.maximum) == ((), 0, 0, 0)


def test_the_reference_is_not_raised_by_the_lesion_it_serves_to_find():
    rng = np.random.default_rng(0)
    values = rng.normal(0.2, 0.02, GRID.shape).astype(np.float32)
    values[sphere(GRID.to_patient((20, 22, 24)), 17.0)] = 0.9  # a quarter of this brain
    assert normal_median(values, Reference(BRAIN, "brain"), times=2.0) == pytest.approx(0.2, rel=0.02)


def test_the_sd_of_normal_tissue_leaves_the_lesion_out():
    rng = np.random.default_rng(1)
    values = rng.normal(0.3, 0.05, GRID.shape)
    values[sphere(GRID.to_patient((20, 22, 24)), 12.0)] = 2.0
    centre, sd = clipped_sd(values.astype(np.float32), BRAIN)
    assert (centre, sd) == pytest.approx((0.3, 0.05), rel=0.08)


def test_noise_has_no_lesion():
    noise = np.abs(np.random.default_rng(2).normal(0.2, 0.1, GRID.shape)).astype(np.float32)
    threshold = 2 * normal_median(noise, Reference(BRAIN, "brain"), times=2.0)
    assert find("TCN", noise, GRID, BRAIN, threshold, "rule", 0.5).regions == ()


def test_white_matter_is_found_in_the_t1():
    acquisition, truth = brain_study(lesion=False)
    t1 = acquisition.anatomy[0]
    reference = tissue(t1, truth["brain"])
    white = t1.values > 0.8
    assert reference.words == "normal-appearing white matter"
    assert (reference.mask & white).sum() / reference.mask.sum() > 0.95


def test_without_a_t1_the_brain_is_the_reference():
    assert tissue(None, BRAIN).mask is BRAIN


def _two_halves(lesion_share, seed=4):
    """White matter at 0.2 (left 1 % higher), a lesion at 0.9 over a share of the right half; the plane."""
    rng = np.random.default_rng(seed)
    plane = Midline(GRID.to_patient((20, 22, 22)), GRID.row_direction, 0.9)
    left = plane.left(GRID)
    values = np.where(left, 0.202, 0.2) * rng.normal(1, 0.1, GRID.shape)
    rows = np.argwhere(BRAIN & ~left)[:, 0]
    ill = BRAIN & ~left & (np.indices(GRID.shape)[0] <= np.quantile(rows, lesion_share))
    values[ill] = 0.9
    return values.astype(np.float32), ill, left, plane


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_the_reference_of_a_lesion_on_one_side_is_the_other_side(share):
    """Even where hardly any tissue of its own side is left."""
    values, _, left, plane = _two_halves(share)
    level, words = normal_level(values, Reference(BRAIN, "white matter"), BRAIN, GRID, plane)
    assert words == "contralateral white matter"
    assert level == pytest.approx(float(np.median(values[BRAIN & left])), rel=1e-3)
    assert level == pytest.approx(0.202, rel=0.03)


def test_left_and_right_change_places_with_the_lesion():
    values, _, left, _ = _two_halves(0.5)
    affine = GRID.affine.copy()
    affine[:3, 2] *= -1
    affine[:3, 0] *= -1  # two axes turned: the same values lie on the other side
    away = Grid(GRID.shape, affine, GRID.frame_of_reference)
    mirror = Midline(away.to_patient((20, 22, 22)), GRID.row_direction, 0.9)
    reference = Reference(BRAIN, "white matter")
    assert (mirror.left(away) == ~left).mean() > 0.95
    level, words = normal_level(values, reference, BRAIN, away, mirror)
    assert words == "contralateral white matter"
    assert level == pytest.approx(0.202, rel=0.03)


def test_a_lesion_on_both_sides_none_or_an_unknown_midline_leave_the_whole_reference():
    values, ill, left, plane = _two_halves(0.3)
    reference = Reference(BRAIN, "white matter")
    whole = (normal_median(values, reference), "white matter")
    assert normal_level(values, reference, BRAIN, GRID, None) == whole
    both = values.copy()
    both[BRAIN & left & (np.indices(GRID.shape)[0] <= np.argwhere(ill)[:, 0].max())] = 0.9
    assert normal_level(both, reference, BRAIN, GRID, plane)[1] == "white matter"
    healthy = np.where(ill, 0.2, values).astype(np.float32)
    assert normal_level(healthy, reference, BRAIN, GRID, plane)[1] == "white matter"


def test_a_reference_that_lies_on_one_side_only_serves_whole():
    values, _, left, plane = _two_halves(0.3)
    one = Reference(BRAIN & ~left, "white matter")
    assert normal_level(values, one, BRAIN, GRID, plane) == (normal_median(values, one), "white matter")
