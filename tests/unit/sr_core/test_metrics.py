"""Figures of merit against their definitions, scikit-image and piq.

PSNR and SSIM are the project's masked variants: taken over the voxels of a mask, windows of axial planes
reaching beyond it. The SSIM peer is scikit-image's with gaussian_weights, σ 1.5, population covariance.
"""

import numpy as np
import pytest
from scipy import fft, ndimage
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sr_core.evaluate.fsim import fsim
from sr_core.evaluate.metrics import gmsd, ms_ssim, nrmse, psnr, ssim


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
    for figure in (psnr, ssim, ms_ssim, fsim, gmsd):
        with pytest.raises(ValueError, match="data range"):
            figure(x, truth, ~nothing, 0.0)


def distorted() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(distorted, image), 0 to 255: images in scikit-image's wheel; blurred, noisy, quantised as by JPEG."""

    def quantised(v: np.ndarray) -> np.ndarray:
        rows, columns = v.shape
        tiles = v.reshape(rows // 8, 8, columns // 8, 8).swapaxes(1, 2)
        steps = 10.0 * (1 + np.add.outer(np.arange(8), np.arange(8)))
        c = np.rint(fft.dctn(tiles, axes=(2, 3), norm="ortho") / steps) * steps
        return fft.idctn(c, axes=(2, 3), norm="ortho").swapaxes(1, 2).reshape(v.shape)

    images = {
        "camera": data.camera(),
        "coins": data.coins()[:296, :384],
        "184": data.camera()[100:284, 150:334],
    }
    found = {}
    for name, image in images.items():
        v = image.astype(float)
        noise = np.random.default_rng(0).standard_normal(v.shape)
        found[f"{name} blurred"] = ndimage.gaussian_filter(v, 1.5), v
        found[f"{name} noisy"] = np.clip(v + 15 * noise, 0, 255), v
        found[f"{name} quantised"] = np.clip(quantised(v), 0, 255), v
    return found


# FSIM (grey), GMSD and MS-SSIM of the same images by piq 0.8.0 (PyPI), run apart from this project:
# it would bring its own torch. It checks its FSIM against the authors' MATLAB program.
BY_PIQ = {
    "camera blurred": (0.94003, 0.08158, 0.95449),
    "camera noisy": (0.89530, 0.13778, 0.85416),
    "camera quantised": (0.97990, 0.03180, 0.97652),
    "coins blurred": (0.81423, 0.10034, 0.94864),
    "coins noisy": (0.79847, 0.10602, 0.91497),
    "coins quantised": (0.90888, 0.03341, 0.97817),
    "184 blurred": (0.86480, 0.08191, 0.96563),
    "184 noisy": (0.79968, 0.10871, 0.92862),
    "184 quantised": (0.92675, 0.02761, 0.98576),
}


@pytest.mark.parametrize("name", BY_PIQ)
def test_fsim_gmsd_and_ms_ssim_equal_those_of_piq(name):
    """MS-SSIM within 0.02: piq leaves out what lies within half a window of an edge, at every scale."""
    x, truth = distorted()[name]
    everywhere = np.ones((1, *truth.shape), bool)
    feature, deviation, multiscale = BY_PIQ[name]
    assert fsim(x[None], truth[None], everywhere, 255.0) == pytest.approx(feature, abs=1e-4)
    assert gmsd(x[None], truth[None], everywhere, 255.0) == pytest.approx(deviation, abs=1e-4)
    assert ms_ssim(x[None], truth[None], everywhere, 255.0) == pytest.approx(multiscale, abs=0.02)


def test_ms_ssim_is_wangs_product_of_scikit_images_similarity_over_scales():
    """Luminance comes from the window's means, contrast × structure is what it leaves of SSIM."""
    x, truth = distorted()["184 noisy"]
    product, a, b = 1.0, x, truth
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, weight in enumerate(weights):
        whole = structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1]
        p, q = (ndimage.gaussian_filter(v, 1.5, radius=5) for v in (a, b))
        luminance = (2 * p * q + 2.55**2) / (p**2 + q**2 + 2.55**2)
        product *= (whole if scale == 4 else whole / luminance).mean() ** weight
        rows, columns = (n // 2 * 2 for n in a.shape)
        a, b = (v[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3)) for v in (a, b))
    everywhere = np.ones((1, *truth.shape), bool)
    assert ms_ssim(x[None], truth[None], everywhere, 255.0) == pytest.approx(product, abs=1e-6)


def test_psnr_equals_that_of_scikit_image_inside_the_mask():
    x, truth = distorted()["184 noisy"]
    mask = np.zeros((1, *truth.shape), bool)
    mask[0, 20:90, 30:70] = True
    expected = peak_signal_noise_ratio(truth[20:90, 30:70], x[20:90, 30:70], data_range=255)
    assert psnr(x[None], truth[None], mask, 255.0) == pytest.approx(expected, abs=1e-9)


def test_figures_of_structure_are_best_for_the_truth_and_do_not_depend_on_the_unit(images):
    x, truth = images
    mask = np.zeros(truth.shape, bool)
    mask[:, 8:30, 9:33] = True
    for figure, best in ((ssim, 1.0), (ms_ssim, 1.0), (fsim, 1.0), (gmsd, 0.0)):
        assert figure(truth, truth, mask, 1.3) == pytest.approx(best, abs=1e-9)
        assert figure(1000 * x, 1000 * truth, mask, 1300.0) == pytest.approx(
            figure(x, truth, mask, 1.3), abs=1e-5
        )
        assert abs(figure(x, truth, mask, 1.3) - best) > 0.01


def test_fsim_and_gmsd_pool_over_the_mask_of_all_planes_at_once():
    """Two equal planes score as one; what is changed far from the mask does not count in GMSD."""
    x, truth = distorted()["184 blurred"]
    mask = np.zeros((2, *truth.shape), bool)
    mask[:, 40:120, 40:120] = True
    pair, pair_truth = np.stack([x, x]), np.stack([truth, truth])
    for figure in (fsim, gmsd):
        one = figure(x[None], truth[None], mask[:1], 255.0)
        assert figure(pair, pair_truth, mask, 255.0) == pytest.approx(one, abs=1e-12)
    wrong = x.copy()
    wrong[150:] = 0
    assert gmsd(wrong[None], truth[None], mask[:1], 255.0) == gmsd(x[None], truth[None], mask[:1], 255.0)
