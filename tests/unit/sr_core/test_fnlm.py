"""Feature non-local means: the guide helps where it agrees, and does no harm where it does not."""

import numpy as np
import pytest
from scipy import ndimage

from sr_core import Metabolite, baselines, fnlm, kspace
from sr_core.blocks import block_mean
from sr_core.consistency import measurement, residual
from sr_core.fnlm import Fnlm
from tests.unit.sr_core.phantoms import HR, LR, brain_study

DEFAULT = Fnlm()
FACTOR = (4, 4, 4)


@pytest.fixture(scope="module")
def case():
    acquisition, truth = brain_study()
    return (
        truth,
        acquisition.anatomy[1].values,
        fnlm.guide_weights([acquisition.anatomy[1].values], truth["brain"]),
    )


def start(truth, metabolite):
    lr = kspace.forward(truth[metabolite], LR).astype(np.float32)
    return np.maximum(baselines.bicubic(lr, (4, 4, 4)), 0) * truth["brain"], lr


def rms(x, truth, metabolite, where):
    return float(np.sqrt(np.mean((x - truth[metabolite])[truth[where]] ** 2)))


def test_weights_are_those_of_the_written_formula(case):
    """An independent form: every pair of one voxel's window, by loops."""
    truth, guide, weights = case
    brain = truth["brain"]
    features = fnlm.guide_features([guide[_box(brain)]], brain[_box(brain)])
    number = np.full(brain[_box(brain)].shape, -1)
    number[brain[_box(brain)]] = np.arange(brain.sum())
    at = np.argwhere(number == 9000)[0]
    expected = {}
    for offset in np.ndindex(7, 7, 7):
        step = np.array(offset) - 3
        there = at + step
        if (step**2).sum() > DEFAULT.radius**2 or (there < 0).any() or (there >= number.shape).any():
            continue
        j = number[tuple(there)]
        if j >= 0 and j != 9000:
            apart = np.mean((features[(slice(None), *at)] - features[(slice(None), *there)]) ** 2)
            expected[int(j)] = float(np.exp(-apart / DEFAULT.h**2))
    best = dict(sorted(expected.items(), key=lambda kv: -kv[1])[: DEFAULT.kept])
    found = {
        int(j): float(w)
        for j, w in zip(weights.neighbour[9000, 1:], weights.weight[9000, 1:], strict=True)
        if w > 1e-6
    }
    assert found == pytest.approx({j: w for j, w in best.items() if w > 1e-6}, rel=1e-3)
    assert weights.neighbour[9000, 0] == 9000
    assert weights.weight[9000, 0] == 1


def _box(mask):
    return tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(mask))


def test_an_average_of_equals_is_the_same(case):
    truth, _, weights = case
    flat = np.where(truth["brain"], np.float32(3), np.float32(0))
    assert fnlm.single(flat, weights)[truth["brain"]] == pytest.approx(3.0, rel=1e-5)


def test_one_pass_brings_the_map_nearer_to_the_truth(case):
    truth, _, weights = case
    x, _ = start(truth, Metabolite.GLU)
    assert rms(fnlm.single(x, weights), truth, Metabolite.GLU, "brain") < rms(
        x, truth, Metabolite.GLU, "brain"
    )


@pytest.mark.parametrize("metabolite", [Metabolite.TCHO, Metabolite.HG2, Metabolite.TNAA, Metabolite.GLN])
def test_a_lesion_that_the_guide_does_not_show_is_kept(case, metabolite):
    """Joint weights: in the lesion never worse than bicubic, nor than the guide's weights alone."""
    truth, _, weights = case
    x, lr = start(truth, metabolite)
    m = measurement(lr, np.full(LR, 0.02, np.float32), np.ones(LR, bool), LR)
    joint = rms(fnlm.joint(x, weights, m), truth, metabolite, "lesion")
    assert joint <= rms(x, truth, metabolite, "lesion")
    assert joint <= 1.02 * rms(fnlm.dc(x, weights, m), truth, metabolite, "lesion")


def test_with_data_consistency_it_beats_bicubic_clearly(case):
    truth, _, weights = case
    x, lr = start(truth, Metabolite.TNAA)
    m = measurement(lr, np.full(LR, 0.02, np.float32), np.ones(LR, bool), LR)
    assert rms(fnlm.joint(x, weights, m), truth, Metabolite.TNAA, "brain") < 0.8 * rms(
        x, truth, Metabolite.TNAA, "brain"
    )


def test_a_thin_volume_has_weights_in_its_planes(case):
    _, guide, _ = case
    brain = np.ones((1, *HR[1:]), bool)
    weights = fnlm.guide_weights([guide[20:21]], brain)
    assert fnlm.single(guide[20:21], weights).shape == (1, *HR[1:])


def test_a_2d_window_never_leaves_its_slice(case):
    truth, guide, _ = case
    flat = fnlm.guide_weights([guide], truth["brain"], Fnlm(window="2d", radius=5.0))
    slice_of = np.nonzero(truth["brain"])[0]
    assert (slice_of[flat.neighbour] == slice_of[:, None]).all()


def test_a_second_contrast_and_the_laplacian_add_features(case):
    truth, guide, _ = case
    other = np.roll(guide, 3, axis=2)
    assert fnlm.guide_features([guide], truth["brain"]).shape[0] == 4
    both = fnlm.guide_features([guide, other], truth["brain"], log=True)
    assert both.shape[0] == 10
    assert np.array_equal(both[:5], fnlm.guide_features([guide], truth["brain"], log=True))
    brain = truth["brain"]
    assert not np.array_equal(
        fnlm.guide_weights([guide, other], brain).weight, fnlm.guide_weights([guide], brain).weight
    )


def test_box_means_stay_those_of_the_initial_map(case):
    truth, _, weights = case
    x, _ = start(truth, Metabolite.TNAA)
    done = fnlm.boxmean(x, weights, FACTOR, passes=8)
    inner = block_mean(truth["brain"].astype(np.float32), FACTOR) > 0.999
    before, after = block_mean(x, FACTOR)[inner], block_mean(done, FACTOR)[inner]
    once = block_mean(fnlm.single(x, weights), FACTOR)[inner]
    assert np.abs(after - before).mean() < 0.15 * np.abs(once - before).mean()


def test_kept_box_means_bring_a_map_nearer_to_the_truth_than_one_pass_away_from_the_brain_s_edge(case):
    """At the edge the windows' means hold what interpolation spilled out of the brain."""
    truth, _, weights = case
    x, _ = start(truth, Metabolite.GLU)
    within = {**truth, "deep": ndimage.binary_erosion(truth["brain"], iterations=4)}
    errors = [
        rms(v, within, Metabolite.GLU, "deep")
        for v in (fnlm.boxmean(x, weights, FACTOR), fnlm.single(x, weights), x)
    ]
    assert errors == sorted(errors)


def test_each_mode_does_what_its_name_says(case):
    truth, _, weights = case
    x, lr = start(truth, Metabolite.TCHO)
    m = measurement(lr, np.full(LR, 0.02, np.float32), np.ones(LR, bool), LR)

    def by(mode, measured):
        return fnlm.restore(x, weights, measured, FACTOR, Fnlm(mode=mode))

    assert np.array_equal(by("single", None), fnlm.single(x, weights))
    assert np.array_equal(by("dc", None), fnlm.single(x, weights))
    assert np.array_equal(by("boxmean", None), fnlm.boxmean(x, weights, FACTOR))
    assert np.array_equal(by("dc", m), fnlm.dc(x, weights, m))
    assert np.array_equal(by("joint", m), fnlm.joint(x, weights, m))
    for mode in ("single", "boxmean"):
        far, near = (residual(by(mode, measured), m) for measured in (None, m))
        assert np.abs(near).mean() < np.abs(far).mean()


@pytest.mark.parametrize(
    "wrong", [{"mode": "best"}, {"guide": "T2"}, {"h": 0.0}, {"radius": 40.0}, {"passes": 0}]
)
def test_a_wrong_parameter_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Fnlm(**wrong)
