"""Workers that watch each other: one that falls silent for good is struck off and its work taken over.

No clock is compared between machines: a worker counts its beats in the store, and each other one measures
by its own monotonic clock for how long that count stood still. The store is the judge: a worker that was
struck off while it was only slow finds itself off the books at its next beat, and ends.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from sqlalchemy.exc import OperationalError

from . import log
from .errors import TemporaryError
from .store import Beat, WorkerStore

_LOG = log.get("heartbeat")

# Beats, and looks at the others, within the time in which a takeover is promised.
_LOOKS = 6


class Watch:
    """Tells from marks, looked at again and again, whose has not changed for ``patience_s`` seconds."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: dict[str, tuple[object, float]] = {}
        self._looked_at = float("-inf")

    def silent(self, marks: Mapping[str, object], now: float) -> list[str]:
        """Names in ``marks`` that stood still up to ``now``, in monotonic seconds.

        Time in which nobody looked does not count: the database may have been away, and with it every
        worker's chance to say that it lives.
        """
        if now - self._looked_at > self._patience_s / 2:
            self._since = {}
        self._looked_at = now
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == mark else (mark, now)
            for name, mark in marks.items()
        }
        return [name for name, (_, since) in self._since.items() if now - since >= self._patience_s]


class Engine(Protocol):
    """What is asked of the workflow engine."""

    def busy(self) -> Collection[str]:
        """Names of workers with work under way, whether they live or not."""

    def take_over(self, name: str) -> int:
        """Queue again what ``name`` had under way; returns how much. Idempotent."""


class Heartbeat:
    """One worker's beat, and its watch over the others: taken over within ``takeover_s`` of their last."""

    def __init__(self, store: WorkerStore, name: str, takeover_s: float, engine: Engine) -> None:
        self._store = store
        self._name = name
        self._engine = engine
        self._incarnation = str(uuid.uuid4())
        self.every_s = takeover_s / _LOOKS
        self._watch = Watch(takeover_s - 2 * self.every_s)  # seen late by one look, and found by the next

    def sign_on(self) -> None:
        """Before the engine is launched: work under way belongs to a name on the books."""
        self._store.sign_on(self._name, self._incarnation)

    def sign_off(self) -> None:
        """After the engine has drained."""
        self._store.sign_off(self._name, self._incarnation)

    def beat(self) -> bool:
        """False if others took this worker for dead: it must end at once."""
        return self._store.beat(self._name, self._incarnation)

    def look(self, now: float) -> list[str]:
        """Take over the work of those that have been silent for too long; returns their names.

        Also of those that have work under way and are not on the books: struck off by a worker that died
        before it could take over, or stopped before their work was done.
        """
        beats = self._store.beats()
        marks: dict[str, Beat | None] = {**dict.fromkeys(self._engine.busy()), **beats}
        marks.pop(self._name, None)
        overtaken = []
        for name in self._watch.silent(marks, now):
            last = marks[name]
            if last is not None and not self._store.strike_off(name, last, by=self._name):
                continue  # heard of at this very moment, or struck off by another
            count = self._engine.take_over(name)
            _LOG.warning("worker.taken_over", name=name, workflows=count)
            overtaken.append(name)
        return overtaken

    def run(self, stop: threading.Event, launched: threading.Event, lost: Callable[[], None]) -> None:
        """Beat, and once ``launched`` look, until ``stop``; ``lost`` is called if others took us for dead."""
        while not stop.wait(self.every_s):
            try:
                if not self.beat():
                    _LOG.error("worker.lost", name=self._name, reason="taken for dead: too slow or cut off")
                    lost()
                    return
                if launched.is_set():
                    self.look(time.monotonic())
            except (TemporaryError, OperationalError):
                _LOG.warning("heartbeat.waits", reason="the database does not answer")
