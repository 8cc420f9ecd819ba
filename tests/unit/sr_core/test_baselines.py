"""Interpolations keep positions, and interpolating ones keep values."""

import numpy as np
import pytest

from sr_core import baselines
from tests.unit.sr_core.phantoms import band_limited


@pytest.mark.parametrize("factor", [(4, 4, 4), (1, 4, 4), (2, 3, 5)])
@pytest.mark.parametrize("method", [baselines.bicubic, baselines.zerofill, baselines.trilinear])
def test_measured_values_stay_at_their_positions(method, factor):
    lr = np.random.default_rng(0).random((6, 7, 8))
    fine = method(lr, factor)
    assert fine.shape == tuple(n * f for n, f in zip(lr.shape, factor, strict=True))
    assert np.abs(fine[:: factor[0], :: factor[1], :: factor[2]] - lr).max() < 1e-6


@pytest.mark.parametrize("method", [baselines.bicubic, baselines.zerofill, baselines.trilinear])
def test_nothing_is_shifted(method):
    """A half-pixel-centre resizer would move this blob by 1.5 fine voxels along every axis."""
    grids = np.indices((16, 16, 16))
    lr = np.exp(-sum((g - c) ** 2 for g, c in zip(grids, (7.3, 8.1, 7.7), strict=True)) / (2 * 1.8**2))
    fine = method(lr, (4, 4, 4))
    centroid = [float((g * fine).sum() / fine.sum()) for g in np.indices(fine.shape)]
    assert centroid == pytest.approx([4 * 7.3, 4 * 8.1, 4 * 7.7], abs=0.05)


def test_keys_kernel_is_exact_for_parabolas():
    """a = −½ is the one cubic convolution that reproduces x² (Keys 1981); −¾ does not."""
    fine = baselines.bicubic(np.tile((np.arange(9.0) - 4) ** 2, (3, 3, 1)), (1, 1, 4))[0, 0]
    inner = slice(8, 28)
    assert fine[inner] == pytest.approx(((np.arange(36) / 4 - 4) ** 2)[inner], abs=1e-12)


def test_a_constant_has_no_dark_edge():
    assert baselines.bicubic(np.full((3, 4, 5), 2.0), (4, 4, 4)) == pytest.approx(2.0)


def test_zero_filling_is_exact_where_bicubic_is_not():
    truth = band_limited(np.random.default_rng(1), (8, 8, 8), (32, 32, 32))
    lr = truth[::4, ::4, ::4]
    assert np.abs(baselines.zerofill(lr, (4, 4, 4)) - truth).max() < 1e-6 * np.abs(truth).max()


def test_labels_go_to_the_nearest_fine_voxels():
    assert baselines.nearest(np.array([[[1, 2, 3]]]), (1, 1, 4))[0, 0].tolist() == [1] * 2 + [2] * 4 + [3] * 6
