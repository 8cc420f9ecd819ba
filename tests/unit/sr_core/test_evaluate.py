"""The protocol of an evaluation, what is scored, and what is said of the scores."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sr_core import Metabolite, MetaboliteMap, Settings, SuperResolved
from sr_core.evaluate import statistics
from sr_core.evaluate.protocol import Condition, Protocol, Variant, overridden, read, subjects
from sr_core.evaluate.report import by_draw, card_figures, gain, markdown, write_csv
from sr_core.evaluate.score import Score, compare, study_seed, tumour_zone
from sr_core.resolve import load
from sr_core.simulate import Options, SimulatedStudy, from_icbm152, simulate

CONFIGS = Path("config/evaluate")
ROOT = Path(__file__).parents[3]

MINIMAL = """
data = "labels"
split = "split.toml"
part = "validation"
seed = 7
methods = ["bicubic"]
"""


def protocol(tmp_path: Path, more: str = "") -> Protocol:
    path = tmp_path / "protocol.toml"
    path.write_text(MINIMAL + more)
    return read(path)


# The protocol.


@pytest.mark.parametrize("name", ["default", "guided", "noise"])
def test_shipped_protocols_can_be_read_and_look_at_validation_subjects(name):
    found = read(ROOT / CONFIGS / f"{name}.toml")
    assert found.part == "validation"
    assert found.methods[0].name == "bicubic"
    assert subjects(replace(found, split=str(ROOT / found.split)))


def test_every_regime_is_seen_at_every_level_in_every_draw(tmp_path):
    found = protocol(tmp_path, 'regimes = ["healthy", "larger"]\nsnr = [8.0, 30.0]\ndraws = 3\n')
    assert len(found.conditions()) == 2 * 2 * 3
    assert Condition("larger", 0.0, 30.0, 2) in found.conditions()
    assert found.options(Condition("healthy", 0.0, 8.0, 0)).lesion is None
    options = found.options(Condition("larger", 0.0, 8.0, 0))
    assert (options.regime, options.snr) == ("larger", 8.0) and options.lesion is not None


def test_without_snr_the_usual_noise_is_multiplied(tmp_path):
    found = protocol(tmp_path, "noise = [0.0, 2.0]\nartefacts = false\nmasked = false\n")
    assert [c.noise for c in found.conditions()] == [0.0, 2.0]
    assert found.options(found.conditions()[1]) == Options(
        noise=2.0, artefacts=False, masked=False, regime="mismatch"
    )


def test_a_variant_is_a_method_with_settings_of_its_own_over_the_common_ones(tmp_path):
    found = protocol(
        tmp_path,
        """
        [settings]
        denoise = false
        [[variant]]
        name = "guide only"
        method = "bicubic+fnlm+dc"
        settings = { consistency = "hard", fnlm = { mode = "dc", h = 0.06 } }
        """,
    )
    plain, variant = found.methods
    assert plain == Variant("bicubic", "bicubic", Settings(denoise=False))
    assert (variant.name, variant.method) == ("guide only", "bicubic+fnlm+dc")
    assert not variant.settings.denoise and variant.settings.consistency == "hard"
    assert (variant.settings.fnlm.mode, variant.settings.fnlm.h) == ("dc", 0.06)
    assert variant.settings.fnlm.passes == Settings().fnlm.passes


def test_lists_become_the_tuples_that_settings_are_made_of():
    assert overridden(Settings(), {"factor": [1, 4, 4]}).factor == (1, 4, 4)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("sead = 1", "sead"),
        ('regimes = ["bigger"]', "no regime 'bigger'; there is healthy, match"),
        ("draws = 0", "at least one draw"),
        ('figures = ["lpips"]', "no figure lpips; there is ssim"),
        ('metabolites = ["naa"]', "'naa'"),
        ("[settings]\ndenoize = false", "no setting denoize; there is"),
        ('[[variant]]\nmethod = "bicubic"', "'name' is missing"),
        ('[[variant]]\nname = "bicubic"\nmethod = "zerofill"', "two methods of one name: bicubic"),
        ('[[variant]]\nname = "x"\nmethod = "bilinear"', "no method 'bilinear'"),
        ('[[variant]]\nname = "x"\nmethod = "bicubic"\nsettings = { fnlm = { hh = 1 } }', "no setting hh"),
    ],
)
def test_a_mistake_in_a_protocol_is_named_with_the_file(tmp_path, more, words):
    with pytest.raises(ValueError, match=words) as caught:
        protocol(tmp_path, more)
    assert "protocol.toml" in str(caught.value)


def test_an_unknown_part_names_those_there_are(tmp_path):
    (tmp_path / "split.toml").write_text('train = ["a"]\ntest = ["b", "c"]\n')
    found = replace(protocol(tmp_path), split=str(tmp_path / "split.toml"))
    assert subjects(replace(found, part="test")) == ["b", "c"]
    with pytest.raises(ValueError, match="no part 'validation'; it has train, test"):
        subjects(found)


def test_draws_have_seeds_of_their_own_and_the_first_that_of_the_recorded_figures():
    assert study_seed(20261201, "seg_11_noface") == study_seed(20261201, "seg_11_noface", 0) == 0xF984758E
    assert len({study_seed(1, name, draw) for name in "ab" for draw in range(3)}) == 6


# Scoring.


@pytest.fixture(scope="module")
def study() -> SimulatedStudy:
    whole = simulate(from_icbm152(), 3, Options(regime="mri_only", noise=0.0, artefacts=False, masked=False))
    kept = tuple(m for m in whole.acquisition.maps if m.metabolite in (Metabolite.TCHO, Metabolite.HG2))
    return replace(whole, acquisition=replace(whole.acquisition, maps=kept))


@pytest.fixture(scope="module")
def result(study) -> SuperResolved:
    return load(None, "bicubic", Settings(denoise=False))(study.acquisition)


def test_the_zone_of_a_lesion_only_in_mri_is_that_which_anatomy_shows(study):
    zone = tumour_zone(study)
    assert (zone | ~study.lesions["flair"]).all()
    assert 1.3 < zone.sum() / study.lesions["flair"].sum() < 6
    assert not tumour_zone(replace(study, lesions={})).any()


def test_a_perfect_result_scores_infinitely_and_an_error_inside_the_zone_counts_there(study, result):
    """2HG is not scored where the chemistry is healthy."""
    truth = study.truth_of(Metabolite.TCHO)
    zone = tumour_zone(study) & study.brain & result.brain

    def scored(values: np.ndarray) -> Score:
        maps = (
            MetaboliteMap(Metabolite.TCHO, values, truth.unit, study.grid),
            *(m for m in result.maps if m.metabolite is Metabolite.HG2),
        )
        solved = replace(result, maps=maps)
        condition = Condition("mri_only", 0.0, None, 1)
        (score,) = compare(study, "icbm", condition, {"perfect": lambda _: solved}, ("ssim", "gmsd"))
        return score

    perfect = scored(truth.values.copy())
    assert (perfect.psnr, perfect.psnr_zone, perfect.nrmse) == (np.inf, np.inf, 0.0)
    assert perfect.ssim == pytest.approx(1.0) and perfect.gmsd == 0.0
    assert np.isnan(perfect.fsim) and np.isnan(perfect.ms_ssim) and np.isnan(perfect.snr)
    assert (perfect.subject, perfect.regime, perfect.draw, perfect.metabolite) == (
        "icbm",
        "mri_only",
        1,
        "tCho",
    )
    off = scored(truth.values + np.float32(0.1) * zone)
    span = np.percentile(truth.values[study.brain & result.brain], 99.9)
    assert off.psnr_zone == pytest.approx(20 * np.log10(span / 0.1), abs=0.01)
    assert off.psnr > off.psnr_zone + 3


# What is said of scores.


def scores(
    gains: dict[str, Sequence[float]], regime: str = "larger", snr: float = float("nan")
) -> list[Score]:
    """Baseline at 20 dB, ``better`` above it by so much in each draw of each subject; two maps, ± 1 dB."""
    found = []
    for subject, values in gains.items():
        for draw, value in enumerate(values):
            for metabolite, more in (("tNAA", 1.0), ("tCho", -1.0)):
                for method, db in (("bicubic", 20.0), ("better", 20.0 + value + more)):
                    nan = float("nan")
                    found.append(
                        Score(subject, regime, 0.0, snr, draw, method, metabolite,
                              db, 0.1, db - 2, 0.9, nan, nan, nan)
                    )  # fmt: skip
    return found


def test_a_gain_is_the_mean_over_subjects_with_its_interval_and_worst_case():
    """Subjects weigh the same however many draws they have."""
    found = gain(scores({"a": [1.0, 3.0], "b": [4.0, 4.0, 4.0, 4.0]}), "better", "bicubic", "psnr")
    assert found is not None
    assert found.mean == pytest.approx(3.0)
    assert (found.worst_study, found.worst_map) == pytest.approx((1.0, 0.0))
    assert found.worst_words == "tCho, a, draw 0"
    assert found.low == pytest.approx(1.0, abs=0.6) and found.high == pytest.approx(4.0)
    assert found.p is None
    assert by_draw(scores({"a": [1.0, 3.0]}), "better", "psnr") == {"a": pytest.approx([21.0, 23.0])}


def test_of_one_draw_each_an_interval_is_the_percentile_bootstrap_of_scipy():
    values = np.random.default_rng(0).normal(2.0, 1.0, 9)
    found = statistics.interval({str(i): [v] for i, v in enumerate(values)}, resamples=20_000)
    peer = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    assert found == pytest.approx(tuple(peer.confidence_interval), abs=0.03)


def test_draws_that_disagree_widen_the_interval():
    """Two subjects alike in the mean: what is left to vary is the draw."""
    low, high = statistics.interval({"a": [1.0, 3.0], "b": [1.5, 2.5]})
    assert low < 1.5 and high > 2.5
    assert statistics.interval({"a": [2.0, 2.0], "b": [2.0]}) == (2.0, 2.0)


def test_an_interval_repeats_and_of_one_figure_is_that_figure():
    values = {"a": [1.0, 2.0], "b": [3.0, 5.0]}
    assert statistics.interval(values) == statistics.interval(values)
    assert statistics.interval({"a": [2.5]}) == (2.5, 2.5)
    with pytest.raises(ValueError, match="at least one subject"):
        statistics.interval({})


def test_the_test_over_subjects_is_scipys_and_needs_six_of_them():
    means = [1.0, 2.0, 0.5, -0.2, 3.0, 1.5, 0.7]
    draws = {str(i): [m - 0.1, m + 0.1] for i, m in enumerate(means)}
    assert statistics.wilcoxon(draws) == pytest.approx(stats.wilcoxon(means).pvalue)
    assert statistics.wilcoxon({str(i): [1.0] for i in range(5)}) is None
    assert statistics.wilcoxon({str(i): [0.0] for i in range(6)}) == 1.0


def test_holm_steps_down():
    """The example of R's p.adjust: 0.01, 0.02, 0.03, 0.04, 0.05."""
    assert statistics.holm([0.04, 0.01, 0.05, 0.02, 0.03]) == pytest.approx([0.09, 0.05, 0.09, 0.08, 0.09])
    assert statistics.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert statistics.holm([]) == []


@pytest.fixture
def two_methods(tmp_path) -> Protocol:
    found = protocol(tmp_path, 'regimes = ["larger"]\nsnr = [8.0, 15.0]\ndraws = 2\n')
    return replace(found, methods=(*found.methods, Variant("better", "bicubic+dc", Settings())))


def test_the_report_has_a_table_for_each_regime_and_level_with_intervals_and_worst_case(two_methods):
    eight = scores({c: [1.0, 3.0] for c in "abcdef"}, snr=8.0)
    text = markdown([*eight, *scores({"a": [5.0, 5.0]}, snr=15.0)], two_methods, {"commit": "abc"})
    assert "n = 6 subjects" in text and "- commit: abc" in text
    assert text.index("## larger, SNR 8") < text.index("## larger, SNR 15")
    assert "| 22.00 | +2.00 [" in text and "+1.00; +0.00 (tCho, a, draw 0); p = 0.0312" in text
    assert "| 25.00 | +5.00 [+5.00, +5.00]; +5.00; +4.00 (tCho, a, draw 0) |" in text


def test_without_a_lesion_the_report_has_no_zone(two_methods):
    healthy = [replace(s, psnr_zone=float("nan")) for s in scores({"a": [1.0]}, "healthy", 8.0)]
    text = markdown(healthy, replace(two_methods, regimes=("healthy",)), {})
    assert "| better | 21.00 | +1.00 [+1.00, +1.00]; +1.00; +0.00 (tCho, a, draw 0) | – | – |" in text


def test_scores_come_back_from_the_csv(tmp_path):
    found = scores({"a": [1.0, 2.0]}, snr=8.0)
    write_csv(found, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == len(found)
    assert [float(r["psnr"]) for r in rows] == [s.psnr for s in found]
    assert {r["regime"] for r in rows} == {"larger"} and {r["draw"] for r in rows} == {"0", "1"}


def test_a_card_holds_one_condition_and_refuses_more(two_methods):
    one = replace(two_methods, snr=(), noise=(1.0,), draws=1, regimes=("mismatch",))
    card = card_figures(scores({"a": [1.0], "b": [2.0]}, "mismatch"), one)
    assert card["bicubic"] == 20.0 and card["better"] == 21.5
    assert (card["subjects"], card["noise"], card["regime"], card["seed"]) == (2, 1.0, "mismatch", 7)
    with pytest.raises(ValueError, match="one regime"):
        card_figures((), two_methods)
