"""The simulated study as a whole: reproducible, on aligned grids, with a lesion FLAIR shows elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from sr_core import Contrast, Metabolite
from sr_core.simulate import LesionPlan, Options, from_icbm152, simulate

OPTIONS = Options(regime="mismatch", lesion=LesionPlan())


@pytest.fixture(scope="module")
def tissue():
    return from_icbm152()


@pytest.fixture(scope="module")
def study(tissue):
    return simulate(tissue, 3, OPTIONS)


def test_the_same_seed_gives_the_same_study(tissue, study):
    again = simulate(tissue, 3, OPTIONS)
    for a, b in zip(study.acquisition.maps, again.acquisition.maps, strict=True):
        assert np.array_equal(a.values, b.values, equal_nan=True)
    for a, b in zip(study.acquisition.anatomy, again.acquisition.anatomy, strict=True):
        assert np.array_equal(a.values, b.values)


def test_sample_4i_of_the_truth_lies_on_sample_i_of_the_measurement(study):
    lr = study.acquisition.grid
    for index in ((0, 0, 0), (5, 17, 31)):
        assert np.allclose(lr.to_patient(index), study.grid.to_patient([4 * i for i in index]), atol=1e-9)


def test_2hg_is_in_the_tumour_and_not_detected_elsewhere(study):
    m = study.acquisition.map_of(Metabolite.HG2)
    truth = study.truth_of(Metabolite.HG2).values
    lesion = study.lesions["metabolic"]
    assert truth[lesion].mean() > 1.0
    assert np.percentile(np.abs(truth[study.brain & ~lesion]), 90) < 0.1
    assert m is not None and (m.crlb_percent[study.acquisition.brain_mask] >= 999).mean() > 0.5


def test_a_mismatched_flair_lesion_is_not_the_metabolic_one(study):
    a, b = study.lesions["metabolic"], study.lesions["flair"]
    assert 0.2 < 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.95
    assert {image.contrast for image in study.acquisition.anatomy} == set(Contrast)
