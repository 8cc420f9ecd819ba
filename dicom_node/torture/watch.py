"""An honest peer that looks every moment whether the node answers, and a look at what its processes take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from dicom_node.store import Store

from . import wire
from .node import ThrowAwayNode, Usage

_EVERY_S = 0.5
_SAMPLE_S = 2.0
_ENDED = ("DONE", "IGNORED", "FAILED")


@dataclass(frozen=True)
class Sample:
    """The node at ``at`` seconds of the run; ages in seconds."""

    at: float
    done: int
    open: int
    oldest_s: float
    usage: tuple[Usage, ...]


@dataclass
class Echoes:
    """``slow``: seconds of those that were late; ``missed``: in words; ``away_s``: while it was killed."""

    asked: int = 0
    slow: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    away_s: float = 0.0


class Watch:
    """Asks by C-ECHO, samples, and notes when each study was done; in two threads of its own."""

    def __init__(self, node: ThrowAwayNode, store: Store, echo_limit_s: float) -> None:
        self.echoes = Echoes()
        self.samples: list[Sample] = []
        self.done_at: dict[str, float] = {}
        self.began = time.monotonic()
        self._node, self._store, self._limit_s = node, store, echo_limit_s
        self._open = 0
        self._excuses = 0
        self._away = True  # until it has answered once
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, name="echo", daemon=True),
            threading.Thread(target=self._sample, name="sample", daemon=True),
        ]

    def start(self) -> None:
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def open_studies(self) -> int:
        """As of the last look."""
        return self._open

    @contextmanager
    def excused(self) -> Iterator[None]:
        """The listener is killed or stopped meanwhile: until it answers again, no echo is missed."""
        with self._lock:
            self._excuses += 1
            self._away = True
        try:
            yield
        finally:
            with self._lock:
                self._excuses -= 1
                self._away = True

    def _is_away(self) -> bool:
        with self._lock:
            return self._away or self._excuses > 0

    def _ask(self) -> None:
        while not self._stop.wait(_EVERY_S):
            was_away = self._is_away()
            began = time.monotonic()
            problem = ""
            try:
                wire.echo(self._node.port, calling="MONITOR")
            except wire.NotAccepted as answer:
                problem = "" if answer.for_now else str(answer)  # low on disk, it says so at once
            except (OSError, ValueError) as e:
                problem = f"{type(e).__name__}: {e}"
            took = time.monotonic() - began
            self._judge(problem, took, was_away)

    def _judge(self, problem: str, took: float, was_away: bool) -> None:
        with self._lock:
            away = was_away or self._away or self._excuses > 0
            if not problem and not self._excuses:
                self._away = False
        if away:
            self.echoes.away_s += took + _EVERY_S
            return
        self.echoes.asked += 1
        self.echoes.longest_s = max(self.echoes.longest_s, took)
        if problem:
            self.echoes.missed.append(f"at {self._now():.0f} s: {problem}")
        elif took > self._limit_s:
            self.echoes.slow.append(round(took, 2))

    def _now(self) -> float:
        return time.monotonic() - self.began

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            with suppress(Exception):  # a busy or full database is looked at again later
                self.look()

    def look(self) -> Sample:
        """Read the store and the processes now."""
        status = self._store.status()
        now, done, waits = time.monotonic(), 0, []
        for case in status["cases"]:
            newest = case["revisions"][0]
            if newest["state"] == "DONE":
                done += 1
                for uid in case["studies"]:
                    self.done_at.setdefault(uid, now)
            elif newest["state"] not in _ENDED:
                waits.append(time.time() - newest["last_received_at"])
        self._open = len(waits)
        usage = tuple(self._node.usage())
        sample = Sample(round(self._now(), 1), done, len(waits), round(max(waits, default=0.0), 1), usage)
        self.samples.append(sample)
        return sample
