"""Data consistency as a layer does what data consistency does to arrays, and lets gradients through."""

import numpy as np
import pytest
import torch

from sr_core import kspace
from sr_core.consistency import Measurement, correct, feasible, residual
from sr_core.kspace import Part
from sr_core.layers import DataConsistency

LR, HR = (6, 10, 12), (24, 40, 48)


@pytest.fixture
def brain() -> np.ndarray:
    inside = np.zeros(HR, bool)
    inside[4:20, 6:34, 8:44] = True
    return inside


def measured(brain: np.ndarray, hard: bool, psf: kspace.Psf | None = None) -> tuple[np.ndarray, Measurement]:
    rng = np.random.default_rng(0)
    truth = (rng.random(HR, dtype=np.float32) + 1) * brain
    values = kspace.forward(truth, LR, psf) + 0.02 * rng.standard_normal(LR).astype(np.float32)
    variance, trusted = np.full(LR, 0.02**2, np.float32), np.ones(LR, bool)
    trusted[0] = False
    return truth, Measurement(values, variance, trusted, psf, hard)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
def test_the_layer_is_correct_then_feasible(brain, hard, filtered):
    truth, m = measured(brain, hard, kspace.hamming_psf(LR) if filtered else None)
    x = np.asarray(truth * 0.8, np.float32)
    part = Part.around(brain)
    layer = DataConsistency(m, part, brain[part.box])
    out = layer(torch.from_numpy(x[part.box])).numpy()
    expected = feasible(correct(x, m), brain)[part.box]
    assert np.abs(out - expected).max() < 1e-4


def test_hard_consistency_reproduces_the_measurement_before_it_is_made_feasible(brain):
    truth, m = measured(np.ones(HR, bool), hard=True)
    part = Part(HR, (0, 0, 0), HR)
    out = DataConsistency(m, part, np.ones(HR, bool))(torch.from_numpy(truth * np.float32(0.9))).numpy()
    assert np.abs(residual(out, m)).max() < 1e-4


def test_gradients_reach_the_network_but_not_along_what_was_measured(brain):
    """Behind hard consistency only the null space of A is still the network's to choose."""
    _, m = measured(np.ones(HR, bool), hard=True)
    part = Part(HR, (0, 0, 0), HR)
    layer = DataConsistency(m, part, np.ones(HR, bool))
    x = torch.full(HR, 5.0, requires_grad=True)  # far from zero: nothing is clipped
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal(HR).astype(np.float32))
    (layer(x) * weights).sum().backward()
    gradient = x.grad.numpy()
    assert np.abs(gradient).max() > 0.1
    assert np.abs(kspace.forward(gradient, LR)).max() < 1e-3
