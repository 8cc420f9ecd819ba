"""One try of one delivery: send what is left, ask for proof, and say on its row what comes next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from pynetdicom import evt
from sqlalchemy.exc import OperationalError

from . import boundary, dispatch, log
from .config import Destination, DicomDestination, DicomWebDestination, RetryRules, Settings
from .dispatch.commitment import take_report
from .errors import PermanentError, Refused, TemporaryError
from .ladder import Ladder
from .rounds import send_by_ladder, stuck
from .rungs import Rung
from .spool import Spool
from .store import ASK_AGAIN_S, Delivery, Sendable, Store
from .study import BEING_SENT, UNDER_WAY
from .uids import result_uid

_LOG = log.get("deliver")

_MAY_PASS = (TemporaryError, OSError, OperationalError)


class Courier:
    """Tries deliveries. After each try the row says whether it arrived, is given up, or when it goes on."""

    def __init__(self, settings: Settings, store: Store, spool: Spool) -> None:
        self._settings = settings
        self._store = store
        self._spool = spool

    def try_delivery(self, delivery_id: str) -> None:
        """One try. Idempotent; raises only what the engine should repeat (disk, database)."""
        delivery = self._store.delivery(delivery_id)
        if delivery.state not in UNDER_WAY | BEING_SENT:
            return
        try:
            destination = self._settings.destination_named(delivery.destination)
        except PermanentError as problem:
            self._store.give_up(delivery, str(problem))
            return
        started = self._store.sending(delivery, destination.circuit.probe_s)
        if started is None:
            return
        boundary.passed("deliver.begun")
        trip = _Trip(self._settings, self._store, self._spool, started, destination)
        try:
            trip.send()
            boundary.passed("deliver.sent")
            trip.prove()
            boundary.passed("deliver.proven")
        except TemporaryError as problem:
            trip.put_off(str(problem))
        except PermanentError as problem:
            if isinstance(problem, Refused):
                trip.answered()
            self._store.give_up(started, str(problem))
            _LOG.warning("delivery.failed", delivery=delivery_id, reason=str(problem))
        except _MAY_PASS:
            raise
        except Exception as bug:  # the worker's catch-all: a bug fails its delivery, not the node
            _LOG.error("delivery.bug", delivery=delivery_id, **log.place_of(bug))
            words = f"an error inside the node ({type(bug).__name__}): report it with the worker's log"
            self._store.give_up(started, words)


class _Trip:
    """What one try of one delivery needs to know."""

    def __init__(
        self, settings: Settings, store: Store, spool: Spool, delivery: Delivery, destination: Destination
    ) -> None:
        self._node = settings.node
        self._gate = settings.gate
        self._store = store
        self._spool = spool
        self._delivery = delivery
        self._destination = destination
        self._heard = False

    def answered(self) -> None:
        """The destination is there: its circuit closes."""
        if not self._heard:
            self._store.destination_answered(self._delivery.destination)
        self._heard = True

    def send(self) -> None:
        """Everything that the destination has not taken yet. Raises as ``dispatch.send``."""
        proving = self._destination.proving
        if self._delivery.resends > proving.resend:
            raise _NotKept(
                f"{self._destination.name} took objects and does not keep them, though they were sent "
                f"{proving.resend + 1} times: {self._delivery.missing}"
            )

        def taken(file: Sendable, status: str) -> None:
            boundary.passed("deliver.taken")
            self._store.take(self._delivery, file.path, status)
            self.answered()

        if isinstance(self._destination, DicomDestination | DicomWebDestination):
            self._send_by_ladder(self._destination, taken)
        else:
            files = self._store.to_send(self._delivery)
            dispatch.send(self._destination, files, self._spool, self._node, taken)

    def _send_by_ladder(
        self, destination: DicomDestination | DicomWebDestination, taken: dispatch.Taken
    ) -> None:
        store, delivery = self._store, self._delivery

        def send(files: Sequence[Sendable], taken: dispatch.Taken) -> None:
            try:
                dispatch.send(destination, files, self._spool, self._node, taken)
            except dispatch.ObjectsRefused:
                self.answered()
                raise

        book = _Book(store, delivery)
        ladder = Ladder(destination, store.meant_for(delivery), self._spool, book, self._gate)
        left = dispatch.wanted(destination, store.to_send(delivery))
        final = send_by_ladder(ladder, left, send, taken)
        if final:
            raise stuck(destination, final)

    def prove(self) -> None:
        """DELIVERED, once there is the proof that the destination is configured to give."""
        files = [taken.file for taken in self._store.unproven(self._delivery)]
        if self._destination.proof == "none" or not files:
            self._arrived()
        elif isinstance(self._destination, DicomDestination) and self._destination.proof == "commitment":
            self._commit(files, self._destination)
        elif isinstance(self._destination, DicomDestination | DicomWebDestination):
            self._query(files, self._destination)

    def put_off(self, reason: str) -> None:
        """A failure that may pass: the next try is due later, until the delivery's time is over."""
        store, delivery, retry = self._store, self._delivery, self._destination.retry
        if not self._heard:
            circuit = self._destination.circuit
            store.destination_failed(delivery.destination, reason, circuit.failures, circuit.probe_s)
        failures = 1 if self._heard else delivery.failures + 1
        if self._is_over() or 0 < retry.max_attempts <= failures:
            store.give_up(delivery, f"{reason} (given up after {failures} tries{self._for_how_long()})")
            _LOG.warning("delivery.failed", delivery=delivery.delivery_id, reason=reason)
            return
        pause_s = pause_after(failures, retry)
        store.wait(delivery, reason, store.clock() + pause_s, failures)
        _LOG.warning("delivery.waits", delivery=delivery.delivery_id, reason=reason, seconds=round(pause_s))

    def _arrived(self) -> None:
        """Nothing is left to send or prove, unless a report has just said that something is missing."""
        if self._store.delivered(self._delivery):
            _LOG.info(
                "delivery.delivered", delivery=self._delivery.delivery_id, proof=self._destination.proof
            )

    def _query(self, files: list[Sendable], destination: DicomDestination | DicomWebDestination) -> None:
        """An object is missing if a query does not show it some time after it was taken, not at once."""
        store, delivery, settle_s = self._store, self._delivery, destination.proving.settle_s
        shown = dispatch.shown(destination, files, self._spool, self._node)
        self.answered()
        store.prove(delivery.delivery_id, shown, "query")
        missing = store.unproven(delivery)
        if not missing:
            self._arrived()
            return
        words = f"{destination.name} does not show {len(missing)} of {len(files)} objects that it took"
        settled_at = max(m.at for m in missing) + settle_s
        if store.clock() >= settled_at:
            store.send_again(delivery.delivery_id, [m.file.sop_uid for m in missing], words)
            settled_at = store.clock()
        self._go_on_at(settled_at, words)

    def _commit(self, files: list[Sendable], destination: DicomDestination) -> None:
        """One question at a time; without an answer it is put again as a fresh transaction."""
        store, delivery = self._store, self._delivery
        uid = result_uid(
            "storage commitment", delivery.delivery_id, str(delivery.attempt), str(delivery.tries)
        )
        asked = store.last_transaction(delivery)
        if asked is not None and asked.transaction_uid == uid:  # this very try died before, after asking
            fresh = asked.answered_at is None
        else:
            fresh = asked is None or not asked.waits_since(store.clock() - destination.proving.event_s)
        if fresh:
            self._ask(files, destination, uid)
            asked = store.last_transaction(delivery)
        if asked is not None and asked.answered_at:
            self._weigh()
            return
        since = store.clock() if asked is None else asked.asked_at
        words = f"waits for storage commitment by {destination.name}, asked at {_time(since)}"
        self._go_on_at(
            since + destination.proving.event_s, words, uid if asked is None else asked.transaction_uid
        )

    def _weigh(self) -> None:
        """The answer is in the store: all is kept, something is missing, or something undecided."""
        undecided = len(self._store.unproven(self._delivery))
        if undecided and self._store.delivery(self._delivery.delivery_id).resends == self._delivery.resends:
            words = f"{self._destination.name} could not say whether it keeps {undecided} objects"
            self._go_on_at(self._store.clock() + ASK_AGAIN_S, words)
        else:
            self._arrived()

    def _ask(self, files: list[Sendable], destination: DicomDestination, uid: str) -> None:
        store = self._store

        def on_report(event: evt.Event) -> int:
            return take_report(event, store)

        store.ask_commitment(uid, self._delivery)
        try:
            dispatch.ask_commitment(
                destination, files, uid, self._node, on_report, lambda: store.is_answered(uid)
            )
        except (TemporaryError, PermanentError):
            store.lapse_transaction(uid)
            raise
        self.answered()
        _LOG.info("commitment.asked", delivery=self._delivery.delivery_id, transaction=uid, files=len(files))

    def _go_on_at(self, at: float, words: str, transaction_uid: str = "") -> None:
        if self._is_over():
            raise _NotKept(f"{words}: no proof{self._for_how_long()}")
        self._store.await_proof(self._delivery, words, at, transaction_uid)
        _LOG.info("delivery.proving", delivery=self._delivery.delivery_id, reason=words)

    def _is_over(self) -> bool:
        return self._store.clock() - self._delivery.started_at >= self._destination.retry.give_up_after_s

    def _for_how_long(self) -> str:
        hours = (self._store.clock() - self._delivery.started_at) / 3600
        if hours < 1:
            return ""
        return f" in {hours:.0f} hours" if hours < 48 else f" in {hours / 24:.1f} days"


class _Book:
    """A delivery's ladder, in the store."""

    def __init__(self, store: Store, delivery: Delivery) -> None:
        self._store = store
        self._delivery = delivery

    def refused(self) -> dict[Rung, str]:
        return self._store.refused_forms(self._delivery.destination)

    def refuse(self, rung: Rung, because: str) -> None:
        self._store.refuse_form(self._delivery.destination, rung, because)

    def replace(self, files: Sequence[Sendable], instead: Sequence[Sendable], because: str) -> None:
        self._store.substitute(self._delivery, files, instead, because)

    def replaced(self) -> list[tuple[Sendable, list[Sendable]]]:
        return self._store.replaced(self._delivery)

    def restore(self, files: Sequence[Sendable]) -> None:
        self._store.restore(self._delivery, files)


class _NotKept(PermanentError):
    """Taken, but not proven: a person must ask why."""


def pause_after(failures: int, retry: RetryRules) -> float:
    """Seconds until the next try after ``failures`` in a row: doubling, capped, ±20 % at random."""
    doubled = retry.first_s * 2.0 ** min(failures - 1, 30)
    return min(retry.longest_s, doubled) * random.uniform(0.8, 1.2)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
