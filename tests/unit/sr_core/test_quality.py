"""Which voxels are believed: limits, words, and the rule for metabolites that are absent in health."""

import numpy as np
import pytest
from scipy import ndimage

from sr_core import Acquisition, Metabolite, MetaboliteMap, Settings, Unit
from sr_core.brain import brain_lr, brain_sr
from sr_core.prepare import prepare
from sr_core.quality import screen
from tests.unit.sr_core.phantoms import axial_grid, brain_study, ellipsoid

SHAPE = (8, 10, 10)
BRAIN = np.ones(SHAPE, bool)


def study(metabolite, values, crlb=None, snr=None, linewidth=None):
    m = MetaboliteMap(metabolite, values.astype(np.float32), Unit.MMOL_PER_L, axial_grid(SHAPE), crlb)
    return m, Acquisition((m,), snr=snr, linewidth_ppm=linewidth, brain_mask=BRAIN.copy())


@pytest.fixture
def plain():
    return np.random.default_rng(0).normal(10, 0.5, SHAPE)


def test_each_limit_rejects_what_is_beyond_it_and_says_so(plain):
    crlb, snr, width = (np.full(SHAPE, v, np.float32) for v in (5.0, 20.0, 0.04))
    plain[0, 0, 0] = np.nan
    crlb[1, 0, :2], snr[2, 0, :3], width[3, 0, :4] = 21.0, 3.9, 0.11
    crlb[4, 0, :5] = 999.0
    seen = screen(*study(Metabolite.TNAA, plain, crlb, snr, width), BRAIN, Settings())
    assert seen.reasons == {
        "no value": 1,
        "CRLB > 20 %": 2,
        "SNR < 4": 3,
        "linewidth > 0.1 ppm": 4,
        "not detected": 5,
    }
    assert seen.rejected.sum() == 15
    words = list(seen.reasons)
    assert words[seen.reason[0, 0, 0] - 1] == "no value"
    assert words[seen.reason[1, 0, 1] - 1] == "CRLB > 20 %"
    assert words[seen.reason[3, 0, 3] - 1] == "linewidth > 0.1 ppm"
    assert ((seen.reason > 0) == seen.rejected).all()
    assert (seen.repair == seen.rejected).all()


def test_limits_are_settings(plain):
    crlb = np.full(SHAPE, 30.0, np.float32)
    assert not screen(
        *study(Metabolite.TCR, plain, crlb), BRAIN, Settings(crlb_max_percent=40)
    ).rejected.any()


def test_single_metabolites_may_have_limits_of_their_own(plain):
    crlb = np.full(SHAPE, 30.0, np.float32)
    own = Settings(crlb_max_percent_of={"GABA": 35.0, "Glu": 10.0})
    assert not screen(*study(Metabolite.GABA, plain, crlb), BRAIN, own).rejected.any()
    assert screen(*study(Metabolite.TCR, plain, crlb), BRAIN, own).rejected.all()
    at_ten = screen(*study(Metabolite.GLU, plain, np.full(SHAPE, 15.0, np.float32)), BRAIN, own)
    assert at_ten.reasons == {"CRLB > 10 %": BRAIN.sum()}
    with pytest.raises(ValueError, match="GAMMA"):
        Settings(crlb_max_percent_of={"GAMMA": 35.0})


def head(metabolite, values):
    """A brain in air, with a rim a little lower than what lies beneath, as partial volume makes it."""
    inside = ellipsoid((12, 20, 20), 0.4)
    rim = inside & ~ndimage.binary_erosion(inside)
    values = np.where(rim, 0.8 * values, values) * inside
    grid = axial_grid(inside.shape)
    m = MetaboliteMap(metabolite, values.astype(np.float32), Unit.MMOL_PER_L, grid)
    return m, Acquisition((m,), brain_mask=inside), inside, np.argwhere(rim)


def test_lipid_at_the_rim_is_rejected_in_metabolites_fitted_next_to_it():
    rng = np.random.default_rng(2)
    clean = rng.normal(10, 0.3, (12, 20, 20))
    m, acquisition, inside, rim = head(Metabolite.TNAA, clean)
    assert "lipid rim" not in screen(m, acquisition, inside, Settings()).reasons
    lipid = [tuple(v) for v in rim[np.argsort(rim @ [1, 7, 3])][:12]]
    high = m.values.copy()
    high[tuple(np.transpose(lipid))] += 12.0
    for metabolite, expected in ((Metabolite.TNAA, True), (Metabolite.TCHO, False)):
        spoiled = MetaboliteMap(metabolite, high, m.unit, m.grid)
        seen = screen(spoiled, Acquisition((spoiled,), brain_mask=inside.copy()), inside, Settings())
        assert all(seen.rejected[v] for v in lipid) is expected
        assert seen.rejected.sum() <= len(lipid)


def test_the_end_of_a_slab_is_no_rim():
    values = np.random.default_rng(3).normal(10, 0.3, SHAPE)
    values[0] *= 1.7
    assert "lipid rim" not in screen(*study(Metabolite.TNAA, values), BRAIN, Settings()).reasons


def test_a_spike_is_rejected_and_a_small_lesion_is_not(plain):
    plain[4, 5, 5] = 90.0
    plain[2, 2:4, 2:4] = 40.0
    seen = screen(*study(Metabolite.TCHO, plain), BRAIN, Settings())
    assert seen.reasons == {"spike": 1}
    assert seen.rejected[4, 5, 5]


@pytest.mark.parametrize("metabolite", [Metabolite.HG2, Metabolite.GLN])
def test_not_detected_is_a_measured_low_that_is_kept(metabolite):
    """Healthy tissue has no 2HG: an undetected peak is the right answer, and no hole to fill."""
    values, crlb = np.zeros(SHAPE), np.full(SHAPE, 999.0, np.float32)
    values[3:5, 3:6, 3:6], crlb[3:5, 3:6, 3:6] = 5.0, 10.0
    values[0], crlb[0] = 1.3, 0.0  # exported with a value, yet "no such peak"
    m, a = study(metabolite, values, crlb)
    seen = screen(m, a, BRAIN, Settings())
    assert not seen.rejected.any()
    assert (seen.values[0] == 0).all()
    assert (seen.sigma > 0).all()
    prepared = prepare(m, a, BRAIN, Settings(denoise=False), SHAPE)
    assert (prepared.values[values != 5] == 0).all()
    assert not prepared.quality.inpainted.any()


def test_a_high_and_surely_fitted_2hg_is_never_rejected():
    """Its absolute CRLB is the largest of the map because its value is."""
    values, crlb = np.full(SHAPE, 0.2), np.full(SHAPE, 20.0, np.float32)
    values[4, 4:7, 4:7], crlb[4, 4:7, 4:7] = 8.0, 4.0
    assert not screen(*study(Metabolite.HG2, values, crlb), BRAIN, Settings()).rejected.any()


def test_a_poor_spectrum_is_rejected_even_where_2hg_was_not_detected_but_stays_zero():
    values, crlb, snr = np.zeros(SHAPE), np.full(SHAPE, 999.0, np.float32), np.full(SHAPE, 20.0, np.float32)
    values[4, 4:7, 4:7], crlb[4, 4:7, 4:7] = 8.0, 4.0
    snr[4, 4, 3], snr[4, 5, 5] = 1.0, 1.0  # beside the lesion, and inside it
    m, a = study(Metabolite.HG2, values, crlb, snr)
    seen = prepare(m, a, BRAIN, Settings(denoise=False), None)
    assert seen.quality.rejected[4, 4, 3]
    assert seen.filled[4, 4, 3] == 0
    assert 0 < seen.filled[4, 5, 5] < 8
    assert seen.quality.inpainted.sum() == 1


def test_the_support_of_the_maps_is_the_brain_when_none_is_given():
    acquisition, truth = brain_study()
    given = acquisition.brain_mask
    bare = Acquisition(acquisition.maps)
    found = brain_lr(bare)
    assert 2 * (found & given).sum() / (found.sum() + given.sum()) > 0.97
    fine = brain_sr(found, (4, 4, 4))
    assert 2 * (fine & truth["brain"]).sum() / (fine.sum() + truth["brain"].sum()) > 0.93
    assert (fine[::4, ::4, ::4] == found).all()


def test_a_skull_stripped_t1_gives_the_finer_outline():
    acquisition, truth = brain_study()
    t1 = acquisition.anatomy[0]
    fine = brain_sr(brain_lr(acquisition), (4, 4, 4), t1, t1.grid)
    assert 2 * (fine & truth["brain"]).sum() / (fine.sum() + truth["brain"].sum()) > 0.99


def test_background_noise_is_not_brain():
    """Exports without a mask have values everywhere."""
    acquisition, _ = brain_study()
    noise = np.abs(np.random.default_rng(1).normal(0, 0.3, acquisition.grid.shape)).astype(np.float32)
    maps = tuple(
        MetaboliteMap(m.metabolite, m.values + noise * np.float32(m.values.max() / 10), m.unit, m.grid)
        for m in acquisition.maps
    )
    found, given = brain_lr(Acquisition(maps)), acquisition.brain_mask
    assert 2 * (found & given).sum() / (found.sum() + given.sum()) > 0.85


def test_a_study_without_any_value_is_refused():
    values = np.full(SHAPE, np.nan, np.float32)
    with pytest.raises(ValueError, match="no voxel of any map has a value"):
        brain_lr(Acquisition((MetaboliteMap(Metabolite.TNAA, values, Unit.ARBITRARY, axial_grid(SHAPE)),)))
