"""Is a case complete, because of what, and what is awaited until when."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.config import GatherRules
from dicom_node.evidence import Count, Counts, Evidence, Here, Needs, Step, StepStatus, Verdict, judge, tally

NOW = 1_800_000_000.0
RULES = GatherRules(quiet_period_s=60, longest_wait_s=1800, recipe_wait_s=600)
ALL = Needs(maps=frozenset({"tNAA"}), anatomy=True)


def series(uid: str, count: int, **facts: Any) -> list[Here]:
    """Instances 1 … ``count`` of a series, each with ``facts``."""
    return [Here(f"{uid}.{n}", uid, "1", {"InstanceNumber": n, **facts}) for n in range(1, count + 1)]


def step(status: StepStatus, *named: Here, since: float = NOW, reason: str = "") -> Step:
    of: dict[str, frozenset[str]] = {}
    for h in named:
        of[h.series_uid] = of.get(h.series_uid, frozenset()) | {h.sop_uid}
    return Step("1.9", status, since, of, reason)


def verdict(
    here: list[Here], after_s: float = 0, needs: Needs = ALL, rules: GatherRules = RULES, **more: Any
) -> Verdict:
    """Judged ``after_s`` seconds after the last instance came."""
    return judge(Evidence(here, NOW, **more), rules, NOW + after_s, lambda: needs)


# Performed procedure steps


def test_all_that_a_completed_step_names_is_here_so_it_is_complete_at_once() -> None:
    here = series("1.1", 3)
    found = verdict(here, steps=[step(StepStatus.COMPLETED, *here)])
    assert found.complete
    assert "performed procedure step" in found.because


def test_a_step_in_progress_is_waited_for_beyond_the_quiet_period() -> None:
    here = series("1.1", 3)
    found = verdict(here, 61, steps=[step(StepStatus.IN_PROGRESS)])
    assert not found.complete
    assert "in progress" in found.awaited[0]
    assert found.until == NOW + 1800


def test_what_a_completed_step_names_and_did_not_come_is_waited_for_up_to_the_limit_and_then_told() -> None:
    whole = series("1.1", 3, SeriesNumber=4, SeriesDescription="MPRAGE")
    steps = [step(StepStatus.COMPLETED, *whole)]
    waiting = verdict(whole[:2], 1799, steps=steps)
    assert not waiting.complete
    assert waiting.awaited == ("1 of 3 instances of series 4 “MPRAGE” named by the completed step",)
    given_up = verdict(whole[:2], 1800, steps=steps)
    assert given_up.complete
    assert given_up.lacking
    assert "1 of 3 instances of series 4" in given_up.because


def test_the_limit_counts_from_the_last_sign_of_life_of_scanner_or_sender() -> None:
    here = series("1.1", 1)
    assert verdict(here, steps=[step(StepStatus.IN_PROGRESS, since=NOW + 100)]).until == NOW + 1900


def test_a_series_of_which_nothing_came_is_waited_for_unless_the_site_sends_only_some() -> None:
    here, elsewhere = series("1.1", 2), series("1.2", 5)
    steps = [step(StepStatus.COMPLETED, *here, *elsewhere)]
    assert "5 of 5 instances" in verdict(here, steps=steps).awaited[0]
    only_begun = RULES.model_copy(update={"mpps_series": "begun"})
    assert verdict(here, steps=steps, rules=only_begun).complete


def test_a_discontinued_step_is_as_final_as_a_completed_one_and_said() -> None:
    here = series("1.1", 2)
    found = verdict(here, steps=[step(StepStatus.DISCONTINUED, *here, reason="patient moved")])
    assert found.complete
    assert "discontinued (patient moved)" in found.because


def test_a_series_that_no_step_names_is_left_to_the_quiet_period() -> None:
    """Maps come from a quantification host that sends no MPPS: the first must not start the work."""
    scan, first_map = series("1.1", 3), series("1.2", 1)
    steps = [step(StepStatus.COMPLETED, *scan)]
    assert verdict([*scan, *first_map], 59, steps=steps).until == NOW + 60
    assert verdict([*scan, *first_map], 60, steps=steps).complete


def test_a_step_that_names_a_series_outweighs_its_headers() -> None:
    here = series("1.1", 3, ImagesInAcquisition=5)
    assert verdict(here, steps=[step(StepStatus.COMPLETED, *here)]).complete


# Headers


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ([{"ImagesInAcquisition": 3, "AcquisitionNumber": 1}] * 2, "1 of 3 images of acquisition 1"),
        ([{"NumberOfSeriesRelatedInstances": 4}] * 3, "1 of 4 instances"),
        ([{"NumberOfTemporalPositions": 3, "TemporalPositionIdentifier": n} for n in (1, 3)],
         "1 of 3 temporal positions"),
        ([{"NumberOfTemporalPositions": 2, "TemporalPositionIdentifier": n} for n in (1, 1, 2)],
         "1 images in some of 2 temporal positions"),
        ([{"NumberOfTemporalPositions": 2}] * 3, "images of 1 of 2 temporal positions"),
        ([{"StackID": "1", "InStackPositionNumber": n} for n in (1, 2, 5)], "positions 3, 4 of stack 1"),
        ([{"stacks": {"A": [1, 2]}}, {"stacks": {"A": [4]}}], "position 3 of stack A"),
        ([{"ConcatenationUID": "1.5", "InConcatenationNumber": n, "InConcatenationTotalNumber": 4}
          for n in (1, 3)], "parts 2, 4 of a concatenation of 4"),
        ([{"ConcatenationUID": "1.5", "InConcatenationNumber": n} for n in (1, 3)],
         "part 2 of a concatenation of unknown length"),
    ],
)  # fmt: skip
def test_headers_that_announce_more_than_is_here_say_what_is_missing(facts: list[Any], missing: str) -> None:
    found = tally(facts)
    assert found.missing == (missing,)
    assert not found.whole


@pytest.mark.parametrize(
    "facts",
    [
        [{"ImagesInAcquisition": 2, "AcquisitionNumber": n} for n in (1, 1, 2, 2)],
        [{"ImagesInAcquisition": 20, "NumberOfFrames": 20}],
        [{"NumberOfSeriesRelatedInstances": 2}] * 2,
        [{"NumberOfTemporalPositions": 2, "TemporalPositionIdentifier": n} for n in (1, 2)],
        [{"ConcatenationUID": "1.5", "InConcatenationNumber": n, "InConcatenationTotalNumber": 2}
         for n in (1, 2)],
        [{"NumberOfFrames": 32}],
    ],
)  # fmt: skip
def test_headers_whose_sum_is_here_prove_the_series_whole(facts: list[Any]) -> None:
    assert tally(facts).whole


@pytest.mark.parametrize(
    "facts",
    [
        [{}] * 3,
        [{"InstanceNumber": n} for n in (1, 2, 3)],
        [{"stacks": {"1": [1, 2, 3]}}],
        [{"InstanceNumber": 1}, {"InstanceNumber": 2_000_000_000}],
        [{"ImagesInAcquisition": 0}],
        [{"ImagesInAcquisition": "many"}],
    ],
)
def test_headers_that_announce_nothing_prove_nothing(facts: list[Any]) -> None:
    found = tally(facts)
    assert (found.missing, found.weak, found.whole) == ((), "", False)


def test_a_series_that_is_short_by_its_headers_waits_beyond_the_quiet_period_up_to_the_limit() -> None:
    here = series("1.1", 2, ImagesInAcquisition=3, SeriesNumber=7)
    assert verdict(here, 1799).awaited == ("1 of 3 images of series 7",)
    assert verdict(here, 1800).lacking


def test_a_gap_in_instance_numbers_only_doubles_the_quiet_period() -> None:
    here = [h for h in series("1.1", 4) if not h.sop_uid.endswith("3")]
    waiting = verdict(here, 119)
    assert waiting.until == NOW + 120
    assert "Instance Number 3" in waiting.awaited[0]
    assert "never came" in verdict(here, 120).because
    assert not verdict(here, 120).lacking


def test_as_many_instances_as_the_study_announces_are_complete_at_once() -> None:
    assert verdict(series("1.1", 2, NumberOfStudyRelatedInstances=2)).complete
    assert not verdict(series("1.1", 1, NumberOfStudyRelatedInstances=2), 100).complete


# The archive


def test_a_series_of_which_the_archive_holds_more_is_waited_for() -> None:
    counts = Counts((Count("1", "1.1", "MR", 5),), settled=False)
    assert "2 of 5 instances" in verdict(series("1.1", 3), 100, counts=counts).awaited[0]


def test_an_archive_that_settled_on_what_is_here_makes_it_complete_at_once() -> None:
    here = series("1.1", 3)
    count = Count("1", "1.1", "MR", 3)
    assert verdict(here, counts=Counts((count,), settled=True)).complete
    assert not verdict(here, counts=Counts((count,), settled=False)).complete


def test_an_archive_with_a_further_mr_series_proves_nothing_but_a_report_there_does_not_matter() -> None:
    here = series("1.1", 3)
    count = Count("1", "1.1", "MR", 3)
    with_mr = Counts((count, Count("1", "1.2", "MR", 9)), settled=True)
    with_sr = Counts((count, Count("1", "1.2", "SR", 1)), settled=True)
    assert not verdict(here, counts=with_mr).complete
    assert verdict(here, counts=with_sr).complete


# The recipe


def test_maps_wait_for_anatomy_up_to_a_limit_and_then_go_on_without_it() -> None:
    needs = Needs(maps=frozenset({"tNAA"}))
    waiting = verdict(series("1.1", 1), 599, needs, fetching="asked of PACS")
    assert waiting.awaited == ("anatomy (T1 or FLAIR), asked of PACS",)
    going_on = verdict(series("1.1", 1), 600, needs)
    assert going_on.complete
    assert not going_on.lacking
    assert "goes on without anatomy (T1 or FLAIR)" in going_on.because


def test_even_a_final_step_does_not_send_maps_on_their_way_without_anatomy() -> None:
    here = series("1.1", 1)
    steps = [step(StepStatus.COMPLETED, *here)]
    assert not verdict(here, 1, Needs(maps=frozenset({"tNAA"})), steps=steps).complete


def test_spectra_alone_wait_for_maps_but_images_alone_do_not() -> None:
    here = series("1.1", 1)
    assert "only spectra" in verdict(here, 61, Needs(spectra=True, anatomy=True)).awaited[0]
    assert verdict(here, 61, Needs(anatomy=True)).complete


def test_maps_and_quality_maps_that_the_site_always_sends_are_waited_for() -> None:
    rules = RULES.model_copy(update={"expected_maps": ("tNAA", "tCho"), "expected_quality": ("crlb",)})
    found = verdict(series("1.1", 1), 61, rules=rules)
    assert found.awaited == (
        "maps of tCho, which this site sends",
        "quality maps (crlb), which this site sends",
    )


def test_all_that_the_site_sends_is_complete_at_once_if_each_series_is_whole() -> None:
    rules = RULES.model_copy(update={"expected_maps": ("tNAA",)})
    assert verdict(series("1.1", 2, ImagesInAcquisition=2), rules=rules).complete
    assert not verdict(series("1.1", 2), rules=rules).complete


# Quiet


def test_while_instances_stream_in_nobody_asks_what_they_are() -> None:
    def asked() -> Needs:
        raise AssertionError

    found = judge(Evidence(series("1.1", 2), NOW), RULES, NOW + 1, asked)
    assert found.until == NOW + 60


def test_without_other_evidence_the_quiet_period_decides() -> None:
    here = series("1.1", 2)
    assert verdict(here, 59).awaited == ("more instances",)
    assert verdict(here, 60).because == "no new instance for 60 s"
