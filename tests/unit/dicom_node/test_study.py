"""The life of a revision, as one table."""

from __future__ import annotations

from itertools import product

import pytest

from dicom_node.study import FINAL, TRANSITIONS, CaseKey, Event, IllegalTransition, State, after


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_what_is_not_in_the_table_cannot_happen(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[(state, event)]
    else:
        with pytest.raises(IllegalTransition, match=f"{event} cannot happen"):
            after(state, event)


def test_the_usual_life_ends_done() -> None:
    state = State.RECEIVING
    for event in (Event.COMPLETED, Event.STARTED, Event.ENCODED, Event.DELIVERED):
        state = after(state, event)
    assert state is State.DONE


def test_every_state_can_be_reached_and_can_end() -> None:
    """No revision can get stuck where only a programmer helps."""
    reached = {State.RECEIVING}
    while more := {to for (start, _), to in TRANSITIONS.items() if start in reached} - reached:
        reached |= more
    assert reached == set(State)
    ends = set(FINAL)
    while more := {start for (start, _), to in TRANSITIONS.items() if to in ends} - ends:
        ends |= more
    assert ends == set(State)


def test_what_has_ended_moves_only_by_a_person() -> None:
    by_a_person = {Event.RETRIED, Event.REDELIVERED, Event.IGNORED, Event.WITHDRAWN}
    assert {e for (s, e) in TRANSITIONS if s in FINAL} <= by_a_person


def test_nothing_is_delivered_again_that_was_not_encoded() -> None:
    """A withdrawal brings notes of its own."""
    results = {k: to for k, to in TRANSITIONS.items() if k[1] is not Event.WITHDRAWN}
    assert {s for (s, e), to in results.items() if to is State.DELIVERING} == {
        State.RESOLVING,
        State.FAILED,
    }


def test_revisions_of_a_case_are_ordered_and_written_shortly() -> None:
    assert CaseKey("a", 2) < CaseKey("a", 10)
    assert str(CaseKey("a", 2)) == "a/2"
