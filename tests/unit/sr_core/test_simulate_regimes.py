"""How the lesion that anatomy shows relates to the metabolic one, and how noise is set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sr_core import Contrast, Grid, Metabolite, kspace
from sr_core.simulate import REGIMES, LesionPlan, Options, from_icbm152, simulate
from sr_core.simulate.anatomy import anatomical_image, misregistered, small_motion
from sr_core.simulate.lesion import draw_lesion
from sr_core.simulate.measure import kspace_noise
from sr_core.simulate.tissue import LR_SHAPE, TissueModel


@pytest.fixture(scope="module")
def white() -> TissueModel:
    """A cube of white matter: borders of lesions are seen as drawn."""
    shape = (96, 96, 96)
    nothing = np.zeros(shape, np.float32)
    grid = Grid(shape, np.eye(4)[[2, 1, 0, 3]], "cube")
    return TissueModel(nothing, np.ones(shape, np.float32), nothing, grid, "cube")


def drawn(white: TissueModel, regime, seed: int = 1):
    plan = LesionPlan(radius_mm=15.0, centre_mm=(48.0, 48.0, 48.0))
    return draw_lesion(white, plan, regime, np.random.default_rng(seed))


def test_match_and_misregistered_draw_one_lesion_and_anatomy_shows_it_two_millimetres_wider(white):
    match, moved = drawn(white, "match"), drawn(white, "misregistered")
    assert np.array_equal(match.tumour, moved.tumour) and np.array_equal(match.flair, moved.flair)
    inner, outer = match.tumour > 0.5, match.flair > 0.5
    assert (outer | ~inner).all() and outer.sum() > 1.2 * inner.sum()


@pytest.mark.parametrize("seed", range(4))
def test_larger_puts_the_metabolic_border_3_to_8_mm_beyond_that_of_flair(white, seed):
    lesion = drawn(white, "larger", seed)
    inner, outer = lesion.flair > 0.5, lesion.tumour > 0.5
    assert (outer | ~inner).all()
    rim = outer & ~ndimage.binary_erosion(outer)
    beyond = ndimage.distance_transform_edt(~inner)[rim]
    assert np.percentile(beyond, 1) > 2.0 and np.percentile(beyond, 99) < 9.0
    assert np.ptp(np.percentile(beyond, [5, 95])) < 1.5  # the same distance all around: the same shape


@pytest.mark.parametrize("seed", range(4))
def test_shifted_shows_the_same_shape_3_to_8_mm_aside_on_anatomy(white, seed):
    lesion = drawn(white, "shifted", seed)
    a, b = lesion.tumour > 0.5, lesion.flair > 0.5
    apart = np.subtract(ndimage.center_of_mass(a), ndimage.center_of_mass(b))
    assert 2.9 < np.linalg.norm(apart) < 8.1
    assert a.sum() == pytest.approx(b.sum(), rel=0.03)
    back = ndimage.shift(b.astype(np.float32), apart, order=1) > 0.5
    assert 2 * (a & back).sum() / (a.sum() + back.sum()) > 0.97
    assert np.allclose(
        np.subtract(ndimage.center_of_mass(lesion.necrosis), ndimage.center_of_mass(lesion.core)),
        apart,
        atol=1,
    )


def test_a_lesion_only_in_mrsi_leaves_no_trace_on_t1_or_flair(white):
    lesion = drawn(white, "mrsi_only")
    assert lesion.tumour.max() > 0.99 and not lesion.flair.any() and not lesion.core.any()
    for contrast in Contrast:
        ill = anatomical_image(white, lesion, contrast, np.random.default_rng(0))
        healthy = anatomical_image(white, None, contrast, np.random.default_rng(0))
        assert np.allclose(ill.values, healthy.values)


def test_a_lesion_only_in_mri_leaves_the_chemistry_healthy(white):
    lesion = drawn(white, "mri_only")
    assert not lesion.tumour.any() and not lesion.necrosis.any()
    assert np.array_equal(lesion.flair, drawn(white, "match").flair)
    assert np.array_equal(lesion.core, drawn(white, "match").core)


def test_misregistration_moves_pixels_by_2_mm_and_2_degrees_and_keeps_the_frame(white):
    image = anatomical_image(white, None, Contrast.T1, np.random.default_rng(0))
    motion = small_motion(white, np.random.default_rng(5))
    wrong = misregistered(image, motion)
    assert wrong.grid.frame_of_reference == image.grid.frame_of_reference
    assert np.array_equal(wrong.values, image.values)
    assert np.allclose(wrong.grid.to_patient([3, 4, 5]), motion[:3] @ [*image.grid.to_patient([3, 4, 5]), 1])
    angle = np.degrees(np.arccos((np.trace(motion[:3, :3]) - 1) / 2))
    centre = white.grid.to_patient([46.0, 46.0, 46.0])
    assert angle == pytest.approx(2.0, abs=1e-6)
    assert np.linalg.norm(motion[:3, :3] @ centre + motion[:3, 3] - centre) == pytest.approx(2.0, abs=0.1)
    other = small_motion(white, np.random.default_rng(6))
    assert not np.allclose(motion, other)


def test_unknown_regimes_and_impossible_options_are_refused():
    assert len(REGIMES) == 7
    with pytest.raises(ValueError, match=r"no regime 'bigger'.*larger"):
        Options(regime="bigger")
    with pytest.raises(ValueError, match="SNR"):
        Options(snr=0.0)
    with pytest.raises(ValueError, match="'hamming'"):
        Options(psf="hann")
    with pytest.raises(ValueError, match="masked exports"):
        Options(masked=False)


@pytest.fixture(scope="module")
def tissue():
    return from_icbm152()


def test_without_noise_and_mask_the_measured_map_is_the_forward_model_of_the_truth_everywhere(tissue):
    """No value is lost to detection limits, Gibbs' negatives included; only the flair mask is scored."""
    options = Options(regime="mri_only", noise=0.0, artefacts=False, masked=False, psf="hamming")
    study = simulate(tissue, 3, options)
    assert study.acquisition.psf == "hamming"
    assert study.acquisition.snr is None and study.acquisition.linewidth_ppm is None
    for m in study.acquisition.maps:
        expected = kspace.forward(study.truth_of(m.metabolite).values, LR_SHAPE, kspace.hamming_psf(LR_SHAPE))
        assert np.abs(m.values - expected).max() <= 1e-6 * np.abs(expected).max()
        assert (m.crlb_percent == 1).all()
    assert set(study.lesions) == {"flair"} and study.lesions["flair"].any()
    assert np.abs(study.truth_of(Metabolite.HG2).values).max() == 0


def test_an_snr_is_white_matters_median_over_the_noise_of_every_map(tissue):
    """Of 2HG, which white matter does not have, it is the tumour's. CRLB says the same."""
    study = simulate(tissue, 3, Options(regime="mrsi_only", snr=15.0, artefacts=False))
    wm = kspace.forward(tissue.wm, LR_SHAPE) > 0.8
    tumour = kspace.forward(study.lesions["metabolic"].astype(np.float32), LR_SHAPE)
    assert "flair" not in study.lesions
    for m in study.acquisition.maps:
        clean = kspace.forward(study.truth_of(m.metabolite).values, LR_SHAPE)
        sure = study.acquisition.brain_mask & (m.crlb_percent < 30)
        sigma = (m.values - clean)[sure].std()
        where = tumour > 0.6 if m.metabolite is Metabolite.HG2 else wm & (tumour < 0.4)
        expected = 0.15 if m.metabolite is Metabolite.HG2 else 0.05  # few voxels; noise cut at low values
        assert np.median(clean[where]) / sigma == pytest.approx(15.0, rel=expected)
        detected = study.acquisition.brain_mask & (m.crlb_percent < 100)
        stated = m.crlb_percent[detected] * m.values[detected] / 100
        assert np.median(stated) == pytest.approx(study.noise_sigma[m.metabolite], rel=0.05)
    assert np.median(study.acquisition.snr[study.acquisition.brain_mask]) == pytest.approx(15, abs=1)


def test_filtered_noise_keeps_its_size_and_loses_its_high_frequencies():
    rng = np.random.default_rng(0)
    plain, filtered = kspace_noise(rng, LR_SHAPE), kspace_noise(rng, LR_SHAPE, kspace.hamming_psf(LR_SHAPE))
    assert plain.std() == pytest.approx(1, abs=0.02) and filtered.std() == pytest.approx(1, abs=1e-5)

    def neighbours(v):
        return np.corrcoef(v[:, :, :-1].ravel(), v[:, :, 1:].ravel())[0, 1]

    assert abs(neighbours(plain)) < 0.02 and neighbours(filtered) > 0.2
