"""What a person may do to a study or a delivery: the same acts of the store that the command line calls."""

from __future__ import annotations

from enum import StrEnum

from dicom_node import log
from dicom_node.study import TRANSITIONS, UNDER_WAY, DeliveryState, Event, State

from .access import Signature
from .desk import Desk

_LOG = log.get("web")


class Verb(StrEnum):
    """On a study."""

    FORCE = "force"
    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    IGNORE = "ignore"
    WITHDRAW = "withdraw"


class DeliveryVerb(StrEnum):
    """On a delivery."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"


_EVENTS = {
    Verb.FORCE: Event.FORCED,
    Verb.HOLD: Event.HELD,
    Verb.RELEASE: Event.RELEASED,
    Verb.RETRY: Event.RETRIED,
    Verb.IGNORE: Event.IGNORED,
    Verb.WITHDRAW: Event.WITHDRAWN,
}


def possible(state: str) -> tuple[Verb, ...]:
    """What may be done to a study whose newest revision is in ``state``."""
    return tuple(verb for verb, event in _EVENTS.items() if (State(state), event) in TRANSITIONS)


def possible_for_delivery(state: str) -> tuple[DeliveryVerb, ...]:
    """What may be done to a delivery in ``state``."""
    found = {
        DeliveryState.STOPPING: DeliveryVerb.RELEASE,
        DeliveryState.HELD: DeliveryVerb.RELEASE,
        DeliveryState.FAILED: DeliveryVerb.RETRY,
    }
    if state in UNDER_WAY:
        return (DeliveryVerb.HOLD,)
    return (found[DeliveryState(state)],) if DeliveryState(state) in found else ()


def act(desk: Desk, verb: Verb, case: str, signed: Signature, patient_safety: bool = False) -> None:
    """Raises UnsuitableInput where the state forbids it, TemporaryError if a try later may do."""
    store, by, why = desk.store, signed.by, signed.because
    if verb is Verb.FORCE:
        store.force(case, f"forced by {by}: {why}")
    elif verb is Verb.HOLD:
        store.hold(case, f"held by {by}: {why}")
    elif verb is Verb.RELEASE:
        store.release(case, f"released by {by}: {why}")
    elif verb is Verb.IGNORE:
        store.ignore_study(case, f"ignored by {by}: {why}")
    elif verb is Verb.RETRY:
        store.retry(store.latest_of_study(case), f"retried by {by}: {why}")
    else:
        from dicom_node.withdraw import withdraw  # reads and writes DICOM: of no use to other pages

        withdraw(desk.settings, store, desk.spool, case, by=by, because=why, patient_safety=patient_safety)
    _LOG.info("study.acted", act=str(verb), case=case, by=by)


def act_on_delivery(desk: Desk, verb: DeliveryVerb, delivery: str, signed: Signature) -> None:
    """Raises UnsuitableInput where the state forbids it."""
    store, by, why = desk.store, signed.by, signed.because
    if verb is DeliveryVerb.HOLD:
        store.hold_delivery(delivery, f"held by {by}: {why}")
    elif verb is DeliveryVerb.RETRY:
        store.retry_delivery(delivery, f"retried by {by}: {why}")
    else:
        store.release_delivery(delivery, f"released by {by}: {why}")
    _LOG.info("delivery.acted", act=str(verb), delivery=delivery, by=by)
