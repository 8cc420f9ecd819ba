"""The paper's one map, lesions on one contrast, other matrices and factors, slabs, tissue masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sr_core import Contrast, Grid, Metabolite, Settings, Unit, kspace, load
from sr_core.simulate import TAUS, LesionPlan, Options, TissueModel, second_truth, simulate
from sr_core.simulate.chemistry import paper_model
from sr_core.simulate.lesion import draw_lesion

LESION = LesionPlan(radius_mm=14.0, centre_mm=(30.0, 48.0, 48.0))
EXACT = Options(
    regime="match",
    noise=0.0,
    artefacts=False,
    masked=False,
    metabolites="paper",
    lesion=LESION,
    matrix=(16, 24, 24),
)


@pytest.fixture(scope="module")
def head() -> TissueModel:
    """A small head of 96 mm: cortex 6 mm thick around white matter around a ventricle."""
    shape = (96, 96, 96)
    z, y, x = np.ogrid[:96, :96, :96]
    r = np.sqrt(((z - 48) / 42) ** 2 + ((y - 48) / 44) ** 2 + ((x - 48) / 40) ** 2)
    gm, wm, csf = ((r < high) & (r >= low) for low, high in ((0.85, 1.0), (0.25, 0.85), (0.0, 0.25)))
    grid = Grid(shape, np.eye(4)[[2, 1, 0, 3]], "SIMULATED")
    return TissueModel(*(v.astype(np.float32) for v in (gm, wm, csf)), grid, "small")


@pytest.fixture(scope="module")
def paper(head):
    return simulate(head, 7, EXACT)


def test_the_papers_map_is_one_map_of_range_one_without_texture(head, paper):
    """0.1 GM + 0.12 WM + τ TM, in arbitrary units, and the measured map is A of its truth."""
    assert [m.metabolite for m in paper.acquisition.maps] == [Metabolite.TCHO]
    (measured,), (truth,) = paper.acquisition.maps, paper.truth
    assert measured.unit is Unit.ARBITRARY and paper.truth_ratios == ()
    assert np.abs(measured.values - kspace.forward(truth.values, (16, 24, 24))).max() < 1e-5
    tumour, wm = truth.values[paper.lesions["metabolic"]], truth.values[paper.tissue["wm"]]
    assert np.median(wm) / np.percentile(tumour, 80) == pytest.approx(0.12 / 0.5, rel=0.1)
    lesion = draw_lesion(head, LESION, "match", np.random.default_rng(np.random.SeedSequence(7).spawn(6)[0]))
    assert np.array_equal(truth.values, kspace.forward(paper_model(head, lesion, 0.5), paper.grid.shape))


@pytest.mark.parametrize("tau", TAUS)
def test_tau_is_the_tumours_brightness(head, tau):
    study = simulate(head, 7, replace(EXACT, tau=tau))
    (truth,) = study.truth
    gm, wm = (np.median(truth.values[study.tissue[t]]) for t in ("gm", "wm"))
    assert gm / wm == pytest.approx(0.1 / 0.12, rel=0.05)
    assert wm == pytest.approx(0.12 / max(tau, 0.12), rel=0.05)


def test_with_an_snr_the_papers_map_has_that_noise_and_says_so_in_its_crlb(head):
    options = replace(EXACT, noise=1.0, snr=15.0, masked=True, lesion=None)
    study = simulate(head, 7, options)
    (measured,), (truth,) = study.acquisition.maps, study.truth
    clean = kspace.forward(truth.values, measured.grid.shape)
    sure = study.acquisition.brain_mask & (measured.crlb_percent < 30)
    sigma = (measured.values - clean)[sure].std()
    assert np.median(
        clean[kspace.forward(study.tissue["wm"] * 1.0, clean.shape) > 0.9]
    ) / sigma == pytest.approx(15, rel=0.1)
    assert np.median(measured.crlb_percent[sure] * measured.values[sure] / 100) == pytest.approx(
        sigma, rel=0.1
    )


def test_a_lesion_can_show_on_one_contrast_only(head):
    both, t1_only, neither = (
        simulate(head, 7, replace(EXACT, lesion_on=on)) for on in (tuple(Contrast), (Contrast.T1,), ())
    )
    healthy = simulate(head, 7, replace(EXACT, lesion=None))
    seen = {c: both.acquisition.image_of(c).values for c in Contrast}
    assert np.array_equal(t1_only.acquisition.image_of(Contrast.T1).values, seen[Contrast.T1])
    for study, contrast in ((t1_only, Contrast.FLAIR), (neither, Contrast.T1), (neither, Contrast.FLAIR)):
        image = study.acquisition.image_of(contrast).values
        assert np.array_equal(image, healthy.acquisition.image_of(contrast).values)
        assert not np.array_equal(image, seen[contrast])
    assert np.array_equal(t1_only.truth[0].values, both.truth[0].values)
    assert "flair" in t1_only.lesions and "flair" not in neither.lesions


def test_other_matrices_and_factors_keep_the_field_of_view_and_the_first_voxel_centre(head):
    study = simulate(head, 7, replace(EXACT, matrix=(8, 16, 20), factor=(3, 2, 4)))
    lr = study.acquisition.grid
    assert lr.shape == study.acquisition.acquired_matrix == (8, 16, 20)
    assert study.grid.shape == (24, 32, 80)
    assert np.allclose(np.array(lr.spacing_mm) * lr.shape, head.grid.shape)
    assert np.allclose(lr.to_patient([2, 3, 4]), study.grid.to_patient([6, 6, 16]))
    assert np.allclose(lr.to_patient([0, 0, 0]), head.grid.to_patient([0, 0, 0]))
    (measured,), (truth,) = study.acquisition.maps, study.truth
    assert np.abs(measured.values - kspace.forward(truth.values, (8, 16, 20))).max() < 1e-5


def test_a_truth_finer_than_the_head_and_a_matrix_of_nothing_are_refused(head):
    with pytest.raises(ValueError, match="finer than the simulated head"):
        simulate(head, 7, replace(EXACT, matrix=(32, 24, 24)))
    with pytest.raises(ValueError, match="matrix is three whole numbers"):
        Options(matrix=(0, 46, 46))
    with pytest.raises(ValueError, match="factor is three whole numbers"):
        Options(factor=(4, 4))


@pytest.mark.parametrize("slices", [1, 4])
def test_a_slab_has_slices_of_10_mm_through_the_lesion_and_is_fine_within_them_only(head, slices):
    study = simulate(head, 7, replace(EXACT, matrix=(slices, 24, 24), factor=(1, 4, 4)))
    lr = study.acquisition.grid
    assert lr.spacing_mm == pytest.approx((10, 4, 4))
    assert study.grid.shape == (slices, 96, 96)
    middle = lr.to_patient([(slices - 1) / 2, 0, 0])[2]
    assert middle == pytest.approx(48.0, abs=1.0)  # the lesion's height
    z = round(lr.to_patient([0, 0, 0])[2] - 4.5)  # the first of ten 1 mm slices
    assert np.abs(study.truth[0].values[0].mean() - _papers_volume(head)[z : z + 10].mean()) < 1e-3
    assert study.lesions["metabolic"].any() and study.lesions["flair"].any()


def _papers_volume(head):
    lesion = draw_lesion(head, LESION, "match", np.random.default_rng(np.random.SeedSequence(7).spawn(6)[0]))
    return paper_model(head, lesion, 0.5)


def test_a_slab_of_a_healthy_head_lies_above_its_middle_and_its_ends_are_no_rim_of_lipid(head):
    options = Options(lesion=None, matrix=(3, 24, 24), factor=(1, 4, 4))
    study = simulate(head, 7, options)
    low, high = (study.acquisition.grid.to_patient([k, 0, 0])[2] for k in (0, 2))
    assert 48 < (low + high) / 2 < 70
    inner = np.zeros((24, 24), dtype=bool)
    inner[8:16, 8:16] = True
    tnaa = study.acquisition.map_of(Metabolite.TNAA).values
    clean = kspace.forward(study.truth_of(Metabolite.TNAA).values, tnaa.shape)
    assert np.nanmedian(np.abs(tnaa - clean)[:, inner]) < 0.1 * np.median(clean[:, inner])


def test_a_slab_is_super_resolved_within_its_slices(head):
    options = Options(regime="match", lesion=LESION, matrix=(4, 24, 24), factor=(1, 4, 4), artefacts=False)
    study = simulate(head, 7, options)
    for settings in (Settings(factor=(1, 4, 4)), Settings()):  # asked for, or by the rule for few slices
        result = load(None, "bicubic+dc", settings)(study.acquisition)
        assert result.provenance.factor == (1, 4, 4)
        assert result.grid.same_as(study.grid)
        tnaa = next(m for m in result.maps if m.metabolite is Metabolite.TNAA).values
        truth = study.truth_of(Metabolite.TNAA).values
        inside = study.brain & result.brain
        assert np.corrcoef(tnaa[inside], truth[inside])[0, 1] > 0.8


def test_tissue_masks_are_pure_tissue_without_the_lesion(head, paper):
    healthy = simulate(head, 7, replace(EXACT, lesion=None))
    for name in ("gm", "wm"):
        assert healthy.tissue[name].sum() > 1000
        assert not (paper.tissue[name] & ~healthy.tissue[name]).any()
        for lesion in ("metabolic", "flair"):
            assert not (paper.tissue[name] & paper.lesions[lesion]).any()
    assert not (healthy.tissue["gm"] & healthy.tissue["wm"]).any()
    wm = healthy.truth[0].values[healthy.tissue["wm"]]
    assert wm.std() < 0.05 * wm.mean()  # Gibbs' ripple is left


def test_the_second_truth_is_what_fnlm_makes_of_the_exact_map(head, paper):
    (second,) = second_truth(paper)
    assert second.grid.same_as(paper.grid)
    assert (second.values[~paper.brain] == 0).mean() > 0.95
    first = paper.truth[0].values
    assert np.corrcoef(first[paper.brain], second.values[paper.brain])[0, 1] > 0.9
    noisy = simulate(head, 7, replace(EXACT, noise=1.0, snr=10.0))
    (again,) = second_truth(noisy)
    assert np.array_equal(second.values, again.values)  # of the noise-free map
