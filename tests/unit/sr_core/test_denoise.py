"""Noise level and non-local means on LR maps."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import denoise_nl_means

from sr_core.denoise import nlm, noise_sd

SHAPE = (20, 24, 24)
EVERYWHERE = np.ones(SHAPE, bool)


@pytest.fixture
def tissue():
    field = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 2.5)
    return np.where(field > 0, 10.0, 6.0).astype(np.float32)


def test_the_noise_of_a_smooth_map_is_found_to_a_tenth():
    z, y, x = np.indices(SHAPE)
    noisy = 10 + 0.1 * z * x + np.sin(y / 4) + np.random.default_rng(1).normal(0, 0.3, SHAPE)
    assert noise_sd(noisy.astype(np.float32), EVERYWHERE) == pytest.approx(0.3, rel=0.1)


def test_a_single_slice_has_a_noise_level_too():
    flat = np.random.default_rng(2).normal(5, 0.2, (1, 40, 40)).astype(np.float32)
    assert noise_sd(flat, np.ones(flat.shape, bool)) == pytest.approx(0.2, rel=0.15)


def test_it_denoises_at_least_as_well_as_scikit_image_does(tissue):
    """Same windows, same σ; scikit-image at the best of its own strengths."""
    noisy = (tissue + np.random.default_rng(3).normal(0, 0.8, SHAPE)).astype(np.float32)
    ours = nlm(noisy, np.full(SHAPE, 0.8, np.float32), EVERYWHERE)
    theirs = min(
        np.sqrt(np.mean((denoise_nl_means(noisy, 3, 3, h=h * 0.8, sigma=0.8, fast_mode=False) - tissue) ** 2))
        for h in (0.4, 0.8)
    )
    assert np.sqrt(np.mean((ours - tissue) ** 2)) <= 1.02 * theirs


def test_sure_voxels_stay_and_unsure_ones_are_averaged(tissue):
    sigma = np.where(np.indices(SHAPE)[2] < 12, 0.05, 1.0).astype(np.float32)
    noisy = (tissue + sigma * np.random.default_rng(4).standard_normal(SHAPE)).astype(np.float32)
    out = nlm(noisy, sigma, EVERYWHERE)
    sure, unsure = np.s_[:, :, 2:10], np.s_[:, :, 16:]
    assert np.abs(out[sure] - noisy[sure]).max() < 0.3
    assert np.std(out[unsure] - tissue[unsure]) < 0.6 * np.std(noisy[unsure] - tissue[unsure])


def test_what_lies_outside_the_mask_neither_changes_nor_leaks_in(tissue):
    mask = np.zeros(SHAPE, bool)
    mask[4:16, 4:20, 4:20] = True
    spoiled = np.where(mask, tissue, np.float32(1e5))
    out = nlm(spoiled, np.full(SHAPE, 0.5, np.float32), mask)
    assert (out[~mask] == 1e5).all()
    assert out[mask].max() <= 10.01
