"""The simulated study: reproducible, measured by the same operator that super-resolution inverts."""

from __future__ import annotations

import numpy as np
import pytest

from sr_core import Contrast, Metabolite, kspace
from sr_core.simulate import LesionPlan, Options, from_icbm152, simulate


@pytest.fixture(scope="module")
def tissue():
    return from_icbm152()


@pytest.fixture(scope="module")
def clean(tissue):
    return simulate(tissue, 3, Options(noise=0.0, artefacts=False, regime="match", lesion=LesionPlan()))


@pytest.fixture(scope="module")
def noisy(tissue):
    return simulate(tissue, 3, Options(regime="mismatch", lesion=LesionPlan()))


def test_the_same_seed_gives_the_same_study(tissue, noisy):
    again = simulate(tissue, 3, Options(regime="mismatch", lesion=LesionPlan()))
    for a, b in zip(noisy.acquisition.maps, again.acquisition.maps, strict=True):
        assert np.array_equal(a.values, b.values, equal_nan=True)
    other = simulate(tissue, 4, Options(regime="mismatch", lesion=LesionPlan()))
    assert not np.array_equal(
        noisy.acquisition.maps[0].values, other.acquisition.maps[0].values, equal_nan=True
    )


def test_without_noise_the_measured_map_is_the_truth_cropped_in_k_space(clean):
    brain = clean.acquisition.brain_mask
    for m in clean.acquisition.maps:
        wanted = kspace.forward(clean.truth_of(m.metabolite).values, m.grid.shape)
        kept = brain & (m.values > 0)
        assert kept.sum() > 100
        assert np.allclose(m.values[kept], wanted[kept], atol=1e-5 * np.abs(wanted).max())


def test_sample_4i_of_the_truth_lies_on_sample_i_of_the_measurement(clean):
    lr = clean.acquisition.grid
    for index in ((0, 0, 0), (5, 17, 31)):
        assert np.allclose(lr.to_patient(index), clean.grid.to_patient([4 * i for i in index]), atol=1e-9)


def test_crlb_tells_the_noise_there_is(noisy, clean):
    brain = noisy.acquisition.brain_mask
    for name, usual in ((Metabolite.TNAA, 3), (Metabolite.TCHO, 4), (Metabolite.INS, 5)):
        m = noisy.acquisition.map_of(name)
        assert m is not None and m.crlb_percent is not None
        good = brain & np.isfinite(m.values) & (m.crlb_percent < 30) & (m.crlb_percent > 0)
        assert 0.5 * usual <= np.median(m.crlb_percent[good]) <= 2 * usual
        truth = kspace.forward(noisy.truth_of(name).values, m.grid.shape)
        error = np.abs(m.values - truth)[good] / (m.crlb_percent[good] / 100 * m.values[good])
        assert 0.4 < np.median(error) / 0.6745 < 2.0


def test_2hg_is_in_the_tumour_and_not_detected_elsewhere(noisy):
    m = noisy.acquisition.map_of(Metabolite.HG2)
    truth = noisy.truth_of(Metabolite.HG2).values
    lesion = noisy.lesions["metabolic"]
    assert truth[lesion].mean() > 1.0
    assert np.percentile(np.abs(truth[noisy.brain & ~lesion]), 90) < 0.1
    assert m is not None and (m.crlb_percent[noisy.acquisition.brain_mask] >= 999).mean() > 0.5


def test_a_mismatched_flair_lesion_is_not_the_metabolic_one(noisy, clean):
    def dice(study):
        a, b = study.lesions["metabolic"], study.lesions["flair"]
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    assert dice(noisy) < 0.9
    assert dice(clean) > dice(noisy)
    assert {a.contrast for a in noisy.acquisition.anatomy} == set(Contrast)


def test_a_healthy_study_has_no_lesion(tissue):
    study = simulate(tissue, 1, Options(lesion=None))
    assert study.lesions == {}
    assert study.truth_of(Metabolite.HG2).values.max() < 0.1
