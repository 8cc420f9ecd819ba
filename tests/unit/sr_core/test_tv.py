"""Total variation: the minimum it promises, and what that minimum does to a map."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy import ndimage, sparse
from skimage.restoration import denoise_tv_chambolle

from sr_core import baselines, kspace, tv
from sr_core.consistency import Measurement, feasible
from sr_core.tv import Tv, restore
from tests.unit.sr_core.phantoms import HR, LR, ellipsoid

SMALL = (4, 6, 6)


def blocks(shape, edge=4, seed=0):
    """Constant blocks of ``edge`` voxels, 0.3 to 1, in a random arrangement."""
    coarse = np.random.default_rng(seed).choice([0.3, 0.5, 0.7, 1.0], tuple(n // edge + 2 for n in shape))
    return baselines.nearest(coarse, (edge, edge, edge))[tuple(slice(0, n) for n in shape)].astype(np.float32)


def measured(truth, lr, noise, seed=0, hard=False, trusted=None):
    """``truth`` cropped to ``lr``, with noise of uneven SD; what is not trusted is far off."""
    rng = np.random.default_rng(seed)
    sigma = (max(noise, 1e-3) * rng.uniform(0.7, 1.5, lr)).astype(np.float32)
    y = kspace.forward(truth, lr) + (sigma * rng.standard_normal(lr) if noise else 0.0)
    if trusted is None:
        trusted = np.ones(lr, bool)
    return Measurement(np.where(trusted, y, 9.0).astype(np.float32), sigma**2, trusted, hard=hard)


class Independent:
    """The same problem in cvxpy's words: dense A by columns, sparse differences, an interior-point solver."""

    def __init__(self, m, brain, spacing_mm=(1.0, 1.0, 1.0), weights=None, guide=None, eta=0.1):
        self.m, self.brain = m, brain
        index = np.full(brain.shape, -1)
        index[brain] = np.arange(brain.sum())
        units = np.zeros((brain.sum(), *brain.shape))
        units[np.arange(brain.sum()), *np.nonzero(brain)] = 1.0
        self.a = np.stack([kspace.forward(u, m.values.shape).ravel() for u in units], axis=1)
        self.differences = []
        for axis in range(3):
            here = np.moveaxis(index, axis, 0)
            pairs = [
                (i, j) for i, j in zip(here[:-1].ravel(), here[1:].ravel(), strict=True) if min(i, j) >= 0
            ]
            rows, nexts = np.array(pairs).T
            d = sparse.lil_matrix((brain.sum(), brain.sum()))
            d[rows, rows], d[rows, nexts] = -1.0, 1.0
            self.differences.append(d.tocsr() * (min(spacing_mm) / spacing_mm[axis]))
        if guide is not None:
            v = np.stack([d @ guide[brain] for d in self.differences])
            across = v / np.sqrt((v**2).sum(axis=0) + eta**2)
            along = [
                sum(
                    sparse.diags(float(a == b) - across[a] * across[b]) @ self.differences[b]
                    for b in range(3)
                )
                for a in range(3)
            ]
            self.differences = along
        self.weights = np.ones(brain.sum()) if weights is None else weights[brain]

    def variation(self, x):
        return float(self.weights @ np.sqrt(sum((d @ x[self.brain]) ** 2 for d in self.differences)))

    def objective(self, x, lam):
        off = (self.a @ x[self.brain] - self.m.values.ravel())[self.m.trusted.ravel()]
        return lam * self.variation(x) + 0.5 * float((off**2 / self.m.variance[self.m.trusted]).sum())

    def solve(self, lam):
        x = cp.Variable(int(self.brain.sum()), nonneg=True)
        lengths = cp.norm(cp.vstack([d @ x for d in self.differences]), 2, axis=0)
        seen = self.m.trusted.ravel()
        off = self.a[seen] @ x - self.m.values.ravel()[seen]
        if self.m.hard:
            problem = cp.Problem(cp.Minimize(self.weights @ lengths), [off == 0])
        else:
            fit = cp.sum_squares(cp.multiply(off, 1.0 / np.sqrt(self.m.variance.ravel()[seen])))
            problem = cp.Problem(cp.Minimize(lam * (self.weights @ lengths) + 0.5 * fit))
        problem.solve(solver=cp.CLARABEL)
        out = np.zeros(self.brain.shape)
        out[self.brain] = x.value
        return out


def small_problem(factor, hard=False):
    """Truth, measurement with untrusted voxels, a brain that is not the whole box, and a start."""
    hr = tuple(n * f for n, f in zip(SMALL, factor, strict=True))
    brain = ellipsoid(hr, share=0.46)
    truth = blocks(hr) * brain
    trusted = ellipsoid(SMALL, share=0.46)
    trusted[1, 2:4, 1] = False
    m = measured(truth, SMALL, 0.0 if hard else 0.05, hard=hard, trusted=trusted)
    filled = np.where(trusted, m.values, 0.5).astype(np.float32)
    return truth, m, brain, np.asarray(baselines.bicubic(filled, factor), np.float32)


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("kind", ["tv", "wtv", "dtv"])
@pytest.mark.parametrize("hard", [False, True], ids=["weighted", "hard"])
def test_it_reaches_the_minimum_that_an_interior_point_solver_finds(factor, kind, hard):
    truth, m, brain, start = small_problem(factor, hard)
    spacing_mm = (1.25, 1.0, 1.0)
    guide = np.where(brain, 1.5 - truth + 0.2 * (np.indices(brain.shape)[2] > 5), 0.0).astype(np.float32)
    parameters = Tv(kind, iterations=3000, reweightings=0)
    x = restore(start, m, brain, parameters, guide, spacing_mm)
    scale = tv.map_scale(m)
    weights = None
    if kind == "wtv":
        share = feasible(start, brain) / np.float32(scale)
        weights = tv.edge_weights(share, brain, spacing_mm, parameters.kappa, parameters.blur_voxels)
    shown = tv.of_range_one(guide, brain) if kind == "dtv" else None
    oracle = Independent(m, brain, spacing_mm, weights, shown, parameters.eta)
    lam = tv.regularisation(parameters.strength, m, brain.shape, spacing_mm)
    best = oracle.solve(lam)
    if hard:
        off = np.abs(kspace.forward(x, SMALL) - m.values)[m.trusted].max()
        assert off < 1e-3 * scale
        assert oracle.variation(x) == pytest.approx(oracle.variation(best), rel=5e-3)
    else:
        assert oracle.objective(x, lam) == pytest.approx(oracle.objective(best, lam), rel=5e-3)
    assert np.sqrt(np.mean((x - best)[brain] ** 2)) < 0.01 * scale


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_where_nothing_was_lost_it_is_the_denoising_of_scikit_image(strength):
    """Their ``weight`` is λ of ½ |x − y|² + λ TV(x), ours k σ; both leave out differences over the edge."""
    shape, sigma = (6, 10, 10), 0.1
    y = (2.0 + blocks(shape) + sigma * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    m = Measurement(y, np.full(shape, sigma**2, np.float32), np.ones(shape, bool))
    everywhere = np.ones(shape, bool)
    x = restore(y, m, everywhere, Tv(strength=strength, iterations=1500))
    theirs = denoise_tv_chambolle(y.astype(np.float64), weight=strength * sigma, eps=0, max_num_iter=4000)
    assert np.abs(x - theirs).max() < 0.02 * sigma
    assert np.abs(y - theirs).max() > sigma


@pytest.fixture(scope="module")
def head():
    """A 48 × 64 × 64 head in blocks, and its brain."""
    brain = ellipsoid(HR)
    return np.where(brain, blocks(HR, 12), 0.0).astype(np.float32), brain


def psnr(x, truth, brain):
    """In the brain, data range 1."""
    return -10 * np.log10(np.mean((x - truth)[brain] ** 2))


def first_guess(m):
    return np.asarray(baselines.bicubic(m.values, (4, 4, 4)), np.float32)


@pytest.mark.parametrize("kind", ["tv", "wtv", "dtv"])
@pytest.mark.parametrize("hard", [False, True], ids=["weighted", "hard"])
def test_without_noise_it_beats_bicubic_on_a_piecewise_constant_map(head, kind, hard):
    truth, brain = head
    m = measured(truth, LR, 0.0, hard=hard)
    start = first_guess(m)
    guide = np.where(brain, 1.0 - 0.5 * truth, 0.0).astype(np.float32)
    x = restore(start, m, brain, Tv(kind), guide)
    assert psnr(x, truth, brain) > psnr(feasible(start, brain), truth, brain) + 1.0


def test_with_noise_too(head):
    truth, brain = head
    m = measured(truth, LR, 0.05, trusted=ellipsoid(LR))
    filled = Measurement(np.where(m.trusted, m.values, 0).astype(np.float32), m.variance, m.trusted)
    start = first_guess(filled)
    assert psnr(restore(start, m, brain), truth, brain) > psnr(feasible(start, brain), truth, brain) + 1.0


def test_an_edge_that_the_guide_shows_stays_sharper_than_by_total_variation_alone(head):
    _, brain = head
    truth = np.where(brain, np.where(np.indices(HR)[1] < 31, 0.4, 1.0), 0.0).astype(np.float32)
    guide = np.where(brain, 1.4 - truth, 0.0).astype(np.float32)
    m = measured(truth, LR, 0.1)
    start = first_guess(m)
    middle = (
        ndimage.binary_erosion(brain, iterations=6)[:, 30]
        & ndimage.binary_erosion(brain, iterations=6)[:, 31]
    )

    def step(x):
        return float((x[:, 31] - x[:, 30])[middle].mean())

    by_tv, by_dtv = (restore(start, m, brain, Tv(kind), guide) for kind in ("tv", "dtv"))
    assert step(by_dtv) > step(by_tv) + 0.1
    assert step(by_dtv) > 0.5
    assert psnr(by_dtv, truth, brain) > psnr(by_tv, truth, brain)


def test_where_the_guide_is_flat_directional_is_plain_total_variation(head):
    truth, brain = head
    m = measured(truth, LR, 0.05)
    flat = np.full(HR, 7.0, np.float32)
    plain, directional = (
        restore(first_guess(m), m, brain, Tv(k, iterations=20), flat) for k in ("tv", "dtv")
    )
    assert np.abs(plain - directional).max() < 1e-5


@pytest.mark.parametrize("kind", ["tv", "wtv", "dtv"])
def test_a_constant_map_stays_constant(head, kind):
    _, brain = head
    truth = np.where(brain, np.float32(3.0), np.float32(0.0))
    m = measured(truth, LR, 0.0)
    x = restore(truth, m, brain, Tv(kind), head[0])
    assert np.abs(x - truth).max() < 1e-3


@pytest.mark.parametrize("kind", ["tv", "wtv", "dtv"])
def test_a_map_in_another_unit_gives_the_same_map_in_that_unit(head, kind):
    truth, brain = head
    m, k = measured(truth, LR, 0.05), np.float32(1e4)
    big = Measurement(m.values * k, m.variance * k**2, m.trusted)
    start, few = first_guess(m), Tv(kind, iterations=30)
    there, here = restore(start * k, big, brain, few, truth), restore(start, m, brain, few, truth)
    assert np.abs(there / k - here).max() < 1e-3


def test_the_whole_is_the_same_from_any_start(head):
    """The minimum is the map's, not the first guess's."""
    truth, brain = head
    m = measured(truth, LR, 0.05)
    from_bicubic, from_nothing = (
        restore(s, m, brain, Tv(iterations=300)) for s in (first_guess(m), np.zeros(HR, np.float32))
    )
    assert np.sqrt(np.mean((from_bicubic - from_nothing)[brain] ** 2)) < 0.01


@pytest.mark.parametrize("kind", ["tv", "wtv", "dtv"])
def test_what_is_not_a_number_never_leaves_and_nothing_is_outside_the_brain(head, kind):
    truth, brain = head
    m = measured(truth, LR, 0.05)
    start, values, variance, guide = first_guess(m), m.values.copy(), m.variance.copy(), truth.copy()
    start[20:24, 30:34, 30:34] = np.nan
    values[5, 8, 8], values[6, 8, 8], variance[7, 8, 8] = np.nan, np.inf, np.inf
    guide[24, 30, 30] = np.nan
    x = restore(start, Measurement(values, variance, m.trusted), brain, Tv(kind, iterations=20), guide)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert x.min() >= 0
    assert not x[~brain].any()
    assert x[brain].mean() == pytest.approx(truth[brain].mean(), rel=0.05)


def test_a_brain_without_a_trusted_voxel_keeps_its_first_guess(head):
    truth, brain = head
    m = measured(truth, LR, 0.05)
    blind = Measurement(m.values, m.variance, np.zeros(LR, bool))
    assert np.array_equal(restore(truth, blind, brain), truth)
    assert not restore(truth, m, np.zeros(HR, bool)).any()
    nothing = Measurement(np.zeros(LR, np.float32), m.variance, m.trusted)
    assert not restore(np.zeros(HR, np.float32), nothing, brain).any()


def test_an_apodised_acquisition_is_sharpened_through_its_filter(head):
    truth, brain = head
    psf = kspace.hamming_psf(LR)
    y = kspace.forward(truth, LR, psf)
    known = Measurement(y, np.full(LR, 1e-4, np.float32), np.ones(LR, bool), psf)
    unknown = Measurement(y, known.variance, known.trusted)
    told, untold = (restore(first_guess(m), m, brain) for m in (known, unknown))
    assert psnr(told, truth, brain) > psnr(untold, truth, brain) + 0.5


def test_weights_from_the_guide_keep_its_edges(head):
    truth, brain = head
    m = measured(truth, LR, 0.1)
    start = first_guess(m)
    guided = restore(start, m, brain, Tv("wtv", weights_from="guide"), truth)
    assert psnr(guided, truth, brain) > psnr(restore(start, m, brain), truth, brain)


def test_a_guide_that_is_missing_or_off_the_grid_is_refused(head):
    truth, brain = head
    m = measured(truth, LR, 0.05)
    for parameters in (Tv("dtv"), Tv("wtv", weights_from="guide")):
        with pytest.raises(ValueError, match="guide"):
            restore(truth, m, brain, parameters)
    with pytest.raises(ValueError, match="off the brain's grid"):
        restore(truth, m, brain, Tv("dtv"), truth[1:])
    for wrong in ({"kind": "tgv"}, {"strength": 0.0}, {"iterations": 0}, {"weights_from": "moon"}):
        with pytest.raises(ValueError):
            Tv(**wrong)
