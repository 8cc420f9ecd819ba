"""When a case is complete: by evidence, by quiet time last. Writes QUEUED rows, and what is awaited."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from . import log
from .config import GatherRules, IdentifyRules
from .errors import NodeError
from .evidence import STREAMING_S, Counts, Evidence, Here, Needs, Verdict, judge
from .facts import header_of
from .identify import Role, identify
from .store import Revision, Store
from .study import CaseKey, Event, IllegalTransition, State

_LOG = log.get("gather")

# Judged again after this long even if nothing is known to have changed: clocks jump.
_LOOK_AGAIN_S = 30.0
_ANATOMY = (Role.T1, Role.FLAIR)


class Archive(Protocol):
    """A PACS that is asked beside the node's own work: no call waits for it."""

    def counts(self, revision: Revision) -> Counts | None:
        """What it holds of a case, as far as it has answered."""

    def look_at(self, revision: Revision) -> None:
        """Ask about the case if that is due. Cheap: called at every turn."""

    def fetching(self, case: str) -> str:
        """In words, what became of asking it for anatomy; "" if it was not asked."""

    def fetch_anatomy(self, revision: Revision) -> None:
        """Have anatomy sent here if that is due: not while instances come, nor too often. Cheap too."""


class Gatherer:
    """Judges receiving cases, again and again. Remembers what cannot have changed."""

    def __init__(
        self,
        store: Store,
        rules: GatherRules,
        identify_rules: IdentifyRules | None = None,
        archive: Archive | None = None,
        quantifies: bool = False,
    ) -> None:
        """``quantifies``: spectra become maps here, so that no maps are waited for."""
        self._store = store
        self._rules = rules
        self._identify_rules = identify_rules or IdentifyRules()
        self._archive = archive
        self._quantifies = quantifies
        self._judged: dict[CaseKey, tuple[object, float]] = {}
        self._needs: dict[CaseKey, tuple[float, Needs]] = {}

    def once(self) -> int:
        """Join cases that belong together, and queue those that are complete. Returns how many.

        A bug over one revision stops none of the others. Raises DatabaseAway, and OutOfSpace if the disk
        under the database is full.
        """
        if set_right := self._store.set_right():
            _LOG.warning("clock.went_back", rows=set_right)
        for joined, older in self._store.join_cases(self._rules.pair_by, self._rules.pair_within_days):
            _LOG.info("case.joined", case=joined, to=older)
        version = self._store.evidence_version()
        receiving = self._store.revisions_in(State.RECEIVING)
        keys = {r.key for r in receiving}
        self._judged = {k: v for k, v in self._judged.items() if k in keys}
        self._needs = {k: v for k, v in self._needs.items() if k in keys}
        return sum(self._look_alone(revision, version) for revision in receiving)

    def _look_alone(self, revision: Revision, version: object) -> bool:
        try:
            return self._look_at(revision, version)
        except NodeError:
            raise
        except Exception as bug:
            key = revision.key
            _LOG.error("revision.bug", case=key.case, revision=key.revision, **log.place_of(bug))
            stamp = (revision.last_received_at, version)
            self._judged[key] = (stamp, self._store.clock() + _LOOK_AGAIN_S)  # not at every turn
            return False

    def _look_at(self, revision: Revision, version: object) -> bool:
        key, now = revision.key, self._store.clock()
        if self._archive is not None:
            self._archive.look_at(revision)
            last, known = self._needs.get(key, (None, Needs()))
            if last == revision.last_received_at and known.maps and not known.anatomy:
                self._archive.fetch_anatomy(revision)
        stamp = (revision.last_received_at, version)
        before, look_again_at = self._judged.get(key, (None, 0.0))
        if before == stamp and look_again_at - _LOOK_AGAIN_S <= now < look_again_at:
            return False
        verdict = self._judge(revision, now)
        if not verdict.complete:
            awaited = "; ".join(verdict.awaited)
            if (awaited, verdict.until) != (revision.awaited, revision.awaited_until):
                self._store.await_(key, awaited, verdict.until)
            look_again_at = min(verdict.until or now, now + _LOOK_AGAIN_S)
            stopped_at = revision.last_received_at + STREAMING_S
            self._judged[key] = (stamp, min(look_again_at, stopped_at) if now < stopped_at else look_again_at)
            return False
        return self._complete(key, verdict)

    def _judge(self, revision: Revision, now: float) -> Verdict:
        key = revision.key
        here = self._store.here(key.case)
        counts = self._archive.counts(revision) if self._archive else None
        fetching = self._archive.fetching(key.case) if self._archive else ""
        steps = self._store.steps_of(key.case)
        evidence = Evidence(here, revision.last_received_at, steps, counts, fetching)

        def needs() -> Needs:
            return self._needs_of(revision, here)

        return judge(evidence, self._rules, now, needs)

    def _needs_of(self, revision: Revision, here: Sequence[Here]) -> Needs:
        """What the case offers, by identification of its series."""
        last, known = self._needs.get(revision.key, (None, Needs()))
        if last != revision.last_received_at:
            known = needs_of(here, self._identify_rules)
            if self._quantifies and known.spectra and not known.maps:
                known = replace(known, maps=frozenset(self._rules.expected_maps or ("of the spectra",)))
            self._needs[revision.key] = (revision.last_received_at, known)
        return known

    def _complete(self, key: CaseKey, verdict: Verdict) -> bool:
        if verdict.lacking and self._rules.when_incomplete == "hold":
            with suppress(IllegalTransition):
                self._store.advance(key, Event.HELD, f"held by rule: {verdict.because}")
            _LOG.warning("revision.held", case=key.case, revision=key.revision)
            return False
        try:
            self._store.complete(key, verdict.because)
        except IllegalTransition:  # another node on this store saw it at the same moment
            return False
        _LOG.info("revision.queued", case=key.case, revision=key.revision, lacking=verdict.lacking)
        return True


def needs_of(here: Sequence[Here], rules: IdentifyRules) -> Needs:
    """What the instances offer a recipe, told from their kept facts alone."""
    series = identify([header_of(h.facts) for h in here if "SOPClassUID" in h.facts], rules)
    parts = [part for s in series for part in s.parts]
    return Needs(
        maps=frozenset(p.metabolite for p in parts if p.metabolite),
        quality=frozenset(p.quality for p in parts if p.quality),
        anatomy=any(s.role in _ANATOMY for s in series),
        spectra=any(s.role is Role.SPECTRA for s in series),
    )


def gather_once(
    store: Store,
    rules: GatherRules,
    identify_rules: IdentifyRules | None = None,
    archive: Archive | None = None,
) -> int:
    """Look at every receiving case once, afresh. Returns how many were queued."""
    return Gatherer(store, rules, identify_rules, archive).once()


def run(
    store: Store,
    rules: GatherRules,
    identify_rules: IdentifyRules,
    stop: threading.Event,
    archive: Archive | None = None,
    quantifies: bool = False,
) -> None:
    """Gather every ``rules.poll_s`` until ``stop`` is set."""
    gatherer = Gatherer(store, rules, identify_rules, archive, quantifies)
    while not stop.wait(rules.poll_s):
        try:
            gatherer.once()
        except NodeError as problem:
            _LOG.warning("gather.waits", reason=str(problem))
        except Exception as bug:  # nobody would start gathering again
            _LOG.error("gather.failed", **log.place_of(bug))
