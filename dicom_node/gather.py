"""When a case is complete: after a quiet time. Writes QUEUED rows and nothing else."""

from __future__ import annotations

import threading

from . import log
from .config import GatherRules
from .store import Store
from .study import State

_LOG = log.get("gather")


def gather_once(store: Store, rules: GatherRules) -> int:
    """Join cases that belong together, and queue those that are complete. Returns how many were queued."""
    for joined, older in store.join_cases(rules.pair_by):
        _LOG.info("case.joined", case=joined, to=older)
    queued = 0
    for revision in store.revisions_in(State.RECEIVING):
        quiet_s = store.clock() - revision.last_received_at
        if quiet_s >= rules.quiet_period_s:
            store.complete(revision.key, f"no new instance for {rules.quiet_period_s:g} s")
            _LOG.info("revision.queued", case=revision.key.case, revision=revision.key.revision)
            queued += 1
    return queued


def run(store: Store, rules: GatherRules, stop: threading.Event) -> None:
    """Gather every ``rules.poll_s`` until ``stop`` is set."""
    while not stop.wait(rules.poll_s):
        gather_once(store, rules)
