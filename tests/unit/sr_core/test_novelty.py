"""How unlike clean studies a study is: what speaks for it, in words, and what broken studies are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sr_core
from sr_core import Contrast, Metabolite
from sr_core.evaluate.broken import BREAKAGES, broken
from sr_core.evaluate.calibrate import told_apart, usual_of
from sr_core.novelty import BETTER, FILE, TURNS, WORDS, BadReference, Reference, Usual, read_reference
from sr_core.simulate import Options, from_labels, simulate
from tests.unit.sr_core.heads import head
from tests.unit.sr_core.phantoms import brain_study

WEIGHTS = Path(sr_core.__file__).parent / "weights"


def resolved(acquisition):
    return sr_core.load(None, "bicubic")(acquisition)


def turned(acquisition, turn):
    """The maps' arrays put through ``turn``, while header and anatomy stay."""
    return replace(
        acquisition,
        maps=tuple(replace(m, values=np.ascontiguousarray(turn(m.values))) for m in acquisition.maps),
        brain_mask=np.ascontiguousarray(turn(acquisition.brain_mask)),
    )


@pytest.fixture(scope="module")
def clean():
    return resolved(head())


def test_a_clean_study_is_explained_by_its_anatomy(clean):
    assert clean.novelty is not None
    assert not clean.novelty.is_unlike
    assert set(clean.novelty.signs) <= set(WORDS)


@pytest.mark.parametrize(
    ("name", "axes"), [("left_right", (2,)), ("head_foot", (0,)), ("front_back", (1,)), ("turned", (1, 2))]
)
def test_maps_the_wrong_way_round_are_unlike_clean_ones_and_a_warning_says_which_way(name, axes):
    result = resolved(turned(head(), lambda v: np.flip(v, axes)))
    assert result.novelty.is_unlike
    signs = result.novelty.signs
    others = [n for n in ("left_right", "head_foot", "front_back", "turned") if n != name]
    assert signs[name] > max(signs[n] for n in others)
    assert any(result.novelty.reason in w for w in result.provenance.warnings)


def test_a_unit_changes_nothing(clean):
    study = head()
    other = replace(
        study, maps=tuple(replace(m, values=(1024 * m.values).astype(np.float32)) for m in study.maps)
    )
    assert resolved(other).novelty.signs == pytest.approx(clean.novelty.signs, rel=1e-3, abs=1e-3)


def test_without_anatomy_fewer_signs_are_known(clean):
    alone = resolved(replace(head(), anatomy=())).novelty
    assert alone is not None
    assert {"unexplained", "left_right", "shared"} <= set(clean.novelty.signs) - set(alone.signs)


def test_a_study_too_small_to_be_judged_is_not_judged():
    tiny, _ = brain_study(noise=0.05)
    few = np.zeros_like(tiny.brain_mask)
    few[4:8, 6:10, 6:10] = True
    assert resolved(replace(tiny, brain_mask=few)).novelty is None


def test_the_strongest_sign_decides_and_gives_its_words():
    reference = Reference({"unexplained": Usual(-2.0, 0.5), "rim": Usual(0.0, 0.1)}, 3.0, {})
    found = reference.judge({"unexplained": -1.5, "rim": 0.4, "something": 9.0})
    assert found is not None
    assert (found.score, found.reason) == (pytest.approx(4.0), WORDS["rim"])
    assert found.is_unlike
    calm = reference.judge({"unexplained": -3.0})
    assert calm is not None and calm.score == 0 and not calm.is_unlike
    assert reference.judge({}) is None


def test_what_is_usual_is_learned_from_clean_studies_alone():
    reference = usual_of([{"rim": float(v)} for v in np.linspace(-1, 1, 101)])
    assert {n: u for n, u in reference.usual.items() if n not in TURNS} == {
        "rim": Usual(pytest.approx(0.0, abs=1e-9), pytest.approx(0.9))
    }


def test_a_symmetric_head_is_not_taken_for_one_the_wrong_way_round():
    """Left and right exchanged fit as well as they lie: no reason to doubt them."""
    shipped = read_reference(WEIGHTS)
    for name in TURNS:
        assert shipped.usual[name] == Usual(0.0, BETTER)
    found = shipped.judge({"left_right": 0.02})
    assert found is not None and not found.is_unlike
    found = shipped.judge({"left_right": 0.6})
    assert found is not None and found.is_unlike


def test_studies_told_apart_have_an_auc_of_one():
    reference = Reference({"rim": Usual(0.0, 1.0)}, 3.0, {})
    every = [{"clean": {"rim": 0.1 * n}, "lipid": {"rim": 4.0 + n}} for n in range(4)]
    found = told_apart(reference, every)
    assert found["lipid"] == {"flagged": 1.0, "highest": 7.0, "auc": 1.0, "lowest": 4.0}
    assert found["clean"]["flagged"] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("threshold = 1", "sign"),
        ("[sign.rim]\nmedian = 0\nspread = 1", "threshold"),
        ("threshold = 1\n[sign.mood]\nmedian = 0\nspread = 1", "no sign mood"),
        ("threshold = 1\n[sign.rim]\nmedian = 0\nspread = 0", "positive"),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused_in_words(tmp_path, text, words):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(BadReference, match=words):
        read_reference(tmp_path)


def test_the_shipped_reference_tells_breakage_from_clean_studies():
    """As its own record says, on validation subjects."""
    record = read_reference(WEIGHTS).provenance["validation"]
    for kind in BREAKAGES:
        assert record[kind]["auc"] > 0.95
    assert record["clean"]["flagged"] == 0


# Broken studies.


@pytest.fixture(scope="module")
def study():
    """Shells of grey matter, white matter and CSF that no axis leaves as they are."""
    z, y, x = (np.moveaxis(np.indices((150, 190, 160)), 0, -1) - [70, 90, 82]).transpose(3, 0, 1, 2)
    r = np.sqrt((z / 60) ** 2 + (y / 80) ** 2 + (x / 65) ** 2) + 0.04 * np.sin(y / 9 + x / 14) * np.cos(
        z / 11
    )
    labels = np.select([r < 0.25, r < 0.75, r < 0.95, r < 1.0], [4, 2, 3, 24], 0)
    labels[(z > 20) & (x > 10) & (r < 0.5)] = 3
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    tissue = from_labels(np.transpose(labels, (2, 1, 0)), affine, "shells")
    return simulate(tissue, 5, Options(regime="match", noise=0.5))


@pytest.mark.parametrize("how", BREAKAGES)
def test_a_broken_study_is_the_same_for_the_same_seed_and_keeps_its_anatomy(study, how):
    a, b = broken(study, how, 7), broken(study, how, 7)
    assert a.anatomy == study.acquisition.anatomy
    for m, n, was in zip(a.maps, b.maps, study.acquisition.maps, strict=True):
        assert np.array_equal(m.values, n.values, equal_nan=True)
        assert not np.array_equal(m.values, was.values, equal_nan=True)


def test_motion_changes_no_sum_over_the_field_of_view_beyond_what_leaves_the_mask(study):
    """Half of k-space from another position: signal moves, it is not made."""
    before, after = (
        study.acquisition.map_of(Metabolite.TCR),
        broken(study, "moved_once", 1).map_of(Metabolite.TCR),
    )
    a, b = np.nansum(before.values), np.nansum(after.values)
    assert 0.8 * a < b < 1.1 * a
    inside = study.acquisition.brain_mask
    assert np.corrcoef(np.nan_to_num(before.values)[inside], np.nan_to_num(after.values)[inside])[0, 1] < 0.98


def test_wrong_orientation_turns_maps_and_mask_together(study):
    a = broken(study, "head_foot", 1)
    assert np.array_equal(a.brain_mask, study.acquisition.brain_mask[::-1])
    assert np.array_equal(a.maps[0].values, study.acquisition.maps[0].values[::-1], equal_nan=True)


def test_lipid_is_highest_at_the_surface_and_in_what_is_fitted_next_to_it(study):
    inside = study.acquisition.brain_mask
    share = {}
    for m, was in zip(broken(study, "lipid", 3).maps, study.acquisition.maps, strict=True):
        share[m.metabolite] = np.nanmean((m.values - was.values)[inside]) / np.nanmedian(was.values[inside])
    assert share[Metabolite.TNAA] > 0.3
    assert share[Metabolite.TNAA] > 5 * share[Metabolite.TCR]


def test_a_breakage_keeps_what_was_not_measured_and_is_refused_by_another_name(study):
    before = study.acquisition.map_of(Metabolite.GLU)
    after = broken(study, "lipid", 3).map_of(Metabolite.GLU)
    assert np.array_equal(np.isnan(before.values), np.isnan(after.values))
    assert not after.values[~study.acquisition.brain_mask].any()
    assert {i.contrast for i in study.acquisition.anatomy} == set(Contrast)
    with pytest.raises(ValueError, match="no breakage 'dropped'"):
        broken(study, "dropped", 1)
