"""One Fourier convention: sample 4i of the fine grid lies on sample i of the coarse one."""

import numpy as np
import pytest

from sr_core import kspace
from tests.unit.sr_core.phantoms import band_limited

CASES = [
    ((46, 46, 32), (46, 46, 32)),
    ((8, 12, 12), (32, 48, 48)),
    ((5, 12, 11), (5, 48, 44)),
    ((6, 9, 8), (6, 23, 31)),
]


@pytest.mark.parametrize(("lr", "hr"), CASES)
def test_a_band_limited_image_comes_back_exactly_from_zero_filling(lr, hr):
    truth = band_limited(np.random.default_rng(1), lr, hr)
    back = kspace.zero_fill(kspace.forward(truth, lr), hr)
    assert np.abs(back - truth).max() < 1e-6 * np.abs(truth).max()


@pytest.mark.parametrize(("lr", "hr"), CASES)
def test_zero_filling_then_cropping_returns_every_measured_value(lr, hr):
    y = np.random.default_rng(2).standard_normal(lr)
    assert np.abs(kspace.forward(kspace.zero_fill(y, hr), lr) - y).max() < 1e-6


def test_the_matrices_agree_with_the_fft():
    """An independent form of A, away from the highest line: crop the centred spectrum."""
    x = np.random.default_rng(3).standard_normal((9, 30, 21))
    k = np.fft.fftshift(np.fft.fftn(x))
    crop = k[2:7, 8:23, 6:15]  # 5, 15 and 9 lines around the centre (4, 15, 10)
    expected = np.fft.ifftn(np.fft.ifftshift(crop)).real * crop.size / x.size
    assert np.abs(kspace.forward(x, (5, 15, 9)) - expected).max() < 1e-12


def test_the_pseudo_inverse_and_the_transpose_are_those_of_the_forward_matrix():
    lr, hr, psf = (2, 4, 3), (4, 6, 7), (None, kspace.hamming(4), kspace.hamming(3))
    a = np.stack([kspace.forward(e.reshape(hr), lr, psf).ravel() for e in np.eye(168)], axis=1)
    plus = np.stack([kspace.pinv(e.reshape(lr), hr, psf).ravel() for e in np.eye(24)], axis=1)
    transpose = np.stack([kspace.adjoint(e.reshape(lr), hr, psf).ravel() for e in np.eye(24)], axis=1)
    assert np.abs(plus - np.linalg.pinv(a)).max() < 1e-12
    assert np.abs(transpose - a.T).max() < 1e-12


def test_cropping_in_two_steps_is_cropping_in_one():
    """256 → 184 → 46 as the simulation does it is 256 → 46 as the scanner does."""
    x = np.random.default_rng(4).standard_normal((22, 32, 32))
    assert (
        np.abs(
            kspace.forward(kspace.forward(x, (16, 24, 24)), (4, 6, 6)) - kspace.forward(x, (4, 6, 6))
        ).max()
        < 1e-12
    )


def test_a_constant_stays_that_constant():
    assert kspace.forward(np.full((8, 16, 16), 3.0), (2, 4, 4)) == pytest.approx(3.0)


def test_single_precision_in_single_precision_out():
    assert kspace.forward(np.ones((4, 8, 8), np.float32), (4, 4, 4)).dtype == np.float32


def test_k_space_is_not_cropped_to_more_than_there_is():
    with pytest.raises(ValueError, match="from 8 to 9"):
        kspace.forward(np.ones((8, 8, 8)), (8, 9, 8))
