"""The whole way, from a study to super-resolved maps: what every method promises, and how it gives way."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import sr_core
from sr_core import (
    Acquisition,
    AnatomicalImage,
    Contrast,
    Grid,
    Metabolite,
    MetaboliteMap,
    Ratio,
    Settings,
    Unit,
    resolve,
)
from sr_core.axial import through_axial
from sr_core.settings import LEARNED, Method
from sr_core.uncertainty import DISAGREEMENT
from tests.unit.sr_core.phantoms import HR, LR, axial_grid, band_limited, brain_study, scaled, turned


@pytest.fixture(scope="module")
def study():
    return brain_study(noise=0.05)


def run(acquisition, method="bicubic+fnlm+dc", **settings):
    return sr_core.load(None, method, Settings(**settings))(acquisition)


def one(acquisition, *keep):
    return replace(acquisition, maps=tuple(m for m in acquisition.maps if m.metabolite in keep))


def test_the_methods_are_bases_with_fnlm_and_dc():
    assert len(sr_core.METHODS) == 10 * 4
    assert "unet+fnlm+dc" in sr_core.METHODS


@pytest.mark.parametrize("name", ["wgan", "tgv+dc", "bicubic+dc+fnlm", "unet3", "Bicubic", "", "bicubic+"])
def test_another_method_is_refused_by_naming_those_there_are(name):
    with pytest.raises(ValueError, match=r"base\[\+fnlm\]\[\+dc\].*bicubic, zerofill, tv.*unet\+fnlm\+dc"):
        sr_core.load(None, name)


def test_a_setting_that_changes_a_voxel_changes_the_digest():
    assert Settings().digest() == Settings(factor=(4, 4, 4)).digest()
    assert Settings().digest() != Settings(crlb_max_percent=25).digest()


@pytest.mark.parametrize("method", sr_core.METHODS)
def test_fine_sample_4i_lies_where_measured_sample_i_lies(study, method):
    """A blob's centroid in patient mm is kept by every method; a half-pixel resizer moves it 1.5 voxels."""
    grid = turned(axial_grid(LR, (6.0, 5.0, 5.0)), (10, 20, -15))
    z, y, x = np.indices(LR)
    blob = np.exp(-(((z - 5.6) / 1.6) ** 2 + ((y - 7.3) / 2.2) ** 2 + ((x - 8.2) / 2.2) ** 2) / 2)
    guide = (1 + np.indices(HR).sum(axis=0) / sum(HR)).astype(np.float32)
    acquisition = Acquisition(
        (MetaboliteMap(Metabolite.TCR, (8 * blob).astype(np.float32), Unit.MMOL_PER_L, grid),),
        (AnatomicalImage(Contrast.T1, guide, grid.refined((4, 4, 4))),),
        brain_mask=np.ones(LR, bool),
        acquired_matrix=LR,
    )
    result = run(acquisition, method, denoise=False)
    assert result.provenance.method_used == method
    assert result.grid.origin_mm == pytest.approx(grid.origin_mm)
    assert result.grid.to_patient((20, 24, 28)) == pytest.approx(grid.to_patient((5, 6, 7)))

    def centroid(values, on):
        """Of what is above half maximum: a network may add a haze to a blob that is no brain."""
        peak = np.where(values > values.max() / 2, values, 0)
        where = on.to_patient(np.moveaxis(np.indices(values.shape), 0, -1))
        return (where * peak[..., None]).sum(axis=(0, 1, 2)) / peak.sum()

    fine, expected = result.maps[0].values, sr_core.baselines.bicubic(8 * blob, (4, 4, 4))
    apart = np.linalg.norm(centroid(fine, result.grid) - centroid(expected, result.grid))
    assert apart < (0.5 if Method.parse(method).base in LEARNED else 0.3)


@pytest.mark.parametrize("method", ["bicubic", "zerofill"])
def test_interpolating_methods_keep_measured_values(study, method):
    acquisition = one(study[0], Metabolite.TNAA)
    result = run(acquisition, method, denoise=False)
    kept = acquisition.brain_mask & ~result.quality.maps[0].rejected
    measured = acquisition.maps[0].values
    assert np.abs(result.maps[0].values[::4, ::4, ::4] - measured)[kept].max() < 1e-5


def test_a_band_limited_map_comes_back_exactly_from_zerofill():
    truth = band_limited(np.random.default_rng(0), LR, HR)
    truth = 10 + truth / np.abs(truth).max()
    values = truth[::4, ::4, ::4].astype(np.float32)
    acquisition = Acquisition(
        (MetaboliteMap(Metabolite.TCR, values, Unit.ARBITRARY, axial_grid(LR)),), brain_mask=np.ones(LR, bool)
    )
    result = run(acquisition, "zerofill", denoise=False)
    assert np.abs(result.maps[0].values - truth)[result.brain].max() < 2e-5  # float32 of 10
    assert result.brain.all()


@pytest.mark.parametrize("method", ["bicubic", "zerofill+fnlm", "bicubic+fnlm+dc", "unet", "unet+fnlm+dc"])
def test_a_map_in_other_units_gives_the_same_map_in_those_units(study, method):
    acquisition = one(study[0], Metabolite.TNAA, Metabolite.TCHO)
    # A power of two, so that a network in bfloat16 sees the very same numbers after normalisation.
    plain, thousandfold = run(acquisition, method), run(scaled(acquisition, 1024.0), method)
    for a, b in zip(plain.maps, thousandfold.maps, strict=True):
        assert np.abs(b.values / 1024 - a.values).max() < 1e-4 * a.values.max()
    assert np.abs(plain.ratios[0].values - thousandfold.ratios[0].values).max() < 1e-3


@pytest.mark.parametrize("method", ["bicubic+fnlm+dc", "unet+fnlm+dc"])
def test_a_unit_that_is_no_power_of_two_costs_rounding_only(study, method):
    """A network in bfloat16 rounds a few voxels the other way: 1e-4 in the root mean square."""
    acquisition = one(study[0], Metabolite.TNAA)
    plain, other = (
        run(acquisition, method).maps[0].values,
        run(scaled(acquisition, 1000.0), method).maps[0].values,
    )
    off = other / 1000 - plain
    assert np.sqrt(np.mean(off**2)) < 1e-4 * plain.max()
    assert np.abs(off).max() < 5e-3 * plain.max()


def test_the_same_study_gives_the_same_voxels(study):
    acquisition = one(study[0], Metabolite.TCHO)
    a, b = run(acquisition), run(acquisition)
    assert np.array_equal(a.maps[0].values, b.maps[0].values)


def test_2hg_of_a_tumour_does_not_spread_into_tissue_where_none_was_detected(study):
    acquisition, truth = study
    result = run(acquisition)
    hg2 = next(m.values for m in result.maps if m.metabolite is Metabolite.HG2)
    far = truth["brain"] & ~ndimage.binary_dilation(truth["lesion"], iterations=8)  # two LR voxels
    assert hg2[truth["lesion"]].mean() > 4.0
    assert hg2[far].max() < 0.5
    assert hg2[far].mean() < 0.03
    quality = next(q for q in result.quality.maps if q.metabolite is Metabolite.HG2)
    assert not quality.inpainted.any()


def test_the_lesion_is_found_in_every_map_that_shows_it(study):
    acquisition, truth = study
    result = run(acquisition)
    volume = truth["lesion"].sum() * result.grid.voxel_volume_ml
    centre = result.grid.to_patient(np.argwhere(truth["lesion"]).mean(axis=0))
    assert [found.source for found in result.lesion] == ["HGG", "TCN", "2HG"]
    for found in result.lesion:
        assert np.linalg.norm(np.array(found.regions[0].centroid_mm) - centre) < 2.5
        assert found.mask[truth["lesion"]].mean() > 0.7
    for found in result.lesion[
        1:
    ]:  # HGG's limit is 3 SDs of almost no noise here: it includes the blurred rim
        assert found.regions[0].volume_ml == pytest.approx(volume, rel=0.4)


def test_a_healthy_study_has_no_lesion():
    result = run(brain_study(noise=0.1, lesion=False)[0])
    assert [found.regions for found in result.lesion] == [(), (), ()]


def test_without_anatomy_fnlm_is_dropped_and_said_so(study):
    result = run(replace(study[0], anatomy=()))
    assert result.provenance.method_used == "bicubic+dc"
    assert result.provenance.method_requested == "bicubic+fnlm+dc"
    assert any("+fnlm is dropped" in w for w in result.provenance.warnings)


def test_flair_and_t1_guide_together_or_one_as_wanted(study):
    acquisition = one(study[0], Metabolite.TNAA)
    t1_alone = replace(acquisition, anatomy=acquisition.anatomy[:1])

    def guides(acquisition, wanted):
        chosen = Settings(fnlm=sr_core.Fnlm(guide=wanted))
        return sr_core.load(None, "bicubic+fnlm", chosen)(acquisition).provenance.guides

    assert guides(acquisition, "both") == ("FLAIR", "T1")
    assert guides(acquisition, "flair") == ("FLAIR",)
    assert guides(acquisition, "t1") == ("T1",)
    assert guides(t1_alone, "both") == guides(t1_alone, "flair") == ("T1",)


@pytest.mark.parametrize("matrix", [None, (12, 32, 32)])
def test_with_an_unknown_or_impossible_acquired_matrix_dc_is_off_and_said_so(study, matrix):
    result = run(replace(one(study[0], Metabolite.TNAA), acquired_matrix=matrix))
    assert result.provenance.method_used == "bicubic+fnlm"
    assert any("data consistency is off" in w for w in result.provenance.warnings)


@pytest.mark.parametrize(("wanted", "used"), [("unet2", "unet"), ("gan2+dc", "gan+dc")])
def test_without_anatomy_a_network_of_two_inputs_gives_way_to_one_of_one(study, wanted, used):
    acquisition = one(replace(study[0], anatomy=()), Metabolite.TCHO)
    result = run(acquisition, wanted)
    assert result.provenance.method_used == used
    assert any(
        f"{wanted[:-3] if '+' in wanted else wanted} is replaced" in w for w in result.provenance.warnings
    )
    assert np.array_equal(result.maps[0].values, run(acquisition, used).maps[0].values)


def test_a_network_of_two_inputs_names_the_images_that_it_saw(study):
    acquisition = one(study[0], Metabolite.TCHO)
    t1 = tuple(a for a in acquisition.anatomy if a.contrast is Contrast.T1)
    assert run(acquisition, "unet2").provenance.guides == (Contrast.T1, Contrast.FLAIR)
    assert run(replace(acquisition, anatomy=t1), "unet2").provenance.guides == (Contrast.T1,)
    assert run(acquisition, "unet").provenance.guides == ()


def test_a_factor_that_no_network_knows_is_left_to_bicubic(study):
    acquisition = one(study[0], Metabolite.TCHO)
    result = run(acquisition, "unet", factor=(2, 2, 2))
    assert result.provenance.method_used == "bicubic"
    assert any("trained to enlarge by 4, not by 2 × 2 × 2" in w for w in result.provenance.warnings)


def test_a_slab_of_few_slices_keeps_its_slices():
    grid = axial_grid((1, 16, 16), (15.0, 10.0, 10.0))
    values = np.random.default_rng(0).normal(8, 0.2, grid.shape).astype(np.float32)
    acquisition = Acquisition(
        (MetaboliteMap(Metabolite.TNAA, values, Unit.ARBITRARY, grid),), acquired_matrix=grid.shape
    )
    result = run(acquisition, "bicubic+dc")
    assert result.grid.shape == (1, 64, 64)
    assert result.provenance.factor == (1, 4, 4)
    assert any("within slices" in w for w in result.provenance.warnings)


def test_glx_alone_makes_no_hgg_and_the_reason_is_given(study):
    glx = replace(study[0].maps[2], metabolite=Metabolite.GLX)
    acquisition = replace(one(study[0], Metabolite.HG2, Metabolite.TCHO, Metabolite.TNAA))
    result = run(replace(acquisition, maps=(*acquisition.maps, glx)), "bicubic")
    assert [r.ratio for r in result.ratios] == [Ratio.TCN]
    assert any("HGG is left out" in w and "Glx" in w for w in result.provenance.warnings)


def test_naa_stands_in_for_tnaa_only_where_a_site_says_so(study):
    naa = replace(study[0].maps[0], metabolite=Metabolite.NAA)
    acquisition = replace(study[0], maps=(naa, study[0].maps[1]))
    assert run(acquisition, "bicubic").ratios == ()
    allowed = run(acquisition, "bicubic", naa_as_tnaa=True)
    assert [r.ratio for r in allowed.ratios] == [Ratio.TCN]
    assert any("NAA in place of tNAA" in w for w in allowed.provenance.warnings)


@pytest.mark.parametrize("ratios", ["after", "before"])
def test_ratios_are_those_of_the_metabolites(study, ratios):
    acquisition, truth = study
    result = run(acquisition, "bicubic", ratios=ratios)
    tcn = next(r for r in result.ratios if r.ratio is Ratio.TCN)
    normal = truth["brain"] & (truth[Metabolite.TCHO] < 2)
    assert np.median(tcn.values[normal]) == pytest.approx(1.4 / 10, rel=0.15)
    assert np.median(tcn.values[truth["lesion"]]) > 0.5
    assert not tcn.values[~result.brain].any()


def test_anatomy_of_another_frame_is_registered_or_left_out_never_fused_silently(study):
    acquisition = one(study[0], Metabolite.TNAA)
    t1 = acquisition.anatomy[0]
    noise = np.random.default_rng(1).random(HR).astype(np.float32)
    stranger = AnatomicalImage(Contrast.T1, noise, Grid(t1.grid.shape, t1.grid.affine, "9.9.9"))
    result = run(replace(acquisition, anatomy=(stranger,)))
    assert result.anatomy == ()
    assert result.provenance.method_used == "bicubic+dc"
    assert "refused" in result.provenance.registration
    twin = AnatomicalImage(Contrast.T1, t1.values, Grid(t1.grid.shape, t1.grid.affine, "9.9.9"))
    result = run(replace(acquisition, anatomy=(twin,)))
    assert "rigidly registered" in result.provenance.registration
    assert result.anatomy[0].grid.frame_of_reference == acquisition.grid.frame_of_reference


def test_a_guided_map_says_where_it_leans_on_the_guide(study):
    acquisition = one(study[0], Metabolite.TNAA)
    guided, plain = run(acquisition, "bicubic+fnlm+dc"), run(acquisition, "bicubic+dc")
    (leaning,) = (u for u in guided.uncertainty if u.method == DISAGREEMENT)
    assert np.allclose(leaning.values, np.abs(guided.maps[0].values - plain.maps[0].values), atol=1e-5)
    assert leaning.values.max() > 0
    assert all(u.method != DISAGREEMENT for u in plain.uncertainty)


def test_repaired_voxels_are_marked_on_the_fine_grid(study):
    acquisition = one(study[0], Metabolite.TNAA)
    values = acquisition.maps[0].values.copy()
    values[6, 8, 8] = np.nan
    holed = replace(acquisition, maps=(replace(acquisition.maps[0], values=values),))
    result = run(holed, "bicubic")
    assert result.quality.maps[0].inpainted[6, 8, 8]
    assert result.quality.rejected_share == {Metabolite.TNAA: result.quality.rejected_fraction}
    assert result.quality.not_measured[24, 32, 32]
    assert result.maps[0].values[24, 32, 32] > 3
    assert (
        0 < result.quality.inpainted_fraction < 0.01 + run(acquisition, "bicubic").quality.inpainted_fraction
    )


def test_an_unusable_map_is_left_out_and_nothing_usable_is_refused(study):
    bad = replace(study[0].maps[0], crlb_percent=np.full(LR, 80.0, np.float32))
    result = run(replace(study[0], maps=(bad, study[0].maps[1])), "bicubic")
    assert [m.metabolite for m in result.maps] == [Metabolite.TCHO]
    assert any("tNAA is left out" in w for w in result.provenance.warnings)
    with pytest.raises(ValueError, match="nothing to super-resolve"):
        run(replace(study[0], maps=(bad,)), "bicubic")


def test_no_part_of_the_result_is_outside_the_brain_or_negative(study):
    result = run(study[0])
    for m in (*result.maps, *result.ratios):
        assert np.isfinite(m.values).all()
        assert m.values.min() >= 0
        assert not m.values[~result.brain].any()
    assert all(not u.values[~result.brain].any() for u in result.uncertainty)


def test_a_network_sees_axial_planes_whatever_the_volume_s_orientation():
    """Sagittal slices, or axial ones upside down, are turned; nothing is lost on the way back."""
    seen = []
    sagittal = np.zeros((4, 4))
    sagittal[0, 0], sagittal[2, 1], sagittal[1, 2], sagittal[3, 3] = 5, -4, -4, 1  # slices to the left
    for affine in (sagittal, axial_grid(LR).affine):
        grid = Grid((6, 7, 8), affine, "1")
        points = grid.to_patient(np.moveaxis(np.indices(grid.shape), 0, -1)).astype(np.float32)
        for axis in range(3):
            values = points[..., axis]
            back = through_axial(values, [values, None], grid, lambda v, i: seen.append((v, i)) or v)
            assert np.array_equal(back, values)
    assert all(np.array_equal(v, i[0]) and i[1] is None for v, i in seen)  # images are turned along
    seen = [v for v, _ in seen]
    for x, y, z in (seen[:3], seen[3:]):
        assert (np.diff(z, axis=0) > 0).all()
        assert (np.diff(y, axis=1) > 0).all()
        assert (np.diff(x, axis=2) > 0).all()


def test_every_step_is_told():
    assert [s.split(":")[0] for s in resolve.STEPS] == [
        "brain", "anatomy", "prepare", "novelty", "initial", "method", "ratios", "uncertainty", "lesion",
    ]  # fmt: skip
