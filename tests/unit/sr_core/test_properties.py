"""What holds for any map, not only for those we thought of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import sr_core
from sr_core import Acquisition, Grid, MetaboliteMap, Settings, blocks, consistency, fnlm, kspace
from sr_core.baselines import bicubic
from sr_core.consistency import Measurement
from sr_core.inpaint import inpaint
from sr_core.kspace import Part
from tests.unit.sr_core.phantoms import brain_study

LR, HR = (4, 6, 5), (8, 24, 15)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def volumes(shape, low=-100.0, high=100.0):
    return arrays(np.float64, shape, elements=st.floats(low, high, width=32))


filters = st.sampled_from([None, kspace.hamming_psf(LR)])


@few
@given(volumes(HR), volumes(HR), st.floats(-3, 3), filters)
def test_the_acquisition_is_linear(x, y, a, psf):
    seen = kspace.forward(a * x + y, LR, psf)
    assert np.allclose(seen, a * kspace.forward(x, LR, psf) + kspace.forward(y, LR, psf), atol=1e-9 * 500)


@few
@given(volumes(HR), volumes(LR), filters)
def test_the_transpose_is_the_transpose(x, y, psf):
    assert np.vdot(kspace.forward(x, LR, psf), y) == pytest.approx(
        np.vdot(x, kspace.adjoint(y, HR, psf)), abs=1e-6
    )


@few
@given(volumes(HR), filters)
def test_a_part_of_a_volume_is_seen_as_the_volume_that_is_zero_elsewhere(x, psf):
    part = Part(HR, (1, 3, 2), (7, 20, 11))
    alone = np.zeros(HR)
    alone[part.box] = x[part.box]
    assert np.allclose(kspace.forward(x[part.box], LR, psf, part), kspace.forward(alone, LR, psf), atol=1e-9)
    back = kspace.pinv(x[:4, :6, :5], HR, psf)
    assert np.allclose(kspace.pinv(x[:4, :6, :5], part, psf), back[part.box], atol=1e-9)


@few
@given(volumes(HR), volumes(LR))
def test_the_hard_correction_is_a_projection(x, y):
    m = Measurement(y, np.ones(LR), np.ones(LR, dtype=bool), hard=True)
    once = consistency.correct(x, m)
    assert np.allclose(kspace.forward(once, LR), y, atol=1e-4)  # residuals are single precision
    assert np.allclose(consistency.correct(once, m), once, atol=1e-4)


@few
@given(volumes(HR), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_a_mirrored_image_is_mirrored_by_acquisition_and_zero_filling(x, axes):
    """On periodic grids the mirror is i → −i mod N, which keeps sample 0 in its place."""
    flipped = [a for a, chosen in enumerate(axes) if chosen]

    def mirror(v):
        return np.roll(np.flip(v, flipped), 1, flipped) if flipped else v

    seen = kspace.forward(x, LR)
    assert np.allclose(kspace.forward(mirror(x), LR), mirror(seen), atol=1e-9)
    assert np.allclose(kspace.zero_fill(mirror(seen), HR), mirror(kspace.zero_fill(seen, HR)), atol=1e-9)


@few
@given(volumes(LR), st.floats(0.01, 1e4))
def test_interpolation_is_blind_to_units(lr, times):
    factor = (2, 4, 3)
    assert np.allclose(bicubic(times * lr, factor), times * bicubic(lr, factor), atol=1e-9 * times * 100)


@few
@given(st.floats(0.1, 1e4))
def test_a_constant_stays_that_constant(c):
    lr = np.full(LR, c)
    for up in (bicubic(lr, (2, 4, 3)), kspace.zero_fill(lr, HR), blocks.block_spread(lr, (2, 4, 3))):
        assert np.allclose(up, c, rtol=1e-5)
    assert np.allclose(blocks.block_mean(np.full(HR, c), (2, 4, 3)), c, rtol=1e-5)
    brain = np.ones(HR, dtype=bool)
    guide = np.random.default_rng(0).random(HR, dtype=np.float32)
    x = np.full(HR, c, dtype=np.float32)
    weights = fnlm.guide_weights([guide], brain)
    m = Measurement(
        np.full(LR, c, dtype=np.float32), np.full(LR, c**2 / 400, dtype=np.float32), np.ones(LR, bool)
    )
    for mode in ("single", "boxmean", "dc", "joint"):
        done = fnlm.restore(x, weights, m, (2, 4, 3), fnlm.Fnlm(mode=mode))
        assert np.allclose(done, c, rtol=1e-4), mode


@few
@given(
    arrays(np.float32, (6, 7, 5), elements=st.floats(0, 50, width=32)),
    arrays(np.bool_, (6, 7, 5)),
    arrays(np.bool_, (6, 7, 5)),
)
def test_repair_changes_holes_only_and_stays_within_what_is_known(values, known, holes):
    known = known | (np.arange(values.size).reshape(values.shape) == 3)
    done = inpaint(values, known, holes)
    changed = holes & ~known
    assert np.array_equal(done[~changed], values[~changed])
    if changed.any():
        assert values[known].min() <= done[changed].min()
        assert done[changed].max() <= values[known].max()


METHODS = ("bicubic+dc", "bicubic+fnlm", "bicubic+fnlm+dc")


@pytest.fixture(scope="module")
def study():
    return brain_study(noise=0.1)[0]


def turned_round(a: Acquisition, axes: tuple[int, int]) -> Acquisition:
    """The same study with two array axes reversed, so that voxels keep their positions in the patient."""

    def grid(g: Grid) -> Grid:
        turn = np.eye(4)
        for axis in axes:
            turn[axis, axis], turn[axis, 3] = -1, g.shape[axis] - 1
        return Grid(g.shape, g.affine @ turn, g.frame_of_reference)

    def flip(v):
        return None if v is None else np.ascontiguousarray(np.flip(v, axes))

    return Acquisition(
        maps=tuple(
            MetaboliteMap(m.metabolite, flip(m.values), m.unit, grid(m.grid), flip(m.crlb_percent))
            for m in a.maps
        ),
        anatomy=tuple(type(i)(i.contrast, flip(i.values), grid(i.grid)) for i in a.anatomy),
        snr=flip(a.snr),
        linewidth_ppm=flip(a.linewidth_ppm),
        brain_mask=flip(a.brain_mask),
        acquired_matrix=a.acquired_matrix,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (0, 2)])
def test_a_study_stored_the_other_way_round_gives_the_same_values_at_the_same_points(study, method, axes):
    """Compared at points in the patient: the fine grids have the measured samples in common."""
    other = turned_round(study, axes)
    resolve = sr_core.load(None, method, Settings(motion="ignore"))
    a, b = resolve(study), resolve(other)
    common = np.s_[::4, ::4, ::4]
    inner = a.brain[common] & np.flip(b.brain[common], axes)
    for one, two in zip(a.maps, b.maps, strict=True):
        x, y = one.values[common], np.flip(two.values[common], axes)
        apart = np.abs(x - y)[inner]
        assert np.percentile(apart, 95) < 0.02 * np.percentile(x[inner], 99), one.metabolite


@pytest.mark.parametrize("method", METHODS)
def test_nan_never_leaves(study, method):
    holed = np.array(study.maps[0].values)
    holed[::3, ::4, ::2] = np.nan
    first = study.maps[0]
    maps = (
        MetaboliteMap(first.metabolite, holed, first.unit, first.grid, first.crlb_percent),
        *study.maps[1:],
    )
    result = sr_core.load(None, method)(
        Acquisition(
            maps, study.anatomy, study.snr, study.linewidth_ppm, study.brain_mask, study.acquired_matrix
        )
    )
    for m in (*result.maps, *result.ratios, *result.uncertainty):
        assert np.isfinite(m.values).all()
