"""Speed gates of non-local means, as ratios to peers in the same run; nothing here is in seconds."""

import numpy as np
import pytest
from dipy.denoise.nlmeans import nlmeans
from skimage.restoration import denoise_nl_means

from sr_core import denoise
from sr_core.kspace import forward
from sr_core.nlm import Kernel, bounding_box, box, nlm_pass
from sr_core.simulate import from_icbm152
from tests.benchmarks.paired import paired

pytestmark = pytest.mark.slow

HR_SHAPE = (128, 184, 184)
LR_SHAPE = (32, 46, 46)
H = 0.08


@pytest.fixture(scope="module")
def tissue():
    return from_icbm152()


def a_map(tissue, shape):
    """A noisy map of range 1, and where the brain is."""
    clean = forward((0.8 * tissue.gm + 0.5 * tissue.wm + 0.05 * tissue.csf).astype(np.float32), shape)
    noise = np.random.default_rng(0).normal(0, 0.02, shape)
    return (clean + noise).astype(np.float32), np.asarray(forward(tissue.brain, shape) > 0.5)


def test_a_pass_on_the_brains_box_takes_half_of_scikit_image_and_no_more_than_dipy(tissue):
    """5×5×5 window, 3×3×3 patch, all of the box; dipy on two threads, scikit-image knows only one."""
    values, mask = a_map(tissue, HR_SHAPE)
    values = np.ascontiguousarray(values[bounding_box(mask)])

    def dipy():
        return nlmeans(
            values, sigma=H, patch_radius=1, block_radius=2, rician=False, num_threads=2, method="classic"
        )

    run = paired(
        {
            "ours": lambda: nlm_pass(values, values, Kernel((2, 2, 2), box(1), H)),
            "scikit-image": lambda: denoise_nl_means(values, 3, 2, h=H, fast_mode=True),
            "dipy": dipy,
        },
        rounds=3,
        warm_up=False,
    )
    assert run.ratio("ours", "scikit-image") <= 0.5, run.medians
    assert run.ratio("ours", "dipy") <= 1.0, run.medians


def test_a_pass_within_planes_takes_half_of_scikit_image(tissue):
    """11×11 window, 3×3 patch; scikit-image plane by plane, on every fourth plane."""
    values, mask = a_map(tissue, HR_SHAPE)
    values = np.ascontiguousarray(values[bounding_box(mask)][::4])
    kernel = Kernel((0, 5, 5), box(1, (False, True, True)), H)
    run = paired(
        {
            "ours": lambda: nlm_pass(values, values, kernel),
            "scikit-image": lambda: [denoise_nl_means(p, 3, 5, h=H, fast_mode=True) for p in values],
        },
        rounds=3,
    )
    assert run.ratio("ours", "scikit-image") <= 0.5, run.medians


def test_denoising_a_measured_map_takes_less_than_half_of_scikit_image(tissue):
    """7×7×7 window, 3×3×3 patch, σ per voxel, on the LR grid: what a study does twenty times."""
    values, mask = a_map(tissue, LR_SHAPE)
    sigma = np.full(LR_SHAPE, 0.02, np.float32)
    at = np.ascontiguousarray(values[bounding_box(mask)])
    run = paired(
        {
            "ours": lambda: denoise.nlm(values, sigma, mask),
            "scikit-image": lambda: denoise_nl_means(at, 3, 3, h=0.02, sigma=0.02, fast_mode=True),
        },
        rounds=9,
    )
    assert run.ratio("ours", "scikit-image") <= 0.5, run.medians
