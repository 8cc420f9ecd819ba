"""What is said of a lesion, of fine structure and of agreement with the measurement."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.spatial.distance import directed_hausdorff

from sr_core import kspace
from sr_core.evaluate.agreement import contrast_recovery, dc_error
from sr_core.evaluate.detail import gradient_ratio, hfen
from sr_core.evaluate.peers import half_pixel_bicubic
from sr_core.evaluate.tumour import (
    HalfMaximum,
    Places,
    bias_percent,
    dice,
    false_lesion_percent,
    half_maximum,
    hd95_mm,
    recovery,
    true_contrast,
)

SHAPE = (20, 24, 28)
SPACING = (2.0, 1.0, 1.0)


def ball(radius: float, centre: tuple[float, float, float] = (10, 12, 14)) -> np.ndarray:
    where = np.indices(SHAPE)
    return sum((w - c) ** 2 for w, c in zip(where, centre, strict=True)) <= radius**2


@pytest.fixture
def places() -> Places:
    lesion = ball(4)
    zone = ndimage.binary_dilation(lesion, iterations=4)
    return Places(lesion, lesion, zone, ~zone)


def lesioned(places: Places, level: float, normal: float = 1.0) -> np.ndarray:
    return np.where(places.lesion, level, normal).astype(np.float32)


# The lesion.


@pytest.mark.parametrize(("level", "rising"), [(5.0, True), (0.2, False)])
def test_half_maximum_is_midway_and_finds_the_true_lesion_brighter_or_darker(places, level, rising):
    truth = lesioned(places, level)
    found = half_maximum(truth, places)
    assert found is not None
    assert (found.level, found.rising) == (pytest.approx((level + 1) / 2), rising)
    assert np.array_equal(found.region(truth, places.zone), places.lesion)


def test_a_lesion_that_the_map_does_not_show_has_no_outline(places):
    assert half_maximum(lesioned(places, 1.05), places) is None
    assert np.isnan(recovery(lesioned(places, 3.0), lesioned(places, 1.05), places))


def test_the_level_is_the_same_for_a_result_that_shows_less(places):
    """A lesion at 40 % of its contrast lies below half maximum: nothing is found."""
    level = half_maximum(lesioned(places, 3.0), places)
    assert level == HalfMaximum(2.0, True)
    assert not level.region(lesioned(places, 1.8), places.zone).any()


def test_dice_of_shifted_boxes_is_their_overlap():
    a, b = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    a[:, :, 4:12], b[:, :, 8:16] = True, True
    assert dice(a, b) == 0.5 and dice(a, a) == 1.0
    assert dice(a, np.zeros_like(a)) == 0.0 and dice(~a & a, ~b & b) == 1.0


def test_the_distance_of_parallel_planes_is_their_distance_in_mm():
    """Two slices of 2 mm apart: 4 mm, whichever of the two was found."""
    a, b = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    a[5], b[7] = True, True
    assert hd95_mm(a, b, SPACING) == hd95_mm(b, a, SPACING) == pytest.approx(4.0)
    assert hd95_mm(a, a, SPACING) == 0.0


def test_the_distance_lies_below_scipys_hausdorff_distance_and_ignores_few_outliers():
    true, found = ball(6), ball(6, (10, 13, 14))
    points = [np.argwhere(v) * SPACING for v in (found, true)]
    largest = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert 0 < hd95_mm(found, true, SPACING) <= largest + 1e-9
    found[0, 0, 0] = True
    assert hd95_mm(found, true, SPACING) <= largest + 1e-9


def test_a_missed_lesion_is_as_far_off_as_it_is_large():
    true = np.zeros(SHAPE, bool)
    true[5:10, 3:7, 4:8] = True
    assert hd95_mm(~true & true, true, SPACING) == pytest.approx(np.sqrt(10**2 + 4**2 + 4**2))
    with pytest.raises(ValueError, match="true outline"):
        hd95_mm(true, ~true & true, SPACING)


def test_bias_and_recovery_say_what_share_is_there(places):
    truth = lesioned(places, 3.0)
    assert bias_percent(lesioned(places, 2.4), truth, places.lesion) == pytest.approx(-20.0, abs=1e-4)
    assert recovery(lesioned(places, 2.4), truth, places) == pytest.approx(0.7, abs=1e-6)
    assert recovery(truth, truth, places) == pytest.approx(1.0)
    darker = lesioned(places, 0.2)
    assert recovery(lesioned(places, 0.6), darker, places) == pytest.approx(0.5, abs=1e-6)


def test_a_false_lesion_is_measured_by_the_contrast_it_would_have_had(places):
    """Maps normalised to their own maxima are brought to one scale by normal tissue."""
    healthy = lesioned(places, 1.0)
    with_lesion = lesioned(places, 5.0) / np.float32(5.0)
    contrast = true_contrast(with_lesion, healthy, places.lesion, places.normal)
    assert contrast == pytest.approx(4.0, abs=1e-5)
    assert false_lesion_percent(lesioned(places, 1.1), healthy, places.lesion, contrast) == pytest.approx(2.5)
    assert false_lesion_percent(lesioned(places, 0.9), healthy, places.lesion, contrast) == pytest.approx(2.5)


def test_contrast_of_a_metabolite_that_only_tumour_has_keeps_its_scale(places):
    nothing = np.zeros(SHAPE, np.float32)
    assert true_contrast(lesioned(places, 5.0, 0.0), nothing, places.lesion, places.normal) == 5.0


# Tissue and measurement.


def test_contrast_recovery_is_the_share_of_the_true_difference():
    grey, white = ball(3), ball(3, (10, 4, 4))
    truth = (1.0 * grey + 1.2 * white).astype(np.float32)
    result = (1.05 * grey + 1.15 * white).astype(np.float32)
    assert contrast_recovery(result, truth, grey, white) == pytest.approx(0.5, abs=1e-5)
    assert np.isnan(contrast_recovery(result, (1.0 * (grey | white)).astype(np.float32), grey, white))
    assert np.isnan(contrast_recovery(result, truth, grey & ~grey, white))


def test_dc_error_is_that_of_the_forward_operator_where_it_was_measured():
    x = np.random.default_rng(0).random((8, 16, 16)).astype(np.float32)
    psf = kspace.hamming_psf((4, 8, 8))
    everywhere = np.ones((4, 8, 8), bool)
    for filter_ in (None, psf):
        y = kspace.forward(x, (4, 8, 8), filter_)
        assert dc_error(x, y, everywhere, filter_) < 1e-6
        assert dc_error(1.1 * x, y, everywhere, filter_) == pytest.approx(0.1, abs=1e-5)
    y = np.array(y)
    y[0] = np.nan
    assert dc_error(x, y, everywhere, psf) < 1e-6
    with pytest.raises(ValueError, match="not zero"):
        dc_error(x, y, ~everywhere, psf)


# Fine structure.


@pytest.fixture
def textured() -> tuple[np.ndarray, np.ndarray]:
    truth = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((6, 48, 48)), (0, 1, 1))
    return truth.astype(np.float32), ndimage.gaussian_filter(truth, (0, 1.5, 1.5)).astype(np.float32)


def test_hfen_is_that_of_the_laplacian_of_gaussian_of_15_by_15(textured):
    """The kernel as MATLAB's fspecial('log', 15, 1.5) makes it, used by Ravishankar and Bresler."""
    truth, blurred = textured
    y, x = np.mgrid[-7:8, -7:8]
    g = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    g /= g.sum()
    kernel = g * (x**2 + y**2 - 2 * 1.5**2) / 1.5**4
    kernel -= kernel.mean()
    mask = np.zeros(truth.shape, bool)
    mask[:, 8:40, 8:40] = True
    a, b = (np.stack([ndimage.convolve(p, kernel) for p in v.astype(float)])[mask] for v in (blurred, truth))
    assert hfen(blurred, truth, mask) == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b), rel=1e-3)
    assert hfen(truth, truth, mask) == 0.0
    assert hfen(1000 * blurred, 1000 * truth, mask) == pytest.approx(hfen(blurred, truth, mask), rel=1e-5)


def test_sharpness_is_one_for_the_truth_less_for_a_blur_more_for_exaggeration(textured):
    truth, blurred = textured
    mask = np.zeros(truth.shape, bool)
    mask[1:5, 8:40, 8:40] = True
    assert gradient_ratio(truth, truth, mask) == 1.0
    assert gradient_ratio(blurred, truth, mask) < 0.6
    assert gradient_ratio(1.5 * truth, truth, mask) == pytest.approx(1.5, abs=1e-6)


def test_sharpness_is_of_numpys_gradient(textured):
    truth, blurred = textured
    mask = np.zeros(truth.shape, bool)
    mask[2:4, 8:40, 8:40] = True
    sizes = [np.sqrt(sum(g**2 for g in np.gradient(v.astype(float))))[mask].mean() for v in (blurred, truth)]
    assert gradient_ratio(blurred, truth, mask) == pytest.approx(sizes[0] / sizes[1], rel=1e-6)


@pytest.mark.parametrize("figure", [hfen, gradient_ratio])
def test_detail_needs_voxels_and_a_truth_that_has_some(textured, figure):
    truth, _ = textured
    with pytest.raises(ValueError, match="at least one voxel"):
        figure(truth, truth, np.zeros(truth.shape, bool))
    with pytest.raises(ValueError, match="truth"):
        figure(truth, np.zeros_like(truth), np.ones(truth.shape, bool))


# The peer.


def test_the_half_pixel_bicubic_is_pillows_away_from_edges():
    """Pillow resizes with Keys' kernel, a = −½, fields of view sharing their edges."""
    plane = np.random.default_rng(2).random((12, 14)).astype(np.float32)
    peer = np.asarray(Image.fromarray(plane).resize((56, 48), Image.Resampling.BICUBIC))
    found = half_pixel_bicubic(plane[None], (1, 4, 4))[0]
    assert found.shape == peer.shape
    assert np.abs(found - peer)[8:-8, 8:-8].max() < 1e-5
