"""What was measured is kept: exactly where it is certain, by its weight where it is not."""

import numpy as np
import pytest

from sr_core import Metabolite, kspace
from sr_core.baselines import bicubic
from sr_core.consistency import alternate, correct, measurement, null_space, residual
from tests.unit.sr_core.phantoms import HR, LR, brain_study

EVERYWHERE = np.ones(LR, bool)


@pytest.fixture
def truth():
    return brain_study()[1][Metabolite.TCHO].astype(np.float32)


def measured(truth, noise=0.0, trusted=EVERYWHERE, **how):
    y = kspace.forward(truth, LR) + noise * np.random.default_rng(0).standard_normal(LR)
    return measurement(y.astype(np.float32), np.full(LR, max(noise, 1e-3), np.float32), trusted, LR, **how)


def test_the_hard_form_crops_back_to_the_input(truth):
    anything = np.random.default_rng(1).random(HR).astype(np.float32)
    m = measured(truth, hard=True)
    assert np.abs(kspace.forward(correct(anything, m), LR) - m.values).max() < 1e-5


def test_correction_can_only_bring_noise_free_data_nearer_to_the_truth(truth):
    wrong = truth + np.random.default_rng(2).normal(0, 0.5, HR).astype(np.float32)
    corrected = correct(wrong, measured(truth, hard=True))
    assert np.square(corrected - truth).mean() < np.square(wrong - truth).mean()


def test_noise_is_not_fitted_but_a_lost_lesion_is_brought_back(truth):
    noise = 0.15
    m = measured(truth, noise)
    at_truth = correct(truth, m)
    fitted = np.std(kspace.forward(at_truth - truth, LR)) / noise
    assert fitted < 0.3
    lesion = brain_study()[1]["lesion"]
    lost = np.where(lesion, np.float32(1.4), truth)
    found = correct(lost, m)
    gap = (truth - lost)[lesion].mean()
    assert (found - lost)[lesion].mean() > 0.6 * gap


def test_untrusted_values_do_not_pull(truth):
    trusted = EVERYWHERE.copy()
    trusted[6, 6:9, 6:9] = False
    m = measured(truth, trusted=trusted)
    spoiled = measurement(np.where(trusted, m.values, np.float32(50)), np.sqrt(m.variance), trusted, LR)
    assert np.array_equal(correct(truth, spoiled), correct(truth, m))


def test_a_zero_filled_export_is_compared_in_the_acquired_k_space(truth):
    """12 × 16 × 16 on the console, 8 × 12 × 12 in k-space."""
    acquired = (8, 12, 12)
    y = kspace.forward(truth.astype(np.float64), acquired)
    export = kspace.zero_fill(y, LR).astype(np.float32)
    m = measurement(export, np.ones(LR, np.float32), EVERYWHERE, acquired, hard=True)
    assert np.abs(m.values - y).max() < 1e-5
    assert np.abs(residual(truth, m)).max() < 1e-5


def test_an_apodised_acquisition_keeps_its_filter(truth):
    psf = (kspace.hamming(12), kspace.hamming(16), kspace.hamming(16))
    y = kspace.forward(truth, LR, psf)
    m = measurement(y, np.ones(LR, np.float32), EVERYWHERE, LR, psf, hard=True)
    assert np.abs(residual(truth, m)).max() < 1e-6
    assert np.abs(kspace.forward(correct(np.zeros_like(truth), m), LR, psf) - y).max() < 1e-4


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_knowing_the_filter_undoes_it_without_raising_noise(truth, noise):
    brain = brain_study()[1]["brain"]
    psf = kspace.hamming_psf(LR)
    white = noise * np.random.default_rng(0).standard_normal(LR)
    y = (kspace.forward(truth, LR, psf) + kspace.forward(white, LR, psf)).astype(np.float32)
    sigma = np.full(LR, max(float(kspace.forward(white, LR, psf).std()), 1e-3), np.float32)
    start = bicubic(y, (4, 4, 4))

    def error(filter_):
        done = alternate(start, measurement(y, sigma, EVERYWHERE, LR, filter_), brain)
        return np.square(done - truth)[brain].mean()

    assert error(psf) < 0.8 * error(None)


def test_the_end_is_positive_and_inside_the_brain(truth):
    brain = brain_study()[1]["brain"]
    x = alternate(np.zeros(HR, np.float32), measured(truth), brain)
    assert x.min() >= 0
    assert not x[~brain].any()


def test_the_null_space_holds_what_cropping_loses():
    y = np.random.default_rng(3).random(LR)
    backed = kspace.zero_fill(y, HR)
    fine = np.zeros(HR)
    fine[::2] = 1.0
    fine[1::2] = -1.0  # a frequency that LR never sees
    assert null_space(backed, LR).max() < 1e-6
    assert null_space(backed + fine, LR) == pytest.approx(1.0, abs=1e-6)
