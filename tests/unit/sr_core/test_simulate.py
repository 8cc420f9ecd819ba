"""The simulated study as a whole: reproducible, on aligned grids, with a lesion FLAIR shows elsewhere."""

from __future__ import annotations

from dataclasses import replace

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


def test_a_seed_gives_the_study_it_gave_when_the_shipped_weights_were_trained(study):
    """Figures of the first release: sums over maps and CRLB, T1 and FLAIR, lesion sizes, missing voxels."""
    a = study.acquisition
    assert [float(np.nansum(m.values, dtype=float)) for m in a.maps] == pytest.approx(
        [95360.006, 14318.8151, 72066.2394, 49723.4484, 76058.072, 23590.1823, 1867.55341], rel=1e-5
    )
    assert [int(m.crlb_percent.sum(dtype=float)) for m in a.maps] == pytest.approx(
        [185700, 197493, 179223, 214220, 230577, 431645, 9237631], rel=1e-3
    )
    assert [float(v.values.sum(dtype=float)) for v in a.anatomy] == pytest.approx(
        [894597961, 1302634583], rel=1e-6
    )
    sizes = {name: int(mask.sum()) for name, mask in study.lesions.items()}
    assert sizes == pytest.approx({"metabolic": 9001, "necrosis": 724, "flair": 25618}, abs=3)
    assert int(np.isnan(a.maps[0].values).sum()) == 112


def test_all_twenty_metabolites_can_be_had_and_change_nothing_about_the_usual_ones(tissue, study):
    everything = simulate(tissue, 3, replace(OPTIONS, metabolites="all"))
    assert {m.metabolite for m in everything.acquisition.maps} == set(Metabolite)
    for usual in study.acquisition.maps:
        same = everything.acquisition.map_of(usual.metabolite)
        assert np.array_equal(same.values, usual.values, equal_nan=True)
        assert np.array_equal(same.crlb_percent, usual.crlb_percent)
