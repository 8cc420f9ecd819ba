"""The life of a revision and of a delivery: states, events, and what may follow what. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a revision of a case stands."""

    RECEIVING = "RECEIVING"
    QUEUED = "QUEUED"
    RESOLVING = "RESOLVING"
    DELIVERING = "DELIVERING"
    DONE = "DONE"
    IGNORED = "IGNORED"
    HELD = "HELD"
    FAILED = "FAILED"


class Event(StrEnum):
    """What happens to a revision."""

    COMPLETED = "completed"  # all evidence is in
    HELD = "held"
    RELEASED = "released"
    STARTED = "started"  # a worker took it
    NOTHING_TO_DO = "nothing_to_do"  # no recipe matches
    ENCODED = "encoded"  # results are durable
    DELIVERED = "delivered"  # to every destination
    GAVE_UP = "gave_up"  # no result
    UNDELIVERED = "undelivered"  # results, and a destination that was given up
    RETRIED = "retried"  # by a person
    REDELIVERED = "redelivered"  # by a person: a given-up delivery is tried again
    FORCED = "forced"  # by a person, before the evidence was in
    IGNORED = "ignored"  # by a person: not to be worked on, whatever comes late
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"  # by a person: notes that reject the results are due


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.RECEIVING, Event.COMPLETED): State.QUEUED,
    (State.RECEIVING, Event.FORCED): State.QUEUED,
    (State.RECEIVING, Event.HELD): State.HELD,
    (State.RECEIVING, Event.NOTHING_TO_DO): State.IGNORED,
    (State.RECEIVING, Event.IGNORED): State.IGNORED,
    (State.QUEUED, Event.STARTED): State.RESOLVING,
    (State.QUEUED, Event.HELD): State.HELD,
    (State.QUEUED, Event.SUPERSEDED): State.IGNORED,  # a late instance came before any work was done
    (State.QUEUED, Event.IGNORED): State.IGNORED,
    (State.HELD, Event.RELEASED): State.QUEUED,
    (State.HELD, Event.IGNORED): State.IGNORED,
    (State.RESOLVING, Event.STARTED): State.RESOLVING,  # taken over after a crash
    (State.RESOLVING, Event.ENCODED): State.DELIVERING,
    (State.RESOLVING, Event.NOTHING_TO_DO): State.IGNORED,
    (State.RESOLVING, Event.GAVE_UP): State.FAILED,
    (State.DELIVERING, Event.DELIVERED): State.DONE,
    (State.DELIVERING, Event.UNDELIVERED): State.FAILED,
    (State.FAILED, Event.RETRIED): State.QUEUED,
    (State.FAILED, Event.REDELIVERED): State.DELIVERING,
    (State.FAILED, Event.IGNORED): State.IGNORED,
    (State.IGNORED, Event.RETRIED): State.QUEUED,
    (State.DONE, Event.RETRIED): State.QUEUED,
    (State.DONE, Event.WITHDRAWN): State.DELIVERING,
    (State.FAILED, Event.WITHDRAWN): State.DELIVERING,
    (State.DELIVERING, Event.WITHDRAWN): State.DELIVERING,
}

FINAL = frozenset({State.DONE, State.IGNORED, State.FAILED})


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a bug, never an input's fault."""


def after(state: State, event: Event) -> State:
    """The state that ``event`` leads to. Raises IllegalTransition for any pair not in the table."""
    try:
        return TRANSITIONS[(state, event)]
    except KeyError:
        raise IllegalTransition(f"{event} cannot happen to a revision that is {state}") from None


class DeliveryState(StrEnum):
    """Where the delivery of one result set to one destination stands."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    STOPPING = "STOPPING"  # held by a person while it was being sent: the try under way ends first
    WAITING = "WAITING"  # between two tries
    PROVING = "PROVING"  # everything was taken; proof that it is kept is awaited
    HELD = "HELD"  # by a person, or until a person releases it
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"  # withdrawn, or superseded before its release: never sent again


UNDER_WAY = frozenset(
    {DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.WAITING, DeliveryState.PROVING}
)

# Something may be on its way at this moment.
BEING_SENT = frozenset({DeliveryState.SENDING, DeliveryState.STOPPING})


class Purpose(StrEnum):
    """What a delivery brings."""

    RESULTS = "results"
    WITHDRAWAL = "withdrawal"  # notes that reject results
    REASON = "reason"  # why there is no result; the revision has ended without it


# Why a delivery is held from its beginning, at destinations with ``wait_for_release``.
AWAITS_RELEASE = "waits for release by a physicist or radiologist"


@dataclass(frozen=True, order=True)
class CaseKey:
    """One revision of one case."""

    case: str
    revision: int

    def __str__(self) -> str:
        return f"{self.case}/{self.revision}"
