"""Metrics against independent implementations and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from sr_core.evaluate import metrics
from sr_core.evaluate.__main__ import table


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    truth = rng.random((3, 40, 50)).cumsum(axis=2).astype(np.float32)
    return truth + rng.normal(0, 0.5, truth.shape).astype(np.float32), truth


def test_psnr_is_ten_log_of_range_squared_over_mean_squared_error():
    truth = np.zeros((1, 2, 2), np.float32)
    x = np.full((1, 2, 2), 0.1, np.float32)
    assert metrics.psnr(x, truth, np.ones(x.shape, bool), 1.0) == pytest.approx(20.0, abs=1e-5)
    assert metrics.psnr(truth, truth, np.ones(x.shape, bool), 1.0) == float("inf")


def test_ssim_is_that_of_scikit_image(two):
    x, truth = two
    where = np.zeros(x.shape, bool)
    where[:, 5:-5, 5:-5] = True
    wanted = [
        structural_similarity(
            a, b, data_range=30.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(x, truth, strict=True)
    ]
    assert metrics.ssim(x, truth, where, 30.0) == pytest.approx(np.mean(wanted), abs=1e-4)


def test_dice_counts_the_overlap_twice():
    a = np.array([True, True, False, False])
    assert metrics.dice(a, np.array([True, False, False, False])) == pytest.approx(2 / 3)
    assert metrics.dice(~a & a, ~a & a) == 1.0


def test_the_table_averages_subjects_not_rows():
    def row(subject: str, value: float) -> dict[str, object]:
        return {
            "method": "m",
            "subject": subject,
            **dict.fromkeys(("psnr_brain", "psnr_lesion", "ssim", "nrmse"), value),
        }

    text = table([row("a", 1.0), row("a", 1.0), row("a", 1.0), row("b", 3.0)], "t")
    assert "| m | 2.000 | 2.000 | 2.000 | 2.000 |" in text
