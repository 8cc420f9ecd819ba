"""Simulated tissue, chemistry and quality maps: where things lie and how large they are."""

import numpy as np
import pytest
from scipy import ndimage

from sr_core import Metabolite, Ratio, kspace
from sr_core.simulate import LesionPlan, Options, from_icbm152, from_labels, simulate
from sr_core.simulate.chemistry import CHEMISTRY, paper_model
from sr_core.simulate.fields import smooth_field
from sr_core.simulate.lesion import draw_lesion
from sr_core.simulate.measure import Fitted, draw_artefacts, spoil
from sr_core.simulate.tissue import LR_SHAPE, VHR_SHAPE

WITH_NOISE_ONLY = Options(regime="match", artefacts=False)


def labels() -> np.ndarray:
    """RAS label map of an ellipsoid head: cortex around white matter around ventricles, all in 1 mm."""
    x, y, z = np.meshgrid(*[np.arange(n) - n / 2 for n in (150, 180, 150)], indexing="ij")
    r = np.sqrt((x / 65) ** 2 + (y / 80) ** 2 + (z / 65) ** 2)
    out = np.zeros(r.shape, dtype=np.int32)
    for radius, value in ((1.08, 516), (1.0, 24), (0.96, 3), (0.8, 2), (0.22, 4)):
        out[r < radius] = value
    return out


@pytest.fixture(scope="module")
def tissue():
    affine = np.eye(4)
    affine[:3, 3] = (-75.0, -90.0, -60.0)
    return from_labels(labels(), affine, "ellipsoid")


@pytest.fixture(scope="module")
def study(tissue):
    return simulate(tissue, 5, WITH_NOISE_ONLY)


def test_tissue_lies_where_the_label_map_says_in_patient_lps(tissue):
    """The centre, RAS (0, 0, 15), is a ventricle; 40 mm to its left is white, 72 mm behind it grey matter."""
    assert tissue.grid.shape == VHR_SHAPE
    for lps, volume in (((0, 0, 15), tissue.csf), ((40, 0, 15), tissue.wm), ((0, 72, 15), tissue.gm)):
        index = tuple(np.rint(tissue.grid.to_index(lps)).astype(int))
        assert volume[index] > 0.95
    assert tissue.brain.max() <= 1.0 + 1e-5


def test_the_side_of_a_label_is_kept():
    """With the cortex of the right half gone, what is left lies at LPS x > 0."""
    one_sided = labels()
    one_sided[75:][one_sided[75:] == 3] = (
        24  # RAS: index 75 and above is the left half… of the right-going axis
    )
    affine = np.eye(4)
    affine[:3, 3] = (-75.0, -90.0, -60.0)
    gm = from_labels(one_sided, affine, "one-sided")
    where = gm.grid.to_patient(np.argwhere(gm.gm > 0.9))
    assert where[:, 0].min() > 0


def test_a_label_map_of_other_voxels_or_without_brain_is_refused():
    with pytest.raises(ValueError, match="1 mm"):
        from_labels(labels(), np.diag([2.0, 2, 2, 1]), "coarse")
    with pytest.raises(ValueError, match="no FreeSurfer labels"):
        from_labels(np.full((40, 40, 40), 516), np.eye(4), "head")


def test_low_resolution_is_the_forward_model_of_the_truth_plus_noise_of_the_stated_size(study):
    """White noise of SD sigma × √(linewidth / typical); measured where everything is detected."""
    brain = study.acquisition.brain_mask
    broad = np.sqrt(study.acquisition.linewidth_ppm / 0.045)
    for metabolite in (Metabolite.TNAA, Metabolite.TCR, Metabolite.TCHO):
        m = study.acquisition.map_of(metabolite)
        clean = kspace.forward(study.truth_of(metabolite).values, LR_SHAPE)
        sure = brain & (m.crlb_percent < 30)
        z = (m.values - clean)[sure] / (study.noise_sigma[metabolite] * broad[sure])
        assert z.std() == pytest.approx(1.0, abs=0.05)
        assert abs(z.mean()) < 0.05


def test_crlb_is_the_noise_over_the_value_in_whole_percent(study):
    m = study.acquisition.map_of(Metabolite.GLU)
    found = m.crlb_percent[study.acquisition.brain_mask]
    assert np.array_equal(found, np.rint(found))
    detected = study.acquisition.brain_mask & (m.values > 0)
    sigma = study.noise_sigma[Metabolite.GLU] * np.sqrt(study.acquisition.linewidth_ppm / 0.045)
    expected = 100 * sigma[detected] / m.values[detected]
    assert np.abs(m.crlb_percent[detected] - np.maximum(expected, 1)).max() <= 0.5 + 1e-3
    assert (m.values[study.acquisition.brain_mask & (m.crlb_percent == 999)] == 0).all()


def test_median_crlb_is_what_good_studies_report(study):
    brain = study.acquisition.brain_mask
    for metabolite, c in CHEMISTRY.items():
        m = study.acquisition.map_of(metabolite)
        where = brain if c.wm > 0 else kspace.forward(study.lesions["metabolic"] * 1.0, LR_SHAPE) > 0.7
        assert np.median(m.crlb_percent[where]) == pytest.approx(c.crlb_percent, rel=0.35)
    assert np.median(study.acquisition.snr[brain]) == pytest.approx(19, abs=1)
    assert 0.035 < np.median(study.acquisition.linewidth_ppm[brain]) < 0.06


def test_a_tumour_has_more_choline_and_less_naa_than_healthy_tissue(study):
    tcn = next(r for r in study.truth_ratios if r.ratio is Ratio.TCN).values
    hgg = next(r for r in study.truth_ratios if r.ratio is Ratio.HGG).values
    viable = study.lesions["metabolic"] & ~study.lesions["necrosis"]
    healthy = study.brain & ~study.lesions["metabolic"] & (tcn > 0)
    assert np.median(tcn[viable]) > 2 * np.median(tcn[healthy])
    assert np.median(hgg[viable]) > 2 * np.median(hgg[healthy])


def test_outside_the_brain_maps_are_zero(study):
    outside = ~study.acquisition.brain_mask
    for m in study.acquisition.maps:
        assert (m.values[outside] == 0).all()
        assert (m.crlb_percent[outside] == 0).all()


def test_artefacts_are_few_and_missing_voxels_are_nan(study):
    """Missing clumps are shared by all maps; lipid stays at the rim; spikes are rare and high."""
    brain, rng = study.acquisition.brain_mask, np.random.default_rng(0)
    m = study.acquisition.map_of(Metabolite.TCR)
    artefacts = draw_artefacts(rng, brain)
    found = spoil(Fitted(m.values, m.crlb_percent, 0.2), artefacts, 1.0, brain, rng)
    missing = np.isnan(found.values)
    assert np.array_equal(missing, artefacts.missing)
    assert 0.002 < missing[brain].mean() < 0.03
    assert (found.crlb_percent[missing] == 999).all()
    assert (found.values[~brain] == 0).all()
    inner = ndimage.binary_erosion(brain) & ~missing
    changed = found.values[inner] != m.values[inner]
    assert 0.0005 < changed.mean() < 0.005
    assert (found.values[inner][changed] >= 3 * m.values[inner][changed]).all()
    rim = (artefacts.rim > 0.3) & ~missing
    assert rim.any() and (found.values[rim] > m.values[rim]).all()


def test_a_lesion_lies_where_it_is_asked_for(tissue):
    plan = LesionPlan(radius_mm=15, centre_mm=(30.0, 0.0, 30.0))
    lesion = draw_lesion(tissue, plan, "match", np.random.default_rng(0))
    centroid = tissue.grid.to_patient(np.argwhere(lesion.tumour > 0.5)).mean(axis=0)
    assert np.linalg.norm(centroid - plan.centre_mm) < 8
    assert 0.4 < (lesion.tumour > 0.5).sum() / (4 / 3 * np.pi * 15**3) < 2.0
    assert (lesion.necrosis <= lesion.tumour + 1e-6).all()


def test_the_papers_model_weighs_tissue_and_has_range_one(tissue):
    """0.1 GM + 0.12 WM + τ TM over its maximum (Li et al. 2022, Methods)."""
    values = paper_model(tissue, None, 0.4)
    assert values.max() == pytest.approx(1.0)
    ratio = np.median(values[tissue.gm > 0.999]) / np.median(values[tissue.wm > 0.999])
    assert ratio == pytest.approx(0.1 / 0.12, rel=1e-3)
    lesion = draw_lesion(tissue, LesionPlan(radius_mm=15), "match", np.random.default_rng(0))
    ill = paper_model(tissue, lesion, 0.4)
    core = (lesion.tumour > 0.99) & (tissue.wm > 0.999)
    wm = (lesion.tumour < 1e-3) & (tissue.wm > 0.999)
    assert np.median(ill[core]) / np.median(ill[wm]) == pytest.approx(0.4 / 0.12, rel=0.03)


def test_smooth_fields_have_unit_spread_and_the_asked_for_scale():
    rng = np.random.default_rng(0)
    field = smooth_field(rng, (60, 60, 60), 6.0)
    assert field.std() == pytest.approx(1.0, abs=1e-3)
    assert abs(field.mean()) < 1e-5
    near = np.corrcoef(field[:-2].ravel(), field[2:].ravel())[0, 1]
    far = np.corrcoef(field[:-30].ravel(), field[30:].ravel())[0, 1]
    assert near > 0.8 > 0.3 > abs(far)


def test_the_icbm152_template_is_a_brain_of_adult_size_the_right_way_up():
    brain = from_icbm152()
    assert 1.4e6 < (brain.brain > 0.5).sum() < 2.2e6  # 1 mm³ voxels
    assert brain.t1 is not None
    assert np.median(brain.t1[brain.wm > 0.9]) > np.median(brain.t1[brain.gm > 0.9])
    lower, upper = brain.parenchyma[40:50].sum(), brain.parenchyma[95:105].sum()
    assert upper > 1.3 * lower  # cerebrum above the cerebellum
    wm = brain.grid.to_patient(np.argwhere(brain.wm > 0.9))
    assert abs(wm[:, 0].mean()) < 3  # the midline at x = 0


def test_a_seed_gives_the_matched_study_it_gave_when_the_shipped_weights_were_trained(study):
    """Figures of commit a32d914: sums over maps and CRLB, T1 and FLAIR, and lesion sizes."""
    a = study.acquisition
    assert [float(m.values.sum(dtype=float)) for m in a.maps] == pytest.approx(
        [73177.57809, 11172.02915, 53485.33299, 37884.94971, 59142.37641, 18345.39208, 1447.60037], rel=1e-5
    )
    assert [int(m.crlb_percent.sum(dtype=float)) for m in a.maps] == pytest.approx(
        [190555, 237150, 183563, 276467, 298395, 586659, 6933794], rel=1e-3
    )
    assert [float(v.values.sum(dtype=float)) for v in a.anatomy] == pytest.approx(
        [701295846, 852905468], rel=1e-6
    )
    sizes = {name: int(mask.sum()) for name, mask in study.lesions.items()}
    assert sizes == pytest.approx({"metabolic": 7334, "necrosis": 755, "flair": 9673}, abs=3)
