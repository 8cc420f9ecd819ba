"""Half-widths: what they are made of, how they are fitted, and when they count for a method."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sr_core
from sr_core import Metabolite
from sr_core.evaluate.quantile import LEVEL, Sample, as_table, coverage, fit, scaled
from sr_core.model import to_toml
from sr_core.uncertainty import (
    ANY,
    FACTOR,
    FILE,
    HALF_WIDTH,
    SIGNS,
    BadCalibration,
    Calibration,
    Fitted,
    Signs,
    gradient,
    read_calibration,
)
from tests.unit.sr_core.heads import head
from tests.unit.sr_core.phantoms import scaled as in_other_units

WEIGHTS = Path(sr_core.__file__).parent / "weights"
METHOD = "bicubic+fnlm+dc"


class Recorder:
    """A family that keeps the signs it is given."""

    def __init__(self):
        self.kept = {}

    def half_width(self, signs):
        self.kept[signs.metabolite] = signs
        return np.zeros(signs.values.shape[1], np.float32)


def signs_of(acquisition, method=METHOD):
    recorder = Recorder()
    calibration = Calibration({method: recorder, ANY: recorder}, {})
    result = sr_core.load(None, method, calibration=calibration)(acquisition)
    return result, recorder.kept


@pytest.fixture(scope="module")
def study():
    return head()


@pytest.fixture(scope="module")
def resolved(study):
    return signs_of(study)


def of(result):
    return {u.of: u.values for u in result.uncertainty if u.method == HALF_WIDTH}


def test_every_map_has_a_half_width_in_the_brain_and_none_outside(study):
    result = sr_core.load(None, "bicubic+dc")(study)
    widths = of(result)
    assert list(widths) == [str(m.metabolite) for m in result.maps]
    for values in widths.values():
        assert (values[result.brain] > 0).all()
        assert not values[~result.brain].any()


def test_half_widths_go_with_the_unit_of_the_map(study):
    resolve = sr_core.load(None, "bicubic+dc")
    plain, other = resolve(study), resolve(in_other_units(study, 1024.0))
    for a, b in zip(of(plain).values(), of(other).values(), strict=True):
        assert np.abs(b / 1024 - a).max() < 1e-3 * a.max()


def test_signs_are_those_of_each_voxel_in_order(resolved):
    result, kept = resolved
    m = result.maps[0]
    signs = kept[str(m.metabolite)]
    assert signs.values.shape == (len(SIGNS), result.brain.sum())
    level = np.exp(signs.values[SIGNS.index("level")]) * signs.scale
    assert np.allclose(level, m.values[result.brain] + 1e-3 * signs.scale, rtol=1e-4)


def test_leaning_is_the_disagreement_with_the_unguided_map(resolved, study):
    _, kept = resolved
    _, plain = signs_of(study, "bicubic+dc")
    at = SIGNS.index("leaning")
    assert np.ptp(kept["tNAA"].values[at]) > 1
    assert np.ptp(plain["tNAA"].values[at]) == 0


def test_repaired_voxels_are_told(study):
    values = study.maps[0].values.copy()
    values[8, 10, 9] = np.nan
    holed = replace(study, maps=(replace(study.maps[0], values=values), study.maps[1]))
    result, kept = signs_of(holed, "bicubic")
    repaired = np.zeros(result.brain.shape)
    repaired[result.brain] = np.exp(kept["tNAA"].values[SIGNS.index("repaired")])
    assert repaired[32, 40, 36] == pytest.approx(1, abs=0.01)
    intact = np.exp(kept["tCr"].values[SIGNS.index("repaired")])
    assert intact.max() < repaired[32, 40, 36]


def test_the_brain_s_surface_is_no_edge_of_the_map():
    inside = np.zeros((6, 7, 8), bool)
    inside[:, :, 2:6] = True
    columns = np.indices(inside.shape)[2]
    assert not gradient(np.where(inside, np.float32(5), 0).astype(np.float32), inside).any()
    ramp = gradient((3 * columns * inside).astype(np.float32), inside)
    assert (ramp[..., 3:5] == 3).all()
    assert not ramp[..., [2, 5]].any()


def hand_made(**slopes):
    knots = {name: np.array([-7.0, 0.0]) for name in slopes}
    heights = {name: np.array([0.0, slope]) for name, slope in slopes.items()}
    return Fitted(np.log(0.1), knots, heights)


def test_a_broken_line_says_the_half_width():
    values = np.full((len(SIGNS), 2), -7.0, np.float32)
    values[SIGNS.index("noise"), 1] = 0.0
    found = hand_made(noise=2.0).half_width(Signs("NAA", values, 10.0, np.ones(2, np.float32)))
    assert found == pytest.approx([1.0, np.exp(2.0)], rel=1e-5)


def test_a_map_of_nothing_is_as_sure_as_its_noise():
    signs = Signs("2HG", np.zeros((len(SIGNS), 3), np.float32), 0.0, np.array([1, 2, 3], np.float32))
    assert hand_made(noise=2.0).half_width(signs) == pytest.approx([1.645, 3.29, 4.935])


def test_only_what_was_calibrated_has_its_own_half_width():
    own, anyone = replace(hand_made(), weights="abc"), hand_made()
    calibration = Calibration({"unet+dc": own, ANY: anyone}, {})
    assert calibration.family("unet+dc", "abc", FACTOR) == (own, None)
    for method, weights, factor, words in (
        ("tv", "", FACTOR, "tv was not calibrated"),
        ("unet+dc", "def", FACTOR, "other weights"),
        ("unet+dc", "abc", (1, 4, 4), "factors"),
    ):
        family, note = calibration.family(method, weights, factor)
        assert family is anyone
        assert note is not None and words in note


def test_a_method_that_was_not_calibrated_says_so_in_its_result(study):
    result = sr_core.load(None, "zerofill+dc")(study)
    assert any("zerofill+dc was not calibrated" in w for w in result.provenance.warnings)


def samples(count, seed, spread=1.0):
    """Errors whose SD is ``spread`` × exp(gradient) / 10, whatever the other signs are."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        signs = rng.uniform(-6, 0, (len(SIGNS), 3000)).astype(np.float32)
        error = np.abs(rng.standard_normal(3000)) * 0.1 * spread * np.exp(signs[SIGNS.index("gradient")])
        zone = np.arange(3000) >= 2000
        yield Sample(f"s{n % 2}", str(n), str(Metabolite.NAA), signs, error.astype(np.float32), zone)


def test_a_fitted_half_width_covers_new_errors_at_every_size():
    family = fit(list(samples(8, 1)), SIGNS, seed=0)
    fresh = list(samples(4, 2))
    assert coverage(family, fresh).brain == pytest.approx(LEVEL, abs=0.015)
    for s in fresh:
        large = s.signs[SIGNS.index("gradient")] > -2
        within = s.error <= s.half_width(family)
        assert within[large].mean() == pytest.approx(LEVEL, abs=0.04)
        assert within[~large].mean() == pytest.approx(LEVEL, abs=0.04)


def test_scaling_repairs_what_was_fitted_on_smaller_errors():
    family = fit(list(samples(8, 1)), SIGNS, seed=0)
    larger = list(samples(4, 3, spread=2.0))
    assert coverage(family, larger).brain < 0.75
    repaired = coverage(scaled(family, larger), larger)
    assert repaired.brain == pytest.approx(LEVEL, abs=0.02)
    assert repaired.zone == pytest.approx(LEVEL, abs=0.02)
    assert repaired.worst_brain <= repaired.brain


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    family = fit(list(samples(2, 1)), SIGNS, seed=0, weights="abc")
    table = {"seed": 1, "family": {ANY: as_table(family)}}
    (tmp_path / FILE).write_text(to_toml(table))
    again = read_calibration(tmp_path)
    assert again.provenance == {"seed": 1}
    one = next(samples(1, 4))
    found = again.families[ANY]
    assert isinstance(found, Fitted) and found.weights == "abc"
    assert np.allclose(one.half_width(found), one.half_width(family), rtol=2e-3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("seed = 1", "family"),
        ("[family.unet]\noffset = 0\nweights = ''\nsigns = {}", "no family 'any'"),
        ("[family.any]\nweights = ''\nsigns = {}", "offset"),
        ("[family.any]\noffset = 0\nweights = ''\nsigns = {mood = {}}", "no sign 'mood'"),
        (
            "[family.any]\noffset = 0\nweights = ''\nsigns = {noise = {knots = [0, 1], heights = [0]}}",
            "each has its height",
        ),
        (
            "[family.any]\noffset = 0\nweights = ''\nsigns = {noise = {knots = [1, 0], heights = [0, 0]}}",
            "ascend",
        ),
        (
            "[family.any]\noffset = 0\nweights = ''\nsigns = {noise = {knots = [0, inf], heights = [0, 0]}}",
            "finite",
        ),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused_in_words(tmp_path, text, words):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(BadCalibration, match=words):
        read_calibration(tmp_path)


def test_the_shipped_calibration_is_that_of_the_shipped_weights():
    calibration = read_calibration(WEIGHTS)
    assert calibration.provenance["command"].startswith("python -m sr_core.evaluate.calibrate")
    for method, family in calibration.families.items():
        card = WEIGHTS / f"{method.split('+')[0]}.card.toml"
        assert isinstance(family, Fitted)
        assert family.weights == (tomllib.loads(card.read_text())["sha256"] if card.exists() else "")


def test_shipped_half_widths_cover_validation_subjects_they_were_not_scaled_on():
    """As the calibration's own record says: 90 % ± 5 points, in the brain and in the tumour zone."""
    table = tomllib.loads((WEIGHTS / FILE).read_text())
    for method, family in table["family"].items():
        if method != ANY:
            assert family["held_out"]["brain"] == pytest.approx(LEVEL, abs=0.05)
            assert family["held_out"]["zone"] == pytest.approx(LEVEL, abs=0.05)
