"""Figures of merit against their definitions and against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from sr_core.evaluate.metrics import nrmse, psnr, ssim


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    truth = rng.random((4, 40, 44)).astype(np.float32)
    return truth + 0.1 * rng.standard_normal(truth.shape).astype(np.float32), truth


def test_psnr_of_a_constant_error_is_known(images):
    _, truth = images
    mask = truth > 0.5
    assert psnr(truth + 0.01, truth, mask, 1.0) == pytest.approx(40.0, abs=1e-3)
    assert psnr(truth + 0.01, truth, mask, 10.0) == pytest.approx(60.0, abs=1e-3)
    assert psnr(truth, truth, mask, 1.0) == float("inf")


def test_figures_look_only_inside_the_mask(images):
    x, truth = images
    mask = np.zeros(truth.shape, bool)
    mask[1, 10:20, 10:20] = True
    wrong = x.copy()
    wrong[~mask] = 99
    assert psnr(wrong, truth, mask, 1.0) == psnr(x, truth, mask, 1.0)
    assert nrmse(wrong, truth, mask) == nrmse(x, truth, mask)


def test_nrmse_does_not_depend_on_the_unit(images):
    x, truth = images
    mask = np.ones(truth.shape, bool)
    assert nrmse(1000 * x, 1000 * truth, mask) == pytest.approx(nrmse(x, truth, mask))
    assert nrmse(2 * truth, truth, mask) == pytest.approx(1.0)


def test_ssim_equals_that_of_scikit_image(images):
    x, truth = images
    mask = np.zeros(truth.shape, bool)
    mask[:, 8:30, 9:33] = True
    maps = [
        structural_similarity(
            a, b, data_range=1.3, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1]
        for a, b in zip(x.astype(float), truth.astype(float), strict=True)
    ]
    assert ssim(x, truth, mask, 1.3) == pytest.approx(np.stack(maps)[mask].mean(), abs=1e-6)


def test_a_figure_without_voxels_or_range_is_refused(images):
    x, truth = images
    nothing = np.zeros(truth.shape, bool)
    for figure in (lambda: psnr(x, truth, nothing, 1.0), lambda: nrmse(x, truth, nothing)):
        with pytest.raises(ValueError, match="at least one voxel"):
            figure()
    for figure in (psnr, ssim):
        with pytest.raises(ValueError, match="data range"):
            figure(x, truth, ~nothing, 0.0)
