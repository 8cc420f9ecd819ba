"""The protocol of an evaluation, its cases, and what is said of scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sr_core import Settings
from sr_core.evaluate import statistics
from sr_core.evaluate.cases import cases, study_seed, subjects
from sr_core.evaluate.gains import by_subject, gain, level, values_of
from sr_core.evaluate.illustrate import chosen
from sr_core.evaluate.protocol import Condition, Protocol, Variant, overridden, read
from sr_core.evaluate.publish import card_figures, publish
from sr_core.evaluate.report import Run, markdown, of_protocol, write
from sr_core.evaluate.report import read as read_run
from sr_core.simulate import TAUS, Options
from tests.unit.sr_core.scored import NAN, gaining, score

CONFIGS = Path("config/evaluate")
ROOT = Path(__file__).parents[3]
SHIPPED = ["default", "guided", "matched", "noise", "regimes", "regimes_rich", "table1", "table2"]

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


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_protocols_can_be_read_and_look_at_validation_subjects(name):
    found = read(ROOT / CONFIGS / f"{name}.toml")
    assert (found.name, found.part) == (name, "validation")
    assert found.methods[0].name == "bicubic"
    assert [s.name for s in subjects(replace(found, split=str(ROOT / found.split)))] == [
        "seg_11_noface",
        "seg_12_noface",
    ]


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


def test_infinite_snr_is_no_noise_and_such_a_case_is_exact_over_the_whole_field_of_view(tmp_path):
    found = protocol(tmp_path, "snr = [inf, 8.0]\n[without_noise]\ndenoise = false\nconsistency = 'hard'")
    exact, noisy = found.conditions()
    assert (exact.noise, exact.snr, exact.noisy) == (0.0, None, False) and noisy.noisy
    options = found.options(exact)
    assert not options.masked and not options.artefacts
    assert found.options(noisy).masked and found.options(noisy).artefacts
    (variant,) = found.methods
    assert variant.settings_for(exact) == Settings(denoise=False, consistency="hard")
    assert variant.settings_for(noisy) == Settings()


def test_a_variant_is_a_method_with_settings_of_its_own_over_the_common_ones(tmp_path):
    found = protocol(
        tmp_path,
        """
        [settings]
        denoise = false
        [[variant]]
        name = "guide only"
        method = "bicubic+fnlm+dc"
        weights = "runs/other"
        settings = { consistency = "hard", fnlm = { mode = "dc", h = 0.06 } }
        """,
    )
    plain, variant = found.methods
    common = Settings(denoise=False)
    assert plain == Variant("bicubic", "bicubic", common, common)
    assert (variant.name, variant.method, variant.weights) == ("guide only", "bicubic+fnlm+dc", "runs/other")
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
        ('model = "papers"', "'usual' or 'paper', not 'papers'"),
        ("truth = 3", "truths 1 and 2"),
        ("[settings]\ndenoize = false", "no setting denoize; there is"),
        ("[without_noise]\ndenoize = false", "no setting denoize; there is"),
        ('[[variant]]\nmethod = "bicubic"', "'name' is missing"),
        ('[[variant]]\nname = "bicubic"\nmethod = "zerofill"', "two methods of one name: bicubic"),
        ('[[variant]]\nname = "x"\nmethod = "bilinear"', "no method 'bilinear'"),
        ('[[variant]]\nname = "x"\nmethod = "bicubic"\nsetings = {}', "a variant has no setings"),
        ('[[variant]]\nname = "x"\nmethod = "bicubic"\nsettings = { fnlm = { hh = 1 } }', "no setting hh"),
    ],
)
def test_a_mistake_in_a_protocol_is_named_with_the_file(tmp_path, more, words):
    with pytest.raises(ValueError, match=words) as caught:
        protocol(tmp_path, more)
    assert "protocol.toml" in str(caught.value)


# Cases.


def test_an_unknown_part_names_those_there_are(tmp_path):
    (tmp_path / "split.toml").write_text('train = ["a"]\ntest = ["b", "c"]\n')
    found = replace(protocol(tmp_path), split=str(tmp_path / "split.toml"))
    assert [s.name for s in subjects(replace(found, part="test"))] == ["b", "c"]
    with pytest.raises(ValueError, match="no part 'validation'; it has train, test"):
        subjects(found)


def test_the_shipped_pool_is_the_test_part_of_the_tables():
    """Internal and external heads, τ spread evenly over both, the same in all regimes of a subject."""
    found = replace(
        read(ROOT / CONFIGS / "table2.toml"),
        part="test",
        pool=str(ROOT / CONFIGS / "pool.toml"),
        pool_data="",
    )
    assert Counter(s.source for s in subjects(found)) == {"internal": 4, "external": 17}
    all_cases = cases(found)
    assert len(all_cases) == 21 * 2
    taus = {source: Counter() for source in ("internal", "external")}
    for case in all_cases:
        if case.condition.regime == "match":
            taus[case.subject.source][case.tau] += 1
    assert set(taus["internal"]) == {0.2, 0.4, 0.6, 0.8}
    assert set(taus["external"]) == set(TAUS)
    assert max(taus["external"].values()) - min(taus["external"].values()) <= 1
    assert all(a.tau == b.tau and a.seed == b.seed for a, b in zip(*[iter(all_cases)] * 2, strict=True))


def test_some_heads_of_a_pool_may_be_chosen_by_name():
    found = replace(
        read(ROOT / CONFIGS / "regimes.toml"), part="test", pool=str(ROOT / CONFIGS / "pool.toml")
    )
    assert Counter(s.source for s in subjects(found)) == {"internal": 4, "external": 3}
    with pytest.raises(ValueError, match="has no nobody; it has seg_17_noface"):
        subjects(replace(found, heads=("nobody",)))


@pytest.mark.parametrize(("protocol", "external"), [("table2", "icbm152"), ("regimes", "openms_07")])
def test_no_head_is_drawn_that_may_only_be_evaluated_on(protocol, external):
    found = read(ROOT / CONFIGS / f"{protocol}.toml")
    drawn = chosen(cases(replace(found, part="test", pool=str(ROOT / CONFIGS / "pool.toml"))))
    assert [c.subject.name for c in drawn] == ["seg_17_noface"] * 2 + [external] * 2
    assert [c.condition.regime == "healthy" for c in drawn] == [True, False] * 2


def test_draws_have_seeds_of_their_own_and_the_first_that_of_the_recorded_figures():
    assert study_seed(20261201, "seg_11_noface") == study_seed(20261201, "seg_11_noface", 0) == 0xF984758E
    assert len({study_seed(1, name, draw) for name in "ab" for draw in range(3)}) == 6


# What is said of scores.


def test_a_gain_is_the_mean_over_subjects_with_its_interval_and_worst_case():
    """Subjects weigh the same however many draws they have."""
    found = gain(gaining({"a": [1.0, 3.0], "b": [4.0, 4.0, 4.0, 4.0]}), "better", "bicubic", "psnr_brain")
    assert found is not None
    assert found.mean == pytest.approx(3.0)
    assert found.worst == pytest.approx(0.0)
    assert str(found.where) == "tCho, a, larger, no noise, draw 0"
    assert found.low == pytest.approx(1.0, abs=0.6) and found.high == pytest.approx(4.0)
    assert (found.p, found.p_unpaired, found.n) == (None, None, 2)
    values = values_of(gaining({"a": [1.0, 3.0]}), "better", "psnr_brain")
    assert by_subject(values) == {"a": pytest.approx([21.0, 23.0])}


def test_a_gain_compares_only_maps_that_both_methods_have():
    alone = [s for s in gaining({"a": [1.0], "b": [9.0]}) if s.subject == "a" or s.method == "better"]
    found = gain(alone, "better", "bicubic", "psnr_brain")
    assert found is not None and found.mean == pytest.approx(1.0) and found.n == 1
    assert gain(alone, "better", "worse", "psnr_brain") is None


def test_of_a_figure_itself_the_largest_is_the_worst():
    scores = [score("m", {"false_lesion_percent": v}, s) for s, v in (("a", 1.0), ("b", 4.0))]
    found = level(scores, "m", "false_lesion_percent")
    assert found is not None
    assert (found.mean, found.worst, found.where.subject) == (2.5, 4.0, "b")


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


def test_tests_over_subjects_are_scipys_and_need_six_of_them():
    means = [1.0, 2.0, 0.5, -0.2, 3.0, 1.5, 0.7]
    draws = {str(i): [m - 0.1, m + 0.1] for i, m in enumerate(means)}
    other = {str(i): [m - 1.0] for i, m in enumerate(means)}
    assert statistics.wilcoxon(draws) == pytest.approx(stats.wilcoxon(means).pvalue)
    assert statistics.wilcoxon({str(i): [1.0] for i in range(5)}) is None
    assert statistics.wilcoxon({str(i): [0.0] for i in range(6)}) == 1.0
    peer = stats.mannwhitneyu(means, np.array(means) - 1.0).pvalue
    assert statistics.mann_whitney(draws, other) == pytest.approx(peer)
    assert statistics.mann_whitney(draws, {"a": [1.0]}) is None


def test_holm_steps_down():
    """The example of R's p.adjust: 0.01, 0.02, 0.03, 0.04, 0.05."""
    assert statistics.holm([0.04, 0.01, 0.05, 0.02, 0.03]) == pytest.approx([0.09, 0.05, 0.09, 0.08, 0.09])
    assert statistics.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert statistics.holm([]) == []


@pytest.fixture
def two_methods(tmp_path) -> Protocol:
    found = protocol(tmp_path, 'regimes = ["larger"]\nsnr = [8.0, 15.0]\ndraws = 2\n')
    return replace(found, methods=(*found.methods, Variant("better", "bicubic+dc", Settings(), Settings())))


@pytest.fixture
def finished(two_methods) -> Run:
    scores = [*gaining({c: [1.0, 3.0] for c in "abcdef"}, snr=8.0), *gaining({"a": [5.0, 5.0]}, snr=15.0)]
    return of_protocol(two_methods, scores, {"command": "it was run so"})


def test_the_report_has_a_table_for_each_regime_and_level_with_intervals_and_worst_case(finished):
    text = markdown(finished)
    assert "n = 6 subjects (6 internal: a, b" in text
    assert "- command: it was run so" in text and "- commit: abc" in text
    assert text.index("## larger, SNR 8") < text.index("## larger, SNR 15")
    assert "| 22.00 | +2.00 [" in text and "+0.00 (a); p 0.031 |" in text
    assert "| 25.00 | +5.00 [+5.00, +5.00], +4.00 (a) |" in text


def test_without_a_lesion_the_report_has_no_zone(two_methods):
    healthy = [
        replace(s, figures={**s.figures, "psnr_zone": NAN}) for s in gaining({"a": [1.0]}, "healthy", 8.0)
    ]
    text = markdown(of_protocol(two_methods, healthy, {}))
    assert "PSNR brain" in text and "PSNR zone" not in text


def test_what_a_case_did_not_allow_is_said(two_methods):
    scores = gaining({"a": [1.0]})
    scores[1] = replace(scores[1], requested="bicubic+fnlm", used="bicubic")
    assert "better as bicubic on 1 map(s)" in markdown(of_protocol(two_methods, scores, {}))


def test_a_run_comes_back_from_its_folder(finished, tmp_path):
    write(finished, tmp_path)
    found = read_run(tmp_path)
    assert markdown(found) == markdown(finished) == (tmp_path / "RESULTS.md").read_text()
    assert [s["psnr_full"] for s in found.scores] == [s["psnr_full"] for s in finished.scores]


def test_the_papers_table_stands_beside_ours_for_all_and_apart(finished):
    """The paper's U-Net gained 0.81 dB over its bicubic in Table 2."""
    names = {"bicubic": "bicubic", "better": "unet"}
    scores = tuple(replace(s, method=names[s.method], snr=NAN) for s in finished.scores)
    text = markdown(replace(finished, methods=("bicubic", "unet"), table=2, scores=scores))
    row = next(line for line in text.splitlines() if line.startswith("| unet"))
    assert "| +0.81 |" in row and "| – | –" not in row.split("+0.81")[0]
    assert "ground truth of type 1" in text


def test_published_runs_stand_on_one_page_with_their_pictures(finished, tmp_path):
    write(finished, tmp_path / "one")
    write(replace(finished, name="two"), tmp_path / "two")
    (tmp_path / "one" / "figures").mkdir()
    (tmp_path / "one" / "figures" / "boxes.png").write_bytes(b"png")
    page = tmp_path / "page" / "RESULTS.md"
    page.parent.mkdir()
    publish([tmp_path / "one", tmp_path / "two"], page, tmp_path / "pictures")
    text = page.read_text()
    assert text.index("## protocol, validation") < text.index("## two, validation")
    assert "(../pictures/protocol_boxes.png)" in text
    assert (tmp_path / "pictures" / "protocol_boxes.png").read_bytes() == b"png"


def test_a_card_holds_the_gains_of_each_condition(finished):
    card = card_figures(finished, ["better"])
    assert card["larger_SNR_8"] == {"baseline": 20.0, "better": 2.0}
    assert card["larger_SNR_15"] == {"baseline": 20.0, "better": 5.0}
    assert (card["subjects"], card["commit"]) == (6, "abc")
