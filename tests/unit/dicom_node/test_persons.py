"""A person forces, holds, releases or ignores a study: an event each, or a refusal in words."""

from __future__ import annotations

import pytest

from dicom_node.config import GatherRules
from dicom_node.errors import UnsuitableInput
from dicom_node.gather import gather_once
from dicom_node.intake import Intake
from dicom_node.store import Store
from dicom_node.study import CaseKey, State
from tests.doors import STUDY, Clock, incoming

RULES = GatherRules(quiet_period_s=60)


@pytest.fixture
def store(intake: Intake) -> Store:
    intake.accept(incoming(1), source="SCANNER")
    return intake.store


def states(store: Store) -> list[State]:
    found: list[State] = [r.state for r in store.revisions_in(*State)]
    return found


def said(store: Store, key: CaseKey) -> tuple[str, str]:
    newest = store.history(key.case)[-1]
    return newest["event"], newest["reason"]


def test_a_forced_study_is_queued_at_once_with_what_has_come(store: Store) -> None:
    key = store.force(STUDY, "no FLAIR was acquired")
    assert store.revision(key).state is State.QUEUED
    assert len(store.members(key)) == 1
    assert said(store, key) == ("forced", "no FLAIR was acquired")


def test_a_held_study_waits_for_its_release_and_takes_what_still_comes(
    store: Store, intake: Intake, clock: Clock
) -> None:
    key = store.hold(STUDY, "who is this?")
    clock.now += 61
    assert gather_once(store, RULES) == 0
    intake.accept(incoming(2), source="SCANNER")
    assert states(store) == [State.HELD]
    store.release(STUDY, "checked")
    assert states(store) == [State.QUEUED]
    assert len(store.members(key)) == 2
    assert said(store, key) == ("released", "checked")


def test_a_study_held_after_it_was_queued_is_a_new_attempt_when_released(
    store: Store, intake: Intake, clock: Clock
) -> None:
    """The engine may have met, and passed over, the attempt before."""
    clock.now += 61
    gather_once(store, RULES)
    key = store.hold(STUDY, "wait")
    intake.accept(incoming(2), source="SCANNER")
    store.release(STUDY, "go")
    assert store.revision(key).attempt == 2
    assert len(store.members(key)) == 2


def test_a_nifti_case_held_while_it_was_queued_is_a_new_attempt_each_time_it_is_released(
    store: Store,
) -> None:
    """It has no instances that would tell that the engine has met it."""
    key = store.open_nifti_case("/w/processing/S1", "S1")
    for attempt in (2, 3):
        store.hold(key.case, "wait")
        store.release(key.case, "go")
        revision = store.revision(key)
        assert (revision.state, revision.attempt) == (State.QUEUED, attempt)


def test_an_ignored_study_stays_ignored_whatever_comes_until_a_person_retries_it(
    store: Store, intake: Intake, clock: Clock
) -> None:
    key = store.ignore_study(STUDY, "phantom")
    intake.accept(incoming(2), source="SCANNER")
    clock.now += 61
    assert gather_once(store, RULES) == 0
    assert states(store) == [State.IGNORED]
    store.retry(key, "no phantom after all")
    assert len(store.members(key)) == 2
    intake.accept(incoming(3), source="SCANNER")
    assert State.RECEIVING in states(store)


def test_a_study_that_no_recipe_matched_is_opened_again_by_late_instances(
    store: Store, intake: Intake, clock: Clock
) -> None:
    clock.now += 61
    gather_once(store, RULES)
    key = store.revisions_in(State.QUEUED)[0].key
    store.start(key)
    store.ignore(key, "no metabolite map")
    intake.accept(incoming(2), source="SCANNER")
    assert State.RECEIVING in states(store)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("force", "the study is RESOLVING; force is possible only while it is still receiving"),
        ("hold", "the study is RESOLVING; hold is possible only while it is receiving or queued"),
        ("release", "the study is RESOLVING; release is possible only while it is held"),
        ("ignore_study", "the study is RESOLVING; ignore is possible only while"),
    ],
)
def test_a_verb_that_the_state_does_not_allow_is_refused_in_words(
    store: Store, verb: str, words: str
) -> None:
    store.start(store.force(STUDY, "now"))
    with pytest.raises(UnsuitableInput, match=words):
        getattr(store, verb)(STUDY, "please")
    assert states(store) == [State.RESOLVING]


def test_only_a_study_that_has_ended_is_run_again(store: Store) -> None:
    key = store.force(STUDY, "now")
    with pytest.raises(UnsuitableInput, match="the study is QUEUED; retry is possible only while it is done"):
        store.retry(key, "please")
    store.ignore_study(STUDY, "phantom")
    store.retry(store.latest_of_study(STUDY), "no phantom")
    assert states(store) == [State.QUEUED]


def test_a_study_that_is_not_known_is_said_so(store: Store) -> None:
    with pytest.raises(UnsuitableInput, match="no study or case"):
        store.hold("1.2.3", "typo")
